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

/// Devices whose past is asked for at a start: enough to see how they differ, whatever the fleet's size.
pub const ASKED: usize = 400;

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
        window: pasts.iter().filter_map(|past| window_length(&past.window)).max(),
        error_budget: candidate.budgets.error_rate,
        until,
        ..Facts::default()
    };
    for metric in Metric::ALL {
        if let Some(why) = lacking(metric, pasts, candidate) {
            facts.lacking.insert(metric, why.to_owned());
        } else if let Some(base) = base(metric, pasts) {
            facts.bases.insert(metric, base);
        }
    }
    facts
}

/// Why a rollout cannot have a metric.
fn lacking(metric: Metric, pasts: &[DevicePast], candidate: &Manifest) -> Option<&'static str> {
    let has_outputs = |manifest: &Manifest| {
        manifest.baseline.as_ref().is_some_and(|b| b.output.classes.is_some() || b.output.regression.is_some())
    };
    match metric {
        Metric::Errors => None,
        Metric::Latency if !pasts.iter().any(|past| past.window.latency.n() > 0) => {
            Some("no device has answered anything before, so none has a p95 of its own")
        }
        Metric::Drift if !has_outputs(candidate) => Some("the bundle has no baseline of its outputs"),
        Metric::Accuracy if !pasts.iter().any(|past| past.window.labelled_correct.n > 0) => {
            Some("no labels have come for the release that runs now")
        }
        _ => None,
    }
}

fn base(metric: Metric, pasts: &[DevicePast]) -> Option<Base> {
    let past = |past: &DevicePast| {
        let baseline = past.manifest.as_ref().and_then(|manifest| manifest.baseline.as_ref());
        let known = Known { now: Some(Served { window: &past.window, baseline }), before: None, expected: false };
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
