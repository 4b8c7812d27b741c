//! Files that survive a power cut: temp, fsync, rename, fsync directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A write that did not become durable; what stood before still stands.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// Something between creating the temporary file and its rename failed.
    #[error("cannot {operation} `{}`", path.display())]
    Write {
        /// What was being done.
        operation: &'static str,
        /// The file it was done to.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DurableError {
    let path = path.to_owned();
    move |source| DurableError::Write { operation, path, source }
}

/// Replaces `dir/name` by `bytes`, whole or not at all, readable by everybody.
///
/// # Errors
/// When any step fails; the old content is then still in place.
pub fn write_atomic(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), DurableError> {
    write_with_mode(dir, name, bytes, 0o644)
}

/// Like [`write_atomic`], readable by the owner alone (mode 0600): keys and tokens.
///
/// # Errors
/// When any step fails; the old content is then still in place.
pub fn write_secret(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), DurableError> {
    write_with_mode(dir, name, bytes, 0o600)
}

fn write_with_mode(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let target = dir.join(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let written = (|| {
        let mut file = options.open(&temporary).map_err(failed("create", &temporary))?;
        file.write_all(bytes).map_err(failed("write", &temporary))?;
        file.sync_all().map_err(failed("sync", &temporary))?;
        publish(&temporary, &target)
    })();
    if written.is_err() {
        // A leftover would only waste space: the next write of this name replaces it.
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Removes what sled 0.34 has left of a snapshot that it could not finish, on a full disk or when it was killed: files
/// `snap.*.generating`. It takes them for finished ones, and calls the database damaged; what they were made from is still there.
/// For a database that nobody has open. True when something was removed.
#[must_use]
pub fn remove_unfinished_snapshots(database: &Path) -> bool {
    let Ok(entries) = fs::read_dir(database) else { return false };
    let unfinished = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating"))
    });
    unfinished.filter(|entry| fs::remove_file(entry.path()).is_ok()).count() > 0
}

/// Gives a finished, synced temporary file its final name, durably. Both must be in one directory.
///
/// # Errors
/// When the rename or the sync of the directory fails.
pub fn publish(temporary: &Path, target: &Path) -> Result<(), DurableError> {
    #[allow(clippy::disallowed_methods, reason = "this is the durable rename: the directory is synced below")]
    fs::rename(temporary, target).map_err(failed("rename into", target))?;
    match target.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

/// Makes the names in a directory durable.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> Result<(), DurableError> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(failed("sync directory", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_whole_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        write_atomic(dir.path(), "a.json", b"one").unwrap();
        write_atomic(dir.path(), "a.json", b"two").unwrap();
        assert_eq!(fs::read(dir.path().join("a.json")).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        write_secret(dir.path(), "key", b"k").unwrap();
        assert_eq!(fs::metadata(dir.path().join("key")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = write_atomic(Path::new("/nonexistent-dir"), "a", b"").unwrap_err();
        assert!(error.to_string().contains("/nonexistent-dir/.a."), "{error}");
    }
}
