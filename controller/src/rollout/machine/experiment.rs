//! The experiment within a running rollout: when a look is due, what it has to be shown, and what it says of the wave.

use super::sample::{Group, Observation, Query};
use super::state::{Phase, Progress, Stage, State};
use crate::rollout::events::Event;
use crate::rollout::explain::look as words;
use crate::rollout::fleet::Devices;
use crate::rollout::gates::{GateReport, Verdict};
use crate::rollout::strategy::{Demand, SmallFleet};
use crate::rollout::trial::look::At;
use crate::rollout::trial::schedule::Looks;
use crate::rollout::trial::score::{Known, read};
use crate::rollout::trial::{Design, Layout, LookVerdict, Metric, Reading, look};
use fieldpost_shared::id::{DeviceId, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use std::collections::BTreeMap;

/// Gates of the experiment are named so, with the metric behind.
const GATE: &str = "trial";

/// The design of the wave, when the experiment decides it.
fn deciding(state: &State, wave: usize) -> Option<&Design> {
    let design = state.design.as_ref()?;
    (state.spec.strategy.evidence == Demand::Trial && design.deciding(wave).is_some()).then_some(design)
}

/// The looks of the wave that soaks, with its index.
pub(super) fn looks(state: &State) -> Option<(usize, Looks)> {
    let Stage::Running { wave, phase: Phase::Soaking { since } } = &state.stage else { return None };
    Some((*wave, deciding(state, *wave)?.looks_from(*since)))
}

/// The next look of the wave that soaks: its number, of how many, and when it is due.
pub(in crate::rollout) fn next_look(state: &State) -> Option<(u32, u32, Timestamp)> {
    let (wave, looks) = looks(state)?;
    let next = state.standing.looks + 1;
    (awaits_proof(state, wave) && next <= looks.count).then(|| (next, looks.count, looks.due(next)))
}

/// The look that is due now. One is put off while the controller has not listened for as long as a look takes: what it
/// did not hear is nobody's silence. That depends on nothing that a release does.
fn due(state: &State, listening_since: Option<Timestamp>, now: Timestamp) -> Option<(At, Looks)> {
    let (wave, looks) = looks(state)?;
    let look = looks.now(state.standing.looks, now)?;
    let listens = listening_since.is_some_and(|since| since.plus(looks.every) <= now);
    (listens && state.standing.verdict != Some(LookVerdict::Harm)).then_some((At { wave, look }, looks))
}

/// One device at a look.
struct Place<'a> {
    device: &'a DeviceId,
    /// What it runs, when it runs what its arm should.
    runs: Option<&'a ReleaseRef>,
    /// What it ran before the rollout.
    ran: Option<&'a ReleaseRef>,
    /// Whether it would report if it were well.
    expected: bool,
}

fn place<'a>(
    state: &'a State,
    devices: &'a Devices,
    index: usize,
    treated: bool,
    starts: Timestamp,
) -> Option<Place<'a>> {
    let device = &state.order.get(index)?.device;
    let (member, view) = (state.members.get(device)?, devices.get(device)?);
    let heard = view.last_seen.is_some_and(|seen| seen >= starts);
    let release = &state.spec.release;
    let live = view.live(&release.model).filter(|live| *live != release);
    let previous = member.previous.as_ref().map(|previous| &previous.release);
    Some(match (treated, member.progress) {
        (true, Progress::Live) => Place { device, runs: Some(release), ran: previous, expected: true },
        (true, Progress::Assigned | Progress::Retrying { .. } | Progress::Waiting) => {
            Place { device, runs: None, ran: previous.or(live), expected: !heard }
        }
        (false, Progress::Waiting) => Place { device, runs: live, ran: live, expected: true },
        _ => Place { device, runs: None, ran: previous.or(live), expected: false },
    })
}

/// What a look that is due needs to know; nothing between looks, for a large fleet's statistics are not free.
pub(super) fn queries(
    state: &State,
    devices: &Devices,
    listening_since: Option<Timestamp>,
    now: Timestamp,
) -> Vec<Query> {
    let Some((at, looks)) = due(state, listening_since, now) else { return Vec::new() };
    let Some(design) = &state.design else { return Vec::new() };
    let layout = state.layout();
    let treated = layout.treated(at.wave);
    let mut queries = Vec::new();
    for (number, index) in layout.places().iter().enumerate() {
        let Some(place) = place(state, devices, *index, number < treated, looks.starts) else { continue };
        let query = |group, release, when| Query::between(group, place.device, release, when);
        queries.extend(place.runs.map(|release| query(Group::TrialNow, release, (looks.starts, None))));
        let before = (design.history_from, Some(design.history_until));
        queries.extend(place.ran.map(|release| query(Group::TrialBefore, release, before)));
    }
    queries
}

/// The look that is due, when what it needs was asked for.
pub(super) fn decide(state: &State, seen: &Observation<'_>, now: Timestamp) -> Option<Event> {
    let (at, looks) = due(state, seen.listening_since, now)?;
    let design = state.design.as_ref()?;
    let layout = state.layout();
    let readings = readings(state, seen, &layout, layout.treated(at.wave), looks.starts, design);
    let made = look(design, &layout, &state.seed, &state.standing, at, &readings)?;
    Some(Event::Looked { wave: at.wave, look: Box::new(made) })
}

fn readings(
    state: &State,
    seen: &Observation<'_>,
    layout: &Layout,
    treated: usize,
    starts: Timestamp,
    design: &Design,
) -> BTreeMap<Metric, Vec<Reading>> {
    let mut readings: BTreeMap<Metric, Vec<Reading>> = BTreeMap::new();
    let unsure = seen.knows_confidence();
    for (number, index) in layout.places().iter().enumerate() {
        let place = place(state, seen.devices, *index, number < treated, starts);
        let known = place.map_or_else(Known::default, |place| {
            let served = |group| seen.served(group, place.device);
            let (now, before) = (served(Group::TrialNow), served(Group::TrialBefore));
            Known { now, before, expected: place.expected, unsure }
        });
        for metric in design.shares.keys() {
            readings.entry(*metric).or_default().push(read(*metric, &known));
        }
    }
    readings
}

/// What the last look says, as gates say it: a breach where it found harm, waiting where nothing is proven.
pub(super) fn reports(state: &State) -> Vec<GateReport> {
    let Some(look) = &state.last_look else { return Vec::new() };
    let report = |shown: &crate::rollout::trial::MetricLook| {
        let verdict = match (shown.harm.decides, shown.proven) {
            (true, _) => Verdict::Breach,
            (false, Some(_)) => Verdict::Pass,
            (false, None) => Verdict::Waiting,
        };
        let numbers = [
            ("look", f64::from(look.number)),
            ("treated", shown.treated.mean),
            ("controls", shown.controls.mean),
            ("observed", shown.harm.observed),
            ("rank", shown.harm.rank as f64),
            ("alive", shown.harm.alive as f64),
            ("budget", shown.harm.budget as f64),
            ("alpha_spent", shown.harm.level),
        ];
        GateReport::new(&format!("{GATE}:{}", shown.metric), verdict, words::metric(look, shown), &numbers)
    };
    look.metrics.iter().map(report).collect()
}

/// Whether the experiment found harm, and nobody has acted on it.
pub(super) fn found_harm(state: &State) -> bool {
    state.standing.verdict == Some(LookVerdict::Harm)
        && matches!(state.stage, Stage::Running { phase: Phase::Soaking { .. }, .. })
}

/// Whether a wave is one that passes by the experiment's proof, and a person has not taken its place.
pub(super) fn awaits_proof(state: &State, wave: usize) -> bool {
    deciding(state, wave).is_some() && !state.unproven.contains(&wave)
}

/// What the wave still waits for, in a sentence; none when it is proven.
pub(super) fn missing(state: &State, wave: usize, since: Timestamp) -> Option<String> {
    let design = deciding(state, wave).filter(|_| awaits_proof(state, wave))?;
    if state.standing.verdict == Some(LookVerdict::Proven) {
        return None;
    }
    let looks = design.looks_from(since);
    let made = state.standing.looks;
    let next = (made < looks.count).then(|| looks.due(made + 1));
    Some(words::waiting(state.last_look.as_ref(), made, looks.count, next))
}

/// Whether no look is left that could prove anything.
pub(super) fn exhausted(state: &State, wave: usize) -> bool {
    deciding(state, wave).is_some_and(|design| state.standing.looks >= design.looks)
}

/// How long a wave may hold at least, so that all its looks are made.
pub(super) fn longest(state: &State, wave: usize) -> Option<std::time::Duration> {
    let longest = deciding(state, wave).filter(|_| awaits_proof(state, wave)).map(Design::longest)?;
    let strategy = &state.spec.strategy;
    // What somebody chose holds, also where not even the first look fits into it.
    Some(if strategy.dwell_chosen { longest.min(strategy.max_dwell) } else { longest })
}

/// Why a person has to approve what comes after a wave: the experiment could not decide it.
pub(super) fn asks_after(state: &State, wave: usize) -> Option<String> {
    let strategy = &state.spec.strategy;
    let design = state.design.as_ref().filter(|_| strategy.evidence == Demand::Trial)?;
    let undecided = design.waves.get(wave)?.undecided.as_ref()?;
    let asks = strategy.small_fleet == SmallFleet::Ask;
    asks.then(|| format!("wave {} kept the limits, but the comparison cannot decide it ({undecided})", wave + 1))
}
