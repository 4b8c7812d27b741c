//! Signed root metadata by version, as the bytes that were believed: in the database, and as files beside it.
//!
//! Without a root the box believes nobody and can be told nothing. So it outlives the database: `DATA/roots/<n>.json` is
//! written before the database knows of version n, and a database that is new, or lost its last writes, is told again at
//! the start. (ADR 0011)

use super::database::{Database, Trees};
use super::error::{Cause, StoreError};
use super::{Store, meta};
use fieldpost_shared::durable;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::trust::{RootError, SignedRoot};
use sled::Transactional as _;
use std::fs;
use std::path::{Path, PathBuf};

fn dir(data: &Path) -> PathBuf {
    data.join("roots")
}

fn name(version: u64) -> String {
    format!("{version}.json")
}

fn read_roots(trees: &Trees) -> Result<Vec<(u64, Vec<u8>)>, Cause> {
    let mut roots = Vec::new();
    for entry in &trees.trust {
        let (key, bytes) = entry?;
        // A key of another length is none of ours.
        if let Ok(version) = <[u8; 8]>::try_from(key.as_ref()) {
            roots.push((u64::from_be_bytes(version), bytes.to_vec()));
        }
    }
    Ok(roots)
}

fn write_file(data: &Path, version: u64, bytes: &[u8]) -> Result<(), StoreError> {
    let dir = dir(data);
    fs::create_dir_all(&dir).map_err(|source| StoreError::File { operation: "create", path: dir.clone(), source })?;
    durable::write_atomic(&dir, &name(version), bytes)
        .and_then(|()| durable::sync_dir(data))
        .map_err(|source| StoreError::durable("keep a root", &dir.join(name(version)), source))
}

fn insert(database: &Database, version: u64, bytes: &[u8], controller_changed: bool) -> Result<(), StoreError> {
    database.run("keep a root", |trees| {
        let mut forget = sled::Batch::default();
        if controller_changed {
            meta::forget_signed(trees, &mut forget)?;
        }
        (&trees.trust, &trees.meta)
            .transaction(|(trust, meta)| {
                trust.insert(&version.to_be_bytes(), bytes)?;
                meta.apply_batch(&forget)?;
                Ok(())
            })
            .map_err(super::from_transaction)?;
        Ok(trees.flush()?)
    })
}

/// Brings database and files in line: files that are missing or damaged are written again, and a database that lacks the
/// newest roots gets them, each believed by the one before it.
pub(super) fn settle(database: &Database, data: &Path) -> Result<(), StoreError> {
    let known = database.run("read the roots", read_roots)?;
    let dir = dir(data);
    for (version, bytes) in &known {
        if fs::read(dir.join(name(*version))).ok().as_ref() != Some(bytes) {
            write_file(data, *version, bytes)?;
        }
    }
    let mut newest = known.last().and_then(|(_, bytes)| SignedRoot::parse(bytes).ok());
    let last = known.last().map_or(0, |(version, _)| *version);
    let mut versions: Vec<u64> = fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
        .filter(|version| *version > last)
        .collect();
    versions.sort_unstable();
    for version in versions {
        let bytes = fs::read(dir.join(name(version))).unwrap_or_default();
        match believed(&bytes, newest.as_ref()) {
            Ok(root) => {
                let changed = newest.is_some_and(|before| before.metadata.controller != root.metadata.controller);
                insert(database, version, &bytes, changed)?;
                newest = Some(root);
            }
            // Nothing can follow it; the controller still has it and all later ones.
            Err(error) => {
                tracing::error!(version, error = %Chain(&error), "a root of trust on this disk is damaged");
                break;
            }
        }
    }
    Ok(())
}

fn believed(bytes: &[u8], before: Option<&SignedRoot>) -> Result<SignedRoot, RootError> {
    let root = SignedRoot::parse(bytes)?;
    match before {
        Some(before) => root.verify_after(&before.metadata)?,
        None => root.verify_self()?,
    }
    Ok(root)
}

impl Store {
    /// All signed roots, oldest first: version and bytes.
    ///
    /// # Errors
    /// When they do not read.
    pub fn roots(&self) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.database.run("read the roots", read_roots)
    }

    /// The newest signed root.
    ///
    /// # Errors
    /// When it does not read.
    pub fn latest_root(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        Ok(self.roots()?.pop())
    }

    /// Keeps a root that was believed. With `controller_changed` (its controller keys are not those of the version
    /// before) the accepted sequence number and the latest signed time are forgotten with it, since whoever held the
    /// old keys may have pushed them far ahead (TUF 1.0.33 §5.3.11). The accepted desired state itself stays.
    ///
    /// # Errors
    /// When the disk or the database does not take it. It may be there all the same; keeping it again is right.
    pub fn add_root(&self, version: u64, bytes: &[u8], controller_changed: bool) -> Result<(), StoreError> {
        write_file(&self.data, version, bytes)?;
        insert(&self.database, version, bytes, controller_changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::testing::desired;
    use crate::store::StoreSettings;
    use crate::store::testing::root;
    use fieldpost_shared::time::{ManualClock, Timestamp};

    fn open(data: &Path) -> (Store, bool) {
        let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
        let (store, opened) = Store::open(data, StoreSettings::default(), &clock).unwrap();
        (store, opened.set_aside.is_some())
    }

    /// A box that believes versions 1 and 2.
    fn data() -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        let store = open(data.path()).0;
        for version in [1, 2] {
            store.add_root(version, &root("default", version, 1, 3).to_bytes(), false).unwrap();
        }
        data
    }

    fn newest(store: &Store) -> u64 {
        store.latest_root().unwrap().map_or(0, |(version, _)| version)
    }

    #[test]
    fn roots_outlive_a_database_that_is_set_aside() {
        let data = data();
        durable::write_atomic(data.path(), "db.damaged", b"").unwrap();
        let (store, set_aside) = open(data.path());
        assert!(set_aside);
        assert_eq!((newest(&store), store.roots().unwrap().len()), (2, 2));
    }

    #[test]
    fn a_root_that_the_database_lost_comes_back_with_what_it_forgets() {
        let data = data();
        let store = open(data.path()).0;
        store.accept(&desired(u64::MAX, u64::MAX, &[]).into()).unwrap();
        drop(store);
        write_file(data.path(), 3, &root("default", 3, 1, 9).to_bytes()).unwrap();
        let store = open(data.path()).0;
        assert_eq!(newest(&store), 3);
        assert_eq!(store.known().unwrap().desired.unwrap().sequence, 0, "the controller's keys are new ones");
    }

    #[test]
    fn a_file_that_no_root_before_it_vouches_for_is_not_believed() {
        let data = data();
        write_file(data.path(), 3, &root("default", 3, 7, 3).to_bytes()).unwrap();
        assert_eq!(newest(&open(data.path()).0), 2);
    }

    #[test]
    fn damaged_and_missing_files_are_written_again() {
        let data = data();
        let file = |version| data.path().join("roots").join(name(version));
        fs::remove_file(file(1)).unwrap();
        drop(fs::File::create(file(2)).unwrap());
        drop(open(data.path()));
        durable::write_atomic(data.path(), "db.damaged", b"").unwrap();
        assert_eq!(newest(&open(data.path()).0), 2);
    }
}
