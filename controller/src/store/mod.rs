//! The controller's truth: a few tables of bytes behind one narrow trait.
//!
//! [`SledStore`] keeps them on one machine; [`MemoryStore`] serves tests. Keys sort as bytes, and every commit is
//! atomic over all tables and durable when it returns: nothing is acknowledged to anybody before that.

mod memory;
mod record;
mod sled;

pub use self::memory::MemoryStore;
pub use self::record::{decode, encode};
pub use self::sled::SledStore;

use std::fmt;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Keys with their values, in key order.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// The tables. The number is part of the disk form and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Single values: the store's form, the fleet, heads of chains.
    Meta = 1,
    /// Device id -> who the device is.
    Devices = 2,
    /// `model/version` -> a release.
    Releases = 3,
    /// Device id -> what it should run, as it was last signed.
    Desired = 4,
    /// `report/`, `alive/`, `ack/` + device id -> what it last said, and what was acknowledged.
    Reports = 5,
    /// Device, release, time -> one window of statistics.
    Windows = 6,
    /// Rollout id -> its description.
    Rollouts = 7,
    /// Rollout id, number -> one event.
    RolloutEvents = 8,
    /// Token id -> what it opens; never the token itself.
    Tokens = 9,
    /// Number, big-endian -> one entry of the audit log.
    Audit = 10,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 10] = [
        Self::Meta,
        Self::Devices,
        Self::Releases,
        Self::Desired,
        Self::Reports,
        Self::Windows,
        Self::Rollouts,
        Self::RolloutEvents,
        Self::Tokens,
        Self::Audit,
    ];
}

/// One change of a commit.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// Where.
        table: Table,
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// Removes a key; not an error when it is absent.
    Delete {
        /// Where.
        table: Table,
        /// Its key.
        key: Vec<u8>,
    },
}

impl Write {
    /// Sets a key.
    pub fn put(table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { table, key: key.into(), value: value.into() }
    }

    /// Removes a key.
    pub fn delete(table: Table, key: impl Into<Vec<u8>>) -> Self {
        Self::Delete { table, key: key.into() }
    }
}

impl fmt::Debug for Write {
    /// Values may be secrets or large; their length says enough.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { table, key, value } => {
                write!(f, "Put({table:?}, {}, {} bytes)", String::from_utf8_lossy(key), value.len())
            }
            Self::Delete { table, key } => write!(f, "Delete({table:?}, {})", String::from_utf8_lossy(key)),
        }
    }
}

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open the store in `{}`", path.display())]
    Open {
        /// Where it is.
        path: PathBuf,
        /// The reason.
        #[source]
        source: ::sled::Error,
    },
    /// The database holds damaged data.
    #[error(
        "the store in `{}` is damaged: restore a backup, or move the directory away to start empty \
         (devices keep running what they run, and must be enrolled again)",
        path.display()
    )]
    Corrupt {
        /// Where it is.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("the store in `{}` is in use by another process", path.display())]
    Busy {
        /// Where it is.
        path: PathBuf,
    },
    /// The mark of a filled store cannot be written.
    #[error("cannot mark the store as filled")]
    Mark(#[source] fieldpost_shared::durable::DurableError),
    /// A read failed.
    #[error("cannot read from the store ({table:?})")]
    Read {
        /// The table read.
        table: Table,
        /// The reason.
        #[source]
        source: ::sled::Error,
    },
    /// A commit failed. Whether it is there shows when the store is opened again, as a whole or not at all.
    #[error("cannot write to the store")]
    Commit(#[source] ::sled::Error),
    /// A commit failed before, and the database takes no more.
    #[error("the store failed: it takes nothing until the controller is started again")]
    Failed,
    /// A record of a newer form than this program writes.
    #[error("a record has form {found}, this program reads up to {known}: update the controller")]
    Form {
        /// The form found.
        found: u8,
        /// The newest form known.
        known: u8,
    },
    /// A record that is not what it should be.
    #[error("a record in the store is damaged")]
    Record(#[source] serde_json::Error),
    /// A record of no bytes.
    #[error("a record in the store is empty")]
    Empty,
}

/// Tables of bytes. Implementations are cheap to share and block: call them off the reactor.
pub trait Store: Send + Sync + fmt::Debug {
    /// The value of a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// All rows whose key starts with `prefix`, in key order.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn scan(&self, table: Table, prefix: &[u8]) -> Result<Rows, StoreError>;

    /// The rows with `from <= key < to`, in key order, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, StoreError>;

    /// Makes all changes or none; they are on disk when this returns.
    ///
    /// # Errors
    /// When they are not on disk, as far as is known.
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// Cancelled once a commit failed in a way that no later one can mend: what is read may never have reached the
    /// disk, so the process must end and open the store again. Never, where commits cannot fail so.
    fn failure(&self) -> CancellationToken {
        CancellationToken::new()
    }
}

/// The first key after all keys that start with `prefix`; `None` when there is none such (all bytes 255).
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte = byte.saturating_add(1);
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every store must do; run on each implementation.
    fn check(store: &dyn Store) {
        let put = |table, key: &str, value: &str| Write::put(table, key, value);
        store
            .commit(vec![
                put(Table::Devices, "b", "2"),
                put(Table::Devices, "a", "1"),
                put(Table::Devices, "bb", "3"),
                put(Table::Reports, "a", "other table"),
            ])
            .unwrap();
        assert_eq!(store.get(Table::Devices, b"a").unwrap().unwrap(), b"1");
        assert_eq!(store.get(Table::Releases, b"a").unwrap(), None);
        let keys = |rows: Rows| rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<Vec<_>>();
        assert_eq!(keys(store.scan(Table::Devices, b"").unwrap()), ["a", "b", "bb"]);
        assert_eq!(keys(store.scan(Table::Devices, b"b").unwrap()), ["b", "bb"]);
        assert_eq!(keys(store.range(Table::Devices, b"aa", b"bb", 9).unwrap()), ["b"]);
        assert_eq!(keys(store.range(Table::Devices, b"", b"z", 2).unwrap()), ["a", "b"]);
        assert_eq!(keys(store.range(Table::Devices, b"z", b"a", 2).unwrap()), [""; 0]);
        store.commit(vec![Write::delete(Table::Devices, "a"), put(Table::Devices, "b", "4")]).unwrap();
        assert_eq!(store.get(Table::Devices, b"a").unwrap(), None);
        assert_eq!(store.get(Table::Devices, b"b").unwrap().unwrap(), b"4");
        assert_eq!(store.get(Table::Reports, b"a").unwrap().unwrap(), b"other table");
    }

    #[test]
    fn the_memory_store_does_what_a_store_must() {
        check(&MemoryStore::default());
    }

    #[test]
    fn the_sled_store_does_what_a_store_must() {
        let dir = tempfile::tempdir().unwrap();
        check(&SledStore::open(dir.path()).unwrap());
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_key() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255]), None);
    }
}
