//! What deployment needs from the world. The driver calls; `app.rs` implements over fetch, runtime and serve; tests fake it.

use super::beside::Compared;
use super::probation::Observed;
use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::id::{Digest, ModelName, ReleaseRef};
use fieldpost_shared::wire::v1::{Assignment, FailureKind};
use fieldpost_shared::wire::v2::Mode;
use tokio::sync::watch;

/// A step of a deployment that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// In words; the report carries at most 500 bytes of it.
    pub detail: String,
    /// The same release may succeed a while later on this box without anybody's doing anything about the release: no
    /// network, no space, byte budget used up, a source that sent wrong chunks. It is reported as blocked and tried again
    /// with back-off. Everything else quarantines the release.
    pub retry: bool,
}

impl Failure {
    /// A failure of the release: quarantined, not tried again at this attempt.
    #[must_use]
    pub fn of_release(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry: false }
    }

    /// A failure of circumstances: tried again.
    #[must_use]
    pub fn blocked(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry: true }
    }
}

/// Effects of a deployment. All must be repeatable, since a restart begins the effect of the journalled state again, and
/// cancel-safe, since a newer desired state drops the future. CPU work goes off the reactor inside the implementation.
pub trait Effects: Send + Sync + 'static {
    /// Brings everything of a release onto the disk: manifest (signed by enough publishers of the newest root, not
    /// revoked), that it fits this box, and all chunks, each checked. Sends (bytes on disk, bytes in all).
    fn fetch(
        &self,
        assignment: &Assignment,
        progress: watch::Sender<(u64, u64)>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Assembles the files and checks their digests. A damaged chunk is deleted before this fails with `retry`, so that the
    /// next fetch brings it anew; a file that is not what the manifest says though its chunks are is the publisher's fault.
    fn verify(&self, assignment: &Assignment) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Loads the release and runs its golden samples. It may stay loaded for the swap that follows.
    fn self_test(&self, assignment: &Assignment) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Loads a release from the disk and puts it beside the live one. Fine when it stands there: then in this mode.
    fn beside(&self, assignment: &Assignment, mode: &Mode) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Takes away what stands beside the live release of a model. Fine when nothing does.
    fn alone(&self, model: &ModelName);

    /// What the release beside the live one did since it was put there, and, for a shadow, how it compares.
    fn observed_beside(&self, model: &ModelName) -> Option<(Observed, Compared)>;

    /// Loads a release from the disk and makes it the one that answers. Also called at the start for the live release, and
    /// for the one that already is.
    fn swap(&self, release: &ReleaseRef) -> impl Future<Output = Result<(), Failure>> + Send;

    /// No release of this model answers any more. Fine when none did.
    fn remove(&self, model: &ModelName) -> impl Future<Output = ()> + Send;

    /// What the release that answers now did since it was installed.
    fn observed(&self, model: &ModelName) -> Option<Observed>;

    /// The budgets in a release's manifest, which is on the disk.
    fn budgets(&self, release: &ReleaseRef) -> Option<Budgets>;

    /// Deletes files and chunks of all releases but these (manifest digests). What cannot be deleted is tried next time.
    fn collect(&self, keep: &[Digest]) -> impl Future<Output = ()> + Send;
}
