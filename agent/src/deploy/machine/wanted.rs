//! What is wanted: brings a slot in line with the desired state, the hold and the root, as far as its state allows.

use super::Machine;
use crate::deploy::event::Effect;
use crate::deploy::slot::{Installed, State};
use fieldpost_shared::id::Digest;
use fieldpost_shared::wire::v1::{Assignment, FailureKind, Quarantined};
use fieldpost_shared::wire::v2::Mode;

pub(super) const REVOKED: &str = "revoked by the root metadata";

impl Machine<'_> {
    pub(super) fn may_change(&self) -> bool {
        !self.context.held && self.context.wish.is_some_and(|wish| self.context.now <= wish.expires)
    }

    /// Brings the slot in line with what is wanted now, as far as its state allows.
    pub(super) fn settle(&mut self) {
        // These end soon, and settle then.
        let brief = matches!(
            self.slot.state,
            State::Swapping { .. } | State::Reverting { .. } | State::Removing | State::Restoring { .. }
        );
        if brief {
            return;
        }
        self.drop_revoked_previous();
        if self.slot.live.as_ref().is_some_and(|live| self.is_revoked(&live.release.manifest)) {
            return self.revert(FailureKind::Untrusted, REVOKED);
        }
        match self.slot.state.clone() {
            State::Idle | State::Watched { .. } => self.begin(),
            State::Probation { .. } => self.settle_probation(),
            state => {
                if let Some(candidate) = state.candidate() {
                    self.settle_candidate(candidate);
                }
            }
        }
    }

    /// Begins what is wanted, from Idle or Watched.
    pub(super) fn begin(&mut self) {
        let Some(wish) = self.context.wish.filter(|_| self.may_change()) else { return };
        let Some(wanted) = wish.assignment else {
            if self.slot.live.is_some() || self.slot.previous.is_some() {
                self.enter(State::Removing);
            }
            return;
        };
        let is = |i: &Option<Installed>| i.as_ref().is_some_and(|i| i.release.manifest == wanted.release.manifest);
        if is(&self.slot.live) {
            return self.slot.live = Some(wanted.clone().into());
        }
        if self.is_quarantined(wanted) {
            return;
        }
        if is(&self.slot.previous) {
            return self.enter(State::Reverting { must_leave: false, tries: 0, deaths: 0 });
        }
        if self.is_revoked(&wanted.release.manifest) {
            return self.quarantine(wanted.clone().into(), FailureKind::Untrusted, REVOKED);
        }
        self.slot.transitions = 0;
        self.enter(State::Fetching { candidate: wanted.clone(), tries: 0, trouble: None });
    }

    /// Goes on with a candidate only while it is what is wanted.
    pub(super) fn settle_candidate(&mut self, candidate: &Assignment) {
        let Some(wish) = self.context.wish.filter(|_| self.may_change()) else { return self.drop_candidate() };
        if self.is_revoked(&candidate.release.manifest) {
            return self.fail(candidate.clone().into(), FailureKind::Untrusted, REVOKED);
        }
        match wish.assignment {
            // An attempt that fell below one that failed is not tried either.
            Some(wanted) if wanted.release.manifest == candidate.release.manifest && !self.is_quarantined(wanted) => {
                if wanted != candidate {
                    self.update_candidate(wanted);
                }
                self.settle_beside(wish.beside);
            }
            _ => self.idle(),
        }
    }

    /// The same release under other conditions (a higher attempt, another rollout). A blocked one is tried at once.
    pub(super) fn update_candidate(&mut self, wanted: &Assignment) {
        match &mut self.slot.state {
            State::Fetching { candidate, .. }
            | State::Verifying { candidate, .. }
            | State::SelfTesting { candidate, .. }
            | State::Beside { candidate, .. } => *candidate = wanted.clone(),
            State::Blocked { tries, trouble, .. } => {
                let (tries, trouble) = (*tries, Some(trouble.clone()));
                self.enter(State::Fetching { candidate: wanted.clone(), tries, trouble });
            }
            _ => {}
        }
    }

    /// What stands beside the live release takes its place when it need not stand there any more.
    fn settle_beside(&mut self, asked: Option<&Mode>) {
        let State::Beside { candidate, tries, deaths, mode } = self.slot.state.clone() else { return };
        match asked {
            None => self.advance(State::Swapping { candidate, tries, deaths: 0 }),
            Some(asked) if *asked != mode => {
                self.enter(State::Beside { candidate, tries, deaths, mode: asked.clone() });
            }
            Some(_) => {}
        }
    }

    /// In probation only a way back is open; a third release waits for its end.
    pub(super) fn settle_probation(&mut self) {
        let Some(wish) = self.context.wish.filter(|_| self.may_change()) else { return };
        let is = |i: &Option<Installed>, wanted: &Assignment| {
            i.as_ref().is_some_and(|i| i.release.manifest == wanted.release.manifest)
        };
        match wish.assignment {
            None => self.enter(State::Removing),
            Some(wanted) if is(&self.slot.live, wanted) => self.slot.live = Some(wanted.clone().into()),
            Some(wanted) if is(&self.slot.previous, wanted) => {
                self.enter(State::Reverting { must_leave: false, tries: 0, deaths: 0 });
            }
            Some(_) => {}
        }
    }

    /// What was revoked is nothing to return to.
    pub(super) fn drop_revoked_previous(&mut self) {
        if self.slot.previous.as_ref().is_some_and(|previous| self.is_revoked(&previous.release.manifest)) {
            self.slot.previous = None;
            self.effects.push(Effect::Collect);
        }
    }

    pub(super) fn is_revoked(&self, manifest: &Digest) -> bool {
        self.context.revoked.contains(manifest)
    }

    pub(super) fn is_quarantined(&self, wanted: &Assignment) -> bool {
        let bars = |entry: &Quarantined| {
            entry.release.manifest == wanted.release.manifest
                && entry.release.model == wanted.release.model
                && wanted.attempt <= entry.attempt
        };
        self.failed.iter().any(bars) || self.context.quarantine.iter().any(bars)
    }
}
