//! A start of the agent: counts deaths, loads what was live, and goes on with what was being done.

use super::wanted::REVOKED;
use super::{MAX_DEATHS, MAX_RESTORE_DEATHS, MAX_SWAP_TRIES, MAX_WATCHED_DEATHS, Machine};
use crate::deploy::effects::Failure;
use crate::deploy::slot::State;
use fieldpost_shared::wire::v1::FailureKind;

impl Machine<'_> {
    pub(super) fn started(&mut self) {
        self.drop_revoked_previous();
        let died = u32::from(!self.slot.stopped);
        self.slot.stopped = false;
        let (deaths, state) = match self.slot.state.clone() {
            State::Restoring { deaths, then, .. } => (deaths.saturating_add(died), *then),
            state => (0, state),
        };
        self.slot.state = state.clone();
        match state {
            State::Probation { deaths, probation_s, elapsed_ms } => {
                let deaths = deaths.saturating_add(died);
                if deaths >= MAX_DEATHS {
                    return self.revert(FailureKind::Crash, &format!("the agent died {deaths} times in its probation"));
                }
                self.slot.state = State::Probation { deaths, probation_s, elapsed_ms };
            }
            State::SelfTesting { candidate, tries, deaths } => {
                let deaths = deaths.saturating_add(died);
                self.slot.state = State::SelfTesting { candidate, tries, deaths };
                if deaths >= MAX_DEATHS {
                    let detail = format!("the agent died {deaths} times in its self-test");
                    self.fail_candidate(FailureKind::SelfTest, &detail);
                }
            }
            State::Beside { candidate, tries, deaths, mode } => {
                let deaths = deaths.saturating_add(died);
                self.slot.state = State::Beside { candidate, tries, deaths, mode };
                if deaths >= MAX_DEATHS {
                    let detail = format!("the agent died {deaths} times while it stood beside the live release");
                    self.fail_candidate(FailureKind::Crash, &detail);
                }
            }
            State::Swapping { candidate, tries, deaths } => {
                let deaths = deaths.saturating_add(died);
                self.slot.state = State::Swapping { candidate, tries, deaths };
                if deaths >= MAX_DEATHS {
                    let detail = format!("the agent died {deaths} times while it was swapped in");
                    self.fail_candidate(FailureKind::Crash, &detail);
                }
            }
            State::Fetching { .. } | State::Blocked { .. } | State::Verifying { .. } if died > 0 => {
                self.count_transition();
            }
            State::Reverting { must_leave, tries, deaths } => {
                let deaths = deaths.saturating_add(died);
                self.slot.state = State::Reverting { must_leave, tries, deaths };
                if deaths >= MAX_RESTORE_DEATHS || self.slot.previous.is_none() {
                    return self.revert_failed(must_leave);
                }
            }
            // Without another release there is nothing to gain by counting.
            State::Idle | State::Watched { .. } if self.slot.live.is_none() || self.slot.previous.is_none() => {
                self.slot.state = State::Idle;
            }
            State::Idle if died > 0 => self.slot.state = State::Watched { deaths: died },
            State::Watched { deaths } => {
                let deaths = deaths.saturating_add(died);
                if deaths >= MAX_WATCHED_DEATHS {
                    let detail = format!("the agent died {deaths} times in a row while it served");
                    return self.revert(FailureKind::Crash, &detail);
                }
                self.slot.state = State::Watched { deaths };
            }
            State::Idle
            | State::Removing
            | State::Fetching { .. }
            | State::Blocked { .. }
            | State::Verifying { .. } => {}
            // It never holds another one.
            State::Restoring { .. } => {}
        }
        self.restore(deaths);
    }

    /// Loads live, unless it must not or could not be; what was being done goes on after that.
    pub(super) fn restore(&mut self, deaths: u32) {
        let state = self.slot.state.clone();
        if matches!(state, State::Reverting { .. } | State::Removing) {
            return self.enter(state);
        }
        let Some(live) = self.slot.live.clone() else { return self.resume(state) };
        if self.is_revoked(&live.release.manifest) {
            return self.revert(FailureKind::Untrusted, REVOKED);
        }
        if deaths >= MAX_RESTORE_DEATHS {
            return self.revert(FailureKind::Crash, &format!("the agent died {deaths} times while it was loaded"));
        }
        self.enter(State::Restoring { deaths, tries: 0, then: Box::new(state) });
    }

    /// Goes on with what was being done before the agent stopped.
    pub(super) fn resume(&mut self, state: State) {
        match state {
            State::Blocked { candidate, tries, trouble } => {
                self.enter(State::Fetching { candidate, tries, trouble: Some(trouble) });
            }
            // There is nothing to stand beside any more.
            State::Beside { candidate, tries, .. } if self.slot.live.is_none() => {
                self.enter(State::Swapping { candidate, tries, deaths: 0 });
            }
            state => self.enter(state),
        }
        self.settle();
    }

    pub(super) fn restore_failed(&mut self, deaths: u32, tries: u32, then: State, failure: Failure) {
        let tries = tries.saturating_add(1);
        if failure.retry && tries < MAX_SWAP_TRIES {
            return self.enter(State::Restoring { deaths, tries, then: Box::new(then) });
        }
        let in_probation = matches!(then, State::Probation { .. });
        if (in_probation || !failure.retry)
            && let Some(live) = self.slot.live.clone()
        {
            self.quarantine(live, failure.kind, &failure.detail);
        }
        if in_probation || self.slot.previous.is_some() {
            return self.leave_live(false);
        }
        // After a way back that failed, live still answers from memory; its files could not be loaded once more, so the next
        // start would have nothing. Whatever is spoilt on the disk comes anew, if it is wanted.
        if then == State::Idle {
            return self.enter(State::Removing);
        }
        // Any other state is gone on with only after a start, when nothing is loaded.
        self.slot.live = None;
        self.resume(then);
    }
}
