//! How a wave goes on: who is told now, when everybody is live, and when the wave has shown enough.

use super::ab;
use super::decide::{Decision, is_silent};
use super::experiment;
use super::observe::{doing, in_probation, next_attempt, previous_of};
use super::past;
use super::sample::{Group, Observation};
use super::shadow;
use super::state::{Member, Phase, Progress, State};
use super::turn::{Turns, WINDOWS_OPEN, Wait};
use crate::rollout::approval::Needed;
use crate::rollout::duration;
use crate::rollout::events::Event;
use crate::rollout::gates::{GateReport, Verdict};
use crate::rollout::strategy::Demand;
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a wave without members does not pass.
const DESERTED: &str = "nobody of it is left to show that the release works";
/// Names listed in a sentence; more are counted.
const NAMED: usize = 5;
/// The kind of reason that closed maintenance windows are.
pub(crate) const WINDOW: &str = "window";

/// How a wave begins: at once, when its time has come, or when somebody approves.
pub(super) fn next_wave(state: &State, wave: usize, now: Timestamp) -> Decision {
    if state.approved.contains(&wave) {
        return start_wave(state, wave, now);
    }
    let needed = state.needed(wave);
    let because = match needed {
        Some(_) => None,
        None => wave.checked_sub(1).and_then(|before| experiment::asks_after(state, before)),
    };
    if needed.is_none() && because.is_none() {
        return start_wave(state, wave, now);
    }
    let of = needed.filter(|needed| *needed != Needed::default()).map(|needed| needed.text(&state.by));
    Decision::events(vec![Event::ApprovalAsked { wave, of, because }])
}

/// A wave that needs nobody's word any more.
pub(super) fn start_wave(state: &State, wave: usize, now: Timestamp) -> Decision {
    match state.spec.strategy.not_before.filter(|begins| now < *begins) {
        Some(begins) => Decision::waiting(vec![format!("it begins at {begins}")]),
        None => Decision::events(vec![Event::WaveStarted { wave }]),
    }
}

/// Why nobody is told any more.
fn over(state: &State, wave: usize, left: usize) -> Decision {
    let until = state.spec.strategy.until.map(|until| until.to_string()).unwrap_or_default();
    Decision::pause(format!(
        "its schedule ended at {until}, and {left} devices of wave {} and later have not been told; resume goes on \
         beyond it",
        wave + 1
    ))
}

/// Takes a running wave one step on.
pub(super) fn decide(
    state: &State,
    seen: &Observation<'_>,
    (wave, phase): (usize, Phase),
    reports: &[GateReport],
    now: Timestamp,
) -> Decision {
    let turns = Turns::new(state, seen, now);
    let is_over = state.is_over(now);
    let untold = || {
        let counted = state.members.values().filter(|m| m.counts() && m.wave < state.waves.len());
        counted.filter(|member| state.awaits_turn(member, now)).count()
    };
    let of_waves = |member: &Member| member.wave <= wave && member.counts() && state.awaits_turn(member, now);
    match phase {
        Phase::Passed if wave + 1 < state.waves.len() && is_over => over(state, wave + 1, untold()),
        Phase::Passed if wave + 1 < state.waves.len() => next_wave(state, wave + 1, now),
        Phase::Passed => Decision::events(vec![Event::Completed { pending: not_live(state, wave) }]),
        Phase::Deploying { .. } | Phase::Shadowing { .. } | Phase::Splitting { .. }
            if is_over && state.members.values().any(of_waves) =>
        {
            over(state, wave, untold())
        }
        Phase::Shadowing { since } => shadow::decide(state, seen, &turns, (wave, since), reports, now),
        Phase::Splitting { since } => ab::deploying(state, seen, &turns, (wave, since), now),
        Phase::Soaking { since } if state.spec.strategy.ab.asked() => {
            ab::decide(state, seen, &turns, (wave, since), now)
        }
        Phase::Deploying { since } => {
            let told = assignments(state, seen, &turns, now, |_, member| member.wave <= wave);
            if told.is_empty() { deploying(state, seen, &turns, (wave, since), now) } else { Decision::events(told) }
        }
        Phase::Soaking { since } => {
            let told = assignments(state, seen, &turns, now, |_, member| member.wave <= wave && !is_over);
            if told.is_empty() {
                soaking(state, seen, &turns, (wave, since), reports, now)
            } else {
                Decision::events(told)
            }
        }
    }
}

fn not_live(state: &State, wave: usize) -> Vec<DeviceId> {
    let waits = |member: &Member| {
        let told = matches!(member.progress, Progress::Assigned | Progress::Shadowing | Progress::Retrying { .. });
        told || (member.progress == Progress::Waiting && !member.accepted)
    };
    let of_waves = state.members.iter().filter(|(_, member)| member.wave <= wave && waits(member));
    of_waves.map(|(device, _)| device.clone()).collect()
}

/// Devices to tell now of those that may be, in the order's order, within what may change at the same time.
pub(super) fn assignments(
    state: &State,
    seen: &Observation<'_>,
    turns: &Turns<'_>,
    now: Timestamp,
    may_be: impl Fn(&DeviceId, &Member) -> bool,
) -> Vec<Event> {
    let strategy = &state.spec.strategy;
    let mut in_flight = state.members.values().filter(|member| member.in_flight()).count();
    let mut by_value: BTreeMap<(usize, String), usize> = BTreeMap::new();
    let values = |device: &DeviceId| -> Vec<(usize, String)> {
        // Devices without the label are one group of their own.
        let value = |label: &String| seen.devices.get(device).and_then(|v| v.labels.get(label)).cloned();
        strategy.per.iter().enumerate().map(|(i, per)| (i, value(&per.label).unwrap_or_default())).collect()
    };
    for (device, _) in state.members.iter().filter(|(_, member)| member.in_flight()) {
        values(device).into_iter().for_each(|value| *by_value.entry(value).or_default() += 1);
    }
    let due = |member: &Member| match member.progress {
        Progress::Waiting => !member.accepted,
        Progress::Retrying { at } => at <= now && !member.accepted,
        // Whom nobody waits for any more still leaves the shadow when it comes back.
        _ => state.awaits_turn(member, now),
    };
    let mut next: Vec<_> =
        state.members.iter().filter(|(device, m)| may_be(device, m) && due(m)).map(|(d, m)| (m.place, d, m)).collect();
    next.sort_by_key(|(place, device, _)| (*place, *device));
    let mut events = Vec::new();
    for (_, device, member) in next {
        let Some(view) = seen.devices.get(device) else { continue };
        let release = &state.spec.release;
        let told = view.desired.get(&release.model).is_some_and(|told| told.release == *release);
        if member.progress == Progress::Waiting && told && view.settled && view.live(&release.model) == Some(release) {
            events.push(Event::Adopted { device: device.clone() });
            continue;
        }
        if turns.wait(device).is_some() {
            continue;
        }
        let reachable = seen.reachable(state, view, now);
        let groups = values(device);
        let full =
            |(index, _): &(usize, String), count: usize| strategy.per.get(*index).is_some_and(|per| count >= per.max);
        let waits = (strategy.max_concurrent > 0 && in_flight >= strategy.max_concurrent)
            || groups.iter().any(|group| full(group, by_value.get(group).copied().unwrap_or(0)));
        // A device that is away takes nobody's turn: it reads its desired state when it comes.
        if reachable && waits {
            continue;
        }
        if reachable {
            in_flight += 1;
            groups.into_iter().for_each(|group| *by_value.entry(group).or_default() += 1);
        }
        if member.progress == Progress::Shadowing {
            events.push(Event::SwapAsked { device: device.clone(), reachable });
            continue;
        }
        let attempt = next_attempt(view, release, member);
        let previous = if member.touched { member.previous.clone() } else { previous_of(view, release) };
        let device = device.clone();
        // What it ran in shadow when it failed has not been seen to the end.
        let unseen = member.late || member.progress == Progress::Waiting || member.beside;
        let alone = unseen && state.shadowed.contains(&member.wave) && shadow::can_stand_beside(view, release);
        events.push(match alone {
            true => Event::Shadowed { device, attempt, previous, reachable },
            false => Event::Assigned { device, attempt, previous, reachable },
        });
    }
    events
}

/// A list of names that stays short.
pub(super) fn names<'a>(devices: impl IntoIterator<Item = &'a DeviceId>) -> String {
    let all: Vec<&str> = devices.into_iter().map(DeviceId::as_str).collect();
    let shown = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if all.len() > NAMED { format!("{shown} and {} more", all.len() - NAMED) } else { shown }
}

/// The members that a wave and those before it wait for, by how they are.
#[derive(Default)]
struct Tally<'a> {
    live: Vec<&'a DeviceId>,
    changing: Vec<&'a DeviceId>,
    /// Those of the changing that wait for their maintenance windows, and when these open; the next to open first.
    windows: Vec<(Option<Timestamp>, &'a DeviceId)>,
    away: Vec<&'a DeviceId>,
    failed: Vec<&'a DeviceId>,
    live_of_wave: Vec<&'a DeviceId>,
    of_wave: usize,
    /// A person goes on without some of the wave.
    accepted: bool,
    all: usize,
}

impl Tally<'_> {
    /// Whether there is nobody of the wave whose word could count, and no person's word in their stead: everybody left
    /// the fleet, or was told something else.
    const fn deserted(&self) -> bool {
        self.of_wave == 0 && !self.accepted
    }
}

fn tally<'a>(state: &'a State, turns: &Turns<'_>, wave: usize, soaking: bool) -> Tally<'a> {
    let accepted = state.members.values().any(|member| member.wave == wave && member.accepted);
    let mut tally = Tally { accepted, ..Tally::default() };
    // Where somebody shows what the release does, nobody waits for the windows of devices that are away.
    let shown = state.counted(wave).any(|(_, member)| member.wave == wave && member.progress == Progress::Live);
    for (device, member) in state.counted(wave) {
        let here = member.wave == wave;
        tally.all += 1;
        tally.of_wave += usize::from(here);
        match (member.progress, member.silence) {
            (Progress::Failed, _) => tally.failed.push(device),
            (Progress::Live | Progress::Assigned, Some(_)) => tally.away.push(device),
            (Progress::Live, None) => {
                tally.live.push(device);
                if here {
                    tally.live_of_wave.push(device);
                }
            }
            (Progress::Waiting | Progress::Shadowing | Progress::Retrying { .. }, _) => match turns.wait(device) {
                Some(Wait::Away { .. }) => tally.away.push(device),
                // The others are not kept from soaking by one that came back at the wrong hour.
                Some(Wait::Window { .. }) if soaking || (shown && !turns.reachable(device)) => tally.away.push(device),
                Some(Wait::Window { opens, .. }) => {
                    tally.windows.push((opens, device));
                    tally.changing.push(device);
                }
                _ => tally.changing.push(device),
            },
            _ => tally.changing.push(device),
        }
    }
    tally.windows.sort_by_key(|(opens, device)| (opens.is_none(), *opens, *device));
    tally
}

fn deploying(
    state: &State,
    seen: &Observation<'_>,
    turns: &Turns<'_>,
    (wave, since): (usize, Timestamp),
    now: Timestamp,
) -> Decision {
    let strategy = &state.spec.strategy;
    let tally = tally(state, turns, wave, false);
    let waited = seen.waited(since, now);
    // One that may be told within hours alone is waited for from when these began.
    let waited_for = |device: &DeviceId| seen.waited(turns.open_since(device).map_or(since, |at| at.max(since)), now);
    let of_wave = |device: &&&DeviceId| state.members.get(**device).is_some_and(|member| member.wave == wave);
    let patience = tally.away.iter().filter(of_wave).map(|device| {
        let waits = |member: &Member| matches!(member.progress, Progress::Waiting | Progress::Shadowing);
        let told = state.members.get(*device).is_some_and(|member| !waits(member));
        strategy.device_timeout.checked_sub(if told { waited } else { waited_for(device) })
    });
    let patience = patience.flatten().max();
    if tally.changing.is_empty() && patience.is_none() {
        if tally.of_wave > 0 && tally.live_of_wave.is_empty() {
            return Decision::pause(format!(
                "no device of wave {} is live: {}; resume tries again, resume --accept goes on without them",
                wave + 1,
                troubles(state, &tally)
            ));
        }
        if state.is_holdout(wave) {
            return Decision::events(vec![Event::WavePassed { wave, evidence: Vec::new() }]);
        }
        if tally.deserted() {
            return Decision::pause(format!("wave {}: {DESERTED}; resume --accept goes on without evidence", wave + 1));
        }
        return Decision::events(vec![Event::SoakStarted { wave }]);
    }
    // A closed window ends by itself; where there are any, the time is that since something last happened or opened.
    let known_to_open = tally.windows.iter().any(|(opens, _)| opens.is_some());
    let moved = |device: &DeviceId, member: &Member| match member.progress {
        Progress::Waiting | Progress::Shadowing => turns.open_since(device),
        _ => Some(member.since),
    };
    let quiet = match strategy.maintenance.is_empty() {
        true => waited,
        false => {
            let last = state.counted(wave).filter_map(|(device, member)| moved(device, member)).max();
            seen.waited(last.map_or(since, |last| last.max(since)), now)
        }
    };
    let told = state.counted(wave).filter(|(_, m)| !matches!(m.progress, Progress::Waiting | Progress::Shadowing));
    let still = now.since(told.map(|(_, member)| member.since).max().map_or(since, |last| last.max(since)));
    let (idle, most) = match known_to_open {
        true => (still, strategy.wave_timeout.saturating_add(WINDOWS_OPEN)),
        false => (quiet, strategy.wave_timeout),
    };
    if idle > most {
        let waits = busy(state, seen, turns, &tally, Duration::ZERO);
        return Decision::pause(format!(
            "wave {} is not live after {}: {} of {} are; {}{}",
            wave + 1,
            duration::text(most),
            tally.live.len(),
            tally.all,
            troubles(state, &tally),
            if waits.is_empty() { String::new() } else { format!(" ({})", waits.join("; ")) }
        ));
    }
    let waiting = busy(state, seen, turns, &tally, patience.unwrap_or_default());
    let mut decision = Decision::waiting(waiting);
    let kind = WINDOW.to_owned();
    if let (true, Some(reason)) = (!state.holding.contains(&kind), windows(turns, &tally)) {
        decision.events.push(Event::Holding { wave, reasons: vec![reason], kinds: vec![kind] });
    }
    decision
}

/// What devices that wait for their maintenance windows wait for, in one sentence.
fn windows(turns: &Turns<'_>, tally: &Tally<'_>) -> Option<String> {
    let (_, first) = tally.windows.first()?;
    let wait = turns.wait(first)?.text();
    if tally.windows.len() == 1 {
        return Some(format!("{first} {wait}"));
    }
    let all = names(tally.windows.iter().map(|(_, device)| *device));
    Some(format!("{} devices wait for their maintenance windows ({all}); {first} {wait}", tally.windows.len()))
}

fn busy(state: &State, seen: &Observation<'_>, turns: &Turns<'_>, tally: &Tally<'_>, left: Duration) -> Vec<String> {
    let mut waiting: Vec<String> = windows(turns, tally).into_iter().collect();
    let closed = |device: &&&DeviceId| !tally.windows.iter().any(|(_, other)| *other == **device);
    let others: Vec<&DeviceId> = tally.changing.iter().filter(closed).copied().collect();
    for device in others.iter().take(NAMED) {
        let member = state.members.get(*device);
        let wait = || turns.wait(device).map(|wait| wait.text());
        let doing = match member.map(|member| member.progress) {
            Some(Progress::Waiting) => wait().unwrap_or_else(|| "waits for its turn".to_owned()),
            Some(Progress::Shadowing) => wait().unwrap_or_else(|| "in shadow, waits for its turn".to_owned()),
            Some(Progress::Retrying { at }) => match wait() {
                Some(wait) => wait,
                None => format!("tries again at {at}"),
            },
            _ => seen.devices.get(*device).map_or_else(String::new, |view| doing(view, &state.spec.release)),
        };
        waiting.push(format!("{device}: {doing}"));
    }
    if others.len() > NAMED {
        waiting.push(format!("and {} more devices", others.len() - NAMED));
    }
    if !tally.away.is_empty() {
        let left = duration::text(Duration::from_secs(left.as_secs()));
        waiting.push(format!("{} away: {} (waits {left} more)", tally.away.len(), names(tally.away.iter().copied())));
    }
    waiting
}

fn troubles(state: &State, tally: &Tally<'_>) -> String {
    let mut parts = Vec::new();
    for device in tally.failed.iter().take(NAMED) {
        let detail = state.members.get(*device).and_then(|member| member.failure.as_ref());
        parts
            .push(format!("{device} failed ({})", detail.map_or("no reason given", |failure| failure.detail.as_str())));
    }
    if tally.failed.len() > NAMED {
        parts.push(format!("{} more failed", tally.failed.len() - NAMED));
    }
    if !tally.away.is_empty() {
        parts.push(format!("{} away: {}", tally.away.len(), names(tally.away.iter().copied())));
    }
    if !tally.changing.is_empty() {
        parts.push(format!("{} not live yet: {}", tally.changing.len(), names(tally.changing.iter().copied())));
    }
    parts.join(", ")
}

/// A reason for which a wave that has soaked long enough does not advance.
struct Hold {
    kind: String,
    sentence: String,
    /// It will not go away by waiting.
    lasting: bool,
}

fn soaking(
    state: &State,
    seen: &Observation<'_>,
    turns: &Turns<'_>,
    (wave, since): (usize, Timestamp),
    reports: &[GateReport],
    now: Timestamp,
) -> Decision {
    let strategy = &state.spec.strategy;
    let tally = tally(state, turns, wave, true);
    let waited = now.since(since);
    let soaked = since.plus(strategy.soak);
    let mut holds = holds(state, seen, &tally, reports, (now >= soaked).then_some(soaked), now);
    let missing = || experiment::missing(state, wave, since).or_else(|| past::missing(state, wave, since));
    let missing = if tally.of_wave > 0 { missing() } else { None };
    let mut evidence = reports.to_vec();
    evidence.extend(experiment::reports(state));
    evidence.extend(past::reports(state));
    holds.extend(missing.map(|sentence| Hold { kind: "trial".to_owned(), sentence, lasting: false }));
    let sentences: Vec<String> = holds.iter().map(|hold| hold.sentence.clone()).collect();
    if waited < strategy.soak {
        let left = strategy.soak.saturating_sub(waited);
        let left = Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0));
        let mut waiting = vec![format!("soaking, {} more", duration::text(left))];
        waiting.extend(sentences);
        return Decision::waiting(waiting);
    }
    if holds.is_empty() {
        return Decision::events(vec![Event::WavePassed { wave, evidence }]);
    }
    if holds.iter().any(|hold| hold.lasting) && tally.changing.is_empty() {
        return Decision::pause(format!(
            "wave {}: {}; resume tries again, resume --accept goes on without them",
            wave + 1,
            sentences.join("; ")
        ));
    }
    let dwelt = seen.waited(since, now);
    let unproven = holds.iter().any(|hold| hold.kind == "trial");
    let exhausted = experiment::exhausted(state, wave) || past::exhausted(state, wave);
    if dwelt >= longest_dwell(state, wave) || (unproven && exhausted) {
        let dwelt = duration::text(Duration::from_secs(dwelt.as_secs()));
        return Decision::pause(format!("wave {} is inconclusive after {dwelt}: {}", wave + 1, sentences.join("; ")));
    }
    let kinds: Vec<String> = holds.into_iter().map(|hold| hold.kind).collect();
    let mut decision = Decision::waiting(sentences.clone());
    if kinds != state.holding {
        decision.events.push(Event::Holding { wave, reasons: sentences, kinds });
    }
    decision
}

/// How long a wave that soaks holds at most, before a person is asked.
pub(in crate::rollout) fn longest_dwell(state: &State, wave: usize) -> Duration {
    let strategy = &state.spec.strategy;
    let of_looks = experiment::longest(state, wave).or_else(|| past::longest(state, wave)).unwrap_or_default();
    strategy.max_dwell.max(strategy.soak).max(of_looks)
}

fn holds(
    state: &State,
    seen: &Observation<'_>,
    tally: &Tally<'_>,
    reports: &[GateReport],
    soaked: Option<Timestamp>,
    now: Timestamp,
) -> Vec<Hold> {
    let strategy = &state.spec.strategy;
    let mut holds = Vec::new();
    let mut hold = |kind: &str, lasting, sentence| holds.push(Hold { kind: kind.to_owned(), sentence, lasting });
    if tally.failed.len() > strategy.max_failed.floor(tally.all) {
        let allowed = strategy.max_failed;
        hold(
            "failed",
            true,
            format!("{} of {} failed, {allowed} may: {}", tally.failed.len(), tally.all, troubles(state, tally)),
        );
    }
    if !tally.changing.is_empty() {
        hold(
            "changing",
            false,
            format!("{} not live: {}", tally.changing.len(), names(tally.changing.iter().copied())),
        );
    }
    if tally.away.len() > strategy.max_offline.floor(tally.all) {
        let (away, all, allowed) = (tally.away.len(), tally.all, strategy.max_offline);
        hold(
            "away",
            false,
            format!("{away} of {all} are not heard of, {allowed} may be: {}", names(tally.away.iter().copied())),
        );
    }
    let unsure = |device: &&&DeviceId| {
        let member = state.members.get(**device);
        let noted = member.is_some_and(|member| member.silence.is_some_and(|silence| silence.after_change));
        noted && !member.is_some_and(|member| is_silent(state, seen, device, member, now))
    };
    let unsure: Vec<&DeviceId> = tally.away.iter().filter(unsure).copied().collect();
    if !unsure.is_empty() {
        let sentence = format!("{} not heard of since the controller listens again: {}", unsure.len(), names(unsure));
        hold("unsure", false, sentence);
    }
    let probing =
        |device: &&&DeviceId| seen.devices.get(**device).is_some_and(|v| in_probation(v, &state.spec.release));
    let probation: Vec<&DeviceId> = tally.live.iter().filter(probing).copied().collect();
    if !probation.is_empty() {
        hold("probation", false, format!("{} still in probation: {}", probation.len(), names(probation)));
    }
    // A device that fell silent within the soak is not called silent before `silence_after`; nor is it evidence.
    let heard = |device: &DeviceId, soaked| {
        seen.devices.get(device).is_some_and(|view| view.last_seen.is_some_and(|at| at >= soaked && at <= now))
    };
    let unheard: Vec<&DeviceId> = match soaked {
        Some(soaked) => tally.live.iter().filter(|device| !heard(device, soaked)).copied().collect(),
        None => Vec::new(),
    };
    if !unheard.is_empty() {
        let sentence = format!("{} not heard of since the soak was over: {}", unheard.len(), names(unheard));
        hold("unheard", false, sentence);
    }
    if tally.deserted() {
        hold("deserted", true, DESERTED.to_owned());
    }
    if tally.of_wave == 0 {
        // A person accepted everybody's absence; there is nobody to ask for evidence.
        return holds;
    }
    let idle: Vec<&DeviceId> =
        tally.live_of_wave.iter().filter(|d| requests(seen, d) < strategy.min_requests).copied().collect();
    let live = tally.live_of_wave.len();
    let needed = strategy.min_traffic.ceil(live).clamp(1, live.max(1));
    if live - idle.len() < needed {
        let sentence = format!(
            "{} of {live} devices have sent a window with at least {} requests, {needed} must; none from {}",
            live - idle.len(),
            strategy.min_requests,
            names(idle)
        );
        holds.push(Hold { kind: "traffic".to_owned(), sentence, lasting: false });
    }
    if strategy.evidence != Demand::Requests {
        let waiting = reports.iter().filter(|report| report.verdict == Verdict::Waiting);
        holds.extend(waiting.map(|report| Hold {
            kind: format!("gate:{}", report.gate),
            sentence: report.sentence.clone(),
            lasting: false,
        }));
    }
    holds
}

fn requests(seen: &Observation<'_>, device: &DeviceId) -> u64 {
    seen.window(Group::Treated, device).map_or(0, |window| window.requests)
}
