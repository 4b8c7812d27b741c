//! Windows that have a number: handed out to be sent, and deleted when a signed acknowledgement covers them.

use super::change::{Change, UNSENT, read_epoch, read_sent, read_state, read_unsent, sent_key, size};
use super::{Store, StoreError};
use crate::store::database::Trees;
use crate::store::epoch::MAX_EPOCH;
use crate::store::error::Cause;
use crate::store::meta;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{MAX_WINDOWS, Sequence, Window};

/// Windows to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The epoch of their numbers.
    pub epoch: u64,
    /// Oldest first, without gaps.
    pub windows: Vec<Window>,
}

/// What an acknowledgement led to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Windows that went.
    pub gone: usize,
    /// Windows that got other numbers, since the controller takes none of their epoch any more.
    pub renumbered: usize,
    /// It names an epoch that this state never gave and cannot have forgotten: another copy of it has spoken.
    pub foreign: bool,
    /// That epoch was later than ours: a still later one has begun, for the next session.
    pub overtaken: bool,
}

/// The epoch of the numbers that stand there.
fn epoch(trees: &Trees, otherwise: u64) -> Result<u64, Cause> {
    Ok(match read_epoch(trees)? {
        Some(epoch) => epoch,
        None => meta::read_epoch(trees)?.unwrap_or(otherwise),
    })
}

impl Store {
    /// The windows after number `after`, oldest first, without gaps: at most [`MAX_WINDOWS`], and of at most `max_bytes`
    /// apart from the first. What has no number yet gets one, durably, before this returns; so whatever was returned may
    /// be sent at once and will never be merged.
    ///
    /// To keep most of a full outbox mergeable, nothing new is handed out while a quarter of its bound is unacknowledged;
    /// and none while one has a number of an earlier epoch.
    ///
    /// # Errors
    /// When the database does not read or take it.
    pub fn pending(&self, after: u64, max_bytes: usize) -> Result<Pending, StoreError> {
        let sent_limit = self.settings.outbox_bytes / 4;
        let current = self.begun_epoch()?;
        self.database.run("hand out windows of statistics", |trees| {
            let epoch = epoch(trees, current)?;
            let mut room = u64::try_from(max_bytes).unwrap_or(u64::MAX);
            let mut windows: Vec<Window> = Vec::new();
            let full = |windows: &Vec<Window>, room: u64, next: u64| {
                windows.len() >= MAX_WINDOWS || (!windows.is_empty() && next > room)
            };
            for entry in trees.outbox.range(sent_key(after.saturating_add(1))..vec![UNSENT]) {
                let bytes = entry?.1;
                if full(&windows, room, size(&bytes)) {
                    return Ok(Pending { epoch, windows });
                }
                room = room.saturating_sub(size(&bytes));
                windows.push(read_sent(&bytes)?);
            }
            let state = read_state(trees)?;
            let mut change = Change::new(state);
            if epoch != current {
                if trees.outbox.range(sent_key(0)..vec![UNSENT]).next().transpose()?.is_some() {
                    return Ok(Pending { epoch, windows });
                }
                change.begin(current)?;
            }
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
            if !windows.is_empty() && change.state != state {
                change.apply(trees)?;
            }
            Ok(Pending { epoch: current, windows })
        })
    }

    /// Deletes the windows that an acknowledgement covers; one of another epoch covers none. `now` is the trusted time.
    ///
    /// An acknowledgement of a later epoch than that of the numbers here is about windows of another copy of this state:
    /// the controller takes no more of ours. They get numbers of the current epoch, so that none is lost; one that was
    /// stored, and whose acknowledgement this copy never saw, is counted twice then. A number of 0 says only that the
    /// epoch was heard of, and that nothing of it is stored.
    ///
    /// # Errors
    /// When the database does not take it; the windows are then sent again, and acknowledged again.
    pub fn acknowledge(&self, stored: Sequence, now: Timestamp) -> Result<Acknowledged, StoreError> {
        let word = self.hear_epoch(stored.epoch, now);
        let told = Acknowledged { foreign: word.foreign, overtaken: word.overtaken, ..Acknowledged::default() };
        let of = self.database.run("read the epoch", |trees| epoch(trees, self.epoch()))?;
        if stored.epoch == of {
            return Ok(Acknowledged { gone: self.delete_to(stored.number)?, ..told });
        }
        if stored.epoch > of && stored.number > 0 && stored.epoch < MAX_EPOCH {
            return Ok(Acknowledged { renumbered: self.renumber()?, ..told });
        }
        Ok(told)
    }

    fn delete_to(&self, number: u64) -> Result<usize, StoreError> {
        self.database.run("delete acknowledged windows", |trees| {
            let mut change = Change::new(read_state(trees)?);
            let mut gone = 0_usize;
            for entry in trees.outbox.range(sent_key(0)..=sent_key(number)) {
                let (key, bytes) = entry?;
                if read_sent(&bytes)?.last <= number {
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

    /// Gives all windows that have a number others, from 1, in the current epoch. Gives how many there were.
    fn renumber(&self) -> Result<usize, StoreError> {
        let current = self.begun_epoch()?;
        self.database.run("number windows of statistics anew", |trees| {
            let sent: Vec<_> = trees.outbox.range(sent_key(0)..vec![UNSENT]).collect::<Result<_, _>>()?;
            let mut change = Change::new(read_state(trees)?);
            change.begin(current)?;
            for (key, bytes) in &sent {
                change.remove(key, size(bytes));
            }
            for (_, bytes) in &sent {
                let window = read_sent(bytes)?;
                let first = change.state.last_number.saturating_add(1);
                let last = first.saturating_add(window.last.saturating_sub(window.first));
                change.put_sent(&Window { first, last, ..window })?;
                change.state.last_number = last;
            }
            change.apply(trees)?;
            Ok(sent.len())
        })
    }
}
