//! The controller's own trust: root metadata of its fleet and the online key, in `DATA/trust`.
//!
//! ```text
//! trust/1.root.json 2.root.json ...   signed root metadata, each version in its own file
//! trust/controller.key                signs desired states and acknowledgements; must stay here
//! trust/publisher.key                 signs manifests; made at the first start, belongs on an engineer's machine
//! trust/root.key                      signs root metadata; made at the first start, belongs into a safe
//! ```

use fieldpost_shared::durable::{DurableError, write_atomic, write_secret};
use fieldpost_shared::id::FleetId;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::root::SCHEMA;
use fieldpost_shared::trust::{KeyError, PublicKey, RoleKeys, RootError, RootMetadata, SecretKey, SignedRoot};
use fieldpost_shared::wire::{seal, v1::Body};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fs, io};

/// File of the online key.
pub const CONTROLLER_KEY: &str = "controller.key";
/// File of the publisher's key, when it is kept here.
pub const PUBLISHER_KEY: &str = "publisher.key";
/// File of the root key, when it is kept here.
pub const ROOT_KEY: &str = "root.key";
/// How long a root that the first start makes allows changes.
pub const FIRST_ROOT_LIFETIME: Duration = Duration::from_secs(730 * 24 * 3600);

/// Why the controller's trust cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustDirError {
    /// A file that cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be made.
    #[error("cannot create `{}`", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot store the fleet's trust")]
    Write(#[source] DurableError),
    /// A key that cannot be made or read.
    #[error("cannot use the key in `{}`", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// The reason.
        #[source]
        source: KeyError,
    },
    /// Root metadata that is refused.
    #[error("root metadata in `{}` is refused", path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// The reason.
        #[source]
        source: RootError,
    },
    /// Keys without a root, or a root without the online key.
    #[error("`{}` is missing while other files of the fleet are there: restore it from a backup", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// Trust of another fleet.
    #[error("`{}` holds the trust of fleet `{found}`, the configuration says `{expected}`", path.display())]
    Fleet {
        /// The directory.
        path: PathBuf,
        /// Of which fleet.
        found: FleetId,
        /// Of which it should be.
        expected: FleetId,
    },
    /// The online key does not speak for the controller role.
    #[error(
        "root version {version} does not let the key in `{}` speak for the controller alone: \
         it must be listed under `controller` with threshold 1",
        path.display()
    )]
    NotController {
        /// The newest root.
        version: u64,
        /// The key's file.
        path: PathBuf,
    },
}

/// The fleet's root of trust as the controller knows it, and the key that it signs with.
#[derive(Debug)]
pub struct Trust {
    dir: PathBuf,
    key: SecretKey,
    roots: RwLock<Arc<Vec<SignedRoot>>>,
    newest: RwLock<Arc<RootMetadata>>,
}

impl Trust {
    /// Opens the trust of a data directory, or makes it when there is none yet. The flag says whether it was made.
    ///
    /// # Errors
    /// When files are missing, refused, of another fleet, or cannot be written.
    pub fn open_or_create(dir: &Path, fleet: &FleetId, now: Timestamp) -> Result<(Self, bool), TrustDirError> {
        let first = dir.join(root_name(1));
        let created = !first.exists();
        if created {
            if let Some(path) = [CONTROLLER_KEY].map(|name| dir.join(name)).into_iter().find(|path| path.exists()) {
                // A key without a root is an interrupted first start only when the root's key is there as well.
                if !dir.join(ROOT_KEY).exists() {
                    return Err(TrustDirError::Missing { path: first });
                }
                tracing::warn!(path = %path.display(), "completing an interrupted first start");
            }
            create(dir, fleet, now)?;
        }
        Ok((Self::open(dir, fleet)?, created))
    }

    /// For a store that is in use: its trust is not made anew.
    ///
    /// # Errors
    /// When the first root is missing.
    pub fn must_be_there(dir: &Path) -> Result<(), TrustDirError> {
        let first = dir.join(root_name(1));
        if first.exists() { Ok(()) } else { Err(TrustDirError::Missing { path: first }) }
    }

    fn open(dir: &Path, fleet: &FleetId) -> Result<Self, TrustDirError> {
        let key_path = dir.join(CONTROLLER_KEY);
        let key = read_key(&key_path)?.ok_or(TrustDirError::Missing { path: key_path })?;
        let first = read_root(dir, 1)?.ok_or_else(|| TrustDirError::Missing { path: dir.join(root_name(1)) })?;
        first.verify_self().map_err(refused(dir, 1))?;
        if first.metadata.fleet != *fleet {
            let found = first.metadata.fleet.clone();
            return Err(TrustDirError::Fleet { path: dir.to_owned(), found, expected: fleet.clone() });
        }
        let newest = Arc::new(first.metadata.clone());
        let trust =
            Self { dir: dir.to_owned(), key, roots: RwLock::new(Arc::new(vec![first])), newest: RwLock::new(newest) };
        trust.reload()?;
        trust.check_key(&trust.root())?;
        Ok(trust)
    }

    /// Takes up root versions whose files came since; says whether there were any.
    ///
    /// # Errors
    /// When the next file is there and refused; what was believed before stays.
    pub fn reload(&self) -> Result<bool, TrustDirError> {
        let mut roots = self.roots().as_ref().clone();
        let before = roots.len();
        let mut newest = self.root();
        while let Some(next) = newest.version.checked_add(1).map(|n| read_root(&self.dir, n)).transpose()?.flatten() {
            let version = next.metadata.version;
            next.verify_after(&newest).map_err(refused(&self.dir, version))?;
            newest = Arc::new(next.metadata.clone());
            roots.push(next);
        }
        if roots.len() == before {
            return Ok(false);
        }
        self.check_key(&newest)?;
        *self.roots.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roots);
        *self.newest.write().unwrap_or_else(PoisonError::into_inner) = newest;
        Ok(true)
    }

    fn check_key(&self, root: &RootMetadata) -> Result<(), TrustDirError> {
        let listed = root.controller.keys.contains(&self.key.public());
        if listed && root.controller.threshold == 1 {
            Ok(())
        } else {
            Err(TrustDirError::NotController { version: root.version, path: self.dir.join(CONTROLLER_KEY) })
        }
    }

    /// The newest root metadata.
    #[must_use]
    pub fn root(&self) -> Arc<RootMetadata> {
        Arc::clone(&self.newest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every version, oldest first.
    #[must_use]
    pub fn roots(&self) -> Arc<Vec<SignedRoot>> {
        Arc::clone(&self.roots.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The public half of the online key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// The online key, for those who sign other things than messages.
    #[must_use]
    pub(crate) fn secret_key(&self) -> SecretKey {
        self.key.clone()
    }

    /// Signs a message as the controller.
    ///
    /// # Errors
    /// When the body cannot be encoded.
    pub fn seal<B: Body>(&self, body: &B) -> Result<Vec<u8>, postcard::Error> {
        seal(body, &self.key)
    }

    /// Where it is kept.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The file name of a root version.
#[must_use]
pub fn root_name(version: u64) -> String {
    format!("{version}.root.json")
}

fn refused(dir: &Path, version: u64) -> impl FnOnce(RootError) -> TrustDirError {
    let path = dir.join(root_name(version));
    move |source| TrustDirError::Root { path, source }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, TrustDirError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TrustDirError::Read { path: path.to_owned(), source }),
    }
}

fn read_root(dir: &Path, version: u64) -> Result<Option<SignedRoot>, TrustDirError> {
    let Some(bytes) = read(&dir.join(root_name(version)))? else { return Ok(None) };
    SignedRoot::parse(&bytes).map(Some).map_err(refused(dir, version))
}

fn read_key(path: &Path) -> Result<Option<SecretKey>, TrustDirError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    SecretKey::from_file(&String::from_utf8_lossy(&bytes))
        .map(Some)
        .map_err(|source| TrustDirError::Key { path: path.to_owned(), source })
}

/// Makes keys and root version 1. Keys that an interrupted start left behind are used again; the root comes last.
fn create(dir: &Path, fleet: &FleetId, now: Timestamp) -> Result<(), TrustDirError> {
    fs::create_dir_all(dir).map_err(|source| TrustDirError::Create { path: dir.to_owned(), source })?;
    let key = |name: &str, role: &str| -> Result<SecretKey, TrustDirError> {
        let path = dir.join(name);
        if let Some(key) = read_key(&path)? {
            return Ok(key);
        }
        let key = SecretKey::generate().map_err(|source| TrustDirError::Key { path, source })?;
        write_secret(dir, name, key.to_file(role).as_bytes()).map_err(TrustDirError::Write)?;
        Ok(key)
    };
    let (root, publisher) = (key(ROOT_KEY, "root")?, key(PUBLISHER_KEY, "publisher")?);
    let controller = key(CONTROLLER_KEY, "controller")?;
    let one = |key: &SecretKey| RoleKeys { keys: vec![key.public()], threshold: 1 };
    let metadata = RootMetadata {
        schema: SCHEMA.to_owned(),
        fleet: fleet.clone(),
        version: 1,
        created: now,
        expires: now.plus(FIRST_ROOT_LIFETIME),
        root: one(&root),
        publisher: one(&publisher),
        controller: one(&controller),
        revoked: vec![],
    };
    let signed = SignedRoot::sign(metadata, &[&root]).map_err(refused(dir, 1))?;
    write_atomic(dir, &root_name(1), &signed.to_bytes()).map_err(TrustDirError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn fleet(name: &str) -> FleetId {
        name.parse().unwrap()
    }

    fn made() -> (tempfile::TempDir, Trust) {
        let dir = tempfile::tempdir().unwrap();
        let (trust, created) = Trust::open_or_create(&dir.path().join("trust"), &fleet("f"), NOW).unwrap();
        assert!(created);
        (dir, trust)
    }

    fn root_key(trust: &Trust) -> SecretKey {
        read_key(&trust.dir().join(ROOT_KEY)).unwrap().unwrap()
    }

    /// Signs the next root with the root key, after `change`.
    fn next(trust: &Trust, change: impl FnOnce(&mut RootMetadata)) -> SignedRoot {
        let mut metadata = trust.root().as_ref().clone();
        metadata.version += 1;
        change(&mut metadata);
        SignedRoot::sign(metadata, &[&root_key(trust)]).unwrap()
    }

    fn place(trust: &Trust, root: &SignedRoot) {
        write_atomic(trust.dir(), &root_name(root.metadata.version), &root.to_bytes()).unwrap();
    }

    #[test]
    fn the_first_start_makes_trust_that_the_second_one_uses() {
        let (_dir, trust) = made();
        let (again, created) = Trust::open_or_create(trust.dir(), &fleet("f"), NOW).unwrap();
        assert!(!created);
        assert_eq!(again.root(), trust.root());
        assert_eq!(again.public_key(), trust.public_key());
    }

    #[test]
    fn secret_keys_are_for_their_owner_alone() {
        let (_dir, trust) = made();
        for name in [ROOT_KEY, PUBLISHER_KEY, CONTROLLER_KEY] {
            let mode = fs::metadata(trust.dir().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn trust_of_another_fleet_is_refused() {
        let (_dir, trust) = made();
        let refused = Trust::open_or_create(trust.dir(), &fleet("g"), NOW);
        assert!(matches!(refused, Err(TrustDirError::Fleet { .. })));
    }

    #[test]
    fn a_lost_root_is_not_made_anew_once_its_key_is_in_the_safe() {
        let (_dir, trust) = made();
        fs::remove_file(trust.dir().join(root_name(1))).unwrap();
        fs::remove_file(trust.dir().join(ROOT_KEY)).unwrap();
        let refused = Trust::open_or_create(trust.dir(), &fleet("f"), NOW);
        assert!(matches!(refused, Err(TrustDirError::Missing { .. })));
    }

    #[test]
    fn the_next_root_is_taken_up() {
        let (_dir, trust) = made();
        assert!(!trust.reload().unwrap());
        place(&trust, &next(&trust, |root| root.revoked.push(fieldpost_shared::id::Digest::of(b"bad"))));
        assert!(trust.reload().unwrap());
        assert_eq!((trust.root().version, trust.roots().len()), (2, 2));
    }

    #[test]
    fn an_unsigned_next_root_is_refused_and_the_old_one_stays() {
        let (_dir, trust) = made();
        let mut forged = next(&trust, |_| ());
        forged.signatures.clear();
        place(&trust, &forged);
        assert!(matches!(trust.reload(), Err(TrustDirError::Root { .. })));
        assert_eq!(trust.root().version, 1);
    }

    #[test]
    fn a_root_that_takes_the_controllers_voice_is_refused() {
        let (_dir, trust) = made();
        let other = SecretKey::from_seed(&[9; 32]).public();
        place(&trust, &next(&trust, |root| root.controller = RoleKeys { keys: vec![other], threshold: 1 }));
        assert!(matches!(trust.reload(), Err(TrustDirError::NotController { version: 2, .. })));
    }
}
