//! The few special functions that the tests need, accurate where the textbook form cancels.

use statrs::function::gamma::gamma_ur;

/// Deviance of an observation `x` from its expectation `e`: `x ln(x/e) + e - x`, never negative.
/// Loader (2000), "Fast and Accurate Computation of Binomial Probabilities", `bd0`: where x is near e the plain form would cancel.
pub(crate) fn deviance(x: f64, e: f64) -> f64 {
    if x == 0.0 {
        return e;
    }
    let difference = x - e;
    if difference.abs() >= 0.1 * (x + e) {
        return x * (x / e).ln() + e - x;
    }
    let v = difference / (x + e);
    let mut sum = difference * v;
    let mut power = 2.0 * x * v;
    for j in 1..1000 {
        power *= v * v;
        let next = sum + power / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// `ln n! - [(n + 1/2) ln n - n + ln(2 pi)/2]`, the error of Stirling's formula (Loader 2000, `stirlerr`).
fn stirling_error(n: f64) -> f64 {
    if n <= 0.0 {
        return 0.0;
    }
    if n <= 15.0 {
        let mut factorial = 1.0;
        let mut i = 2.0;
        while i <= n {
            factorial *= i;
            i += 1.0;
        }
        let half_ln_tau = 0.5 * std::f64::consts::TAU.ln();
        return f64::ln(factorial) - (n + 0.5) * n.ln() + n - half_ln_tau;
    }
    let m = n * n;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / (1188.0 * m)) / m) / m) / m) / n
}

/// Probability of exactly `k` hits in `n` trials.
pub(crate) fn binomial_mass(k: f64, n: f64, p: f64) -> f64 {
    let q = 1.0 - p;
    if p <= 0.0 || q <= 0.0 {
        let certain = if p <= 0.0 { 0.0 } else { n };
        return f64::from(u8::from(k == certain));
    }
    if k == 0.0 {
        return (n * (-p).ln_1p()).exp();
    }
    if k == n {
        return (n * p.ln()).exp();
    }
    let exponent =
        stirling_error(n) - stirling_error(k) - stirling_error(n - k) - deviance(k, n * p) - deviance(n - k, n * q);
    exponent.exp() * (n / (std::f64::consts::TAU * k * (n - k))).sqrt()
}

/// Probability that a chi-squared variable of `df` degrees of freedom is at least `x`. Whole degrees of freedom have a finite sum of
/// positive terms (Abramowitz and Stegun 26.4.4 and 26.4.5), so that even tiny tails keep their digits.
pub(crate) fn chi_squared_tail(x: f64, df: usize) -> f64 {
    if df == 0 || x.is_nan() || x <= 0.0 {
        return 1.0;
    }
    let half = x / 2.0;
    // Terms relative to exp(-half), summed in the log domain only at the end, so that neither factor under- or overflows alone.
    let (mut sum, mut ln_term, mut i, head) = if df.is_multiple_of(2) {
        (0.0, 0.0, 1.0, 0.0)
    } else {
        // The head is erfc(sqrt(half)); statrs' own `erfc` is right to ten digits only, its incomplete gamma to fifteen.
        // The first odd term is sqrt(half) / Gamma(3/2).
        (0.0, 0.5 * half.ln() - (std::f64::consts::PI.sqrt() / 2.0).ln(), 1.5, gamma_ur(0.5, half))
    };
    for _ in 0..df / 2 {
        sum += (ln_term - half).exp();
        ln_term += f64::ln(half / i);
        i += 1.0;
    }
    (head + sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviance_near_its_expectation_does_not_cancel() {
        // x = 1e6 + 1, e = 1e6: 1/2 d^2/e - 1/6 d^3/e^2 + ... = 4.999998333334166667e-7.
        assert!((deviance(1_000_001.0, 1e6) / 4.999_998_333_334_167e-7 - 1.0).abs() < 1e-13);
    }

    #[test]
    fn masses_of_a_fair_coin_are_binomial_coefficients() {
        let masses: Vec<f64> = (0..=4).map(|k| 16.0 * binomial_mass(f64::from(k), 4.0, 0.5)).collect();
        for (mass, coefficient) in masses.iter().zip([1.0, 4.0, 6.0, 4.0, 1.0]) {
            assert!((mass - coefficient).abs() < 1e-13, "{masses:?}");
        }
    }

    #[test]
    fn chi_squared_tails_are_as_scipy_says() {
        for t in crate::stats::reference::reference().chi_squared_tails {
            let found = chi_squared_tail(t.x, t.df);
            assert!(
                crate::stats::reference::close(found, t.tail, 1e-12),
                "{} at {}: {found:e}, {:e}",
                t.df,
                t.x,
                t.tail
            );
        }
    }

    #[test]
    fn two_degrees_of_freedom_are_an_exponential() {
        assert_eq!(chi_squared_tail(3.0, 2), (-1.5f64).exp());
    }
}
