//! The time that freshness is judged by, on a box whose clock may stand in 1970.

use fieldpost_shared::time::{Clock, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The machine's clock, but never before the latest time that somebody trusted signed, plus what has passed since it was
/// heard. Everything that asks whether something has expired asks this one, so that all give the same answer.
#[derive(Debug)]
pub struct TrustedClock {
    machine: Arc<dyn Clock>,
    /// A time that was signed, and the monotonic time at which it was heard.
    signed: Mutex<Option<(Timestamp, Duration)>>,
}

impl TrustedClock {
    /// A clock that starts no earlier than `latest_signed`.
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>, latest_signed: Timestamp) -> Self {
        let signed = Mutex::new(Some((latest_signed, machine.monotonic())));
        Self { machine, signed }
    }

    /// Takes notice of a time in a statement that was believed. Never goes back.
    pub fn witness(&self, time: Timestamp) {
        let now = self.machine.monotonic();
        let mut signed = self.signed();
        if signed.is_none_or(|known| time > since(known, now)) {
            *signed = Some((time, now));
        }
    }

    /// Forgets what was signed: whoever held the controller's old keys may have signed far into the future.
    pub fn forget_signed(&self) {
        *self.signed() = None;
    }

    fn signed(&self) -> MutexGuard<'_, Option<(Timestamp, Duration)>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since((time, heard): (Timestamp, Duration), now: Duration) -> Timestamp {
    time.plus(now.saturating_sub(heard))
}

impl Clock for TrustedClock {
    fn now(&self) -> Timestamp {
        let signed = self.signed().map(|known| since(known, self.machine.monotonic()));
        signed.map_or(self.machine.now(), |signed| signed.max(self.machine.now()))
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::time::ManualClock;

    const SIGNED: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn in_1970() -> (Arc<ManualClock>, TrustedClock) {
        let machine = Arc::new(ManualClock::new(Timestamp::EPOCH));
        (Arc::clone(&machine), TrustedClock::new(machine, SIGNED))
    }

    #[test]
    fn time_goes_on_also_where_the_machines_clock_is_wrong() {
        let (machine, clock) = in_1970();
        machine.advance(HOUR);
        assert_eq!(clock.now(), SIGNED.plus(HOUR));
    }

    #[test]
    fn an_older_statement_does_not_put_it_back() {
        let (machine, clock) = in_1970();
        machine.advance(HOUR);
        clock.witness(SIGNED.plus(HOUR / 2));
        assert_eq!(clock.now(), SIGNED.plus(HOUR));
        clock.witness(SIGNED.plus(2 * HOUR));
        assert_eq!(clock.now(), SIGNED.plus(2 * HOUR));
    }

    #[test]
    fn a_right_clock_is_believed() {
        let (machine, clock) = in_1970();
        machine.jump_to(SIGNED.plus(5 * HOUR));
        assert_eq!(clock.now(), SIGNED.plus(5 * HOUR));
    }

    #[test]
    fn what_was_signed_by_a_thief_can_be_forgotten() {
        let (machine, clock) = in_1970();
        clock.witness(SIGNED.plus(1_000_000 * HOUR));
        clock.forget_signed();
        machine.jump_to(SIGNED);
        assert_eq!(clock.now(), SIGNED);
    }
}
