use super::*;
use crate::stats::reference::{close, reference};
use crate::stats::testing::Random;

/// Trials until an alarm at a rate of `rate`, after `quiet` trials at 5 %; `None` when the alarm came in those.
fn run(random: &mut Random, alpha: f64, quiet: usize, rate: f64) -> Option<usize> {
    let mut detector = RateDetector::new(0.05, alpha);
    if (0..quiet).any(|_| detector.insert(random.uniform() < 0.05)) {
        return None;
    }
    (1..).find(|_| detector.insert(random.uniform() < rate))
}

fn mean(times: &[usize]) -> f64 {
    times.iter().sum::<usize>() as f64 / times.len() as f64
}

/// Statistics.md section 9.4, first half.
#[test]
fn false_alarms_are_at_least_one_over_alpha_apart() {
    let mut random = Random::new(1);
    for (alpha, streams) in [(1e-2, 400), (1e-3, 400), (1e-4, 100)] {
        let times: Vec<usize> = (0..streams).filter_map(|_| run(&mut random, alpha, 0, 0.05)).collect();
        assert!(mean(&times) * alpha >= 1.0, "alpha {alpha}: {} apart", mean(&times));
    }
}

/// Statistics.md section 9.4, second half: errors go from 5 to 10 % after a thousand requests; 211 requests, within 20 %.
#[test]
fn a_doubled_error_rate_is_found_in_about_211_requests() {
    let mut random = Random::new(2);
    let times: Vec<usize> = (0..400).filter_map(|_| run(&mut random, 1e-4, 1000, 0.10)).collect();
    assert!(times.len() >= 350, "{} streams reached the change", times.len());
    assert!((mean(&times) / 211.0 - 1.0).abs() <= 0.20, "{}", mean(&times));
}

#[test]
fn a_rate_below_the_tolerated_one_does_not_alarm() {
    let mut random = Random::new(3);
    let mut detector = RateDetector::new(0.05, 1e-4);
    assert!(!(0..50_000).any(|_| detector.insert(random.uniform() < 0.02)));
}

#[test]
fn a_window_is_one_step_of_the_product_of_its_ratios() {
    let mut one = RateDetector::new(0.1, 1e-3);
    let mut other = one.clone();
    one.insert(true);
    other.insert_window(1, 1);
    assert!(close(one.evidence(), other.evidence(), 1e-12));
}

#[test]
fn evidence_stays_finite_and_resets() {
    let mut detector = RateDetector::new(0.0, 1e-3);
    (0..100_000).for_each(|_| {
        detector.insert(true);
    });
    assert!(detector.evidence().is_finite() && detector.is_alarm());
    assert!(detector.insert_window(u64::MAX, 3));
    detector.reset();
    assert!(!detector.is_alarm());
}

#[test]
fn a_detector_survives_a_restart() {
    let mut detector = RateDetector::new(0.05, 1e-3);
    detector.insert(true);
    let back: RateDetector = postcard::from_bytes(&postcard::to_allocvec(&detector).unwrap()).unwrap();
    assert_eq!(back, detector);
}

#[test]
fn evidence_of_a_window_is_as_scipy_says() {
    let evidence = reference().evidence;
    assert_eq!(evidence.len(), 3);
    for e in evidence {
        let found = HistogramDetector::new(&e.baseline, 1e-3).unwrap().ln_e(&e.window);
        assert!(close(found, e.ln_e, 1e-11), "{found} against {}", e.ln_e);
    }
}

/// A window of `n` values of ten classes of which the first is `tilt` times as likely as the others.
fn window(random: &mut Random, n: usize, tilt: f64) -> Vec<u64> {
    let mut counts = vec![0; 10];
    for _ in 0..n {
        let first = random.uniform() < tilt / (9.0 + tilt);
        counts[if first { 0 } else { 1 + random.below(9) }] += 1;
    }
    counts
}

#[test]
fn histograms_without_drift_do_not_alarm_and_drifted_ones_do_within_three_windows() {
    let mut random = Random::new(4);
    let baseline = window(&mut random, 20_000, 1.0);
    for _ in 0..100 {
        let mut detector = HistogramDetector::new(&baseline, 1e-3).unwrap();
        assert!(!(0..20).any(|_| detector.insert(&window(&mut random, 200, 1.0)).unwrap()));
        assert!((0..3).any(|_| detector.insert(&window(&mut random, 200, 4.0)).unwrap()), "{}", detector.evidence());
    }
}

/// The promise itself: the mean e-value of windows from the baseline, and from the edge of what is tolerated, is at most 1.
#[test]
fn a_window_of_the_baseline_is_worth_at_most_one_on_average() {
    let mut random = Random::new(5);
    let detector = HistogramDetector::new(&[1000; 10], 1e-3).unwrap();
    for n in [1, 3, 10] {
        let mean = (0..4000).map(|_| detector.ln_e(&window(&mut random, n, 1.0)).exp()).sum::<f64>() / 4000.0;
        assert!(mean <= 1.0, "{n} values: {mean}");
    }
}

#[test]
fn an_empty_window_is_no_step_and_an_empty_baseline_none() {
    let mut detector = HistogramDetector::new(&[5, 5], 1e-3).unwrap().with_evidence(7.0);
    assert_eq!((detector.insert(&[0, 0]), detector.evidence()), (Ok(false), 7.0));
    assert!(detector.insert(&[1]).is_err());
    assert_eq!(HistogramDetector::new(&[0, 0], 1e-3), Err(StatsError::NoCounts));
}
