//! What the machine is told, and what it asks for. Plain data.

use super::effects::Failure;
use super::probation::Harm;
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{Assignment, Quarantined};
use fieldpost_shared::wire::v2::Mode;

/// Something happened to a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent has started; nothing is loaded.
    Started,
    /// The agent is being stopped in order, after so much of the probation (0 outside one).
    Stopped {
        /// Milliseconds since the probation began, pauses between runs of the agent left out.
        elapsed_ms: u64,
    },
    /// The desired state, the hold, the time or the root has changed: [`Context`] has what is true now.
    Changed,
    /// The candidate's chunks are on the disk.
    Fetched,
    /// The candidate's files are whole.
    Verified,
    /// The candidate passed its self-test.
    Tested,
    /// The candidate stands beside the live release.
    Beside,
    /// The release that was to be installed answers requests.
    Swapped,
    /// The model answers no requests any more.
    Removed,
    /// What was being done has failed.
    Failed(Failure),
    /// The wait of a blocked candidate is over.
    RetryDue,
    /// A look at the release in probation, or at the candidate beside the live one.
    Checked {
        /// As in [`Event::Stopped`].
        elapsed_ms: u64,
        /// What harm it does, if any is proven.
        harm: Option<Harm>,
    },
    /// Somebody on the box wants the previous release back.
    LocalRollback,
}

/// What the desired state says of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish<'a> {
    /// After this it changes nothing.
    pub expires: Timestamp,
    /// What should run; None is nothing.
    pub assignment: Option<&'a Assignment>,
    /// That it should stand beside the live release, and not take its place.
    pub beside: Option<&'a Mode>,
}

/// What is true beside the slot.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The time that freshness is judged by.
    pub now: Timestamp,
    /// Changes are refused.
    pub held: bool,
    /// What is desired; None when no desired state was ever accepted.
    pub wish: Option<Wish<'a>>,
    /// Releases that failed here.
    pub quarantine: &'a [Quarantined],
    /// Manifests that must not run.
    pub revoked: &'a [Digest],
}

/// What is to be done, after the step is in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Stop what is being done for this slot, if anything, and begin this; its end is an [`Event`].
    Begin(Job),
    /// Stop what is being done for this slot.
    Halt,
    /// Nothing stands beside the live release any more.
    Alone,
    /// Releases may have become needless on the disk.
    Collect,
}

/// One thing at a time is done for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Ends in Fetched or Failed.
    Fetch(Assignment),
    /// Ends in Verified or Failed.
    Verify(Assignment),
    /// Ends in Tested or Failed.
    SelfTest(Assignment),
    /// Ends in Beside or Failed.
    Beside(Assignment, Mode),
    /// Ends in Swapped or Failed.
    Swap {
        /// What is to be installed.
        release: ReleaseRef,
        /// Tries that failed; the next one waits accordingly.
        tries: u32,
    },
    /// Ends in Removed.
    Remove,
    /// Ends in `RetryDue`, after a wait that grows with the tries.
    Wait {
        /// Tries that failed.
        tries: u32,
    },
    /// Ends in Checked, again and again.
    Watch,
}
