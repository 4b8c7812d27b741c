//! From distances to alarms: all three conditions of statistics.md section 5, as a small pure machine.

use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, NumericBaseline};
use super::distance::{Pair, Test, wasserstein};
use super::error::StatsError;
use super::histogram::Histogram;
use super::window::WindowStats;

/// How far one thing that was measured is from its baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// Values in the window, NaN and missing among them.
    pub n: u64,
    /// Population stability index.
    pub psi: f64,
    /// PSI less what chance gives.
    pub psi_adjusted: f64,
    /// Jensen-Shannon distance, base 2.
    pub jensen_shannon: f64,
    /// G-test of no drift.
    pub g_test: Test,
    /// Binned Kolmogorov-Smirnov distance, where there is an order.
    pub kolmogorov_smirnov: Option<f64>,
    /// Wasserstein-1 distance in standard deviations of the baseline, where there are numbers and a spread.
    pub wasserstein_std: Option<f64>,
}

impl Drift {
    /// Drift of a histogram from its baseline; `None` when one of them is empty, which is no evidence.
    ///
    /// # Errors
    /// [`StatsError::Shape`] when the histogram does not fit.
    pub fn numeric(baseline: &NumericBaseline, window: &Histogram) -> Result<Option<Self>, StatsError> {
        let Some(mut drift) = Self::categorical(&baseline.histogram.categories(), &window.categories())? else {
            return Ok(None);
        };
        let ordered = |h: &Histogram| h.counts().collect::<Vec<_>>();
        drift.kolmogorov_smirnov = match Pair::new(&ordered(window), &ordered(&baseline.histogram)) {
            Ok(pair) => Some(pair.kolmogorov_smirnov()),
            Err(StatsError::NoCounts) => None,
            Err(error) => return Err(error),
        };
        let std = baseline.moments.std().filter(|std| *std > 0.0);
        drift.wasserstein_std =
            wasserstein(window, &baseline.histogram, &baseline.edges)?.zip(std).map(|(distance, std)| distance / std);
        Ok(Some(drift))
    }

    /// Drift of counts without an order from their baseline; `None` when one of them is empty, which is no evidence.
    ///
    /// # Errors
    /// [`StatsError::Shape`] when their numbers differ.
    pub fn categorical(baseline: &[u64], window: &[u64]) -> Result<Option<Self>, StatsError> {
        let pair = match Pair::new(window, baseline) {
            Ok(pair) => pair,
            Err(StatsError::NoCounts) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            n: window.iter().copied().fold(0, u64::saturating_add),
            psi: pair.psi(),
            psi_adjusted: pair.psi_adjusted(),
            jensen_shannon: pair.jensen_shannon(),
            g_test: pair.g_test(),
            kolmogorov_smirnov: None,
            wasserstein_std: None,
        }))
    }
}

/// What has a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// An input feature by its position in the baseline.
    Input(usize),
    /// The predicted class.
    Classes,
    /// The top-1 confidence.
    Confidence,
    /// The predicted value.
    Regression,
}

/// Drift of everything in `window` that has a baseline and was counted, inputs first.
///
/// # Errors
/// When the window was not counted over `baseline`.
pub fn assess(baseline: &Baseline, window: &WindowStats) -> Result<Vec<(Subject, Drift)>, StatsError> {
    window.fits(baseline)?;
    let mut found = Vec::new();
    for (feature, histogram) in window.inputs.iter() {
        if let Some(numeric) = baseline.inputs.get(feature) {
            found.extend(Drift::numeric(numeric, histogram)?.map(|drift| (Subject::Input(feature), drift)));
        }
    }
    let output = &baseline.output;
    if let (Some(counted), Some(reference)) = (&window.classes, &output.classes) {
        let drift = Drift::categorical(&reference.categories(), &counted.categories())?;
        found.extend(drift.map(|drift| (Subject::Classes, drift)));
    }
    if let (Some(counted), Some(reference)) = (&window.confidence, &output.confidence) {
        let drift = Drift::categorical(&reference.categories(), &counted.categories())?;
        found.extend(drift.map(|drift| (Subject::Confidence, drift)));
    }
    if let (Some(counted), Some(reference)) = (&window.regression, &output.regression) {
        found.extend(Drift::numeric(reference, counted)?.map(|drift| (Subject::Regression, drift)));
    }
    Ok(found)
}

/// How serious a drift is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// None to speak of.
    #[default]
    Quiet,
    /// Worth a look.
    Warn,
    /// Worth waking somebody.
    Alarm,
}

/// When a drift counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DriftRule {
    /// Probability of a false alarm per day, over all that is watched.
    pub alpha_day: f64,
    /// How many things are watched.
    pub features: u32,
    /// How many windows close in a day.
    pub windows_per_day: f64,
    /// Adjusted PSI from which a drift is worth a look.
    pub warn: f64,
    /// Adjusted PSI from which it is an alarm.
    pub alarm: f64,
}

impl DriftRule {
    /// alpha = 5 % a day, warn at 0.1, alarm at 0.25.
    #[must_use]
    pub fn new(features: u32, windows_per_day: f64) -> Self {
        Self { alpha_day: 0.05, features, windows_per_day, warn: 0.1, alarm: 0.25 }
    }

    /// The p-value that one window of one feature must not exceed.
    #[must_use]
    pub fn alpha(&self) -> f64 {
        self.alpha_day / (f64::from(self.features.max(1)) * self.windows_per_day.max(1.0))
    }

    /// The level of one window by itself: significant *and* large. NaN is quiet.
    #[must_use]
    pub fn level(&self, p_value: f64, psi_adjusted: f64) -> Level {
        match psi_adjusted {
            _ if p_value.is_nan() || p_value > self.alpha() => Level::Quiet,
            psi if psi >= self.alarm => Level::Alarm,
            psi if psi >= self.warn => Level::Warn,
            _ => Level::Quiet,
        }
    }
}

/// The last three windows of one feature.
///
/// ```text
///           two of the last three windows reach ...
///   Quiet <---------------> Warn <---------------> Alarm
///     ^------------------------------------------------^
/// ```
/// A window in which nothing was counted is no window: it neither raises nor clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DriftState {
    recent: [Level; 3],
}

impl DriftState {
    /// What at least two of the last three windows reached.
    #[must_use]
    pub fn level(&self) -> Level {
        let [a, b, c] = self.recent;
        // The median of three.
        a.max(b).min(a.min(b).max(c))
    }

    /// Takes in one window; the new state, and the change of level from and to where there is one.
    #[must_use]
    pub fn step(self, window: Level) -> (Self, Option<(Level, Level)>) {
        let [_, b, c] = self.recent;
        let next = Self { recent: [b, c, window] };
        let (from, to) = (self.level(), next.level());
        (next, (from != to).then_some((from, to)))
    }
}

/// Ranks the features of an alarm that is already raised: (position, adjusted p-value), most significant first (Benjamini and Hochberg
/// 1995). It raises nothing by itself.
#[must_use]
pub fn ranked(p_values: &[f64]) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (mut rank, mut least) = (ranked.len(), 1.0f64);
    for (_, p) in ranked.iter_mut().rev() {
        least = least.min(*p * p_values.len() as f64 / rank as f64);
        *p = least;
        rank -= 1;
    }
    ranked
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
