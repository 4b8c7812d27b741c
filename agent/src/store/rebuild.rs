//! A database that has grown is written anew: sled reuses space, but its file never shrinks (an outbox of 16 MiB that is
//! pushed through and merged for long leaves 70 MiB, also when it is empty again).
//!
//! `db.new` is written and flushed, `db` becomes `db.old`, `db.new` becomes `db`, `db.old` goes. [`settle`] ends at the next
//! start what was cut off in between.

use super::database::open_trees;
use super::error::{Cause, StoreError};
use fieldpost_shared::durable;
use std::fs;
use std::io;
use std::path::Path;

/// A database is written anew above this and three times what is in it.
const TOLERATED_BYTES: u64 = 32 << 20;

/// Whether a database with so many live bytes takes too much of the disk.
pub(super) fn is_grown(path: &Path, live_bytes: u64) -> bool {
    bytes_on_disk(path) > live_bytes.saturating_mul(3).saturating_add(TOLERATED_BYTES)
}

fn bytes_on_disk(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_on_disk(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_gone) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Writes a closed database anew. When that fails, the old one is still in place.
pub(super) fn rebuild(path: &Path) -> Result<(), StoreError> {
    let (new, old) = (path.with_extension("new"), path.with_extension("old"));
    remove(&new)?;
    let copied = copy(path, &new);
    if copied.is_err() {
        // What was copied so far only takes space; the next start removes it if this does not.
        drop(remove(&new));
    }
    copied?;
    remove(&old)?;
    let swapped = rename(path, &old).and_then(|()| rename(&new, path));
    if swapped.is_err() {
        // Whichever of the two stands under its name or can be given it; what is needless goes.
        settle(path)?;
    }
    swapped?;
    remove(&old)
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let opened = |path| open_trees(path).map_err(|error| error.into_store_error("write the database anew", path));
    let (from_trees, to_trees) = (opened(from)?, opened(to)?);
    let failed = |error| Cause::Sled(error).at("write the database anew", to);
    for (source, target) in from_trees.each().into_iter().zip(to_trees.each()) {
        for entry in source {
            let (key, value) = entry.map_err(failed)?;
            target.insert(key, value).map_err(failed)?;
        }
    }
    to_trees.flush().map_err(failed)
}

/// Ends a rebuild that was cut off. Called before the database is opened.
pub(super) fn settle(path: &Path) -> Result<(), StoreError> {
    let (new, old) = (path.with_extension("new"), path.with_extension("old"));
    if !path.exists() && old.exists() {
        // `db` is only renamed when `db.new` is complete.
        rename(if new.exists() { &new } else { &old }, path)?;
    }
    remove(&new)?;
    remove(&old)
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    durable::publish(from, to).map_err(|source| StoreError::durable("write the database anew", to, source))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::File { operation: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::database::Trees;

    fn write(path: &Path, value: &str) -> Trees {
        let trees = open_trees(path).map_err(|_| "").unwrap();
        trees.meta.insert("k", value).unwrap();
        trees.flush().unwrap();
        trees
    }

    /// What is read at the next start after a rebuild of `old` into `new` was cut off with these directories in place.
    fn check(present: &[(&str, &str)]) -> String {
        let data = tempfile::tempdir().unwrap();
        for (name, value) in present {
            drop(write(&data.path().join(name), value));
        }
        let path = data.path().join("db");
        settle(&path).unwrap();
        let names: Vec<_> = fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["db"], "nothing is left over");
        let trees = open_trees(&path).map_err(|_| "").unwrap();
        let value = trees.meta.get("k").unwrap().unwrap();
        String::from_utf8(value.to_vec()).unwrap()
    }

    #[test]
    fn a_rebuild_that_is_cut_off_is_settled_at_the_next_start() {
        assert_eq!(check(&[("db", "whole"), ("db.new", "half")]), "whole");
        assert_eq!(check(&[("db.old", "before"), ("db.new", "whole")]), "whole");
        assert_eq!(check(&[("db", "whole"), ("db.old", "before")]), "whole");
        assert_eq!(check(&[("db.old", "whole")]), "whole");
    }

    #[test]
    fn a_rebuilt_database_holds_the_same_and_takes_less() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("db");
        let trees = write(&path, "kept");
        for i in 0..20_000_u32 {
            trees.outbox.insert(i.to_be_bytes(), vec![7; 1_000]).unwrap();
        }
        trees.outbox.clear().unwrap();
        trees.slots.insert("m", "slot").unwrap();
        trees.flush().unwrap();
        drop(trees);
        let before = bytes_on_disk(&path);
        assert!(before > 10 << 20, "{before}");
        rebuild(&path).unwrap();
        assert!(bytes_on_disk(&path) < 2 << 20, "{}", bytes_on_disk(&path));
        let trees = open_trees(&path).map_err(|_| "").unwrap();
        assert_eq!(trees.meta.get("k").unwrap().unwrap(), "kept");
        assert_eq!(trees.slots.get("m").unwrap().unwrap(), "slot");
        assert_eq!(trees.outbox.len(), 0);
    }
}
