use super::*;
use crate::stats::baseline::NumericBaseline;
use crate::stats::reference::{Distance, close, reference};
use crate::stats::testing::Random;

fn check(figure: impl Fn(&Distance, &Pair) -> Vec<(&'static str, f64, f64)>) {
    let distances = &reference().distances;
    assert!(distances.len() >= 10);
    for d in distances {
        let pair = Pair::new(&d.window, &d.baseline).unwrap();
        for (what, found, scipy) in figure(d, &pair) {
            assert!(close(found, scipy, 1e-12), "{what} of `{}`: {found:e} against {scipy:e}", d.name);
        }
    }
}

#[test]
fn psi_is_as_scipy_says() {
    check(|d, pair| vec![("psi", pair.psi(), d.psi)]);
}

#[test]
fn jensen_shannon_is_as_scipy_says() {
    check(|d, pair| vec![("js", pair.jensen_shannon(), d.js)]);
}

#[test]
fn the_g_test_is_as_scipy_says() {
    check(|d, pair| {
        let test = pair.g_test();
        assert_eq!(test.degrees_of_freedom, d.g.df, "{}", d.name);
        vec![("statistic", test.statistic, d.g.statistic), ("p", test.p_value, d.g.p)]
    });
}

#[test]
fn chi_squared_is_as_scipy_says() {
    check(|d, pair| {
        let test = pair.chi_squared();
        assert_eq!(test.degrees_of_freedom, d.chi2.df, "{}", d.name);
        vec![("statistic", test.statistic, d.chi2.statistic), ("p", test.p_value, d.chi2.p)]
    });
}

#[test]
fn kolmogorov_smirnov_is_as_scipy_says() {
    check(|d, pair| vec![("ks", pair.kolmogorov_smirnov(), d.ks)]);
}

#[test]
fn wasserstein_is_as_scipy_says() {
    check(|d, _| {
        let points = |counts: &[u64]| d.places.iter().copied().zip(counts.iter().copied()).collect::<Vec<_>>();
        vec![("w1", wasserstein_of(&points(&d.window), &points(&d.baseline)).unwrap(), d.wasserstein)]
    });
}

#[test]
fn equal_counts_have_no_distance() {
    let pair = Pair::new(&[10, 20, 0, 70], &[10, 20, 0, 70]).unwrap();
    assert_eq!((pair.bins(), pair.psi(), pair.psi_adjusted(), pair.jensen_shannon()), (3, 0.0, 0.0, 0.0));
    assert_eq!((pair.g_test().p_value, pair.kolmogorov_smirnov()), (1.0, 0.0));
}

#[test]
fn nothing_counted_is_no_evidence() {
    assert_eq!(Pair::new(&[0, 0], &[1, 2]).unwrap_err(), StatsError::NoCounts);
    assert_eq!(Pair::new(&[1, 2], &[0, 0]).unwrap_err(), StatsError::NoCounts);
}

#[test]
fn counts_of_different_bins_are_refused() {
    assert!(matches!(Pair::new(&[1], &[1, 2]), Err(StatsError::Shape { left: 1, right: 2, .. })));
}

#[test]
fn absurd_counts_from_outside_do_not_overflow() {
    let pair = Pair::new(&[u64::MAX, 1], &[u64::MAX, u64::MAX]).unwrap();
    assert!(pair.psi().is_finite() && pair.g_test().p_value == 0.0);
}

/// Wasserstein of the raw values: sorted, equally many.
fn exact(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    a.iter().zip(&b).map(|(x, y)| (x - y).abs()).sum::<f64>() / a.len() as f64
}

#[test]
fn wasserstein_of_sketches_is_near_that_of_the_values_even_with_outliers() {
    let mut random = Random::new(5);
    let base: Vec<f64> = (0..4000).map(|_| random.normal()).collect();
    let numeric = NumericBaseline::from_values("x", &base, 0, 32).unwrap();
    for (shift, outlier) in [(0.0, 0.0), (0.5, 0.0), (0.0, 40.0), (-1.0, 1000.0)] {
        let values: Vec<f64> =
            (0..4000).map(|i| if i % 200 == 0 { outlier } else { 0.0 } + shift + random.normal()).collect();
        let sketch = Histogram::of(&numeric.edges, &values);
        let found = wasserstein(&sketch, &numeric.histogram, &numeric.edges).unwrap().unwrap();
        let truth = exact(values, base.clone());
        assert!((found - truth).abs() <= 0.02, "shift {shift}, outliers {outlier}: {found} against {truth}");
    }
}

/// Statistics.md section 9.2: the upper quantiles of PSI without drift are those of `(1/n + 1/m) chi^2` to 5 percent.
#[test]
fn psi_without_drift_is_chi_squared() {
    let mut random = Random::new(9);
    let (bins, n, m, replicas) = (16, 160, 16_000, 1000);
    let mut draw = |n: usize| {
        let mut counts = vec![0u64; bins];
        (0..n).for_each(|_| counts[random.below(bins)] += 1);
        counts
    };
    let scale = 1.0 / n as f64 + 1.0 / m as f64;
    let mut psi: Vec<f64> = (0..replicas).map(|_| Pair::new(&draw(n), &draw(m)).unwrap().psi() / scale).collect();
    psi.sort_by(f64::total_cmp);
    // Quantiles of chi^2 with 15 degrees of freedom at 90 and 95 percent.
    for (share, quantile) in [(90, 22.307_129_581_578_69), (95, 24.995_790_139_728_62)] {
        let found = psi[share * replicas / 100];
        assert!((found / quantile - 1.0).abs() <= 0.05, "{share}: {found} against {quantile}");
    }
}

#[test]
fn the_g_test_without_drift_fires_as_often_as_it_says() {
    let mut random = Random::new(10);
    let mut draw = |n: usize| {
        let mut counts = vec![0u64; 16];
        (0..n).for_each(|_| counts[random.below(16)] += 1);
        counts
    };
    let fired = (0..2000).filter(|_| Pair::new(&draw(160), &draw(1600)).unwrap().g_test().p_value <= 0.05).count();
    // 100 expected; the bounds are four standard deviations.
    assert!((61..=139).contains(&fired), "{fired}");
}

/// All answers of one class, however many they are, or however many rows the baseline has.
#[test]
fn a_collapse_is_found_whatever_the_sizes() {
    let baseline = [30_u64; 10];
    for n in [300, 10_000, 840_000, 1_000_000_000_000_000] {
        let mut window = [0; 10];
        window[0] = n;
        let test = Pair::new(&window, &baseline).unwrap().g_test();
        assert!(test.p_value < 1e-50, "{n}: {test:?}");
    }
    // What was hardly ever seen is all that is seen.
    let test = Pair::new(&[0, 100], &[999_900, 100]).unwrap().g_test();
    assert!(test.p_value < 1e-30, "{test:?}");
}

/// Shares that differ, baselines of few rows, windows of many: chance gives small p-values no more often than it says.
#[test]
fn many_answers_beside_few_rows_are_not_called_drift_by_chance() {
    let mut random = Random::new(11);
    let shares = [0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.015, 0.005];
    let draw = |random: &mut Random, n: u32| {
        let mut counts = [0_u64; 8];
        for _ in 0..n {
            let mut at = random.uniform();
            let class = shares.iter().position(|share| {
                at -= share;
                at < 0.0
            });
            counts[class.unwrap_or(7)] += 1;
        }
        counts
    };
    let cases = 1_000;
    let small = (0..cases).filter(|_| {
        let (window, baseline) = (draw(&mut random, 5_000), draw(&mut random, 150));
        Pair::new(&window, &baseline).unwrap().g_test().p_value <= 0.05
    });
    let share = small.count() as f64 / f64::from(cases);
    assert!((0.02..=0.075).contains(&share), "{share}");
}
