use super::*;

const METRIC: Metric = Metric { gate: "m", what: "the metric", show: |value| format!("{value:.2}") };

fn measure(n: u64, value: f64, p_value: f64) -> Option<Measure> {
    Some(Measure { n, needed: 20, value, p_value, other: None })
}

fn check(treated: Option<Measure>, controls: Option<Measure>, before: Option<Measure>, expected: Verdict) {
    let report = hold(
        &METRIC,
        0.1,
        &Arms { treated, controls, devices: (1, controls.iter().count()), before },
        &Limits::default(),
    );
    assert_eq!(report.verdict, expected, "{}", report.sentence);
}

#[test]
fn no_data_is_never_success() {
    check(None, None, None, Verdict::Waiting);
    check(measure(0, 0.0, 1.0), None, None, Verdict::Waiting);
    check(measure(19, 0.0, 1.0), None, None, Verdict::Waiting);
}

#[test]
fn too_little_data_is_no_breach_either() {
    check(measure(19, 0.9, 0.0), None, None, Verdict::Waiting);
}

#[test]
fn a_value_at_the_bound_passes() {
    check(measure(20, 0.1, 0.0), None, None, Verdict::Pass);
}

#[test]
fn a_large_and_significant_value_without_others_is_a_breach() {
    check(measure(20, 0.5, 0.001), None, None, Verdict::Breach);
}

#[test]
fn what_chance_gives_as_well_is_no_breach() {
    check(measure(20, 0.5, 0.002), None, None, Verdict::Pass);
}

#[test]
fn an_outage_that_everybody_has_is_not_the_release() {
    check(measure(20, 0.5, 0.0), measure(20, 0.2, 0.0), None, Verdict::Pass);
    check(measure(20, 0.5, 0.0), measure(20, 0.1, 0.0), None, Verdict::Breach);
}

#[test]
fn a_device_that_was_like_that_before_is_not_the_release() {
    check(measure(20, 0.5, 0.0), measure(20, 0.0, 1.0), measure(20, 0.4, 0.0), Verdict::Pass);
    check(measure(20, 0.5, 0.0), measure(20, 0.0, 1.0), measure(20, 0.0, 1.0), Verdict::Breach);
}

#[test]
fn a_comparison_without_enough_requests_is_waited_for_and_excuses_nobody_for_ever() {
    check(measure(20, 0.5, 0.0), measure(19, 0.5, 0.0), measure(3, 0.5, 0.0), Verdict::Waiting);
    check(measure(59, 0.5, 0.0), measure(0, 0.0, 1.0), None, Verdict::Waiting);
    check(measure(60, 0.5, 0.0), measure(19, 0.5, 0.0), measure(3, 0.5, 0.0), Verdict::Breach);
    check(measure(20, 0.5, 0.0), None, measure(3, 0.5, 0.0), Verdict::Breach);
}

#[test]
fn the_second_figure_can_make_it_worse_where_the_first_cannot() {
    let with = |value, other| Some(Measure { n: 99, needed: 20, value, p_value: 0.0, other: Some(other) });
    check(with(0.5, 1.0), with(0.3, 0.1), None, Verdict::Breach);
    check(with(0.5, 1.0), with(0.3, 0.5), None, Verdict::Pass);
}

#[test]
fn a_nan_is_neither_success_nor_breach() {
    check(measure(20, f64::NAN, 0.0), None, None, Verdict::Waiting);
}

#[test]
fn a_breach_tells_every_number_that_it_was_made_of() {
    let arms =
        Arms { treated: measure(66, 3.2, 1e-9), controls: measure(400, 0.01, 0.5), devices: (1, 3), before: None };
    let report = hold(&METRIC, 0.25, &arms, &Limits::default());
    assert_eq!(
        report.sentence,
        "the metric is 3.20 over 66 requests, limit 0.25, p = 1.0e-9 (<= 0.001), 0.01 on devices without the release"
    );
    assert_eq!(report.numbers["controls_n"], 400.0);
}
