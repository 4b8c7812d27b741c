//! How long to wait before the next try: doubles, saturates, is clamped, and spreads a fleet by jitter.

use std::time::Duration;

/// A schedule of waits. Pure: the caller brings the attempt number and a random number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure, before jitter.
    pub base: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Backoff {
    /// The wait before try `attempt` (0 is the first retry): between half and all of `base * 2^attempt`, clamped.
    ///
    /// `random` is any uniformly distributed number; equal inputs give equal waits.
    #[must_use]
    pub fn wait(&self, attempt: u32, random: u64) -> Duration {
        let whole = self.base.saturating_mul(2_u32.saturating_pow(attempt)).min(self.max);
        let half = whole / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half.saturating_add(Duration::from_micros(random.checked_rem(spread.saturating_add(1)).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_TO_MINUTE: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn waits_double_until_the_limit() {
        assert_eq!(SECOND_TO_MINUTE.wait(0, 0), Duration::from_millis(500));
        assert_eq!(SECOND_TO_MINUTE.wait(3, 0), Duration::from_secs(4));
        assert_eq!(SECOND_TO_MINUTE.wait(u32::MAX, 0), Duration::from_secs(30));
    }

    #[test]
    fn jitter_never_exceeds_the_limit() {
        for random in [0, 1, u64::MAX, 29_999_999, 30_000_000] {
            assert!(SECOND_TO_MINUTE.wait(40, random) <= Duration::from_secs(60));
        }
    }
}
