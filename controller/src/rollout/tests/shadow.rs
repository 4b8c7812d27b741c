//! Rollouts whose waves begin in shadow.

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::events::Event;
use crate::rollout::machine::Command;
use crate::rollout::strategy::StrategyFile;
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::wire::v1::FailureKind;
use std::time::Duration;

fn shadowed(waves: &str) -> StrategyFile {
    StrategyFile { shadow: Some(Duration::from_secs(5)), ..quick(waves) }
}

/// Boxes on 1.0.0 that understand, and 1.1.0 whose bundle allows 5 % disagreement.
fn rig(count: usize, behaviour: Behaviour) -> Rig {
    let rig = Rig::new(count);
    rig.release("1.1.0", behaviour);
    rig.fleet.edit_manifest("1.1.0", |manifest| manifest.budgets.max_disagreement = Some(0.05));
    for device in rig.fleet.world().devices.values_mut() {
        device.inventory.agent_version = "0.1.0+beside".into();
    }
    rig
}

fn was_live(rig: &Rig, id: &RolloutId) -> usize {
    rig.count(id, |event| matches!(event, Event::Live { .. }))
}

#[test]
fn a_good_release_is_in_shadow_before_each_wave_and_then_completes() {
    let mut rig = rig(4, Behaviour::Good);
    let id = rig.start_with("1.1.0", shadowed("1,4"));
    rig.until(&id, "shadowing");
    rig.run(4);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len()), ("shadowing", 0));
    rig.until(&id, "completed");
    assert_eq!(rig.running("1.1.0").len(), 4);
    assert_eq!(rig.count(&id, |event| matches!(event, Event::Shadowed { .. })), 4);
    assert_eq!(rig.count(&id, |event| matches!(event, Event::ShadowPassed { .. })), 2);
}

#[test]
fn only_the_first_waves_are_in_shadow_where_that_is_asked_for() {
    let mut rig = rig(4, Behaviour::Good);
    let id = rig.start_with("1.1.0", StrategyFile { shadow_waves: Some(1), ..shadowed("1,4") });
    rig.until(&id, "completed");
    assert_eq!(rig.count(&id, |event| matches!(event, Event::Shadowed { .. })), 1);
}

#[test]
fn a_release_that_disagrees_goes_back_before_anybody_was_answered() {
    let mut rig = rig(4, Behaviour::Disagrees);
    let id = rig.start_with("1.1.0", shadowed("2,4"));
    rig.until(&id, "rolled-back");
    assert!(rig.reason(&id).contains("answers in shadow differ"), "{}", rig.reason(&id));
    assert_eq!((was_live(&rig, &id), rig.running("1.0.0").len()), (0, 4));
}

#[test]
fn a_release_that_devices_quarantine_in_shadow_goes_back() {
    let mut rig = rig(4, Behaviour::Fails(FailureKind::Disagreement));
    let id = rig.start_with("1.1.0", shadowed("1,4"));
    rig.until(&id, "rolled-back");
    assert_eq!((was_live(&rig, &id), rig.running("1.0.0").len()), (0, 4));
}

#[test]
fn devices_without_requests_hold_the_wave_until_it_pauses() {
    let mut rig = rig(2, Behaviour::Good);
    rig.fleet.world().devices.values_mut().for_each(|device| device.traffic = 0);
    let id = rig.start_with("1.1.0", shadowed("1,2"));
    rig.until(&id, "paused");
    assert!(rig.reason(&id).contains("inconclusive"), "{}", rig.reason(&id));
    assert_eq!(rig.running("1.1.0").len(), 0);
    rig.fleet.world().devices.values_mut().for_each(|device| device.traffic = 20);
    rig.command(&id, &Command::Resume { accept: false });
    rig.until(&id, "completed");
}

#[test]
fn agents_that_do_not_understand_are_not_swapped_unseen() {
    let mut rig = rig(2, Behaviour::Good);
    rig.fleet.world().devices.values_mut().for_each(|device| device.inventory.agent_version = "0.1.0".into());
    let id = rig.start_with("1.1.0", shadowed("1,2"));
    rig.until(&id, "paused");
    assert!(rig.reason(&id).contains("an agent that understands"), "{}", rig.reason(&id));
    assert_eq!(rig.running("1.1.0").len(), 0);
}

#[test]
fn a_controller_that_restarts_in_a_shadow_goes_on() {
    let mut rig = rig(2, Behaviour::Good);
    let id = rig.start_with("1.1.0", shadowed("2"));
    rig.until(&id, "shadowing");
    rig.run(2);
    rig.restart();
    assert_eq!(rig.stage(&id), "shadowing");
    rig.until(&id, "completed");
}

#[test]
fn a_person_takes_a_shadow_back() {
    let mut rig = rig(2, Behaviour::Good);
    let id = rig.start_with("1.1.0", StrategyFile { shadow: Some(Duration::from_secs(60)), ..quick("2") });
    rig.until(&id, "shadowing");
    rig.run(3);
    rig.command(&id, &Command::Rollback { reason: "no".into() });
    rig.until(&id, "rolled-back");
    let beside = rig.fleet.world().devices.values().filter(|d| d.desired.iter().any(|to| to.beside.is_some())).count();
    assert_eq!((rig.running("1.0.0").len(), beside), (2, 0));
}
