//! What people may ask of a rollout, and when not.

use super::state::{AbortMode, Member, Progress, Stage, State};
use super::step::may_roll_back;
use super::{experiment, past};
use crate::rollout::approval::Person;
use crate::rollout::events::{Ending, Event};
use fieldpost_shared::id::{DeviceId, RolloutId};
use serde::{Deserialize, Serialize};

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Let nothing more change.
    Pause {
        /// Why.
        reason: String,
    },
    /// Go on. Failed devices get another attempt, or are accepted.
    Resume {
        /// Go on without the devices of the waves so far that failed or are away.
        accept: bool,
    },
    /// Let the wave begin that waits for it.
    Approve,
    /// Stop.
    Abort {
        /// What becomes of the devices that have the release.
        mode: AbortMode,
        /// Why.
        reason: String,
    },
    /// Take it back, even when it is completed.
    Rollback {
        /// Why.
        reason: String,
    },
}

impl Command {
    /// The verb.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Approve => "approve",
            Self::Abort { .. } => "abort",
            Self::Rollback { .. } => "roll back",
        }
    }
}

/// A command that makes no sense now, or is not this person's to give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {verb} rollout `{rollout}`: {reason}")]
pub struct Refusal {
    /// What was asked.
    pub verb: &'static str,
    /// Of which rollout.
    pub rollout: RolloutId,
    /// Where it is, or whose word it needs.
    pub reason: String,
    /// Whether somebody else may.
    pub forbidden: bool,
}

impl Refusal {
    /// What to do instead.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self.verb {
            _ if self.forbidden => "ask somebody who may; `fieldpost rollout explain` says what changed so far",
            "resume" => "only a paused rollout can be resumed",
            "approve" => "only a wave that waits for approval can be approved",
            "pause" => "only a running rollout can be paused",
            "abort" => {
                "only a rollout that has not ended can be aborted; `rollout rollback` takes a completed one back"
            }
            "retry" => {
                "only a rollout that was rolled back or aborted is tried again: wait for it or abort it; for a completed \
                 one, start a new one"
            }
            _ => "it has already gone back",
        }
    }
}

/// The events that a command comes to.
///
/// # Errors
/// When it makes no sense in this state.
pub fn command(state: &State, command: &Command, person: &Person) -> Result<Vec<Event>, Refusal> {
    let by = person.name.clone();
    let refusal = |reason, forbidden| Refusal { verb: command.verb(), rollout: state.id.clone(), reason, forbidden };
    let refuse = || refusal(format!("it is {}", state.stage), false);
    match (command, &state.stage) {
        (Command::Pause { reason }, Stage::Running { .. }) => {
            Ok(vec![Event::Paused { reason: reason.clone(), evidence: Vec::new(), by: Some(by) }])
        }
        (Command::Resume { accept }, Stage::Paused { wave, .. }) => {
            let accepted = if *accept { troubled(state, *wave) } else { Vec::new() };
            // With devices to accept, these are what it paused for; without any it was the missing proof. A wave in shadow
            // has nothing to prove yet.
            let unproven = *accept
                && accepted.is_empty()
                && !in_shadow(state, *wave)
                && (experiment::awaits_proof(state, *wave) || past::watched(state, *wave));
            Ok(vec![Event::Resumed { by, accepted, unproven }])
        }
        (Command::Approve, Stage::AwaitingApproval { wave }) if state.approved.contains(wave) => {
            Err(refusal(format!("wave {} is approved and has not begun yet", wave + 1), false))
        }
        (Command::Approve, Stage::AwaitingApproval { wave }) => {
            match state.needed(*wave).unwrap_or_default().refuses(person, &state.by) {
                Some(why) => Err(refusal(format!("wave {} {why}", wave + 1), true)),
                None => Ok(vec![Event::Approved { wave: *wave, by }]),
            }
        }
        (Command::Abort { mode: AbortMode::Revert, reason }, stage) if stoppable(stage) => {
            let (reason, evidence) = (reason.clone(), Vec::new());
            Ok(vec![Event::RollbackStarted { reason, evidence, by: Some(by), ending: Ending::Aborted }])
        }
        (Command::Abort { mode: AbortMode::Keep, reason }, stage) if stoppable(stage) => {
            let mut events = vec![Event::AbortedKeeping { by, reason: reason.clone() }];
            let undecided = |member: &Member| member.touched && member.treated() && member.progress != Progress::Live;
            let back = state.members.iter().filter(|(_, member)| undecided(member));
            events.extend(back.map(|(device, _)| Event::RevertAsked { device: device.clone(), under: None }));
            Ok(events)
        }
        (Command::Rollback { reason }, stage) if may_roll_back(stage) && !matches!(stage, Stage::Draft) => {
            let (reason, evidence) = (reason.clone(), Vec::new());
            Ok(vec![Event::RollbackStarted { reason, evidence, by: Some(by), ending: Ending::RolledBack }])
        }
        _ => Err(refuse()),
    }
}

const fn stoppable(stage: &Stage) -> bool {
    stage.active() && !matches!(stage, Stage::RollingBack { .. })
}

/// Whether a wave, when it goes on, goes on in shadow.
fn in_shadow(state: &State, wave: usize) -> bool {
    state.begins_in_shadow(wave) && state.spec.strategy.ab.mode().is_none()
}

/// Devices of the waves so far that failed, are away, or are not where they should be: live, or in shadow with their wave.
/// Those that left too, since a wave of which nobody is left goes on by a person's word alone.
fn troubled(state: &State, wave: usize) -> Vec<DeviceId> {
    let shadowing = in_shadow(state, wave);
    let arrived = |member: &Member| match member.progress {
        Progress::Live => true,
        Progress::Shadowing => shadowing && member.wave == wave,
        _ => false,
    };
    let trouble = |member: &Member| !arrived(member) || member.silence.is_some();
    let of_waves = |member: &Member| member.wave <= wave && !member.late && !member.accepted;
    let troubled = state.members.iter().filter(|(_, member)| of_waves(member) && trouble(member));
    troubled.map(|(device, _)| device.clone()).collect()
}
