//! Health of a release over devices: a hard rule that two early failures satisfy.

use serde::{Deserialize, Serialize};

/// What the devices so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Too little to say.
    Undecided,
    /// As healthy as `p0`; counting has begun anew, so that later failures still count.
    Healthy,
    /// Failing like `p1`. It stays so.
    Unhealthy,
}

/// Wald's sequential probability ratio test of "a device fails with probability `p0`" against "`p1`". A device fails when it crashes,
/// fails its self-test, falls silent or rolls back by itself.
///
/// It starts over after each [`Health::Healthy`] (a repeated SPRT): a rollout is watched until it ends, and nine good canaries must not
/// excuse the wave behind them. The k-th stretch has the level `alpha / k^1.5`, so that all stretches of a fleet of any size together call
/// a release that fails with `p0` unhealthy with a probability of at most `2.62 alpha` (the union bound over stretches).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HealthTest {
    per_failure: f64,
    per_success: f64,
    unhealthy_at: f64,
    healthy_at: f64,
    ln_ratio: f64,
    stretch: u32,
    unhealthy: bool,
}

impl Default for HealthTest {
    /// p0 = 1 %, p1 = 30 %, alpha = 0.4 %, beta = 5 %: one failure never decides, two among the first five do, and nine devices without a
    /// failure are healthy.
    fn default() -> Self {
        Self::new(0.01, 0.30, 0.004, 0.05)
    }
}

impl HealthTest {
    /// A test of `p0` against a larger `p1`, which calls a healthy release unhealthy with probability about `alpha` and misses an
    /// unhealthy one with about `beta`. All four lie between 0 and 1; outside of that nothing is ever decided.
    #[must_use]
    pub fn new(p0: f64, p1: f64, alpha: f64, beta: f64) -> Self {
        Self {
            per_failure: (p1 / p0).ln(),
            per_success: ((1.0 - p1) / (1.0 - p0)).ln(),
            unhealthy_at: ((1.0 - beta) / alpha).ln(),
            healthy_at: (beta / (1.0 - alpha)).ln(),
            ln_ratio: 0.0,
            stretch: 1,
            unhealthy: false,
        }
    }

    /// Takes in one device.
    pub fn insert(&mut self, failed: bool) -> Health {
        if self.unhealthy {
            return Health::Unhealthy;
        }
        self.ln_ratio += if failed { self.per_failure } else { self.per_success };
        if self.ln_ratio >= self.border() {
            self.unhealthy = true;
            Health::Unhealthy
        } else if self.ln_ratio <= self.healthy_at {
            self.ln_ratio = 0.0;
            self.stretch = self.stretch.saturating_add(1);
            Health::Healthy
        } else {
            Health::Undecided
        }
    }

    fn border(&self) -> f64 {
        self.unhealthy_at + 1.5 * f64::from(self.stretch).ln()
    }

    /// How many times likelier what was seen in this stretch is with `p1` than with `p0`, and what of that decides.
    #[must_use]
    pub fn likelihood(&self) -> (f64, f64) {
        (self.ln_ratio.exp(), self.border().exp())
    }

    /// How many failures in a row would decide now; 0 where it is decided.
    #[must_use]
    pub fn failures_to_go(&self) -> u32 {
        let mut ahead = *self;
        let more = std::iter::from_fn(|| (!ahead.unhealthy).then(|| ahead.insert(true)));
        u32::try_from(more.take(64).count()).unwrap_or(64)
    }

    /// Whether the release was found unhealthy.
    #[must_use]
    pub fn is_unhealthy(&self) -> bool {
        self.unhealthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::Random;

    fn after(devices: &str) -> Health {
        let mut test = HealthTest::default();
        devices.chars().map(|device| test.insert(device == 'x')).last().unwrap()
    }

    #[test]
    fn one_failure_never_decides() {
        assert_eq!(after("x"), Health::Undecided);
    }

    #[test]
    fn two_failures_among_the_first_five_decide_in_any_order() {
        for devices in ["xx", "x.x", ".xx", "..x.x", "x...x", "...xx"] {
            assert_eq!(after(devices), Health::Unhealthy, "{devices}");
        }
    }

    #[test]
    fn the_second_failure_at_the_sixth_device_does_not_yet() {
        assert_eq!(after("x....x"), Health::Undecided);
    }

    #[test]
    fn nine_devices_without_a_failure_are_healthy_and_excuse_nobody() {
        assert_eq!(after("........."), Health::Healthy);
        assert_eq!(after(".........x.x"), Health::Undecided, "the second stretch asks for a little more");
        assert_eq!(after(".........xx"), Health::Unhealthy);
        assert_eq!(after(".........x.xx"), Health::Unhealthy);
    }

    #[test]
    fn what_would_decide_is_told() {
        let to_go = |devices: &str| {
            let mut test = HealthTest::default();
            for device in devices.chars() {
                test.insert(device == 'x');
            }
            test.failures_to_go()
        };
        assert_eq!((to_go(""), to_go("x"), to_go("xx"), to_go("x....")), (2, 1, 0, 2));
        let mut test = HealthTest::default();
        test.insert(true);
        let (ratio, border) = test.likelihood();
        assert!((ratio - 30.0).abs() < 1e-9 && (border - 0.95 / 0.004).abs() < 1e-9, "{ratio} {border}");
    }

    #[test]
    fn unhealthy_stays_so() {
        assert_eq!(after("xx................"), Health::Unhealthy);
    }

    #[test]
    fn a_healthy_release_is_stopped_in_less_than_one_of_two_hundred_rollouts() {
        let mut random = Random::new(1);
        let stopped = |random: &mut Random, p: f64| {
            let mut test = HealthTest::default();
            (0..50).any(|_| test.insert(random.uniform() < p) == Health::Unhealthy)
        };
        let harmless = (0..4000).filter(|_| stopped(&mut random, 0.005)).count();
        let harmful = (0..1000).filter(|_| stopped(&mut random, 0.30)).count();
        assert!(harmless < 40 && harmful > 990, "{harmless} of 4000, {harmful} of 1000");
    }

    #[test]
    fn a_fleet_of_thousands_does_not_stop_a_release_that_fails_as_seldom_as_may_be() {
        let mut random = Random::new(2);
        let stopped = |random: &mut Random, healthy: u32, p: f64| {
            let mut test = HealthTest::default();
            for _ in 0..healthy {
                test.insert(false);
            }
            (0..5_000).position(|_| test.insert(random.uniform() < p) == Health::Unhealthy)
        };
        let harmless = (0..1_000).filter(|_| stopped(&mut random, 0, 0.01).is_some()).count();
        assert!(harmless < 10, "{harmless} of 1000");
        // Harm that begins behind two thousand healthy devices is found within some dozens.
        let mut found: Vec<usize> = (0..200).filter_map(|_| stopped(&mut random, 2_000, 0.30)).collect();
        found.sort_unstable();
        assert!(found.len() == 200 && found[190] < 60, "{found:?}");
    }
}
