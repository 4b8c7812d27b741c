//! Who this box is: its key, made here and never sent, and what enrolment told it.

pub mod enroll;

use fieldpost_shared::durable::{DurableError, write_atomic, write_secret};
use fieldpost_shared::id::{DeviceId, FleetId};
use fieldpost_shared::trust::{KeyError, SecretKey};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const KEY_FILE: &str = "device.key";
const IDENTITY_FILE: &str = "identity.json";

/// What enrolment told this box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name in the fleet.
    pub device: DeviceId,
    /// The fleet.
    pub fleet: FleetId,
    /// Where the broker is.
    pub broker: Broker,
    /// Prefix of all topics.
    pub topic_prefix: String,
    /// The controller it was enrolled at.
    pub controller: String,
}

/// An MQTT broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// The identity cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The box was never enrolled.
    #[error("this box is not enrolled (no `{}`): run `fieldpost-agent enroll --controller URL --token TOKEN`", .0.display())]
    NotEnrolled(PathBuf),
    /// The directory is another user's.
    #[error(
        "`{}` belongs to user id {owner}, and this is user id {user}: run it as the owner, for instance with \
         `sudo -u '#{owner}'`, or name another directory with --data-dir",
        data_dir.display()
    )]
    Foreign {
        /// The data directory.
        data_dir: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The identity file is damaged.
    #[error("`{}` is damaged", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// The key file is damaged.
    #[error("the device key is damaged")]
    Key(#[source] KeyError),
    /// A file could not be written.
    #[error("cannot keep the identity")]
    Write(#[source] DurableError),
    /// The directory could not be made.
    #[error("cannot create `{}`", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("identity")
}

/// Refuses a data directory whose key belongs to another user: what this one would write there, the agent could not
/// read. Only root gets this far; others cannot read the key at all.
///
/// # Errors
/// When it does.
pub fn check_owner(data_dir: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::MetadataExt as _;
    let path = dir(data_dir).join(KEY_FILE);
    // A process's directory there belongs to the user that it acts as.
    let (Ok(key), Ok(me)) = (std::fs::metadata(&path), std::fs::metadata("/proc/self")) else { return Ok(()) };
    if key.uid() == me.uid() {
        return Ok(());
    }
    Err(IdentityError::Foreign { data_dir: data_dir.to_owned(), owner: key.uid(), user: me.uid() })
}

/// The device's key, when it was made already.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn load_key(data_dir: &Path) -> Result<SecretKey, IdentityError> {
    let path = dir(data_dir).join(KEY_FILE);
    let text = std::fs::read_to_string(&path).map_err(|source| IdentityError::Read { path, source })?;
    SecretKey::from_file(&text).map_err(IdentityError::Key)
}

/// The device's key; made at the first call.
///
/// # Errors
/// When it cannot be made, kept or read.
pub fn load_or_make_key(data_dir: &Path) -> Result<SecretKey, IdentityError> {
    let dir = dir(data_dir);
    let path = dir.join(KEY_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => SecretKey::from_file(&text).map_err(IdentityError::Key),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(&dir).map_err(|source| IdentityError::Create { path: dir.clone(), source })?;
            let key = SecretKey::generate().map_err(IdentityError::Key)?;
            write_secret(&dir, KEY_FILE, key.to_file("device").as_bytes()).map_err(IdentityError::Write)?;
            Ok(key)
        }
        Err(source) => Err(IdentityError::Read { path, source }),
    }
}

impl Identity {
    /// Reads what enrolment left.
    ///
    /// # Errors
    /// When the box was never enrolled, or the file is damaged.
    pub fn load(data_dir: &Path) -> Result<Self, IdentityError> {
        let path = dir(data_dir).join(IDENTITY_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IdentityError::NotEnrolled(path)),
            Err(source) => return Err(IdentityError::Read { path, source }),
        };
        serde_json::from_slice(&bytes).map_err(|source| IdentityError::Json { path, source })
    }

    /// Keeps what enrolment told.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| IdentityError::Json { path: PathBuf::from(IDENTITY_FILE), source })?;
        write_atomic(&dir(data_dir), IDENTITY_FILE, &text).map_err(IdentityError::Write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once() {
        let data = tempfile::tempdir().unwrap();
        let first = load_or_make_key(data.path()).unwrap().public();
        assert_eq!(load_or_make_key(data.path()).unwrap().public(), first);
    }

    #[test]
    fn a_box_that_was_never_enrolled_says_what_to_do() {
        let data = tempfile::tempdir().unwrap();
        let error = Identity::load(data.path()).unwrap_err();
        assert!(error.to_string().contains("fieldpost-agent enroll --controller"), "{error}");
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let data = tempfile::tempdir().unwrap();
        assert!(check_owner(data.path()).is_ok(), "a new one is nobody's yet");
        load_or_make_key(data.path()).unwrap();
        assert!(check_owner(data.path()).is_ok());
        // Only root can give a file away; elsewhere the half above is all that can be tried.
        let key = data.path().join("identity/device.key");
        if std::os::unix::fs::chown(&key, Some(12_345), None).is_ok() {
            let error = check_owner(data.path()).unwrap_err().to_string();
            assert!(error.contains("belongs to user id 12345") && error.contains("sudo -u"), "{error}");
        }
    }

    #[test]
    fn a_truncated_key_file_is_not_replaced() {
        let data = tempfile::tempdir().unwrap();
        load_or_make_key(data.path()).unwrap();
        let path = data.path().join("identity/device.key");
        let half = std::fs::read(&path).unwrap().split_at(40).0.to_vec();
        write_secret(path.parent().unwrap(), KEY_FILE, &half).unwrap();
        assert!(matches!(load_or_make_key(data.path()), Err(IdentityError::Key(_))));
        assert_eq!(std::fs::read(&path).unwrap(), half);
    }
}
