use super::super::random::Stream;
use super::*;
use fieldpost_shared::id::Digest;

fn reading(events: u64, trials: u64, before: Option<f64>) -> Reading {
    Reading { now: Score::Count { events, trials }, before }
}

fn near(found: Estimate, [value, low, high]: [f64; 3]) {
    for (found, expected) in [(found.value, value), (found.low, low), (found.high, high)] {
        assert!((found - expected).abs() < 5e-7, "{found} is not {expected}");
    }
}

/// Against `scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)`, scipy 1.17.1.
#[test]
fn two_groups_of_devices_have_the_interval_of_welch() {
    let new: Vec<Reading> = [3, 5, 2, 6].map(|events| reading(events, 100, None)).into();
    let old: Vec<Reading> = [1, 2, 1, 0, 2].map(|events| reading(events, 100, None)).into();
    let found = between(Metric::Errors, &new, &old).unwrap();
    near(found.difference.unwrap(), [0.028, 0.000_629_3, 0.055_370_7]);
    assert_eq!((found.new.events, found.old.requests), (Some(16), 500));
    assert_eq!(found.says(), Says::Worse);
    let turned = between(Metric::Errors, &old, &new).unwrap();
    near(turned.difference.unwrap(), [-0.028, -0.055_370_7, -0.000_629_3]);
    assert_eq!(turned.says(), Says::Better);
}

/// Against `scipy.stats.ttest_rel(a, b).confidence_interval(0.95)`, scipy 1.17.1.
#[test]
fn a_device_with_both_releases_is_its_own_comparison() {
    let pair =
        |new: u64, old: u64| (Score::Count { events: new, trials: 100 }, Score::Count { events: old, trials: 100 });
    let alone = (Score::Count { events: 99, trials: 100 }, Score::Missing);
    let found = within(Metric::Errors, &[pair(31, 30), pair(12, 10), pair(53, 50), pair(2, 0), alone]).unwrap();
    near(found.difference.unwrap(), [0.02, 0.007_007_7, 0.032_992_3]);
    assert_eq!(found.says(), Says::Worse);
    assert_eq!((found.new.devices, found.new.scored, found.old.scored), (5, 5, 4));
}

#[test]
fn one_device_has_no_interval_and_nobody_no_contrast() {
    let one = [reading(1, 10, None)];
    assert_eq!(between(Metric::Errors, &one, &one).unwrap().difference, None);
    assert_eq!(between(Metric::Errors, &[Reading::NONE], &[]), None);
    assert_eq!(within(Metric::Drift, &[(Score::Missing, Score::Missing)]), None);
}

/// Each of two devices failed one of a hundred: that is one event a device, and no certainty.
#[test]
fn devices_that_agree_leave_what_chance_leaves() {
    let (new, old) = (vec![reading(1, 100, None); 2], vec![reading(0, 100, None); 2]);
    let found = between(Metric::Errors, &new, &old).unwrap();
    // 3 of 402 with Laplace's events; t of two degrees of freedom is 4.3027.
    let half = 4.302_653 * (3.0_f64 / 402.0 * (399.0 / 402.0) * 2.0 / 200.0).sqrt();
    near(found.difference.unwrap(), [0.01, 0.01 - half, 0.01 + half]);
    assert_eq!(found.says(), Says::Nothing);
    let none = vec![reading(0, 10_000, None); 3];
    let found = between(Metric::Errors, &none, &none).unwrap().difference.unwrap();
    assert!(found.low < 0.0 && found.high < 3e-4, "{found:?}");
    let pairs = [(Score::Count { events: 1, trials: 50 }, Score::Count { events: 0, trials: 50 }); 2];
    assert_eq!(within(Metric::Errors, &pairs).unwrap().says(), Says::Nothing);
}

/// Devices whose rates differ: the interval holds the true difference in 95 % of experiments, and the past makes it
/// narrower.
#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let mut stream = Stream::new(&Digest::from_bytes([9; 32]), "test", 0);
    let (cases, harm, mut held, mut widths) = (2_000_u32, 0.02, 0_u32, [0.0, 0.0]);
    for _ in 0..cases {
        let mut device = |worse: f64| {
            let rate = (-0.03 * (1.0 - stream.unit()).ln()).min(0.5);
            let before = stream.thin(2_000, rate) as f64 / 2_000.0;
            reading(stream.thin(400, rate + worse), 400, Some(before))
        };
        let new: Vec<Reading> = (0..25).map(|_| device(harm)).collect();
        let old: Vec<Reading> = (0..25).map(|_| device(0.0)).collect();
        let found = between(Metric::Errors, &new, &old).unwrap().difference.unwrap();
        held += u32::from(found.low <= harm && harm <= found.high);
        widths[0] += found.high - found.low;
        let bare = |readings: &[Reading]| -> Vec<Reading> {
            readings.iter().map(|reading| Reading { before: None, ..*reading }).collect()
        };
        let bare = between(Metric::Errors, &bare(&new), &bare(&old)).unwrap().difference.unwrap();
        widths[1] += bare.high - bare.low;
    }
    let share = f64::from(held) / f64::from(cases);
    assert!((0.935..=0.965).contains(&share), "{share}: binomial error 0.005");
    assert!(widths[0] < 0.6 * widths[1], "{widths:?}");
}
