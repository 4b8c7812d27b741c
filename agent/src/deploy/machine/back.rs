//! The way back: failures, quarantine, and the return to the previous release.

use super::{MAX_DETAIL_BYTES, Machine};
use crate::deploy::effects::Failure;
use crate::deploy::event::Effect;
use crate::deploy::slot::{Installed, State, Trouble};
use fieldpost_shared::wire::v1::{Assignment, FailureKind, Quarantined};

/// What the failure of a box's only release comes to.
const NOTHING_BEFORE: &str = "there was no earlier release to go back to, so this box now has none of the model";

impl Machine<'_> {
    pub(super) fn candidate_failed(&mut self, candidate: Assignment, tries: u32, failure: Failure) {
        if !failure.retry {
            return self.fail(candidate.into(), failure.kind, &failure.detail);
        }
        let trouble = Trouble { kind: failure.kind, detail: shortened(&failure.detail) };
        self.enter(State::Blocked { candidate, tries: tries.saturating_add(1), trouble });
        // During a swap the wish may have changed.
        self.settle();
    }

    pub(super) fn fail_candidate(&mut self, kind: FailureKind, detail: &str) {
        if let Some(candidate) = self.slot.state.candidate().cloned() {
            self.fail(candidate.into(), kind, detail);
        }
    }

    /// The candidate goes into quarantine; live stays.
    pub(super) fn fail(&mut self, candidate: Installed, kind: FailureKind, detail: &str) {
        self.quarantine(candidate, kind, detail);
        self.idle();
    }

    /// The candidate is given up without blame; it begins anew if it is wanted again.
    pub(super) fn drop_candidate(&mut self) {
        self.enter(State::Idle);
        self.effects.push(Effect::Collect);
    }

    /// Live goes into quarantine and gives way to the previous release, or to nothing.
    pub(super) fn revert(&mut self, kind: FailureKind, detail: &str) {
        self.drop_revoked_previous();
        if let Some(live) = self.slot.live.clone() {
            match &self.slot.previous {
                Some(_) => self.quarantine(live, kind, detail),
                None => self.quarantine(live, kind, &format!("{detail}; {NOTHING_BEFORE}")),
            }
        }
        self.leave_live(matches!(kind, FailureKind::Crash | FailureKind::Untrusted));
    }

    /// Gives way to the previous release, if one may run.
    pub(super) fn leave_live(&mut self, must_leave: bool) {
        self.drop_revoked_previous();
        self.enter(if self.slot.previous.is_some() {
            State::Reverting { must_leave, tries: 0, deaths: 0 }
        } else {
            State::Removing
        });
    }

    /// The previous release had served here and needs no probation; what it replaces is nothing to return to.
    pub(super) fn reverted(&mut self) {
        self.slot.live = self.slot.previous.take();
        self.slot.swaps = self.slot.swaps.saturating_add(1);
        self.idle();
    }

    /// The previous release does not load: there is nothing to go back to. A bad answer is better than none, unless live
    /// must not answer at all. The report tells of it, and what is wanted comes anew.
    pub(super) fn revert_failed(&mut self, must_leave: bool) {
        self.slot.previous = None;
        self.enter(if must_leave {
            State::Removing
        } else {
            State::Restoring { deaths: 0, tries: 0, then: Box::new(State::Idle) }
        });
    }

    pub(super) fn quarantine(&mut self, failed: Installed, kind: FailureKind, detail: &str) {
        // The attempt that is wanted now may be higher than the one it came with; it is the one that has failed.
        let wanted = self.context.wish.and_then(|wish| wish.assignment);
        let attempt = wanted
            .filter(|wanted| wanted.release.manifest == failed.release.manifest)
            .map_or(failed.attempt, |wanted| wanted.attempt.max(failed.attempt));
        self.failed.push(Quarantined {
            release: failed.release,
            attempt,
            rollout: failed.rollout,
            kind,
            detail: shortened(detail),
            at: self.context.now,
        });
    }
}

fn shortened(detail: &str) -> String {
    let mut end = detail.len().min(MAX_DETAIL_BYTES);
    while !detail.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    detail.get(..end).unwrap_or_default().to_owned()
}
