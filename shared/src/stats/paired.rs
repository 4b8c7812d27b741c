//! One release held against another on the same requests: what a shadow showed.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::by_version::{ByVersion, Rival};
use super::error::StatsError;
use super::latency::LatencySketch;
use super::tally::Share;

/// Absolute differences of scores, in whole millionths. Counts and the sum saturate, so merging is exact in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScoreDelta {
    /// How many were compared.
    pub n: u64,
    /// Their sum.
    pub sum_micros: u64,
    /// The largest.
    pub max_micros: u64,
}

impl ScoreDelta {
    /// Counts one difference; its sign does not matter, and NaN counts as the largest there is.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates, and it is not negative"
    )]
    pub fn insert(&mut self, delta: f64) {
        let micros = if delta.is_nan() { u64::MAX } else { (delta.abs() * 1e6).round() as u64 };
        self.n = self.n.saturating_add(1);
        self.sum_micros = self.sum_micros.saturating_add(micros);
        self.max_micros = self.max_micros.max(micros);
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
        self.max_micros = self.max_micros.max(other.max_micros);
    }

    /// The mean difference; `None` without one.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum_micros as f64 / 1e6 / self.n as f64)
    }
}

/// What another release made of requests that this one answered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Paired {
    /// Version of the other release.
    pub version: String,
    /// Rows on which both gave the same first answer, among those compared.
    pub agreed: Share,
    /// |score of the one - score of the other| of the first answers.
    pub score_delta: ScoreDelta,
    /// Time per row that this release took for these requests.
    pub latency: LatencySketch,
    /// Time per row that the other took for the same.
    pub other_latency: LatencySketch,
    /// Requests that the other failed.
    pub other_errors: u64,
    /// Requests that the other was to see and did not, because the box had no time.
    pub passed_over: u64,
}

impl Paired {
    /// One request that both answered: time per row of this release and of the other.
    pub fn answered(&mut self, latency: Duration, other: Duration) {
        self.latency.insert(latency);
        self.other_latency.insert(other);
    }

    /// One row of it: whether the first answers are the same, and by how much their scores differ.
    pub fn row(&mut self, same: bool, delta: f64) {
        self.agreed.insert(same);
        self.score_delta.insert(delta);
    }
}

impl Rival for Paired {
    fn with(version: &str) -> Self {
        Self { version: version.to_owned(), ..Self::default() }
    }
    fn version(&self) -> &str {
        &self.version
    }
    fn merge(&mut self, other: &Self) {
        self.agreed.merge(other.agreed);
        self.score_delta.merge(&other.score_delta);
        self.latency.merge(&other.latency);
        self.other_latency.merge(&other.other_latency);
        self.other_errors = self.other_errors.saturating_add(other.other_errors);
        self.passed_over = self.passed_over.saturating_add(other.passed_over);
    }
    fn validate(&self) -> Result<(), StatsError> {
        self.agreed.validate("agreeing rows")
    }
}

/// Pairs by the other release's version.
pub type Pairs = ByVersion<Paired>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_absolute_and_nan_is_the_largest() {
        let mut delta = ScoreDelta::default();
        [0.25, -0.75].into_iter().for_each(|d| delta.insert(d));
        assert_eq!((delta.mean(), delta.max_micros), (Some(0.5), 750_000));
        delta.insert(f64::NAN);
        assert_eq!((delta.n, delta.max_micros, delta.sum_micros), (3, u64::MAX, u64::MAX));
        assert_eq!(ScoreDelta::default().mean(), None);
    }
}
