//! Windows of statistics until a signed acknowledgement covers them.
//!
//! A window gets its number when it is first handed out to be sent, and is never merged from then on: the controller may
//! have it already, and would count it twice. Windows that were not handed out yet are merged, oldest first and evenly
//! (pairs of single windows before pairs of merged ones), when the outbox is over its bound. Nothing is ever dropped:
//! one window per release always stays, however small the bound.

use super::Store;
use super::database::Trees;
use super::error::{Cause, RecordError, StoreError};
use super::record::{decode, encode};
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::wire::v1::{MAX_WINDOWS, OutboxReport, Sequence, Window};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Most bytes of one window's content, so that a message of at most 120 KiB carries it.
pub const MAX_WINDOW_BYTES: usize = 100 * 1024;

const FORM: u8 = 1;
const STATE: &[u8] = &[0];
const SENT: u8 = 1;
const UNSENT: u8 = 2;
/// Merges that one write makes durable, so that a large outbox does not become one large write.
const MERGES_PER_WRITE: usize = 64;

/// Totals, written with every change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// Bytes of all records.
    bytes: u64,
    /// Bytes of the records that have a number.
    sent_bytes: u64,
    windows: u64,
    /// Windows that went up in another one.
    merged: u64,
    next_order: u64,
    /// Number of the last window that got one.
    last_number: u64,
}

/// A window without a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unsent {
    release: ReleaseRef,
    /// How many windows went into it.
    count: u64,
    content: Vec<u8>,
}

fn key(kind: u8, number: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    for (to, from) in key.iter_mut().skip(1).zip(number.to_be_bytes()) {
        *to = from;
    }
    key
}

fn read_state(trees: &Trees) -> Result<State, Cause> {
    let state = trees.outbox.get(STATE)?;
    Ok(state.map(|bytes| decode("outbox state", FORM, &bytes)).transpose()?.unwrap_or_default())
}

pub(super) fn check(trees: &Trees) -> Result<(), Cause> {
    read_state(trees).map(drop)
}

/// Size as a number that adds up; a record is far smaller than 2^64 bytes.
fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// One atomic, durable change of the outbox.
struct Change {
    batch: sled::Batch,
    state: State,
}

impl Change {
    fn new(state: State) -> Self {
        Self { batch: sled::Batch::default(), state }
    }

    fn put_unsent(&mut self, order: u64, window: &Unsent) -> Result<(), RecordError> {
        let bytes = encode("unsent window", FORM, window)?;
        self.state.bytes = self.state.bytes.saturating_add(size(&bytes));
        self.state.windows = self.state.windows.saturating_add(1);
        self.batch.insert(&key(UNSENT, order), bytes);
        Ok(())
    }

    fn put_sent(&mut self, window: &Window) -> Result<(), RecordError> {
        let bytes = encode("window", FORM, window)?;
        self.state.bytes = self.state.bytes.saturating_add(size(&bytes));
        self.state.sent_bytes = self.state.sent_bytes.saturating_add(size(&bytes));
        self.state.windows = self.state.windows.saturating_add(1);
        self.batch.insert(&key(SENT, window.first), bytes);
        Ok(())
    }

    fn remove(&mut self, key: &[u8], bytes: u64) {
        self.state.bytes = self.state.bytes.saturating_sub(bytes);
        self.state.windows = self.state.windows.saturating_sub(1);
        if key.first() == Some(&SENT) {
            self.state.sent_bytes = self.state.sent_bytes.saturating_sub(bytes);
        }
        self.batch.remove(key);
    }

    fn apply(mut self, trees: &Trees) -> Result<State, Cause> {
        self.batch.insert(STATE, encode("outbox state", FORM, &self.state)?);
        trees.outbox.apply_batch(self.batch)?;
        trees.flush()?;
        Ok(self.state)
    }
}

/// Both in one, when they are of one release and their statistics fit together.
fn merge(older: &Unsent, newer: &Unsent) -> Option<Unsent> {
    let mut sum = WindowStats::decode(&older.content).ok()?;
    sum.merge(&WindowStats::decode(&newer.content).ok()?).ok()?;
    let content = sum.encode();
    let count = older.count.saturating_add(newer.count);
    let fits = older.release == newer.release && content.len() <= MAX_WINDOW_BYTES;
    fits.then(|| Unsent { release: older.release.clone(), count, content })
}

/// Walks once from the oldest unsent window to the newest and merges pairs of one release whose parts are of at most
/// `max_count` windows, until `target` bytes are reached. Gives the state, and whether anything was merged.
fn coarsen(trees: &Trees, mut state: State, max_count: u64, target: u64) -> Result<(State, Pass), Cause> {
    let mut waiting: HashMap<Digest, (u64, u64, Unsent)> = HashMap::new();
    let mut change = Change::new(state);
    let (mut pass, mut pending) = (Pass { merged: false, larger: false }, 0_usize);
    for entry in trees.outbox.scan_prefix([UNSENT]) {
        if change.state.bytes <= target {
            break;
        }
        let (record, bytes) = entry?;
        let Some(order) = record.get(1..).and_then(|rest| rest.try_into().ok()).map(u64::from_be_bytes) else {
            continue;
        };
        let newer: Unsent = decode("unsent window", FORM, &bytes)?;
        if newer.count > max_count {
            pass.larger = true;
            continue;
        }
        let release = newer.release.manifest;
        let Some((older_order, older_bytes, older)) = waiting.remove(&release) else {
            waiting.insert(release, (order, size(&bytes), newer));
            continue;
        };
        let Some(sum) = merge(&older, &newer) else {
            waiting.insert(release, (order, size(&bytes), newer));
            continue;
        };
        change.remove(&key(UNSENT, order), size(&bytes));
        change.remove(&key(UNSENT, older_order), older_bytes);
        change.put_unsent(older_order, &sum)?;
        change.state.merged = change.state.merged.saturating_add(1);
        pass.merged = true;
        pass.larger = true;
        pending = pending.saturating_add(1);
        if pending == MERGES_PER_WRITE {
            state = change.apply(trees)?;
            (change, pending) = (Change::new(state), 0);
        }
    }
    if pending > 0 {
        state = change.apply(trees)?;
    }
    Ok((state, pass))
}

/// What one walk met.
struct Pass {
    merged: bool,
    /// Whether windows of more than the allowed count are there, so that a walk with a larger one may find pairs.
    larger: bool,
}

impl Store {
    /// Adds a closed window, durable on return. The same window again, as after an error, changes nothing.
    ///
    /// # Errors
    /// When it is too large for any message, or the database does not take it.
    pub fn push(&self, release: &ReleaseRef, content: &WindowStats) -> Result<(), StoreError> {
        let window = Unsent { release: release.clone(), count: 1, content: content.encode() };
        if window.content.len() > MAX_WINDOW_BYTES {
            return Err(StoreError::WindowTooLarge { bytes: window.content.len(), max: MAX_WINDOW_BYTES });
        }
        let state = self.database.run("keep a window of statistics", |trees| {
            let state = read_state(trees)?;
            if let Some(newest) = trees.outbox.get(key(UNSENT, state.next_order.saturating_sub(1)))?
                && decode::<Unsent>("unsent window", FORM, &newest)? == window
            {
                return Ok(state);
            }
            let mut change = Change::new(state);
            change.put_unsent(state.next_order, &window)?;
            change.state.next_order = state.next_order.saturating_add(1);
            change.apply(trees)
        })?;
        if state.bytes > self.settings.outbox_bytes {
            self.coarsen_outbox()?;
        }
        Ok(())
    }

    fn coarsen_outbox(&self) -> Result<(), StoreError> {
        let bound = self.settings.outbox_bytes;
        // A little below the bound, so that not every push walks.
        let target = bound.saturating_sub((bound / 16).min(256 << 10));
        self.database.run("merge windows of statistics", |trees| {
            let mut state = read_state(trees)?;
            let mut max_count = 1_u64;
            loop {
                let pass;
                (state, pass) = coarsen(trees, state, max_count, target)?;
                if state.bytes <= target || !(pass.merged || pass.larger) || max_count == u64::MAX {
                    return Ok(());
                }
                max_count = max_count.saturating_mul(2);
            }
        })
    }

    /// The windows after number `after`, oldest first, without gaps: at most [`MAX_WINDOWS`], and of at most `max_bytes`
    /// apart from the first. What has no number yet gets one, durably, before this returns; so whatever was returned may
    /// be sent at once and will never be merged.
    ///
    /// To keep most of a full outbox mergeable, nothing new is handed out while a quarter of its bound is unacknowledged.
    ///
    /// # Errors
    /// When the database does not read or take it.
    pub fn pending(&self, after: u64, max_bytes: usize) -> Result<Vec<Window>, StoreError> {
        let sent_limit = self.settings.outbox_bytes / 4;
        self.database.run("hand out windows of statistics", |trees| {
            let mut room = size_of_room(max_bytes);
            let mut windows: Vec<Window> = Vec::new();
            let full = |windows: &Vec<Window>, room: u64, next: u64| {
                windows.len() >= MAX_WINDOWS || (!windows.is_empty() && next > room)
            };
            // A window that begins at or before `after` may still end behind it only if an acknowledgement was no
            // window's end, which none of ours is.
            for entry in trees.outbox.range(key(SENT, after.saturating_add(1))..key(UNSENT, 0)) {
                let bytes = entry?.1;
                if full(&windows, room, size(&bytes)) {
                    return Ok(windows);
                }
                room = room.saturating_sub(size(&bytes));
                windows.push(decode("window", FORM, &bytes)?);
            }
            let state = read_state(trees)?;
            let mut change = Change::new(state);
            for entry in trees.outbox.scan_prefix([UNSENT]) {
                let (record, bytes) = entry?;
                let waits = change.state.sent_bytes >= sent_limit && change.state.sent_bytes > 0;
                if waits || full(&windows, room, size(&bytes)) {
                    break;
                }
                room = room.saturating_sub(size(&bytes));
                let unsent: Unsent = decode("unsent window", FORM, &bytes)?;
                let first = change.state.last_number.saturating_add(1);
                let last = change.state.last_number.saturating_add(unsent.count.max(1));
                let window = Window { first, last, release: unsent.release, content: unsent.content };
                change.remove(&record, size(&bytes));
                change.put_sent(&window)?;
                change.state.last_number = last;
                windows.push(window);
            }
            if change.state != state {
                change.apply(trees)?;
            }
            Ok(windows)
        })
    }

    /// Deletes the windows that an acknowledgement covers; one of another epoch covers none. Gives how many went.
    ///
    /// # Errors
    /// When the database does not take it; the windows are then sent again, and acknowledged again.
    pub fn acknowledge(&self, stored: Sequence) -> Result<usize, StoreError> {
        if stored.epoch != self.epoch {
            return Ok(0);
        }
        self.database.run("delete acknowledged windows", |trees| {
            let mut change = Change::new(read_state(trees)?);
            let mut gone = 0_usize;
            for entry in trees.outbox.range(key(SENT, 0)..=key(SENT, stored.number)) {
                let (record, bytes) = entry?;
                if decode::<Window>("window", FORM, &bytes)?.last <= stored.number {
                    change.remove(&record, size(&bytes));
                    gone = gone.saturating_add(1);
                }
            }
            if gone > 0 {
                change.apply(trees)?;
            }
            Ok(gone)
        })
    }

    /// What waits, for reports.
    ///
    /// # Errors
    /// When it does not read.
    pub fn outbox(&self) -> Result<OutboxReport, StoreError> {
        self.database.run("read the outbox state", |trees| {
            let State { windows, bytes, merged, .. } = read_state(trees)?;
            Ok(OutboxReport { windows, bytes, merged })
        })
    }
}

fn size_of_room(max_bytes: usize) -> u64 {
    u64::try_from(max_bytes).unwrap_or(u64::MAX)
}
