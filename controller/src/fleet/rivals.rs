//! Whether more than one box speaks under a name, told by births of sessions that are older than the newest: pure.
//!
//! A box whose state was put back from an older copy says one or two, hears what is known of it, and goes on above that.
//! Two boxes with one identity, as when a disk was cloned, take the line from each other, and each comes back with what
//! was new before the other. Whoever can publish at the broker can play back old births as well.

use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::Sequence;
use std::collections::VecDeque;
use std::time::Duration;

/// So many different old births are more than a state that was put back says.
const TELLING: usize = 3;
/// Within this time of each other.
const MEMORY: Duration = Duration::from_secs(3_600);

/// Old births of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rivals {
    births: VecDeque<Sequence>,
    last: Timestamp,
    warned: Option<Timestamp>,
}

impl Rivals {
    /// Takes notice of the birth of a session that is older than the newest. Whether to say so: once an hour.
    #[must_use]
    pub fn note(&mut self, session: Sequence, now: Timestamp) -> bool {
        if now.since(self.last) > MEMORY {
            self.births.clear();
        }
        if self.births.contains(&session) {
            return false;
        }
        self.last = now;
        self.births.push_back(session);
        if self.births.len() > TELLING {
            self.births.pop_front();
        }
        let due = self.warned.is_none_or(|warned| now.since(warned) >= MEMORY);
        let warn = self.births.len() >= TELLING && due;
        if warn {
            self.warned = Some(now);
        }
        warn
    }

    /// When the last of them came, while they say that there are two.
    #[must_use]
    pub fn seen(&self, now: Timestamp) -> Option<Timestamp> {
        (self.births.len() >= TELLING && now.since(self.last) <= MEMORY).then_some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(rivals: &mut Rivals, epoch: u64, minute: u64) -> bool {
        rivals.note(Sequence { epoch, number: 1 }, at(minute))
    }

    fn at(minute: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + minute * 60_000)
    }

    #[test]
    fn a_state_that_was_put_back_is_one_box() {
        let mut rivals = Rivals::default();
        for minute in 0..5 {
            assert!(!note(&mut rivals, 1, minute) && !note(&mut rivals, 2, minute));
        }
        assert_eq!(rivals.seen(at(5)), None);
        assert!(!note(&mut rivals, 3, 70), "what came an hour ago is over");
        assert_eq!(rivals.seen(at(70)), None);
    }

    #[test]
    fn two_boxes_are_said_once_an_hour_and_shown_until_an_hour_without_them() {
        let mut rivals = Rivals::default();
        let said: Vec<_> = (0..20).filter(|n| note(&mut rivals, *n, n * 10)).collect();
        assert_eq!(said, [2, 8, 14]);
        assert_eq!(rivals.seen(at(200)), Some(at(190)));
        assert_eq!(rivals.seen(at(251)), None);
    }
}
