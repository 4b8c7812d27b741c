//! What one device saw of one release between two moments: the payload of `dev/<device>/stats`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::categorical::{ClassCounts, Confidence, MAX_CLASSES};
use super::change::Changes;
use super::confusion::Confusion;
use super::edges::MAX_CELLS;
use super::error::{StatsError, at_most, same_size};
use super::histogram::Histogram;
use super::inputs::{Inputs, MAX_INPUTS};
use super::latency::LatencySketch;
use super::paired::Pairs;
use super::resources::Resources;
use super::tally::{Errors, Share};

/// A window holds at least so many requests before it closes for being full.
pub const FULL_AT: u64 = 500;
/// A window holds at least so many requests per bin before it closes for being full: fewer, and PSI is not calibrated.
pub const FULL_PER_BIN: u64 = 6;

/// Number of the wire form without pairs and confusion, which is written where there are none: older controllers read it.
const FORM_1: u8 = 1;
/// Number of the wire form without changes, which is written where there are none.
const FORM_2: u8 = 2;
/// Number of the wire form of all fields.
const FORM_3: u8 = 3;
/// What form 1 lacks at its end, as postcard: no pairs; no cells and no rest; no changes.
const FORM_1_LACKS: [u8; 4] = [0; 4];
/// What form 2 lacks.
const FORM_2_LACKS: [u8; 1] = [0];

/// Whether a window of `n` requests that was opened at `opened_ms` closes at `now_ms` (unix milliseconds): full at max(500,
/// 6 per bin), old at `max_age` even when it is empty, since silence is news. A clock that jumped back by more than that
/// closes it too, or else it would stay open until the clock is there again.
#[must_use]
pub fn should_close(n: u64, bins: usize, opened_ms: u64, now_ms: u64, max_age: Duration) -> bool {
    let full = FULL_AT.max(FULL_PER_BIN.saturating_mul(bins as u64));
    n >= full || u128::from(now_ms.abs_diff(opened_ms)) >= max_age.as_millis()
}

/// What a window or a baseline from outside may measure. The decoders themselves refuse what is above the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Input histograms.
    pub inputs: usize,
    /// Cells of one histogram.
    pub cells: usize,
    /// Classes.
    pub classes: usize,
    /// Bytes of a model's name, a version, a feature's name.
    pub name_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { inputs: MAX_INPUTS, cells: MAX_CELLS, classes: MAX_CLASSES, name_bytes: 128 }
    }
}

/// The statistics of one window, or of several that were merged. Every part is made of integers, so merging is exact, associative and
/// commutative. [`WindowStats::encode`] is what travels, at most 4 KiB for a model of 30 features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowStats {
    /// Name of the model.
    pub model: String,
    /// Version of the release.
    pub version: String,
    /// [`Baseline::digest`] of what the histograms refer to.
    pub baseline: u64,
    /// When the (first) window opened, unix milliseconds.
    pub opened_ms: u64,
    /// When the (last) window closed, unix milliseconds.
    pub closed_ms: u64,
    /// How many windows are merged in this one, 1 for one as it was closed.
    pub windows: u32,
    /// Requests that came, whatever became of them.
    pub requests: u64,
    /// Requests without a good answer.
    pub errors: Errors,
    /// Time to compute each answer.
    pub latency: LatencySketch,
    /// Time that each request waited before.
    pub queue_wait: LatencySketch,
    /// Input features.
    pub inputs: Inputs,
    /// Predicted classes.
    pub classes: Option<ClassCounts>,
    /// Top-1 confidences.
    pub confidence: Option<Confidence>,
    /// Predicted values of a regression.
    pub regression: Option<Histogram>,
    /// Inputs more odd than the baseline's threshold, among those that were scored.
    pub anomalies: Share,
    /// Pairs in which the shadow disagreed, among those compared.
    pub shadow_disagreements: Share,
    /// Correct answers among labelled ones.
    pub labelled_correct: Share,
    /// What the box had to give.
    pub resources: Resources,
    /// Other releases on the same requests. Form 2.
    #[serde(default)]
    pub pairs: Pairs,
    /// Which classes were taken for which, among labelled answers. Form 2.
    #[serde(default)]
    pub confusion: Confusion,
    /// How other releases answered otherwise. Form 3.
    #[serde(default)]
    pub changes: Changes,
}

impl WindowStats {
    /// An empty window over `baseline`, opened (and, so far, closed) at `opened_ms`.
    #[must_use]
    pub fn open(model: impl Into<String>, version: impl Into<String>, baseline: &Baseline, opened_ms: u64) -> Self {
        let output = &baseline.output;
        Self {
            model: model.into(),
            version: version.into(),
            baseline: baseline.digest(),
            opened_ms,
            closed_ms: opened_ms,
            windows: 1,
            requests: 0,
            errors: Errors::default(),
            latency: LatencySketch::default(),
            queue_wait: LatencySketch::default(),
            inputs: Inputs::new(baseline.inputs.iter().map(|numeric| Histogram::new(&numeric.edges))),
            classes: output.classes.as_ref().map(|classes| ClassCounts::new(classes.classes())),
            confidence: output.confidence.as_ref().map(|_| Confidence::default()),
            regression: output.regression.as_ref().map(|numeric| Histogram::new(&numeric.edges)),
            anomalies: Share::default(),
            shadow_disagreements: Share::default(),
            labelled_correct: Share::default(),
            resources: Resources::default(),
            pairs: Pairs::default(),
            confusion: Confusion::default(),
            changes: Changes::default(),
        }
    }

    /// The wire form: one byte with the form's number, then postcard of the fields in their order. Form 1 ends before
    /// `pairs`, form 2 before `changes`, and form 3 has all fields; the first that holds everything is written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (form, lacks): (u8, &[u8]) =
            match (self.changes.is_empty(), self.pairs.is_empty() && self.confusion.is_empty()) {
                (true, true) => (FORM_1, &FORM_1_LACKS),
                (true, false) => (FORM_2, &FORM_2_LACKS),
                (false, _) => (FORM_3, &[]),
            };
        // Plain data of known lengths into memory: postcard has nothing to fail on.
        let mut bytes = postcard::to_extend(self, vec![form]).unwrap_or_default();
        bytes.truncate(bytes.len().saturating_sub(lacks.len()));
        bytes
    }

    /// Reads any of the wire forms and checks it against the default [`Limits`]. What it allocates is bounded by a few MiB.
    ///
    /// # Errors
    /// [`StatsError::Form`] for another form, [`StatsError::Malformed`] for bytes that are none or too many, and what
    /// [`WindowStats::validate`] finds.
    pub fn decode(bytes: &[u8]) -> Result<Self, StatsError> {
        const MALFORMED: StatsError = StatsError::Malformed { what: "window" };
        let (form, rest) = bytes.split_first().ok_or(MALFORMED)?;
        let lacks: &[u8] = match *form {
            FORM_1 => &FORM_1_LACKS,
            FORM_2 => &FORM_2_LACKS,
            FORM_3 => &[],
            found => return Err(StatsError::Form { found, known: FORM_3 }),
        };
        match postcard::take_from_bytes::<Self>(&[rest, lacks].concat()) {
            Ok((window, [])) => window.validate(&Limits::default()).map(|()| window),
            _ => Err(MALFORMED),
        }
    }

    /// Takes in another window of the same release over the same baseline: of a later time, or of another device. The covered time is
    /// from the earlier opening to the later closing.
    ///
    /// # Errors
    /// [`StatsError::Origin`] for another model, release or baseline, [`StatsError::Shape`] for other bins. Nothing has changed then.
    pub fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        if self.origin() != other.origin() {
            return Err(StatsError::Origin { left: self.label(), right: other.label() });
        }
        // Worked out aside first, since a later part may not fit.
        let mut inputs = self.inputs.clone();
        inputs.merge(&other.inputs)?;
        let classes = merged(self.classes.as_ref(), other.classes.as_ref(), ClassCounts::merge)?;
        let regression = merged(self.regression.as_ref(), other.regression.as_ref(), Histogram::merge)?;
        let confidence = merged(self.confidence.as_ref(), other.confidence.as_ref(), |mine, theirs| {
            mine.merge(theirs);
            Ok(())
        })?;
        let (mut pairs, mut changes) = (self.pairs.clone(), self.changes.clone());
        pairs.merge(&other.pairs)?;
        changes.merge(&other.changes)?;
        (self.pairs, self.changes) = (pairs, changes);
        self.confusion.merge(&other.confusion);
        (self.inputs, self.classes, self.regression, self.confidence) = (inputs, classes, regression, confidence);
        self.opened_ms = self.opened_ms.min(other.opened_ms);
        self.closed_ms = self.closed_ms.max(other.closed_ms);
        self.windows = self.windows.saturating_add(other.windows);
        self.requests = self.requests.saturating_add(other.requests);
        self.errors.merge(&other.errors);
        self.latency.merge(&other.latency);
        self.queue_wait.merge(&other.queue_wait);
        self.anomalies.merge(other.anomalies);
        self.shadow_disagreements.merge(other.shadow_disagreements);
        self.labelled_correct.merge(other.labelled_correct);
        self.resources.merge(&other.resources);
        Ok(())
    }

    /// Checks a window from outside: its sizes, and that it does not contradict itself.
    ///
    /// # Errors
    /// What is too large or inconsistent.
    pub fn validate(&self, limits: &Limits) -> Result<(), StatsError> {
        at_most("bytes of a model's name", self.model.len(), limits.name_bytes)?;
        at_most("bytes of a version", self.version.len(), limits.name_bytes)?;
        at_most("input histograms", self.inputs.len(), limits.inputs)?;
        at_most("classes", self.classes.as_ref().map_or(0, ClassCounts::classes), limits.classes)?;
        for histogram in self.inputs.iter().map(|(_, h)| h).chain(&self.regression) {
            at_most("histogram cells", histogram.cells(), limits.cells)?;
        }
        if self.model.is_empty() || self.version.is_empty() {
            return Err(StatsError::Inconsistent { what: "names of a window" });
        }
        if self.closed_ms < self.opened_ms || self.windows == 0 {
            return Err(StatsError::Inconsistent { what: "times of a window" });
        }
        self.anomalies.validate("anomalies")?;
        self.shadow_disagreements.validate("shadow pairs")?;
        self.labelled_correct.validate("labels")?;
        self.pairs.validate(limits.name_bytes)?;
        self.confusion.validate()?;
        self.changes.validate(limits.name_bytes)?;
        self.resources.validate()
    }

    /// Checks that this window was counted over `baseline`, so that the two can be compared cell by cell.
    ///
    /// # Errors
    /// [`StatsError::Origin`] for another digest, [`StatsError::Shape`] for other features, bins or classes.
    pub fn fits(&self, baseline: &Baseline) -> Result<(), StatsError> {
        self.fits_digested(baseline, baseline.digest())
    }

    /// The same for a caller that knows the baseline's digest and asks for many windows.
    ///
    /// # Errors
    /// As [`WindowStats::fits`].
    pub fn fits_digested(&self, baseline: &Baseline, digest: u64) -> Result<(), StatsError> {
        if self.baseline != digest {
            return Err(StatsError::Origin { left: self.label(), right: format!("baseline {digest:016x}") });
        }
        for (feature, histogram) in self.inputs.iter() {
            let numeric = baseline.inputs.get(feature);
            histogram.fits(&numeric.ok_or(shape("input features", feature + 1, baseline.inputs.len()))?.edges)?;
        }
        let classes = |c: Option<&ClassCounts>| c.map_or(0, ClassCounts::classes);
        same_size("classes", classes(self.classes.as_ref()), classes(baseline.output.classes.as_ref()))?;
        match (&self.regression, &baseline.output.regression) {
            (Some(histogram), Some(numeric)) => histogram.fits(&numeric.edges),
            (left, right) => same_size("regressions", usize::from(left.is_some()), usize::from(right.is_some())),
        }
    }

    /// Errors of the model per request, at most 1; `None` without a request or an error.
    #[must_use]
    pub fn model_error_rate(&self) -> Option<f64> {
        // A crash that is counted after the restart may have no request beside it.
        let errors = self.errors.by_model();
        let trials = self.requests.max(errors);
        (trials > 0).then(|| errors as f64 / trials as f64)
    }

    /// Covered time.
    #[must_use]
    pub fn covered(&self) -> Duration {
        Duration::from_millis(self.closed_ms.saturating_sub(self.opened_ms))
    }

    fn origin(&self) -> (&str, &str, u64) {
        (&self.model, &self.version, self.baseline)
    }

    fn label(&self) -> String {
        format!("{} {} baseline {:016x}", self.model, self.version, self.baseline)
    }
}

fn shape(what: &'static str, left: usize, right: usize) -> StatsError {
    StatsError::Shape { what, left, right }
}

/// Both together, or the one that is there.
fn merged<T: Clone>(
    mine: Option<&T>,
    theirs: Option<&T>,
    merge: impl Fn(&mut T, &T) -> Result<(), StatsError>,
) -> Result<Option<T>, StatsError> {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => {
            let mut sum = mine.clone();
            merge(&mut sum, theirs)?;
            Ok(Some(sum))
        }
        (mine, theirs) => Ok(mine.or(theirs).cloned()),
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
