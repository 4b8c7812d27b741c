//! Counts what one live release does: the open window, and the totals that probation judges. Pure: time is an argument.

use super::ClosedWindow;
use super::features::Features;
use crate::deploy::Observed;
use crate::runtime::Answer;
use fieldpost_shared::bundle::{Manifest, Tensor};
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::stats::{Baseline, ErrorKind, LatencySketch, Reading, Recorder, Row};
use fieldpost_shared::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Measures requests of one release against its baseline. Shared by all inference threads, outside of any lock.
#[derive(Debug)]
pub struct Meter {
    features: Features,
    /// By feature: its index in the baseline, `None` when the baseline does not have it.
    places: Vec<Option<usize>>,
}

impl Meter {
    /// The meter of a release.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        let features = Features::of(manifest);
        let baseline = manifest.baseline.as_ref().map_or(&[][..], |baseline| &baseline.inputs);
        let by_name: HashMap<&str, usize> = baseline.iter().enumerate().map(|(i, n)| (n.name.as_str(), i)).collect();
        let places = features.names().iter().map(|name| by_name.get(name.as_str()).copied()).collect();
        Self { features, places }
    }

    /// Measures the model's inputs; empty, at no cost, when the bundle has no baseline for them.
    #[must_use]
    pub fn measure(&self, inputs: &[Tensor]) -> Measured {
        let mut measured = Vec::new();
        if self.places.iter().any(Option::is_some) {
            self.features.measure(inputs, |feature, value| {
                if let Some(place) = self.places.get(feature).copied().flatten() {
                    measured.push((place, value));
                }
            });
        }
        Measured(measured)
    }
}

/// Input features of one request by their index in the baseline.
#[derive(Debug, Default)]
pub struct Measured(Vec<(usize, f64)>);

/// How long the parts of one answered request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// In the queue.
    pub queue: Duration,
    /// From bytes to tensors.
    pub input: Duration,
    /// In the model; of the whole batch, where several requests ran in one go.
    pub infer: Duration,
    /// From tensors to the answer.
    pub output: Duration,
    /// Rows of this request.
    pub rows: usize,
    /// Requests that ran in one go, this one included; 0 counts as 1.
    pub together: usize,
}

impl Timing {
    /// Time in the model per row of everything that ran in one go.
    #[must_use]
    pub fn per_row(&self) -> Duration {
        let rows = self.rows.max(1).saturating_mul(self.together.max(1));
        self.infer / u32::try_from(rows).unwrap_or(u32::MAX)
    }
}

/// A request that two releases answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared<'a> {
    /// Time per row of the one that serves.
    pub latency: Duration,
    /// Time per row of the other.
    pub other_latency: Duration,
    /// How both answered each row.
    pub rows: &'a [Row],
}

/// The counts of one live release.
#[derive(Debug)]
pub struct Collector {
    release: ReleaseRef,
    recorder: Recorder,
    /// Requests that the model answered or failed.
    reached: u64,
    model_errors: u64,
    latency: LatencySketch,
    /// What the window held when it was last asked for while open.
    checkpointed: u64,
}

impl Collector {
    /// Opens the first window.
    #[must_use]
    pub fn new(release: ReleaseRef, manifest: &Manifest, now: Timestamp) -> Self {
        let baseline: Arc<Baseline> = Arc::new(manifest.baseline.clone().unwrap_or_default());
        let (model, version) = (release.model.to_string(), release.version.to_string());
        Self {
            recorder: Recorder::new(model, version, baseline, now.as_millis()),
            release,
            reached: 0,
            model_errors: 0,
            latency: LatencySketch::default(),
            checkpointed: 0,
        }
    }

    /// A request that the model answered. The latency counts per row, its own or others', so that a caller who sends large batches does not
    /// make the model look slow. `unheard` says why nobody took the answer, when nobody did: the
    /// latency counts all the same, or else a model so slow that its callers leave would look fast.
    pub fn answered(&mut self, timing: Timing, measured: &Measured, answers: &[Answer], unheard: Option<ErrorKind>) {
        self.reached = self.reached.saturating_add(1);
        self.recorder.request();
        if let Some(kind) = unheard {
            self.recorder.failed(kind);
        }
        let latency = timing.per_row();
        self.latency.insert(latency);
        self.recorder.answered(latency, timing.queue);
        measured.0.iter().for_each(|(feature, value)| self.recorder.input(*feature, *value));
        for answer in answers {
            match answer {
                Answer::Classification { class, score, .. } => self.recorder.class(*class, Some(f64::from(*score))),
                Answer::Regression { value } => self.recorder.regression(*value),
                Answer::MultiLabel { probabilities, .. } => {
                    if let Some((class, score)) = likeliest(probabilities) {
                        self.recorder.class(class, Some(f64::from(score)));
                    }
                }
                // How many there are is what tells most, with one number.
                Answer::Detection { objects } => {
                    self.recorder.regression(u32::try_from(objects.len()).map_or(f64::INFINITY, f64::from));
                }
                Answer::Raw => {}
            }
        }
    }

    /// A request that was not. Answers how many the model itself has failed since it was installed.
    pub fn failed(&mut self, kind: ErrorKind) -> u64 {
        self.recorder.request();
        self.recorder.failed(kind);
        let by_model = u64::from(kind.is_by_model());
        self.reached = self.reached.saturating_add(by_model);
        self.model_errors = self.model_errors.saturating_add(by_model);
        self.model_errors
    }

    /// The process died with this release before it was started again; no request is counted.
    pub fn crashed(&mut self) {
        self.recorder.failed(ErrorKind::Crash);
        self.model_errors = self.model_errors.saturating_add(1);
    }

    /// The truth about an answer: its class, and the one that had been predicted.
    pub fn labelled(&mut self, actual: usize, predicted: usize) {
        self.recorder.labelled_class(actual, predicted);
    }

    /// The truth about an answer of several labels: whether it named just those that hold.
    pub fn labelled_set(&mut self, correct: bool) {
        self.recorder.labelled(correct);
    }

    /// Another release saw a request that this one answered; `None` when it failed.
    pub fn compared(&mut self, version: &str, pair: Option<Compared<'_>>) {
        let rows = pair.map_or(&[][..], |pair| pair.rows);
        rows.iter().for_each(|row| self.recorder.shadowed(!row.same));
        let Some(paired) = self.recorder.paired(version) else { return };
        match pair {
            None => paired.other_errors = paired.other_errors.saturating_add(1),
            Some(Compared { latency, other_latency, rows }) => {
                paired.answered(latency, other_latency);
                rows.iter().for_each(|row| paired.row(row.same, row.delta));
                if let Some(change) = self.recorder.changed(version) {
                    change.answered(latency, other_latency);
                    rows.iter().for_each(|row| change.row(row));
                }
            }
        }
    }

    /// Another release was to see a request, and there was no time for it.
    pub fn passed_over(&mut self, version: &str) {
        if let Some(paired) = self.recorder.paired(version) {
            paired.passed_over = paired.passed_over.saturating_add(1);
        }
    }

    /// A reading of the box.
    pub fn resources(&mut self, reading: &Reading) {
        self.recorder.resources(reading);
    }

    /// What it did since it was installed, but for its memory and what still runs. Requests that never reached the model are left out: else
    /// a flood of malformed ones would hide the errors of the model.
    #[must_use]
    pub fn observed(&self) -> Observed {
        Observed {
            release: self.release.clone(),
            requests: self.reached,
            model_errors: self.model_errors,
            hung: 0,
            p95: self.latency.quantile(0.95),
            rss_growth_bytes: None,
        }
    }

    /// Closes the window if it is full or old.
    pub fn close_if_due(&mut self, now: Timestamp, max_age: Duration) -> Option<ClosedWindow> {
        self.recorder.should_close(now.as_millis(), max_age).then(|| self.close(now))
    }

    /// Closes the window as it is, unless nothing happened in it.
    pub fn close_if_used(&mut self, now: Timestamp) -> Option<ClosedWindow> {
        self.is_used().then(|| self.close(now))
    }

    /// Closes the window if it is old, as that of a release that answers no more: that nothing happened in it is no news, and
    /// the next one begins all the same.
    pub fn close_late(&mut self, now: Timestamp, max_age: Duration) -> Option<ClosedWindow> {
        let used = self.is_used();
        self.close_if_due(now, max_age).filter(|_| used)
    }

    fn is_used(&self) -> bool {
        let window = self.recorder.window();
        // What a shadow or a person says of an answer may come after the window with its request was closed.
        let late = !window.pairs.is_empty() || window.labelled_correct.n > 0;
        late || window.requests > 0 || window.errors.by_model() > 0
    }

    /// The open window as if it ended now, when something happened in it since it was last asked for. It stays open.
    pub fn checkpoint(&mut self, now: Timestamp) -> Option<ClosedWindow> {
        let window = self.recorder.window();
        let happened = window.requests.saturating_add(window.errors.by_model());
        let happened = happened.saturating_add(window.labelled_correct.n);
        if happened == self.checkpointed {
            return None;
        }
        let mut content = window.clone();
        content.closed_ms = now.as_millis().max(content.opened_ms);
        self.checkpointed = happened;
        Some(ClosedWindow { release: self.release.clone(), content })
    }

    fn close(&mut self, now: Timestamp) -> ClosedWindow {
        self.checkpointed = 0;
        ClosedWindow { release: self.release.clone(), content: self.recorder.close(now.as_millis()) }
    }
}

/// The label that holds most, of several that may; the first of equal ones.
#[must_use]
pub fn likeliest(probabilities: &[f32]) -> Option<(usize, f32)> {
    let numbered = probabilities.iter().copied().enumerate().filter(|(_, score)| !score.is_nan());
    numbered.fold(None, |best, (class, score)| match best {
        Some((_, highest)) if score <= highest => best,
        _ => Some((class, score)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn collector() -> Collector {
        Collector::new(testing::release("1.0.0"), &testing::manifest(), START)
    }

    fn answer(class: usize) -> Answer {
        Answer::Classification { class, label: None, score: 0.75, top: vec![], probabilities: vec![] }
    }

    fn infer(ms: u64) -> Timing {
        Timing { infer: Duration::from_millis(ms), ..Timing::default() }
    }

    #[test]
    fn only_the_models_own_errors_are_held_against_it() {
        let mut c = collector();
        for kind in ErrorKind::ALL {
            c.failed(kind);
        }
        let seen = c.observed();
        assert_eq!((seen.requests, seen.model_errors), (4, 4));
        assert_eq!(c.close(START).content.requests, 8);
    }

    #[test]
    fn a_batch_counts_its_latency_per_row() {
        let mut c = collector();
        c.answered(Timing { rows: 4, ..infer(40) }, &Measured::default(), &[], None);
        let p95 = c.observed().p95.unwrap();
        assert!((9_700..10_300).contains(&p95.as_micros()), "{p95:?}");
    }

    #[test]
    fn predicted_classes_and_inputs_are_in_the_window() {
        let manifest = testing::manifest();
        let mut c = collector();
        let image = Tensor::from_f32(vec![1, 1, 8, 8], &[0.5; 64]).unwrap();
        c.answered(infer(1), &Meter::new(&manifest).measure(&[image]), &[answer(7)], None);
        let window = c.close(START).content;
        assert_eq!(window.classes.unwrap().counts()[7], 1);
        assert_eq!(window.inputs.get(0).unwrap().values(), 1);
        assert_eq!((window.requests, window.latency.n(), window.confidence.unwrap().n()), (1, 1, 1));
    }

    #[test]
    fn a_window_closes_when_it_is_full() {
        let mut c = collector();
        (0..499).for_each(|_| c.answered(infer(1), &Measured::default(), &[answer(0)], None));
        assert_eq!(c.close_if_due(START, Duration::from_secs(60)), None);
        c.failed(ErrorKind::Malformed);
        assert_eq!(c.close_if_due(START, Duration::from_secs(60)).unwrap().content.requests, 500);
    }

    #[test]
    fn an_old_window_closes_empty_but_an_unused_one_is_not_forced_out() {
        let mut c = collector();
        assert_eq!(c.close_if_used(START), None);
        assert!(c.close_if_due(START.plus(Duration::from_secs(60)), Duration::from_secs(60)).is_some());
    }

    #[test]
    fn what_is_said_of_an_answer_later_is_not_kept_back() {
        let mut c = collector();
        c.labelled(7, 7);
        assert_eq!(c.close_if_used(START).unwrap().content.confusion.of(7, 7), 1);
        c.compared("1.1.0", None);
        assert_eq!(c.close_if_used(START).unwrap().content.pairs.iter().count(), 1);
        assert_eq!(c.close_if_used(START), None);
    }

    #[test]
    fn a_release_that_answers_no_more_has_windows_of_labels_alone() {
        let (mut c, age) = (collector(), Duration::from_secs(60));
        let after = |minutes: u64| START.plus(Duration::from_secs(60 * minutes));
        assert_eq!(c.close_late(after(1), age), None);
        c.labelled_set(true);
        assert_eq!(c.close_late(after(1), age), None, "the empty one gave way to it");
        assert_eq!(c.close_late(after(2), age).unwrap().content.labelled_correct.n, 1);
        assert_eq!(c.close_late(after(9), age), None);
    }

    #[test]
    fn labels_are_put_on_the_disk_too() {
        let mut c = collector();
        c.labelled(7, 1);
        assert_eq!(c.checkpoint(START).unwrap().content.labelled_correct.n, 1);
        assert_eq!(c.checkpoint(START), None);
    }

    #[test]
    fn a_crash_is_the_models_and_no_request() {
        let mut c = collector();
        c.crashed();
        let seen = c.observed();
        assert_eq!((seen.requests, seen.model_errors), (0, 1));
        assert!(c.close_if_used(START).is_some());
    }

    #[test]
    fn an_answer_that_nobody_waited_for_still_has_its_latency() {
        let mut c = collector();
        c.answered(infer(900), &Measured::default(), &[answer(0)], Some(ErrorKind::Closed));
        assert!(c.observed().p95.unwrap() > Duration::from_millis(800));
        let window = c.close(START).content;
        assert_eq!((window.requests, window.errors.closed, window.latency.n()), (1, 1, 1));
    }

    #[test]
    fn an_open_window_is_checkpointed_only_after_news() {
        let mut c = collector();
        assert_eq!(c.checkpoint(START), None);
        c.answered(infer(1), &Measured::default(), &[answer(0)], None);
        let later = START.plus(Duration::from_secs(5));
        let seen = c.checkpoint(later).unwrap().content;
        assert_eq!((seen.requests, seen.opened_ms, seen.closed_ms), (1, START.as_millis(), later.as_millis()));
        assert_eq!(c.checkpoint(later), None);
        assert_eq!(c.close(later).content, seen, "it was left open, and nothing was added");
    }

    #[test]
    fn closing_does_not_forget_what_probation_counts() {
        let mut c = collector();
        c.failed(ErrorKind::Inference);
        c.close(START);
        assert_eq!(c.observed().model_errors, 1);
    }
}
