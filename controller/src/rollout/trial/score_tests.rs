use super::*;
use fieldpost_shared::stats::{ClassCounts, Confidence, ErrorKind, OutputBaseline};
use std::time::Duration;

fn baseline() -> Baseline {
    let (mut classes, mut confidence) = (ClassCounts::new(4), Confidence::default());
    (0..1_000).for_each(|i| classes.insert(i % 4));
    (0..1_000).for_each(|i| confidence.insert(0.5 + f64::from(i) / 2_000.0));
    let output = OutputBaseline { classes: Some(classes), confidence: Some(confidence), regression: None };
    Baseline { n: 1_000, inputs: vec![], output }
}

fn window(ms: u64, class: impl Fn(usize) -> usize, confidence: f64) -> WindowStats {
    let mut window = WindowStats::open("m", "1.0.0", &baseline(), 0);
    for i in 0..100 {
        window.requests += 1;
        window.latency.insert(Duration::from_millis(if i < 90 { 1 } else { ms }));
        window.classes.as_mut().unwrap().insert(class(i));
        window.confidence.as_mut().unwrap().insert(confidence);
    }
    window
}

fn served<'a>(window: &'a WindowStats, baseline: &'a Baseline) -> Served<'a> {
    Served { window, baseline: Some(baseline) }
}

#[test]
fn the_model_s_failures_count_and_the_callers_do_not() {
    let (baseline, mut window) = (baseline(), window(2, |i| i % 4, 0.9));
    window.errors.insert(ErrorKind::Inference);
    window.errors.insert(ErrorKind::Malformed);
    let known = Known { now: Some(served(&window, &baseline)), before: None, expected: true, unsure: true };
    assert_eq!(read(Metric::Errors, &known).now, Score::Count { events: 1, trials: 100 });
}

#[test]
fn a_device_that_reported_before_and_does_not_now_has_the_worst_score() {
    let (baseline, window) = (baseline(), window(2, |i| i % 4, 0.9));
    let gone = Known { now: None, before: Some(served(&window, &baseline)), expected: true, unsure: true };
    assert_eq!(read(Metric::Errors, &gone).now, Score::Silent);
    assert_eq!(read(Metric::Drift, &gone).now, Score::Missing, "silence is told once");
    assert_eq!(read(Metric::Errors, &Known { expected: false, ..gone }).now, Score::Missing);
    assert_eq!(read(Metric::Errors, &Known { before: None, ..gone }).now, Score::Missing, "nobody expected it");
}

#[test]
fn slow_is_slower_than_the_device_itself_was() {
    let (baseline, before, now) = (baseline(), window(10, |i| i % 4, 0.9), window(50, |i| i % 4, 0.9));
    let known = Known {
        now: Some(served(&now, &baseline)),
        before: Some(served(&before, &baseline)),
        expected: true,
        unsure: true,
    };
    assert_eq!(read(Metric::Latency, &known).now, Score::Count { events: 10, trials: 100 });
    let same = Known { now: Some(served(&before, &baseline)), ..known };
    assert_eq!(read(Metric::Latency, &same).now, Score::Count { events: 0, trials: 100 });
    assert_eq!(read(Metric::Latency, &Known { before: None, ..known }).now, Score::Missing);
    assert_eq!(read(Metric::Latency, &known).before, None, "it is 5 % for everybody");
}

#[test]
fn drift_is_far_answers_and_unsure_ones() {
    let baseline = baseline();
    let value = |window: &WindowStats| {
        let known = Known { now: Some(served(window, &baseline)), before: None, expected: true, unsure: true };
        read(Metric::Drift, &known).now.value().unwrap()
    };
    let near = value(&window(1, |i| i % 4, 0.9));
    let far = value(&window(1, |_| 0, 0.9));
    let unsure = value(&window(1, |i| i % 4, 0.2));
    assert!(near < 0.05 && far > 0.2 && unsure > 0.4, "{near} {far} {unsure}");
    let window = window(1, |i| i % 4, 0.2);
    let known = Known { now: Some(served(&window, &baseline)), before: None, expected: true, unsure: false };
    assert!(read(Metric::Drift, &known).now.value().unwrap() < 0.05, "the other release cannot say how sure it is");
}

#[test]
fn what_was_counted_over_another_baseline_is_no_drift() {
    let (window, other) = (window(1, |_| 0, 0.9), Baseline::default());
    let known = Known { now: Some(served(&window, &other)), before: None, expected: true, unsure: true };
    assert_eq!(read(Metric::Drift, &known).now, Score::Missing);
}

#[test]
fn wrong_answers_are_counted_among_labelled_ones() {
    let (baseline, mut window) = (baseline(), window(1, |_| 0, 0.9));
    (0..10).for_each(|i| window.labelled_correct.insert(i < 7));
    let known = Known { now: Some(served(&window, &baseline)), before: None, expected: true, unsure: true };
    assert_eq!(read(Metric::Accuracy, &known).now, Score::Count { events: 3, trials: 10 });
}
