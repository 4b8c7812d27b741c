//! The `[trial]` table of a strategy.

use super::metric::Metric;
use crate::rollout::duration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Fewest paths: with fewer a level of 1 % is three paths.
pub const LEAST_PATHS: u32 = 1_999;
/// Most paths.
pub const MOST_PATHS: u32 = 99_999;
/// Most looks of one wave: the last one is at 2^15 times the first.
pub const MOST_LOOKS: u32 = 16;
/// Error rate that is acceptable where neither the strategy nor the bundle says.
pub const ACCEPTABLE_ERRORS: f64 = 0.01;
/// Share of requests that are slower than a device's own p95 before, when nothing has changed.
pub const SLOW: f64 = 0.05;
/// Drift that is acceptable where the strategy does not say.
pub const ACCEPTABLE_DRIFT: f64 = 0.05;

/// How the probability of a false rollback is shared among metrics; sums to 1. A metric that a rollout cannot have
/// gives its share to the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shares {
    /// Failed requests.
    pub errors: f64,
    /// Slow requests.
    pub latency: f64,
    /// Distance of the outputs from the baseline.
    pub drift: f64,
    /// Wrong answers.
    pub accuracy: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Self { errors: 0.4, latency: 0.3, drift: 0.2, accuracy: 0.1 }
    }
}

impl Shares {
    /// The share of a metric.
    #[must_use]
    pub const fn of(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Errors => self.errors,
            Metric::Latency => self.latency,
            Metric::Drift => self.drift,
            Metric::Accuracy => self.accuracy,
        }
    }

    /// The shares of some of the metrics, so that they sum to 1; a metric without a share is not among them.
    #[must_use]
    pub fn among(&self, metrics: impl Iterator<Item = Metric>) -> BTreeMap<Metric, f64> {
        let present: BTreeMap<Metric, f64> = metrics.map(|m| (m, self.of(m))).filter(|(_, s)| *s > 0.0).collect();
        let sum: f64 = present.values().sum();
        present.into_iter().map(|(metric, share)| (metric, share / sum)).collect()
    }
}

/// Levels of harm that nobody minds: a wave also passes on a metric whose upper bound is below.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Acceptable {
    /// Share of failed requests; none takes the bundle's `error_rate`, else 1 %. 0 leaves it to the comparison alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// Share of requests slower than the device's own p95 before; none is `margin` times the 5 % that it was then. 0
    /// leaves it to the comparison alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
    /// Distance of the outputs from the baseline; none is 0.05. 0 leaves it to the comparison alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    /// Share of wrong answers; none leaves it to the comparison alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// How the experiment is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Probability of rolling back a harmless release, over the whole rollout.
    pub alpha: f64,
    /// Probability of passing a wave with a release that is `margin` times worse.
    pub beta: f64,
    /// How many times worse is too much.
    pub margin: f64,
    /// Orders that the observed one is compared with.
    pub permutations: u32,
    /// How alpha is shared.
    pub shares: Shares,
    /// What nobody minds.
    pub acceptable: Acceptable,
    /// Looks of a wave, at 1, 2, 4, 8, ... times `look_every`.
    pub looks: u32,
    /// Time until the first look; none is the soak, or one and a half times as long as the fleet's windows if that is longer.
    #[serde(skip_serializing_if = "Option::is_none", with = "duration::optional")]
    pub look_every: Option<Duration>,
    /// How long after the soak began nothing counts yet, for all devices alike; none is twice the fleet's windows.
    #[serde(skip_serializing_if = "Option::is_none", with = "duration::optional")]
    pub warm_up: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            beta: 0.05,
            margin: 1.5,
            permutations: LEAST_PATHS,
            shares: Shares::default(),
            acceptable: Acceptable::default(),
            looks: 5,
            look_every: None,
            warm_up: None,
        }
    }
}

impl Settings {
    /// What cannot be used: the field, what it may be, and what was given.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str, String)> {
        let inside = |value: f64| value > 0.0 && value <= 0.5;
        let shares = Metric::ALL.map(|metric| self.shares.of(metric));
        let Acceptable { errors, latency, drift, accuracy } = self.acceptable;
        let levels = [errors, latency, drift, accuracy];
        let sum: f64 = shares.iter().sum();
        if !inside(self.alpha) {
            return Some(("trial.alpha", "above 0 and at most 0.5", self.alpha.to_string()));
        }
        if !inside(self.beta) {
            return Some(("trial.beta", "above 0 and at most 0.5", self.beta.to_string()));
        }
        if !(self.margin > 1.0 && self.margin.is_finite()) {
            return Some(("trial.margin", "a finite number above 1", self.margin.to_string()));
        }
        if !(LEAST_PATHS..=MOST_PATHS).contains(&self.permutations) {
            return Some(("trial.permutations", "1999 to 99999", self.permutations.to_string()));
        }
        if self.alpha <= 0.01 && self.permutations < 9_999 {
            return Some((
                "trial.permutations",
                "at least 9999 for an alpha of 1 % or less",
                self.permutations.to_string(),
            ));
        }
        if !shares.iter().all(|share| (0.0..=1.0).contains(share)) || (sum - 1.0).abs() > 1e-6 {
            return Some(("trial.shares", "shares of 0 to 1 that sum to 1", format!("a sum of {sum}")));
        }
        if self.shares.errors <= 0.0 {
            return Some((
                "trial.shares.errors",
                "above 0: every rollout is judged by it",
                self.shares.errors.to_string(),
            ));
        }
        if let Some(level) = levels.into_iter().flatten().find(|level| !(0.0..1.0).contains(level)) {
            return Some(("trial.acceptable", "shares of at least 0 and below 1", level.to_string()));
        }
        if !(1..=MOST_LOOKS).contains(&self.looks) {
            return Some(("trial.looks", "1 to 16", self.looks.to_string()));
        }
        if self.look_every.is_some_and(|every| every.is_zero()) {
            return Some(("trial.look_every", "longer than 0s", "0s".to_owned()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edit: impl FnOnce(&mut Settings), field: Option<&str>) {
        let mut settings = Settings::default();
        edit(&mut settings);
        assert_eq!(settings.fault().map(|(field, ..)| field), field);
    }

    #[test]
    fn what_cannot_be_is_named() {
        check(|_| (), None);
        check(|s| s.alpha = 0.0, Some("trial.alpha"));
        check(|s| s.alpha = f64::NAN, Some("trial.alpha"));
        check(|s| s.beta = 0.6, Some("trial.beta"));
        check(|s| s.margin = 1.0, Some("trial.margin"));
        check(|s| s.permutations = 99, Some("trial.permutations"));
        check(|s| s.alpha = 0.01, Some("trial.permutations"));
        check(|s| s.shares.drift = 0.3, Some("trial.shares"));
        check(
            |s| s.shares = Shares { errors: 0.0, latency: 0.7, drift: 0.2, accuracy: 0.1 },
            Some("trial.shares.errors"),
        );
        check(|s| s.acceptable.errors = Some(1.0), Some("trial.acceptable"));
        check(|s| s.looks = 0, Some("trial.looks"));
        check(|s| s.look_every = Some(Duration::ZERO), Some("trial.look_every"));
    }

    #[test]
    fn an_absent_metric_gives_its_share_to_the_others() {
        let shares = Shares::default().among([Metric::Errors, Metric::Latency].into_iter());
        assert!((shares[&Metric::Errors] - 4.0 / 7.0).abs() < 1e-12);
        assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
