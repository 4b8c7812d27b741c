//! Durations with a bound on the relative error, mergeable to the last bit.

use std::time::Duration;

use super::compact::{Reader, compact_serde, put, put_runs};
use super::error::{StatsError, at_most};

/// Relative error of a quantile.
pub const ALPHA: f64 = 0.02;
/// (1 + alpha) / (1 - alpha).
const GAMMA: f64 = (1.0 + ALPHA) / (1.0 - ALPHA);
/// Longer durations count as this: 2^36 microseconds, 19 hours.
const LONGEST_US: u64 = 1 << 36;
/// Most bins: one for zero, one for each power of gamma up to [`LONGEST_US`].
const MAX_BINS: usize = 626;

/// A log-gamma histogram of durations in whole microseconds (the mapping of DDSketch, Masson et al. 2019, equation 3, alpha = 0.02,
/// without collapsing: 626 bins reach from 1 us to 19 h, longer ones are clamped).
///
/// Bin 0 is zero; bin `1 + i` is `(gamma^(i-1), gamma^i]` microseconds. Counts and the sum are u64 and saturate, so merging is exact
/// in any order. A duration that lies within a rounding error of a bin's edge may fall on either side on different processors; both
/// answers are within the error bound. Compact form v1: the counts up to the last one (zeros run-length coded), sum, maximum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatencySketch {
    /// Counts without trailing zeros.
    bins: Vec<u64>,
    sum_us: u64,
    max_us: u64,
}

impl LatencySketch {
    /// A sketch of `values` in microseconds.
    #[must_use]
    pub fn of_us(values: &[u64]) -> Self {
        let mut sketch = Self::default();
        values.iter().for_each(|v| sketch.insert_us(*v));
        sketch
    }

    /// Counts one duration, rounded down to microseconds.
    pub fn insert(&mut self, duration: Duration) {
        self.insert_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one duration in microseconds.
    pub fn insert_us(&mut self, us: u64) {
        self.insert_us_times(us, 1);
    }

    /// Counts `times` durations of so many microseconds each.
    pub fn insert_us_times(&mut self, us: u64, times: u64) {
        if times == 0 {
            return;
        }
        let us = us.min(LONGEST_US);
        let bin = bin_of(us);
        if bin >= self.bins.len() {
            self.bins.resize(bin + 1, 0);
        }
        if let Some(count) = self.bins.get_mut(bin) {
            *count = count.saturating_add(times);
        }
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(times));
        self.max_us = self.max_us.max(us);
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        if other.bins.len() > self.bins.len() {
            self.bins.resize(other.bins.len(), 0);
        }
        for (mine, theirs) in self.bins.iter_mut().zip(&other.bins) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Number of durations.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.bins.iter().copied().fold(0, u64::saturating_add)
    }

    /// The duration of rank `ceil(q n)` (the lower quantile, numpy's `inverted_cdf`), within [`ALPHA`] of it; `None` without one.
    /// `q` is clamped to [0, 1]; NaN counts as 0.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is within 1..=n")]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let n = self.n();
        if n == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * n as f64).ceil() as u64).clamp(1, n);
        let mut seen = 0u64;
        for (bin, count) in self.bins.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= rank {
                return Some(Duration::from_nanos((centre_us(bin) * 1000.0).round() as u64));
            }
        }
        None
    }

    /// Share of durations longer than `limit`, where those within [`ALPHA`] of it may count either way; `None` without one.
    #[must_use]
    pub fn share_above(&self, limit: Duration) -> Option<f64> {
        let n = self.n();
        (n > 0).then(|| self.above(limit) as f64 / n as f64)
    }

    /// Number of durations longer than `limit`, where those within [`ALPHA`] of it may count either way.
    #[must_use]
    pub fn above(&self, limit: Duration) -> u64 {
        let bin = bin_of(u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).min(LONGEST_US));
        self.bins.iter().skip(bin + 1).copied().fold(0, u64::saturating_add)
    }

    /// Sum of all durations, each exact to the microsecond (and clamped at 19 h).
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// Mean; `None` without one.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum_us.checked_div(self.n()).map(Duration::from_micros)
    }

    /// The longest one, exact to the microsecond (and clamped at 19 h); `None` without one.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (!self.bins.is_empty()).then(|| Duration::from_micros(self.max_us))
    }

    /// The compact form v1.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_runs(&mut out, &self.bins, |n| *n, |_, _| ());
        put(&mut out, self.sum_us);
        put(&mut out, self.max_us);
        out
    }

    /// Reads the compact form v1.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StatsError> {
        let mut reader = Reader::new("latency bins", bytes);
        let bins = reader.take_runs(MAX_BINS, |n, _| Ok(n))?;
        let (sum_us, max_us) = (reader.take()?, reader.take()?);
        reader.end()?;
        Self::try_from(Readable { bins, sum_us, max_us })
    }
}

/// The bin of a duration of at most [`LONGEST_US`].
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the logarithm of 1..=2^36 to gamma is within 0..=624"
)]
fn bin_of(us: u64) -> usize {
    if us == 0 { 0 } else { 1 + ((us as f64).ln() / GAMMA.ln()).ceil() as usize }
}

/// The value within [`ALPHA`] of everything in `bin`.
fn centre_us(bin: usize) -> f64 {
    match bin {
        0 => 0.0,
        bin => 2.0 * GAMMA.powf((bin - 1) as f64) / (GAMMA + 1.0),
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Readable {
    bins: Vec<u64>,
    sum_us: u64,
    max_us: u64,
}

impl From<&LatencySketch> for Readable {
    fn from(s: &LatencySketch) -> Self {
        Self { bins: s.bins.clone(), sum_us: s.sum_us, max_us: s.max_us }
    }
}

impl TryFrom<Readable> for LatencySketch {
    type Error = StatsError;

    fn try_from(mut r: Readable) -> Result<Self, StatsError> {
        at_most("latency bins", r.bins.len(), MAX_BINS)?;
        r.bins.truncate(r.bins.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1));
        if r.max_us > LONGEST_US || (r.bins.is_empty() && r.sum_us > 0) {
            return Err(StatsError::Inconsistent { what: "latencies" });
        }
        Ok(Self { bins: r.bins, sum_us: r.sum_us, max_us: r.max_us })
    }
}

compact_serde!(LatencySketch, Readable);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::Random;
    use proptest::prelude::*;

    #[test]
    fn many_at_once_are_many_one_by_one() {
        let mut at_once = LatencySketch::default();
        for (us, times) in [(0, 2), (90, 3), (70_000, 0), (u64::MAX, 1)] {
            at_once.insert_us_times(us, times);
        }
        assert_eq!(at_once, LatencySketch::of_us(&[90, 0, u64::MAX, 90, 0, 90]));
    }

    #[test]
    fn the_longest_duration_is_in_the_last_bin() {
        assert_eq!((bin_of(LONGEST_US), bin_of(1), bin_of(0)), (MAX_BINS - 1, 1, 0));
    }

    #[test]
    fn an_empty_sketch_has_no_quantile_no_mean_and_no_share() {
        let s = LatencySketch::default();
        assert_eq!((s.quantile(0.5), s.mean(), s.max(), s.share_above(Duration::ZERO)), (None, None, None, None));
    }

    #[test]
    fn a_day_counts_as_nineteen_hours() {
        let mut s = LatencySketch::default();
        s.insert(Duration::from_secs(86_400));
        assert_eq!(s.max(), Some(Duration::from_micros(LONGEST_US)));
    }

    #[test]
    fn five_hundred_lognormal_latencies_encode_below_160_bytes() {
        let mut random = Random::new(3);
        let mut s = LatencySketch::default();
        (0..500).for_each(|_| s.insert(Duration::from_secs_f64(0.005 * (0.4 * random.normal()).exp())));
        assert!(s.encode().len() < 160, "{}", s.encode().len());
    }

    #[test]
    fn share_above_its_own_p95_is_five_percent() {
        let values: Vec<u64> = (1..=10_000).collect();
        let s = LatencySketch::of_us(&values);
        let share = s.share_above(s.quantile(0.95).unwrap()).unwrap();
        assert!((share - 0.05).abs() <= 0.04, "{share}");
    }

    #[test]
    fn trailing_zeros_do_not_make_two_equal_sketches_differ() {
        let s = LatencySketch::decode(&[3, 5, 0, 1, 0, 0]).unwrap();
        assert_eq!(s, LatencySketch::of_us(&[0; 5]));
    }

    proptest! {
        #[test]
        fn every_quantile_is_within_two_percent(values in prop::collection::vec(0u64..LONGEST_US, 1..100), q in 0.0..=1.0f64) {
            let s = LatencySketch::of_us(&values);
            let mut sorted = values;
            sorted.sort_unstable();
            // The first whose share of values up to it reaches q.
            let truth = (1..=sorted.len()).find(|rank| *rank as f64 >= q * sorted.len() as f64).map(|rank| sorted[rank - 1]).unwrap() as f64;
            let found = s.quantile(q).unwrap().as_nanos() as f64 / 1000.0;
            prop_assert!((found - truth).abs() <= ALPHA * truth * (1.0 + 1e-9) + 0.001, "{} for {}", found, truth);
        }

        #[test]
        fn merging_is_sketching_the_concatenation(
            a in prop::collection::vec(any::<u64>(), 0..50), b in prop::collection::vec(0u64..100_000, 0..50),
        ) {
            let mut merged = LatencySketch::of_us(&a);
            merged.merge(&LatencySketch::of_us(&b));
            prop_assert_eq!(merged.encode(), LatencySketch::of_us(&[a, b].concat()).encode());
        }

        #[test]
        fn both_forms_survive_the_round_trip(values in prop::collection::vec(any::<u64>(), 0..50)) {
            let s = LatencySketch::of_us(&values);
            let back: LatencySketch = postcard::from_bytes(&postcard::to_allocvec(&s).unwrap()).unwrap();
            prop_assert_eq!(&s, &back);
            let back: LatencySketch = serde_json::from_str(&serde_json::to_string(&s).unwrap()).unwrap();
            prop_assert_eq!(&s, &back);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(LatencySketch::decode(&bytes));
        }
    }
}
