//! Keys, records and totals of the outbox, and atomic changes of them.
//!
//! | key | record |
//! |---|---|
//! | `0` | [`State`] |
//! | `1`, number | a [`Window`] that was handed out |
//! | `2`, 255 - level, order | an [`Unsent`] window; each merge of two raises the level by one |
//! | `3`, manifest, opened | an [`Unsent`] window that is still open; not part of the totals |
//! | `4` | the epoch of the numbers under `1` |
//!
//! So unsent windows stand coarsest first, which is oldest first, and those of one level can be walked alone.

use crate::store::database::Trees;
use crate::store::error::{Cause, RecordError};
use crate::store::record::{decode, encode};
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::wire::v1::Window;
use serde::{Deserialize, Serialize};

const FORM: u8 = 1;
const STATE: &[u8] = &[0];
const SENT: u8 = 1;
pub(super) const UNSENT: u8 = 2;
pub(super) const OPEN: u8 = 3;
const EPOCH: &[u8] = &[4];

/// Totals, written with every change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Bytes of all records.
    pub(super) bytes: u64,
    /// Bytes of the records that have a number.
    pub(super) sent_bytes: u64,
    pub(super) windows: u64,
    /// Windows that went up in another one.
    pub(super) merged: u64,
    pub(super) next_order: u64,
    /// Number of the last window that got one.
    pub(super) last_number: u64,
}

/// A window without a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unsent {
    pub(super) release: ReleaseRef,
    /// How many windows went into it.
    pub(super) count: u64,
    pub(super) content: Vec<u8>,
}

pub(super) fn sent_key(number: u64) -> Vec<u8> {
    let mut key = vec![SENT];
    key.extend(number.to_be_bytes());
    key
}

pub(super) fn level_prefix(level: u8) -> [u8; 2] {
    [UNSENT, u8::MAX.saturating_sub(level)]
}

pub(super) fn unsent_key(level: u8, order: u64) -> Vec<u8> {
    let mut key = level_prefix(level).to_vec();
    key.extend(order.to_be_bytes());
    key
}

/// Windows are told apart by when they opened: the next one of a release must not take an earlier one's place before that
/// is on the disk itself.
pub(super) fn open_key(release: &ReleaseRef, opened_ms: u64) -> Vec<u8> {
    let mut key = vec![OPEN];
    key.extend_from_slice(release.manifest.as_bytes());
    key.extend(opened_ms.to_be_bytes());
    key
}

pub(super) fn write_open(window: &Unsent) -> Result<Vec<u8>, RecordError> {
    encode("open window", FORM, window)
}

pub(super) fn read_open(bytes: &[u8]) -> Result<Unsent, RecordError> {
    decode("open window", FORM, bytes)
}

/// The order in an unsent window's key.
pub(super) fn order_of(key: &[u8]) -> Option<u64> {
    key.get(2..).and_then(|order| order.try_into().ok()).map(u64::from_be_bytes)
}

pub(super) fn read_state(trees: &Trees) -> Result<State, Cause> {
    let state = trees.outbox.get(STATE)?;
    Ok(state.map(|bytes| decode("outbox state", FORM, &bytes)).transpose()?.unwrap_or_default())
}

/// The epoch in which the windows that have a number got it; none before it was first kept.
pub(super) fn read_epoch(trees: &Trees) -> Result<Option<u64>, Cause> {
    Ok(trees.outbox.get(EPOCH)?.map(|bytes| decode("outbox epoch", FORM, &bytes)).transpose()?)
}

/// Keeps that epoch where none is kept.
pub(in crate::store) fn keep_epoch(trees: &Trees, epoch: u64) -> Result<(), Cause> {
    if read_epoch(trees)?.is_none() {
        trees.outbox.insert(EPOCH, encode("outbox epoch", FORM, &epoch)?)?;
        trees.flush()?;
    }
    Ok(())
}

pub(super) fn read_unsent(bytes: &[u8]) -> Result<Unsent, RecordError> {
    decode("unsent window", FORM, bytes)
}

pub(super) fn read_sent(bytes: &[u8]) -> Result<Window, RecordError> {
    decode("window", FORM, bytes)
}

/// Size as a number that adds up; a record is far smaller than 2^64 bytes.
pub(super) fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// One atomic, durable change of the outbox.
pub(super) struct Change {
    batch: sled::Batch,
    pub(super) state: State,
}

impl Change {
    pub(super) fn new(state: State) -> Self {
        Self { batch: sled::Batch::default(), state }
    }

    /// Numbers begin anew, in another epoch. Nothing may have one of the last.
    pub(super) fn begin(&mut self, epoch: u64) -> Result<(), RecordError> {
        self.batch.insert(EPOCH, encode("outbox epoch", FORM, &epoch)?);
        self.state.last_number = 0;
        Ok(())
    }

    pub(super) fn put_unsent(&mut self, level: u8, order: u64, window: &Unsent) -> Result<(), RecordError> {
        let bytes = encode("unsent window", FORM, window)?;
        self.put(unsent_key(level, order), bytes);
        Ok(())
    }

    pub(super) fn put_sent(&mut self, window: &Window) -> Result<(), RecordError> {
        let bytes = encode("window", FORM, window)?;
        self.state.sent_bytes = self.state.sent_bytes.saturating_add(size(&bytes));
        self.put(sent_key(window.first), bytes);
        Ok(())
    }

    fn put(&mut self, key: Vec<u8>, bytes: Vec<u8>) {
        self.state.bytes = self.state.bytes.saturating_add(size(&bytes));
        self.state.windows = self.state.windows.saturating_add(1);
        self.batch.insert(key, bytes);
    }

    pub(super) fn remove(&mut self, key: &[u8], bytes: u64) {
        self.state.bytes = self.state.bytes.saturating_sub(bytes);
        self.state.windows = self.state.windows.saturating_sub(1);
        if key.first() == Some(&SENT) {
            self.state.sent_bytes = self.state.sent_bytes.saturating_sub(bytes);
        }
        self.batch.remove(key);
    }

    /// Removes a record that the totals do not count.
    pub(super) fn forget(&mut self, key: &[u8]) {
        self.batch.remove(key);
    }

    pub(super) fn apply(mut self, trees: &Trees) -> Result<State, Cause> {
        self.batch.insert(STATE, encode("outbox state", FORM, &self.state)?);
        trees.outbox.apply_batch(self.batch)?;
        trees.flush()?;
        Ok(self.state)
    }
}
