//! Devices that come to the fleet after a rollout has completed.

use super::fake::{Behaviour, Rig, device, model, quick};
use crate::rollout::core::CoreError;
use crate::rollout::events::Event;
use crate::rollout::fleet::Fleet as _;
use crate::rollout::machine::{Command, Progress};
use crate::rollout::start::StartError;
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::wire::v1::FailureKind;

/// A fleet of three on which 1.1.0 has completed, and a new box.
fn completed() -> (Rig, RolloutId) {
    let mut rig = Rig::new(3);
    let id = rig.start("1.1.0", "1,3");
    rig.until(&id, "completed");
    rig.fleet.add_device("new", None);
    (rig, id)
}

fn told_new(rig: &Rig, id: &RolloutId) -> usize {
    rig.count(id, |event| matches!(event, Event::Assigned { device, .. } if device.as_str() == "new"))
}

#[test]
fn a_new_box_gets_what_its_neighbours_have() {
    let (mut rig, id) = completed();
    rig.run(30);
    assert!(rig.running("1.1.0").contains(&"new".to_owned()));
    let member = &rig.state(&id).members[&device("new")];
    assert_eq!((member.progress, member.late, rig.stage(&id)), (Progress::Live, true, "completed"));
    let sequence = rig.state(&id).sequence;
    rig.restart();
    rig.run(60);
    assert_eq!((told_new(&rig, &id), rig.state(&id).sequence), (1, sequence), "and then nothing more happens");
}

#[test]
fn a_controller_that_died_before_it_told_a_new_box_tells_it() {
    let (mut rig, id) = completed();
    rig.fleet.world().untellable = Some(device("new"));
    rig.run(30);
    assert_eq!((told_new(&rig, &id), rig.running("1.1.0").len()), (1, 3));
    rig.fleet.world().untellable = None;
    rig.restart();
    rig.run(30);
    assert_eq!((told_new(&rig, &id), rig.running("1.1.0").len()), (1, 4));
}

#[test]
fn the_newest_completed_rollout_gives_a_new_box_its_release() {
    let mut rig = Rig::new(3);
    rig.release("1.2.0", Behaviour::Good);
    let older = rig.start("1.1.0", "1,3");
    rig.until(&older, "completed");
    let newer = rig.start("1.2.0", "1,3");
    rig.until(&newer, "completed");
    rig.fleet.add_device("new", None);
    rig.run(40);
    assert_eq!((told_new(&rig, &older), told_new(&rig, &newer)), (0, 1));
    assert!(rig.running("1.2.0").contains(&"new".to_owned()));
}

#[test]
fn what_was_taken_back_or_revoked_goes_to_nobody_new() {
    let (mut rig, id) = completed();
    rig.command(&id, &Command::Rollback { reason: "x".into() });
    rig.run(60);
    assert_eq!((told_new(&rig, &id), rig.stage(&id)), (0, "rolled-back"));

    let (mut rig, id) = completed();
    rig.fleet.world().releases.get_mut(&"1.1.0".parse().unwrap()).unwrap().0.revoked = true;
    rig.run(60);
    assert_eq!(told_new(&rig, &id), 0);
    let Err(CoreError::Start(error)) = rig.try_start("1.1.0", quick("4")) else { panic!("it began") };
    assert!(matches!(error, StartError::Revoked(_)) && error.hint().unwrap().contains("push a new version"));
}

#[test]
fn a_box_that_does_not_match_or_fit_is_left_alone() {
    let mut rig = Rig::new(3);
    rig.fleet.edit_manifest("1.1.0", |manifest| manifest.requirements.arch = vec!["x86_64".into()]);
    let id = rig.start("1.1.0", "1,3");
    rig.until(&id, "completed");
    rig.fleet.add_device("new", None);
    rig.fleet.edit("new", |device| device.inventory.arch = "riscv64".into());
    rig.run(30);
    assert_eq!(told_new(&rig, &id), 0);
}

#[test]
fn a_release_that_fails_on_a_new_box_is_told_and_taken_back_with_the_others() {
    let (mut rig, id) = completed();
    rig.fleet.world().releases.get_mut(&"1.1.0".parse().unwrap()).unwrap().1 = Behaviour::Fails(FailureKind::SelfTest);
    rig.run(120);
    let member = &rig.state(&id).members[&device("new")];
    assert!(matches!(member.progress, Progress::Failed), "{:?}", member.progress);
    assert_eq!(rig.stage(&id), "completed", "one box that fails does not undo what the others have shown");
    rig.command(&id, &Command::Rollback { reason: "x".into() });
    rig.until(&id, "rolled-back");
    let views = rig.fleet.devices().unwrap();
    let new = &views[&"new".parse().unwrap()];
    assert!(!new.desired.contains_key(&model()), "{:?}", new.desired);
}
