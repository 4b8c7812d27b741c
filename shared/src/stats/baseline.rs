//! What a release looked like when it was packed: the reference that its windows are held against. It travels in the manifest.

use serde::{Deserialize, Serialize};

use super::categorical::{ClassCounts, Confidence};
use super::edges::Edges;
use super::error::{StatsError, at_most};
use super::histogram::Histogram;
use super::moments::Moments;
use super::window::Limits;

/// One number that has a baseline: an input feature, or the output of a regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumericBaseline {
    /// The feature's name in the tensor contract, or a derived one such as `image.brightness`.
    pub name: String,
    /// The bins.
    pub edges: Edges,
    /// The reference data over those bins.
    pub histogram: Histogram,
    /// Mean, spread and extremes of the reference data.
    pub moments: Moments,
}

impl NumericBaseline {
    /// The baseline of `values` and of `missing` more that were not there, over about `bins` quantile bins.
    ///
    /// # Errors
    /// [`StatsError::NoValues`] when none of the values is finite.
    pub fn from_values(name: impl Into<String>, values: &[f64], missing: u64, bins: usize) -> Result<Self, StatsError> {
        let edges = Edges::from_values(values, bins)?;
        let mut histogram = Histogram::of(&edges, values);
        histogram.add_missing(missing);
        Ok(Self { name: name.into(), edges, histogram, moments: Moments::of(values) })
    }

    fn validate(&self, limits: &Limits) -> Result<(), StatsError> {
        at_most("bytes of a feature name", self.name.len(), limits.name_bytes)?;
        at_most("histogram cells", self.edges.cells(), limits.cells)?;
        self.histogram.fits(&self.edges)
    }
}

/// What the model answered on the reference data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OutputBaseline {
    /// Predicted classes, for a classifier.
    #[serde(default)]
    pub classes: Option<ClassCounts>,
    /// Top-1 confidences, for a classifier with probabilities.
    #[serde(default)]
    pub confidence: Option<Confidence>,
    /// Predicted values, for a regression.
    #[serde(default)]
    pub regression: Option<NumericBaseline>,
}

/// All references of one release. The default is empty: a release without reference data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// Number of reference samples.
    pub n: u64,
    /// Input features; the position is the feature's index in a window.
    #[serde(default)]
    pub inputs: Vec<NumericBaseline>,
    /// Outputs.
    #[serde(default)]
    pub output: OutputBaseline,
}

impl Baseline {
    /// A fingerprint of names, layout and counts (FNV-1a, 64 bits; no security in it), so that windows over different baselines are
    /// never merged or compared. Floating-point edges take no part: every parser reads the integers alike.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.number(self.n);
        hash.number(self.inputs.len() as u64);
        self.inputs.iter().chain(&self.output.regression).for_each(|numeric| {
            hash.bytes(numeric.name.as_bytes());
            hash.bytes(&numeric.histogram.encode());
        });
        hash.bytes(&self.output.classes.as_ref().map(ClassCounts::encode).unwrap_or_default());
        hash.bytes(&self.output.confidence.as_ref().map(Confidence::encode).unwrap_or_default());
        hash.0
    }

    /// Largest number of bins among the numeric baselines, outer cells not counted; decides when a window is full.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.inputs.iter().chain(&self.output.regression).map(|n| n.edges.cells().saturating_sub(2)).max().unwrap_or(0)
    }

    /// Checks sizes and that every histogram fits its edges.
    ///
    /// # Errors
    /// What is too large or does not fit together.
    pub fn validate(&self, limits: &Limits) -> Result<(), StatsError> {
        at_most("input features", self.inputs.len(), limits.inputs)?;
        at_most("classes", self.output.classes.as_ref().map_or(0, ClassCounts::classes), limits.classes)?;
        self.inputs.iter().chain(&self.output.regression).try_for_each(|numeric| numeric.validate(limits))
    }
}

struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    fn number(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(values: &[f64]) -> Baseline {
        Baseline {
            n: values.len() as u64,
            inputs: vec![NumericBaseline::from_values("width", values, 1, 8).unwrap()],
            output: OutputBaseline::default(),
        }
    }

    #[test]
    fn the_digest_survives_json() {
        let made = baseline(&[0.1, 0.2, 1.0 / 3.0, 4e-17, f64::NAN]);
        let read: Baseline = serde_json::from_str(&serde_json::to_string(&made).unwrap()).unwrap();
        assert_eq!(read.digest(), made.digest());
    }

    /// Manifests are signed and kept: this form is read for ever. The digest stands in every window's origin.
    #[test]
    fn a_frozen_baseline_v1_is_read_with_its_digest() {
        let text = include_str!("testdata/baseline-v1.json");
        let frozen: Baseline = serde_json::from_str(text).unwrap();
        frozen.validate(&Limits::default()).unwrap();
        assert_eq!(frozen.digest(), 0xbb25_2ebd_12df_d797);
        assert_eq!((frozen.n, frozen.bins(), frozen.inputs[0].histogram.missing()), (6, 4, 1));
        assert_eq!(serde_json::to_string_pretty(&frozen).unwrap(), text.trim_end());
    }

    #[test]
    fn another_count_is_another_digest() {
        assert_ne!(baseline(&[1.0, 2.0]).digest(), baseline(&[1.0, 2.0, 2.0]).digest());
    }

    #[test]
    fn a_histogram_that_does_not_fit_its_edges_is_refused() {
        let mut wrong = baseline(&[1.0, 2.0, 3.0]);
        wrong.inputs[0].edges = Edges::from_values(&[1.0], 8).unwrap();
        assert!(matches!(wrong.validate(&Limits::default()), Err(StatsError::Shape { .. })));
    }

    #[test]
    fn sizes_above_the_limits_are_refused() {
        let limits = Limits { inputs: 0, ..Limits::default() };
        assert!(matches!(baseline(&[1.0]).validate(&limits), Err(StatsError::TooMany { found: 1, .. })));
    }

    #[test]
    fn a_manifest_without_a_baseline_reads_as_the_empty_one() {
        assert_eq!(serde_json::from_str::<Baseline>(r#"{"n":0}"#).unwrap(), Baseline::default());
    }
}
