//! Which requests a release is computing now, so that one that never comes back is noticed and held against it.

use fieldpost_shared::time::Clock;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The computations of one release, by a number of their own.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Since when, by the monotonic clock; none once it was given up.
    since: HashMap<u64, Option<Duration>>,
    hung: usize,
    ever_hung: u64,
}

/// One computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat(u64);

impl Running {
    /// A computation begins.
    pub(crate) fn begin(&self, clock: &dyn Clock) -> Seat {
        let now = clock.monotonic();
        let mut state = self.lock();
        state.next = state.next.wrapping_add(1);
        let number = state.next;
        state.since.insert(number, Some(now));
        Seat(number)
    }

    /// It came back; false when it had been given up, and was counted then.
    pub(crate) fn end(&self, seat: Seat) -> bool {
        let mut state = self.lock();
        let given_up = matches!(state.since.remove(&seat.0), Some(None));
        state.hung = state.hung.saturating_sub(usize::from(given_up));
        !given_up
    }

    /// Gives up what takes longer than `bound`; how many are given up by this call.
    pub(crate) fn give_up(&self, now: Duration, bound: Duration) -> usize {
        let mut state = self.lock();
        let mut found = 0_usize;
        for since in state.since.values_mut() {
            if since.is_some_and(|since| now.saturating_sub(since) >= bound) {
                *since = None;
                found = found.saturating_add(1);
            }
        }
        state.hung = state.hung.saturating_add(found);
        state.ever_hung = state.ever_hung.saturating_add(u64::try_from(found).unwrap_or(u64::MAX));
        found
    }

    /// Computations that were given up and still have their thread.
    pub(crate) fn hung(&self) -> usize {
        self.lock().hung
    }

    /// Whether there are some, and each was given up.
    pub(crate) fn only_hung(&self) -> bool {
        let state = self.lock();
        state.hung > 0 && state.hung == state.since.len()
    }

    /// Computations that were ever given up.
    pub(crate) fn ever_hung(&self) -> u64 {
        self.lock().ever_hung
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the table consistent, so a poisoned lock is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::time::{ManualClock, Timestamp};

    const BOUND: Duration = Duration::from_secs(30);

    #[test]
    fn a_computation_is_given_up_once_and_may_still_come_back() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let running = Running::default();
        let (slow, quick) = (running.begin(&clock), running.begin(&clock));
        clock.advance(BOUND.saturating_sub(Duration::from_millis(1)));
        assert_eq!(running.give_up(clock.monotonic(), BOUND), 0);
        assert!(running.end(quick));
        clock.advance(Duration::from_millis(1));
        assert_eq!((running.give_up(clock.monotonic(), BOUND), running.hung(), running.only_hung()), (1, 1, true));
        assert_eq!(running.give_up(clock.monotonic(), BOUND), 0);
        assert!(!running.end(slow), "it was counted when it was given up");
        assert_eq!((running.hung(), running.ever_hung()), (0, 1));
    }
}
