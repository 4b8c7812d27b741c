//! Exact binomial tails and bounds: few trials, rare hits, no normal approximation.

use super::special::binomial_mass;

/// Probability of at least `k` hits in `n` trials of probability `p` (clamped to [0, 1]; NaN counts as 0). Exact up to rounding.
#[must_use]
pub fn at_least(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if k > n {
        return 0.0;
    }
    let p = if p.is_nan() { 0.0 } else { p.clamp(0.0, 1.0) };
    // The tail away from the mode is summed; the other one is its complement.
    if k as f64 > n as f64 * p { upper(k, n, p) } else { 1.0 - upper(n - k + 1, n, 1.0 - p) }
}

/// The same for trials that are looked at again and again: whoever stops at the first look at which this is at most `alpha`
/// is wrong with a probability of at most `alpha`, however often he looks, when a hit's probability is at most `p`.
///
/// The inverse of the likelihood ratio of a hit's probability spread evenly over `p` to 1 against `p`, a martingale when it
/// is `p` (Robbins 1970; Ville 1939). At one look it is larger than [`at_least`] by about the square root of `n`.
#[must_use]
pub fn ever_at_least(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 || k > n {
        return at_least(k, n, p);
    }
    let p = if p.is_nan() { 0.0 } else { p.clamp(0.0, 1.0) };
    if p <= 0.0 || p >= 1.0 {
        return at_least(k, n, p);
    }
    let mass = binomial_mass(k as f64, n as f64, p);
    ((1.0 - p) * (n as f64 + 1.0) * mass / at_most(k, n.saturating_add(1), p)).min(1.0)
}

/// Probability of at most `k` hits in `n` trials of probability `p` (clamped to [0, 1]; NaN counts as 0). Exact up to rounding.
#[must_use]
pub fn at_most(k: u64, n: u64, p: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    let p = if p.is_nan() { 0.0 } else { p.clamp(0.0, 1.0) };
    if (k as f64) < n as f64 * p { upper(n - k, n, 1.0 - p) } else { 1.0 - upper(k + 1, n, p) }
}

/// Sum of the masses from `k` up, for `k` above the mean or near it: terms fall geometrically, about sqrt(n) of them count.
fn upper(k: u64, n: u64, p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return f64::from(u8::from(p >= 1.0));
    }
    let (first, last) = (k as f64, n as f64);
    let mass = binomial_mass(first, last, p);
    let odds = p / (1.0 - p);
    let (mut sum, mut term, mut i) = (1.0, 1.0, first);
    while i < last {
        term *= (last - i) / (i + 1.0) * odds;
        i += 1.0;
        let next = sum + term;
        if next == sum {
            break;
        }
        sum = next;
    }
    (mass * sum).min(1.0)
}

/// One-sided upper bound of a probability after `k` hits in `n` trials (Clopper and Pearson 1934): the `p` at which `k` hits or fewer
/// have probability `1 - confidence`. 1 without a trial.
#[must_use]
pub fn upper_bound(k: u64, n: u64, confidence: f64) -> f64 {
    if k >= n { 1.0 } else { root(|p| at_most(k, n, p) > 1.0 - confidence) }
}

/// One-sided lower bound of a probability after `k` hits in `n` trials (Clopper and Pearson 1934): the `p` at which `k` hits or more
/// have probability `1 - confidence`. 0 without a hit.
#[must_use]
pub fn lower_bound(k: u64, n: u64, confidence: f64) -> f64 {
    if k == 0 { 0.0 } else { root(|p| at_least(k.min(n), n, p) < 1.0 - confidence) }
}

/// The largest number in [0, 1] that is still `below`, by bisection down to neighbouring floating-point numbers.
fn root(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0f64, 1.0f64);
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return low;
        }
        if below(middle) { low = middle } else { high = middle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::reference::{close, reference};
    use crate::stats::testing::Random;

    #[test]
    fn tails_and_bounds_are_as_scipy_says() {
        let binomials = reference().binomials;
        assert!(binomials.len() >= 10);
        for b in binomials {
            let facts = [
                ("mass", binomial_mass(b.k as f64, b.n as f64, b.p), b.mass),
                ("at least", at_least(b.k, b.n, b.p), b.at_least),
                ("at most", at_most(b.k, b.n, b.p), b.at_most),
                ("upper bound", upper_bound(b.k, b.n, 0.95), b.upper95),
                ("lower bound", lower_bound(b.k, b.n, 0.95), b.lower95),
            ];
            for (what, found, scipy) in facts {
                assert!(close(found, scipy, 1e-11), "{what} of {} in {} at {}: {found:e}, {scipy:e}", b.k, b.n, b.p);
            }
        }
    }

    /// A likelihood ratio has mean 1: over all numbers of hits, weighed by how likely they are.
    #[test]
    fn looking_again_is_paid_for_by_a_likelihood_ratio() {
        for (n, p) in [(1, 0.3), (20, 0.05), (200, 0.5)] {
            let ratio = |k: u64| binomial_mass(k as f64, n as f64, p) / raw(k, n, p);
            let mean: f64 = (0..=n).map(ratio).sum();
            assert!(close(mean, 1.0, 1e-9), "{n} {p}: {mean}");
        }
        assert_eq!((ever_at_least(0, 9, 0.5), ever_at_least(3, 9, 0.0), ever_at_least(9, 9, 1.0)), (1.0, 0.0, 1.0));
    }

    /// Without the cap at 1.
    fn raw(k: u64, n: u64, p: f64) -> f64 {
        (1.0 - p) * (n as f64 + 1.0) * binomial_mass(k as f64, n as f64, p) / at_most(k, n + 1, p)
    }

    #[test]
    fn who_looks_after_every_trial_is_wrong_no_more_often_than_he_said() {
        let mut random = Random::new(7);
        let (streams, mut fixed, mut ever) = (400_u32, 0_u32, 0_u32);
        for _ in 0..streams {
            let (mut hits, mut once, mut always) = (0, false, false);
            for n in 1..=2_000 {
                hits += u64::from(random.uniform() < 0.1);
                once |= at_least(hits, n, 0.1) <= 0.05;
                always |= ever_at_least(hits, n, 0.1) <= 0.05;
            }
            (fixed, ever) = (fixed + u32::from(once), ever + u32::from(always));
        }
        let [fixed, ever] = [fixed, ever].map(|count| f64::from(count) / f64::from(streams));
        assert!(ever <= 0.05 + 0.033, "{ever}: three binomial errors");
        assert!(fixed > 0.2, "{fixed}: what looking again costs otherwise");
    }

    #[test]
    fn no_trials_bound_nothing() {
        assert_eq!((upper_bound(0, 0, 0.95), lower_bound(0, 0, 0.95)), (1.0, 0.0));
    }

    #[test]
    fn certain_and_impossible_hits_have_no_tail() {
        assert_eq!(
            (at_least(1, 9, 0.0), at_least(9, 9, 1.0), at_most(8, 9, 1.0), at_most(0, 9, 0.0)),
            (0.0, 1.0, 0.0, 1.0)
        );
    }

    #[test]
    fn more_hits_than_trials_are_impossible() {
        assert_eq!((at_least(3, 2, 0.5), at_most(3, 2, 0.5)), (0.0, 1.0));
    }
}
