//! The one place that opens sled: waits for its lock, sets a damaged database aside, opens again after a disk error.

use super::error::{Cause, RecordError, StoreError};
use super::rebuild::{self, is_grown, rebuild};
use fieldpost_shared::durable;
use fieldpost_shared::error_chain::Chain;
use sled::{Db, Tree};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// sled keeps so much in memory; its default is 1 GiB.
const CACHE_BYTES: u64 = 4 << 20;
/// A process that was killed lets go of its lock a little later (met in 3 of 31 reopenings).
const LOCK_TRIES: u32 = 60;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// The trees. What is in them is told in the modules that use them.
#[derive(Debug)]
pub(super) struct Trees {
    db: Db,
    pub(super) meta: Tree,
    pub(super) trust: Tree,
    pub(super) slots: Tree,
    pub(super) quarantine: Tree,
    pub(super) outbox: Tree,
}

impl Trees {
    fn open(db: Db) -> Result<Self, sled::Error> {
        Ok(Self {
            meta: db.open_tree("meta")?,
            trust: db.open_tree("trust")?,
            slots: db.open_tree("slots")?,
            quarantine: db.open_tree("quarantine")?,
            outbox: db.open_tree("outbox")?,
            db,
        })
    }

    pub(super) fn each(&self) -> [&Tree; 5] {
        [&self.meta, &self.trust, &self.slots, &self.quarantine, &self.outbox]
    }

    /// Makes everything written so far durable.
    pub(super) fn flush(&self) -> Result<(), sled::Error> {
        self.db.flush().map(drop)
    }
}

/// A sled database that survives what sled does not.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// None after a disk error: sled refuses everything from then on until it is opened again.
    trees: Mutex<Option<Trees>>,
}

impl Database {
    /// Opens `data/db`. `check` reads what must be readable; a database that fails it, or that sled cannot read, is
    /// renamed to `data/db.corrupt` (replacing an older one) and a new one begins; its path is then the second value.
    pub(super) fn open(
        data: &Path,
        check: impl Fn(&Trees) -> Result<(), Cause>,
    ) -> Result<(Self, Option<PathBuf>), StoreError> {
        let path = data.join("db");
        fs::create_dir_all(data).map_err(file("create", data))?;
        rebuild::settle(&path)?;
        if marker(&path).exists() {
            return Self::begin_anew(path);
        }
        match open_trees(&path) {
            Ok(trees) => match check(&trees) {
                Ok(()) => Ok((Self { path, trees: Mutex::new(Some(trees)) }, None)),
                Err(cause) if is_damage(&cause) => {
                    drop(trees);
                    Self::begin_anew(path)
                }
                Err(cause) => Err(cause.at("read the records", &path)),
            },
            Err(Opening::Damaged) => Self::begin_anew(path),
            Err(Opening::Failed(error)) => Err(error),
        }
    }

    fn begin_anew(path: PathBuf) -> Result<(Self, Option<PathBuf>), StoreError> {
        let aside = path.with_extension("corrupt");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(file("remove", &aside))?;
        }
        if path.exists() {
            durable::publish(&path, &aside)
                .map_err(|source| StoreError::durable("set the database aside", &path, source))?;
        }
        let marker = marker(&path);
        if marker.exists() {
            fs::remove_file(&marker).map_err(file("remove", &marker))?;
        }
        match open_trees(&path) {
            Ok(trees) => Ok((Self { path, trees: Mutex::new(Some(trees)) }, Some(aside))),
            Err(error) => Err(error.into_store_error("open the new database", &path)),
        }
    }

    pub(super) fn is_grown(&self, live_bytes: u64) -> bool {
        is_grown(&self.path, live_bytes)
    }

    /// Closes the database, writes it anew if it takes too much disk for what is in it, and opens it again.
    pub(super) fn renew(&self, live_bytes: u64) {
        let mut guard = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guard.take());
        if self.is_grown(live_bytes) {
            match rebuild(&self.path) {
                Ok(()) => tracing::info!("the database had grown and was written anew"),
                Err(error) => tracing::warn!(error = %Chain(&error), "the database could not be written anew"),
            }
        }
        // Should this fail, the next operation tries again, and says why.
        *guard = reopen(&self.path).ok();
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs one operation; operations exclude each other. After an error of the disk the database is opened again by
    /// the next operation, so that a disk that has space again is enough to go on.
    pub(super) fn run<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Trees) -> Result<T, Cause>,
    ) -> Result<T, StoreError> {
        let mut guard = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let trees = match guard.take() {
            Some(trees) => trees,
            None => reopen(&self.path).map_err(|error| {
                let error = error.into_store_error(operation, &self.path);
                if error.needs_restart() {
                    self.leave_marker();
                }
                error
            })?,
        };
        match work(&trees) {
            Err(Cause::Sled(source @ sled::Error::Corruption { .. })) => Err(self.damaged(operation, source)),
            Err(cause @ Cause::Record(RecordError::Malformed { .. })) => {
                self.leave_marker();
                Err(cause.at(operation, &self.path))
            }
            // The trees are dropped: sled keeps failing after the first error of the disk.
            Err(cause @ Cause::Sled(_)) => Err(cause.at(operation, &self.path)),
            result => {
                *guard = Some(trees);
                result.map_err(|cause| cause.at(operation, &self.path))
            }
        }
    }

    fn damaged(&self, operation: &'static str, source: sled::Error) -> StoreError {
        self.leave_marker();
        StoreError::Corrupt { operation, path: self.path.clone(), source }
    }

    /// By the mark, the next start sets the database aside.
    fn leave_marker(&self) {
        if let (Some(data), Some(name)) = (self.path.parent(), marker(&self.path).file_name()) {
            // Should this fail too, the next start finds the damage by reading.
            drop(durable::write_atomic(data, &name.to_string_lossy(), b"set aside at the next start\n"));
        }
    }
}

fn marker(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { operation, path, source }
}

pub(super) enum Opening {
    Damaged,
    Failed(StoreError),
}

impl Opening {
    pub(super) fn into_store_error(self, operation: &'static str, path: &Path) -> StoreError {
        match self {
            Self::Failed(error) => error,
            Self::Damaged => Cause::Sled(sled::Error::Corruption { at: None, bt: () }).at(operation, path),
        }
    }
}

/// A newer agent's record is not damage: it is left alone and the start refused.
fn is_damage(cause: &Cause) -> bool {
    match cause {
        Cause::Record(RecordError::Newer { .. }) => false,
        Cause::Record(RecordError::Malformed { .. }) => true,
        Cause::Sled(error) => is_sled_damage(error),
    }
}

fn is_sled_damage(error: &sled::Error) -> bool {
    match error {
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) | sled::Error::CollectionNotFound(_) => true,
        sled::Error::Io(error) => matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData),
        // What a spoilt `conf` file leads to; a database of another version of sled is refused and left alone.
        sled::Error::Unsupported(text) => !text.starts_with("This database was created using"),
    }
}

/// sled reports a held lock as an error of kind `Other` that it words itself.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error)
        if error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock"))
}

/// Opens what was open before. A rebuild that broke off may have left it under another name; without a look for that,
/// sled would begin an empty one.
fn reopen(path: &Path) -> Result<Trees, Opening> {
    rebuild::settle(path).map_err(Opening::Failed)?;
    open_trees(path)
}

pub(super) fn open_trees(path: &Path) -> Result<Trees, Opening> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    for _ in 0..LOCK_TRIES {
        // sled asserts on some damaged files: a panic here is damage too.
        match catch_unwind(AssertUnwindSafe(|| config.open().and_then(Trees::open))) {
            Ok(Ok(trees)) => return Ok(trees),
            Ok(Err(error)) if is_locked(&error) => wait_for_lock(),
            // It had the lock, so nobody else is writing them.
            Ok(Err(error)) if is_sled_damage(&error) && durable::remove_unfinished_snapshots(path) => {}
            Ok(Err(error)) if is_sled_damage(&error) => return Err(Opening::Damaged),
            Ok(Err(error)) => return Err(Opening::Failed(Cause::Sled(error).at("open the trees", path))),
            Err(_panic) => return Err(Opening::Damaged),
        }
    }
    Err(Opening::Failed(StoreError::Locked { path: path.to_owned() }))
}

#[allow(clippy::disallowed_methods, reason = "a file lock cannot be waited on without blocking, nor is there an event")]
fn wait_for_lock() {
    std::thread::sleep(LOCK_WAIT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_was_never_finished_is_no_damage() {
        let data = tempfile::tempdir().unwrap();
        let (database, _) = Database::open(data.path(), |_| Ok(())).unwrap();
        let write = |trees: &Trees| {
            trees.meta.insert("k", "kept")?;
            Ok(trees.flush()?)
        };
        database.run("test", write).unwrap();
        drop(database);
        durable::write_atomic(&data.path().join("db"), "snap.FFFFFFFFFFFFFFFF.generating", b"").unwrap();
        let (database, set_aside) = Database::open(data.path(), |_| Ok(())).unwrap();
        assert_eq!(set_aside, None);
        assert_eq!(database.run("test", |trees| Ok(trees.meta.get("k")?)).unwrap().unwrap(), "kept");
    }

    #[test]
    fn a_rebuild_that_breaks_off_while_the_agent_runs_loses_nothing() {
        let data = tempfile::tempdir().unwrap();
        let (database, _) = Database::open(data.path(), |_| Ok(())).unwrap();
        let write = |trees: &Trees| {
            trees.meta.insert("k", "kept")?;
            Ok(trees.flush()?)
        };
        database.run("test", write).unwrap();
        drop(database.trees.lock().unwrap().take());
        // The second of its two renames failed, and so did taking back the first.
        durable::publish(&data.path().join("db"), &data.path().join("db.old")).unwrap();
        let read = database.run("test", |trees| Ok(trees.meta.get("k")?)).unwrap();
        assert_eq!(read.unwrap(), "kept");
    }
}
