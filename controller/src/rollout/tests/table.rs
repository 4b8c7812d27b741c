//! The whole table of the machine: every state x every event. Whatever the event, the fold goes on; what makes no
//! sense changes nothing; and what has ended stays ended, unless somebody takes it back.

use crate::rollout::events::tests::every_event;
use crate::rollout::events::{Ending, Event, Record};
use crate::rollout::machine::{AbortMode, Effect, Phase, Stage, State, fold, step};
use fieldpost_shared::time::Timestamp;
use proptest::prelude::*;

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn draft() -> State {
    fold(&[Record { sequence: 1, at: AT, event: every_event().remove(0) }]).unwrap()
}

fn every_stage() -> Vec<Stage> {
    let reason = || "why".to_owned();
    vec![
        Stage::Draft,
        Stage::AwaitingApproval { wave: 0 },
        Stage::Running { wave: 0, phase: Phase::Shadowing { since: AT } },
        Stage::Running { wave: 0, phase: Phase::Splitting { since: AT } },
        Stage::Running { wave: 0, phase: Phase::Deploying { since: AT } },
        Stage::Running { wave: 0, phase: Phase::Soaking { since: AT } },
        Stage::Running { wave: 0, phase: Phase::Passed },
        Stage::Paused { wave: 0, reason: reason(), breached: false },
        Stage::RollingBack { reason: reason(), ending: Ending::RolledBack },
        Stage::RollingBack { reason: reason(), ending: Ending::Aborted },
        Stage::RolledBack { reason: reason() },
        Stage::Aborted { mode: AbortMode::Keep, reason: reason() },
        Stage::Aborted { mode: AbortMode::Revert, reason: reason() },
        Stage::Completed,
    ]
}

/// The stage that follows, by name; the same when the event changes none.
fn next(stage: &Stage, event: &Event) -> &'static str {
    let from = stage.name();
    match (event, from) {
        (Event::ApprovalAsked { .. }, "draft" | "passed") => "awaiting-approval",
        (Event::WaveStarted { .. }, "draft" | "awaiting-approval" | "passed") => "deploying",
        (Event::SoakStarted { .. }, "splitting" | "deploying") => "soaking",
        (Event::ShadowPassed { .. }, "shadowing") => "deploying",
        (Event::WavePassed { .. }, "shadowing" | "splitting" | "deploying" | "soaking" | "passed") => "passed",
        (Event::Paused { .. }, "shadowing" | "splitting" | "deploying" | "soaking" | "passed") => "paused",
        (Event::Resumed { .. }, "paused") => "deploying",
        (Event::RollbackStarted { .. }, "rolling-back" | "rolled-back" | "aborted-reverted") => from,
        (Event::RollbackStarted { .. }, _) => "rolling-back",
        (Event::AbortedKeeping { .. }, "completed" | "rolled-back" | "aborted-kept" | "aborted-reverted") => from,
        (Event::AbortedKeeping { .. }, _) => "aborted-kept",
        (Event::RolledBack { .. }, "rolling-back") => match stage {
            Stage::RollingBack { ending: Ending::Aborted, .. } => "aborted-reverted",
            _ => "rolled-back",
        },
        (Event::Completed { .. }, "passed") => "completed",
        _ => from,
    }
}

#[test]
fn every_event_in_every_state_leads_where_the_diagram_says() {
    for stage in every_stage() {
        for event in every_event() {
            let mut state = draft();
            state.stage = stage.clone();
            let (after, _) = step(state, &event, AT);
            assert_eq!(after.stage.name(), next(&stage, &event), "{event:?} in {stage}");
            assert_eq!(after.sequence, 2);
        }
    }
}

#[test]
fn a_device_is_told_something_by_few_events_alone() {
    for stage in every_stage() {
        for event in every_event() {
            let mut state = draft();
            state.stage = stage.clone();
            let (assigned, _) = step(state.clone(), &every_event()[6], AT);
            for from in [state, assigned] {
                let (_, effects) = step(from, &event, AT);
                let tells =
                    matches!(event, Event::Assigned { .. } | Event::Shadowed { .. } | Event::RevertAsked { .. });
                assert!(tells || effects.is_empty(), "{event:?}: {effects:?}");
            }
        }
    }
}

#[test]
fn an_ended_rollout_assigns_nobody_but_who_was_never_told_by_a_completed_one() {
    for stage in every_stage().into_iter().filter(|stage| !stage.active()) {
        let mut state = draft();
        state.stage = stage.clone();
        let (told, effects) = step(state, &every_event()[6], AT);
        assert_eq!(effects.len(), usize::from(stage == Stage::Completed), "{stage}");
        let again = step(told, &every_event()[6], AT).1;
        assert_eq!(again.len(), effects.len(), "one that came late may be told again");
    }
}

#[test]
fn a_device_returns_to_what_was_recorded_when_it_was_first_told() {
    let mut state = draft();
    state.stage = Stage::Running { wave: 0, phase: Phase::Deploying { since: AT } };
    let first = every_event().remove(6);
    let Event::Assigned { device, previous, .. } = first.clone() else { unreachable!() };
    let (state, _) = step(state, &first, AT);
    let again = Event::Assigned { device: device.clone(), attempt: 2, previous: None, reachable: true };
    let (state, _) = step(state, &again, AT);
    let (_, effects) = step(state, &Event::RevertAsked { device: device.clone(), under: None }, AT);
    let [Effect::Assign { to: Some(to), .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((&to.release, to.probation_s), (&previous.unwrap().release, 0));
}

proptest! {
    /// Whatever is stored, in whatever order: the fold never panics, and folding twice is the same.
    #[test]
    fn the_fold_is_total_and_deterministic(picks in proptest::collection::vec(0_usize..34, 0..40)) {
        let all = every_event();
        prop_assume!(picks.iter().all(|pick| *pick < all.len()));
        let events = std::iter::once(0).chain(picks).map(|pick| all[pick].clone());
        let records: Vec<Record> =
            events.enumerate().map(|(i, event)| Record { sequence: i as u64 + 1, at: AT, event }).collect();
        let once = fold(&records).unwrap();
        prop_assert_eq!(&once, &fold(&records).unwrap());
        prop_assert_eq!(once.sequence, records.len() as u64);
    }
}
