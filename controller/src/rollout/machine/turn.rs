//! Whether it is a device's turn, its place in the order and the others of its wave aside: its maintenance window, what
//! else must be live on it, and what else changes on it.

use super::sample::Observation;
use super::state::{Member, Phase, Progress, Stage, State};
use crate::rollout::fleet::{DeviceView, Devices};
use crate::rollout::maintenance::{Calendar, Opening, Zone};
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::Phase as DevicePhase;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Each window opens within so long: they come every week, and the clock can jump over one of them.
pub(super) const WINDOWS_OPEN: Duration = Duration::from_secs(15 * 24 * 3_600);

/// Why a device is not told yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wait {
    /// Its maintenance window is closed.
    Window {
        /// When it opens; none is not within weeks.
        opens: Option<Timestamp>,
        /// In which zone.
        zone: Zone,
    },
    /// It could not do it at once, since it is away: what is told then would be done at another time.
    Away {
        /// Since when it could have been told.
        since: Option<Timestamp>,
    },
    /// Something that does not end at a known time.
    Other(String),
}

impl Wait {
    /// In words.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Window { opens: Some(opens), zone } => {
                format!("waits for its maintenance window, opens at {opens} ({} in {zone})", zone.wall(*opens))
            }
            Self::Window { opens: None, zone } => {
                format!("waits for its maintenance window, which does not open within three weeks in {zone}")
            }
            Self::Away { .. } => "is away".to_owned(),
            Self::Other(why) => why.clone(),
        }
    }
}

/// One moment of one rollout.
pub(super) struct Turns<'a> {
    state: &'a State,
    seen: &'a Observation<'a>,
    calendar: Calendar<'a>,
    now: Timestamp,
}

impl<'a> Turns<'a> {
    pub(super) fn new(state: &'a State, seen: &'a Observation<'a>, now: Timestamp) -> Self {
        let strategy = &state.spec.strategy;
        Self { state, seen, calendar: Calendar::new(&strategy.maintenance, &strategy.timezone, now), now }
    }

    /// Why a device that may be told otherwise is not; none when it may.
    pub(super) fn wait(&self, device: &DeviceId) -> Option<Wait> {
        let view = self.seen.devices.get(device)?;
        let reachable = self.seen.reachable(self.state, view, self.now);
        let why = of_itself(self.state, &self.calendar, view).or_else(|| self.busy(device, view).map(Wait::Other));
        match why {
            Some(closed @ Wait::Window { .. }) => Some(closed),
            Some(_) if !reachable => Some(Wait::Away { since: None }),
            // Where only so many may change at a time, those that are away are not told beforehand: a site whose power
            // comes back would change all at once.
            None if !reachable && (self.calendar.has_windows() || self.state.spec.strategy.is_capped()) => {
                let since = match self.calendar.of(&view.labels) {
                    Opening::Open { since } => since,
                    _ => None,
                };
                Some(Wait::Away { since })
            }
            why => why,
        }
    }

    /// Whether a device would hear what it is told.
    pub(super) fn reachable(&self, device: &DeviceId) -> bool {
        self.seen.devices.get(device).is_some_and(|view| self.seen.reachable(self.state, view, self.now))
    }

    /// When the window of a device that waits for nothing else has opened.
    pub(super) fn open_since(&self, device: &DeviceId) -> Option<Timestamp> {
        match self.calendar.of(&self.seen.devices.get(device)?.labels) {
            Opening::Open { since } => since,
            _ => None,
        }
    }

    fn busy(&self, device: &DeviceId, view: &DeviceView) -> Option<String> {
        if let Some(why) = self.seen.busy.get(device) {
            return Some(why.clone());
        }
        if !self.state.spec.strategy.one_at_a_time {
            return None;
        }
        // What stands beside a live release for days does not change there.
        let changes = |phase: &DevicePhase| {
            !matches!(phase, DevicePhase::Blocked(_) | DevicePhase::Shadowing | DevicePhase::Splitting)
        };
        let model = &self.state.spec.release.model;
        let mut others = view.models.iter().filter(|report| report.model != *model);
        let other = others.find(|report| report.candidate.as_ref().is_some_and(|(_, phase)| changes(phase)))?;
        Some(format!("waits while its {} changes", other.model))
    }
}

fn of_itself(state: &State, calendar: &Calendar<'_>, view: &DeviceView) -> Option<Wait> {
    if let Some(lacks) = state.spec.strategy.requires.iter().find_map(|requirement| requirement.lacks(view)) {
        return Some(Wait::Other(lacks));
    }
    match calendar.of(&view.labels) {
        Opening::Open { .. } => None,
        Opening::Closed { opens, zone } => Some(Wait::Window { opens, zone }),
        Opening::Unknown { why } => Some(Wait::Other(format!("its maintenance window is not known: {why}"))),
    }
}

/// Whether a rollout has asked a device to change, and has not heard that it is done.
fn changes(member: &Member) -> bool {
    matches!(member.progress, Progress::Assigned | Progress::Reverting)
}

/// Devices that rollouts of other models change now, or those of a higher priority would tell now but for how many may
/// change at once: one model at a time changes on a device.
pub(crate) fn busy_elsewhere<'s>(
    state: &State,
    others: impl IntoIterator<Item = &'s State>,
    devices: &Devices,
    now: Timestamp,
) -> BTreeMap<DeviceId, String> {
    let mut busy = BTreeMap::new();
    if !state.spec.strategy.one_at_a_time {
        return busy;
    }
    let model = &state.spec.release.model;
    for other in others.into_iter().filter(|other| other.spec.release.model != *model) {
        let (release, id) = (&other.spec.release, &other.id);
        for (device, _) in other.members.iter().filter(|(_, member)| changes(member)) {
            let why = || format!("waits while rollout {id} changes its {}", release.model);
            busy.entry(device.clone()).or_insert_with(why);
        }
        if other.spec.strategy.priority > state.spec.strategy.priority {
            for device in due(other, devices, now) {
                let why = || format!("waits for rollout {id} of {}, which goes first", release.model);
                busy.entry(device.clone()).or_insert_with(why);
            }
        }
    }
    busy
}

/// Devices that a rollout would tell now if enough could change at the same time.
fn due<'s>(state: &'s State, devices: &Devices, now: Timestamp) -> BTreeSet<&'s DeviceId> {
    let Stage::Running { wave, phase: Phase::Deploying { .. } } = state.stage else { return BTreeSet::new() };
    if state.is_over(now) {
        return BTreeSet::new();
    }
    let strategy = &state.spec.strategy;
    let calendar = Calendar::new(&strategy.maintenance, &strategy.timezone, now);
    let open = |member: &Member| match member.progress {
        Progress::Waiting => true,
        Progress::Retrying { at } => at <= now,
        _ => state.awaits_turn(member, now),
    };
    let may_be = |member: &Member| member.wave <= wave && !member.accepted && open(member);
    let heard = |view: &Arc<DeviceView>| view.last_seen.is_some_and(|seen| now.since(seen) <= strategy.silence_after);
    let tellable = |view: &Arc<DeviceView>| heard(view) && of_itself(state, &calendar, view).is_none();
    let members = state.members.iter().filter(|(_, member)| may_be(member));
    members.filter(|(device, _)| devices.get(*device).is_some_and(tellable)).map(|(device, _)| device).collect()
}
