//! The deployment machine of one slot: `step(slot, event, context) -> (slot, failed releases, effects)`. Pure and total.
//!
//! An event that does not belong to the state changes nothing and asks for nothing. The caller journals the new slot and the
//! failed releases together, and only then begins the effects; so a kill between any two instructions finds, at the next
//! start, either the state before or the one after, and [`Event::Started`] goes on from both.

mod back;
mod start;
mod suspects;
mod wanted;

pub use suspects::{acquit, is_loading};

use super::event::{Context, Effect, Event, Job};
use super::probation::Harm;
use super::slot::{Installed, Slot, State};
use fieldpost_shared::wire::v1::{Assignment, FailureKind, Quarantined};

/// Steps that one candidate may take; a whole deployment takes four, and each round from a failed verification back to the
/// network takes one.
pub const MAX_TRANSITIONS: u32 = 100;
/// The agent may die so often with a candidate in self-test, swap or probation before that is the candidate's fault.
pub const MAX_DEATHS: u32 = 2;
/// The agent may die so often while it loads a release that had served well.
pub const MAX_RESTORE_DEATHS: u32 = 3;
/// The agent may die so often, each time within [`WATCH_MS`] of its start, while a release serves that is past its
/// probation. More than in a probation: it has shown that it works, and a weak power supply looks the same.
pub const MAX_WATCHED_DEATHS: u32 = 4;
/// So long without a death clears the live release of those before, milliseconds.
pub const WATCH_MS: u64 = 300_000;
/// Tries to install a release that should be ready on the disk.
pub const MAX_SWAP_TRIES: u32 = 3;
/// Most bytes of a failure's detail in journal and reports.
pub const MAX_DETAIL_BYTES: usize = 500;

/// What a step comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The slot from now on.
    pub slot: Slot,
    /// The releases that failed by this step; to be journalled with the slot.
    pub failed: Vec<Quarantined>,
    /// What to do then, in this order.
    pub effects: Vec<Effect>,
}

/// Decides.
#[must_use]
pub fn step(slot: Slot, event: Event, context: &Context<'_>) -> Step {
    let mut m = Machine { slot, failed: Vec::new(), effects: Vec::new(), context };
    m.on(event);
    Step { slot: m.slot, failed: m.failed, effects: m.effects }
}

/// The release that a local rollback would return to, if one is possible now.
#[must_use]
pub fn rollback_target(slot: &Slot) -> Option<&Installed> {
    let between = matches!(
        slot.state,
        State::Swapping { .. } | State::Reverting { .. } | State::Removing | State::Restoring { .. }
    );
    slot.previous.as_ref().filter(|_| !between && slot.live.is_some())
}

struct Machine<'a> {
    slot: Slot,
    failed: Vec<Quarantined>,
    effects: Vec<Effect>,
    context: &'a Context<'a>,
}

impl Machine<'_> {
    fn on(&mut self, event: Event) {
        let state = self.slot.state.clone();
        match (state, event) {
            (_, Event::Started) => self.started(),
            (state, Event::Stopped { elapsed_ms: ms }) => {
                self.slot.stopped = true;
                if let State::Probation { probation_s, deaths, .. } = state {
                    self.slot.state = State::Probation { probation_s, deaths, elapsed_ms: ms };
                }
            }
            (_, Event::Changed) => self.settle(),

            (State::Fetching { candidate, tries, .. }, Event::Fetched) => {
                self.advance(State::Verifying { candidate, tries });
            }
            (State::Verifying { candidate, tries }, Event::Verified) => {
                self.advance(State::SelfTesting { candidate, tries, deaths: 0 });
            }
            (State::SelfTesting { candidate, tries, .. }, Event::Tested) if self.may_change() => {
                self.tested(candidate, tries);
            }
            (State::SelfTesting { .. }, Event::Tested) => self.drop_candidate(),
            (State::Beside { .. }, Event::Beside) => self.effects.push(Effect::Begin(Job::Watch)),
            (State::Swapping { candidate, .. }, Event::Swapped) => self.swapped(candidate),
            (State::Reverting { .. }, Event::Swapped) => self.reverted(),
            (State::Restoring { then, .. }, Event::Swapped) => self.resume(*then),
            (State::Removing, Event::Removed) => self.removed(),
            (State::Blocked { .. }, Event::RetryDue) if !self.may_change() => self.drop_candidate(),
            (State::Blocked { candidate, tries, trouble }, Event::RetryDue) => {
                self.enter(State::Fetching { candidate, tries, trouble: Some(trouble) });
            }
            (State::Probation { probation_s, .. }, Event::Checked { elapsed_ms, harm }) => {
                self.checked(probation_s, elapsed_ms, harm);
            }
            (State::Watched { .. }, Event::Checked { elapsed_ms, .. }) => {
                if elapsed_ms >= WATCH_MS {
                    self.idle();
                } else {
                    self.effects.push(Effect::Begin(Job::Watch));
                }
            }
            (State::Beside { .. }, Event::Checked { harm: Some(harm), .. }) => {
                self.fail_candidate(harm.kind, &harm.detail);
            }
            (State::Beside { candidate, tries, deaths, mode }, Event::Checked { elapsed_ms, harm: None }) => {
                let deaths = if elapsed_ms >= WATCH_MS { 0 } else { deaths };
                self.slot.state = State::Beside { candidate, tries, deaths, mode };
                self.effects.push(Effect::Begin(Job::Watch));
            }
            (_, Event::LocalRollback) if rollback_target(&self.slot).is_some() => {
                self.revert(FailureKind::LocalRollback, "rolled back by a local command");
            }

            (State::Fetching { candidate, tries, .. }, Event::Failed(failure))
            | (State::Verifying { candidate, tries }, Event::Failed(failure))
            | (State::SelfTesting { candidate, tries, .. }, Event::Failed(failure))
            | (State::Beside { candidate, tries, .. }, Event::Failed(failure)) => {
                self.candidate_failed(candidate, tries, failure);
            }
            (State::Swapping { candidate, tries, .. }, Event::Failed(failure)) => {
                // It may have stood beside the live release before.
                self.effects.push(Effect::Alone);
                self.candidate_failed(candidate, tries, failure);
            }
            (State::Reverting { must_leave, tries, deaths }, Event::Failed(failure)) => {
                let tries = tries.saturating_add(1);
                if failure.retry && tries < MAX_SWAP_TRIES {
                    return self.enter(State::Reverting { must_leave, tries, deaths });
                }
                self.revert_failed(must_leave);
            }
            (State::Restoring { deaths, tries, then }, Event::Failed(failure)) => {
                self.restore_failed(deaths, tries, *then, failure);
            }

            // Late, early or foreign: nothing.
            (
                _,
                Event::Fetched
                | Event::Verified
                | Event::Tested
                | Event::Beside
                | Event::Swapped
                | Event::Removed
                | Event::RetryDue
                | Event::Checked { .. }
                | Event::LocalRollback
                | Event::Failed(_),
            ) => {}
        }
    }

    // ---- Entering a state ----

    /// Takes on a state and begins what belongs to it.
    fn enter(&mut self, state: State) {
        let swap = |installed: &Option<Installed>, tries| {
            installed.as_ref().map(|i| Job::Swap { release: i.release.clone(), tries })
        };
        let job = match &state {
            State::Idle => None,
            State::Fetching { candidate, .. } => Some(Job::Fetch(candidate.clone())),
            State::Blocked { tries, .. } => Some(Job::Wait { tries: *tries }),
            State::Verifying { candidate, .. } => Some(Job::Verify(candidate.clone())),
            State::SelfTesting { candidate, .. } => Some(Job::SelfTest(candidate.clone())),
            State::Swapping { candidate, .. } => Some(Job::Swap { release: candidate.release.clone(), tries: 0 }),
            State::Beside { candidate, mode, .. } => Some(Job::Beside(candidate.clone(), mode.clone())),
            State::Probation { .. } | State::Watched { .. } => Some(Job::Watch),
            State::Reverting { tries, .. } => swap(&self.slot.previous, *tries),
            State::Removing => Some(Job::Remove),
            State::Restoring { tries, .. } => swap(&self.slot.live, *tries),
        };
        // A swap takes away what stood beside the old release; every other way out does it here.
        let stood = matches!(self.slot.state, State::Beside { .. });
        let goes_on = matches!(state, State::Beside { .. } | State::Swapping { .. } | State::Restoring { .. });
        self.slot.state = state;
        // What an earlier state of this same step asked for was never begun.
        self.effects.retain(|effect| matches!(effect, Effect::Collect | Effect::Alone));
        if stood && !goes_on && !self.effects.contains(&Effect::Alone) {
            self.effects.push(Effect::Alone);
        }
        self.effects.push(job.map_or(Effect::Halt, Effect::Begin));
    }

    /// Enters a state that brings the candidate further, within the cap.
    fn advance(&mut self, state: State) {
        if self.count_transition() {
            self.enter(state);
        }
    }

    /// Counts a step of the candidate; false when it was one too many and the candidate has failed.
    fn count_transition(&mut self) -> bool {
        if self.slot.transitions < MAX_TRANSITIONS {
            self.slot.transitions = self.slot.transitions.saturating_add(1);
            return true;
        }
        let detail = format!("gave up after {MAX_TRANSITIONS} steps that led nowhere");
        self.fail_candidate(FailureKind::Fetch, &detail);
        false
    }

    fn idle(&mut self) {
        self.enter(State::Idle);
        self.effects.push(Effect::Collect);
        self.settle();
    }

    // ---- The way forward ----

    /// Beside the live release, if that is asked for and there is one; else in its place.
    fn tested(&mut self, candidate: Assignment, tries: u32) {
        let mode = self.context.wish.and_then(|wish| wish.beside).filter(|_| self.slot.live.is_some());
        self.advance(match mode {
            Some(mode) => State::Beside { candidate, tries, deaths: 0, mode: mode.clone() },
            None => State::Swapping { candidate, tries, deaths: 0 },
        });
    }

    fn swapped(&mut self, candidate: Assignment) {
        let probation_s = candidate.probation_s;
        self.slot.previous = self.slot.live.replace(candidate.into());
        self.slot.swaps = self.slot.swaps.saturating_add(1);
        if probation_s == 0 {
            return self.idle();
        }
        self.enter(State::Probation { probation_s, elapsed_ms: 0, deaths: 0 });
        self.settle();
    }

    fn checked(&mut self, probation_s: u32, elapsed_ms: u64, harm: Option<Harm>) {
        match harm {
            Some(harm) => self.revert(harm.kind, &harm.detail),
            None if elapsed_ms >= u64::from(probation_s).saturating_mul(1_000) => self.idle(),
            None => self.effects.push(Effect::Begin(Job::Watch)),
        }
    }

    fn removed(&mut self) {
        (self.slot.live, self.slot.previous) = (None, None);
        self.idle();
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
