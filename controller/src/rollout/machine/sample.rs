//! What a decision sees of the world, and what statistics it has to ask for first.

use super::state::{Progress, Stage, State};
use super::{ab, experiment, past};
use crate::rollout::fleet::{DeviceView, Devices, ReleaseInfo};
use crate::rollout::trial::score::Served;
use fieldpost_shared::bundle::manifest::Manifest;
use fieldpost_shared::id::{DeviceId, Digest, ReleaseRef, RolloutId};
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Most devices without the release whose statistics are asked for, nearest in the order first: a comparison needs no
/// more, and a look at a large fleet stays cheap.
const MAX_CONTROLS: usize = 200;

/// In which group a device's statistics are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// It runs the release.
    Treated,
    /// It does not, yet.
    Control,
    /// It runs the release, and this is what it served before.
    Before,
    /// A device of either arm of the experiment, since its wave's devices count.
    TrialNow,
    /// The same device before the rollout.
    TrialBefore,
    /// The same device in a slice of the time before the rollout, the last first.
    SliceBefore(u16),
    /// A device with the release in a slice of the time since the wave's devices count.
    SliceSince(u16),
    /// It runs the release in shadow, and this is what serves.
    Shadow,
    /// What a device of an A/B test served with the new release.
    AbNew,
    /// What one served with the old release.
    AbOld,
    /// What one served before the test.
    AbBefore,
}

/// Statistics to ask the fleet for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// In which group.
    pub group: Group,
    /// Of whom.
    pub device: DeviceId,
    /// Served with what.
    pub release: ReleaseRef,
    /// Arrived since when.
    pub since: Timestamp,
    /// And before when; none is until now.
    pub until: Option<Timestamp>,
}

impl Query {
    /// What a device served with a release since a moment.
    fn since(group: Group, device: &DeviceId, release: &ReleaseRef, since: Timestamp) -> Self {
        Self { group, device: device.clone(), release: release.clone(), since, until: None }
    }

    /// The same, with an end.
    pub(super) fn between(
        group: Group,
        device: &DeviceId,
        release: &ReleaseRef,
        (since, until): (Timestamp, Option<Timestamp>),
    ) -> Self {
        Self { until, ..Self::since(group, device, release, since) }
    }
}

/// Of which release, and the windows if any came.
type Sample = (Digest, Option<Arc<WindowStats>>);

/// What the fleet answered.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// By group and device: the release, and the windows if any came.
    pub windows: BTreeMap<(Group, DeviceId), Sample>,
    /// Manifests of the releases in question.
    pub manifests: BTreeMap<Digest, Arc<Manifest>>,
}

/// The world at one moment, as far as one rollout needs it.
#[derive(Debug)]
pub struct Observation<'a> {
    /// The active devices.
    pub devices: &'a Devices,
    /// Those that the selector matches and that fit the release.
    pub matching: &'a BTreeSet<DeviceId>,
    /// Those that another active rollout of this model owns.
    pub claimed: &'a BTreeSet<DeviceId>,
    /// Those on which another model changes, and why they wait for it.
    pub busy: &'a BTreeMap<DeviceId, String>,
    /// Those that know newer orders than the controller does.
    pub ahead: &'a BTreeSet<DeviceId>,
    /// Rollouts of this model that began after this one.
    pub later: &'a BTreeSet<RolloutId>,
    /// Since when the controller can hear devices; none while it cannot.
    pub listening_since: Option<Timestamp>,
    /// What is rolled out.
    pub candidate: &'a ReleaseInfo,
    /// Statistics, as [`queries`] asked for them.
    pub samples: &'a Samples,
}

impl Observation<'_> {
    /// Whether the controller would have heard of a device that is there. While it cannot hear anybody, or has only
    /// just begun to, everybody counts as reachable: that is its own silence, not theirs.
    #[must_use]
    pub fn reachable(&self, state: &State, view: &DeviceView, now: Timestamp) -> bool {
        let Some(listening) = self.listening_since else { return true };
        // What a clock that was put back has heard of tomorrow says nothing about today.
        let heard = view.last_seen.filter(|seen| *seen <= now).map_or(listening, |seen| seen.max(listening));
        now.since(heard) <= state.spec.strategy.silence_after
    }

    /// How long something has been waited for while devices could be heard: what the controller missed while it was
    /// away, or cut off, is not held against them.
    #[must_use]
    pub fn waited(&self, since: Timestamp, now: Timestamp) -> Duration {
        self.listening_since.map_or(Duration::ZERO, |listening| now.since(since.max(listening)))
    }

    /// What one device served in one group, with its release's baseline.
    pub(super) fn served(&self, group: Group, device: &DeviceId) -> Option<Served<'_>> {
        let (release, window) = self.samples.windows.get(&(group, device.clone()))?;
        let manifest = self.samples.manifests.get(release);
        let baseline = manifest.and_then(|manifest| manifest.baseline.as_ref());
        window.as_deref().map(|window| Served { window, baseline })
    }

    /// Whether the baseline of each release that was asked for says how sure its answers are.
    pub(super) fn knows_confidence(&self) -> bool {
        let mut baselines = self.samples.manifests.values().map(|manifest| manifest.baseline.as_ref());
        baselines.all(|baseline| baseline.is_some_and(|baseline| baseline.output.confidence.is_some()))
    }

    /// Windows of one device in one group.
    #[must_use]
    pub fn window(&self, group: Group, device: &DeviceId) -> Option<&WindowStats> {
        self.samples.windows.get(&(group, device.clone())).and_then(|(_, window)| window.as_deref())
    }
}

/// The statistics that the next decision needs: of the devices that run the release, since the wave began or since
/// they got it; what they served before; and of devices without it, in the same time.
#[must_use]
pub fn queries(state: &State, devices: &Devices, listening_since: Option<Timestamp>, now: Timestamp) -> Vec<Query> {
    let watched = matches!(
        state.stage,
        Stage::Running { .. } | Stage::AwaitingApproval { .. } | Stage::Paused { breached: false, .. }
    );
    if !watched {
        return Vec::new();
    }
    let strategy = &state.spec.strategy;
    let mut queries = Vec::new();
    let mut controls = Vec::new();
    let other = |device: &DeviceId| {
        let live = devices.get(device)?.live(&state.spec.release.model);
        live.filter(|live| **live != state.spec.release)
    };
    for (device, member) in &state.members {
        match member.progress {
            Progress::Live => {
                let since = member.since.plus(strategy.warm_up).max(state.wave_since);
                queries.push(Query::since(Group::Treated, device, &state.spec.release, since));
                if let (Some(previous), Some(assigned)) = (&member.previous, member.assigned) {
                    let since = assigned.minus(strategy.history);
                    queries.push(Query::since(Group::Before, device, &previous.release, since));
                }
            }
            Progress::Shadowing => {
                queries.extend(other(device).map(|live| Query::since(Group::Shadow, device, live, member.since)));
            }
            Progress::Splitting => {
                let since = member.since.plus(strategy.warm_up).max(state.wave_since);
                queries.push(Query::since(Group::Treated, device, &state.spec.release, since));
                controls.extend(other(device).map(|live| (member.place, device, live)));
            }
            Progress::Waiting => {
                controls.extend(other(device).map(|live| (member.place, device, live)));
            }
            _ => {}
        }
    }
    controls.sort();
    let control = |(_, device, live)| Query::since(Group::Control, device, live, state.wave_since);
    queries.extend(controls.into_iter().take(MAX_CONTROLS).map(control));
    queries.extend(experiment::queries(state, devices, listening_since, now));
    queries.extend(past::queries(state, now));
    queries.extend(ab::queries(state, devices, now));
    queries
}
