//! How an event changes a rollout, and what it makes the controller do.

use super::state::{AbortMode, Member, Phase, Progress, Silence, Stage, State};
use crate::rollout::events::{Ending, Event, Record, Setback, Spec};
use crate::rollout::fleet::AssignTo;
use crate::rollout::order::Seat;
use crate::rollout::plan::{ResolvedWave, Share};
use crate::rollout::strategy::Holdout;
use crate::rollout::trial::Standing;
use fieldpost_shared::id::{DeviceId, Digest, RolloutId};
use fieldpost_shared::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What the engine does once an event is stored. Doing it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Sign the order, and record that.
    SignOrder,
    /// Say what a device should run of the model; none removes it.
    Assign {
        /// Who.
        device: DeviceId,
        /// What.
        to: Option<AssignTo>,
    },
}

/// Events that are no rollout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The first is not `Created`, or there is none.
    #[error("the events do not begin with the rollout's creation")]
    Beginning,
    /// A number is missing or comes twice.
    #[error("event {found} follows event {after}")]
    Gap {
        /// The number before.
        after: u64,
        /// The number found.
        found: u64,
    },
}

/// The state that stored events make.
///
/// # Errors
/// When they do not begin with a creation, or are not numbered from 1 without gaps.
pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<State, FoldError> {
    let mut state: Option<State> = None;
    for record in records {
        let after = state.as_ref().map_or(0, |state| state.sequence);
        if record.sequence != after + 1 {
            return Err(FoldError::Gap { after, found: record.sequence });
        }
        state = Some(match state {
            None => created(record).ok_or(FoldError::Beginning)?,
            Some(state) => step(state, &record.event, record.at).0,
        });
    }
    state.ok_or(FoldError::Beginning)
}

fn created(record: &Record) -> Option<State> {
    let Event::Created { rollout, spec, seed, order, waves, unfit, design, by, retry_of } = &record.event else {
        return None;
    };
    let mut state = begin(rollout, spec, *seed, order, waves, record.at);
    (state.design, state.retry_of) = (design.as_deref().cloned(), retry_of.clone());
    (state.unfit, state.by, state.sequence) = (unfit.clone(), by.clone(), record.sequence);
    Some(state)
}

fn begin(id: &RolloutId, spec: &Spec, seed: Digest, order: &[Seat], waves: &[ResolvedWave], at: Timestamp) -> State {
    let mut all = waves.to_vec();
    let reached = all.last().map_or(0, |wave| wave.reaches);
    if reached < order.len() && spec.strategy.holdout_then == Holdout::Release {
        let asked = all.last().map_or(1, |wave| wave.asked + 1);
        all.push(ResolvedWave { asked, size: Share::ALL, reaches: order.len(), selector: None });
    }
    let mut state = State {
        id: id.clone(),
        spec: spec.clone(),
        by: String::new(),
        retry_of: None,
        created: at,
        seed,
        order: order.to_vec(),
        waves: all,
        soaked_waves: waves.len(),
        unfit: Vec::new(),
        signed: None,
        stage: Stage::Draft,
        wave_since: at,
        approved: BTreeSet::new(),
        shadowed: BTreeSet::new(),
        overtime: false,
        holding: Vec::new(),
        design: None,
        standing: Standing::default(),
        last_look: None,
        past: None,
        measured: None,
        unproven: BTreeSet::new(),
        members: BTreeMap::new(),
        sequence: 0,
        updated: at,
    };
    for (place, seat) in order.iter().enumerate() {
        let member = Member::new(place, state.wave_of(place), seat.stratum.clone(), false, at);
        state.members.insert(seat.device.clone(), member);
    }
    state
}

/// Applies one event. An event that makes no sense in a state (only a foreign hand could have stored it) counts as
/// seen and changes nothing.
#[must_use]
pub fn step(mut state: State, event: &Event, at: Timestamp) -> (State, Vec<Effect>) {
    state.sequence += 1;
    state.updated = at;
    let effects = if let Some(device) = device_of(event) {
        member_event(&mut state, device, event, at)
    } else {
        stage_event(&mut state, event, at)
    };
    (state, effects)
}

/// The device that an event is about.
const fn device_of(event: &Event) -> Option<&DeviceId> {
    match event {
        Event::Assigned { device, .. }
        | Event::Shadowed { device, .. }
        | Event::InShadow { device }
        | Event::SwapAsked { device, .. }
        | Event::Adopted { device }
        | Event::Live { device }
        | Event::Failed { device, .. }
        | Event::Left { device, .. }
        | Event::Silent { device, .. }
        | Event::Heard { device }
        | Event::Gone { device }
        | Event::RevertAsked { device, .. }
        | Event::Reverted { device }
        | Event::Superseded { device, .. } => Some(device),
        _ => None,
    }
}

fn stage_event(state: &mut State, event: &Event, at: Timestamp) -> Vec<Effect> {
    let mut effects = Vec::new();
    let next = match (event, &state.stage) {
        (Event::OrderSigned { signed }, Stage::Draft) => {
            state.signed = Some((**signed).clone());
            None
        }
        (Event::Approved { wave, .. }, Stage::AwaitingApproval { wave: asked }) if wave == asked => {
            state.approved.insert(*wave);
            None
        }
        (Event::Joined { seat, wave }, stage) if stage.active() || *stage == Stage::Completed => {
            let place = state.members.len().max(state.order.len());
            let wave = wave.unwrap_or(state.waves.len());
            let member = Member::new(place, wave, seat.stratum.clone(), true, at);
            state.members.entry(seat.device.clone()).or_insert(member);
            None
        }
        (Event::Holding { kinds, .. }, Stage::Running { .. }) => {
            state.holding.clone_from(kinds);
            None
        }
        (Event::Looked { look, .. }, Stage::Running { phase: Phase::Soaking { .. }, .. }) => {
            state.standing.take(look);
            state.last_look = Some((**look).clone());
            None
        }
        (Event::Watched { slice, metrics, .. }, Stage::Running { phase: Phase::Soaking { .. }, .. }) => {
            state.past = Some((*slice, metrics.clone()));
            None
        }
        (Event::Measured { found }, Stage::Running { phase: Phase::Soaking { .. }, .. }) => {
            state.measured = Some((**found).clone());
            None
        }
        (
            Event::ApprovalAsked { wave, .. },
            Stage::Draft | Stage::AwaitingApproval { .. } | Stage::Running { phase: Phase::Passed, .. },
        ) => {
            state.approved.remove(wave);
            Some(Stage::AwaitingApproval { wave: *wave })
        }
        (
            Event::WaveStarted { wave },
            Stage::Draft | Stage::AwaitingApproval { .. } | Stage::Running { phase: Phase::Passed, .. },
        ) => {
            state.wave_since = at;
            state.begin_looks();
            Some(Stage::Running { wave: *wave, phase: first_phase(state, *wave, at) })
        }
        (Event::ClockJumped { .. }, Stage::Completed) => {
            let late = state.members.values_mut().filter(|member| member.late);
            late.for_each(|member| member_anew(member, at));
            None
        }
        (Event::ClockJumped { .. }, stage) if stage.active() => {
            let stage = stage.clone();
            begin_anew(state, at);
            Some(match stage {
                Stage::Running { wave, phase } => Stage::Running { wave, phase: phase.anew(at) },
                other => other,
            })
        }
        (
            Event::ShadowPassed { wave: passed, in_turn, .. },
            Stage::Running { wave, phase: Phase::Shadowing { .. } },
        ) if passed == wave => {
            let wave = *wave;
            state.shadowed.insert(wave);
            if !in_turn {
                effects = leave_shadow(state, at);
            }
            Some(Stage::Running { wave, phase: Phase::Deploying { since: at } })
        }
        (
            Event::SoakStarted { .. },
            Stage::Running { wave, phase: Phase::Deploying { .. } | Phase::Splitting { .. } },
        ) => Some(Stage::Running { wave: *wave, phase: Phase::Soaking { since: at } }),
        (Event::WavePassed { .. }, Stage::Running { wave, .. }) => {
            state.holding.clear();
            Some(Stage::Running { wave: *wave, phase: Phase::Passed })
        }
        (Event::Paused { reason, evidence, .. }, Stage::Running { wave, .. }) => {
            let breached = !evidence.is_empty();
            Some(Stage::Paused { wave: *wave, reason: reason.clone(), breached })
        }
        (Event::Resumed { accepted, unproven, .. }, Stage::Paused { wave, .. }) => {
            let wave = *wave;
            resume(state, accepted, at);
            state.begin_looks();
            state.measured = None;
            if *unproven {
                state.unproven.insert(wave);
            }
            Some(Stage::Running { wave, phase: first_phase(state, wave, at) })
        }
        (Event::RollbackStarted { reason, ending, .. }, stage) if may_roll_back(stage) => {
            Some(Stage::RollingBack { reason: reason.clone(), ending: *ending })
        }
        (Event::AbortedKeeping { reason, .. }, stage) if stage.active() => {
            Some(Stage::Aborted { mode: AbortMode::Keep, reason: reason.clone() })
        }
        (Event::RolledBack { .. }, Stage::RollingBack { reason, ending }) => Some(match ending {
            Ending::RolledBack => Stage::RolledBack { reason: reason.clone() },
            Ending::Aborted => Stage::Aborted { mode: AbortMode::Revert, reason: reason.clone() },
        }),
        (Event::Completed { .. }, Stage::Running { phase: Phase::Passed, .. }) => Some(Stage::Completed),
        _ => None,
    };
    if let Some(next) = next {
        state.stage = next;
    }
    effects
}

fn first_phase(state: &State, wave: usize, at: Timestamp) -> Phase {
    if state.spec.strategy.ab.mode().is_some() {
        Phase::Splitting { since: at }
    } else if state.begins_in_shadow(wave) {
        Phase::Shadowing { since: at }
    } else {
        Phase::Deploying { since: at }
    }
}

/// What ran in shadow takes the place of the live release, everywhere at once.
fn leave_shadow(state: &mut State, at: Timestamp) -> Vec<Effect> {
    let mut told = Vec::new();
    for (device, member) in state.members.iter_mut().filter(|(_, member)| member.progress == Progress::Shadowing) {
        (member.progress, member.since, member.beside) = (Progress::Assigned, at, false);
        told.push((device.clone(), member.attempt));
    }
    told.into_iter().map(|(device, attempt)| Effect::Assign { device, to: Some(state.candidate(attempt)) }).collect()
}

/// Whether a device may be told to take the release: after the end only one that came late, or was never told.
fn may_assign(stage: &Stage, member: &Member) -> bool {
    stage.active() || ((member.late || member.progress == Progress::Waiting) && *stage == Stage::Completed)
}

/// Whether what runs in shadow may be told to take over.
fn may_swap(stage: &Stage) -> bool {
    stage.active() || *stage == Stage::Completed
}

/// Whether devices can still be taken back.
pub(super) const fn may_roll_back(stage: &Stage) -> bool {
    !matches!(
        stage,
        Stage::RollingBack { .. } | Stage::RolledBack { .. } | Stage::Aborted { mode: AbortMode::Revert, .. }
    )
}

/// Whatever lasts begins now: the wave's evidence, its looks, and what devices are waited for.
fn begin_anew(state: &mut State, at: Timestamp) {
    state.wave_since = at;
    state.holding.clear();
    state.measured = None;
    state.begin_looks();
    state.members.values_mut().for_each(|member| member_anew(member, at));
}

fn member_anew(member: &mut Member, at: Timestamp) {
    match &mut member.progress {
        Progress::Retrying { at: again } => *again = at,
        Progress::Assigned | Progress::Shadowing | Progress::Splitting | Progress::Reverting => {}
        // What it answers from now on counts, though it is live since tomorrow.
        Progress::Live if member.since > at => {}
        _ => return,
    }
    member.since = at;
    member.in_shadow = member.in_shadow.map(|_| at);
    if let Some(silence) = &mut member.silence {
        silence.since = at;
    }
}

/// The wave's clocks begin anew; accepted devices are waited for no more, the others that failed get another attempt.
fn resume(state: &mut State, accepted: &[DeviceId], at: Timestamp) {
    state.wave_since = at;
    state.holding.clear();
    state.overtime |= state.is_over(at);
    for device in accepted {
        if let Some(member) = state.members.get_mut(device) {
            member.accepted = true;
        }
    }
    for member in state.members.values_mut().filter(|member| member.counts() && member.progress == Progress::Failed) {
        let again = member.failure.as_ref().is_some_and(|failure| match failure.setback {
            Setback::Reported(kind) => kind.retriable(),
            Setback::TimedOut => true,
        });
        if again {
            member.progress = Progress::Retrying { at };
            (member.since, member.tries) = (at, 0);
        }
    }
}

fn member_event(state: &mut State, device: &DeviceId, event: &Event, at: Timestamp) -> Vec<Effect> {
    let Some(mut member) = state.members.get(device).cloned() else { return Vec::new() };
    let mut effects = Vec::new();
    let progress = match event {
        Event::Assigned { attempt, previous, reachable, .. } | Event::Shadowed { attempt, previous, reachable, .. }
            if may_assign(&state.stage, &member) =>
        {
            let beside = matches!(event, Event::Shadowed { .. });
            if !member.touched {
                member.previous.clone_from(previous);
                member.assigned = Some(at);
            }
            // Nothing waits any more for one that is told after the end, or has a shadow after its wave's.
            member.late |= state.stage == Stage::Completed || (beside && state.shadowed.contains(&member.wave));
            (member.touched, member.attempt, member.in_shadow, member.beside) = (true, *attempt, None, beside);
            member.tries = member.tries.saturating_add(1);
            member.silence = (!reachable).then_some(Silence { since: at, after_change: false });
            let to = if beside { state.beside(*attempt) } else { state.candidate(*attempt) };
            effects.push(Effect::Assign { device: device.clone(), to: Some(to) });
            Some(match (beside, state.spec.strategy.ab.mode()) {
                (false, _) => Progress::Assigned,
                (true, None) => Progress::Shadowing,
                (true, Some(_)) => Progress::Splitting,
            })
        }
        Event::InShadow { .. } if member.progress == Progress::Shadowing => {
            member.in_shadow = Some(at);
            None
        }
        Event::SwapAsked { reachable, .. } if member.progress == Progress::Shadowing && may_swap(&state.stage) => {
            // Nothing waits any more for one that is told after the end.
            member.late |= state.stage == Stage::Completed;
            member.beside = false;
            member.silence = (!reachable).then_some(Silence { since: at, after_change: false });
            effects.push(Effect::Assign { device: device.clone(), to: Some(state.candidate(member.attempt)) });
            Some(Progress::Assigned)
        }
        Event::Adopted { .. } if may_assign(&state.stage, &member) => {
            member.assigned = Some(at);
            Some(Progress::Live)
        }
        Event::Live { .. } if member.treated() => {
            member.failure = None;
            Some(Progress::Live)
        }
        Event::Failed { failure, retry_at, .. } if member.treated() => {
            member.failure = Some(failure.clone());
            Some(retry_at.map_or(Progress::Failed, |at| Progress::Retrying { at }))
        }
        Event::Left { .. } if member.progress == Progress::Live => Some(Progress::Assigned),
        Event::Silent { accepted, .. } => {
            member.silence = Some(Silence { since: at, after_change: *accepted });
            None
        }
        Event::Heard { .. } => {
            // A device that was away has the whole time from now on.
            let waited = member.progress == Progress::Assigned && member.silence.is_some();
            member.silence = None;
            waited.then_some(Progress::Assigned)
        }
        Event::Gone { .. } => Some(Progress::Gone),
        Event::RevertAsked { under, .. } if member.touched => {
            member.under.clone_from(under);
            effects.push(Effect::Assign { device: device.clone(), to: state.return_to(&member) });
            Some(Progress::Reverting)
        }
        Event::Reverted { .. } if member.progress == Progress::Reverting => Some(Progress::Reverted),
        Event::Superseded { .. } => Some(Progress::Superseded),
        _ => None,
    };
    if let Some(progress) = progress {
        (member.progress, member.since) = (progress, at);
    }
    state.members.insert(device.clone(), member);
    effects
}

/// The effects that a state stands for: what a controller that was stopped between an event and its effect catches up
/// with. The engine does those that the fleet does not show as done.
#[must_use]
pub fn outstanding(state: &State) -> Vec<Effect> {
    if state.stage == Stage::Draft && state.signed.is_none() {
        return vec![Effect::SignOrder];
    }
    let assign = |device: &DeviceId, to| Effect::Assign { device: device.clone(), to };
    let of_member = |(device, member): (&DeviceId, &Member)| match member.progress {
        Progress::Assigned | Progress::Live | Progress::Failed | Progress::Retrying { .. }
            if member.touched && matches!(state.stage, Stage::Running { .. } | Stage::Paused { .. }) =>
        {
            // One that failed in shadow stays told to run it there.
            let told = if member.beside { state.beside(member.attempt) } else { state.candidate(member.attempt) };
            Some(assign(device, Some(told)))
        }
        Progress::Assigned if member.touched && member.late && state.stage == Stage::Completed => {
            Some(assign(device, Some(state.candidate(member.attempt))))
        }
        Progress::Shadowing | Progress::Splitting
            if matches!(state.stage, Stage::Running { .. } | Stage::Paused { .. }) =>
        {
            Some(assign(device, Some(state.beside(member.attempt))))
        }
        Progress::Shadowing if state.stage == Stage::Completed => {
            Some(assign(device, Some(state.beside(member.attempt))))
        }
        Progress::Reverting => Some(assign(device, state.return_to(member))),
        _ => None,
    };
    state.members.iter().filter_map(of_member).collect()
}
