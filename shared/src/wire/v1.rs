//! Version 1 of the message bodies. Field order is the wire form: it is frozen by golden bytes in `golden/v1`.

use crate::id::{DeviceId, FleetId, ModelName, ReleaseRef, RolloutId};
use crate::time::Timestamp;
use crate::trust::{Kind, Signature};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Most models a device may be told to run.
pub const MAX_ASSIGNMENTS: usize = 64;
/// Most windows in one stats message.
pub const MAX_WINDOWS: usize = 256;

/// A message body: its kind, its addressee, and what a decoder cannot bound by itself.
pub trait Body: Serialize + DeserializeOwned {
    /// The kind that is signed.
    const KIND: Kind;
    /// The fleet it is of.
    fn fleet(&self) -> &FleetId;
    /// The device it is to or from.
    fn device(&self) -> &DeviceId;
    /// Whether its collections are within bounds.
    fn bounded(&self) -> bool {
        true
    }
}

macro_rules! body {
    ($type:ident, $kind:ident $(, $bound:expr)?) => {
        impl Body for $type {
            const KIND: Kind = Kind::$kind;
            fn fleet(&self) -> &FleetId {
                &self.fleet
            }
            fn device(&self) -> &DeviceId {
                &self.device
            }
            $(fn bounded(&self) -> bool {
                let bound: fn(&Self) -> bool = $bound;
                bound(self)
            })?
        }
    };
}

/// A place in a stream that only counts up: a new epoch begins at each start of a device, and above what was heard of it.
///
/// The epoch is the time, in milliseconds, at which it began, with a random part, so a later one compares greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Sequence {
    /// When it began, ms since 1970, or more than the one before.
    pub epoch: u64,
    /// Counts up from 1 within the epoch.
    pub number: u64,
}

/// What one device should run: the whole of it, replacing what was said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The fleet.
    pub fleet: FleetId,
    /// The device it is for, and no other.
    pub device: DeviceId,
    /// Counts up over everything the controller ever told this device.
    pub sequence: u64,
    /// When it was signed.
    pub issued: Timestamp,
    /// After this it changes nothing; what runs goes on.
    pub expires: Timestamp,
    /// Root metadata version that the controller knows; the device fetches up to it.
    pub root_version: u64,
    /// One entry per model; a model that is absent is removed from the box.
    pub assignments: Vec<Assignment>,
}
body!(Desired, Desired, |body| body.assignments.len() <= MAX_ASSIGNMENTS
    && body.assignments.iter().all(|a| a.signatures.len() <= 16));

/// One model that should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// What should be live.
    pub release: ReleaseRef,
    /// Publisher signatures over the manifest.
    pub signatures: Vec<Signature>,
    /// The rollout that asks for it, if one does.
    pub rollout: Option<RolloutId>,
    /// A device that quarantined the release tries it again only when this is higher than when it failed.
    pub attempt: u32,
    /// Seconds of probation after the swap.
    pub probation_s: u32,
}

/// Which statistics are on the controller's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The fleet.
    pub fleet: FleetId,
    /// The device.
    pub device: DeviceId,
    /// Highest window such that all up to it are stored.
    pub stored: Sequence,
    /// When it was signed.
    pub issued: Timestamp,
}
body!(Ack, Ack);

/// Birth or death of a session; both are signed at birth, the second is left with the broker as the will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The fleet.
    pub fleet: FleetId,
    /// The device.
    pub device: DeviceId,
    /// Pairs birth and death: a death counts only for the session that is alive.
    pub session: Sequence,
    /// Birth or death.
    pub alive: bool,
    /// When the session began.
    pub since: Timestamp,
}
body!(Alive, Alive);

/// The password of a device at the broker: a statement that its key made a short while ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerToken {
    /// The fleet.
    pub fleet: FleetId,
    /// The device, which is the user name.
    pub device: DeviceId,
    /// The MQTT client id it is for.
    pub client_id: String,
    /// When it was signed.
    pub issued: Timestamp,
    /// After this it opens nothing.
    pub expires: Timestamp,
}
body!(BrokerToken, BrokerToken);

/// Closed windows of statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The fleet.
    pub fleet: FleetId,
    /// The device.
    pub device: DeviceId,
    /// The epoch of all numbers in this message.
    pub epoch: u64,
    /// The windows, oldest first, without gaps.
    pub windows: Vec<Window>,
}
body!(Stats, Stats, |body| !body.windows.is_empty() && body.windows.len() <= MAX_WINDOWS);

/// One window, or several that an outbox without space merged into one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First number covered.
    pub first: u64,
    /// Last number covered; equal to `first` when nothing was merged.
    pub last: u64,
    /// The release that served.
    pub release: ReleaseRef,
    /// A `stats::WindowStats` in its own versioned encoding.
    pub content: Vec<u8>,
}

/// What a device does run, and what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The fleet.
    pub fleet: FleetId,
    /// The device.
    pub device: DeviceId,
    /// Counts up; an older report changes nothing.
    pub sequence: Sequence,
    /// The device's clock; where that is behind, the latest signed time that it heard, going on from there.
    pub at: Timestamp,
    /// Highest desired sequence that the device accepted.
    pub desired_sequence: u64,
    /// Root metadata version that the device believes.
    pub root_version: u64,
    /// What the box is.
    pub inventory: Inventory,
    /// One per model slot.
    pub models: Vec<ModelReport>,
    /// Releases this device will not try again by itself.
    pub quarantine: Vec<Quarantined>,
    /// Statistics that wait to be acknowledged.
    pub outbox: OutboxReport,
    /// Messages refused since the agent started, by reason.
    pub refused: Vec<(String, u64)>,
    /// Why changes are refused at the moment, when the box is held by a local command.
    pub hold: Option<String>,
    /// Chunk bytes received over the network since the store was made.
    pub fetched_bytes: u64,
}
body!(Report, Report, |body| body.models.len() <= MAX_ASSIGNMENTS
    && body.quarantine.len() <= 1_000
    && body.refused.len() <= 200);

/// What a box is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// Version of the agent.
    pub agent_version: String,
    /// Architecture, such as `aarch64`.
    pub arch: String,
    /// Operating system and its version.
    pub os: String,
    /// Processor's name.
    pub cpu_model: String,
    /// Logical processors.
    pub cpus: u32,
    /// Memory, MiB.
    pub ram_mib: u64,
    /// Free disk where the agent keeps its files, MiB.
    pub free_disk_mib: u64,
    /// Host name.
    pub hostname: String,
    /// Where the box answers predictions, as `host:port`; for people and the demo.
    pub serving: String,
}

/// One model slot of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReport {
    /// The model.
    pub model: ModelName,
    /// What answers requests.
    pub live: Option<ReleaseRef>,
    /// What a rollback returns to, without a download.
    pub previous: Option<ReleaseRef>,
    /// What is being brought in, and how far it is.
    pub candidate: Option<(ReleaseRef, Phase)>,
    /// Times that the slot changed its live release.
    pub swaps: u64,
}

/// How far a candidate is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Chunks are coming in.
    Fetching {
        /// Bytes on disk.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Files are assembled and checked.
    Verifying,
    /// Golden samples run.
    SelfTesting,
    /// Requests move over.
    Swapping,
    /// It is live, and may still be taken back.
    Probation,
    /// It cannot go on by itself now, and says why.
    Blocked(String),
    /// It sees requests beside the live release, and answers none. Only where version 2 of the desired state asks for it.
    Shadowing,
    /// It answers some of the requests beside the live release. Only where version 2 of the desired state asks for it.
    Splitting,
}

/// Why a release failed on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Signatures, revocation or manifest did not hold. Not retried.
    Untrusted,
    /// The box lacks what the manifest requires. Not retried.
    Unfit,
    /// Chunks did not come, or were wrong.
    Fetch,
    /// The model does not load.
    Load,
    /// Golden outputs differed, were NaN, or were missing.
    SelfTest,
    /// Too slow or too large in the self-test.
    OverBudget,
    /// Errors in probation.
    Errors,
    /// Latency in probation.
    Latency,
    /// Memory in probation.
    Memory,
    /// The agent died with it, twice.
    Crash,
    /// Somebody on the box took it back.
    LocalRollback,
    /// The disk is full or broken.
    Disk,
    /// Beside the live release its answers differed from that one's more often than its bundle allows, or it failed or was
    /// slower than that.
    Disagreement,
}

impl FailureKind {
    /// Whether another attempt on the same box can succeed (FAILED), or cannot (REJECTED).
    #[must_use]
    pub const fn retriable(self) -> bool {
        !matches!(self, Self::Untrusted | Self::Unfit | Self::Disagreement)
    }

    /// Whether the release had become live before it failed.
    #[must_use]
    pub const fn after_swap(self) -> bool {
        matches!(self, Self::Errors | Self::Latency | Self::Memory | Self::Crash | Self::LocalRollback)
    }
}

/// A release that failed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// What failed.
    pub release: ReleaseRef,
    /// The attempt that failed.
    pub attempt: u32,
    /// The rollout that had asked for it.
    pub rollout: Option<RolloutId>,
    /// Why.
    pub kind: FailureKind,
    /// In words, at most 500 bytes.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// Statistics that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutboxReport {
    /// Windows not yet acknowledged.
    pub windows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Windows that were merged into coarser ones for lack of space, since the store was made.
    pub merged: u64,
}
