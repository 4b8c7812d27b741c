//! A wave after which nobody is left without the release: its devices are held against their own past.

use super::experiment;
use super::sample::{Group, Observation, Query};
use super::state::{Phase, Progress, Stage, State};
use crate::rollout::duration;
use crate::rollout::events::Event;
use crate::rollout::explain::look as words;
use crate::rollout::gates::{GateReport, Verdict};
use crate::rollout::strategy::Demand;
use crate::rollout::trial::past::{Course, MOST_SLICES, PastLook, Watch, look};
use crate::rollout::trial::score::{Known, read};
use crate::rollout::trial::{Design, Metric};
use fieldpost_shared::id::{DeviceId, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use std::time::Duration;

/// Most devices that are watched, first in the order: a fleet's slices are many windows.
const MOST: usize = 200;
/// These gates are named so, with the metric behind.
const GATE: &str = "past";

/// The watch over a wave, where there is one, and the design that it is of.
fn watching(state: &State, wave: usize) -> Option<(&Design, Watch)> {
    let design = state.design.as_ref().filter(|_| state.spec.strategy.evidence == Demand::Trial)?;
    Some((design, design.waves.get(wave)?.watch?))
}

/// The wave that is watched now, since when its devices count, and its slices that have ended, if there are new ones.
fn due(state: &State, now: Timestamp) -> Option<(&Design, Watch, usize, Timestamp, u16)> {
    let Stage::Running { wave, phase: Phase::Soaking { since } } = &state.stage else { return None };
    let (design, watch) = watching(state, *wave)?;
    let starts = since.plus(design.warm_up);
    let ended = watch.ended(starts, now);
    let made = state.past.as_ref().map_or(0, |(slices, _)| *slices);
    (ended > made && !found_harm(state)).then_some((design, watch, *wave, starts, ended))
}

/// The devices that are watched, with what they ran before.
fn devices(state: &State) -> Vec<(&DeviceId, &ReleaseRef)> {
    let live = state.members.iter().filter(|(_, member)| member.progress == Progress::Live);
    let mut found: Vec<_> =
        live.filter_map(|(device, member)| Some((member.place, device, &member.previous.as_ref()?.release))).collect();
    found.sort_unstable();
    found.into_iter().take(MOST).map(|(_, device, before)| (device, before)).collect()
}

/// What the watch needs to know, once a slice has ended.
pub(super) fn queries(state: &State, now: Timestamp) -> Vec<Query> {
    let Some((design, watch, _, starts, ended)) = due(state, now) else { return Vec::new() };
    let mut queries = Vec::new();
    for (device, ran) in devices(state) {
        let query = |group, release, (since, until)| Query::between(group, device, release, (since, Some(until)));
        queries.push(query(Group::TrialBefore, ran, (design.history_from, design.history_until)));
        let past = (0..watch.past).map(|slice| (slice, watch.before(design.history_until, slice)));
        queries.extend(past.map(|(slice, when)| query(Group::SliceBefore(slice), ran, when)));
        let since = (0..ended).map(|slice| (slice, watch.after(starts, slice)));
        queries.extend(since.map(|(slice, when)| query(Group::SliceSince(slice), &state.spec.release, when)));
    }
    queries
}

/// What the slices show that have ended.
pub(super) fn decide(state: &State, seen: &Observation<'_>, now: Timestamp) -> Option<Event> {
    let (design, watch, wave, _, ended) = due(state, now)?;
    let (devices, unsure) = (devices(state), seen.knows_confidence());
    let course = |metric: Metric, device: &DeviceId| {
        let before = seen.served(Group::TrialBefore, device);
        let score =
            |group| read(metric, &Known { now: seen.served(group, device), before, expected: false, unsure }).now;
        Course {
            before: (0..watch.past).map(|slice| score(Group::SliceBefore(slice))).collect(),
            since: (0..ended).map(|slice| score(Group::SliceSince(slice))).collect(),
        }
    };
    let metrics = design.shares.keys().filter_map(|metric| {
        let courses: Vec<Course> = devices.iter().map(|(device, _)| course(*metric, device)).collect();
        look(*metric, &courses, watch.needed, design.watch_level(*metric))
    });
    Some(Event::Watched { wave, slice: ended, metrics: metrics.collect() })
}

/// Whether the devices' past shows harm, and nobody has acted on it.
pub(super) fn found_harm(state: &State) -> bool {
    let soaking = matches!(state.stage, Stage::Running { phase: Phase::Soaking { .. }, .. });
    soaking && state.past.as_ref().is_some_and(|(_, metrics)| metrics.iter().any(|found| found.harm))
}

/// What the watch says, as gates say it.
pub(super) fn reports(state: &State) -> Vec<GateReport> {
    let Some((slices, metrics)) = &state.past else { return Vec::new() };
    let report = |found: &PastLook| {
        let verdict = if found.harm { Verdict::Breach } else { Verdict::Pass };
        let numbers = [
            ("slices", f64::from(*slices)),
            ("devices", found.devices as f64),
            ("groups", found.groups as f64),
            ("above", found.above as f64),
            ("before", found.before),
            ("since", found.since),
            ("evidence", found.evidence),
            ("bound", found.bound),
        ];
        GateReport::new(&format!("{GATE}:{}", found.metric), verdict, words::past(*slices, found), &numbers)
    };
    metrics.iter().map(report).collect()
}

/// What a watched wave still waits for; none when its devices were watched for as long as harm takes to be found, or
/// none of them has a past.
pub(super) fn missing(state: &State, wave: usize, since: Timestamp) -> Option<String> {
    let (design, watch) = watching(state, wave).filter(|_| !state.unproven.contains(&wave))?;
    let every = duration::text(Duration::from_secs(watch.every.as_secs().max(1)));
    let Some((slices, metrics)) = &state.past else {
        let (_, first) = watch.after(since.plus(design.warm_up), 0);
        return Some(format!("its devices are held against their own past, {every} at a time, first at {first}"));
    };
    let errors = metrics.iter().find(|found| found.metric == Metric::Errors)?;
    let wanted = state.spec.strategy.min_traffic.ceil(errors.devices).clamp(1, errors.devices.max(1));
    (errors.told < wanted).then(|| {
        format!(
            "its devices are held against their own past: {} of {} have answered in {} slices of {every}, {wanted} must; \
             {slices} have ended",
            errors.told, errors.devices, watch.needed
        )
    })
}

/// Whether no slice is left.
pub(super) fn exhausted(state: &State, wave: usize) -> bool {
    watching(state, wave).is_some() && state.past.as_ref().is_some_and(|(slices, _)| *slices >= MOST_SLICES)
}

/// How long a watched wave may hold at least.
pub(super) fn longest(state: &State, wave: usize) -> Option<Duration> {
    let (design, watch) = watching(state, wave).filter(|_| !experiment::awaits_proof(state, wave))?;
    let strategy = &state.spec.strategy;
    let most = design.warm_up.saturating_add(watch.every.saturating_mul(u32::from(MOST_SLICES)));
    Some(if strategy.dwell_chosen { most.min(strategy.max_dwell) } else { most })
}

/// Whether a wave passes by the watch over it, and a person has not taken its place.
pub(super) fn watched(state: &State, wave: usize) -> bool {
    watching(state, wave).is_some() && !state.unproven.contains(&wave)
}
