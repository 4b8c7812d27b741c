use super::*;
use crate::rollout::trial::permutation::{Layout, Spent, fixed, judge};
use crate::rollout::trial::random::Stream;
use fieldpost_shared::id::Digest;

fn base() -> Base {
    // 2 %, differing from device to device by as much again.
    Base { mean: 0.02, between: 0.000_4, counted: true, rate: 0.1 }
}

#[test]
fn what_devices_differ_by_is_told_from_what_few_requests_do() {
    let mut stream = Stream::new(&Digest::from_bytes([3; 32]), "test", 0);
    let pasts: Vec<Past> = (0..4_000)
        .map(|_| {
            let rate = (-0.02 * (1.0 - stream.unit()).ln()).min(1.0);
            let score = stream.thin(100, rate) as f64 / 100.0;
            Past { score, trials: 100, covered: Duration::from_secs(1_000) }
        })
        .collect();
    let found = Base::of(&pasts, true).unwrap();
    assert!((found.mean - 0.02).abs() < 0.001, "{found:?}");
    assert!((found.between / 0.000_4 - 1.0).abs() < 0.15, "{found:?}");
    assert!((found.rate - 0.1).abs() < 1e-9);
}

#[test]
fn one_device_says_nothing_of_the_others() {
    let past = Past { score: 0.1, trials: 10, covered: Duration::from_secs(1) };
    assert_eq!(Base::of(&[past], true), None);
    assert_eq!(Base::of(&[past, Past { trials: 0, ..past }], true), None);
}

#[test]
fn without_harm_now_nothing_can_be_multiplied() {
    let found = detects(&Base { mean: 0.0, ..base() }, 10, 90, 0.01, Duration::from_secs(3_600), 1.5);
    assert_eq!((found.power, found.needs), (None, None));
}

#[test]
fn more_devices_and_more_harm_are_found_more_often() {
    let power = |treated| detects(&base(), treated, 200, 0.02, Duration::from_secs(3_600), 1.5).power.unwrap();
    let (few, many) = (power(10), power(200));
    assert!(few[0] < few[1] && few[1] < few[2] && many[1] > few[1], "{few:?} {many:?}");
    assert!(many[2] > 0.99);
}

#[test]
fn the_requests_needed_are_the_formula_s() {
    let needs = detects(&base(), 100, 100, 0.02, Duration::from_secs(3_600), 2.0).needs.unwrap();
    assert!((needs - 8.0 * 0.02 * 0.98 * 2.0 / 0.02_f64.powi(2)).abs() < 1e-6);
}

/// The formula against the test itself, at one look: within what 400 trials and the skewness of rates allow.
#[test]
fn the_figure_is_near_what_the_test_does() {
    let (treated, all, requests, level, trials) = (60, 160, 360_u64, 0.05, 400_u32);
    let layout = Layout::new(std::iter::repeat_n("x", all), &[treated]);
    let mut stream = Stream::new(&Digest::from_bytes([4; 32]), "test", 0);
    for (factor, foreseen) in FACTORS
        .into_iter()
        .zip(detects(&base(), treated, all - treated, level, Duration::from_secs(3_600), 1.5).power.unwrap())
    {
        let found = (0..trials).filter(|trial| {
            let scores: Vec<i64> = (0..all)
                .map(|place| {
                    let rate = -0.02 * (1.0 - stream.unit()).ln() * if place < treated { factor } else { 1.0 };
                    fixed(stream.thin(requests, rate.min(1.0)) as f64 / requests as f64)
                })
                .collect();
            let seed = Digest::of(&trial.to_be_bytes());
            let sums = layout.sums(&seed, 199, treated, std::slice::from_ref(&scores)).remove(0);
            judge(scores[..treated].iter().sum(), &sums, &Spent::default(), 10).extreme
        });
        let found = found.count() as f64 / f64::from(trials);
        assert!((found - foreseen).abs() < 0.12, "x{factor}: foreseen {foreseen}, found {found}");
    }
}
