//! What only goes up: the epoch, sequence numbers, the desired state that was accepted, the latest signed time.

use super::Store;
use super::database::Trees;
use super::error::{Cause, RecordError, StoreError};
use super::record::{decode, encode};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{self, Sequence};
use fieldpost_shared::wire::v2::Desired;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const EPOCH: &[u8] = b"epoch";
const DESIRED: &[u8] = b"desired";
const TIME: &[u8] = b"latest-signed";
const HOLD: &[u8] = b"hold";
const FETCHED: &[u8] = b"fetched-bytes";
const FORM: u8 = 1;
/// Form of a desired state that says what stands beside the live release. One that does not is kept in form 1, which an
/// older agent reads.
const FORM_BESIDE: u8 = 2;
/// Acknowledgements come often; the time they witness is written once a minute, to spare the flash.
const WITNESS_STEP: Duration = Duration::from_secs(60);

/// Streams that a device numbers, apart from the statistics, which the outbox numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Reports.
    Report,
    /// Sessions with the broker.
    Session,
}

impl Counter {
    const fn key(self) -> &'static [u8] {
        match self {
            Self::Report => b"sequence-report",
            Self::Session => b"sequence-session",
        }
    }
}

/// Why changes are refused for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// In the words of whoever asked for it.
    pub reason: String,
    /// When it ends by itself; None is not before it is released.
    pub until: Option<Timestamp>,
}

impl Hold {
    /// Whether it still holds.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What the controller has said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The desired state that was accepted last.
    pub desired: Option<Desired>,
    /// The latest time in any signed statement of the controller that was believed.
    pub latest_signed: Timestamp,
}

fn read<T: serde::de::DeserializeOwned>(trees: &Trees, what: &'static str, key: &[u8]) -> Result<Option<T>, Cause> {
    Ok(trees.meta.get(key)?.map(|bytes| decode(what, FORM, &bytes)).transpose()?)
}

fn write<T: Serialize>(trees: &Trees, what: &'static str, key: &[u8], value: &T) -> Result<(), Cause> {
    trees.meta.insert(key, encode(what, FORM, value)?)?;
    Ok(trees.flush()?)
}

fn read_desired(trees: &Trees) -> Result<Option<Desired>, Cause> {
    let Some(bytes) = trees.meta.get(DESIRED)? else { return Ok(None) };
    Ok(Some(match bytes.first() {
        Some(&FORM) => decode::<v1::Desired>("desired state", FORM, &bytes)?.into(),
        _ => decode("desired state", FORM_BESIDE, &bytes)?,
    }))
}

fn encode_desired(desired: &Desired) -> Result<Vec<u8>, RecordError> {
    match desired.beside.is_empty() {
        true => encode("desired state", FORM, &desired.state),
        false => encode("desired state", FORM_BESIDE, desired),
    }
}

pub(super) fn read_epoch(trees: &Trees) -> Result<Option<u64>, Cause> {
    read(trees, "epoch", EPOCH)
}

pub(super) fn write_epoch(trees: &Trees, epoch: u64) -> Result<(), Cause> {
    write(trees, "epoch", EPOCH, &epoch)
}

/// Forgets how far the controller had come, because its keys have changed (TUF 1.0.33 §5.3.11).
pub(super) fn forget_signed(trees: &Trees, batch: &mut sled::Batch) -> Result<(), Cause> {
    batch.remove(TIME);
    if let Some(mut desired) = read_desired(trees)? {
        desired.state.sequence = 0;
        batch.insert(DESIRED, encode_desired(&desired)?);
    }
    Ok(())
}

pub(super) fn read_known(trees: &Trees) -> Result<Known, Cause> {
    let desired = read_desired(trees)?;
    Ok(Known { desired, latest_signed: read(trees, "latest signed time", TIME)?.unwrap_or_default() })
}

pub(super) fn read_hold(trees: &Trees) -> Result<Option<Hold>, Cause> {
    read(trees, "hold", HOLD)
}

impl Store {
    /// The next number of a stream, durable before it is returned: no number is ever given twice.
    ///
    /// # Errors
    /// When the database does not take it.
    pub fn next(&self, counter: Counter) -> Result<Sequence, StoreError> {
        let epoch = self.begun_epoch()?;
        self.database.run("count", |trees| {
            let number = read::<u64>(trees, "sequence", counter.key())?.unwrap_or(0).saturating_add(1);
            write(trees, "sequence", counter.key(), &number)?;
            Ok(Sequence { epoch, number })
        })
    }

    /// What the controller has said so far.
    ///
    /// # Errors
    /// When it does not read.
    pub fn known(&self) -> Result<Known, StoreError> {
        self.database.run("read the desired state", read_known)
    }

    /// Keeps a desired state as the accepted one, whole or not at all. Whether to accept is decided before, by
    /// [`crate::deploy::accept`].
    ///
    /// # Errors
    /// When the database does not take it.
    pub fn accept(&self, desired: &Desired) -> Result<(), StoreError> {
        self.database.run("keep the desired state", |trees| {
            let latest = read::<Timestamp>(trees, "latest signed time", TIME)?.unwrap_or_default().max(desired.issued);
            let mut batch = sled::Batch::default();
            batch.insert(DESIRED, encode_desired(desired)?);
            batch.insert(TIME, encode("latest signed time", FORM, &latest)?);
            trees.meta.apply_batch(batch)?;
            Ok(trees.flush()?)
        })
    }

    /// Takes notice of the time in a signed statement that was believed (an acknowledgement). Never goes back.
    ///
    /// # Errors
    /// When the database does not take it.
    pub fn witness(&self, signed_at: Timestamp) -> Result<(), StoreError> {
        self.database.run("keep the latest signed time", |trees| {
            let latest = read::<Timestamp>(trees, "latest signed time", TIME)?.unwrap_or_default();
            if signed_at.since(latest) >= WITNESS_STEP {
                write(trees, "latest signed time", TIME, &signed_at)?;
            }
            Ok(())
        })
    }

    /// The hold that was set last and not released, over or not.
    ///
    /// # Errors
    /// When it does not read.
    pub fn hold(&self) -> Result<Option<Hold>, StoreError> {
        self.database.run("read the hold", read_hold)
    }

    /// Sets or (with None) releases the hold.
    ///
    /// # Errors
    /// When the database does not take it.
    pub fn set_hold(&self, hold: Option<&Hold>) -> Result<(), StoreError> {
        self.database.run("keep the hold", |trees| match hold {
            Some(hold) => write(trees, "hold", HOLD, hold),
            None => {
                trees.meta.remove(HOLD)?;
                Ok(trees.flush()?)
            }
        })
    }

    /// Chunk bytes received over the network since the store was made.
    ///
    /// # Errors
    /// When it does not read.
    pub fn fetched_bytes(&self) -> Result<u64, StoreError> {
        self.database.run("read the byte counter", |trees| Ok(read(trees, "byte counter", FETCHED)?.unwrap_or(0)))
    }

    /// Counts chunk bytes. It becomes durable with the next write that is: a power cut may lose the last of it.
    ///
    /// # Errors
    /// When the database does not take it.
    pub fn add_fetched_bytes(&self, bytes: u64) -> Result<(), StoreError> {
        self.database.run("count bytes", |trees| {
            let sum = read::<u64>(trees, "byte counter", FETCHED)?.unwrap_or(0).saturating_add(bytes);
            trees.meta.insert(FETCHED, encode("byte counter", FORM, &sum)?)?;
            Ok(())
        })
    }

    /// Makes the accepted desired state unreadable, as damage does.
    #[cfg(test)]
    pub(crate) fn spoil_desired(&self) {
        let spoil = |trees: &Trees| Ok(trees.meta.insert(DESIRED, vec![FORM]).map(drop)?);
        self.database.run("spoil", spoil).expect("a test's database takes a write");
    }
}
