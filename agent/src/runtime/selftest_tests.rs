use super::super::fixtures::{digits_manifest, f32s, load, manifest, spec};
use super::*;
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::bundle::manifest::{Budgets, Missing, TabularInput};
use fieldpost_shared::time::{SystemClock, Timestamp};
use std::sync::Mutex;

/// A clock that jumps on by a step each time it is read.
#[derive(Debug)]
struct Stepping {
    step: Duration,
    now: Mutex<Duration>,
}

impl Clock for Stepping {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH
    }

    fn monotonic(&self) -> Duration {
        let mut now = self.now.lock().unwrap();
        *now += self.step;
        *now
    }
}

fn stepping(step_ms: u64) -> Stepping {
    Stepping { step: Duration::from_millis(step_ms), now: Mutex::default() }
}

/// `scores` are the first three of four `features`.
fn identity() -> Manifest {
    let mut identity = manifest(
        "identity",
        vec![spec("features", Dtype::Fp32, &["N", "4"])],
        vec![spec("scores", Dtype::Fp32, &["N", "3"])],
    );
    let features = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    identity.preprocess = Preprocess::Tabular(TabularInput {
        tensor: "features".to_owned(),
        features,
        missing: Missing::Refuse,
        ..TabularInput::default()
    });
    identity
}

fn sample(expected: &[f32]) -> GoldenSample {
    GoldenSample {
        name: "row 3".to_owned(),
        request: Some(br#"{"a": 1, "b": 2, "c": 3, "d": 4}"#.to_vec()),
        inputs: vec![f32s(&[1, 4], &[1.0, 2.0, 3.0, 4.0])],
        outputs: vec![f32s(&[1, 3], expected)],
    }
}

fn tested(manifest: Manifest, sample: GoldenSample, clock: &dyn Clock) -> Result<SelfTestReport, SelfTestFailure> {
    let model = load("bad/wrong-shape", manifest).unwrap();
    self_test(&model, &GoldenSet { samples: vec![sample] }, clock)
}

fn fails(manifest: Manifest, sample: GoldenSample, kind: FailureKind, says: &str) {
    let failure = tested(manifest, sample, &stepping(1)).unwrap_err();
    assert_eq!(failure.kind, kind);
    assert!(failure.detail.contains(says), "{failure}");
}

#[test]
fn a_text_that_differs_is_outside_of_every_tolerance() {
    let text = |label: &str| Tensor::from_texts(vec![1], [label]).unwrap();
    let loose = Tolerance { abs: 1e9, rel: 1e9 };
    assert_eq!(distance(&text("good"), &text("good"), loose), Ok(0.0));
    assert!(distance(&text("good"), &text("bad"), loose).unwrap_err().contains("text 0"));
}

#[test]
fn a_sound_model_passes_with_its_measures() {
    let report = tested(identity(), sample(&[1.0, 2.0, 3.0]), &SystemClock::new()).unwrap();
    assert!(report.samples == 1 && report.runs >= MIN_RUNS && report.largest_error < 1e-6);
    assert!(report.p50 <= report.p95 && report.p95 > Duration::ZERO);
    assert!(report.rss_mib.is_some_and(|mib| mib < 1024.0) || !cfg!(target_os = "linux"));
}

#[test]
fn an_output_outside_the_tolerance_is_told_with_its_numbers() {
    let says =
        "golden sample `row 3`, output `scores`: element 1 is 2, expected 2.5 (tolerance 0.0001 + 0.001 * |expected|)";
    fails(identity(), sample(&[1.0, 2.5, 3.0]), FailureKind::SelfTest, says);
}

#[test]
fn within_the_tolerance_passes() {
    assert!(tested(identity(), sample(&[1.001, 2.0, 3.0]), &stepping(1)).is_ok());
}

#[test]
fn nan_where_a_number_was_expected_is_refused() {
    let nan = manifest("m", vec![spec("x", Dtype::Fp32, &["N", "4"])], vec![spec("score", Dtype::Fp32, &["N", "4"])]);
    let model = load("bad/nan-output", nan).unwrap();
    let sample = GoldenSample {
        name: "zeros".to_owned(),
        request: None,
        inputs: vec![f32s(&[1, 4], &[0.0; 4])],
        outputs: vec![f32s(&[1, 4], &[0.0; 4])],
    };
    let failure = self_test(&model, &GoldenSet { samples: vec![sample] }, &stepping(1)).unwrap_err();
    assert_eq!(failure.detail, "golden sample `zeros` fails: output `score` holds NaN");
}

#[test]
fn a_number_where_nan_or_infinity_was_expected_is_refused() {
    for expected in [f32::NAN, f32::INFINITY] {
        fails(identity(), sample(&[1.0, expected, 3.0]), FailureKind::SelfTest, "element 1 is 2, expected");
    }
}

#[test]
fn other_shapes_are_refused() {
    let mut other = sample(&[1.0, 2.0, 3.0]);
    other.outputs = vec![f32s(&[3], &[1.0, 2.0, 3.0])];
    fails(identity(), other, FailureKind::SelfTest, "Tensor(FP32 [1, 3]) instead of Tensor(FP32 [3])");
}

#[test]
fn pre_processing_must_give_the_same_inputs_here() {
    let mut other = sample(&[1.0, 2.0, 3.0]);
    other.request = Some(br#"{"a": 1, "b": 2, "c": 3.5, "d": 4}"#.to_vec());
    fails(identity(), other, FailureKind::SelfTest, "another input `features` here: element 2 is 3.5, expected 3");
    let mut broken = sample(&[1.0, 2.0, 3.0]);
    broken.request = Some(b"{".to_vec());
    fails(identity(), broken, FailureKind::SelfTest, "is no JSON");
    let mut short = sample(&[1.0, 2.0, 3.0]);
    short.request = Some(b"{}".to_vec());
    fails(identity(), short, FailureKind::SelfTest, "cannot be prepared: feature `a` is missing");
}

#[test]
fn without_samples_nothing_passes() {
    let model = load("bad/wrong-shape", identity()).unwrap();
    let failure = self_test(&model, &GoldenSet::default(), &stepping(1)).unwrap_err();
    assert_eq!((failure.kind, failure.detail.as_str()), (FailureKind::SelfTest, "the bundle holds no golden samples"));
}

#[test]
fn too_slow_is_over_budget() {
    let mut slow = identity();
    slow.budgets = Budgets { p95_latency_ms: Some(4.0), ..Budgets::default() };
    fails_at(5, slow.clone(), "p95 of 200 inferences is 5.00 ms, the budget 4 ms");
    slow.budgets.p95_latency_ms = Some(5.0);
    assert!(tested(slow, sample(&[1.0, 2.0, 3.0]), &stepping(5)).is_ok());
}

fn fails_at(step_ms: u64, manifest: Manifest, says: &str) {
    let failure = tested(manifest, sample(&[1.0, 2.0, 3.0]), &stepping(step_ms)).unwrap_err();
    assert_eq!((failure.kind, failure.detail.as_str()), (FailureKind::OverBudget, says));
}

#[test]
fn timing_is_bounded_by_the_clock() {
    let runs = |step_ms| tested(identity(), sample(&[1.0, 2.0, 3.0]), &stepping(step_ms)).unwrap().runs;
    // The clock is read twice per run and once before.
    assert_eq!(runs(1), MAX_RUNS);
    assert_eq!(runs(10), 100);
    assert_eq!(runs(1_000), MIN_RUNS);
    assert_eq!(runs(30_000), 1);
}

#[test]
fn too_much_memory_is_over_budget() {
    let mut large = digits_manifest();
    large.budgets = Budgets { rss_mib: Some(0.0), ..Budgets::default() };
    let model = load("digits-1.1", large).unwrap();
    // Memory that is held while the growth is measured, so that the growth is certain.
    let held = vec![1_u8; 64 << 20];
    let input = f32s(&[1, 1, 8, 8], &[0.5; 64]);
    let outputs = model.infer(std::slice::from_ref(&input)).unwrap();
    let sample = GoldenSample { name: "gray".to_owned(), request: None, inputs: vec![input], outputs };
    let failure = self_test(&model, &GoldenSet { samples: vec![sample] }, &stepping(1)).unwrap_err();
    assert_eq!(held.iter().map(|byte| usize::from(*byte)).sum::<usize>(), held.len());
    assert!(
        failure.kind == FailureKind::OverBudget && failure.detail.starts_with("resident memory grew by"),
        "{failure}"
    );
}

#[test]
fn a_percentile_is_the_nearest_rank() {
    let times: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
    assert_eq!(percentile(&times, 95), Duration::from_millis(19));
    assert_eq!(percentile(&times[..1], 95), Duration::from_millis(1));
    assert_eq!(percentile(&[], 95), Duration::ZERO);
}
