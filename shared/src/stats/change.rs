//! How another release's answers differ from this one's: which class became which, by how much scores moved, and how many
//! times as long it took (statistics.md section 4).

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::by_version::{ByVersion, Rival};
use super::confusion::Confusion;
use super::error::StatsError;

/// Bins of |score difference| in [0, 1], all as wide; what is larger, or no number, is in the last.
pub const DELTA_BINS: usize = 20;
/// Bins of time by time, a quarter of an octave each, from 1/8 to 8; what is beyond is in the first or the last.
pub const RATIO_BINS: usize = 24;
/// Bins of an octave.
const PER_OCTAVE: f64 = 4.0;

/// One row that both releases answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Whether the first answers are the same.
    pub same: bool,
    /// Difference of their scores, or of the values.
    pub delta: f64,
    /// The classes that this one and the other answered, each by its own numbers; none where answers are no classes.
    pub classes: Option<(usize, usize)>,
}

/// How another release differs on requests that this one answered. Counts saturate, so merging is exact.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    /// Version of the other release.
    pub version: String,
    /// Rows answered differently: `actual` is this one's class, `predicted` the other's.
    pub classes: Confusion,
    /// Rows by |score difference|.
    pub deltas: [u64; DELTA_BINS],
    /// Requests by the other's time per row over this one's.
    pub ratios: [u64; RATIO_BINS],
}

/// Changes by the other release's version.
pub type Changes = ByVersion<Change>;

impl Rival for Change {
    fn with(version: &str) -> Self {
        Self { version: version.to_owned(), ..Self::default() }
    }
    fn version(&self) -> &str {
        &self.version
    }
    fn merge(&mut self, other: &Self) {
        self.classes.merge(&other.classes);
        add(&mut self.deltas, &other.deltas);
        add(&mut self.ratios, &other.ratios);
    }
    fn validate(&self) -> Result<(), StatsError> {
        self.classes.validate()
    }
}

fn add(mine: &mut [u64], theirs: &[u64]) {
    mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = mine.saturating_add(*theirs));
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, and it is not negative; no number becomes the last bin before"
)]
fn count(bins: &mut [u64], at: f64) {
    let last = bins.len().saturating_sub(1);
    let at = if at.is_nan() { last } else { (at.max(0.0) as usize).min(last) };
    bins.iter_mut().skip(at).take(1).for_each(|bin| *bin = bin.saturating_add(1));
}

/// The bin, from 0, below whose upper edge the share `q` of the counts lies.
fn quantile(bins: &[u64], q: f64) -> Option<usize> {
    let all = bins.iter().copied().fold(0, u64::saturating_add);
    let mut below = 0_u64;
    bins.iter().position(|bin| {
        below = below.saturating_add(*bin);
        all > 0 && below as f64 >= q * all as f64
    })
}

impl Change {
    /// One request that both answered: time per row of this release and of the other.
    pub fn answered(&mut self, latency: Duration, other: Duration) {
        let ratio = other.as_secs_f64() / latency.as_secs_f64();
        count(&mut self.ratios, PER_OCTAVE * ratio.log2() + (RATIO_BINS / 2) as f64);
    }

    /// One row of it.
    pub fn row(&mut self, row: &Row) {
        count(&mut self.deltas, row.delta.abs() * DELTA_BINS as f64);
        if let (false, Some((mine, other))) = (row.same, row.classes) {
            self.classes.insert(mine, other);
        }
    }

    /// Time by time that the share `q` of the requests stays below: the upper edge of its bin, so up to 19 % above the truth
    /// (8 is 8 or more). `None` without any.
    #[must_use]
    pub fn ratio(&self, q: f64) -> Option<f64> {
        quantile(&self.ratios, q).map(|bin| ((bin as f64 + 1.0 - (RATIO_BINS / 2) as f64) / PER_OCTAVE).exp2())
    }

    /// |Score difference| that the share `q` of the rows stays below, in steps of 0.05; 1 is 1 or more. `None` without any.
    #[must_use]
    pub fn delta(&self, q: f64) -> Option<f64> {
        quantile(&self.deltas, q).map(|bin| (bin as f64 + 1.0) / DELTA_BINS as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(same: bool, delta: f64, classes: Option<(usize, usize)>) -> Row {
        Row { same, delta, classes }
    }

    #[test]
    fn only_changed_classes_are_named() {
        let mut change = Change::with("1.1.0");
        [(8, 3, false), (8, 3, false), (5, 5, true), (1, 7, false)]
            .into_iter()
            .for_each(|(mine, other, same)| change.row(&row(same, 0.1, Some((mine, other)))));
        change.row(&row(false, 0.1, None));
        assert_eq!((change.classes.of(8, 3), change.classes.of(5, 5), change.classes.of(1, 7)), (2, 0, 1));
        assert_eq!(change.deltas.iter().sum::<u64>(), 5);
    }

    #[test]
    fn bins_are_where_they_should_be_and_ends_take_what_is_beyond() {
        let mut change = Change::default();
        [0.0, 0.049, -0.05, 0.999, 1.0, 7.0, f64::NAN]
            .into_iter()
            .for_each(|delta| change.row(&row(true, delta, None)));
        assert_eq!((change.deltas[0], change.deltas[1], change.deltas[19]), (2, 1, 4));
        let ms = Duration::from_millis;
        [(100, 100), (100, 118), (100, 120), (100, 1), (1, 100), (0, 5), (0, 0)]
            .into_iter()
            .for_each(|(mine, other)| change.answered(ms(mine), ms(other)));
        assert_eq!((change.ratios[12], change.ratios[13], change.ratios[0], change.ratios[23]), (2, 1, 1, 3));
    }

    #[test]
    fn quantiles_are_upper_edges() {
        let mut change = Change::default();
        assert_eq!((change.ratio(0.5), change.delta(0.5)), (None, None));
        (0..9).for_each(|_| change.answered(Duration::from_millis(10), Duration::from_millis(10)));
        change.answered(Duration::from_millis(10), Duration::from_millis(39));
        assert!((change.ratio(0.9).unwrap() - 1.19).abs() < 0.01 && (change.ratio(1.0).unwrap() - 4.0).abs() < 0.01);
        change.row(&row(true, 0.12, None));
        assert!((change.delta(0.5).unwrap() - 0.15).abs() < 1e-9);
    }

    #[test]
    fn merging_adds() {
        let mut one = Change::with("a");
        one.row(&row(false, 0.5, Some((1, 2))));
        let mut sum = one.clone();
        sum.merge(&one);
        assert_eq!((sum.classes.of(1, 2), sum.deltas[10]), (2, 2));
    }
}
