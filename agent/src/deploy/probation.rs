//! Whether a release in probation does harm: decided on the device alone, from what the *model* did. Pure.
//!
//! Wrong input, closed connections and waiting in the queue are the callers' doing and are not looked at. A box that gets
//! no requests has no evidence of harm, and its probation ends well; the fleet decides about silence.

use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::id::ReleaseRef;
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
