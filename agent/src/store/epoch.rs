//! The epoch of the numbers that this process gives: a new one at each start, so that a state that was put back from an
//! older copy never gives a number that was given before.
//!
//! It is the time in milliseconds at which it began, and always later than the one before it. A clock that stands still,
//! as in a box without one, leaves two copies of a state the same choice; so a part of it is random.

use super::meta;
use super::{StoreError, last_epoch, outbox};
use crate::store::Store;
use crate::store::database::Database;
use fieldpost_shared::durable;
use fieldpost_shared::time::{Clock, Timestamp};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps the epoch beside the database, so that a new database after damage begins a later one even when the clock
/// has gone back.
pub(super) const EPOCH_FILE: &str = "db.epoch";
/// What an acknowledgement says of an epoch from here on moves nothing: a thief of the controller's key could leave no
/// later one.
pub(super) const MAX_EPOCH: u64 = 1 << 63;
/// Random part where the clock says when it is.
const SPREAD: u64 = 1 << 10;
/// Random part where it does not: about 17 minutes.
const WIDE_SPREAD: u64 = 1 << 20;

/// An epoch later than `before`.
fn draw(before: u64, now: Timestamp) -> u64 {
    let mut bytes = [0; 8];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::warn!(%error, "no random numbers: a copy of this box's state may give the same ones");
    }
    let random = u64::from_le_bytes(bytes);
    match now.as_millis() {
        now if now > before && now < MAX_EPOCH => now.saturating_add(random % SPREAD),
        _ => before.saturating_add(1).saturating_add(random % WIDE_SPREAD),
    }
}

#[derive(Debug)]
struct State {
    current: u64,
    /// Whether the disk has it.
    durable: bool,
    /// The last one before this start.
    before: u64,
    /// Those of this process.
    drawn: BTreeSet<u64>,
}

/// The epochs of one process.
#[derive(Debug)]
pub(super) struct Epochs(Mutex<State>);

impl Epochs {
    /// Chooses one; whether the database is new is the second value. It is on disk before a number of it is given, and
    /// not sooner: a box starts on a full disk.
    pub(super) fn open(database: &Database, data: &Path, clock: &dyn Clock) -> Result<(Self, bool), StoreError> {
        let (known, latest_signed) = database
            .run("read the epoch", |trees| Ok((meta::read_epoch(trees)?, meta::read_known(trees)?.latest_signed)))?;
        let current = match known {
            Some(before) => draw(before, clock.now().max(latest_signed)),
            None => clock.now().as_millis().max(last_epoch(data).saturating_add(1)),
        };
        // What a store that was lost said is its past, too.
        let before = known.unwrap_or(current.saturating_sub(1));
        let state = State { current, durable: false, before, drawn: BTreeSet::from([current]) };
        let epochs = Self(Mutex::new(state));
        if known.is_none() {
            epochs.begun(database, data)?;
        }
        Ok((epochs, known.is_none()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn current(&self) -> u64 {
        self.state().current
    }

    /// The current epoch, durable on return.
    pub(super) fn begun(&self, database: &Database, data: &Path) -> Result<u64, StoreError> {
        let mut state = self.state();
        let current = state.current;
        if !state.durable {
            durable::write_atomic(data, EPOCH_FILE, current.to_string().as_bytes())
                .map_err(|source| StoreError::durable("keep the epoch", database.path(), source))?;
            database.run("begin the epoch", |trees| {
                // An agent before this one gave the outbox's numbers in the epoch that stood there.
                outbox::keep_epoch(trees, meta::read_epoch(trees)?.unwrap_or(current))?;
                meta::write_epoch(trees, current)
            })?;
            state.durable = true;
        }
        Ok(current)
    }
}

/// What the controller's word on an epoch shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Nobody with this state can have said anything in it: another copy of the state did.
    pub(super) foreign: bool,
    /// It was later than ours, so that a later one has begun here.
    pub(super) overtaken: bool,
}

impl Store {
    /// Takes notice of an epoch that the controller has heard, and begins a later one where ours is not.
    pub(super) fn hear_epoch(&self, heard: u64, now: Timestamp) -> Word {
        let mut state = self.epochs.state();
        if heard <= state.before || heard >= MAX_EPOCH || state.drawn.contains(&heard) {
            return Word::default();
        }
        let overtaken = heard > state.current;
        if overtaken {
            state.current = draw(heard, now);
            state.durable = false;
            let current = state.current;
            state.drawn.insert(current);
        }
        Word { foreign: true, overtaken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_follows_whatever_the_clock_says() {
        let at = Timestamp::from_millis;
        for _ in 0..50 {
            assert!((2_000..2_000 + SPREAD).contains(&draw(1_000, at(2_000))));
            assert!((1_001..1_001 + WIDE_SPREAD).contains(&draw(1_000, at(0))));
        }
        assert_ne!(draw(1_000, at(0)), draw(1_000, at(0)), "once in a million runs this fails by chance");
    }
}
