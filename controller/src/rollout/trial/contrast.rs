//! Two releases held side by side for a stated time: how much they differ, with an interval. Nothing is decided here, and
//! the time is stated before anybody looks, so that an interval of fixed size holds.
//!
//! The unit is the device. Where each device runs one of the two, the arms are two samples of devices: scores are adjusted
//! for the devices' past (CUPED), and the interval is Welch's (1947). Where each device answers with both, it is its own
//! comparison: the interval is Student's over the devices' differences. Devices that agree to the last request show no spread;
//! what is left then is chance within them, and the interval has its size.

use super::cuped::adjust;
use super::look::{ArmLook, rounded};
use super::metric::Metric;
use super::score::{Reading, Score};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// Two-sided confidence of the intervals.
pub const CONFIDENCE: f64 = 0.95;

/// A difference with its interval, in the metric's own units; above 0 the new release is worse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The difference of the device means, new less old, adjusted for the devices' past.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One metric of two releases side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// Which.
    pub metric: Metric,
    /// What the new release did.
    pub new: ArmLook,
    /// What the old one did.
    pub old: ArmLook,
    /// Their difference; none with fewer than two devices to tell it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Estimate>,
}

/// What an interval says in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// The whole interval is above 0.
    Worse,
    /// The whole interval is below 0.
    Better,
    /// It holds 0, or there is none.
    Nothing,
}

impl Contrast {
    /// What the interval says of the new release.
    #[must_use]
    pub fn says(&self) -> Says {
        match self.difference {
            Some(Estimate { low, .. }) if low > 0.0 => Says::Worse,
            Some(Estimate { high, .. }) if high < 0.0 => Says::Better,
            _ => Says::Nothing,
        }
    }
}

/// Devices that run the new release against devices that run the old one; none when nobody of either has a score.
#[must_use]
pub fn between(metric: Metric, new: &[Reading], old: &[Reading]) -> Option<Contrast> {
    let scored = |readings: &[Reading]| -> Vec<(f64, Option<f64>)> {
        readings.iter().filter_map(|reading| Some((reading.now.value()?, reading.before))).collect()
    };
    let (with, without) = (scored(new), scored(old));
    if with.is_empty() && without.is_empty() {
        return None;
    }
    let (y, x): (Vec<f64>, Vec<Option<f64>>) = with.iter().chain(&without).copied().unzip();
    let adjusted = adjust(&y, &x).scores;
    let (with, without) = adjusted.split_at(with.len());
    let (new, old) = (ArmLook::of(new), ArmLook::of(old));
    let difference = welch(with, without, chance(&new, &old));
    Some(Contrast { metric, new, old, difference })
}

/// What each device did with both releases; a device that has a score with one alone tells nothing about the difference.
#[must_use]
pub fn within(metric: Metric, pairs: &[(Score, Score)]) -> Option<Contrast> {
    let arm = |pick: fn(&(Score, Score)) -> Score| -> Vec<Reading> {
        pairs.iter().map(|pair| Reading { now: pick(pair), before: None }).collect()
    };
    let (new, old) = (ArmLook::of(&arm(|pair| pair.0)), ArmLook::of(&arm(|pair| pair.1)));
    if new.scored == 0 && old.scored == 0 {
        return None;
    }
    let differences: Vec<f64> = pairs.iter().filter_map(|(new, old)| Some(new.value()? - old.value()?)).collect();
    let difference = student(&differences, chance(&new, &old));
    Some(Contrast { metric, new, old, difference })
}

/// Mean and squared error of the mean; none with fewer than two.
fn mean(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, squares / (n - 1.0) / n))
}

/// Variance of the difference of two shares by chance alone, the shares being one, of which one event more of each kind is
/// supposed than was seen (Laplace): none were seen is not that there are none.
fn chance(new: &ArmLook, old: &ArmLook) -> f64 {
    let (m, n) = (new.requests as f64, old.requests as f64);
    let events = new.events.unwrap_or(0).saturating_add(old.events.unwrap_or(0)) as f64;
    let share = (events + 1.0) / (m + n + 2.0);
    share * (1.0 - share) * (1.0 / m + 1.0 / n)
}

/// None where neither devices nor chance tell how uncertain it is.
fn estimate(value: f64, error: f64, chance: f64, freedom: f64) -> Option<Estimate> {
    let error = if error > 0.0 { error } else { chance };
    let half = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(f64::midpoint(CONFIDENCE, 1.0)) * error.sqrt();
    let ends = Estimate { value: rounded(value), low: rounded(value - half), high: rounded(value + half) };
    half.is_finite().then_some(ends)
}

fn welch(new: &[f64], old: &[f64], chance: f64) -> Option<Estimate> {
    let ((a, ea), (b, eb)) = (mean(new)?, mean(old)?);
    let part = |error: f64, n: usize| error * error / (n as f64 - 1.0);
    let freedom = (ea + eb).powi(2) / (part(ea, new.len()) + part(eb, old.len()));
    let all = (new.len() + old.len()) as f64 - 2.0;
    estimate(a - b, ea + eb, chance, if freedom.is_finite() { freedom } else { all })
}

fn student(differences: &[f64], chance: f64) -> Option<Estimate> {
    let (value, error) = mean(differences)?;
    estimate(value, error, chance, differences.len() as f64 - 1.0)
}

#[cfg(test)]
#[path = "contrast_tests.rs"]
mod tests;
