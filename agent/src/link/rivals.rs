//! Whether another agent runs with the same identity, as when a box was cloned: two that take the line from each other.
//!
//! A state that was put back from an older copy hears of epochs that it does not know, too: of two at most, when it starts
//! (that of the statistics and that of the sessions), and then of no more. Another agent that runs begins a later one
//! whenever it hears of ours.

use fieldpost_shared::backoff::Backoff;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So many unknown epochs are more than a state that was put back hears of.
const TELLING: usize = 3;
/// One that was not heard for so long is gone.
const MEMORY: Duration = Duration::from_secs(3_600);
/// Waits between connections while there is one, so that two do not wear the broker out.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(60), max: Duration::from_secs(900) };

/// What to tell people.
pub const ADVICE: &str = "another agent runs with this box's identity, so both keep losing the line: stop one of them \
                          and enrol it anew, with a data directory of its own";

/// What an epoch that somebody else began says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// It was known.
    Known,
    /// The state may have been put back.
    PutBack,
    /// Another agent runs.
    Rival,
}

/// Epochs of this identity that somebody else began. Cheap to share.
#[derive(Debug, Default)]
pub struct Rivals(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    epochs: BTreeSet<u64>,
    last: Duration,
    waits: u32,
}

impl Seen {
    fn forget_old(&mut self, now: Duration) {
        if now.saturating_sub(self.last) > MEMORY {
            *self = Self::default();
        }
    }
}

impl Rivals {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes notice of one. Time is monotonic, here as below.
    pub(super) fn note(&self, epoch: u64, now: Duration) -> Finding {
        let mut seen = self.seen();
        seen.forget_old(now);
        if !seen.epochs.insert(epoch) {
            return Finding::Known;
        }
        seen.last = now;
        if seen.epochs.len() > TELLING {
            seen.epochs.pop_first();
            return Finding::Rival;
        }
        if seen.epochs.len() == TELLING { Finding::Rival } else { Finding::PutBack }
    }

    /// Whether there is one.
    #[must_use]
    pub fn present(&self, now: Duration) -> bool {
        let mut seen = self.seen();
        seen.forget_old(now);
        seen.epochs.len() >= TELLING
    }

    /// How long to leave the line to the other one, if there is one.
    pub(super) fn wait(&self, now: Duration, random: u64) -> Option<Duration> {
        if !self.present(now) {
            return None;
        }
        let mut seen = self.seen();
        let wait = BACKOFF.wait(seen.waits, random);
        seen.waits = seen.waits.saturating_add(1);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(10_000);

    #[test]
    fn a_state_that_was_put_back_is_no_rival() {
        let rivals = Rivals::default();
        assert_eq!(rivals.note(5, NOW), Finding::PutBack);
        assert_eq!(rivals.note(5, NOW), Finding::Known);
        assert_eq!(rivals.note(9, NOW), Finding::PutBack);
        assert!(!rivals.present(NOW));
        assert_eq!(rivals.wait(NOW, 0), None);
    }

    #[test]
    fn who_begins_ever_later_epochs_is_one_until_nothing_is_heard_for_an_hour() {
        let rivals = Rivals::default();
        let found: Vec<_> = (1..=5).map(|epoch| rivals.note(epoch, NOW)).collect();
        assert_eq!(found, [Finding::PutBack, Finding::PutBack, Finding::Rival, Finding::Rival, Finding::Rival]);
        let waits: Vec<_> = (0..8).filter_map(|_| rivals.wait(NOW, u64::MAX / 2)).collect();
        assert!(waits[0] >= BACKOFF.base / 2 && waits[7] > waits[0] && waits[7] <= BACKOFF.max, "{waits:?}");
        assert!(rivals.present(NOW + MEMORY));
        assert!(!rivals.present(NOW + MEMORY + Duration::from_secs(1)));
        assert_eq!(rivals.note(6, NOW + 2 * MEMORY), Finding::PutBack);
    }
}
