//! Taking back what is not the newest: rollouts that ended, with others after them.

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::core::CoreError;
use crate::rollout::events::Event;
use crate::rollout::machine::Command;
use fieldpost_shared::error_chain::Chain;

fn rollback() -> Command {
    Command::Rollback { reason: "users complain".into() }
}

#[test]
fn a_release_that_a_later_rollback_brought_back_can_be_taken_back_too() {
    let mut rig = Rig::new(3);
    let first = rig.start("1.1.0", "3");
    rig.until(&first, "completed");
    rig.release("1.2.0", Behaviour::OneClass);
    let second = rig.start("1.2.0", "3");
    rig.until(&second, "rolled-back");
    rig.run(3);
    assert_eq!(rig.running("1.1.0").len(), 3);
    rig.command(&first, &rollback());
    rig.until(&first, "rolled-back");
    rig.run(3);
    assert_eq!(rig.running("1.0.0").len(), 3, "{:#?}", rig.core.explain(&first).unwrap().headline);
}

#[test]
fn a_device_that_is_away_then_goes_back_later_and_after_a_restart() {
    let mut rig = Rig::new(3);
    let first = rig.start("1.1.0", "3");
    rig.until(&first, "completed");
    rig.release("1.2.0", Behaviour::OneClass);
    let second = rig.start("1.2.0", "3");
    rig.until(&second, "rolled-back");
    rig.run(3);
    rig.fleet.world().untellable = Some("box-1".parse().unwrap());
    rig.command(&first, &rollback());
    rig.until(&first, "rolled-back");
    rig.fleet.world().untellable = None;
    rig.restart();
    rig.run(5);
    assert_eq!(rig.running("1.0.0").len(), 3);
}

#[test]
fn a_rollback_says_how_many_it_left_alone() {
    let mut rig = Rig::new(4);
    let first = rig.start("1.1.0", "4");
    rig.until(&first, "completed");
    rig.release("1.2.0", Behaviour::Good);
    let second = rig.start("1.2.0", "4");
    rig.until(&second, "completed");
    rig.command(&first, &rollback());
    rig.until(&first, "rolled-back");
    assert_eq!(rig.running("1.2.0").len(), 4);
    assert_eq!(rig.count(&first, |e| matches!(e, Event::RolledBack { left_alone: 4, .. })), 1);
    let told = rig.core.explain(&first).unwrap();
    assert!(told.headline.contains("4 devices left alone"), "{}", told.headline);
    assert!(told.events.last().unwrap().sentence.contains("4 devices left alone"));
}

#[test]
fn an_ended_rollout_is_not_taken_back_on_devices_that_another_one_changes() {
    let mut rig = Rig::new(3);
    let first = rig.start("1.1.0", "3");
    rig.until(&first, "completed");
    rig.release("1.2.0", Behaviour::Good);
    let second = rig.start("1.2.0", "1,3");
    rig.until(&second, "soaking");
    let error = rig.core.command(&first, &rollback(), "bob").unwrap_err();
    assert!(matches!(error, CoreError::Contested { .. }), "{error:?}");
    assert!(Chain(&error).to_string().contains(second.as_str()), "{}", Chain(&error));
    rig.until(&second, "completed");
    assert_eq!(rig.running("1.2.0").len(), 3);
}

#[test]
fn two_rollouts_never_tell_one_device_in_turns() {
    let mut rig = Rig::new(3);
    let first = rig.start("1.1.0", "3");
    rig.until(&first, "soaking");
    rig.fleet.edit("box-1", |device| device.online = false);
    rig.command(&first, &rollback());
    rig.run(2);
    // Somebody else's word while the rollout still takes devices back.
    let newer = rig.fleet.add_release("1.3.0", Behaviour::Good);
    rig.fleet.edit("box-1", |device| {
        let rollout = Some("r-other".parse().unwrap());
        device.desired =
            Some(crate::rollout::fleet::AssignTo { release: newer, rollout, attempt: 1, probation_s: 0, beside: None });
        device.desired_sequence += 1;
        device.assigned.clear();
    });
    rig.until(&first, "rolled-back");
    assert!(rig.fleet.world().devices[&"box-1".parse().unwrap()].assigned.is_empty());
}

#[test]
fn a_release_that_is_rolled_out_again_is_not_taken_back_by_the_rollout_before() {
    let mut rig = Rig::new(2);
    let first = rig.start("1.1.0", "2");
    rig.until(&first, "soaking");
    rig.fleet.edit("box-0", |device| device.online = false);
    rig.command(&first, &rollback());
    rig.until(&first, "rolled-back");
    let again = rig.start("1.1.0", "2");
    rig.run(5);
    rig.restart();
    rig.run(5);
    let told = rig.fleet.world().devices[&"box-0".parse().unwrap()].desired.clone().unwrap();
    assert_eq!(told.rollout, Some(again));
    assert_eq!(rig.count(&first, |e| matches!(e, Event::Superseded { .. })), 1);
}

#[test]
fn a_canary_that_leaves_the_fleet_is_no_evidence() {
    for stage in ["deploying", "soaking"] {
        let mut rig = Rig::new(4);
        let id = rig.start("1.1.0", "1,4");
        rig.until(&id, stage);
        let first = rig.nth(&id, 0);
        rig.fleet.world().devices.remove(&first.parse().unwrap());
        rig.until(&id, "paused");
        assert!(rig.reason(&id).contains("nobody of it is left"), "{}", rig.reason(&id));
        assert_eq!(rig.running("1.1.0").len(), 0);
        rig.command(&id, &Command::Resume { accept: false });
        rig.until(&id, "paused");
        rig.command(&id, &Command::Resume { accept: true });
        rig.until(&id, "completed");
        assert_eq!(rig.running("1.1.0").len(), 3, "a person's word is enough");
    }
}

#[test]
fn an_approval_of_a_wave_that_is_left_out_is_asked_before_the_next_one() {
    let mut rig = Rig::new(20);
    let mut strategy = quick("1%,5%,25%,100%");
    strategy.approve_before = Some(vec![2.into()]);
    let id = rig.start_with("1.1.0", strategy);
    assert_eq!(rig.state(&id).waves.iter().map(|wave| wave.asked).collect::<Vec<_>>(), [1, 3, 4]);
    rig.until(&id, "awaiting-approval");
    rig.run(30);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len()), ("awaiting-approval", 1));
    rig.command(&id, &Command::Approve);
    rig.until(&id, "completed");
}
