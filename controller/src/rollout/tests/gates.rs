//! Gates one by one, where a whole rollout would hide the numbers.

use crate::pack::testing::manifest;
use crate::rollout::gates::{Arm, Evidence, Gate, HealthFailure, Outcome, Verdict, drift, errors, health, latency};
use crate::rollout::strategy::Limits;
use fieldpost_shared::bundle::manifest::{Budgets, Manifest};
use fieldpost_shared::id::Digest;
use fieldpost_shared::stats::{Baseline, ClassCounts, OutputBaseline, WindowStats};
use fieldpost_shared::time::Timestamp;
use std::sync::Arc;

/// One letter per device, oldest first: `.` is live, `c` crashed, `s` fell silent; of the current wave in capitals.
fn evidence<'a>(devices: &str, wave_size: usize, limits: &'a Limits, budgets: &'a Budgets) -> Evidence<'a> {
    let outcome = |(i, letter): (usize, char)| Outcome {
        at: Timestamp::from_millis(i as u64),
        device: format!("box-{i}").parse().unwrap(),
        of_wave: letter.is_uppercase() || letter == ',',
        failure: match letter.to_ascii_lowercase() {
            'c' => Some(HealthFailure::Crash),
            's' => Some(HealthFailure::Silent),
            _ => None,
        },
    };
    Evidence {
        limits,
        budgets,
        outcomes: devices.chars().enumerate().map(outcome).collect(),
        wave: 2,
        wave_size,
        treated: Arm::default(),
        controls: Arm::default(),
        before: Arm::default(),
    }
}

fn check(gate: &dyn Gate, devices: &str, wave_size: usize, expected: Verdict) {
    let (limits, budgets) = (Limits { crashes: Some(1), ..Limits::default() }, Budgets::default());
    let report = gate.judge(&evidence(devices, wave_size, &limits, &budgets));
    assert_eq!(report.verdict, expected, "{}", report.sentence);
}

#[test]
fn two_failures_among_the_first_five_decide() {
    check(&health::HealthRule, "", 1, Verdict::Waiting);
    check(&health::HealthRule, "c", 2, Verdict::Pass);
    check(&health::HealthRule, "..c.s", 9, Verdict::Breach);
    check(&health::HealthRule, "c....s", 9, Verdict::Pass);
}

#[test]
fn a_wave_in_which_everybody_failed_is_a_breach_however_small() {
    check(&health::WholeWave, "C", 1, Verdict::Breach);
    check(&health::WholeWave, ".....C", 2, Verdict::Pass);
    check(&health::WholeWave, ".....CS", 2, Verdict::Breach);
    check(&health::WholeWave, "cc", 1, Verdict::Waiting);
    check(&health::WholeWave, "", 0, Verdict::Waiting);
}

#[test]
fn a_count_limit_is_the_number_that_may_fail() {
    let gate = health::CountLimit(HealthFailure::Crash);
    check(&gate, "c.", 2, Verdict::Pass);
    check(&gate, "cc", 2, Verdict::Breach);
    check(&health::CountLimit(HealthFailure::Silent), "ss", 2, Verdict::Unbounded);
}

/// The error limit of 5 % on devices that failed so many of 100 requests each.
fn check_errors(failed: &[u64], expected: Verdict) {
    let (limits, budgets) = (Limits::default(), Budgets::default());
    let window = |errors: &u64| {
        let mut window = WindowStats::open("digits", "1.0.0", &Baseline::default(), 0);
        (window.requests, window.errors.inference) = (100, *errors);
        window
    };
    let windows: Vec<WindowStats> = failed.iter().map(window).collect();
    let mut evidence = evidence("", 1, &limits, &budgets);
    for window in &windows {
        evidence.treated.insert(&Digest::of(b"1.0.0"), None, Some(window));
    }
    let report = errors::ErrorRate.judge(&evidence);
    assert_eq!(report.verdict, expected, "{}", report.sentence);
}

#[test]
fn one_bad_device_of_several_is_no_bad_release() {
    check_errors(&[60, 3, 2, 4, 3, 2], Verdict::Pass);
    check_errors(&[60], Verdict::Breach);
    check_errors(&[60, 50], Verdict::Breach);
    check_errors(&[18, 15, 14, 17, 15, 20], Verdict::Breach);
}

/// A device's window of 1.0.0: requests, how many the model failed, how many were slow, and how many were of the first of
/// two classes that the baseline has as often as each other.
fn served(baseline: &Baseline, requests: u64, failed: u64, slow: u64, first: u64) -> WindowStats {
    let mut window = WindowStats::open("digits", "1.0.0", baseline, 0);
    (window.requests, window.errors.inference) = (requests, failed);
    window.latency.insert_us_times(1_000, requests - slow);
    window.latency.insert_us_times(500_000, slow);
    let classes = window.classes.as_mut().unwrap();
    classes.insert_times(0, first);
    classes.insert_times(1, requests - first);
    window
}

/// What the limits of errors (5 %), p95 (100 ms) and outputs (PSI 0.25) say of such devices, without others to compare with.
fn limits_say(devices: &[(u64, u64, u64, u64)]) -> [Verdict; 3] {
    let mut classes = ClassCounts::new(2);
    (0..2).for_each(|class| classes.insert_times(class, 300));
    let output = OutputBaseline { classes: Some(classes), ..OutputBaseline::default() };
    let baseline = Baseline { n: 600, output, ..Baseline::default() };
    let windows: Vec<WindowStats> = devices.iter().map(|d| served(&baseline, d.0, d.1, d.2, d.3)).collect();
    let (limits, budgets) = (Limits { p95_latency_ms: Some(100.0), ..Limits::default() }, Budgets::default());
    let manifest = Arc::new(Manifest { baseline: Some(baseline), ..manifest() });
    let mut evidence = evidence("", 1, &limits, &budgets);
    for window in &windows {
        evidence.treated.insert(&Digest::of(b"1.0.0"), Some(&manifest), Some(window));
    }
    [&errors::ErrorRate as &dyn Gate, &latency::Latency, &drift::OutputDrift].map(|gate| gate.judge(&evidence).verdict)
}

#[test]
fn what_one_device_says_breaks_no_limit_and_hides_none() {
    use Verdict::{Breach, Pass};
    let (good, bad) = ((100, 0, 0, 50), (100, 40, 40, 100));
    assert_eq!(limits_say(&[good; 4]), [Pass; 3]);
    assert_eq!(limits_say(&[bad; 4]), [Breach; 3]);
    assert_eq!(limits_say(&[bad]), [Breach; 3], "the only one is believed");
    assert_eq!(limits_say(&[bad; 2]), [Breach; 3]);
    assert_eq!(limits_say(&[good, bad]), [Pass; 3]);
    assert_eq!(limits_say(&[good, bad, good, good]), [Pass; 3]);
    for requests in [2_000, 1_000_000_000_000_000] {
        let (liar, praise) = ((requests, requests, requests, requests), (requests, 0, 0, requests / 2));
        assert_eq!(limits_say(&[good, good, liar, good]), [Pass; 3], "{requests}");
        assert_eq!(limits_say(&[bad, praise, bad, bad]), [Breach; 3], "{requests}");
    }
}

#[test]
fn others_that_one_device_outweighs_excuse_nothing() {
    let bad = [(100, 40), (100, 40), (100, 40)];
    let check = |controls: &[(u64, u64)], expected: Verdict| {
        let window = |(requests, failed): &(u64, u64)| {
            let mut window = WindowStats::open("digits", "1.0.0", &Baseline::default(), 0);
            (window.requests, window.errors.inference) = (*requests, *failed);
            window
        };
        let (with, without): (Vec<_>, Vec<_>) =
            (bad.iter().map(window).collect(), controls.iter().map(window).collect());
        let (limits, budgets) = (Limits::default(), Budgets::default());
        let mut evidence = evidence("", 1, &limits, &budgets);
        with.iter().for_each(|window| evidence.treated.insert(&Digest::of(b"2"), None, Some(window)));
        without.iter().for_each(|window| evidence.controls.insert(&Digest::of(b"1"), None, Some(window)));
        let report = errors::ErrorRate.judge(&evidence);
        assert_eq!(report.verdict, expected, "{}", report.sentence);
    };
    check(&[(100, 30), (100, 30), (100, 30)], Verdict::Pass);
    check(&[(100, 0), (100, 0), (100, 0)], Verdict::Breach);
    check(&[(100, 0), (1_000_000, 900_000), (100, 0)], Verdict::Breach);
}
