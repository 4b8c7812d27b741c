//! Devices that joined after their wave's shadow, and are still in their own when the rollout has completed.

use super::fake::{Behaviour, FakeDevice, Rig, device, quick};
use crate::rollout::events::Event;
use crate::rollout::machine::{AbortMode, Command, Progress};
use crate::rollout::strategy::StrategyFile;
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::time::Clock as _;
use fieldpost_shared::wire::v1::FailureKind;
use std::time::Duration;

/// Two boxes on which 1.1.0 has completed after twenty seconds in shadow, and `late`, which joined while they soaked.
fn completed() -> (Rig, RolloutId) {
    completed_with(|_| {})
}

/// The same, with something about `late` when it joins.
fn completed_with(edit: impl FnOnce(&mut FakeDevice)) -> (Rig, RolloutId) {
    let mut rig = Rig::new(2);
    rig.fleet.edit_manifest("1.1.0", |manifest| manifest.budgets.max_disagreement = Some(0.05));
    rig.fleet.understand();
    let (shadow, selector) = (Some(Duration::from_secs(20)), Some("tier!=lab".to_owned()));
    let strategy = StrategyFile { shadow, selector, ..quick("2") };
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "soaking");
    let old = rig.fleet.world().releases[&"1.0.0".parse().unwrap()].0.release.clone();
    rig.fleet.add_device("late", Some(&old));
    rig.fleet.understand();
    rig.fleet.edit("late", edit);
    rig.until(&id, "completed");
    assert_eq!(progress(&rig, &id), Progress::Shadowing);
    (rig, id)
}

fn progress(rig: &Rig, id: &RolloutId) -> Progress {
    rig.state(id).members[&device("late")].progress
}

/// What `late` was told so far: versions, with `+` where they are to stand beside the live one.
fn told(rig: &Rig) -> Vec<String> {
    let text = |to: &crate::rollout::fleet::AssignTo| {
        format!("{}{}", to.release.version, if to.beside.is_some() { "+" } else { "" })
    };
    let world = rig.fleet.world();
    world.devices[&device("late")].assigned.iter().map(|to| to.as_ref().map_or_else(String::new, text)).collect()
}

#[test]
fn a_device_that_a_newer_rollout_took_out_of_its_shadow_is_left_to_it() {
    let (mut rig, id) = completed();
    rig.release("1.2.0", Behaviour::Good);
    let newer = rig.start("1.2.0", "3");
    rig.until(&newer, "soaking");
    rig.run(60);
    assert_eq!((progress(&rig, &id), rig.stage(&newer)), (Progress::Superseded, "completed"));
    assert_eq!((told(&rig), rig.running("1.2.0").len()), (vec!["1.1.0+".into(), "1.2.0".into()], 3));
    rig.command(&newer, &Command::Rollback { reason: "x".into() });
    rig.until(&newer, "rolled-back");
    rig.restart();
    rig.run(60);
    assert!(rig.count(&id, |event| matches!(event, Event::SwapAsked { device, .. } if device.as_str() == "late")) == 0);
}

#[test]
fn a_device_that_waits_in_a_newer_rollout_does_not_leave_its_shadow_for_an_older_one() {
    let (mut rig, id) = completed();
    rig.release("1.2.0", Behaviour::Good);
    let newer = rig.start_with("1.2.0", StrategyFile { approve_before: Some(vec![1.into()]), ..quick("3") });
    rig.run(60);
    assert_eq!((rig.stage(&newer), progress(&rig, &id)), ("awaiting-approval", Progress::Shadowing));
    rig.command(&newer, &Command::Abort { mode: AbortMode::Keep, reason: "x".into() });
    rig.run(30);
    assert_eq!((told(&rig), progress(&rig, &id)), (vec!["1.1.0+".into(), "1.1.0".into()], Progress::Live));
}

#[test]
fn two_rollouts_do_not_tell_a_device_in_turns() {
    let (mut rig, id) = completed();
    rig.release("1.2.0", Behaviour::Good);
    // It is told to swap, does not hear it, and is taken by the newer one.
    rig.fleet.edit("late", |device| device.deaf = true);
    while progress(&rig, &id) != Progress::Assigned {
        rig.second();
    }
    let newer = rig.start_with("1.2.0", StrategyFile { device_timeout: Some(Duration::from_secs(90)), ..quick("3") });
    rig.run(60);
    assert_eq!(told(&rig), ["1.1.0+", "1.1.0", "1.2.0"]);
    assert_eq!(progress(&rig, &id), Progress::Superseded);
    rig.fleet.edit("late", |device| device.deaf = false);
    rig.until(&newer, "completed");
    assert_eq!(rig.running("1.2.0").len(), 3);
}

#[test]
fn a_device_does_not_return_to_what_it_ran_in_shadow_alone() {
    let (mut rig, _) = completed();
    rig.release("1.2.0", Behaviour::OneClass);
    let newer = rig.start("1.2.0", "3");
    rig.until(&newer, "rolled-back");
    rig.run(30);
    assert_eq!((rig.running("1.1.0").len(), rig.running("1.0.0")), (2, vec!["late".to_owned()]));
}

#[test]
fn a_controller_that_died_before_it_told_a_device_to_try_the_shadow_again_tells_it() {
    let (mut rig, id) = completed();
    let becomes = |rig: &Rig, behaviour| {
        rig.fleet.world().releases.get_mut(&"1.1.0".parse().unwrap()).unwrap().1 = behaviour;
    };
    becomes(&rig, Behaviour::Fails(FailureKind::Fetch));
    while !matches!(progress(&rig, &id), Progress::Retrying { .. }) {
        rig.second();
    }
    becomes(&rig, Behaviour::Good);
    rig.fleet.world().untellable = Some(device("late"));
    while progress(&rig, &id) != Progress::Shadowing {
        rig.second();
    }
    assert_eq!(told(&rig), ["1.1.0+"]);
    rig.fleet.world().untellable = None;
    rig.restart();
    rig.run(60);
    assert_eq!(
        (told(&rig), progress(&rig, &id)),
        (["1.1.0+", "1.1.0+", "1.1.0"].map(String::from).into(), Progress::Live)
    );
}

#[test]
fn a_device_that_leaves_the_selector_leaves_its_shadow_too() {
    let (mut rig, id) = completed();
    rig.fleet.edit("late", |device| drop(device.labels.insert("tier".into(), "lab".into())));
    rig.run(60);
    assert_eq!(progress(&rig, &id), Progress::Live);
}

#[test]
fn a_shadow_of_its_own_lasts_from_when_it_is_seen_there() {
    let (mut rig, id) = completed_with(|device| device.deaf = true);
    rig.run(60);
    assert_eq!((progress(&rig, &id), told(&rig)), (Progress::Shadowing, vec!["1.1.0+".into()]));
    rig.fleet.edit("late", |device| device.deaf = false);
    rig.run(15);
    assert_eq!(progress(&rig, &id), Progress::Shadowing);
    rig.run(40);
    assert_eq!((progress(&rig, &id), told(&rig)), (Progress::Live, vec!["1.1.0+".into(), "1.1.0".into()]));
}

#[test]
fn a_clock_that_jumps_ends_no_shadow() {
    let (mut rig, id) = completed();
    rig.clock.jump_to(rig.clock.now().plus(Duration::from_secs(86_400)));
    rig.run(15);
    assert_eq!(progress(&rig, &id), Progress::Shadowing);
    rig.run(40);
    assert_eq!(progress(&rig, &id), Progress::Live);
}
