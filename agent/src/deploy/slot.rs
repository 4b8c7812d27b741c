//! What the journal holds of one model: the slot and its state. The field order is the disk form, frozen by a test.

use fieldpost_shared::id::ModelName;
use fieldpost_shared::id::{ReleaseRef, RolloutId};
use fieldpost_shared::wire::v1::{Assignment, FailureKind, ModelReport, Phase};
use fieldpost_shared::wire::v2::Mode;
use serde::{Deserialize, Serialize};

/// A release on this box that loads and passed its self-test here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The release.
    pub release: ReleaseRef,
    /// The highest attempt at which it was assigned while it was here.
    pub attempt: u32,
    /// The rollout that asked for it last.
    pub rollout: Option<RolloutId>,
}

impl From<Assignment> for Installed {
    fn from(assignment: Assignment) -> Self {
        Self { release: assignment.release, attempt: assignment.attempt, rollout: assignment.rollout }
    }
}

/// Why a candidate waits, or waited last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What kind of failure.
    pub kind: FailureKind,
    /// In words.
    pub detail: String,
}

/// How far a slot is.
///
/// ```text
///             +-------- Blocked <------+ (can be tried again)
///             v            ^           |
/// Idle --> Fetching --> Verifying --> SelfTesting --> Swapping --> Probation --> Idle (live = candidate)
///  | ^        |            |           |               |             |
///  | +--------+------------+-----------+---------------+             v
///  |     (live unchanged, the release quarantined)               Reverting --> Idle (live = previous)
///  |                                                                 ^
///  +-- the previous release is wanted again: no download ------------+
///
/// Beside: between SelfTesting and Swapping, where that is asked for. It lasts until something else is.
/// Watched: as Idle, but the agent died while the live release served. Deaths that follow each other closely end it like a
/// probation; quiet ends it in Idle.
/// Restoring: the agent has started and loads the live release, then goes on with the state inside.
/// Removing: the model is no longer wanted, or no release of it may run.
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The live release serves, if there is one.
    Idle,
    /// Chunks of the candidate come in. A restart resumes: what is on disk is not fetched again.
    Fetching {
        /// What should become live.
        candidate: Assignment,
        /// Tries before this one.
        tries: u32,
        /// Why the last try failed.
        trouble: Option<Trouble>,
    },
    /// The candidate cannot go on now; it is tried again after a while.
    Blocked {
        /// What should become live.
        candidate: Assignment,
        /// Tries that failed.
        tries: u32,
        /// Why the last one did.
        trouble: Trouble,
    },
    /// Files are assembled and checked.
    Verifying {
        /// What should become live.
        candidate: Assignment,
        /// Tries before this one.
        tries: u32,
    },
    /// The candidate is loaded and its golden samples run.
    SelfTesting {
        /// What should become live.
        candidate: Assignment,
        /// Tries before this one.
        tries: u32,
        /// Times that the agent died here.
        deaths: u32,
    },
    /// The candidate is installed; `live` is still the old one in the journal.
    Swapping {
        /// What should become live.
        candidate: Assignment,
        /// Tries before this one.
        tries: u32,
        /// Times that the agent died here.
        deaths: u32,
    },
    /// `live` is the candidate, and may still be taken back.
    Probation {
        /// How long it lasts, seconds.
        probation_s: u32,
        /// How much of it passed before the agent was stopped last, milliseconds.
        elapsed_ms: u64,
        /// Times that the agent died in it.
        deaths: u32,
    },
    /// `live` gives way to `previous`: it has failed and is in quarantine, or the previous release is wanted again.
    Reverting {
        /// `live` must not answer even if `previous` cannot: it kills the agent, or was revoked.
        must_leave: bool,
        /// Tries that failed.
        tries: u32,
        /// Times that the agent died here.
        deaths: u32,
    },
    /// The model is taken off the box.
    Removing,
    /// The agent has started and loads `live`.
    Restoring {
        /// Times that the agent died doing so.
        deaths: u32,
        /// Tries that failed.
        tries: u32,
        /// What it was doing before; never another `Restoring`.
        then: Box<State>,
    },
    /// The live release had served well, and the agent died with it not long ago.
    Watched {
        /// Times that the agent died, each soon after the start before.
        deaths: u32,
    },
    /// The candidate stands beside the live release, as a shadow or as the other arm of a split.
    Beside {
        /// What stands there.
        candidate: Assignment,
        /// Tries before this one.
        tries: u32,
        /// Times that the agent died here, each soon after the start before.
        deaths: u32,
        /// What for.
        mode: Mode,
    },
}

/// One model on this box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// What answers requests.
    pub live: Option<Installed>,
    /// What a rollback returns to; on disk, ready without a download.
    pub previous: Option<Installed>,
    /// How far it is.
    pub state: State,
    /// Times that the live release changed.
    pub swaps: u64,
    /// Steps that the present candidate took, waits for the network left out; capped, so that no loop is endless.
    pub transitions: u32,
    /// The agent was stopped in order: the next start counts no death.
    pub stopped: bool,
}

impl Default for Slot {
    fn default() -> Self {
        Self { live: None, previous: None, state: State::Idle, swaps: 0, transitions: 0, stopped: false }
    }
}

impl State {
    /// The candidate that is not live yet.
    #[must_use]
    pub fn candidate(&self) -> Option<&Assignment> {
        match self {
            Self::Fetching { candidate, .. }
            | Self::Blocked { candidate, .. }
            | Self::Verifying { candidate, .. }
            | Self::SelfTesting { candidate, .. }
            | Self::Swapping { candidate, .. }
            | Self::Beside { candidate, .. } => Some(candidate),
            Self::Restoring { then, .. } => then.candidate(),
            Self::Idle | Self::Probation { .. } | Self::Reverting { .. } | Self::Removing | Self::Watched { .. } => {
                None
            }
        }
    }

    /// A constant name, for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching { .. } => "fetching",
            Self::Blocked { .. } => "blocked",
            Self::Verifying { .. } => "verifying",
            Self::SelfTesting { .. } => "self-testing",
            Self::Swapping { .. } => "swapping",
            Self::Probation { .. } => "probation",
            Self::Reverting { .. } => "reverting",
            Self::Removing => "removing",
            Self::Restoring { .. } => "restoring",
            Self::Watched { .. } => "watched",
            Self::Beside { mode: Mode::Shadow { .. }, .. } => "shadowing",
            Self::Beside { mode: Mode::Split { .. }, .. } => "splitting",
        }
    }
}

impl Slot {
    /// Nothing is on the box and nothing is being done: the journal needs no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_none() && self.previous.is_none() && self.state == State::Idle
    }

    /// What a report says of this slot. `progress` is bytes on disk and bytes in all, while fetching.
    #[must_use]
    pub fn report(&self, model: &ModelName, progress: (u64, u64)) -> ModelReport {
        let candidate = self.phase(&self.state, progress);
        let release = |installed: &Option<Installed>| installed.as_ref().map(|i| i.release.clone());
        ModelReport {
            model: model.clone(),
            live: release(&self.live),
            previous: release(&self.previous),
            candidate,
            swaps: self.swaps,
        }
    }

    fn phase(&self, state: &State, (done, total): (u64, u64)) -> Option<(ReleaseRef, Phase)> {
        let with = |candidate: &Assignment, phase| Some((candidate.release.clone(), phase));
        let installed = |i: &Option<Installed>, phase| i.as_ref().map(|i| (i.release.clone(), phase));
        match state {
            // It serves as ever; the fleet has no need to wait.
            State::Idle | State::Removing | State::Watched { .. } => None,
            State::Fetching { candidate, .. } => with(candidate, Phase::Fetching { done, total }),
            State::Blocked { candidate, trouble, .. } => with(candidate, Phase::Blocked(trouble.detail.clone())),
            State::Verifying { candidate, .. } => with(candidate, Phase::Verifying),
            State::SelfTesting { candidate, .. } => with(candidate, Phase::SelfTesting),
            State::Swapping { candidate, .. } => with(candidate, Phase::Swapping),
            State::Beside { candidate, mode: Mode::Shadow { .. }, .. } => with(candidate, Phase::Shadowing),
            State::Beside { candidate, mode: Mode::Split { .. }, .. } => with(candidate, Phase::Splitting),
            State::Probation { .. } => installed(&self.live, Phase::Probation),
            State::Reverting { .. } => installed(&self.previous, Phase::Swapping),
            State::Restoring { then, .. } => self.phase(then, (done, total)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::testing::{assignment, frozen};
    use fieldpost_shared::wire::v2::SplitBy;

    fn slots() -> Vec<(&'static str, Slot)> {
        let candidate = || Assignment { rollout: Some("r-1".parse().unwrap()), ..assignment("m", 3, 2) };
        let trouble = || Trouble { kind: FailureKind::Disk, detail: "full".into() };
        let beside = |mode| State::Beside { candidate: candidate(), tries: 1, deaths: 1, mode };
        let states = vec![
            ("idle", State::Idle),
            ("fetching", State::Fetching { candidate: candidate(), tries: 3, trouble: Some(trouble()) }),
            ("blocked", State::Blocked { candidate: candidate(), tries: 4, trouble: trouble() }),
            ("verifying", State::Verifying { candidate: candidate(), tries: 1 }),
            ("self-testing", State::SelfTesting { candidate: candidate(), tries: 1, deaths: 1 }),
            ("swapping", State::Swapping { candidate: candidate(), tries: 1, deaths: 1 }),
            ("probation", State::Probation { probation_s: 600, elapsed_ms: 4_000, deaths: 1 }),
            ("reverting", State::Reverting { must_leave: true, tries: 1, deaths: 2 }),
            ("removing", State::Removing),
            ("restoring", State::Restoring { deaths: 1, tries: 2, then: Box::new(State::Idle) }),
            ("watched", State::Watched { deaths: 2 }),
            ("shadowing", beside(Mode::Shadow { portion: 2_500 })),
            ("splitting", beside(Mode::Split { portion: 5_000, by: SplitBy::Header("x-line".into()) })),
        ];
        let slot = |state| Slot {
            live: Some(assignment("m", 2, 1).into()),
            previous: Some(candidate().into()),
            state,
            swaps: 7,
            transitions: 5,
            stopped: true,
        };
        states.into_iter().map(|(name, state)| (name, slot(state))).collect()
    }

    /// To freeze a new form: write it beside the old one, never over it, and give the record another form number.
    #[test]
    fn slots_are_written_as_form_1_was_frozen() {
        let written: String =
            slots().iter().map(|(name, slot)| frozen(name, &postcard::to_stdvec(slot).unwrap())).collect();
        assert_eq!(written, include_str!("testdata/slots-v1.txt"), "\n{written}");
    }

    #[test]
    fn what_is_live_while_the_agent_starts_is_reported() {
        for (name, slot) in slots() {
            let report = slot.report(&"m".parse().unwrap(), (1, 2));
            assert!(report.live.is_some() && report.previous.is_some(), "{name}");
            let shows = report.candidate.is_some();
            assert_eq!(shows, !matches!(name, "idle" | "removing" | "restoring" | "watched"), "{name}");
        }
    }
}
