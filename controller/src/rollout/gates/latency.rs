//! Latency of the inference itself against the bundle's budget.

use super::arm::Served;
use super::errors::NEEDED;
use super::limit::{Arms, Measure, Metric, hold};
use super::{Evidence, Gate, GateReport, Verdict};
use fieldpost_shared::stats::{WindowStats, binomial};
use std::time::Duration;

/// 95th percentile of an inference against the operator's limit or the bundle's budget.
///
/// That p95 is above the budget is that more than 5 % of requests are: significance is the exact binomial tail of
/// that share, on all devices but the one with most such requests, where there are several. It is worse than a comparison when p95 is, or when the share above the budget is.
#[derive(Debug)]
pub struct Latency;

impl Gate for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn judge(&self, evidence: &Evidence<'_>) -> GateReport {
        let Some(bound) = evidence.limits.p95_latency_ms.or(evidence.budgets.p95_latency_ms) else {
            let sentence = "latency has no limit: the bundle states no p95_latency_ms".to_owned();
            return GateReport::new(self.name(), Verdict::Unbounded, sentence, &[]);
        };
        let budget = Duration::try_from_secs_f64(bound / 1_000.0).unwrap_or(Duration::MAX);
        let measure = |served: &Served<'_>| {
            let slow = |window: &WindowStats| (window.latency.above(budget), window.latency.n());
            let latency = &served.window.latency;
            let (above, n) = slow(&served.window);
            let worst = served.worst(slow).map_or((0, 0), slow);
            Measure {
                n,
                needed: NEEDED,
                value: latency.quantile(0.95).map_or(0.0, |p95| p95.as_secs_f64() * 1_000.0),
                p_value: binomial::at_least(above.saturating_sub(worst.0), n.saturating_sub(worst.1), 0.05),
                other: (n > 0).then(|| above as f64 / n as f64),
            }
        };
        let metric = Metric { gate: self.name(), what: "p95 latency", show: |ms| format!("{ms:.2} ms") };
        let arms = Arms {
            treated: evidence.treated.main().map(measure),
            controls: evidence.controls.main().map(measure),
            devices: (evidence.treated.devices(), evidence.controls.devices()),
            before: evidence.before.main().map(measure),
        };
        hold(&metric, bound, &arms, evidence.limits)
    }
}
