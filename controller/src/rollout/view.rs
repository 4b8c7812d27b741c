//! What is shown of a rollout: over HTTP, and by the command line.

use super::ab::Measured;
use super::events::Spec;
use super::machine::{Assessment, Member, Progress, Stage, State};
use super::order::SignedOrder;
use super::plan::ResolvedWave;
use super::upcoming::{Upcoming, upcoming};
use fieldpost_shared::id::{DeviceId, Digest, ReleaseRef, RolloutId};
use fieldpost_shared::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Devices by how far they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// In the rollout.
    pub devices: usize,
    /// Their turn has not come.
    pub waiting: usize,
    /// Told, and not live.
    pub changing: usize,
    /// Run the release.
    pub live: usize,
    /// Failed for good.
    pub failed: usize,
    /// Of those told or live: not heard of.
    pub silent: usize,
    /// On their way back.
    pub reverting: usize,
    /// Went back.
    pub reverted: usize,
    /// Left the fleet, or another rollout has them.
    pub lost: usize,
}

impl Counts {
    /// Each count but the silent ones, which are among the others, with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, usize); 7] {
        [
            ("waiting", self.waiting),
            ("changing", self.changing),
            ("live", self.live),
            ("failed", self.failed),
            ("reverting", self.reverting),
            ("reverted", self.reverted),
            ("lost", self.lost),
        ]
    }

    fn of(state: &State) -> Self {
        let mut counts = Self { devices: state.members.len(), ..Self::default() };
        for member in state.members.values() {
            let field = match member.progress {
                Progress::Waiting => &mut counts.waiting,
                Progress::Shadowing | Progress::Splitting | Progress::Assigned | Progress::Retrying { .. } => {
                    &mut counts.changing
                }
                Progress::Live => &mut counts.live,
                Progress::Failed => &mut counts.failed,
                Progress::Reverting => &mut counts.reverting,
                Progress::Reverted => &mut counts.reverted,
                Progress::Superseded | Progress::Gone => &mut counts.lost,
            };
            *field += 1;
            counts.silent += usize::from(member.treated() && member.silence.is_some());
        }
        counts
    }
}

/// How one device stands: each is in one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It runs the release.
    Live,
    /// It is told, and not live.
    Changing,
    /// It failed for good.
    Failed,
    /// It had accepted the change, and is not heard of since.
    Silent,
    /// It was away before it accepted anything.
    Away,
    /// It is told to go back.
    Reverting,
    /// It went back.
    Reverted,
    /// It left the fleet, or another rollout has it.
    Lost,
    /// Its turn has not come.
    Waiting,
}

impl Standing {
    /// Every one, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Live,
        Self::Changing,
        Self::Failed,
        Self::Silent,
        Self::Away,
        Self::Reverting,
        Self::Reverted,
        Self::Lost,
        Self::Waiting,
    ];

    /// Of a device.
    #[must_use]
    pub fn of(member: &Member) -> Self {
        match (member.progress, member.silence) {
            (Progress::Failed, _) => Self::Failed,
            (_, Some(silence)) if member.treated() => {
                if silence.after_change {
                    Self::Silent
                } else {
                    Self::Away
                }
            }
            (Progress::Waiting, _) => Self::Waiting,
            (Progress::Shadowing | Progress::Splitting | Progress::Assigned | Progress::Retrying { .. }, _) => {
                Self::Changing
            }
            (Progress::Live, _) => Self::Live,
            (Progress::Reverting, _) => Self::Reverting,
            (Progress::Reverted, _) => Self::Reverted,
            (Progress::Superseded | Progress::Gone, _) => Self::Lost,
        }
    }

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Changing => "changing",
            Self::Failed => "failed",
            Self::Silent => "silent",
            Self::Away => "away",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Lost => "lost",
            Self::Waiting => "waiting",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Devices by how they stand.
pub type Standings = BTreeMap<Standing, usize>;

/// A rollout in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutSummary {
    /// Its name.
    pub id: RolloutId,
    /// What is rolled out.
    pub release: ReleaseRef,
    /// Which devices.
    pub selector: String,
    /// Where it is, by name: `deploying`, `soaking`, `paused`, `completed`, ...
    pub state: String,
    /// Number of the current wave, from 1.
    pub wave: Option<usize>,
    /// Devices that each wave reaches.
    pub waves: Vec<usize>,
    /// Why it is paused, or went back.
    pub reason: Option<String>,
    /// Whether it still changes.
    pub active: bool,
    /// Its devices.
    pub counts: Counts,
    /// Who started it.
    pub by: String,
    /// The rollout that this is another try of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RolloutId>,
    /// When.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// Number of its last event.
    pub sequence: u64,
    /// One line for people.
    pub note: String,
}

impl RolloutSummary {
    /// Of a state.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let reason = match &state.stage {
            Stage::Paused { reason, .. }
            | Stage::RollingBack { reason, .. }
            | Stage::RolledBack { reason }
            | Stage::Aborted { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        Self {
            id: state.id.clone(),
            release: state.spec.release.clone(),
            selector: state.spec.selector.clone(),
            state: state.stage.name().to_owned(),
            wave: state.stage.wave().map(|wave| wave + 1),
            waves: state.waves.iter().map(|wave| wave.reaches).collect(),
            reason,
            active: state.stage.active(),
            counts: Counts::of(state),
            by: state.by.clone(),
            retry_of: state.retry_of.clone(),
            created: state.created,
            updated: state.updated,
            sequence: state.sequence,
            note: state.spec.note.clone(),
        }
    }
}

/// One device of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its name.
    pub device: DeviceId,
    /// Number of its wave, from 1; none when it is held out for good.
    pub wave_number: Option<usize>,
    /// Everything else.
    #[serde(flatten)]
    pub member: Member,
}

/// A rollout with everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutDetail {
    /// In a line.
    #[serde(flatten)]
    pub summary: RolloutSummary,
    /// What was asked for.
    pub spec: Spec,
    /// The waves, as they were asked for and what they reach.
    pub plan: Vec<ResolvedWave>,
    /// What the order was drawn from.
    pub seed: Digest,
    /// The order as the controller signed it.
    pub order: Option<SignedOrder>,
    /// Devices that match but cannot run the release, and why.
    pub unfit: Vec<(DeviceId, String)>,
    /// What an A/B test has measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// How the devices of each wave stand; behind the waves come those held out for good.
    #[serde(default)]
    pub standings: Vec<Standings>,
    /// What happens next, in the order in which it is likely to.
    #[serde(default)]
    pub upcoming: Vec<Upcoming>,
    /// Its devices in order: the first of them, where the fleet is large.
    pub devices: Vec<MemberView>,
    /// How things stand.
    pub assessment: Assessment,
}

/// Devices of a rollout in its order, behind one of them or from the first, at most `limit`.
#[must_use]
pub fn members(state: &State, after: Option<&DeviceId>, limit: usize) -> Vec<MemberView> {
    let place = |(device, member): &(&DeviceId, &Member)| (member.place, (*device).clone());
    let behind = after.and_then(|device| state.members.get_key_value(device)).map(|found| place(&found));
    let mut found: Vec<(&DeviceId, &Member)> = state.members.iter().collect();
    found.retain(|entry| behind.as_ref().is_none_or(|behind| place(entry) > *behind));
    found.sort_by_key(|(device, member)| (member.place, *device));
    let view = |(device, member): (&DeviceId, &Member)| MemberView {
        device: device.clone(),
        wave_number: (member.wave < state.waves.len()).then_some(member.wave + 1),
        member: member.clone(),
    };
    found.into_iter().take(limit).map(view).collect()
}

/// How the devices of each wave stand, and behind the waves those held out for good.
fn standings(state: &State) -> Vec<Standings> {
    let mut waves = vec![Standings::new(); state.waves.len() + 1];
    for member in state.members.values() {
        if let Some(wave) = waves.get_mut(member.wave.min(state.waves.len())) {
            *wave.entry(Standing::of(member)).or_default() += 1;
        }
    }
    waves
}

impl RolloutDetail {
    /// Of a state, with its first `limit` devices.
    #[must_use]
    pub fn of(state: &State, assessment: &Assessment, limit: usize) -> Self {
        Self {
            summary: RolloutSummary::of(state),
            spec: state.spec.clone(),
            plan: state.waves.clone(),
            seed: state.seed,
            order: state.signed.clone(),
            unfit: state.unfit.clone(),
            measured: state.measured.clone(),
            standings: standings(state),
            upcoming: upcoming(state),
            devices: members(state, None, limit),
            assessment: assessment.clone(),
        }
    }
}
