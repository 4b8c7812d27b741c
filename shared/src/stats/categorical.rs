//! What a classifier said, and how sure it was.

use super::compact::{Reader, compact_serde, put, put_runs};
use super::error::{StatsError, at_most, same_size};

/// Most classes that counts from outside may have.
pub const MAX_CLASSES: usize = 65_536;
/// Bins of the top-1 confidence, each 0.05 wide.
pub const CONFIDENCE_BINS: usize = 20;
/// A confidence is summed in these parts of one.
const PARTS: f64 = 1_048_576.0;

/// How often each class was predicted. Merges exactly; counts saturate at `u64::MAX`.
/// Compact form v1: the counts (zeros run-length coded), then what was outside of the classes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassCounts {
    counts: Vec<u64>,
    outside: u64,
}

impl ClassCounts {
    /// No predictions yet of a model with `classes` classes.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { counts: vec![0; classes], outside: 0 }
    }

    /// Counts one predicted class; an index beyond the classes is counted apart.
    pub fn insert(&mut self, class: usize) {
        self.insert_times(class, 1);
    }

    /// Counts so many predictions of one class.
    pub fn insert_times(&mut self, class: usize, times: u64) {
        let count = self.counts.get_mut(class).unwrap_or(&mut self.outside);
        *count = count.saturating_add(times);
    }

    /// Adds what `other` counted.
    ///
    /// # Errors
    /// [`StatsError::Shape`] when the number of classes differs; nothing has changed then.
    pub fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        same_size("classes", self.counts.len(), other.counts.len())?;
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.outside = self.outside.saturating_add(other.outside);
        Ok(())
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.counts.len()
    }

    /// Count per class.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Predictions of a class that the model does not have.
    #[must_use]
    pub fn outside(&self) -> u64 {
        self.outside
    }

    /// All that was counted: per class, then outside. This is what distances compare.
    #[must_use]
    pub fn categories(&self) -> Vec<u64> {
        self.counts.iter().copied().chain([self.outside]).collect()
    }

    /// Number of predictions.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().copied().fold(self.outside, u64::saturating_add)
    }

    /// The compact form v1.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_runs(&mut out, &self.counts, |n| *n, |_, _| ());
        put(&mut out, self.outside);
        out
    }

    /// Reads the compact form v1.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StatsError> {
        let mut reader = Reader::new("classes", bytes);
        let counts = reader.take_runs(MAX_CLASSES, |n, _| Ok(n))?;
        let outside = reader.take()?;
        reader.end()?;
        Ok(Self { counts, outside })
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct ReadableClasses {
    counts: Vec<u64>,
    #[serde(default)]
    outside: u64,
}

impl From<&ClassCounts> for ReadableClasses {
    fn from(c: &ClassCounts) -> Self {
        Self { counts: c.counts.clone(), outside: c.outside }
    }
}

impl TryFrom<ReadableClasses> for ClassCounts {
    type Error = StatsError;

    fn try_from(r: ReadableClasses) -> Result<Self, StatsError> {
        at_most("classes", r.counts.len(), MAX_CLASSES)?;
        Ok(Self { counts: r.counts, outside: r.outside })
    }
}

compact_serde!(ClassCounts, ReadableClasses);

/// Top-1 confidence in [`CONFIDENCE_BINS`] bins of [0, 1], the last one closed above; NaN and what is outside of [0, 1] by more than
/// rounding (1e-6) are counted apart. The sum is kept in parts of 2^-20, so everything merges exactly.
/// Compact form v1: bin counts, the others, the sum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Confidence {
    bins: [u64; CONFIDENCE_BINS],
    outside: u64,
    sum_parts: u64,
}

impl Confidence {
    /// Counts one confidence.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value is within [0, 1] by then")]
    pub fn insert(&mut self, confidence: f64) {
        if !(-1e-6..=1.0 + 1e-6).contains(&confidence) {
            self.outside = self.outside.saturating_add(1);
            return;
        }
        let confidence = confidence.clamp(0.0, 1.0);
        let bin = ((confidence * CONFIDENCE_BINS as f64) as usize).min(CONFIDENCE_BINS - 1);
        if let Some(count) = self.bins.get_mut(bin) {
            *count = count.saturating_add(1);
        }
        self.sum_parts = self.sum_parts.saturating_add((confidence * PARTS).round() as u64);
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.bins.iter_mut().zip(other.bins) {
            *mine = mine.saturating_add(theirs);
        }
        self.outside = self.outside.saturating_add(other.outside);
        self.sum_parts = self.sum_parts.saturating_add(other.sum_parts);
    }

    /// Count per bin.
    #[must_use]
    pub fn bins(&self) -> &[u64; CONFIDENCE_BINS] {
        &self.bins
    }

    /// All that was counted: the bins, then what was outside. This is what distances compare.
    #[must_use]
    pub fn categories(&self) -> Vec<u64> {
        self.bins.iter().copied().chain([self.outside]).collect()
    }

    /// Number of confidences within [0, 1].
    #[must_use]
    pub fn n(&self) -> u64 {
        self.bins.iter().copied().fold(0, u64::saturating_add)
    }

    /// Mean confidence; `None` without one.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.n() > 0).then(|| self.sum_parts as f64 / PARTS / self.n() as f64)
    }

    /// Share of confidences below `bin * 0.05`; `None` without one.
    #[must_use]
    pub fn share_below(&self, bin: usize) -> Option<f64> {
        let below = self.bins.iter().take(bin).copied().fold(0, u64::saturating_add);
        (self.n() > 0).then(|| below as f64 / self.n() as f64)
    }

    /// The compact form v1.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_runs(&mut out, &self.bins, |n| *n, |_, _| ());
        put(&mut out, self.outside);
        put(&mut out, self.sum_parts);
        out
    }

    /// Reads the compact form v1.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StatsError> {
        let mut reader = Reader::new("confidence bins", bytes);
        let bins = reader.take_runs(CONFIDENCE_BINS, |n, _| Ok(n))?;
        let (outside, sum_parts) = (reader.take()?, reader.take()?);
        reader.end()?;
        Self::try_from(ReadableConfidence { bins, outside, sum_parts })
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct ReadableConfidence {
    bins: Vec<u64>,
    #[serde(default)]
    outside: u64,
    sum_parts: u64,
}

impl From<&Confidence> for ReadableConfidence {
    fn from(c: &Confidence) -> Self {
        Self { bins: c.bins.to_vec(), outside: c.outside, sum_parts: c.sum_parts }
    }
}

impl TryFrom<ReadableConfidence> for Confidence {
    type Error = StatsError;

    fn try_from(r: ReadableConfidence) -> Result<Self, StatsError> {
        same_size("confidence bins", CONFIDENCE_BINS, r.bins.len())?;
        let mut bins = [0; CONFIDENCE_BINS];
        bins.copy_from_slice(&r.bins);
        Ok(Self { bins, outside: r.outside, sum_parts: r.sum_parts })
    }
}

compact_serde!(Confidence, ReadableConfidence);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Confidence {
        let mut c = Confidence::default();
        values.iter().for_each(|v| c.insert(*v));
        c
    }

    #[test]
    fn certainty_is_in_the_last_bin_and_nan_in_none() {
        let c = of(&[1.0, 1.000_000_5, f64::NAN, 1.1]);
        assert_eq!((c.bins()[19], c.n(), c.categories()[20]), (2, 2, 2));
    }

    #[test]
    fn a_thousand_classes_of_which_one_is_seen_cost_few_bytes() {
        let mut c = ClassCounts::new(1000);
        c.insert(500);
        assert_eq!(c.encode().len(), 2 + 3 + 1 + 3 + 1);
    }

    #[test]
    fn a_class_that_the_model_does_not_have_is_counted_apart() {
        let mut c = ClassCounts::new(2);
        [0, 1, 2].into_iter().for_each(|class| c.insert(class));
        assert_eq!(c.categories(), [1, 1, 1]);
    }

    #[test]
    fn models_of_different_classes_do_not_merge() {
        assert!(ClassCounts::new(2).merge(&ClassCounts::new(3)).is_err());
    }

    #[test]
    fn low_confidence_share_is_by_whole_bins() {
        assert_eq!(of(&[0.1, 0.49, 0.5, 0.9]).share_below(10), Some(0.5));
    }

    proptest! {
        #[test]
        fn merging_confidences_is_sketching_the_concatenation(
            a in prop::collection::vec(0.0..=1.0, 0..50), b in prop::collection::vec(any::<f64>(), 0..50),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }

        #[test]
        fn both_survive_both_round_trips(classes in prop::collection::vec(0usize..12, 0..50)) {
            let mut counts = ClassCounts::new(10);
            classes.iter().for_each(|c| counts.insert(*c));
            let confidence = of(&classes.iter().map(|c| *c as f64 / 11.0).collect::<Vec<_>>());
            let pair = (counts, confidence);
            let back = postcard::from_bytes(&postcard::to_allocvec(&pair).unwrap()).unwrap();
            prop_assert_eq!(&pair, &back);
            let back = serde_json::from_str(&serde_json::to_string(&pair).unwrap()).unwrap();
            prop_assert_eq!(&pair, &back);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(Confidence::decode(&bytes));
            drop(ClassCounts::decode(&bytes));
        }
    }
}
