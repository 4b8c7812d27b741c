//! When looks fall due: by the clock, whatever has arrived. A look that waited for reports would depend on what the
//! release does to them.

use fieldpost_shared::time::Timestamp;
use std::time::Duration;

/// The looks of one wave: at 1, 2, 4, 8, ... times `every` after `starts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// When its devices begin to count: the soak's beginning and the warm-up.
    pub starts: Timestamp,
    /// Time until the first look.
    pub every: Duration,
    /// How many there are.
    pub count: u32,
}

impl Looks {
    /// When a look, from 1, falls due.
    #[must_use]
    pub fn due(&self, look: u32) -> Timestamp {
        self.starts.plus(self.every.saturating_mul(multiple(look)))
    }

    /// The latest look that is due and has not been made; one that was missed is not made up for.
    #[must_use]
    pub fn now(&self, made: u32, now: Timestamp) -> Option<u32> {
        (made + 1..=self.count).rev().find(|look| self.due(*look) <= now)
    }
}

/// How many times `look_every` a look, from 1, comes after the start.
#[must_use]
pub fn multiple(look: u32) -> u32 {
    2_u32.saturating_pow(look.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_twice_as_far_each() {
        let at = |s: u64| Timestamp::from_millis(s * 1_000);
        let looks = Looks { starts: at(100), every: Duration::from_secs(10), count: 4 };
        assert_eq!([1, 2, 3, 4].map(|look| looks.due(look)), [110, 120, 140, 180].map(at));
        assert_eq!(looks.now(0, at(109)), None);
        assert_eq!(looks.now(0, at(110)), Some(1));
        assert_eq!(looks.now(1, at(119)), None);
        assert_eq!(looks.now(0, at(150)), Some(3), "what was missed is missed");
        assert_eq!(looks.now(4, at(1_000)), None);
    }
}
