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
