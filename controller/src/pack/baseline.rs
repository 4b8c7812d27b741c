//! What the release looks like on its reference data. Features are measured by the agent's own code, so that a device
//! and the baseline speak of the same numbers.

use super::run::Run;
use fieldpost_agent::monitor::collector::likeliest;
use fieldpost_agent::monitor::features::Features;
use fieldpost_agent::runtime::Answer;
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::stats::{
    Baseline, ClassCounts, Confidence, DEFAULT_BINS, NumericBaseline, OutputBaseline, StatsError,
};

/// Most input features with a histogram; beyond it windows would outgrow their budget.
pub(super) const MAX_FEATURES: usize = 256;
/// Below this many rows half the bins: PSI is calibrated from about six values a bin (statistics, section 5).
const ROWS_FOR_ALL_BINS: usize = 1_000;

/// Collects runs over the reference data.
#[derive(Debug)]
pub(super) struct Collector {
    features: Features,
    columns: Vec<Vec<f64>>,
    rows: u64,
    classes: Vec<usize>,
    confidence: Confidence,
    width: usize,
    values: Vec<f64>,
}

impl Collector {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let features = Features::of(manifest);
        let columns = vec![Vec::new(); features.names().len().min(MAX_FEATURES)];
        Self {
            features,
            columns,
            rows: 0,
            classes: Vec::new(),
            confidence: Confidence::default(),
            width: manifest.labels.len(),
            values: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, run: &Run) {
        self.rows = self.rows.saturating_add(1);
        let columns = &mut self.columns;
        self.features.measure(&run.inputs, |feature, value| {
            if let Some(column) = columns.get_mut(feature) {
                column.push(value);
            }
        });
        for answer in &run.answers {
            match answer {
                Answer::Classification { class, score, probabilities, .. } => {
                    self.width = self.width.max(probabilities.len());
                    self.classes.push(*class);
                    self.confidence.insert(f64::from(*score));
                }
                Answer::Regression { value } => self.values.push(*value),
                // The same as a device counts.
                Answer::MultiLabel { probabilities, .. } => {
                    self.width = self.width.max(probabilities.len());
                    if let Some((class, score)) = likeliest(probabilities) {
                        self.classes.push(class);
                        self.confidence.insert(f64::from(score));
                    }
                }
                Answer::Detection { objects } => {
                    self.values.push(u32::try_from(objects.len()).map_or(f64::INFINITY, f64::from));
                }
                Answer::Raw => {}
            }
        }
    }

    /// The baseline, and the features that have none because all their values are NaN.
    pub(super) fn finish(self) -> Result<(Baseline, Vec<String>), StatsError> {
        let most = |values: &[f64]| if values.len() < ROWS_FOR_ALL_BINS { DEFAULT_BINS / 2 } else { DEFAULT_BINS };
        let numeric = |name: &str, values: &[f64]| NumericBaseline::from_values(name, values, 0, most(values));
        let (mut inputs, mut empty) = (Vec::new(), Vec::new());
        for (name, values) in self.features.names().iter().zip(&self.columns) {
            match numeric(name, values) {
                Ok(baseline) => inputs.push(baseline),
                Err(StatsError::NoValues { .. }) => empty.push(name.clone()),
                Err(error) => return Err(error),
            }
        }
        let mut output = OutputBaseline::default();
        if !self.classes.is_empty() {
            let mut counts = ClassCounts::new(self.width);
            self.classes.iter().for_each(|class| counts.insert(*class));
            output.classes = Some(counts);
            output.confidence = Some(self.confidence);
        }
        if !self.values.is_empty() {
            output.regression = Some(numeric("output", &self.values)?);
        }
        let baseline = Baseline { n: self.rows, inputs, output };
        baseline.validate(&fieldpost_shared::stats::Limits::default())?;
        Ok((baseline, empty))
    }
}
