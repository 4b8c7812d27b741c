//! What people see live: the difference with its evidence and its confidence sequence, in closed form (statistics.md
//! section 3). Asymptotic, so it is shown from [`LEAST`] devices per arm on, and never decided on.

use super::look::rounded;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, Normal};

/// Fewest devices per arm.
pub const LEAST: usize = 30;

/// One arm's devices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many.
    pub devices: usize,
    /// Mean of their scores.
    pub mean: f64,
    /// Variance of their scores.
    pub variance: f64,
    /// Requests that the scores are made of.
    pub requests: u64,
}

impl Summary {
    /// Of scores.
    #[must_use]
    pub fn of(scores: &[f64], requests: u64) -> Self {
        let n = scores.len() as f64;
        let mean = if scores.is_empty() { 0.0 } else { scores.iter().sum::<f64>() / n };
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        Self { devices: scores.len(), mean, variance: if n > 1.0 { squares / (n - 1.0) } else { 0.0 }, requests }
    }
}

/// A difference of two arms, treated less controls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The difference of the device means.
    pub value: f64,
    /// Lower end of the two-sided confidence sequence.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// With which probability the truth is ever outside.
    #[serde(default = "of_before")]
    pub level: f64,
    /// Evidence that the treated are worse: above `1 / alpha` it is significant at any time.
    pub evidence: f64,
}

/// What differences stored before they had a level were called.
const fn of_before() -> f64 {
    0.05
}

impl Difference {
    /// As it is stored: nine places, and evidence up to a million.
    #[must_use]
    pub(super) fn rounded(self) -> Self {
        let [value, low, high, evidence] = [self.value, self.low, self.high, self.evidence.min(1e6)].map(rounded);
        Self { value, low, high, level: rounded(self.level), evidence }
    }
}

/// The difference at level `alpha`, tuned to an effect of `tau`; none with fewer than [`LEAST`] devices in an arm.
#[must_use]
pub fn difference(treated: &Summary, controls: &Summary, tau: f64, alpha: f64) -> Option<Difference> {
    if treated.devices.min(controls.devices) < LEAST || treated.requests.min(controls.requests) == 0 {
        return None;
    }
    let value = treated.mean - controls.mean;
    let (m_t, m_c) = (treated.requests as f64, controls.requests as f64);
    let p = (treated.mean * m_t + controls.mean * m_c) / (m_t + m_c);
    let between = treated.variance / treated.devices as f64 + controls.variance / controls.devices as f64;
    let v = between.max(p * (1.0 - p) * (1.0 / m_t + 1.0 / m_c)).max(1e-18);
    let t = tau.max(1e-9).powi(2);
    let normal = Normal::new(0.0, 1.0).ok()?;
    let ln_e = 0.5 * (v / (v + t)).ln() + value.powi(2) * t / (2.0 * v * (v + t));
    let tail = normal.cdf(value * t.sqrt() / (v * (v + t)).sqrt());
    let half = ((v * (v + t) / t) * ((v + t) / (v * alpha.powi(2))).ln()).max(0.0).sqrt();
    // Beyond this it is as good as certain, and JSON has no infinity.
    let evidence = (2.0 * tail * ln_e.min(690.0).exp()).min(1e300);
    Some(Difference { value, low: value - half, high: value + half, level: alpha, evidence })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(mean: f64) -> Summary {
        Summary { devices: 100, mean, variance: 0.0004, requests: 10_000 }
    }

    #[test]
    fn equal_arms_give_no_evidence() {
        let found = difference(&arm(0.02), &arm(0.02), 0.01, 0.05).unwrap();
        assert!(found.evidence < 1.0 && found.low < 0.0 && found.high > 0.0, "{found:?}");
    }

    #[test]
    fn a_large_difference_leaves_zero_out() {
        let found = difference(&arm(0.06), &arm(0.02), 0.01, 0.05).unwrap();
        assert!(found.evidence > 20.0 && found.low > 0.0, "{found:?}");
    }

    #[test]
    fn the_formula_is_the_one_of_the_paper() {
        // V = 8e-6 (between 8e-6, binomial 3.92e-6), tau = 0.01, delta = 0.01, by hand.
        let found = difference(&arm(0.03), &arm(0.02), 0.01, 0.05).unwrap();
        let (v, t, d): (f64, f64, f64) = (8e-6, 1e-4, 0.01);
        let e = 2.0 * (v / (v + t)).sqrt() * (d * d * t / (2.0 * v * (v + t))).exp() * 0.999_66;
        assert!((found.evidence / e - 1.0).abs() < 1e-3, "{} {e}", found.evidence);
        let half = (v * (v + t) / t * ((v + t) / (v * 0.0025)).ln()).sqrt();
        assert!((found.high - found.value - half).abs() < 1e-12);
    }

    #[test]
    fn small_arms_show_nothing() {
        assert_eq!(difference(&Summary { devices: 29, ..arm(0.1) }, &arm(0.1), 0.01, 0.05), None);
    }
}
