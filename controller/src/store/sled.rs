//! The store on one machine: sled, all tables in one tree so that a commit is one atomic batch.

use super::{Rows, Store, StoreError, Table, Write, after_prefix};
use fieldpost_shared::durable::{remove_unfinished_snapshots, write_atomic};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Bytes of pages that sled keeps in memory.
const CACHE_BYTES: u64 = 64 << 20;
/// Number of the form of keys and tables.
const FORM: u8 = 1;
const FORM_KEY: &[u8] = b"form";
const FILLED: &str = "filled";

/// A sled database. Dropping it releases the directory.
#[derive(Debug)]
pub struct SledStore {
    db: ::sled::Db,
    failed: CancellationToken,
}

impl SledStore {
    /// Opens or makes the database in `path`.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when another process has it, [`StoreError::Corrupt`] when it is damaged, and
    /// [`StoreError::Open`] for the rest, such as missing rights.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // Commits flush by themselves, so the background flush has nothing to do. sled 0.34 panics on some kinds of
        // damage instead of returning an error; that must not look like a defect of the controller.
        let config = ::sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let owned = || path.to_owned();
        let open = || catch_unwind(AssertUnwindSafe(|| config.open()));
        let mut opened = open();
        // It had the lock, so nobody else is writing them.
        if matches!(&opened, Ok(Err(error)) if is_damage(error)) && remove_unfinished_snapshots(path) {
            opened = open();
        }
        match opened {
            Ok(Ok(db)) => Self { db, failed: CancellationToken::new() }.marked(path),
            Ok(Err(error)) if is_damage(&error) => Err(StoreError::Corrupt { path: owned() }),
            Err(_panic) => Err(StoreError::Corrupt { path: owned() }),
            Ok(Err(::sled::Error::Io(error))) if error.to_string().starts_with("could not acquire lock") => {
                Err(StoreError::Busy { path: owned() })
            }
            Ok(Err(source)) => Err(StoreError::Open { path: owned(), source }),
        }
    }

    /// sled takes a database whose log it cannot read for a new one, silently. So a file beside it says that it was
    /// filled once: an empty database with that file is a damaged one.
    fn marked(self, path: &Path) -> Result<Self, StoreError> {
        let filled = path.join(FILLED).exists();
        match (filled, self.get(Table::Meta, FORM_KEY)?) {
            (_, Some(form)) if form != [FORM] => {
                Err(StoreError::Form { found: form.first().copied().unwrap_or_default(), known: FORM })
            }
            (true, Some(_)) => Ok(self),
            (true, None) => Err(StoreError::Corrupt { path: path.to_owned() }),
            (false, _) => {
                self.commit(vec![Write::put(Table::Meta, FORM_KEY, [FORM])])?;
                write_atomic(path, FILLED, b"This database was filled. If it opens empty, it is damaged.\n")
                    .map_err(StoreError::Mark)?;
                Ok(self)
            }
        }
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// When sled cannot tell.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.db.size_on_disk().map_err(|source| StoreError::Read { table: Table::Meta, source })
    }
}

const fn is_damage(error: &::sled::Error) -> bool {
    matches!(error, ::sled::Error::Corruption { .. } | ::sled::Error::ReportableBug(_))
}

fn whole_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(key.len().saturating_add(1));
    whole.push(table as u8);
    whole.extend_from_slice(key);
    whole
}

fn rows(
    table: Table,
    found: impl Iterator<Item = ::sled::Result<(::sled::IVec, ::sled::IVec)>>,
) -> Result<Rows, StoreError> {
    found
        .map(|row| {
            let (key, value) = row.map_err(|source| StoreError::Read { table, source })?;
            Ok((key.get(1..).unwrap_or_default().to_vec(), value.to_vec()))
        })
        .collect()
}

impl Store for SledStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.db.get(whole_key(table, key)).map_err(|source| StoreError::Read { table, source })?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, prefix: &[u8]) -> Result<Rows, StoreError> {
        let from = whole_key(table, prefix);
        match after_prefix(&from) {
            Some(to) => rows(table, self.db.range(from..to)),
            None => rows(table, self.db.range(from..)),
        }
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, StoreError> {
        if from >= to {
            return Ok(Rows::new());
        }
        rows(table, self.db.range(whole_key(table, from)..whole_key(table, to)).take(limit))
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        for write in writes {
            match write {
                Write::Put { table, key, value } => batch.insert(whole_key(table, &key), value),
                Write::Delete { table, key } => batch.remove(whole_key(table, &key)),
            }
        }
        if self.failed.is_cancelled() {
            return Err(StoreError::Failed);
        }
        let done = self.db.apply_batch(batch).and_then(|()| self.db.flush());
        done.map(drop).map_err(|source| {
            // sled remembers the first failure and refuses everything after it, and readers see what was not flushed.
            self.failed.cancel();
            StoreError::Commit(source)
        })
    }

    fn failure(&self) -> CancellationToken {
        self.failed.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_was_never_finished_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        store.commit(vec![Write::put(Table::Meta, b"k", b"kept")]).unwrap();
        drop(store);
        for content in [&b""[..], b"half of a snapshot"] {
            write_atomic(dir.path(), "snap.FFFFFFFFFFFFFFFF.generating", content).unwrap();
            let store = reopen(dir.path()).unwrap();
            assert_eq!(store.get(Table::Meta, b"k").unwrap().unwrap(), b"kept");
        }
        // A finished one that is broken is.
        write_atomic(dir.path(), "snap.FFFFFFFFFFFFFFFF", b"half of a snapshot").unwrap();
        assert!(matches!(reopen(dir.path()), Err(StoreError::Corrupt { .. })));
    }

    /// sled lets go of its directory a moment after it was dropped.
    #[allow(clippy::disallowed_methods, reason = "the test waits for a lock that nobody can be asked about")]
    fn reopen(path: &Path) -> Result<SledStore, StoreError> {
        for _ in 0..200 {
            match SledStore::open(path) {
                Err(StoreError::Busy { .. }) => std::thread::sleep(std::time::Duration::from_millis(25)),
                opened => return opened,
            }
        }
        SledStore::open(path)
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        store.commit(vec![Write::put(Table::Meta, "k", "v")]).unwrap();
        drop(store);
        assert_eq!(reopen(dir.path()).unwrap().get(Table::Meta, b"k").unwrap().unwrap(), b"v");
    }

    #[test]
    fn a_second_process_is_told_that_the_store_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let _first = SledStore::open(dir.path()).unwrap();
        assert!(matches!(SledStore::open(dir.path()), Err(StoreError::Busy { .. })));
    }

    /// Fills a store, lets `harm` do its work on the files, and opens it again.
    fn reopened_after(harm: impl Fn(&Path)) -> Result<usize, StoreError> {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        for number in 0..2_000_u32 {
            store.commit(vec![Write::put(Table::Meta, number.to_be_bytes(), vec![7; 300])]).unwrap();
        }
        drop(store);
        harm(dir.path());
        reopen(dir.path())?.scan(Table::Meta, b"").map(|rows| rows.len())
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test damages files on purpose")]
    fn a_damaged_store_is_called_damaged() {
        for name in ["conf", "db"] {
            let overwritten = reopened_after(|dir| {
                let path = dir.join(name);
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, vec![0x5a; bytes.len()]).unwrap();
            });
            assert!(matches!(overwritten, Err(StoreError::Corrupt { .. })), "{name}: {overwritten:?}");
        }
        let lost = reopened_after(|dir| std::fs::remove_file(dir.join("db")).unwrap());
        assert!(matches!(lost, Err(StoreError::Corrupt { .. })), "{lost:?}");
    }

    #[test]
    fn an_undamaged_store_keeps_every_row() {
        assert_eq!(reopened_after(|_| ()).unwrap(), 2_001);
    }

    /// Set for the process that meets a full disk.
    const CHILD: &str = "FIELDPOST_TEST_FULL_DISK";

    /// Not a test of its own: what [`a_full_disk_loses_nothing_acknowledged_and_is_told`] runs with small files alone.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test that starts itself is told so by the environment")]
    fn child_that_writes_until_the_disk_is_full() {
        let Ok(dir) = std::env::var(CHILD) else { return };
        let store = SledStore::open(Path::new(&dir)).unwrap();
        let write = |number: u32| store.commit(vec![Write::put(Table::Meta, number.to_be_bytes(), vec![7; 4_000])]);
        let mut acknowledged = 0;
        while acknowledged < 100_000 && write(acknowledged).is_ok() {
            acknowledged += 1;
        }
        assert!(store.failure().is_cancelled(), "{acknowledged} commits and no failure");
        assert!(matches!(write(acknowledged), Err(StoreError::Failed)));
        println!("acknowledged={acknowledged}");
    }

    #[test]
    fn a_full_disk_loses_nothing_acknowledged_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        drop(SledStore::open(dir.path()).unwrap());
        // A file may have 1,024 blocks of 512 bytes or of 1 KiB, and writing beyond is an error and no signal.
        let name = "store::sled::tests::child_that_writes_until_the_disk_is_full";
        let script = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" --exact \"$1\" --nocapture";
        let mut child = std::process::Command::new("sh");
        child.args(["-c", script]).arg(std::env::current_exe().unwrap()).arg(name).env(CHILD, dir.path());
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let acknowledged = said.lines().find_map(|line| line.split("acknowledged=").nth(1)?.trim().parse().ok());
        let acknowledged: u32 = acknowledged.unwrap_or_else(|| panic!("{said}"));
        let store = reopen(dir.path()).unwrap();
        for number in 0..acknowledged {
            assert!(store.get(Table::Meta, &number.to_be_bytes()).unwrap().is_some(), "{number} of {acknowledged}");
        }
        store.commit(vec![Write::put(Table::Meta, "k", "v")]).unwrap();
    }
}
