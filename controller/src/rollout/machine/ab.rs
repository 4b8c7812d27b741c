//! An A/B test within a running rollout: when both releases have been held side by side for long enough, and what is to be
//! measured then. It ends by a person alone.

use super::decide::Decision;
use super::progress::{assignments, names};
use super::sample::{Group, Observation, Query};
use super::shadow::{can_stand_beside, shadowed};
use super::state::{Progress, State};
use super::turn::{Turns, Wait};
use crate::rollout::ab::Measured;
use crate::rollout::duration;
use crate::rollout::events::Event;
use crate::rollout::fleet::Devices;
use crate::rollout::trial::score::{Known, read};
use crate::rollout::trial::{Metric, Reading, Score, contrast};
use fieldpost_shared::id::{DeviceId, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::Phase as DevicePhase;
use std::time::Duration;

/// Most devices of each arm that are measured, first in the order: more make an interval hardly narrower, and a look at a
/// large fleet stays bounded.
const MOST: usize = 4_096;

/// Since when statistics count, of a test whose devices are all told.
fn begins(state: &State, since: Timestamp) -> Timestamp {
    since.plus(state.spec.strategy.warm_up)
}

/// One device of the test.
struct Place<'a> {
    device: &'a DeviceId,
    /// What it answers with, newest first: the new release, the old one, or both.
    runs: [Option<&'a ReleaseRef>; 2],
    /// What it ran before.
    ran: Option<&'a ReleaseRef>,
}

/// The devices of both arms, in the order's order.
fn places<'a>(state: &'a State, devices: &'a Devices) -> Vec<Place<'a>> {
    let release = &state.spec.release;
    let place = |(device, member): (&'a DeviceId, &'a super::state::Member)| {
        let live = devices.get(device)?.live(&release.model).filter(|live| *live != release);
        let previous = member.previous.as_ref().map(|previous| &previous.release);
        let runs = match member.progress {
            Progress::Live => [Some(release), None],
            Progress::Splitting => [Some(release), live],
            Progress::Waiting => [None, live],
            _ => return None,
        };
        let ran = previous.or(live);
        Some((member.place, Place { device, runs, ran }))
    };
    let mut found: Vec<(usize, Place<'a>)> = state.members.iter().filter_map(place).collect();
    found.sort_by_key(|(place, found)| (*place, found.device));
    let mut counts = [0, 0];
    found.retain(|(_, place)| {
        let mut kept = false;
        for (count, runs) in counts.iter_mut().zip(place.runs) {
            if runs.is_some() && *count < MOST {
                *count += 1;
                kept = true;
            }
        }
        kept
    });
    found.into_iter().map(|(_, place)| place).collect()
}

/// What is left of the stated time; none when it is over.
fn left(state: &State, since: Timestamp, now: Timestamp) -> Option<Duration> {
    let over = begins(state, since).plus(state.spec.strategy.ab.lasts);
    (now < over).then(|| over.since(now))
}

/// What a measurement needs to know, once the stated time is over and nothing was measured.
pub(super) fn queries(state: &State, devices: &Devices, now: Timestamp) -> Vec<Query> {
    let Some(since) = state.ab_since() else { return Vec::new() };
    if state.measured.is_some() || left(state, since, now).is_some() {
        return Vec::new();
    }
    let begins = begins(state, since);
    let before = (state.created.minus(state.spec.strategy.history), Some(state.created));
    let mut queries = Vec::new();
    for place in places(state, devices) {
        let query = |group, release, when| Query::between(group, place.device, release, when);
        let [new, old] = place.runs;
        queries.extend(new.map(|release| query(Group::AbNew, release, (begins, None))));
        queries.extend(old.map(|release| query(Group::AbOld, release, (begins, None))));
        queries.extend(place.ran.map(|ran| query(Group::AbBefore, ran, before)));
    }
    queries
}

/// Devices of the test that are told now.
fn told(state: &State, seen: &Observation<'_>, turns: &Turns<'_>, wave: usize, now: Timestamp) -> Vec<Event> {
    if state.spec.strategy.ab.mode().is_none() {
        return assignments(state, seen, turns, now, |_, member| member.wave <= wave);
    }
    let release = &state.spec.release;
    let able = |device: &DeviceId| seen.devices.get(device).is_some_and(|view| can_stand_beside(view, release));
    let told = assignments(state, seen, turns, now, |device, member| member.wave <= wave && able(device));
    told.into_iter().map(shadowed).collect()
}

/// Devices begin to answer with both releases. The test begins when all do that are there, and that could.
pub(super) fn deploying(
    state: &State,
    seen: &Observation<'_>,
    turns: &Turns<'_>,
    (wave, since): (usize, Timestamp),
    now: Timestamp,
) -> Decision {
    let told = told(state, seen, turns, wave, now);
    if !told.is_empty() {
        return Decision::events(told);
    }
    let release = &state.spec.release;
    let (mut ready, mut changing, mut closed) = (0_usize, Vec::new(), Vec::new());
    for (device, member) in state.counted(wave) {
        let phase = seen.devices.get(device).and_then(|view| {
            let (candidate, phase) = view.model(&release.model)?.candidate.as_ref()?;
            (candidate == release).then_some(phase)
        });
        match (member.progress, phase) {
            (Progress::Splitting, Some(DevicePhase::Splitting)) => ready += 1,
            (Progress::Splitting, _) if member.silence.is_none() => changing.push(device),
            (Progress::Retrying { .. }, _) => changing.push(device),
            (Progress::Waiting, _) if matches!(turns.wait(device), Some(Wait::Window { .. })) => closed.push(device),
            _ => {}
        }
    }
    if !changing.is_empty() && seen.waited(since, now) <= state.spec.strategy.device_timeout {
        return Decision::waiting(vec![format!(
            "{ready} devices answer with both releases; not yet: {}",
            names(changing)
        )]);
    }
    if ready == 0 && !closed.is_empty() {
        return Decision::waiting(vec![format!("maintenance windows are closed: {}", names(closed))]);
    }
    if ready == 0 {
        return Decision::pause(
            "no device answers with both releases: that needs a live release, an agent that understands, and a release \
             that passes its self-test; resume tries again"
                .to_owned(),
        );
    }
    Decision::events(vec![Event::SoakStarted { wave }])
}

/// Takes a test one step on.
pub(super) fn decide(
    state: &State,
    seen: &Observation<'_>,
    turns: &Turns<'_>,
    (wave, since): (usize, Timestamp),
    now: Timestamp,
) -> Decision {
    let told = told(state, seen, turns, wave, now);
    if !told.is_empty() {
        return Decision::events(told);
    }
    if let Some(measured) = &state.measured {
        return Decision::pause(format!(
            "{}; resume measures again, abort --revert or --keep ends the test, and a new rollout brings the better release \
             to everybody",
            measured.sentence()
        ));
    }
    if let Some(left) = left(state, since, now) {
        let left = duration::text(Duration::from_secs(left.as_secs().saturating_add(1)));
        return Decision::waiting(vec![format!("both releases are held side by side, {left} more")]);
    }
    let [new, old] = [Group::AbNew, Group::AbOld].map(|group| requests(seen, group));
    // Nothing is measured by silence.
    let wanted = state.spec.strategy.ab.requests.max(1);
    if new.min(old) < wanted {
        return Decision::waiting(vec![format!(
            "both releases are held side by side: {new} requests with the new one and {old} with the old have been \
             reported, and at least {wanted} each are wanted"
        )]);
    }
    let found = Box::new(measure(state, seen, (begins(state, since), now)));
    Decision::events(vec![Event::Measured { found }])
}

/// Requests that the devices of an arm have answered.
fn requests(seen: &Observation<'_>, arm: Group) -> u64 {
    let of_arm = seen.samples.windows.iter().filter(|((group, _), _)| *group == arm);
    of_arm.filter_map(|(_, (_, window))| window.as_ref()).map(|window| window.requests).fold(0, u64::saturating_add)
}

fn measure(state: &State, seen: &Observation<'_>, (since, until): (Timestamp, Timestamp)) -> Measured {
    let (places, unsure) = (places(state, seen.devices), seen.knows_confidence());
    let split = state.spec.strategy.ab.mode().is_some();
    let (mut metrics, mut without_data) = (Vec::new(), Vec::new());
    for metric in Metric::ALL {
        let reading = |group, place: &Place<'_>| {
            let served = |group| seen.served(group, place.device);
            read(metric, &Known { now: served(group), before: served(Group::AbBefore), expected: !split, unsure })
        };
        let found = if split {
            let pair = |place: &Place<'_>| (reading(Group::AbNew, place).now, reading(Group::AbOld, place).now);
            let pairs: Vec<(Score, Score)> = places.iter().filter(|place| place.runs[0].is_some()).map(pair).collect();
            contrast::within(metric, &pairs)
        } else {
            let arm = |group, which: usize| -> Vec<Reading> {
                let of_arm = places.iter().filter(|place| place.runs.get(which).is_some_and(Option::is_some));
                of_arm.map(|place| reading(group, place)).collect()
            };
            contrast::between(metric, &arm(Group::AbNew, 0), &arm(Group::AbOld, 1))
        };
        match found {
            Some(found) => metrics.push(found),
            None => without_data.push(metric),
        }
    }
    Measured { since, until, split, metrics, without_data }
}
