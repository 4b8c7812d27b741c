//! What holds at every moment, whatever happens.

use super::super::fake::Rig;
use crate::rollout::events::{Event, Record};
use crate::rollout::gates::Verdict;
use crate::rollout::machine::{Member, Progress, State, fold, step};
use fieldpost_shared::id::{DeviceId, RolloutId};
use std::collections::BTreeMap;

/// Looks at a rig after each second.
pub(super) struct Watch {
    /// The rollout that the commands are for.
    pub(super) first: RolloutId,
    /// Events of each rollout that were there before.
    seen: BTreeMap<RolloutId, u64>,
}

impl Watch {
    pub(super) fn new(first: &RolloutId) -> Self {
        Self { first: first.clone(), seen: BTreeMap::new() }
    }

    pub(super) fn check(&mut self, rig: &Rig) {
        let all: Vec<RolloutId> = rig.core.list().into_iter().map(|summary| summary.id).collect();
        for id in &all {
            let (state, records) = (rig.state(id), rig.events(id));
            assert_eq!(&fold(&records).unwrap(), state, "the state is the fold of what is stored");
            let before = self.seen.insert(id.clone(), state.sequence).unwrap_or(0);
            if before == state.sequence {
                continue;
            }
            told(rig, id, &records);
            in_turn(state, &records);
            concurrent(&records, before);
            records.iter().filter(|record| record.sequence > before).for_each(|record| passed(rig, state, record));
        }
        one_owner(rig, &all);
    }
}

/// Every event is explained.
fn told(rig: &Rig, id: &RolloutId, records: &[Record]) {
    let explained = rig.core.explain(id).unwrap();
    assert_eq!(explained.events.len(), records.len());
    assert!(explained.events.iter().all(|told| !told.sentence.is_empty()), "{:#?}", explained.events);
    assert!(!explained.headline.is_empty());
}

/// No device is ahead of its wave.
fn in_turn(state: &State, records: &[Record]) {
    let started = records.iter().filter_map(|record| match record.event {
        Event::WaveStarted { wave } => Some(wave),
        _ => None,
    });
    let started = started.max();
    for (device, member) in state.members.iter().filter(|(_, member)| member.assigned.is_some()) {
        assert!(Some(member.wave) <= started, "{device} is ahead of its wave: {member:?}");
    }
}

/// Nobody is told to change while as many change as may.
fn concurrent(records: &[Record], before: u64) {
    let mut state: Option<State> = None;
    for record in records {
        if let (Some(state), Event::Assigned { device, .. } | Event::SwapAsked { device, .. }) = (&state, &record.event)
            && record.sequence > before
        {
            let changing = state.members.values().filter(|member| member.in_flight()).count();
            let most = state.spec.strategy.max_concurrent;
            assert!(most == 0 || changing < most, "{device} is told while {changing} change");
        }
        state = Some(match state {
            None => fold([record]).unwrap(),
            Some(state) => step(state, &record.event, record.at).0,
        });
    }
}

/// A wave passes on what its devices showed, or on a person's word.
fn passed(rig: &Rig, state: &State, record: &Record) {
    let Event::WavePassed { evidence, wave } = &record.event else { return };
    let of_wave = || state.members.iter().filter(|(_, member)| member.wave == *wave);
    let accepted = of_wave().any(|(_, member)| member.accepted);
    let sound = |verdict| matches!(verdict, Verdict::Pass | Verdict::Unbounded);
    let shown = !evidence.is_empty() && evidence.iter().all(|report| sound(report.verdict));
    assert!(shown || accepted, "wave {wave}: {evidence:#?}");
    let world = rig.fleet.world();
    let stands = |member: &Member| member.counts() && member.progress == Progress::Live && member.silence.is_none();
    for (device, member) in of_wave().filter(|(_, member)| stands(member)) {
        let seen = world.devices.get(device).and_then(|found| found.last_seen);
        // `since` is when it became live: whoever has said nothing since then has shown nothing.
        assert!(seen >= Some(member.since), "wave {wave} passed on the silence of {device}: {seen:?} {member:?}");
    }
}

/// No two rollouts that go on have hold of one device.
fn one_owner(rig: &Rig, all: &[RolloutId]) {
    let mut owners: BTreeMap<&DeviceId, &RolloutId> = BTreeMap::new();
    for id in all {
        let state = rig.state(id);
        if !state.stage.active() {
            continue;
        }
        let holds =
            |member: &Member| member.touched && !matches!(member.progress, Progress::Gone | Progress::Superseded);
        for (device, _) in state.members.iter().filter(|(_, member)| holds(member)) {
            let other = owners.insert(device, id);
            assert_eq!(other, None, "{device} is held by {id} too");
        }
    }
}
