//! Detectors for streams that are watched without end: e-SR (statistics.md section 6).
//!
//! Shiryaev-Roberts on e-values: `M <- e (M + 1)`, alarm at `M >= 1/alpha`. As long as each `e` has expectation at most 1 given the
//! past, `M - t` is a supermartingale, so the mean time between false alarms is at least `1/alpha` steps (Shin, Ramdas, Rinaldo 2024,
//! "E-detectors", theorem 2.4). A step is one request for [`RateDetector`] and one window for [`HistogramDetector`].

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use super::error::{StatsError, same_size};

/// Odds of the alternatives relative to the tolerated odds.
const ODDS: [f64; 4] = [1.5, 2.0, 4.0, 8.0];
/// Concentrations of the Dirichlet alternatives around the baseline: far away and near.
const CONCENTRATIONS: [f64; 2] = [50.0, 500.0];
/// Relative change of each bin that is tolerated.
const ETA: f64 = 0.05;
/// Evidence above this is kept at this: it is an alarm anyway, and finite numbers survive JSON.
const MOST: f64 = 1e300;

/// One step of Shiryaev-Roberts.
fn step(m: f64, e: f64) -> f64 {
    (e * (m + 1.0)).min(MOST)
}

/// `value` kept between `low` and `high`; NaN becomes `low`.
fn within(value: f64, low: f64, high: f64) -> f64 {
    if value.is_nan() { low } else { value.clamp(low, high) }
}

/// Watches a stream of yes and no (errors, anomalies, wrong answers) for a rate above the tolerated one.
///
/// Four detectors with likelihood ratios towards 1.5, 2, 4 and 8 times the tolerated odds run side by side; their mean has the same
/// bound as each of them. After an alarm the caller decides what next, usually [`RateDetector::reset`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateDetector {
    tolerated: f64,
    alarm_at: f64,
    m: [f64; ODDS.len()],
}

impl RateDetector {
    /// Tolerates a rate of `tolerated` (kept within 1e-6 to 0.9); false alarms come no more often than every `1/alpha` trials on average
    /// (`alpha` is kept within 1e-12 to 1).
    #[must_use]
    pub fn new(tolerated: f64, alpha: f64) -> Self {
        Self {
            tolerated: within(tolerated, 1e-6, 0.9),
            alarm_at: 1.0 / within(alpha, 1e-12, 1.0),
            m: [0.0; ODDS.len()],
        }
    }

    /// Takes in one trial; whether there is enough evidence for an alarm.
    pub fn insert(&mut self, hit: bool) -> bool {
        let p = self.tolerated;
        for (m, odds) in self.m.iter_mut().zip(ODDS) {
            // With p1 = p f / (1 - p + p f), p1/p and (1 - p1)/(1 - p) share a denominator.
            let quiet = 1.0 / (1.0 - p + p * odds);
            *m = step(*m, if hit { odds * quiet } else { quiet });
        }
        self.is_alarm()
    }

    /// Takes in `n` trials with `hits` at once as *one* step, for windows whose order is lost; the bound then counts windows. More hits
    /// than trials count as all.
    pub fn insert_window(&mut self, hits: u64, n: u64) -> bool {
        let p = self.tolerated;
        for (m, odds) in self.m.iter_mut().zip(ODDS) {
            let ln_e = hits.min(n) as f64 * odds.ln() - n as f64 * (1.0 - p + p * odds).ln();
            *m = step(*m, ln_e.exp());
        }
        self.is_alarm()
    }

    /// The evidence so far; an alarm at `1/alpha`.
    #[must_use]
    pub fn evidence(&self) -> f64 {
        self.m.iter().sum::<f64>() / ODDS.len() as f64
    }

    /// Whether there is enough evidence for an alarm.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        self.evidence() >= self.alarm_at
    }

    /// Forgets the evidence.
    pub fn reset(&mut self) {
        self.m = [0.0; ODDS.len()];
    }
}

/// Watches windows of counts for a distribution away from the baseline's by more than 5 % of a bin.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramDetector {
    shares: Vec<f64>,
    alarm_at: f64,
    m: f64,
}

impl HistogramDetector {
    /// Holds windows against the smoothed shares of `baseline`; false alarms come no more often than every `1/alpha` windows on average
    /// (`alpha` is kept within 1e-12 to 1), where no bin's true share is above the baseline's by more than 5 % of it.
    ///
    /// # Errors
    /// [`StatsError::NoCounts`] for an empty baseline.
    pub fn new(baseline: &[u64], alpha: f64) -> Result<Self, StatsError> {
        let counted: f64 = baseline.iter().map(|m| *m as f64).sum();
        if counted <= 0.0 {
            return Err(StatsError::NoCounts);
        }
        let all = counted + baseline.len() as f64 / 2.0;
        let shares = baseline.iter().map(|m| (*m as f64 + 0.5) / all).collect();
        Ok(Self { shares, alarm_at: 1.0 / within(alpha, 1e-12, 1.0), m: 0.0 })
    }

    /// Takes in the counts of one window; whether there is enough evidence for an alarm. An empty window is no step.
    ///
    /// # Errors
    /// [`StatsError::Shape`] when the bins are not those of the baseline.
    pub fn insert(&mut self, window: &[u64]) -> Result<bool, StatsError> {
        same_size("bins", window.len(), self.shares.len())?;
        if window.iter().any(|c| *c > 0) {
            self.m = step(self.m, self.ln_e(window).exp());
        }
        Ok(self.is_alarm())
    }

    /// Logarithm of the window's e-value: the mean over both concentrations of the Dirichlet-multinomial likelihood, over the
    /// multinomial one of the baseline with its tolerance.
    fn ln_e(&self, window: &[u64]) -> f64 {
        let n: f64 = window.iter().map(|c| *c as f64).sum();
        let bins = || window.iter().map(|c| *c as f64).zip(self.shares.iter().copied()).filter(|(c, _)| *c > 0.0);
        let null: f64 = bins().map(|(c, q)| c * q.ln()).sum::<f64>() + n * ETA.ln_1p();
        let ln = CONCENTRATIONS.map(|k| {
            let gain: f64 = bins().map(|(c, q)| ln_gamma(k * q + c) - ln_gamma(k * q)).sum();
            ln_gamma(k) - ln_gamma(k + n) + gain - null
        });
        let most = ln.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + (ln.iter().map(|l| (l - most).exp()).sum::<f64>() / ln.len() as f64).ln()
    }

    /// The evidence so far; an alarm at `1/alpha`.
    #[must_use]
    pub fn evidence(&self) -> f64 {
        self.m
    }

    /// Goes on with the evidence that was there when a process ended.
    #[must_use]
    pub fn with_evidence(self, evidence: f64) -> Self {
        Self { m: within(evidence, 0.0, MOST), ..self }
    }

    /// Whether there is enough evidence for an alarm.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        self.m >= self.alarm_at
    }

    /// Forgets the evidence.
    pub fn reset(&mut self) {
        self.m = 0.0;
    }
}

#[cfg(test)]
#[path = "eprocess_tests.rs"]
mod tests;
