//! Is the release no more than `margin` times worse? The treated devices' scores are made `margin` times smaller; if it
//! is exactly so many times worse, both arms are then alike, and the permutation test of the lower tail applies
//! (statistics.md section 3). Absence of evidence never passes.

use super::random::Stream;
use super::score::Score;
use fieldpost_shared::id::Digest;
use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// More events than these are never few.
const MOST_EVENTS: u64 = 100_000;

/// A treated device's score when the release did `margin` times less harm: events are kept each with probability
/// `1 / margin`, values are divided. Chance comes from the seed, the metric's name, the look, and the device's place.
/// A silent device stays silent: nothing excuses it.
#[must_use]
pub fn lessened(score: &Score, margin: f64, seed: &Digest, purpose: &str, place: u64) -> Option<f64> {
    match score {
        Score::Missing => None,
        Score::Silent => Some(1.0),
        Score::Value { value, .. } => Some(value / margin),
        Score::Count { events, trials } => {
            let kept = Stream::new(seed, purpose, place).thin(*events, 1.0 / margin);
            Some(kept as f64 / (*trials).max(1) as f64)
        }
    }
}

/// A device's requests count up to so many times the median's.
const MOST_TIMES: u64 = 3;

/// Events, and requests device by device, from each device's events and requests, with those beyond three times the median
/// device's left out in proportion: the device is the unit, and one that answers a thousand times as much as the others
/// would be all that is heard.
#[must_use]
pub fn leveled(counts: &[(u64, u64)]) -> (u64, Vec<u64>) {
    let mut sorted: Vec<u64> = counts.iter().map(|(_, trials)| *trials).collect();
    sorted.sort_unstable();
    let most = sorted.get(sorted.len() / 2).copied().unwrap_or(0).saturating_mul(MOST_TIMES).max(1);
    let mut all = 0_u64;
    let mut requests = Vec::with_capacity(counts.len());
    for (events, trials) in counts {
        let counted = u128::from((*trials).min(most));
        // Rounded up: no event is lost to it.
        let events = (u128::from(*events) * counted).div_ceil(u128::from(*trials).max(1));
        all = all.saturating_add(u64::try_from(events).unwrap_or(u64::MAX));
        requests.push((*trials).min(most));
    }
    (all, requests)
}

/// Upper bound of the mean event rate of devices like these, when so many of their requests were events: the truth is above it
/// with a probability of at most `level`.
///
/// The device is the unit: rates differ from device to device as a Gamma distribution with a coefficient of variation of
/// 1, which makes the events of devices with `m` requests each negative binomial. Devices with unequal traffic count as
/// the fewer equal ones that `(sum m)^2 / sum m^2` says. Without events this is the rule of three for devices that
/// differ: from `n` devices with `m` requests each the bound at 5 % is `(20^(1/n) - 1) / m`, which is `3 / (n m)` for many. 1
/// without a request.
#[must_use]
pub fn upper_mean(events: u64, requests: &[u64], level: f64) -> f64 {
    let all: f64 = requests.iter().map(|m| *m as f64).sum();
    let squares: f64 = requests.iter().map(|m| (*m as f64).powi(2)).sum();
    if all <= 0.0 || events > MOST_EVENTS {
        return 1.0;
    }
    let shape = all * all / squares;
    let at_most = |rate: f64| {
        let hit = all * rate / (shape + all * rate);
        let mut term = (shape * (1.0 - hit).ln()).exp();
        let mut sum = term;
        for k in 0..events {
            term *= (shape + k as f64) / (k as f64 + 1.0) * hit;
            sum += term;
        }
        sum
    };
    let (mut low, mut high) = (0.0, 1.0);
    if at_most(high) > level {
        return 1.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(middle) > level { low = middle } else { high = middle }
    }
    high
}

/// Upper bound of the mean of devices' values at a level, by Student's t; none with fewer than two devices.
#[must_use]
pub fn upper_value(values: &[f64], level: f64) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(1.0 - level);
    Some(mean + t * (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_events_it_is_the_rule_of_three_for_devices_that_differ() {
        let check = |requests: &[u64], bound: f64| {
            let found = upper_mean(0, requests, 0.05);
            assert!((found / bound - 1.0).abs() < 1e-6, "{found} {bound}");
        };
        check(&[150; 6], (20_f64.powf(1.0 / 6.0) - 1.0) / 150.0);
        check(&[100; 1_000], (20_f64.powf(1.0 / 1_000.0) - 1.0) / 100.0);
        assert!((upper_mean(0, &[100; 1_000], 0.05) * 100_000.0 - 3.0).abs() < 0.02, "three in all requests");
    }

    #[test]
    fn one_device_that_answers_for_all_counts_as_three() {
        assert_eq!(leveled(&[(40, 100), (40, 100), (40, 100), (0, 1_000_000)]), (120, vec![100, 100, 100, 300]));
        assert_eq!(leveled(&[(1, 100), (3, 150), (2, 290)]), (6, vec![100, 150, 290]), "as they are");
        assert_eq!(leveled(&[(1, 10), (0, 10), (500_000, u64::MAX)]), (2, vec![10, 10, 30]));
        assert_eq!(leveled(&[]), (0, vec![]));
        let (events, requests) = leveled(&[(40, 100), (40, 100), (40, 100), (0, 1_000_000_000_000_000)]);
        assert!(upper_mean(events, &requests, 0.05) > 0.2);
    }

    #[test]
    fn nothing_served_bounds_nothing() {
        assert_eq!(
            (upper_mean(0, &[], 0.05), upper_mean(0, &[0, 0], 0.05), upper_mean(5, &[1], 0.05)),
            (1.0, 1.0, 1.0)
        );
    }

    /// Over devices whose rates differ as stated, the bound is above the mean rate in 95 % of cases.
    #[test]
    fn the_bound_holds_in_nineteen_of_twenty_cases() {
        let mut stream = Stream::new(&Digest::from_bytes([5; 32]), "test", 0);
        let (mean, cases) = (0.01, 4_000_u32);
        let held = (0..cases).filter(|_| {
            let events = (0..20).map(|_| {
                let rate = (-mean * (1.0 - stream.unit()).ln()).min(1.0);
                stream.thin(200, rate)
            });
            upper_mean(events.sum(), &[200; 20], 0.05) >= mean
        });
        let share = held.count() as f64 / f64::from(cases);
        assert!((0.935..=0.975).contains(&share), "{share}: binomial error 0.0034, discreteness adds to it");
    }

    #[test]
    fn the_bound_of_values_is_student_s() {
        // t of 2 degrees of freedom at 95 % is 2.919986.
        let found = upper_value(&[0.1, 0.2, 0.3], 0.05).unwrap();
        assert!((found - (0.2 + 2.919_986 * 0.1 / 3_f64.sqrt())).abs() < 1e-6, "{found}");
        assert_eq!(upper_value(&[0.1], 0.05), None);
    }

    #[test]
    fn silence_is_not_lessened_and_nothing_stays_nothing() {
        let seed = Digest::from_bytes([1; 32]);
        assert_eq!(lessened(&Score::Silent, 2.0, &seed, "x", 0), Some(1.0));
        assert_eq!(lessened(&Score::Missing, 2.0, &seed, "x", 0), None);
        assert_eq!(lessened(&Score::Value { value: 0.5, trials: 9 }, 2.0, &seed, "x", 0), Some(0.25));
        let count = Score::Count { events: 100, trials: 200 };
        assert_eq!(lessened(&count, 2.0, &seed, "x", 7), lessened(&count, 2.0, &seed, "x", 7));
    }
}
