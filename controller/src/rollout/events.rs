//! What happens to a rollout, as it is stored: the events are the rollout, and its state is their fold.
//!
//! Disk form: one byte with the form's number, then JSON of a [`Record`]. JSON, because an auditor reads it and it is
//! small beside the statistics. A form that this program does not know is refused, never rewritten.

use super::ab::Measured;
use super::fleet::AssignTo;
use super::gates::GateReport;
use super::order::{Seat, SignedOrder};
use super::plan::ResolvedWave;
use super::strategy::Strategy;
use super::trial::{Design, Look, past::PastLook};
use fieldpost_shared::id::{DeviceId, Digest, ReleaseRef, RolloutId};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::FailureKind;
use serde::{Deserialize, Serialize};

/// Number of the disk form.
const FORM: u8 = 1;

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What is rolled out.
    pub release: ReleaseRef,
    /// Which devices.
    pub selector: String,
    /// How.
    pub strategy: Strategy,
    /// One line for people.
    #[serde(default)]
    pub note: String,
}

/// Why a device does not run the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setback {
    /// The device said so.
    Reported(FailureKind),
    /// It was there, and did not become live in time.
    TimedOut,
}

/// A failed attempt of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub setback: Setback,
    /// In words; the device's own where it gave some.
    pub detail: String,
    /// Which attempt.
    pub attempt: u32,
}

/// How a stopped rollout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// `RolledBack`.
    RolledBack,
    /// `Aborted(revert)`.
    Aborted,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// Somebody started it; the order is drawn. Always the first event, and only that.
    Created {
        /// The rollout's name.
        rollout: RolloutId,
        /// What was asked for.
        spec: Box<Spec>,
        /// What the order was drawn from.
        seed: Digest,
        /// The order.
        order: Vec<Seat>,
        /// The waves, as numbers of this fleet.
        waves: Vec<ResolvedWave>,
        /// Devices that match but cannot run the release, and why.
        #[serde(default)]
        unfit: Vec<(DeviceId, String)>,
        /// The experiment that it is, where the strategy asks for one and there is something to compare with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        design: Option<Box<Design>>,
        /// Who.
        by: String,
        /// The rollout that this is another try of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_of: Option<RolloutId>,
    },
    /// The controller signed the order.
    OrderSigned {
        /// What it signed.
        signed: Box<SignedOrder>,
    },
    /// A wave waits for a person.
    ApprovalAsked {
        /// Index of the wave.
        wave: usize,
        /// Whose word it needs; none is any operator's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        /// Why, where the strategy does not ask for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// A person approved a wave.
    Approved {
        /// Index of the wave.
        wave: usize,
        /// Who.
        by: String,
    },
    /// A wave begins.
    WaveStarted {
        /// Index of the wave.
        wave: usize,
    },
    /// A device that was not there when the order was drawn enters the wave that the order gives it.
    Joined {
        /// Who, and in which stratum.
        seat: Seat,
        /// Index of its wave; none is held out for good.
        wave: Option<usize>,
    },
    /// A device is told to run the release.
    Assigned {
        /// Who.
        device: DeviceId,
        /// Counts this device's tries of the release, over all rollouts.
        attempt: u32,
        /// What it returns to; none is not having the model. Recorded with the first attempt alone.
        previous: Option<AssignTo>,
        /// Whether the controller had heard of it lately.
        reachable: bool,
    },
    /// A device is told to run the release in shadow, beside its live one.
    Shadowed {
        /// Who.
        device: DeviceId,
        /// As in [`Event::Assigned`].
        attempt: u32,
        /// As in [`Event::Assigned`].
        previous: Option<AssignTo>,
        /// As in [`Event::Assigned`].
        reachable: bool,
    },
    /// The wave has shown in shadow what it had to: its devices swap.
    ShadowPassed {
        /// Index of the wave.
        wave: usize,
        /// What the gates said.
        evidence: Vec<GateReport>,
        /// Whether each device is told in its turn ([`Event::SwapAsked`]); before, all were at once.
        #[serde(default)]
        in_turn: bool,
    },
    /// A device reports that it is in a shadow of its own, which lasts from now on.
    InShadow {
        /// Who.
        device: DeviceId,
    },
    /// A device that ran the release in shadow is told to make it live.
    SwapAsked {
        /// Who.
        device: DeviceId,
        /// As in [`Event::Assigned`].
        reachable: bool,
    },
    /// A device was told by somebody else to run this release already.
    Adopted {
        /// Who.
        device: DeviceId,
    },
    /// A device reports that the release is live.
    Live {
        /// Who.
        device: DeviceId,
    },
    /// An attempt failed.
    Failed {
        /// Who.
        device: DeviceId,
        /// How.
        failure: Failure,
        /// When it gets another; none is never.
        retry_at: Option<Timestamp>,
    },
    /// A live device reports something else, without saying why.
    Left {
        /// Who.
        device: DeviceId,
        /// What it says is live.
        live: Option<ReleaseRef>,
    },
    /// A device was not heard of for too long.
    Silent {
        /// Who.
        device: DeviceId,
        /// When it last was.
        last_seen: Option<Timestamp>,
        /// Whether it had accepted what it was told: only then its silence says something about the release.
        accepted: bool,
    },
    /// It is heard of again.
    Heard {
        /// Who.
        device: DeviceId,
    },
    /// It is no longer part of the fleet.
    Gone {
        /// Who.
        device: DeviceId,
    },
    /// Every device of the wave is live, or is accounted for.
    SoakStarted {
        /// Index of the wave.
        wave: usize,
    },
    /// A look of the experiment, with everything that it was made of.
    Looked {
        /// Index of the wave.
        wave: usize,
        /// What it showed.
        look: Box<Look>,
    },
    /// A slice of a wave ended whose devices are held against their own past.
    Watched {
        /// Index of the wave.
        wave: usize,
        /// Slices that have ended.
        slice: u16,
        /// What they show.
        metrics: Vec<PastLook>,
    },
    /// What an A/B test measured when its stated time was over.
    Measured {
        /// How the releases differ.
        found: Box<Measured>,
    },
    /// The controller's clock jumped: what lasts begins anew.
    ClockJumped {
        /// What it shows now.
        to: Timestamp,
    },
    /// The soak is over, and the wave does not advance yet.
    Holding {
        /// Index of the wave.
        wave: usize,
        /// Why, a sentence each.
        reasons: Vec<String>,
        /// What kinds of reasons these are, so that the same ones are told once.
        kinds: Vec<String>,
    },
    /// The wave has shown what it had to.
    WavePassed {
        /// Index of the wave.
        wave: usize,
        /// What the gates said.
        evidence: Vec<GateReport>,
    },
    /// Nothing changes any more until somebody resumes; limits stay on.
    Paused {
        /// Why.
        reason: String,
        /// What the gates said, where it was them.
        evidence: Vec<GateReport>,
        /// Who; none is the engine.
        by: Option<String>,
    },
    /// It goes on, and the wave's clocks begin anew.
    Resumed {
        /// Who.
        by: String,
        /// Devices whose failure or absence is accepted.
        accepted: Vec<DeviceId>,
        /// Whether the wave may pass without the proof that the experiment did not give.
        #[serde(default, skip_serializing_if = "not")]
        unproven: bool,
    },
    /// Every touched device goes back.
    RollbackStarted {
        /// Why.
        reason: String,
        /// What the gates said, where it was them.
        evidence: Vec<GateReport>,
        /// Who; none is the engine.
        by: Option<String>,
        /// How it ends.
        ending: Ending,
    },
    /// It stops; devices that run the release keep it, the others go back to what they ran.
    AbortedKeeping {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A device is told to return to its own previous release.
    RevertAsked {
        /// Who.
        device: DeviceId,
        /// The other rollout that told it to run this very release: a later one that was taken back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        under: Option<RolloutId>,
    },
    /// It reports that it did.
    Reverted {
        /// Who.
        device: DeviceId,
    },
    /// Somebody else has told it to run something else since; it is left alone.
    Superseded {
        /// Who.
        device: DeviceId,
        /// Which rollout, where it was one.
        by: Option<RolloutId>,
    },
    /// Every reachable device has gone back.
    RolledBack {
        /// Devices that have not confirmed it: their desired state waits for them.
        pending: Vec<DeviceId>,
        /// Devices that were left alone, since something else has told them what to run.
        #[serde(default, skip_serializing_if = "none")]
        left_alone: usize,
    },
    /// The last wave has passed.
    Completed {
        /// Devices that do not run the release yet: their desired state waits for them.
        pending: Vec<DeviceId>,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn none(count: &usize) -> bool {
    *count == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn not(flag: &bool) -> bool {
    !*flag
}

/// One stored event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counts up from 1 within the rollout, without gaps.
    pub sequence: u64,
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// A stored event that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Of a form that this program does not know.
    #[error("the event has form {found:?}, this program reads {FORM}")]
    Form {
        /// The first byte, if any.
        found: Option<u8>,
    },
    /// Not an event.
    #[error("cannot read the event")]
    Json(#[source] serde_json::Error),
}

impl Record {
    /// The disk form.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, EventError> {
        let mut out = vec![FORM];
        serde_json::to_writer(&mut out, self).map_err(EventError::Json)?;
        Ok(out)
    }

    /// Reads the disk form.
    ///
    /// # Errors
    /// When it is of another form, or no event.
    pub fn decode(bytes: &[u8]) -> Result<Self, EventError> {
        match bytes.split_first() {
            Some((&FORM, json)) => serde_json::from_slice(json).map_err(EventError::Json),
            other => Err(EventError::Form { found: other.map(|(form, _)| *form) }),
        }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
pub(crate) mod tests;
