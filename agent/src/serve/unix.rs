//! HTTP on a Unix socket: the same paths, for programs of this box that the file's permissions let in.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Owner and group may connect; the directory decides who else gets there.
const MODE: u32 = 0o660;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("the socket `{}` is served by another process", .0.display())]
    Taken(PathBuf),
    /// Something that is no socket stands there.
    #[error("`{}` is there, and no socket: move it away, or choose another path", .0.display())]
    NoSocket(PathBuf),
    /// The system says no.
    #[error("cannot {operation} the socket `{}`", path.display())]
    System {
        /// What was tried.
        operation: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// A socket that is bound; its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    pub(crate) path: PathBuf,
}

impl Socket {
    /// Binds the socket. A file that a dead process left is replaced, atomically and never by one with other permissions.
    ///
    /// # Errors
    /// When another process serves there, something else stands there, or the system refuses.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        let system = |operation| move |source| SocketError::System { operation, path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
            // Whoever is dead does not answer.
            Ok(_) if StdUnixStream::connect(path).is_ok() => return Err(SocketError::Taken(path.to_owned())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system("look at")(error)),
            _ => {}
        }
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system("clear the way of")(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(system("bind"))?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(MODE)).map_err(system("protect"))?;
        #[allow(clippy::disallowed_methods, reason = "a socket holds nothing that a power cut could lose")]
        std::fs::rename(&new, path).map_err(system("publish"))?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Gone already is as good.
        drop(std::fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("http.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "what a killed process leaves");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(matches!(Socket::bind(&path).unwrap_err(), SocketError::Taken(_)));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        std::fs::File::create(&path).unwrap();
        assert!(matches!(Socket::bind(&path).unwrap_err(), SocketError::NoSocket(_)));
        assert!(path.exists());
        let long = dir.path().join("x".repeat(200));
        assert!(matches!(Socket::bind(&long).unwrap_err(), SocketError::System { operation: "bind", .. }));
    }
}
