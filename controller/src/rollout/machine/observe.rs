//! What devices report, as events: who became live, failed, fell silent, came back, left, or joined.

use super::sample::Observation;
use super::state::{Member, Progress, Silence, Stage, State};
use crate::rollout::events::{Event, Failure, Setback};
use crate::rollout::fleet::{AssignTo, DeviceView};
use crate::rollout::order::{Seat, late_place};
use crate::rollout::plan::ResolvedWave;
use fieldpost_shared::id::{DeviceId, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{FailureKind, Phase as DevicePhase, Quarantined};

/// What the members' reports say that the state does not know yet; at most one event per device.
pub(super) fn members(state: &State, seen: &Observation<'_>, now: Timestamp) -> Vec<Event> {
    members_where(state, seen, now, |_all| true)
}

/// The same for some of the members.
pub(super) fn members_where(
    state: &State,
    seen: &Observation<'_>,
    now: Timestamp,
    wanted: impl Fn(&DeviceId) -> bool,
) -> Vec<Event> {
    let treated = state.members.iter().filter(|(_, member)| member.treated() || member.progress == Progress::Waiting);
    let wanted = treated.filter(|(device, _)| wanted(device));
    wanted.filter_map(|(device, member)| of_member(state, seen, device, member, now)).collect()
}

fn of_member(
    state: &State,
    seen: &Observation<'_>,
    device: &DeviceId,
    member: &Member,
    now: Timestamp,
) -> Option<Event> {
    let device = device.clone();
    let Some(view) = seen.devices.get(&device) else { return Some(Event::Gone { device }) };
    if member.progress == Progress::Waiting {
        return None;
    }
    let release = &state.spec.release;
    let tries =
        matches!(member.progress, Progress::Shadowing | Progress::Splitting | Progress::Assigned | Progress::Live);
    if let Some(entry) = failed_attempt(view, release, member).filter(|_| tries) {
        return Some(failure(state, device, member, entry, now));
    }
    let live = view.live(&release.model);
    if member.progress != Progress::Live && view.settled && live == Some(release) {
        return Some(Event::Live { device });
    }
    if member.progress == Progress::Live && view.settled && live != Some(release) {
        return Some(Event::Left { device, live: live.cloned() });
    }
    let in_own = member.late && member.progress == Progress::Shadowing && member.in_shadow.is_none();
    if in_own && view.settled && is_in(view, release, &DevicePhase::Shadowing) {
        return Some(Event::InShadow { device });
    }
    let reachable = seen.reachable(state, view, now);
    match (reachable, member.silence) {
        (false, None) if tries => {
            let accepted = view.settled || member.progress == Progress::Live;
            return Some(Event::Silent { device, last_seen: view.last_seen, accepted });
        }
        (true, Some(Silence { since, .. })) if view.last_seen.is_some_and(|seen| seen > since) => {
            return Some(Event::Heard { device });
        }
        _ => {}
    }
    let waited = seen.waited(member.since, now);
    if member.in_flight() && waited > state.spec.strategy.device_timeout {
        let detail = format!("not live after {} s: {}", waited.as_secs(), doing(view, release));
        let failure = Failure { setback: Setback::TimedOut, detail, attempt: member.attempt };
        return Some(Event::Failed { device, failure, retry_at: None });
    }
    None
}

/// The entry of a device's quarantine that answers this attempt.
fn failed_attempt<'v>(view: &'v DeviceView, release: &ReleaseRef, member: &Member) -> Option<&'v Quarantined> {
    view.quarantine.iter().find(|entry| entry.release == *release && entry.attempt >= member.attempt)
}

/// FAILED before the swap is tried again, a bounded number of times; what was REJECTED, or failed in front of users,
/// is not.
fn failure(state: &State, device: DeviceId, member: &Member, entry: &Quarantined, now: Timestamp) -> Event {
    let strategy = &state.spec.strategy;
    let again = entry.kind.retriable() && !entry.kind.after_swap() && member.tries <= strategy.retries;
    let retry_at = again.then(|| now.plus(strategy.retry_delay(member.tries)));
    let failure =
        Failure { setback: Setback::Reported(entry.kind), detail: entry.detail.clone(), attempt: entry.attempt };
    Event::Failed { device, failure, retry_at }
}

/// What a device is busy with, for people.
pub(super) fn doing(view: &DeviceView, release: &ReleaseRef) -> String {
    if let Some(hold) = &view.hold {
        return format!("the box refuses changes ({hold})");
    }
    let candidate = view.model(&release.model).and_then(|report| report.candidate.as_ref());
    match candidate.filter(|(candidate, _)| candidate == release).map(|(_, phase)| phase) {
        Some(DevicePhase::Fetching { done, total }) => format!("fetching, {done} of {total} bytes"),
        Some(DevicePhase::Verifying) => "verifying".to_owned(),
        Some(DevicePhase::SelfTesting) => "self-testing".to_owned(),
        Some(DevicePhase::Swapping) => "swapping".to_owned(),
        Some(DevicePhase::Probation) => "in probation".to_owned(),
        Some(DevicePhase::Shadowing) => "in shadow".to_owned(),
        Some(DevicePhase::Splitting) => "in a split".to_owned(),
        Some(DevicePhase::Blocked(why)) => format!("blocked: {why}"),
        None if view.settled => "accepted, nothing reported yet".to_owned(),
        None => "has not accepted it yet".to_owned(),
    }
}

/// Whether the release may still be taken back by the device itself.
pub(super) fn in_probation(view: &DeviceView, release: &ReleaseRef) -> bool {
    is_in(view, release, &DevicePhase::Probation)
}

/// Whether the release is in this phase on a device, by its own word.
fn is_in(view: &DeviceView, release: &ReleaseRef, phase: &DevicePhase) -> bool {
    let candidate = view.model(&release.model).and_then(|report| report.candidate.as_ref());
    candidate.is_some_and(|(candidate, is)| candidate == release && is == phase)
}

/// Devices that match now and did not when the order was drawn. Each enters the wave of its place in the order, or a
/// later one when that is full; never an earlier one.
pub(super) fn joiners(state: &State, seen: &Observation<'_>) -> Vec<Event> {
    let open = match state.stage {
        // One that is to begin later.
        Stage::Draft => state.signed.is_some(),
        Stage::AwaitingApproval { .. } | Stage::Running { .. } | Stage::Completed => true,
        _ => false,
    };
    if !open {
        return Vec::new();
    }
    let new =
        seen.matching.iter().filter(|device| !state.members.contains_key(*device) && !seen.claimed.contains(*device));
    let mut reached: Vec<usize> = (0..state.waves.len()).map(|wave| reached_by(state, wave)).collect();
    let mut total = state.members.len();
    let mut events = Vec::new();
    for device in new {
        let Some(view) = seen.devices.get(device) else { continue };
        let seat = Seat { device: device.clone(), stratum: state.spec.strategy.stratum(view) };
        // Behind the last of the order is still among those that its wave reaches.
        let place = late_place(&state.seed, &state.order, &seat).min(state.order.len().saturating_sub(1));
        let group = group_of(state, view);
        let first = group.map_or(state.wave_of(place), |group| state.wave_of(place).min(group));
        total += 1;
        let has_room = |wave: &usize| {
            let last_soaked = *wave + 1 == state.soaked_waves;
            let Some(ResolvedWave { size, selector, .. }) = state.waves.get(*wave) else { return false };
            let size_has_room = selector.is_none() && reached.get(*wave).is_some_and(|r| *r < size.ceil(total));
            last_soaked || state.is_holdout(*wave) || group == Some(*wave) || size_has_room
        };
        let wave = (first..state.waves.len()).find(has_room);
        reached.iter_mut().skip(wave.unwrap_or(state.waves.len())).for_each(|reached| *reached += 1);
        events.push(Event::Joined { seat, wave });
    }
    events
}

/// Index of the wave that is for the group a device belongs to.
fn group_of(state: &State, view: &DeviceView) -> Option<usize> {
    let mut groups = state.spec.strategy.waves.groups();
    let (number, _) = groups.find(|(_, selector)| selector.matches(view.subject()))?;
    state.waves.iter().position(|wave| wave.asked == number)
}

/// Members of a wave and those before it.
fn reached_by(state: &State, wave: usize) -> usize {
    state.members.values().filter(|member| member.wave <= wave).count()
}

/// What a device returns to if this goes wrong: what it is told to run, unless that failed on it or was to stand beside
/// what answers; else what it runs.
pub(super) fn previous_of(view: &DeviceView, release: &ReleaseRef) -> Option<AssignTo> {
    let told = view.desired.get(&release.model).filter(|told| told.release != *release);
    let failed = |release: &ReleaseRef| view.quarantine.iter().any(|entry| entry.release == *release);
    if let Some(told) = told.filter(|told| told.beside.is_none() && !failed(&told.release)) {
        return Some(told.clone());
    }
    let report = view.model(&release.model)?;
    let runs = report.live.as_ref().filter(|live| *live != release).or(report.previous.as_ref());
    let back = runs.filter(|runs| *runs != release)?;
    let attempt = tried(view, back) + 1;
    Some(AssignTo { release: back.clone(), rollout: None, attempt, probation_s: 0, beside: None })
}

/// The highest attempt at which a release failed on a device.
fn tried(view: &DeviceView, release: &ReleaseRef) -> u32 {
    view.quarantine.iter().filter(|entry| entry.release == *release).map(|entry| entry.attempt).max().unwrap_or(0)
}

/// The number of a device's next attempt: above each that it knows.
pub(super) fn next_attempt(view: &DeviceView, release: &ReleaseRef, member: &Member) -> u32 {
    let told = view.desired.get(&release.model).filter(|told| told.release == *release).map_or(0, |told| told.attempt);
    tried(view, release).max(told).max(member.attempt).saturating_add(1)
}

/// What a failure says about the release's health, if anything.
pub(super) fn reported(member: &Member) -> Option<FailureKind> {
    match member.failure.as_ref()?.setback {
        Setback::Reported(kind) => Some(kind),
        Setback::TimedOut => None,
    }
}
