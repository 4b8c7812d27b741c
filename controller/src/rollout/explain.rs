//! Why anything happened: every event as a sentence, with its inputs beside it.

pub mod look;

use super::events::{Ending, Event, Failure, Record, Setback};
use super::gates::{GateReport, Verdict};
use super::machine::progress::WINDOW;
use super::machine::{Assessment, Progress, Stage, State};
use super::start::failure_name;
use super::strategy::Strategy;
use fieldpost_shared::id::{DeviceId, ReleaseRef, RolloutId};
use fieldpost_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Names listed in a sentence; more are counted.
const NAMED: usize = 8;

/// One event, told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Its number.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What happened and why.
    pub sentence: String,
    /// What the gates said at that moment, a line each; empty for events that no gate decided.
    pub because: Vec<String>,
    /// The event itself: every input.
    pub event: Event,
}

/// A rollout, told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Its name.
    pub rollout: RolloutId,
    /// What is rolled out.
    pub release: ReleaseRef,
    /// Where it is.
    pub state: String,
    /// Where it is, in a sentence.
    pub headline: String,
    /// What it waits for.
    pub waiting: Vec<String>,
    /// What the gates see now.
    pub gates: Vec<GateReport>,
    /// Number of its last event.
    #[serde(default)]
    pub sequence: u64,
    /// What happened, oldest first: one page of it.
    pub events: Vec<Told>,
}

/// Tells a rollout.
#[must_use]
pub fn explain(state: &State, records: &[Record], assessment: &Assessment) -> Explanation {
    Explanation {
        rollout: state.id.clone(),
        release: state.spec.release.clone(),
        state: state.stage.name().to_owned(),
        headline: headline(state),
        waiting: assessment.waiting.clone(),
        gates: assessment.gates.clone(),
        sequence: state.sequence,
        events: records.iter().map(tell).collect(),
    }
}

fn headline(state: &State) -> String {
    let release = &state.spec.release;
    let count = |wanted: fn(Progress) -> bool| state.members.values().filter(|m| wanted(m.progress)).count();
    let live = count(|progress| progress == Progress::Live);
    let all = state.members.len();
    let waves = state.waves.len();
    match &state.stage {
        Stage::Draft => match (&state.signed, state.spec.strategy.not_before) {
            (Some(_), Some(begins)) => format!("{release} begins at {begins}."),
            _ => format!("{release} has not begun: its order is to be signed."),
        },
        Stage::AwaitingApproval { wave } => {
            let waits = match (state.approved.contains(wave), state.spec.strategy.not_before) {
                (true, Some(begins)) => format!("is approved to begin at {begins}, in"),
                _ => {
                    let who = state.needed(*wave).unwrap_or_default().text(&state.by);
                    format!("waits for {who} to approve")
                }
            };
            format!("{release} {waits} wave {} of {waves}; {live} of {all} devices run it.", wave + 1)
        }
        Stage::Running { wave, .. } => {
            format!(
                "{release} is {} in wave {} of {waves}; {live} of {all} devices run it.",
                state.stage.name(),
                wave + 1
            )
        }
        Stage::Paused { wave, reason, .. } => {
            format!("{release} is paused in wave {} of {waves}, {live} of {all} devices run it: {reason}.", wave + 1)
        }
        Stage::RollingBack { reason, .. } => {
            let back = count(|progress| progress == Progress::Reverted);
            let going = count(|progress| progress == Progress::Reverting);
            format!("{release} goes back, {} did and {going} to go: {reason}.", devices(back))
        }
        Stage::RolledBack { reason } => {
            let away = count(|progress| progress == Progress::Reverting);
            let back = count(|progress| progress == Progress::Reverted);
            let rest =
                if away == 0 { String::new() } else { format!("; {} will go back on coming back", devices(away)) };
            let alone = count(|progress| progress == Progress::Superseded);
            let alone = if alone == 0 { String::new() } else { format!("; {} left alone", devices(alone)) };
            format!("{release} was rolled back on {}{rest}{alone}: {reason}.", devices(back))
        }
        Stage::Aborted { reason, .. } => format!("{release} was aborted, {live} of {all} devices run it: {reason}."),
        Stage::Completed => format!("{release} is complete; {live} of {all} devices run it."),
    }
}

/// Tells one event.
#[must_use]
pub fn tell(record: &Record) -> Told {
    let because = match &record.event {
        Event::WavePassed { evidence, .. }
        | Event::ShadowPassed { evidence, .. }
        | Event::Paused { evidence, .. }
        | Event::RollbackStarted { evidence, .. } => {
            evidence.iter().filter(|report| report.verdict != Verdict::Unbounded).map(line).collect()
        }
        Event::Looked { look, .. } => {
            look.metrics.iter().map(|shown| format!("{}: {}", shown.metric, look::metric(look, shown))).collect()
        }
        Event::Watched { slice, metrics, .. } => {
            metrics.iter().map(|found| format!("{}: {}", found.metric, look::past(*slice, found))).collect()
        }
        Event::Measured { found } => found.sentences(),
        _ => Vec::new(),
    };
    let sentence = sentence(&record.event);
    Told { sequence: record.sequence, at: record.at, sentence, because, event: record.event.clone() }
}

/// A gate's report in a line.
#[must_use]
pub fn line(report: &GateReport) -> String {
    format!("{}: {}: {}", report.gate, report.verdict, report.sentence)
}

/// `1 device`, `2 devices`.
pub(super) fn devices(count: usize) -> String {
    if count == 1 { "1 device".to_owned() } else { format!("{count} devices") }
}

fn names(devices: &[DeviceId]) -> String {
    let shown = devices.iter().take(NAMED).map(DeviceId::as_str).collect::<Vec<_>>().join(", ");
    if devices.len() > NAMED { format!("{shown} and {} more", devices.len() - NAMED) } else { shown }
}

fn sentence(event: &Event) -> String {
    match event {
        Event::Created { spec, order, waves, unfit, by, seed, retry_of, .. } => {
            let sizes = waves.iter().map(|wave| wave.reaches.to_string()).collect::<Vec<_>>().join(", ");
            let first = order.iter().take(3).map(|seat| seat.device.as_str()).collect::<Vec<_>>().join(", ");
            let unfit = if unfit.is_empty() {
                String::new()
            } else {
                format!(" {} matching devices cannot run it.", unfit.len())
            };
            let Strategy { not_before, until, maintenance, priority, .. } = &spec.strategy;
            let mut terms = String::new();
            if let Some(begins) = not_before {
                terms.push_str(&format!(" It begins at {begins}, not before."));
            }
            if let Some(until) = until {
                terms.push_str(&format!(" Nobody is told after {until}."));
            }
            if !maintenance.is_empty() {
                let windows = maintenance.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                terms.push_str(&format!(" A device is told within its maintenance window alone ({windows})."));
            }
            if *priority != 0 {
                terms.push_str(&format!(" Its priority is {priority}."));
            }
            let again = retry_of.as_ref().map(|first| format!(", another try of {first},")).unwrap_or_default();
            format!(
                "{by} started {}{again} for `{}`: {} in waves of {sizes}, in the random order {first}, ... of seed {}.{unfit}{terms}",
                spec.release,
                spec.selector,
                devices(order.len()),
                seed.short()
            )
        }
        Event::OrderSigned { .. } => "The controller signed the order, so nobody can choose who goes first.".to_owned(),
        Event::ApprovalAsked { wave, of, because } => {
            let of = of.as_ref().map_or_else(|| "approval".to_owned(), |of| format!("the approval of {of}"));
            let why = because.as_ref().map_or_else(|| ", as the strategy asks".to_owned(), |why| format!(": {why}"));
            format!("Wave {} waits for {of}{why}.", wave + 1)
        }
        Event::Approved { wave, by } => format!("{by} approved wave {}.", wave + 1),
        Event::WaveStarted { wave } => format!("Wave {} began.", wave + 1),
        Event::Joined { seat, wave: Some(wave) } => {
            format!("{} came after the order was drawn; its place in it gives it wave {}.", seat.device, wave + 1)
        }
        Event::Joined { seat, wave: None } => {
            format!("{} came after the order was drawn; its place in it is among the devices held out.", seat.device)
        }
        Event::Assigned { device, attempt, previous, reachable } => {
            assigned(device, *attempt, previous.as_ref().map(|p| &p.release), *reachable)
        }
        Event::Shadowed { device, attempt, .. } => {
            format!("{device} is told to run the release beside its own (attempt {attempt}).")
        }
        Event::ShadowPassed { wave, evidence, .. } if evidence.is_empty() => {
            format!("Nobody of wave {} is left to run the release in shadow: a person went on without them.", wave + 1)
        }
        Event::ShadowPassed { wave, .. } => {
            format!("Wave {} has shown in shadow what it had to; its devices swap.", wave + 1)
        }
        Event::InShadow { device } => format!("{device} runs the release in a shadow of its own from now on."),
        Event::SwapAsked { device, reachable } => {
            let away = if *reachable { "" } else { "; it is away, and reads it when it comes back" };
            format!("{device} is told to let the release that it runs in shadow answer{away}.")
        }
        Event::Adopted { device } => {
            format!("{device} ran the release already; it is counted, and would not be taken back.")
        }
        Event::Live { device } => format!("{device} runs the release."),
        Event::Failed { device, failure, retry_at } => failed(device, failure, *retry_at),
        Event::Left { device, live } => {
            let runs = live.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            format!("{device} ran the release and now reports {runs} without saying why; it is waited for again.")
        }
        Event::Silent { device, last_seen, accepted } => {
            let seen = last_seen.map_or_else(|| "never".to_owned(), |at| format!("last at {at}"));
            let when = if *accepted { "after it had accepted the change" } else { "before it accepted anything" };
            format!("{device} fell silent {when}: heard of {seen}.")
        }
        Event::Heard { device } => format!("{device} is heard of again."),
        Event::Gone { device } => format!("{device} is no longer part of the fleet."),
        Event::SoakStarted { wave } => format!("Every device of wave {} is accounted for; the soak began.", wave + 1),
        Event::Looked { wave, look } => look::sentence(*wave, look),
        Event::Watched { wave, slice, metrics } => look::watched(*wave, *slice, metrics),
        Event::ClockJumped { to } => {
            format!(
                "The controller's clock jumped, and shows {to} now: whatever lasts began anew, the wave's soak too."
            )
        }
        Event::Measured { found } => format!("Measured {}.", found.sentence()),
        Event::Holding { wave, reasons, kinds } if kinds.iter().all(|kind| kind == WINDOW) => {
            format!("Wave {} waits: {}.", wave + 1, reasons.join("; "))
        }
        Event::Holding { wave, reasons, .. } => {
            format!("Wave {} has soaked long enough and holds: {}.", wave + 1, reasons.join("; "))
        }
        Event::WavePassed { wave, .. } => format!("Wave {} passed.", wave + 1),
        Event::Paused { reason, by, .. } => match by {
            Some(by) => format!("{by} paused it: {reason}."),
            None => format!("It paused: {reason}."),
        },
        Event::Resumed { by, unproven: true, .. } => {
            format!("{by} resumed it, and lets the wave pass without the proof that the comparison did not give.")
        }
        Event::Resumed { by, accepted, .. } if accepted.is_empty() => {
            format!("{by} resumed it; the wave's clocks began anew, and failed devices try again.")
        }
        Event::Resumed { by, accepted, .. } => format!("{by} resumed it without {}.", names(accepted)),
        Event::RollbackStarted { reason, by, ending, .. } => {
            let how = if *ending == Ending::Aborted { "aborted it" } else { "rolled it back" };
            match by {
                Some(by) => format!("{by} {how}: {reason}. Every touched device goes back."),
                None => format!("It did harm, and every touched device goes back: {reason}."),
            }
        }
        Event::AbortedKeeping { by, reason } => {
            format!("{by} aborted it: {reason}. Devices that run the release keep it.")
        }
        Event::RevertAsked { device, .. } => format!("{device} is told to return to what it had."),
        Event::Reverted { device } => format!("{device} went back."),
        Event::Superseded { device, by } => {
            let who = by.as_ref().map_or_else(|| "Something else".to_owned(), |by| format!("Rollout {by}"));
            format!("{who} has told {device} what to run since; it is left alone.")
        }
        Event::RolledBack { pending, left_alone } => rolled_back(pending, *left_alone),
        Event::Completed { pending } if pending.is_empty() => "Complete.".to_owned(),
        Event::Completed { pending } => {
            format!("Complete; {} will get it on coming back: {}.", devices(pending.len()), names(pending))
        }
    }
}

fn assigned(device: &DeviceId, attempt: u32, previous: Option<&ReleaseRef>, reachable: bool) -> String {
    let back = previous.map_or_else(|| "not having the model".to_owned(), |p| format!("{p} ({})", p.manifest.short()));
    let away = if reachable { "" } else { " It is away, and reads this when it comes." };
    format!("{device} is told to run the release (attempt {attempt}); it would return to {back}.{away}")
}

fn rolled_back(pending: &[DeviceId], left_alone: usize) -> String {
    let mut told = if pending.is_empty() {
        "Every touched device went back".to_owned()
    } else {
        format!("Every reachable device went back; {} will on coming back: {}", devices(pending.len()), names(pending))
    };
    if left_alone > 0 {
        let alone = devices(left_alone);
        told.push_str(&format!("; {alone} left alone, since something else has told what to run there"));
    }
    told.push('.');
    told
}

fn failed(device: &DeviceId, failure: &Failure, retry_at: Option<Timestamp>) -> String {
    let what = match failure.setback {
        Setback::Reported(kind) => failure_name(kind),
        Setback::TimedOut => "was not live in time",
    };
    let next = match retry_at {
        Some(at) => format!("it tries again at {at}"),
        None => "it is not tried again".to_owned(),
    };
    let Failure { detail, attempt, .. } = failure;
    format!("On {device} the release {what} (attempt {attempt}): {detail}; {next}.")
}
