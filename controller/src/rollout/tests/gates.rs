//! Gates one by one, where a whole rollout would hide the numbers.

use crate::rollout::gates::{Arm, Evidence, Gate, HealthFailure, Outcome, Verdict, errors, health};
use crate::rollout::strategy::Limits;
use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::id::Digest;
use fieldpost_shared::stats::{Baseline, WindowStats};
use fieldpost_shared::time::Timestamp;

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
    let mut evidence = evidence("", 1, &limits, &budgets);
    for errors in failed {
        let mut window = WindowStats::open("digits", "1.0.0", &Baseline::default(), 0);
        (window.requests, window.errors.inference) = (100, *errors);
        evidence.treated.insert(&Digest::of(b"1.0.0"), None, Some(&window));
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
