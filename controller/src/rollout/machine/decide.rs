//! The decision: one look at state and world, and what it makes of them. Nothing here waits, reads or writes.

use super::observe::{joiners, members, reported};
use super::sample::{Group, Observation};
use super::state::{Member, Phase, Progress, Stage, State};
use super::{experiment, late, past, progress, revert, shadow};
use crate::rollout::events::{Ending, Event};
use crate::rollout::gates::{Arm, Evidence, Gate, GateReport, HealthFailure, Outcome, Verdict, judge};
use crate::rollout::strategy::OnFailure;
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::stats::binomial;
use fieldpost_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

/// So many devices without the release show how often devices are away in any case. Among fewer, silence that only
/// devices with the release show is held against it at once.
const ENOUGH: usize = 20;

/// How things stand between events: what the gates see now, and what the rollout waits for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Assessment {
    /// What the gates say.
    pub gates: Vec<GateReport>,
    /// What it waits for, a sentence each.
    pub waiting: Vec<String>,
}

/// What one look comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// What has happened, in order. Empty when there is nothing to do but wait.
    pub events: Vec<Event>,
    /// How things stand.
    pub assessment: Assessment,
}

impl Decision {
    pub(super) fn events(events: Vec<Event>) -> Self {
        Self { events, assessment: Assessment::default() }
    }

    pub(super) fn pause(reason: String) -> Self {
        Self::events(vec![Event::Paused { reason, evidence: Vec::new(), by: None }])
    }

    pub(super) fn waiting(waiting: Vec<String>) -> Self {
        Self { events: Vec::new(), assessment: Assessment { gates: Vec::new(), waiting } }
    }
}

/// What is to be done before anything is judged, so that no statistics are needed for it: the way back, and what devices
/// report. None when the gates are to be asked.
#[must_use]
pub fn before_judging(state: &State, seen: &Observation<'_>, now: Timestamp) -> Option<Decision> {
    match &state.stage {
        Stage::RollingBack { .. } => return Some(revert::decide(state, seen, now)),
        Stage::RolledBack { .. } | Stage::Aborted { .. } => {
            return Some(Decision::events(revert::stragglers(state, seen)));
        }
        Stage::Completed => return Some(Decision::events(late::decide(state, seen, now))),
        Stage::Draft | Stage::AwaitingApproval { .. } | Stage::Running { .. } | Stage::Paused { .. } => {}
    }
    if let Some(stopped) = went_back_in_time(state, seen) {
        return Some(Decision::events(vec![stopped]));
    }
    let mut reported = members(state, seen, now);
    reported.extend(joiners(state, seen));
    (!reported.is_empty()).then(|| Decision::events(reported))
}

/// Looks at a rollout once. The caller applies the events and looks again until there are none.
#[must_use]
pub fn decide(state: &State, seen: &Observation<'_>, gates: &[Box<dyn Gate>], now: Timestamp) -> Decision {
    before_judging(state, seen, now).unwrap_or_else(|| judged(state, seen, gates, now))
}

/// What is to be done when [`before_judging`] finds nothing: for this the statistics must be there.
#[must_use]
pub fn judged(state: &State, seen: &Observation<'_>, gates: &[Box<dyn Gate>], now: Timestamp) -> Decision {
    let mut reports = judge_now(state, seen, gates, now);
    let found_harm = experiment::found_harm(state) || past::found_harm(state);
    let compared = || experiment::reports(state).into_iter().chain(past::reports(state));
    if found_harm {
        reports.extend(compared());
    }
    let looked = || experiment::decide(state, seen, now).or_else(|| past::decide(state, seen, now));
    let mut decision = match breach(state, &reports).or_else(looked) {
        Some(event) => Decision::events(vec![event]),
        None => match &state.stage {
            Stage::Draft if state.signed.is_some() => progress::next_wave(state, 0, now),
            Stage::Draft => Decision::waiting(vec!["the order is to be signed".to_owned()]),
            Stage::AwaitingApproval { wave } if state.approved.contains(wave) => {
                progress::start_wave(state, *wave, now)
            }
            Stage::AwaitingApproval { wave } => {
                let who = state.needed(*wave).unwrap_or_default().text(&state.by);
                Decision::waiting(vec![format!("{who} has to approve wave {}", wave + 1)])
            }
            Stage::Running { wave, phase } => progress::decide(state, seen, (*wave, *phase), &reports, now),
            Stage::Paused { reason, .. } => Decision::waiting(vec![format!("somebody has to decide: {reason}")]),
            _ => Decision::default(),
        },
    };
    if !found_harm {
        reports.extend(compared());
    }
    decision.assessment.gates = reports;
    decision
}

/// A device of the rollout knows newer orders than the controller: what was ordered since the backup is not in these
/// events, a rollback perhaps, or an abort of what is to begin tonight. Nothing goes on by itself until a person has
/// looked.
fn went_back_in_time(state: &State, seen: &Observation<'_>) -> Option<Event> {
    let mut ahead = seen.ahead.iter().filter(|device| state.members.contains_key(*device));
    let (first, more) = (ahead.next()?, ahead.count());
    let others = if more == 0 { String::new() } else { format!(" and {more} more") };
    let reason = format!(
        "{first}{others} had newer orders than this controller knows: its store went back in time (a restored backup); \
         decide what they run with `fieldpost device accept`, then "
    );
    let ask = |wave| {
        let of = state.needed(wave).map(|needed| needed.text(&state.by));
        Some(Event::ApprovalAsked { wave, of, because: Some(format!("{reason}approve or abort")) })
    };
    match &state.stage {
        Stage::Running { .. } => {
            let reason = format!("{reason}resume or roll back");
            Some(Event::Paused { reason, evidence: Vec::new(), by: None })
        }
        Stage::Draft if state.signed.is_some() => ask(0),
        Stage::AwaitingApproval { wave } if state.approved.contains(wave) => ask(*wave),
        _ => None,
    }
}

/// A broken limit ends the wave; while it is paused or waits for approval too: that stops progress, not the guard.
fn breach(state: &State, reports: &[GateReport]) -> Option<Event> {
    let broken: Vec<&str> = reports
        .iter()
        .filter(|report| report.verdict == Verdict::Breach)
        .map(|report| report.sentence.as_str())
        .collect();
    if broken.is_empty() {
        return None;
    }
    let (reason, evidence, by) = (broken.join("; "), reports.to_vec(), None);
    match (state.spec.strategy.on_failure, &state.stage) {
        (OnFailure::Rollback, _) => Some(Event::RollbackStarted { reason, evidence, by, ending: Ending::RolledBack }),
        (OnFailure::Pause, Stage::Running { .. }) => Some(Event::Paused { reason, evidence, by }),
        (OnFailure::Pause, _) => None,
    }
}

fn judge_now(state: &State, seen: &Observation<'_>, gates: &[Box<dyn Gate>], now: Timestamp) -> Vec<GateReport> {
    let wave = match &state.stage {
        Stage::Running { wave, .. }
        | Stage::AwaitingApproval { wave }
        | Stage::Paused { wave, breached: false, .. } => *wave,
        _ => return Vec::new(),
    };
    if state.members.values().any(Member::treated) {
        let mut reports = judge(gates, &evidence(state, seen, wave, now));
        if matches!(state.stage, Stage::Running { phase: Phase::Shadowing { .. }, .. }) {
            reports.push(shadow::report(state, seen, wave));
        }
        reports
    } else {
        Vec::new()
    }
}

fn evidence<'a>(state: &'a State, seen: &Observation<'a>, wave: usize, now: Timestamp) -> Evidence<'a> {
    let mut arms = [Arm::default(), Arm::default(), Arm::default()];
    let [treated, controls, before] = &mut arms;
    for ((group, _), (release, window)) in &seen.samples.windows {
        let arm = match group {
            Group::Treated => &mut *treated,
            Group::Control => &mut *controls,
            Group::Before => &mut *before,
            // The experiment has samples of its own, and so have the pairs of a shadow.
            Group::TrialNow
            | Group::TrialBefore
            | Group::SliceBefore(_)
            | Group::SliceSince(_)
            | Group::Shadow
            | Group::AbNew
            | Group::AbOld
            | Group::AbBefore => continue,
        };
        arm.insert(release, seen.samples.manifests.get(release), window.as_deref());
    }
    let [treated, controls, before] = arms;
    Evidence {
        limits: &state.spec.strategy.limits,
        budgets: &seen.candidate.manifest.budgets,
        outcomes: outcomes(state, seen, wave, now),
        wave: wave + 1,
        wave_size: state.members.values().filter(|member| member.wave == wave && member.counts()).count(),
        treated,
        controls,
        before,
    }
}

/// How every touched device fares, oldest verdict first. One that has no verdict yet, or whose failure a person
/// accepted, is not among them.
fn outcomes(state: &State, seen: &Observation<'_>, wave: usize, now: Timestamp) -> Vec<Outcome> {
    let silence_counts = silence_counts(state, seen, now);
    let verdict = |device: &DeviceId, member: &Member| match (member.progress, member.silence) {
        (Progress::Assigned | Progress::Live, Some(silence)) if silence.after_change => {
            let silent = silence_counts && is_silent(state, seen, device, member, now);
            silent.then_some((silence.since, Some(HealthFailure::Silent)))
        }
        (Progress::Live, _) => Some((member.since, None)),
        (Progress::Failed, _) => {
            reported(member).and_then(HealthFailure::of).map(|failure| (member.since, Some(failure)))
        }
        _ => None,
    };
    let mut outcomes: Vec<Outcome> = state
        .members
        .iter()
        .filter(|(_, member)| !member.accepted)
        .filter_map(|(device, member)| {
            let (at, failure) = verdict(device, member)?;
            let of_wave = member.wave == wave && member.counts();
            Some(Outcome { at, device: device.clone(), of_wave, failure })
        })
        .collect();
    outcomes.sort_by(|a, b| (a.at, &a.device).cmp(&(b.at, &b.device)));
    outcomes
}

/// Whether a device that had accepted the change is silent, and the controller would hear it if it were not. What was
/// noted before the controller was cut off, or stopped, is held against nobody until it has listened long enough again:
/// the comparison group is seen with the same eyes.
pub(super) fn is_silent(
    state: &State,
    seen: &Observation<'_>,
    device: &DeviceId,
    member: &Member,
    now: Timestamp,
) -> bool {
    member.silence.is_some_and(|silence| silence.after_change)
        && seen.devices.get(device).is_some_and(|view| !seen.reachable(state, view, now))
}

/// Whether silence says something about the release. A site without power, a broker that restarts or a controller
/// that was away silences everybody, and some devices are away at any time: unless the devices with the release are
/// silent `factor` times as often as those without it, and chance does not give as much, it is not the release. Without
/// any others, somebody must be heard at all, and of many devices more must be silent than may be offline.
fn silence_counts(state: &State, seen: &Observation<'_>, now: Timestamp) -> bool {
    let reachable = |device: &DeviceId| seen.devices.get(device).is_some_and(|view| seen.reachable(state, view, now));
    let share = |silent: usize, all: usize| silent as f64 / all.max(1) as f64;
    let runs = |member: &Member| matches!(member.progress, Progress::Assigned | Progress::Live);
    let treated: Vec<(&DeviceId, &Member)> = state.members.iter().filter(|(_, member)| runs(member)).collect();
    let silent = treated.iter().filter(|(device, member)| is_silent(state, seen, device, member, now)).count();
    // Those that were there when the wave began, or came since.
    let controls: Vec<bool> = state
        .members
        .iter()
        .filter(|(_, member)| member.progress == Progress::Waiting)
        .filter(|(device, _)| {
            let since = state.wave_since.minus(state.spec.strategy.silence_after);
            seen.devices.get(*device).is_some_and(|view| view.last_seen.is_some_and(|seen| seen >= since))
        })
        .map(|(device, _)| reachable(device))
        .collect();
    if controls.is_empty() {
        // Of many devices some are always away; how many may be, the operator has said.
        let may_be = if treated.len() < ENOUGH { 0 } else { state.spec.strategy.max_offline.floor(treated.len()) };
        return silent > may_be && seen.devices.keys().any(reachable);
    }
    let limits = &state.spec.strategy.limits;
    let silent_controls = controls.iter().filter(|reachable| !**reachable).count();
    let more = share(silent, treated.len()) > limits.factor * share(silent_controls, controls.len());
    if controls.len() < ENOUGH {
        return more;
    }
    // One more than were seen: where nobody is away now, somebody is at another time.
    let usual = share(silent_controls + 1, controls.len() + 1);
    more && binomial::at_least(silent as u64, treated.len() as u64, usual) <= limits.alpha
}
