//! The model's own errors. What callers, sensors and the queue do is not held against a release.

use super::arm::Served;
use super::limit::{Arms, Measure, Metric, hold, percent};
use super::{Evidence, Gate, GateReport};
use fieldpost_shared::stats::binomial;

/// Limit where neither the operator nor the bundle states one.
const DEFAULT: f64 = 0.05;
/// Fewer requests say nothing.
pub(crate) const NEEDED: u64 = 20;

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
        let measure = |served: &Served| {
            let window = &served.window;
            let errors = window.errors.by_model();
            // A crash that is counted after the restart may have no request beside it.
            let n = window.requests.max(errors);
            let value = if n == 0 { 0.0 } else { errors as f64 / n as f64 };
            let worst = if served.devices > 1 { served.worst } else { (0, 0) };
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
