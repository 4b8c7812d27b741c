//! Drift of what the model answers, against the release's own baseline (statistics.md section 5).

use super::arm::Served;
use super::limit::{Arms, Measure, Metric, hold};
use super::{Evidence, Gate, GateReport, Verdict};
use fieldpost_shared::stats::{Baseline, Pair, WindowStats};

/// Limit where neither the operator nor the bundle states one.
const DEFAULT: f64 = 0.25;
/// PSI is calibrated from so many requests per bin.
const PER_BIN: u64 = 6;

/// Adjusted PSI of predicted classes (of predicted values, for a regression) against the operator's limit, the
/// bundle's budget, or 0.25; significance by the G-test; nothing is judged below six requests per bin. Where there are
/// several devices, those but the one that differs most have to show it, too.
///
/// Other groups of devices run other releases: each is measured against the baseline of its own.
#[derive(Debug)]
pub struct OutputDrift;

impl Gate for OutputDrift {
    fn name(&self) -> &'static str {
        "output-drift"
    }

    fn judge(&self, evidence: &Evidence<'_>) -> GateReport {
        let bound = evidence.limits.max_psi.or(evidence.budgets.max_psi).unwrap_or(DEFAULT);
        let metric = Metric { gate: self.name(), what: "PSI of the outputs", show: |psi| format!("{psi:.3}") };
        let measure = |served: &Served<'_>| measure(served, bound);
        let served = evidence.treated.main();
        if let Some(why) = served.and_then(unmeasurable) {
            let sentence = format!("output drift has no limit: {why}");
            return GateReport::new(self.name(), Verdict::Unbounded, sentence, &[]);
        }
        let arms = Arms {
            treated: served.and_then(measure),
            controls: evidence.controls.main().and_then(measure),
            devices: (evidence.treated.devices(), evidence.controls.devices()),
            before: evidence.before.main().and_then(measure),
        };
        hold(&metric, bound, &arms, evidence.limits)
    }
}

fn baseline<'s>(served: &'s Served<'_>) -> Option<&'s Baseline> {
    served.manifest.as_ref().and_then(|manifest| manifest.baseline.as_ref())
}

/// Why drift of this release can never be measured.
fn unmeasurable(served: &Served<'_>) -> Option<&'static str> {
    match baseline(served) {
        None => Some("the bundle has no baseline"),
        Some(b) if b.output.classes.is_none() && b.output.regression.is_none() => {
            Some("the bundle's baseline has no outputs")
        }
        Some(_) => None,
    }
}

fn counts(window: &WindowStats, baseline: &Baseline) -> Option<(Vec<u64>, Vec<u64>)> {
    let output = &baseline.output;
    match (&window.classes, &output.classes, &window.regression, &output.regression) {
        (Some(counted), Some(reference), _, _) => Some((counted.categories(), reference.categories())),
        (_, _, Some(counted), Some(reference)) => Some((counted.categories(), reference.histogram.categories())),
        _ => None,
    }
}

fn measure(served: &Served<'_>, bound: f64) -> Option<Measure> {
    let baseline = baseline(served)?;
    let (counted, reference) = counts(&served.window, baseline)?;
    let all = Pair::new(&counted, &reference).ok()?;
    let n = counted.iter().copied().fold(0, u64::saturating_add);
    let needed = PER_BIN.saturating_mul(u64::try_from(all.bins()).unwrap_or(u64::MAX));
    let figures = |pair: &Pair| (pair.psi_adjusted(), pair.g_test().p_value);
    let (mut value, mut p_value) = figures(&all);
    if value > bound && served.each.len() > 1 {
        // What is far from the baseline, and much. Numbers that are not below 0 are in the order of their bits.
        let harm = |window: &WindowStats| {
            let pair = counts(window, baseline).and_then(|(counted, _)| Pair::new(&counted, &reference).ok());
            pair.map_or(0, |pair| (pair.psi() * window.requests as f64).to_bits())
        };
        let worst = served.worst(harm).and_then(|worst| counts(worst, baseline)).map(|(counted, _)| counted);
        let others: Vec<u64> =
            counted.iter().zip(worst.unwrap_or_default()).map(|(all, one)| all.saturating_sub(one)).collect();
        // Others that have answered nothing show nothing.
        let others = Pair::new(&others, &reference).map_or((0.0, 1.0), |others| figures(&others));
        (value, p_value) = (value.min(others.0), p_value.max(others.1));
    }
    Some(Measure { n, needed, value, p_value, other: None })
}
