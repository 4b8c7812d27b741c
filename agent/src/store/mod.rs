//! The agent's memory: one sled database in `DATA/db`, behind this module alone.
//!
//! | tree | key | holds |
//! |---|---|---|
//! | `meta` | a name | epoch, sequence numbers, accepted desired state, latest signed time, hold |
//! | `trust` | version | signed root metadata, which stands in `DATA/roots` too |
//! | `slots` | model | the deployment journal |
//! | `quarantine` | model/manifest | releases that failed here |
//! | `outbox` | number | windows of statistics that no acknowledgement covers |
//!
//! Small values only: models and chunks are files. Every method blocks for a flush at most, and is durable when it
//! returns. Damage is set aside (`DATA/db.corrupt`) and a new database begins, with a later epoch and the same roots.

mod background;
mod database;
mod epoch;
mod error;
mod journal;
mod meta;
mod outbox;
mod rebuild;
mod record;
mod reserve;
mod trust;

pub use error::{RecordError, StoreError};
pub use journal::MAX_QUARANTINE;
pub use meta::{Counter, Hold, Known};
pub use outbox::{Acknowledged, MAX_WINDOW_BYTES, Pending};

use database::{Database, Trees};
use epoch::{EPOCH_FILE, Epochs};
use error::Cause;
#[cfg(test)]
use fieldpost_shared::durable;
use fieldpost_shared::time::Clock;
use std::fs;
use std::path::{Path, PathBuf};

/// What can be set about the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// Bytes that unacknowledged windows may take before the oldest are merged.
    pub outbox_bytes: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { outbox_bytes: 64 << 20 }
    }
}

/// What opening met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Where a damaged database was set aside. Slots, quarantine and unsent statistics are lost then; say so loudly.
    pub set_aside: Option<PathBuf>,
    /// Whether the database is new.
    pub fresh: bool,
}

/// The store. All methods take `&self` and may be called from any thread.
#[derive(Debug)]
pub struct Store {
    database: Database,
    epochs: Epochs,
    settings: StoreSettings,
    data: PathBuf,
    pace: outbox::Pace,
}

impl Store {
    /// Opens, or makes, the database in `data`. Waits about three seconds for a lock that another process holds. On a full
    /// disk it opens with the help of a reserve (`DATA/db.reserve`, 2 MiB), so that a box can start, serve and go back.
    ///
    /// # Errors
    /// When it is locked, from a newer version, or the disk refuses.
    pub fn open(data: &Path, settings: StoreSettings, clock: &dyn Clock) -> Result<(Self, Opened), StoreError> {
        let (database, set_aside) = match Database::open(data, check) {
            Err(error) if error.is_disk_full() && reserve::release(data) => Database::open(data, check)?,
            opened => opened?,
        };
        let (epochs, fresh) = Epochs::open(&database, data, clock)?;
        trust::settle(&database, data)?;
        let outbox = database.run("read the outbox state", outbox::live_bytes)?;
        if database.is_grown(outbox) {
            database.renew(outbox);
        }
        // Without all of it the store works, and takes no statistics until there is space for it.
        reserve::take_some(data);
        Ok((
            Self { database, epochs, settings, data: data.to_owned(), pace: outbox::Pace::default() },
            Opened { set_aside, fresh },
        ))
    }

    /// The epoch of the numbers that this store gives from now on.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epochs.current()
    }

    /// The same, durable on return.
    fn begun_epoch(&self) -> Result<u64, StoreError> {
        self.epochs.begun(&self.database, &self.data)
    }
}

fn last_epoch(data: &Path) -> u64 {
    fs::read_to_string(data.join(EPOCH_FILE)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Reads the records that must be right from the start. The journal's own are read by whoever knows their content; what
/// does not read there is damage as well, and set aside at the next start.
fn check(trees: &Trees) -> Result<(), Cause> {
    meta::read_epoch(trees)?;
    meta::read_known(trees)?;
    meta::read_hold(trees)?;
    journal::read_quarantine(trees)?;
    outbox::check(trees)
}

/// Transactions here never abort by themselves.
fn from_transaction(error: sled::transaction::TransactionError<()>) -> Cause {
    match error {
        sled::transaction::TransactionError::Storage(error) => Cause::Sled(error),
        sled::transaction::TransactionError::Abort(()) => {
            Cause::Sled(sled::Error::ReportableBug("a transaction that never aborts did".to_owned()))
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
