use super::*;
use std::time::Duration;

fn point(began: Timestamp, s: u64, (treated, controls): (f64, f64), width: Option<f64>, decides: bool) -> Point {
    let value = treated - controls;
    Point {
        at: began.plus(Duration::from_secs(s)),
        treated,
        controls: Some(controls),
        difference: width.map(|width| Interval { low: value - width, value, high: value + width }),
        test: Some(if decides { (1, 16) } else { (412, 16) }),
        decides,
        told: format!("look after {s} s"),
    }
}

pub(crate) fn picture() -> Picture {
    let began = Timestamp::from_millis(1_700_000_000_000);
    let at = |s: u64| began.plus(Duration::from_secs(s));
    let errors = [
        point(began, 700, (0.021, 0.019), None, false),
        point(began, 1_300, (0.024, 0.0195), None, false),
        point(began, 2_500, (0.022, 0.0188), None, false),
        point(began, 5_200, (0.041, 0.0191), Some(0.025), false),
        point(began, 5_800, (0.048, 0.0190), Some(0.018), false),
        point(began, 7_000, (0.052, 0.0192), Some(0.011), true),
    ];
    let drift = [
        point(began, 700, (0.011, 0.012), None, false),
        point(began, 2_500, (0.012, 0.011), None, false),
        point(began, 7_000, (0.014, 0.012), None, false),
    ];
    Picture {
        title: "digits@1.2.0 for site=lyon & <all>".into(),
        subtitle: "It did harm, and every touched device goes back".into(),
        began,
        series: vec![
            Series {
                metric: "errors".into(),
                what: "the share of failed requests".into(),
                unit: Unit::Share,
                limit: None,
                points: errors.into(),
            },
            Series {
                metric: "drift".into(),
                what: "the distance of the outputs from the baseline".into(),
                unit: Unit::Number,
                limit: None,
                points: drift.into(),
            },
        ],
        marks: vec![
            Mark { at: at(60), label: "wave 1".into(), decision: false },
            Mark { at: at(4_600), label: "wave 2".into(), decision: false },
            Mark { at: at(7_000), label: "rolled back".into(), decision: true },
        ],
    }
}

#[test]
fn a_rollout_is_drawn_as_it_was() {
    insta::assert_snapshot!(picture().svg());
}

#[test]
fn every_look_wave_and_decision_is_in_the_picture() {
    let svg = picture().svg();
    for text in ["wave 1", "wave 2", "rolled back", "1 / 16", "412 / 16", "2 %", "45 min", "0.01", "look after 700 s"] {
        assert!(svg.contains(text), "no `{text}`");
    }
    assert_eq!(svg.matches("class=\"treated-dot\"").count(), 1 + 6 + 3, "the legend's and each look's");
    assert_eq!(svg.matches("class=\"ring\"").count(), 1 + 1);
    assert!(svg.contains("site=lyon &amp; &lt;all&gt;") && !svg.contains("<all>"));
    assert!(svg.contains("prefers-color-scheme:dark"));
}

#[test]
fn numbers_that_are_none_do_not_break_the_picture() {
    let mut odd = picture();
    odd.series[0].points[0].treated = f64::NAN;
    odd.series[0].points[1].controls = Some(f64::INFINITY);
    odd.series[1].points.clear();
    odd.marks.clear();
    let svg = odd.svg();
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let empty = Picture { series: vec![], ..picture() }.svg();
    assert!(empty.ends_with("</svg>\n"));
}
