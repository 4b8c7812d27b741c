//! A wall clock that jumps: nothing is too late because of it, nothing has lasted long enough, and nothing waits for ever.

use super::{Core, CoreError};
use crate::rollout::events::Event;
use crate::rollout::fleet::Devices;
use crate::rollout::machine::late::lasts;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::time::{Clock, Timestamp};
use std::time::Duration;

/// What two looks differ by more than the time that has passed is a jump: clocks are set right by less all the time.
const JUMP: Duration = Duration::from_secs(300);

/// Both clocks at the last look.
#[derive(Debug)]
pub(super) struct Watch {
    wall: Timestamp,
    monotonic: Duration,
    /// No look has been taken: how the clock stood when the windows of before came, nobody knows.
    first: bool,
}

impl Watch {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic(), first: true }
    }

    /// Whether the wall clock has jumped since the last look.
    fn jumped(&mut self, clock: &dyn Clock) -> bool {
        let before = std::mem::replace(self, Self { first: false, ..Self::new(clock) });
        let expected = before.wall.plus(self.monotonic.saturating_sub(before.monotonic));
        self.wall.since(expected).max(expected.since(self.wall)) > JUMP
    }
}

impl Core {
    /// Lets the clocks of rollouts begin anew when the wall clock has jumped, while this controller ran or before it began.
    /// Says which could not be written down.
    pub(super) fn mind_the_clock(&mut self, devices: &mut Devices) -> Vec<(RolloutId, CoreError)> {
        let now = self.parts.clock.now();
        let first = self.watch.first;
        let jumped = self.watch.jumped(self.parts.clock.as_ref());
        if jumped {
            // Whom this controller has heard of, it has heard of by another clock.
            self.since = now;
        }
        let ahead = |at: Timestamp| at.since(now) > JUMP;
        let touched = self
            .rollouts
            .iter()
            .filter(|(_, entry)| entry.state.stage.active() || lasts(&entry.state))
            .filter(|(_, entry)| jumped || ahead(entry.state.updated));
        let ids: Vec<RolloutId> = touched.map(|(id, _)| id.clone()).collect();
        let mut stuck = Vec::new();
        if (first || jumped || !ids.is_empty())
            && let Err(error) = self.parts.fleet.put_windows_back(now, JUMP)
        {
            let error = Chain(&error);
            tracing::warn!(%error, "statistics that arrived before the clock was put back may count as newer ones");
        }
        for id in ids {
            if let Err(error) = self.record(&id, vec![Event::ClockJumped { to: now }], devices) {
                stuck.push((id, error));
            }
        }
        stuck
    }
}
