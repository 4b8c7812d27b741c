//! A wave whose devices run the release in shadow first: who is told, what they show, and when they may swap.

use super::decide::Decision;
use super::progress::{assignments, names};
use super::sample::{Group, Observation};
use super::state::{Member, Progress, State};
use super::turn::{Turns, WINDOWS_OPEN, Wait};
use crate::rollout::duration;
use crate::rollout::events::Event;
use crate::rollout::fleet::DeviceView;
use crate::rollout::gates::shadow::{Asked, Sent, judge};
use crate::rollout::gates::{GateReport, Verdict};
use fieldpost_shared::id::{DeviceId, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v2::understood_by;
use std::time::Duration;

/// Whether a device can run the release beside another: it has one, and its agent understands.
pub(super) fn can_stand_beside(view: &DeviceView, release: &ReleaseRef) -> bool {
    let live = view.live(&release.model);
    understood_by(&view.inventory.agent_version) && live.is_some_and(|live| live != release)
}

/// The devices in shadow that a wave waits for; whoever joined since has a shadow of its own.
fn in_shadow(state: &State, wave: usize) -> Vec<&DeviceId> {
    let of_wave = state.members.iter().filter(|(_, m)| m.wave == wave && m.counts());
    let of_wave = of_wave.filter(|(_, member)| member.progress == Progress::Shadowing);
    of_wave.map(|(device, _)| device).collect()
}

/// What the devices in shadow have shown.
pub(super) fn report(state: &State, seen: &Observation<'_>, wave: usize) -> GateReport {
    let version = state.spec.release.version.to_string();
    let pairs = |device: &DeviceId| -> Option<Sent<'_>> {
        let window = seen.window(Group::Shadow, device)?;
        Some(Sent { paired: window.pairs.of(&version)?, change: window.changes.of(&version) })
    };
    // Nobody waits for the pairs of a device that is away.
    let away = |device: &DeviceId| state.members.get(device).is_some_and(|member| member.silence.is_some());
    let here = in_shadow(state, wave).into_iter().filter(|device| !away(device));
    let devices: Vec<Option<Sent<'_>>> = here.map(pairs).collect();
    let strategy = &state.spec.strategy;
    let asked = Asked {
        pairs: strategy.shadow_pairs,
        devices: strategy.min_traffic.ceil(devices.len()).clamp(1, devices.len().max(1)),
        alpha: strategy.limits.alpha,
    };
    judge(&devices, asked, &seen.candidate.manifest.budgets)
}

/// Takes a wave in shadow one step on.
pub(super) fn decide(
    state: &State,
    seen: &Observation<'_>,
    turns: &Turns<'_>,
    (wave, since): (usize, Timestamp),
    reports: &[GateReport],
    now: Timestamp,
) -> Decision {
    let strategy = &state.spec.strategy;
    let release = &state.spec.release;
    let able = |device: &DeviceId| seen.devices.get(device).is_some_and(|view| can_stand_beside(view, release));
    let told = assignments(state, seen, turns, now, |device, member| member.wave == wave && able(device));
    if !told.is_empty() {
        return Decision::events(told.into_iter().map(shadowed).collect());
    }
    let devices = in_shadow(state, wave);
    let closed =
        |device: &&DeviceId| able(device) && matches!(turns.wait(device), Some(Wait::Window { opens: Some(_), .. }));
    let of_wave = state.members.iter().filter(|(_, m)| m.wave == wave && m.counts() && m.progress == Progress::Waiting);
    let mut windows: Vec<&DeviceId> = of_wave.map(|(device, _)| device).filter(closed).collect();
    let told_at = |device: &&DeviceId| state.members.get(*device).map(|member| member.since);
    let tries_again =
        state.members.values().any(|m| m.wave == wave && matches!(m.progress, Progress::Retrying { .. }) && m.counts());
    if devices.is_empty() && windows.is_empty() && !tries_again {
        let mut of_wave = state.members.values().filter(|member| member.wave == wave);
        // A person goes on without everybody of it: nobody is left to show anything, here as in what follows.
        if of_wave.clone().any(|member| member.accepted) && !of_wave.any(Member::counts) {
            return Decision::events(vec![Event::ShadowPassed { wave, evidence: Vec::new(), in_turn: true }]);
        }
        return Decision::pause(format!(
            "no device of wave {} can run the release in shadow: it needs a live release to be held against, an agent that \
             understands, and to have passed its self-test; resume tries again, resume --accept goes on without them",
            wave + 1
        ));
    }
    // Others show what the release does: one that is away has a shadow of its own when it comes.
    windows.retain(|device| devices.is_empty() || turns.reachable(device));
    let most = strategy.shadow.saturating_add(strategy.wave_timeout);
    let in_wave = now.since(since);
    if !strategy.maintenance.is_empty() && in_wave >= most.saturating_add(WINDOWS_OPEN) {
        return Decision::pause(format!(
            "the shadow of wave {} is not over after {}: in shadow on {} devices, {} wait for their maintenance windows; \
             resume waits for more",
            wave + 1,
            duration::text(Duration::from_secs(in_wave.as_secs())),
            devices.len(),
            windows.len()
        ));
    }
    let Some(report) = reports.last().filter(|report| report.gate == crate::rollout::gates::shadow::NAME) else {
        return Decision::waiting(vec!["the pairs are not judged yet".to_owned()]);
    };
    // Where devices are told in hours of their own, the last of them is watched as long as the first.
    let last = if strategy.maintenance.is_empty() { None } else { devices.iter().filter_map(told_at).max() };
    let waited = seen.waited(last.map_or(since, |last| last.max(since)), now);
    let shown = windows.is_empty() && matches!(report.verdict, Verdict::Pass | Verdict::Unbounded);
    if shown && waited >= strategy.shadow {
        return Decision::events(vec![Event::ShadowPassed { wave, evidence: reports.to_vec(), in_turn: true }]);
    }
    if windows.is_empty() && waited >= most {
        let waited = duration::text(Duration::from_secs(waited.as_secs()));
        return Decision::pause(format!(
            "the shadow of wave {} is inconclusive after {waited}: {}; resume waits for more",
            wave + 1,
            report.sentence
        ));
    }
    let left = Duration::from_secs(strategy.shadow.saturating_sub(waited).as_secs());
    let mut waiting = Vec::new();
    if !devices.is_empty() {
        waiting.push(format!("in shadow on {}", names(devices)));
    }
    if !windows.is_empty() {
        waiting.push(format!("{} devices wait for their maintenance windows: {}", windows.len(), names(windows)));
    } else if !left.is_zero() {
        waiting.push(format!("{} more in shadow", duration::text(left)));
    }
    if !matches!(report.verdict, Verdict::Pass | Verdict::Unbounded) {
        waiting.push(report.sentence.clone());
    }
    Decision::waiting(waiting)
}

pub(super) fn shadowed(event: Event) -> Event {
    match event {
        Event::Assigned { device, attempt, previous, reachable } => {
            Event::Shadowed { device, attempt, previous, reachable }
        }
        other => other,
    }
}
