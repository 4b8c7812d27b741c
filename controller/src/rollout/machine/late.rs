//! A completed rollout goes on for devices that come to the fleet later: a box that takes the place of a broken one gets
//! what its neighbours have, without anybody's hands. So does one that took part and could not be told, since it was away
//! whenever its maintenance window was open, or while another model changed.

use super::observe;
use super::progress::assignments;
use super::sample::Observation;
use super::state::{Member, Progress, Stage, State};
use super::turn::Turns;
use crate::rollout::events::Event;
use crate::rollout::fleet::{DeviceView, Devices};
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::time::Timestamp;

/// Whether a look at a completed rollout could come to anything; cheap, for it is asked again and again.
pub(crate) fn concerns(state: &State, devices: &Devices) -> bool {
    let model = &state.spec.release.model;
    state.members.values().any(|member| awaited(state, member))
        || devices.values().any(|view| !view.desired.contains_key(model))
}

/// Whether something may still come of a device, by what it was told or is to be told.
pub(crate) fn awaited(state: &State, member: &Member) -> bool {
    (member.late && unsettled(member)) || left_behind(state, member)
}

/// Whether something lasts in a completed rollout: a device's shadow, or the time until it tries again or is late.
pub(crate) fn lasts(state: &State) -> bool {
    state.stage == Stage::Completed && state.members.values().any(|member| member.late && unsettled(member))
}

fn unsettled(member: &Member) -> bool {
    matches!(member.progress, Progress::Assigned | Progress::Shadowing | Progress::Retrying { .. })
}

/// Whether a device took part and was never told, or not that it may leave the shadow.
fn left_behind(state: &State, member: &Member) -> bool {
    let of_waves = !member.late && member.wave < state.waves.len();
    let in_shadow = member.progress == Progress::Shadowing && state.shadowed.contains(&member.wave);
    of_waves && (in_shadow || (member.progress == Progress::Waiting && !member.accepted))
}

/// Who joined, who is told now, and what came of those that were told. Only devices that nobody has told anything of
/// the model: what was decided for a device, by another rollout or a rollback, is not undone here.
pub(super) fn decide(state: &State, seen: &Observation<'_>, now: Timestamp) -> Vec<Event> {
    let is_late = |device: &DeviceId| state.members.get(device).is_some_and(|member| member.late && unsettled(member));
    let mut events = observe::members_where(state, seen, now, is_late);
    // Silence is not worth an event each here: nothing waits for these devices.
    let told = |event: &Event| !matches!(event, Event::Silent { .. } | Event::Heard { .. } | Event::Left { .. });
    events.retain(told);
    if events.is_empty() {
        events = taken_over(state, seen);
    }
    if !events.is_empty() || seen.candidate.revoked {
        return events;
    }
    let model = &state.spec.release.model;
    // What runs there already was somebody's doing, also where a restored store does not know whose.
    let bare = |view: &DeviceView| !view.desired.contains_key(model) && view.live(model).is_none();
    let untold =
        |device: &DeviceId| !seen.ahead.contains(device) && seen.devices.get(device).is_some_and(|view| bare(view));
    let joined: Vec<Event> = observe::joiners(state, seen)
        .into_iter()
        .filter(|event| matches!(event, Event::Joined { seat, .. } if untold(&seat.device)))
        .collect();
    if !joined.is_empty() {
        return joined;
    }
    let turns = Turns::new(state, seen, now);
    assignments(state, seen, &turns, now, |device, member| {
        let open = match member.progress {
            Progress::Waiting | Progress::Shadowing if left_behind(state, member) => !seen.claimed.contains(device),
            Progress::Waiting => untold(device) && !seen.claimed.contains(device),
            Progress::Retrying { .. } | Progress::Shadowing => true,
            _ => false,
        };
        let late = member.late || left_behind(state, member);
        // As before the end, who leaves the selector in shadow does not stay there.
        let matches = member.progress == Progress::Shadowing || seen.matching.contains(device);
        late && member.wave < state.waves.len() && open && matches
    })
}

/// Devices that had not taken the release yet, and that a later rollout has told what to run before they did.
fn taken_over(state: &State, seen: &Observation<'_>) -> Vec<Event> {
    let taken = |(device, member): (&DeviceId, &Member)| {
        let told = seen.devices.get(device)?.desired.get(&state.spec.release.model)?;
        let by = told.rollout.clone().filter(|by| unsettled(member) && seen.later.contains(by))?;
        Some(Event::Superseded { device: device.clone(), by: Some(by) })
    };
    state.members.iter().filter(|(_, member)| member.late).filter_map(taken).collect()
}
