//! Whether a release in probation does harm: decided on the device alone, from what the *model* did. Pure.
//!
//! Wrong input, closed connections and waiting in the queue are the callers' doing and are not looked at. A box that gets
//! no requests has no evidence of harm, and its probation ends well; the fleet decides about silence.

use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::stats::binomial;
use fieldpost_shared::wire::v1::FailureKind;
use std::time::Duration;

/// What the release that answers did since it was installed.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The release; what another one did says nothing.
    pub release: ReleaseRef,
    /// Requests that reached the model.
    pub requests: u64,
    /// Those that the model itself failed: inference error, NaN, panic.
    pub model_errors: u64,
    /// Inferences that did not come back within the bound for them.
    pub hung: u64,
    /// 95th percentile of the time to compute an answer, queueing left out.
    pub p95: Option<Duration>,
    /// Growth of the agent's resident memory since before the release was installed, bytes.
    pub rss_growth_bytes: Option<u64>,
}

/// Harm that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Harm {
    /// What kind.
    pub kind: FailureKind,
    /// In words, with the numbers.
    pub detail: String,
}

/// Fewer errors than this prove nothing.
pub(super) const MIN_ERRORS: u64 = 3;
/// A percentile of fewer requests than this proves nothing.
const MIN_REQUESTS_FOR_P95: u64 = 200;
/// A look finds harm in a release that keeps its error budget with at most this probability (exact binomial test). A
/// probation has up to some thousand looks, so this is far below what one would take for a single one.
const ALPHA: f64 = 1e-6;
/// Where a bundle states no error budget, a release that fails more than half of its requests is harmful all the same.
const ERROR_RATE_WITHOUT_BUDGET: f64 = 0.5;

/// What harm the release does, if any is proven.
#[must_use]
pub fn judge(release: &ReleaseRef, observed: &Observed, budgets: &Budgets) -> Option<Harm> {
    if observed.release.manifest != release.manifest {
        return None;
    }
    hang(observed)
        .or_else(|| errors(observed, budgets))
        .or_else(|| latency(observed, budgets))
        .or_else(|| memory(observed, budgets))
}

/// One is enough: it takes an inference thread with it for ever, so nobody can afford to wait for a significant number.
fn hang(observed: &Observed) -> Option<Harm> {
    (observed.hung > 0).then(|| Harm {
        kind: FailureKind::Errors,
        detail: format!("{} of its inferences did not come back: the model hangs", observed.hung),
    })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^53, and a percentage needs no last digit"
)]
fn errors(observed: &Observed, budgets: &Budgets) -> Option<Harm> {
    let budget = budgets.error_rate.unwrap_or(ERROR_RATE_WITHOUT_BUDGET);
    // An error that is counted before its request is still one of a request.
    let (errors, requests) = (observed.model_errors, observed.requests.max(observed.model_errors));
    let proven = errors >= MIN_ERRORS && binomial::at_least(errors, requests, budget) <= ALPHA;
    proven.then(|| Harm {
        kind: FailureKind::Errors,
        detail: format!(
            "{errors} of {requests} requests failed in the model ({:.1} %, budget {:.1} %)",
            100.0 * errors as f64 / requests as f64,
            100.0 * budget
        ),
    })
}

fn latency(observed: &Observed, budgets: &Budgets) -> Option<Harm> {
    let budget = budgets.p95_latency_ms?;
    let p95 = observed.p95?.as_secs_f64() * 1e3;
    (observed.requests >= MIN_REQUESTS_FOR_P95 && p95 > budget).then(|| Harm {
        kind: FailureKind::Latency,
        detail: format!("p95 latency {p95:.2} ms over {} requests, budget {budget:.2} ms", observed.requests),
    })
}

#[allow(clippy::cast_precision_loss, reason = "a memory size is far below 2^53 MiB")]
fn memory(observed: &Observed, budgets: &Budgets) -> Option<Harm> {
    let budget = budgets.rss_mib?;
    let growth = observed.rss_growth_bytes? as f64 / f64::from(1 << 20);
    (growth > budget).then(|| Harm {
        kind: FailureKind::Memory,
        detail: format!("memory grew by {growth:.1} MiB, budget {budget:.1} MiB"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::testing::release;

    /// The kind of harm in a release with budgets of 1 % errors, 10 ms and 20 MiB.
    fn check(requests: u64, model_errors: u64, p95_ms: u64, rss_mib: u64) -> Option<FailureKind> {
        let budgets =
            Budgets { error_rate: Some(0.01), p95_latency_ms: Some(10.0), rss_mib: Some(20.0), ..Budgets::default() };
        let p95 = Some(Duration::from_millis(p95_ms));
        let rss_growth_bytes = Some(rss_mib << 20);
        let observed = Observed { release: release("m", 1), requests, model_errors, hung: 0, p95, rss_growth_bytes };
        judge(&release("m", 1), &observed, &budgets).map(|harm| harm.kind)
    }

    #[test]
    fn no_requests_are_no_evidence_of_harm() {
        assert_eq!(check(0, 0, 0, 0), None);
    }

    #[test]
    fn one_inference_that_hangs_is_harm() {
        let observed = Observed {
            release: release("m", 1),
            requests: 5_000,
            model_errors: 1,
            hung: 1,
            p95: None,
            rss_growth_bytes: None,
        };
        let harm = judge(&release("m", 1), &observed, &Budgets::default()).unwrap();
        assert!(harm.kind == FailureKind::Errors && harm.detail.contains("hangs"), "{harm:?}");
    }

    #[test]
    fn two_errors_prove_nothing() {
        assert_eq!(check(2, 2, 1, 1), None);
    }

    #[test]
    fn a_model_that_fails_everything_is_found_within_four_requests() {
        assert_eq!(check(4, 4, 1, 1), Some(FailureKind::Errors));
    }

    #[test]
    fn errors_within_the_budget_are_no_harm() {
        assert_eq!(check(10_000, 100, 1, 1), None);
        assert_eq!(check(10_000, 130, 1, 1), None, "three standard deviations at one of many looks");
        assert_eq!(check(10_000, 160, 1, 1), Some(FailureKind::Errors));
    }

    #[test]
    fn a_slow_release_needs_two_hundred_requests() {
        assert_eq!(check(199, 0, 11, 1), None);
        assert_eq!(check(200, 0, 11, 1), Some(FailureKind::Latency));
        assert_eq!(check(200, 0, 10, 1), None, "the budget itself is kept");
    }

    #[test]
    fn memory_needs_no_requests() {
        assert_eq!(check(0, 0, 0, 21), Some(FailureKind::Memory));
        assert_eq!(check(0, 0, 0, 20), None);
    }

    #[test]
    fn what_another_release_did_says_nothing() {
        let observed = Observed {
            release: release("m", 1),
            requests: 9,
            model_errors: 9,
            hung: 0,
            p95: None,
            rss_growth_bytes: None,
        };
        assert_eq!(judge(&release("m", 2), &observed, &Budgets::default()), None);
    }

    #[test]
    fn without_a_budget_only_a_catastrophe_is_harm() {
        let harm = |requests, model_errors| {
            let observed = Observed {
                release: release("m", 1),
                requests,
                model_errors,
                hung: 0,
                p95: None,
                rss_growth_bytes: None,
            };
            judge(&release("m", 1), &observed, &Budgets::default())
        };
        assert_eq!(harm(1_000, 500), None);
        assert_eq!(harm(30, 30).unwrap().detail, "30 of 30 requests failed in the model (100.0 %, budget 50.0 %)");
    }

    #[test]
    fn a_budget_of_zero_still_needs_three_errors() {
        let budgets = Budgets { error_rate: Some(0.0), ..Budgets::default() };
        let harm = |n| {
            let observed = Observed {
                release: release("m", 1),
                requests: 90,
                model_errors: n,
                hung: 0,
                p95: None,
                rss_growth_bytes: None,
            };
            judge(&release("m", 1), &observed, &budgets).is_some()
        };
        assert_eq!((harm(2), harm(3)), (false, true));
    }
}
