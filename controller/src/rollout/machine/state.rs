//! What a rollout is at a moment.

use crate::rollout::ab::Measured;
use crate::rollout::approval::Needed;
use crate::rollout::events::{Ending, Failure, Spec};
use crate::rollout::fleet::AssignTo;
use crate::rollout::order::{Seat, SignedOrder};
use crate::rollout::plan::ResolvedWave;
use crate::rollout::trial::{Design, Layout, Look, Standing, past::PastLook};
use fieldpost_shared::id::{DeviceId, Digest, RolloutId};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v2::Mode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How far a wave is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Its devices run the release beside their live ones; nobody is answered by it.
    Shadowing {
        /// Since when.
        since: Timestamp,
    },
    /// Its devices answer some of their requests with the release, and the others with the one before.
    Splitting {
        /// Since when.
        since: Timestamp,
    },
    /// Its devices become live.
    Deploying {
        /// Since when.
        since: Timestamp,
    },
    /// They run it, and are watched.
    Soaking {
        /// Since when.
        since: Timestamp,
    },
    /// They have shown what they had to.
    Passed,
}

impl Phase {
    /// The same, from now on.
    pub(super) const fn anew(self, at: Timestamp) -> Self {
        match self {
            Self::Shadowing { .. } => Self::Shadowing { since: at },
            Self::Splitting { .. } => Self::Splitting { since: at },
            Self::Deploying { .. } => Self::Deploying { since: at },
            Self::Soaking { .. } => Self::Soaking { since: at },
            Self::Passed => Self::Passed,
        }
    }
}

/// What an abort did with the devices that had the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbortMode {
    /// They keep it.
    Keep,
    /// They went back.
    Revert,
}

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// Its order is drawn, and not signed yet.
    Draft,
    /// A wave waits for a person.
    AwaitingApproval {
        /// Index of the wave.
        wave: usize,
    },
    /// A wave goes on.
    Running {
        /// Index of the wave.
        wave: usize,
        /// How far it is.
        #[serde(flatten)]
        phase: Phase,
    },
    /// Nothing changes until somebody resumes.
    Paused {
        /// Index of the wave.
        wave: usize,
        /// Why.
        reason: String,
        /// Whether a broken limit paused it: then it does not pause again for the same.
        breached: bool,
    },
    /// Touched devices go back.
    RollingBack {
        /// Why.
        reason: String,
        /// How it ends.
        ending: Ending,
    },
    /// They went back.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// Somebody stopped it.
    Aborted {
        /// What became of the devices.
        mode: AbortMode,
        /// Why.
        reason: String,
    },
    /// Every wave has passed.
    Completed,
}

impl Stage {
    /// Every name.
    pub const NAMES: [&str; 13] = [
        "draft",
        "awaiting-approval",
        "shadowing",
        "splitting",
        "deploying",
        "soaking",
        "passed",
        "paused",
        "rolling-back",
        "rolled-back",
        "aborted-kept",
        "aborted-reverted",
        "completed",
    ];

    /// Whether it still changes by itself or by a person's word: such a rollout owns its devices.
    #[must_use]
    pub const fn active(&self) -> bool {
        !matches!(self, Self::RolledBack { .. } | Self::Aborted { .. } | Self::Completed)
    }

    /// The name, without particulars.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        // Each is in `NAMES`, too.
        match self {
            Self::Draft => "draft",
            Self::AwaitingApproval { .. } => "awaiting-approval",
            Self::Running { phase: Phase::Shadowing { .. }, .. } => "shadowing",
            Self::Running { phase: Phase::Splitting { .. }, .. } => "splitting",
            Self::Running { phase: Phase::Deploying { .. }, .. } => "deploying",
            Self::Running { phase: Phase::Soaking { .. }, .. } => "soaking",
            Self::Running { phase: Phase::Passed, .. } => "passed",
            Self::Paused { .. } => "paused",
            Self::RollingBack { .. } => "rolling-back",
            Self::RolledBack { .. } => "rolled-back",
            Self::Aborted { mode: AbortMode::Keep, .. } => "aborted-kept",
            Self::Aborted { mode: AbortMode::Revert, .. } => "aborted-reverted",
            Self::Completed => "completed",
        }
    }

    /// Index of the wave that it is in.
    #[must_use]
    pub const fn wave(&self) -> Option<usize> {
        match self {
            Self::AwaitingApproval { wave } | Self::Running { wave, .. } | Self::Paused { wave, .. } => Some(*wave),
            _ => None,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wave() {
            Some(wave) => write!(f, "{} (wave {})", self.name(), wave + 1),
            None => f.write_str(self.name()),
        }
    }
}

/// How far one device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "progress", rename_all = "kebab-case")]
pub enum Progress {
    /// Its wave has not come, or it waits for its turn in it.
    Waiting,
    /// It is told to run the release in shadow.
    Shadowing,
    /// It is told to answer some of its requests with the release.
    Splitting,
    /// It is told, and not live.
    Assigned,
    /// It runs the release.
    Live,
    /// It failed, and gets another attempt.
    Retrying {
        /// When.
        at: Timestamp,
    },
    /// It failed for good.
    Failed,
    /// It is told to go back.
    Reverting,
    /// It went back.
    Reverted,
    /// Another rollout has it now.
    Superseded,
    /// It left the fleet.
    Gone,
}

impl Progress {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Shadowing => "shadowing",
            Self::Splitting => "splitting",
            Self::Assigned => "assigned",
            Self::Live => "live",
            Self::Retrying { .. } => "retrying",
            Self::Failed => "failed",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Superseded => "superseded",
            Self::Gone => "gone",
        }
    }
}

/// A device that was not heard of for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Since when it counts as silent.
    pub since: Timestamp,
    /// Whether it had accepted to change before; one that was away says nothing about the release.
    pub after_change: bool,
}

/// One device of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its place in the order; late joiners come behind.
    pub place: usize,
    /// Index of its wave; the number of waves when it is held out for good.
    pub wave: usize,
    /// Its hardware class.
    pub stratum: String,
    /// Whether it joined after the order was drawn. Nothing waits for it.
    pub late: bool,
    /// How far it is.
    #[serde(flatten)]
    pub progress: Progress,
    /// Since when.
    pub since: Timestamp,
    /// Since when it was seen in a shadow of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_shadow: Option<Timestamp>,
    /// Whether it was last told to run the release beside its live one: it has not left its shadow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
    /// When it was first told.
    pub assigned: Option<Timestamp>,
    /// Whether this rollout changed what it should run.
    pub touched: bool,
    /// What it returns to; none is not having the model.
    pub previous: Option<AssignTo>,
    /// When it was told to go back: the other rollout under whose name it had the release, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<RolloutId>,
    /// Counts its tries of the release over all rollouts.
    pub attempt: u32,
    /// Tries in this rollout since a person last looked.
    pub tries: u32,
    /// Whether it is not heard of.
    pub silence: Option<Silence>,
    /// Whether a person accepted that it failed or is away.
    pub accepted: bool,
    /// How it last failed.
    pub failure: Option<Failure>,
}

impl Member {
    /// A device before its wave.
    #[must_use]
    pub fn new(place: usize, wave: usize, stratum: String, late: bool, since: Timestamp) -> Self {
        Self {
            place,
            wave,
            stratum,
            late,
            progress: Progress::Waiting,
            since,
            in_shadow: None,
            beside: false,
            assigned: None,
            touched: false,
            previous: None,
            under: None,
            attempt: 0,
            tries: 0,
            silence: None,
            accepted: false,
            failure: None,
        }
    }

    /// Whether it runs the release, or is on its way to.
    #[must_use]
    pub const fn treated(&self) -> bool {
        matches!(
            self.progress,
            Progress::Shadowing
                | Progress::Splitting
                | Progress::Assigned
                | Progress::Live
                | Progress::Retrying { .. }
                | Progress::Failed
        )
    }

    /// Whether its wave waits for it and its evidence.
    #[must_use]
    pub const fn counts(&self) -> bool {
        !self.late && !self.accepted && !matches!(self.progress, Progress::Gone | Progress::Superseded)
    }

    /// Whether it changes at this moment, as far as the controller knows.
    #[must_use]
    pub const fn in_flight(&self) -> bool {
        matches!(self.progress, Progress::Assigned) && self.silence.is_none()
    }
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct State {
    /// Its name.
    pub id: RolloutId,
    /// What was asked for.
    pub spec: Spec,
    /// Who asked.
    pub by: String,
    /// The rollout that this is another try of.
    pub retry_of: Option<RolloutId>,
    /// When.
    pub created: Timestamp,
    /// What the order was drawn from.
    pub seed: Digest,
    /// The order, as it was drawn.
    pub order: Vec<Seat>,
    /// The waves; where the holdout is released, it is the last of them.
    pub waves: Vec<ResolvedWave>,
    /// How many of the waves have a soak: all but the holdout.
    pub soaked_waves: usize,
    /// Devices that match but cannot run the release, and why.
    pub unfit: Vec<(DeviceId, String)>,
    /// The order as the controller signed it.
    pub signed: Option<SignedOrder>,
    /// Where it is.
    pub stage: Stage,
    /// Statistics that arrived since then are the wave's evidence.
    pub wave_since: Timestamp,
    /// Waves that a person approved.
    pub approved: BTreeSet<usize>,
    /// Waves that have shown in shadow what they had to.
    pub shadowed: BTreeSet<usize>,
    /// Whether a person has said that it goes on beyond its schedule.
    pub overtime: bool,
    /// Kinds of reasons for which the wave holds, so that they are told once.
    pub holding: Vec<String>,
    /// The experiment, where it is one.
    pub design: Option<Design>,
    /// What the experiment has spent and proven.
    pub standing: Standing,
    /// The experiment's last look of this wave.
    pub last_look: Option<Look>,
    /// What the devices' own past shows of this wave, after so many slices.
    pub past: Option<(u16, Vec<PastLook>)>,
    /// What the A/B test measured, until a person has it measure again.
    pub measured: Option<Measured>,
    /// Waves that a person lets pass without the experiment's proof.
    pub unproven: BTreeSet<usize>,
    /// Its devices.
    pub members: BTreeMap<DeviceId, Member>,
    /// Number of events so far.
    pub sequence: u64,
    /// When the last one happened.
    pub updated: Timestamp,
}

impl State {
    /// What a device is told when it gets the release.
    #[must_use]
    pub fn candidate(&self, attempt: u32) -> AssignTo {
        let probation = self.spec.strategy.probation.as_secs();
        AssignTo {
            release: self.spec.release.clone(),
            rollout: Some(self.id.clone()),
            attempt,
            probation_s: u32::try_from(probation).unwrap_or(u32::MAX),
            beside: None,
        }
    }

    /// What a device is told that runs it beside its live release: in shadow first, or answering its part of an A/B test.
    #[must_use]
    pub fn beside(&self, attempt: u32) -> AssignTo {
        let strategy = &self.spec.strategy;
        let mode = strategy.ab.mode().unwrap_or(Mode::Shadow { portion: strategy.shadow_portion() });
        AssignTo { beside: Some(mode), ..self.candidate(attempt) }
    }

    /// Since when both releases of an A/B test are where they should be; none in everything else.
    #[must_use]
    pub fn ab_since(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Running { phase: Phase::Soaking { since }, .. } if self.spec.strategy.ab.asked() => Some(since),
            _ => None,
        }
    }

    /// Whether the devices of a wave run the release in shadow, and have not shown yet what they had to.
    #[must_use]
    pub fn begins_in_shadow(&self, wave: usize) -> bool {
        let strategy = &self.spec.strategy;
        let asked = strategy.shadow_waves == 0 || wave < strategy.shadow_waves;
        !strategy.shadow.is_zero() && asked && !self.is_holdout(wave) && !self.shadowed.contains(&wave)
    }

    /// Whether a device is to be told when its turn comes: to fetch the release, or to let what it runs in shadow answer.
    /// One that joined after its wave's shadow has a shadow of its own, in which it judges by itself: as long, from when it
    /// was seen there.
    #[must_use]
    pub fn awaits_turn(&self, member: &Member, now: Timestamp) -> bool {
        match member.progress {
            Progress::Waiting | Progress::Retrying { .. } => true,
            Progress::Shadowing => {
                let lasted = |since| now.since(since) >= self.spec.strategy.shadow;
                (!member.late || member.in_shadow.is_some_and(lasted)) && self.shadowed.contains(&member.wave)
            }
            _ => false,
        }
    }

    /// What a device is told when it goes back; none removes the model.
    #[must_use]
    pub fn return_to(&self, member: &Member) -> Option<AssignTo> {
        // What was live here before needs no probation.
        let back = |previous: &AssignTo| AssignTo {
            rollout: Some(self.id.clone()),
            probation_s: 0,
            beside: None,
            ..previous.clone()
        };
        member.previous.as_ref().map(back)
    }

    /// Whether its schedule is over, so that nobody is told any more.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        !self.overtime && self.spec.strategy.until.is_some_and(|until| now >= until)
    }

    /// Whose word a wave needs; none is nobody's. A wave that adds nobody to a small fleet is left out; whoever was to
    /// approve it approves the next one.
    #[must_use]
    pub fn needed(&self, wave: usize) -> Option<Needed> {
        let asked = |wave: usize| self.waves.get(wave).map_or(wave + 1, |wave| wave.asked);
        let before = wave.checked_sub(1).map_or(0, asked);
        let approvals = self.spec.strategy.approve_before.iter();
        let of_wave = approvals.filter(|approval| (before + 1..=asked(wave)).contains(&approval.wave));
        of_wave.map(|approval| approval.needed).reduce(Needed::and)
    }

    /// Whether a wave is the holdout: it has no soak.
    #[must_use]
    pub const fn is_holdout(&self, wave: usize) -> bool {
        wave >= self.soaked_waves
    }

    /// Members that a wave and those before it wait for.
    pub fn counted(&self, wave: usize) -> impl Iterator<Item = (&DeviceId, &Member)> {
        self.members.iter().filter(move |(_, member)| member.wave <= wave && member.counts())
    }

    /// The wave's looks are made from the first one on.
    pub(super) fn begin_looks(&mut self) {
        self.standing.begin_wave();
        self.last_look = None;
        self.past = None;
    }

    /// Which places of the order the experiment compares.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let soaked = self.waves.iter().take(self.soaked_waves);
        let reaches: Vec<usize> = soaked.map(|wave| wave.reaches).collect();
        Layout::new(self.order.iter().map(|seat| seat.stratum.as_str()), &reaches)
    }

    /// Index of the wave that a place of the order belongs to.
    #[must_use]
    pub fn wave_of(&self, place: usize) -> usize {
        self.waves.iter().position(|wave| place < wave.reaches).unwrap_or(self.waves.len())
    }
}
