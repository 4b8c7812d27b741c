//! What a fleet has shown before a rollout, as its experiment is designed by it. Pure: the engine asks for the windows.

use super::strategy::Demand;
use super::trial::Metric;
use super::trial::design::Facts;
use super::trial::power::{Base, Past, window_length};
use super::trial::score::{Known, Served, read};
use super::trial::settings::SLOW;
use fieldpost_shared::bundle::manifest::Manifest;
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Devices whose past is asked for at a start: enough to see how they differ, whatever the fleet's size.
pub const ASKED: usize = 400;

/// Longest window that looks wait for. Fleets whose windows are longer have looks at which nothing new has come.
const LONGEST_WINDOW: Duration = Duration::from_secs(2 * 3_600);

/// What one device served with the release that it runs.
#[derive(Debug, Clone)]
pub struct DevicePast {
    /// The windows, merged.
    pub window: WindowStats,
    /// The release's manifest; none when the controller no longer has it.
    pub manifest: Option<Arc<Manifest>>,
}

/// Whether a strategy asks for what the fleet has shown.
#[must_use]
pub fn wanted(evidence: Demand) -> bool {
    evidence == Demand::Trial
}

/// What pasts say. `comparable` is whether any device runs another release of the model.
#[must_use]
pub fn facts(pasts: &[DevicePast], candidate: &Manifest, comparable: bool, until: Timestamp) -> Facts {
    let mut facts = Facts {
        comparable,
        window: pace(pasts),
        error_budget: candidate.budgets.error_rate,
        until,
        ..Facts::default()
    };
    let mut baselines =
        pasts.iter().map(|past| past.manifest.as_deref()).chain([Some(candidate)]).map(|m| m?.baseline.as_ref());
    let unsure = baselines.all(|baseline| baseline.is_some_and(|baseline| baseline.output.confidence.is_some()));
    for metric in Metric::ALL {
        if let Some(why) = lacking(metric, pasts, candidate) {
            facts.lacking.insert(metric, why.to_owned());
        } else if let Some(base) = base(metric, pasts, unsure) {
            facts.bases.insert(metric, base);
        }
    }
    facts
}

/// How long windows take to come. The slowest tenth of the devices, at least one of several, does not count: who is off for
/// half of the day, or whose clock jumped within a window, seems to take longer, and no device sets the pace of all.
fn pace(pasts: &[DevicePast]) -> Option<Duration> {
    let mut lengths: Vec<Duration> = pasts.iter().filter_map(|past| window_length(&past.window)).collect();
    lengths.sort_unstable();
    let left_out = if lengths.len() > 1 { lengths.len().div_ceil(10) } else { 0 };
    let slowest = lengths.len().checked_sub(left_out + 1)?;
    lengths.get(slowest).map(|length| (*length).min(LONGEST_WINDOW))
}

/// Why a rollout cannot have a metric.
fn lacking(metric: Metric, pasts: &[DevicePast], candidate: &Manifest) -> Option<&'static str> {
    let has_outputs = |manifest: &Manifest| -> bool {
        manifest.baseline.as_ref().is_some_and(|b| b.output.classes.is_some() || b.output.regression.is_some())
    };
    match metric {
        Metric::Errors => None,
        Metric::Latency if !pasts.iter().any(|past| past.window.latency.n() > 0) => {
            Some("no device has answered anything before, so none has a p95 of its own")
        }
        Metric::Drift if !has_outputs(candidate) => Some("the bundle has no baseline of its outputs"),
        Metric::Drift if !pasts.is_empty() && !pasts.iter().any(|p| p.manifest.as_deref().is_some_and(has_outputs)) => {
            Some("no release that runs now has a baseline of its outputs, so nothing could be compared")
        }
        Metric::Accuracy if !pasts.iter().any(|past| past.window.labelled_correct.n > 0) => {
            Some("no labels have come for the release that runs now")
        }
        _ => None,
    }
}

fn base(metric: Metric, pasts: &[DevicePast], unsure: bool) -> Option<Base> {
    let past = |past: &DevicePast| {
        let baseline = past.manifest.as_ref().and_then(|manifest| manifest.baseline.as_ref());
        let known =
            Known { now: Some(Served { window: &past.window, baseline }), before: None, expected: false, unsure };
        let covered = past.window.covered();
        if metric == Metric::Latency {
            return Some(Past { score: SLOW, trials: past.window.latency.n(), covered });
        }
        let now = read(metric, &known).now;
        now.value().map(|score| Past { score, trials: now.trials(), covered })
    };
    let found: Vec<Past> = pasts.iter().filter_map(past).collect();
    let base = Base::of(&found, metric != Metric::Drift)?;
    Some(if metric == Metric::Latency { Base { between: 0.0, ..base } } else { base })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace_of(minutes: &[u64]) -> Option<u64> {
        let past = |minutes: &u64| {
            let mut window = WindowStats::open("m", "1.0.0", &crate::simulate::fleet::baseline(), 0);
            (window.closed_ms, window.windows) = (3 * minutes * 60_000, 3);
            DevicePast { window, manifest: None }
        };
        pace(&minutes.iter().map(past).collect::<Vec<_>>()).map(|pace| pace.as_secs() / 60)
    }

    #[test]
    fn no_device_sets_the_pace_of_all() {
        const DECADES: u64 = 50 * 365 * 24 * 60;
        assert_eq!((pace_of(&[]), pace_of(&[15]), pace_of(&[15, DECADES])), (None, Some(15), Some(15)));
        assert_eq!(pace_of(&[15, 30, DECADES]), Some(30));
        let mut many = vec![15; 20];
        many.extend([30, DECADES, DECADES]);
        assert_eq!(pace_of(&many), Some(15));
        assert_eq!(pace_of(&[DECADES; 9]), Some(120), "where all are away by night, looks do not wait for days");
    }
}
