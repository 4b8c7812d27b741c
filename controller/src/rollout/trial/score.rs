//! What one device shows of one metric, in [0, 1]; more is worse.

use super::metric::Metric;
use fieldpost_shared::stats::{Baseline, CONFIDENCE_BINS, Pair, WindowStats};
use serde::{Deserialize, Serialize};

/// A device's own p95 before needs so many requests.
const LEAST_BEFORE: u64 = 20;
/// A distance of histograms needs so many answers: fewer, and it is noise.
const LEAST_ANSWERS: u64 = 20;
/// Confidences in the lowest bins that hold at most this share of the baseline are low.
const LOW_CONFIDENCE: f64 = 0.05;

/// A score with what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// Nothing to score: it counts as the mean of the others, whatever its arm.
    Missing,
    /// It reported before the rollout and does not now: the worst score.
    Silent,
    /// Events among trials.
    Count {
        /// Bad ones.
        events: u64,
        /// All.
        trials: u64,
    },
    /// A number made of requests.
    Value {
        /// In [0, 1].
        value: f64,
        /// Of how many requests.
        trials: u64,
    },
}

impl Score {
    /// The score; none when there is nothing to score.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Missing => None,
            Self::Silent => Some(1.0),
            Self::Count { events, trials } => (*trials > 0).then(|| *events as f64 / *trials as f64),
            Self::Value { value, .. } => Some(value.clamp(0.0, 1.0)),
        }
    }

    /// Requests that it is made of.
    #[must_use]
    pub const fn trials(&self) -> u64 {
        match self {
            Self::Missing | Self::Silent => 0,
            Self::Count { trials, .. } | Self::Value { trials, .. } => *trials,
        }
    }

    /// Bad ones among them, where they are counted.
    #[must_use]
    pub const fn events(&self) -> Option<u64> {
        match self {
            Self::Count { events, .. } => Some(*events),
            _ => None,
        }
    }

    fn count(events: u64, trials: u64) -> Self {
        if trials == 0 { Self::Missing } else { Self::Count { events: events.min(trials), trials } }
    }
}

/// A device's score now, and its score before the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Since the wave's devices count.
    pub now: Score,
    /// Before the rollout; none without a history.
    pub before: Option<f64>,
}

impl Reading {
    /// A device of which nothing is known.
    pub const NONE: Self = Self { now: Score::Missing, before: None };
}

/// Windows with the baseline of the release that served them.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The windows, merged.
    pub window: &'a WindowStats,
    /// The baseline; none when the bundle has none, or the controller no longer has the bundle.
    pub baseline: Option<&'a Baseline>,
}

/// Everything that is known of a device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// What it served since the wave's devices count.
    pub now: Option<Served<'a>>,
    /// What it served before the rollout.
    pub before: Option<Served<'a>>,
    /// Whether it would have reported if it were well.
    pub expected: bool,
    /// Whether the baselines of all releases that are compared say how sure their answers are: unsure answers are drift only
    /// then, or the arms would be measured by different things.
    pub unsure: bool,
}

/// The reading of a metric.
#[must_use]
pub fn read(metric: Metric, known: &Known<'_>) -> Reading {
    let before = known.before;
    let silent = known.now.is_none() && before.is_some() && known.expected;
    let now = match known.now {
        Some(served) => score(metric, served, before, known.unsure),
        None if silent && metric == Metric::Errors => Score::Silent,
        None => Score::Missing,
    };
    // How many requests are slower than one's own p95 is 5 % for everybody before: it explains nothing.
    let explains = metric != Metric::Latency;
    let before = before.filter(|_| explains).and_then(|served| score(metric, served, None, known.unsure).value());
    Reading { now, before }
}

fn score(metric: Metric, served: Served<'_>, before: Option<Served<'_>>, unsure: bool) -> Score {
    let window = served.window;
    match metric {
        Metric::Errors => {
            // A crash that is counted after the restart may have no request beside it.
            let errors = window.errors.by_model();
            Score::count(errors, window.requests.max(errors))
        }
        Metric::Latency => {
            let own = before.map(|before| &before.window.latency).filter(|latency| latency.n() >= LEAST_BEFORE);
            match own.and_then(|latency| latency.quantile(0.95)) {
                Some(p95) => Score::count(window.latency.above(p95), window.latency.n()),
                None => Score::Missing,
            }
        }
        Metric::Drift => drift(served, unsure),
        Metric::Accuracy => {
            let labelled = window.labelled_correct;
            Score::count(labelled.n.saturating_sub(labelled.hits), labelled.n)
        }
    }
}

/// Jensen-Shannon distance of the predicted classes (or values) from the baseline; where `unsure` says so, its mean with the
/// share of answers with low confidence.
fn drift(served: Served<'_>, unsure: bool) -> Score {
    let Some(baseline) = served.baseline.filter(|baseline| served.window.fits(baseline).is_ok()) else {
        return Score::Missing;
    };
    let (window, output) = (served.window, &baseline.output);
    let pair = match (&window.classes, &output.classes, &window.regression, &output.regression) {
        (Some(counted), Some(reference), _, _) => Some((counted.categories(), reference.categories())),
        (_, _, Some(counted), Some(reference)) => Some((counted.categories(), reference.histogram.categories())),
        _ => None,
    };
    let Some((counted, reference)) = pair else { return Score::Missing };
    let answers = counted.iter().copied().fold(0, u64::saturating_add);
    let Some(pair) = Pair::new(&counted, &reference).ok().filter(|_| answers >= LEAST_ANSWERS) else {
        return Score::Missing;
    };
    let mut parts = vec![pair.jensen_shannon()];
    if let (true, Some(seen), Some(reference)) = (unsure, &window.confidence, &output.confidence) {
        // The highest bin below which at most so much of the baseline lies.
        let low =
            (0..CONFIDENCE_BINS).rev().find(|bin| reference.share_below(*bin).is_some_and(|s| s <= LOW_CONFIDENCE));
        parts.extend(low.and_then(|bin| seen.share_below(bin)));
    }
    let value = parts.iter().sum::<f64>() / parts.len() as f64;
    Score::Value { value, trials: answers }
}

#[cfg(test)]
#[path = "score_tests.rs"]
mod tests;
