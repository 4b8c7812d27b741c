//! Windows of statistics until a signed acknowledgement covers them.
//!
//! A window gets its number when it is first handed out to be sent, and is never merged from then on: the controller may
//! have it already, and would count it twice. Windows that were not handed out yet are merged when the outbox is over its
//! bound. Nothing is ever dropped: a few windows per release always stay, however small the bound.
//!
//! Each process numbers in an epoch of its own (see [`super::epoch`]), from 1, once nothing has a number of an earlier one.

mod change;
mod coarsen;
mod open;
mod sent;

pub use sent::{Acknowledged, Pending};

pub(super) use change::keep_epoch;

use super::database::Trees;
use super::error::{Cause, StoreError};
use super::{Store, reserve};
use change::{Change, Unsent, open_key, read_epoch, read_state, read_unsent, size, unsent_key};
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::wire::v1::OutboxReport;
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
    read_epoch(trees)?;
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
