//! Windows that are still open, as they were a few seconds ago: what a death would lose otherwise.

use super::change::{Change, OPEN, Unsent, open_key, read_open, read_state, write_open};
use super::{MAX_WINDOW_BYTES, Store, StoreError, reserve};
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::stats::WindowStats;

/// Most open windows on the disk. A box has one per model; older ones only wait for the outbox to take them.
const MAX_OPEN: usize = 64;

impl Store {
    /// Puts an open window on the disk, in place of what it was before. [`Store::push`] of the same window takes it away.
    ///
    /// # Errors
    /// When it is too large for any message, the disk is (nearly) full, or the database does not take it.
    pub fn checkpoint(&self, release: &ReleaseRef, content: &WindowStats) -> Result<(), StoreError> {
        let window = Unsent { release: release.clone(), count: 1, content: content.encode() };
        if window.content.len() > MAX_WINDOW_BYTES {
            return Err(StoreError::WindowTooLarge { bytes: window.content.len(), max: MAX_WINDOW_BYTES });
        }
        reserve::take(&self.data)?;
        let key = open_key(release, content.opened_ms);
        self.database.run("keep an open window of statistics", |trees| {
            let known = trees.outbox.contains_key(&key)?;
            if known || trees.outbox.scan_prefix([OPEN]).count() < MAX_OPEN {
                trees.outbox.insert(key.as_slice(), write_open(&window)?)?;
                trees.flush()?;
            }
            Ok(())
        })
    }

    /// Turns the windows that were open when the process died into closed ones of the outbox, all or none; for the start.
    /// Gives how many there were.
    ///
    /// # Errors
    /// When the database does not read or take them; they stay for the next start.
    pub fn recover_windows(&self) -> Result<u64, StoreError> {
        self.database.run("recover open windows of statistics", |trees| {
            let mut change = Change::new(read_state(trees)?);
            let mut found = 0_u64;
            for entry in trees.outbox.scan_prefix([OPEN]) {
                let (key, bytes) = entry?;
                change.forget(&key);
                change.put_unsent(0, change.state.next_order, &read_open(&bytes)?)?;
                change.state.next_order = change.state.next_order.saturating_add(1);
                found = found.saturating_add(1);
            }
            if found > 0 {
                change.apply(trees)?;
            }
            Ok(found)
        })
    }
}
