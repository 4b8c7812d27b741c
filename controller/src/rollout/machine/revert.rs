//! The way back: every touched device to its own previous release, and what becomes of those that are away.

use super::decide::Decision;
use super::sample::Observation;
use super::state::{Member, Progress, State};
use crate::rollout::events::Event;
use crate::rollout::fleet::{AssignTo, DeviceView};
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::time::Timestamp;

/// Tells everybody to go back, waits for those that are there, and ends.
pub(super) fn decide(state: &State, seen: &Observation<'_>, now: Timestamp) -> Decision {
    let asked: Vec<Event> =
        state.members.iter().filter_map(|(device, member)| ask(state, seen, device, member)).collect();
    if !asked.is_empty() {
        return Decision::events(asked);
    }
    let confirmed = stragglers(state, seen);
    if !confirmed.is_empty() {
        return Decision::events(confirmed);
    }
    let pending = reverting(state);
    let patience = state.spec.strategy.device_timeout;
    let waits = |(device, member): &(&DeviceId, &Member)| {
        let there = seen.devices.get(*device).is_some_and(|view| seen.reachable(state, view, now));
        there && seen.waited(member.since, now) <= patience
    };
    let waiting: Vec<String> =
        pending.iter().filter(|p| waits(p)).map(|(device, _)| format!("{device} goes back")).collect();
    if waiting.is_empty() {
        let pending = pending.into_iter().map(|(device, _)| device.clone()).collect();
        return Decision::events(vec![Event::RolledBack { pending, left_alone: left_alone(state) }]);
    }
    Decision::waiting(waiting)
}

/// Whether a device is to be told, unless somebody else has told it something since.
pub(super) fn ask(state: &State, seen: &Observation<'_>, device: &DeviceId, member: &Member) -> Option<Event> {
    let view = seen.devices.get(device)?;
    if !member.touched || !member.treated() {
        return None;
    }
    // A later rollout that was taken back told it this very release again, under its own name: then there is still
    // something to take back.
    let foreign = view.desired.get(&state.spec.release.model).filter(|told| told.rollout.as_ref() != Some(&state.id));
    Some(match foreign {
        Some(told) if told.release != state.spec.release => {
            Event::Superseded { device: device.clone(), by: told.rollout.clone() }
        }
        told => Event::RevertAsked { device: device.clone(), under: told.and_then(|told| told.rollout.clone()) },
    })
}

/// What somebody else has told a device since it was told to go back from here.
#[must_use]
pub fn taken_over<'t>(state: &State, member: &Member, told: Option<&'t AssignTo>) -> Option<&'t AssignTo> {
    let asked_under = |told: &AssignTo| told.release == state.spec.release && told.rollout == member.under;
    told.filter(|told| told.rollout.as_ref() != Some(&state.id) && !asked_under(told))
}

/// Devices on their way back that have arrived, that another rollout has taken over, or that left the fleet.
pub(super) fn stragglers(state: &State, seen: &Observation<'_>) -> Vec<Event> {
    let of = |(device, member): (&DeviceId, &Member)| {
        let device = device.clone();
        let Some(view) = seen.devices.get(&device) else { return Some(Event::Gone { device }) };
        match taken_over(state, member, view.desired.get(&state.spec.release.model)) {
            Some(told) => Some(Event::Superseded { device, by: told.rollout.clone() }),
            None => back(state, view, member).then_some(Event::Reverted { device }),
        }
    };
    reverting(state).into_iter().filter_map(of).collect()
}

/// Devices that had the release from here and that somebody else has told what to run since.
fn left_alone(state: &State) -> usize {
    state.members.values().filter(|member| member.touched && member.progress == Progress::Superseded).count()
}

fn reverting(state: &State) -> Vec<(&DeviceId, &Member)> {
    state.members.iter().filter(|(_, member)| member.progress == Progress::Reverting).collect()
}

/// Whether a device runs what it had before, and nothing of the release is on its way.
fn back(state: &State, view: &DeviceView, member: &Member) -> bool {
    let model = &state.spec.release.model;
    let coming = view.model(model).and_then(|report| report.candidate.as_ref());
    view.settled
        && view.live(model) == member.previous.as_ref().map(|previous| &previous.release)
        && coming.is_none_or(|(candidate, _)| *candidate != state.spec.release)
}
