//! What harm a wave finds, by the traffic that the fleet has shown: for people, before they start.
//!
//! A permutation test of means has asymptotically the power of a z-test with the same variances (Hoeffding 1952). A
//! device's score over `m` requests has the variance of its rate between devices and the binomial one within; when the
//! release makes every rate `f` times larger, the first grows by `f^2`, the second with the rate. What CUPED takes away
//! is not counted, nor is that earlier looks might find it: both make the truth better than the figure.

use fieldpost_shared::stats::WindowStats;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, Normal};
use std::time::Duration;

/// Harm that is foreseen: so many times the present level.
pub const FACTORS: [f64; 3] = [1.5, 2.0, 3.0];

/// What devices show of one metric before the rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Base {
    /// Mean of the devices' scores.
    pub mean: f64,
    /// Variance of their true scores between devices.
    pub between: f64,
    /// Whether the score counts events, so that few requests make it vary.
    pub counted: bool,
    /// Requests of a device per second.
    pub rate: f64,
}

/// A device's history: its score and the requests it is made of, and the time that it covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Past {
    /// The score.
    pub score: f64,
    /// Requests.
    pub trials: u64,
    /// Covered time.
    pub covered: Duration,
}

impl Base {
    /// From what devices did; none without two of them.
    #[must_use]
    pub fn of(pasts: &[Past], counted: bool) -> Option<Self> {
        let used: Vec<&Past> = pasts.iter().filter(|past| past.trials > 0).collect();
        if used.len() < 2 {
            return None;
        }
        let n = used.len() as f64;
        let mean = used.iter().map(|past| past.score).sum::<f64>() / n;
        let variance = used.iter().map(|past| (past.score - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let within = used.iter().map(|past| mean * (1.0 - mean) / past.trials as f64).sum::<f64>() / n;
        let between = if counted { (variance - within).max(0.0) } else { variance };
        let seconds: f64 = used.iter().map(|past| past.covered.as_secs_f64()).sum();
        let trials: f64 = used.iter().map(|past| past.trials as f64).sum();
        Some(Self { mean, between, counted, rate: if seconds > 0.0 { trials / seconds } else { 0.0 } })
    }
}

/// How long a device's windows take to close, as their mean; none when they cover no time.
#[must_use]
pub fn window_length(window: &WindowStats) -> Option<Duration> {
    let covered = window.covered().checked_div(window.windows.max(1))?;
    (!covered.is_zero()).then_some(covered)
}

/// What a wave detects of one metric by its last look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detects {
    /// The level that the fleet shows now.
    pub level_now: f64,
    /// Requests of one device by the last look.
    pub requests: f64,
    /// Probability of a rollback when the release is 1.5, 2 and 3 times worse; none when there is no harm now that
    /// could be multiplied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<[f64; 3]>,
    /// Requests on the new release that it takes to see `margin` times as much (statistics.md section 3); none as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<f64>,
}

/// What so many treated devices and controls detect at a level, in the given time.
#[must_use]
pub fn detects(base: &Base, treated: usize, controls: usize, level: f64, time: Duration, margin: f64) -> Detects {
    let (n_t, n_c) = (treated.max(1) as f64, controls.max(1) as f64);
    let requests = base.rate * time.as_secs_f64();
    let p = base.mean;
    if p <= 0.0 || requests < 1.0 {
        return Detects { level_now: p, requests, power: None, needs: None };
    }
    let variance = |factor: f64| {
        let rate = (p * factor).min(1.0);
        let within = if base.counted { rate * (1.0 - rate) / requests } else { 0.0 };
        base.between * factor * factor + within
    };
    let power = FACTORS.map(|factor| {
        let effect = (p * factor).min(1.0) - p;
        let (v_t, v_c) = (variance(factor), variance(1.0));
        // Under permutation both arms have the pooled variance, to which the effect itself adds.
        let n = n_t + n_c;
        let pooled = (n_t * v_t + n_c * v_c) / n + effect * effect * n_t * n_c / (n * n);
        let null = (pooled * (1.0 / n_t + 1.0 / n_c)).sqrt();
        let real = (v_t / n_t + v_c / n_c).sqrt().max(1e-12);
        Normal::new(0.0, 1.0)
            .map_or(0.0, |z| z.cdf((effect - z.inverse_cdf(1.0 - level.clamp(1e-9, 0.5)) * null) / real))
    });
    let delta = p * (margin - 1.0);
    let needs = 8.0 * p * (1.0 - p) * (1.0 + n_t / n_c) / (delta * delta);
    Detects { level_now: p, requests, power: Some(power), needs: Some(needs) }
}

#[cfg(test)]
#[path = "power_tests.rs"]
mod tests;
