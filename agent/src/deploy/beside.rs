//! Whether a candidate that stands beside the live release does harm, or is not what its bundle says. Pure.
//!
//! The bounds are the publisher's. A bundle that states none is held against nothing here but failing outright, hanging and
//! its memory; the fleet has its own look at the same pairs.

use super::probation::{Harm, MIN_ERRORS, Observed, judge};
use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::stats::{Share, binomial};
use fieldpost_shared::wire::v1::FailureKind;

/// How a candidate in shadow compares with the live release since it was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compared {
    /// Rows on which both said the same, among those that can be compared.
    pub agreed: Share,
    /// Requests for which the candidate took longer than its bundle's ratio allows; none are counted without one.
    pub slower: Share,
    /// Requests that both answered.
    pub answered: u64,
    /// Requests that the candidate failed, and the live release did not.
    pub errors: u64,
}

/// A release that keeps its bounds is found beyond one with at most this probability, however long it stands there.
const ALPHA: f64 = 0.001;
/// Share of failed requests that is harm where the bundle has no budget.
const ERROR_RATE_WITHOUT_BUDGET: f64 = 0.5;

/// What is wrong with the candidate, if anything is proven.
#[must_use]
pub fn judge_beside(release: &ReleaseRef, observed: &Observed, compared: &Compared, budgets: &Budgets) -> Option<Harm> {
    if observed.release.manifest != release.manifest {
        return None;
    }
    judge(release, observed, budgets).or_else(|| differs(compared, budgets))
}

fn differs(compared: &Compared, budgets: &Budgets) -> Option<Harm> {
    let seen = compared.answered.saturating_add(compared.errors);
    let disagreed = compared.agreed.n.saturating_sub(compared.agreed.hits);
    let checks = [
        (compared.errors, seen, budgets.error_rate.or(Some(ERROR_RATE_WITHOUT_BUDGET)), "requests failed"),
        (disagreed, compared.agreed.n, budgets.max_disagreement, "answers differed from the live release's"),
        // That the median is within the ratio is that at most half of the requests are beyond it.
        (compared.slower.hits, compared.slower.n, budgets.max_latency_ratio.map(|_| 0.5), "requests took too long"),
    ];
    checks.into_iter().find_map(|(count, all, bound, what)| {
        let bound = bound?;
        let proven = count >= MIN_ERRORS && binomial::ever_at_least(count, all, bound) <= ALPHA;
        proven.then(|| Harm {
            kind: FailureKind::Disagreement,
            detail: format!("in shadow {count} of {all} {what}, {:.1} % may", 100.0 * bound),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::testing::release;

    /// What is said of a candidate whose bundle allows 10 % disagreement and 1.5 times the time.
    fn check(disagreed: u64, slower: u64, errors: u64) -> Option<String> {
        let budgets = Budgets { max_disagreement: Some(0.1), max_latency_ratio: Some(1.5), ..Budgets::default() };
        let compared = Compared {
            agreed: Share { hits: 100 - disagreed, n: 100 },
            slower: Share { hits: slower, n: 100 },
            answered: 100,
            errors,
        };
        judge_beside(&release("m", 1), &idle(1), &compared, &budgets).map(|harm| harm.detail)
    }

    fn idle(n: u64) -> Observed {
        Observed { release: release("m", n), requests: 0, model_errors: 0, hung: 0, p95: None, rss_growth_bytes: None }
    }

    #[test]
    fn what_is_within_its_bounds_is_fine() {
        assert_eq!(check(0, 0, 0), None);
        assert_eq!(check(20, 60, 50), None, "no look may be wrong more than once in a million");
    }

    #[test]
    fn each_bound_is_judged() {
        let disagrees = check(50, 0, 0).unwrap();
        assert_eq!(disagrees, "in shadow 50 of 100 answers differed from the live release's, 10.0 % may");
        assert!(check(0, 90, 0).unwrap().contains("90 of 100 requests took too long"));
        assert!(check(0, 0, 300).unwrap().contains("300 of 400 requests failed"));
    }

    #[test]
    fn without_bounds_only_failing_outright_is_held_against_it() {
        let judged = |agreed, errors| {
            let compared = Compared { agreed, errors, ..Compared::default() };
            judge_beside(&release("m", 1), &idle(1), &compared, &Budgets::default())
        };
        assert_eq!(judged(Share { hits: 0, n: 1_000 }, 0), None);
        assert!(judged(Share::default(), 40).is_some());
    }

    #[test]
    fn what_another_release_did_says_nothing() {
        let compared = Compared { errors: 400, ..Compared::default() };
        assert_eq!(judge_beside(&release("m", 1), &idle(2), &compared, &Budgets::default()), None);
    }

    #[test]
    fn a_candidate_that_hangs_is_found_without_a_pair() {
        let observed = Observed { hung: 1, ..idle(1) };
        assert!(judge_beside(&release("m", 1), &observed, &Compared::default(), &Budgets::default()).is_some());
    }
}
