//! Windows of statistics until a signed acknowledgement covers them.
//!
//! A window gets its number when it is first handed out to be sent, and is never merged from then on: the controller may
//! have it already, and would count it twice. Windows that were not handed out yet are merged when the outbox is over its
//! bound. Nothing is ever dropped: a few windows per release always stay, however small the bound.

mod change;
mod coarsen;
mod open;

use super::database::Trees;
use super::error::{Cause, StoreError};
use super::{Store, reserve};
use change::{Change, UNSENT, Unsent, open_key, read_sent, read_state, read_unsent, sent_key, size, unsent_key};
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::wire::v1::{MAX_WINDOWS, OutboxReport, Sequence, Window};
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes of one window's content, so that a message of at most 120 KiB carries it.
pub const MAX_WINDOW_BYTES: usize = 100 * 1024;

/// sled lets its cache grow far beyond its bound while pages are only added (57 MiB for an outbox of 64 MiB). Opening the
/// database anew after so many bytes keeps that at 8 MiB.
const RENEW_AFTER_BYTES: u64 = 8 << 20;

/// What only matters while the agent runs.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Bytes pushed since the database was opened.
    pushed: AtomicU64,
    /// Below so many bytes merging is not tried again, since it came to nothing.
    futile_below: AtomicU64,
}

pub(super) fn live_bytes(trees: &Trees) -> Result<u64, Cause> {
    Ok(read_state(trees)?.bytes)
}

pub(super) fn check(trees: &Trees) -> Result<(), Cause> {
    read_state(trees).map(drop)
}

impl Store {
    /// Adds a closed window, durable on return. The same window again, as after an error, changes nothing.
    ///
    /// # Errors
    /// When it is too large for any message, the disk is (nearly) full, or the database does not take it. It is not lost
    /// while the caller keeps it and pushes it again.
    pub fn push(&self, release: &ReleaseRef, content: &WindowStats) -> Result<(), StoreError> {
        let window = Unsent { release: release.clone(), count: 1, content: content.encode() };
        if window.content.len() > MAX_WINDOW_BYTES {
            return Err(StoreError::WindowTooLarge { bytes: window.content.len(), max: MAX_WINDOW_BYTES });
        }
        // The last space on a disk is for the journal.
        reserve::take(&self.data)?;
        let state = self.database.run("keep a window of statistics", |trees| {
            let state = read_state(trees)?;
            let mut change = Change::new(state);
            // From now on the window itself is on the disk: in the same change, or it would count twice after a death.
            change.forget(&open_key(release, content.opened_ms));
            if let Some(newest) = trees.outbox.get(unsent_key(0, state.next_order.saturating_sub(1)))?
                && read_unsent(&newest)? == window
            {
                return change.apply(trees);
            }
            change.put_unsent(0, state.next_order, &window)?;
            change.state.next_order = state.next_order.saturating_add(1);
            change.apply(trees)
        })?;
        if state.bytes > self.settings.outbox_bytes.max(self.pace.futile_below.load(Ordering::Relaxed)) {
            self.coarsen()?;
        }
        let pushed = self.pace.pushed.fetch_add(size(&window.content), Ordering::Relaxed);
        if pushed > RENEW_AFTER_BYTES {
            self.pace.pushed.store(0, Ordering::Relaxed);
            self.database.renew(state.bytes);
        }
        Ok(())
    }

    fn coarsen(&self) -> Result<(), StoreError> {
        let bound = self.settings.outbox_bytes;
        // A little below the bound, so that not every push walks.
        let slack = (bound / 16).min(256 << 10);
        let state = self.database.run("merge windows of statistics", |trees| {
            coarsen::coarsen(trees, read_state(trees)?, bound.saturating_sub(slack))
        })?;
        let futile = if state.bytes > bound { state.bytes.saturating_add(slack) } else { 0 };
        self.pace.futile_below.store(futile, Ordering::Relaxed);
        Ok(())
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
            let mut room = u64::try_from(max_bytes).unwrap_or(u64::MAX);
            let mut windows: Vec<Window> = Vec::new();
            let full = |windows: &Vec<Window>, room: u64, next: u64| {
                windows.len() >= MAX_WINDOWS || (!windows.is_empty() && next > room)
            };
            for entry in trees.outbox.range(sent_key(after.saturating_add(1))..vec![UNSENT]) {
                let bytes = entry?.1;
                if full(&windows, room, size(&bytes)) {
                    return Ok(windows);
                }
                room = room.saturating_sub(size(&bytes));
                windows.push(read_sent(&bytes)?);
            }
            let state = read_state(trees)?;
            let mut change = Change::new(state);
            for entry in trees.outbox.scan_prefix([UNSENT]) {
                let (key, bytes) = entry?;
                let waits = change.state.sent_bytes >= sent_limit && change.state.sent_bytes > 0;
                if waits || full(&windows, room, size(&bytes)) {
                    break;
                }
                room = room.saturating_sub(size(&bytes));
                let unsent = read_unsent(&bytes)?;
                let first = change.state.last_number.saturating_add(1);
                let last = change.state.last_number.saturating_add(unsent.count.max(1));
                let window = Window { first, last, release: unsent.release, content: unsent.content };
                change.remove(&key, size(&bytes));
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
            for entry in trees.outbox.range(sent_key(0)..=sent_key(stored.number)) {
                let (key, bytes) = entry?;
                if read_sent(&bytes)?.last <= stored.number {
                    change.remove(&key, size(&bytes));
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
            let state = read_state(trees)?;
            Ok(OutboxReport { windows: state.windows, bytes: state.bytes, merged: state.merged })
        })
    }
}
