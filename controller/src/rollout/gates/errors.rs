//! The model's own errors. What callers, sensors and the queue do is not held against a release.

use super::arm::Served;
use super::limit::{Arms, Measure, Metric, hold, percent};
use super::{Evidence, Gate, GateReport};
use fieldpost_shared::stats::{WindowStats, binomial};

/// Limit where neither the operator nor the bundle states one.
const DEFAULT: f64 = 0.05;
/// Fewer requests say nothing.
pub(crate) const NEEDED: u64 = 20;

/// Model errors, and requests or errors where a crash that was counted after the restart has no request beside it.
fn errors(window: &WindowStats) -> (u64, u64) {
    let errors = window.errors.by_model();
    (errors, window.requests.max(errors))
}

/// Share of requests that the model failed, against the operator's limit, the bundle's budget, or 5 %; significance
/// by the exact binomial tail of all devices but the one with most errors, where there are several: requests of one
/// device are not independent, and a device that has a bad hour is no bad release.
#[derive(Debug)]
pub struct ErrorRate;

impl Gate for ErrorRate {
    fn name(&self) -> &'static str {
        "error-rate"
    }

    fn judge(&self, evidence: &Evidence<'_>) -> GateReport {
        let bound = evidence.limits.error_rate.or(evidence.budgets.error_rate).unwrap_or(DEFAULT);
        let measure = |served: &Served<'_>| {
            let (errors, n) = errors(&served.window);
            let value = if n == 0 { 0.0 } else { errors as f64 / n as f64 };
            let worst = served.worst(self::errors).map_or((0, 0), self::errors);
            let p_value = binomial::at_least(errors.saturating_sub(worst.0), n.saturating_sub(worst.1), bound);
            Measure { n, needed: NEEDED, value, p_value, other: None }
        };
        let metric = Metric { gate: self.name(), what: "the model's error rate", show: percent };
        let arms = Arms {
            treated: evidence.treated.main().map(measure),
            controls: evidence.controls.main().map(measure),
            devices: (evidence.treated.devices(), evidence.controls.devices()),
            before: evidence.before.main().map(measure),
        };
        hold(&metric, bound, &arms, evidence.limits)
    }
}
