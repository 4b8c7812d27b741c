//! One release held against another on the same requests: what a shadow showed.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::error::{StatsError, at_most};
use super::latency::LatencySketch;
use super::tally::Share;

/// Other releases that one window may hold pairs with.
pub const MAX_RIVALS: usize = 16;

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
    /// Nothing yet, with a version.
    #[must_use]
    pub fn with(version: impl Into<String>) -> Self {
        Self { version: version.into(), ..Self::default() }
    }

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

    fn merge(&mut self, other: &Self) {
        self.agreed.merge(other.agreed);
        self.score_delta.merge(&other.score_delta);
        self.latency.merge(&other.latency);
        self.other_latency.merge(&other.other_latency);
        self.other_errors = self.other_errors.saturating_add(other.other_errors);
        self.passed_over = self.passed_over.saturating_add(other.passed_over);
    }
}

/// Pairs by the other release's version, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pairs(Vec<Paired>);

impl Pairs {
    /// The pairs with a version; `None` when there are so many others that it has no place.
    pub fn with(&mut self, version: &str) -> Option<&mut Paired> {
        let at = match self.0.binary_search_by(|paired| paired.version.as_str().cmp(version)) {
            Ok(at) => at,
            Err(_full) if self.0.len() >= MAX_RIVALS => return None,
            Err(at) => {
                self.0.insert(at, Paired::with(version));
                at
            }
        };
        self.0.get_mut(at)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Paired> {
        self.0.iter()
    }

    /// Whether nothing was compared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what `other` counted.
    ///
    /// # Errors
    /// [`StatsError::TooMany`] when both together have too many versions.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        for theirs in &other.0 {
            let found = self.0.len() + 1;
            let full = StatsError::TooMany { what: "versions compared", found, limit: MAX_RIVALS };
            self.with(&theirs.version).ok_or(full)?.merge(theirs);
        }
        Ok(())
    }

    pub(crate) fn validate(&self, name_bytes: usize) -> Result<(), StatsError> {
        at_most("versions compared", self.0.len(), MAX_RIVALS)?;
        if !self.0.iter().is_sorted_by(|a, b| a.version < b.version) {
            return Err(StatsError::Inconsistent { what: "versions compared" });
        }
        self.0.iter().try_for_each(|paired| {
            at_most("bytes of a version", paired.version.len(), name_bytes)?;
            paired.agreed.validate("agreeing rows")
        })
    }
}

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

    #[test]
    fn pairs_are_kept_by_version_and_merged_by_it() {
        let mut one = Pairs::default();
        one.with("1.1.0").unwrap().row(true, 0.5);
        let mut other = Pairs::default();
        other.with("1.0.0").unwrap().row(false, 0.5);
        other.with("1.1.0").unwrap().row(false, 0.0);
        one.merge(&other).unwrap();
        let found: Vec<(&str, Share)> = one.iter().map(|p| (p.version.as_str(), p.agreed)).collect();
        assert_eq!(found, [("1.0.0", Share { hits: 0, n: 1 }), ("1.1.0", Share { hits: 1, n: 2 })]);
        one.validate(128).unwrap();
    }

    #[test]
    fn there_is_an_end_to_the_versions() {
        let mut pairs = Pairs::default();
        (0..MAX_RIVALS).for_each(|n| assert!(pairs.with(&format!("1.{n}.0")).is_some()));
        assert!(pairs.with("2.0.0").is_none());
        assert!(pairs.with("1.0.0").is_some(), "a known one has its place");
        let mut other = Pairs::default();
        other.with("2.0.0");
        assert!(pairs.merge(&other).is_err());
    }

    #[test]
    fn pairs_out_of_order_are_refused() {
        let pairs = Pairs(vec![Paired::with("b"), Paired::with("a")]);
        assert!(pairs.validate(128).is_err());
        assert!(Pairs(vec![Paired::with("a"), Paired::with("a")]).validate(128).is_err());
    }
}
