//! What people do to rollouts.

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::core::CoreError;
use crate::rollout::events::Event;
use crate::rollout::machine::{AbortMode, Command};
use crate::rollout::strategy::StrategyFile;
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::wire::v1::FailureKind;

fn pause() -> Command {
    Command::Pause { reason: "lunch".into() }
}

fn rollback() -> Command {
    Command::Rollback { reason: "users complain".into() }
}

fn abort(mode: AbortMode) -> Command {
    Command::Abort { mode, reason: "wrong fleet".into() }
}

#[test]
fn a_paused_rollout_changes_nothing_until_it_is_resumed() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "1,4");
    rig.until(&id, "soaking");
    rig.command(&id, &pause());
    rig.run(100);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len()), ("paused", 1));
    rig.command(&id, &Command::Resume { accept: false });
    rig.until(&id, "completed");
}

#[test]
fn a_controller_whose_store_went_back_in_time_asks_before_it_goes_on() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "1,4");
    rig.until(&id, "soaking");
    // One order is not in the backup.
    let first = rig.nth(&id, 0);
    rig.fleet.edit(&first, |device| device.desired_sequence -= 1);
    rig.until(&id, "paused");
    assert!(rig.reason(&id).contains(&format!("{first} had newer orders")), "{}", rig.reason(&id));
    rig.run(60);
    assert_eq!(rig.stage(&id), "paused");
    rig.command(&id, &Command::Resume { accept: false });
    rig.until(&id, "completed");
}

#[test]
fn a_device_on_hold_waits_and_what_a_person_keeps_there_stays() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "1,4");
    rig.until(&id, "soaking");
    let (first, second) = (rig.nth(&id, 0), rig.nth(&id, 1));
    rig.fleet.edit(&second, |device| device.ahead = true);
    rig.run(100);
    assert!(rig.waiting(&id).contains("orders that this controller does not know"), "{}", rig.waiting(&id));
    assert!(rig.running("1.1.0").len() == 3 && !rig.running("1.1.0").contains(&second));
    rig.command(&id, &pause());
    rig.fleet.edit(&first, |device| device.ahead = true);
    rig.core.let_go(&first.parse().unwrap()).unwrap();
    // The hold has ended, and the device is told something else.
    rig.fleet.edit(&first, |device| (device.ahead, device.desired) = (false, None));
    rig.run(20);
    assert_eq!(rig.fleet.world().devices[&first.parse().unwrap()].desired, None);
    rig.restart();
    rig.run(20);
    assert_eq!(rig.fleet.world().devices[&first.parse().unwrap()].desired, None);
}

#[test]
fn limits_stay_on_while_it_is_paused() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "2,4");
    rig.until(&id, "soaking");
    rig.command(&id, &pause());
    rig.fleet.world().releases.get_mut(&"1.1.0".parse().unwrap()).unwrap().1 = Behaviour::Errors(0.9);
    rig.until(&id, "rolled-back");
}

#[test]
fn resume_tries_failed_devices_again_and_accept_goes_on_without_them() {
    for accept in [false, true] {
        let mut rig = Rig::new(6);
        rig.release("1.2.0", Behaviour::Hangs);
        let id = rig.start("1.2.0", "1,6");
        rig.until(&id, "paused");
        rig.fleet.world().releases.get_mut(&"1.2.0".parse().unwrap()).unwrap().1 = Behaviour::Good;
        let first = rig.nth(&id, 0);
        if accept {
            rig.fleet.edit(&first, |device| device.online = false);
        }
        rig.command(&id, &Command::Resume { accept });
        rig.until(&id, "completed");
        assert_eq!(rig.running("1.2.0").len(), if accept { 5 } else { 6 });
    }
}

#[test]
fn abort_keep_leaves_live_devices_and_takes_the_others_back() {
    let mut rig = Rig::new(4);
    rig.fleet.edit("box-3", |device| device.online = false);
    let id = rig.start("1.1.0", "4");
    rig.run(5);
    assert_eq!(rig.running("1.1.0").len(), 3);
    rig.command(&id, &abort(AbortMode::Keep));
    assert_eq!(rig.stage(&id), "aborted-kept");
    rig.fleet.edit("box-3", |device| device.online = true);
    rig.run(10);
    assert_eq!((rig.running("1.1.0").len(), rig.running("1.0.0")), (3, vec!["box-3".to_owned()]));
}

#[test]
fn abort_revert_takes_every_touched_device_back() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "2,4");
    rig.until(&id, "soaking");
    rig.command(&id, &abort(AbortMode::Revert));
    rig.until(&id, "aborted-reverted");
    assert_eq!(rig.running("1.0.0").len(), 4);
}

#[test]
fn a_completed_rollout_can_be_rolled_back() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "4");
    rig.until(&id, "completed");
    rig.command(&id, &rollback());
    rig.until(&id, "rolled-back");
    assert_eq!((rig.running("1.0.0").len(), rig.reason(&id).as_str()), (4, "users complain"));
}

#[test]
fn a_rollback_leaves_devices_alone_that_another_rollout_has_since() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "4");
    rig.until(&id, "completed");
    let newer = rig.fleet.add_release("1.3.0", Behaviour::Good);
    rig.fleet.edit("box-1", |device| {
        let other = Some("r-other".parse().unwrap());
        device.desired = Some(crate::rollout::fleet::AssignTo {
            release: newer,
            rollout: other,
            attempt: 1,
            probation_s: 0,
            beside: None,
        });
        device.desired_sequence += 1;
    });
    rig.run(5);
    rig.command(&id, &rollback());
    rig.until(&id, "rolled-back");
    assert_eq!((rig.running("1.0.0").len(), rig.running("1.3.0")), (3, vec!["box-1".to_owned()]));
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Superseded { by: Some(by), .. } if by.as_str() == "r-other")), 1);
}

#[test]
fn a_revoked_device_on_its_way_back_is_waited_for_no_more() {
    let mut rig = Rig::new(3);
    let id = rig.start("1.1.0", "3");
    rig.until(&id, "completed");
    rig.fleet.edit("box-0", |device| device.online = false);
    rig.command(&id, &rollback());
    rig.until(&id, "rolled-back");
    assert!(rig.core.busy(), "box-0 may come back");
    rig.fleet.world().devices.remove(&"box-0".parse().unwrap());
    rig.run(2);
    assert!(!rig.core.busy());
}

#[test]
fn a_device_that_cannot_be_told_is_named_and_holds_nobody_else_up() {
    let mut rig = Rig::new(3);
    let id = rig.start("1.1.0", "3");
    rig.until(&id, "soaking");
    rig.fleet.world().untellable = Some("box-1".parse().unwrap());
    rig.command(&id, &rollback());
    rig.run(3);
    assert_eq!(rig.running("1.0.0").len(), 2);
    let waiting = rig.core.explain(&id).unwrap().waiting.join(" ");
    assert!(waiting.contains("box-1 could not be told"), "{waiting}");
    rig.fleet.world().untellable = None;
    rig.until(&id, "rolled-back");
    assert_eq!(rig.running("1.0.0").len(), 3);
}

#[test]
fn commands_that_make_no_sense_are_refused_and_change_nothing() {
    let mut rig = Rig::new(2);
    let id = rig.start("1.1.0", "2");
    rig.until(&id, "completed");
    for command in [pause(), Command::Resume { accept: true }, Command::Approve, abort(AbortMode::Keep)] {
        let error = rig.core.command(&id, &command, "bob").unwrap_err();
        let CoreError::Refused(refusal) = &error else { panic!("{error:?}") };
        assert!(refusal.to_string().ends_with("it is completed") && !refusal.hint().is_empty());
    }
    rig.command(&id, &rollback());
    rig.until(&id, "rolled-back");
    assert!(rig.core.command(&id, &rollback(), "bob").is_err());
}

#[test]
fn a_broken_limit_pauses_where_the_strategy_says_so() {
    let mut rig = Rig::new(4);
    rig.release("1.2.0", Behaviour::OneClass);
    let mut strategy = quick("1,4");
    strategy.on_failure = Some(crate::rollout::strategy::OnFailure::Pause);
    let id = rig.start_with("1.2.0", strategy);
    rig.until(&id, "paused");
    assert!(rig.reason(&id).contains("PSI"));
    rig.run(30);
    assert_eq!((rig.stage(&id), rig.running("1.2.0").len()), ("paused", 1));
    rig.command(&id, &abort(AbortMode::Revert));
    rig.until(&id, "aborted-reverted");
}

#[test]
fn every_event_is_told_in_a_sentence_with_its_inputs() {
    let mut rig = Rig::new(12);
    rig.release("1.2.0", Behaviour::OneClass);
    let id = rig.start("1.2.0", "1,4,12");
    rig.until(&id, "rolled-back");
    let told = rig.core.explain(&id).unwrap();
    assert_eq!(told.events.len(), rig.events(&id).len());
    assert!(told.events.iter().all(|told| told.sentence.ends_with('.') && told.sentence.len() > 10));
    let stop = told.events.iter().find(|told| matches!(told.event, Event::RollbackStarted { .. })).unwrap();
    let Event::RollbackStarted { evidence, .. } = &stop.event else { unreachable!() };
    let drift = evidence.iter().find(|report| report.gate == "output-drift").unwrap();
    for input in
        ["bound", "n", "needed", "value", "p_value", "alpha", "factor", "controls_value", "controls_n", "before_value"]
    {
        assert!(drift.numbers.contains_key(input), "{input}: {drift:?}");
    }
}

#[test]
fn what_was_taken_back_is_tried_again_by_the_same_devices_with_the_same_strategy() {
    let mut rig = Rig::new(4);
    rig.release("1.1.0", Behaviour::FailsLive(FailureKind::Crash));
    let first = rig.start("1.1.0", "2,4");
    rig.until(&first, "rolled-back");
    assert!(rig.fleet.world().devices.values().any(|device| !device.quarantine.is_empty()));
    // What was wrong with the boxes is mended.
    rig.release("1.1.0", Behaviour::Good);
    let spec = rig.state(&first).spec.clone();
    let file = StrategyFile { selector: Some(spec.selector.clone()), ..StrategyFile::from(&spec.strategy) };
    let second = rig.retry(&first, "1.1.0", file).unwrap();
    assert_eq!(rig.state(&second).spec, spec);
    rig.until(&second, "completed");
    assert_eq!(rig.running("1.1.0").len(), 4, "quarantined devices have tried it again");
    let told = rig.core.explain(&second).unwrap().events.remove(0).sentence;
    assert!(told.contains(&format!("another try of {first}")), "{told}");
}

#[test]
fn another_release_may_take_the_place_of_the_one_that_did_harm() {
    let mut rig = Rig::new(4);
    rig.release("1.1.0", Behaviour::FailsLive(FailureKind::Crash));
    rig.release("1.1.1", Behaviour::Good);
    let first = rig.start("1.1.0", "2,4");
    rig.until(&first, "rolled-back");
    let file = StrategyFile::from(&rig.state(&first).spec.strategy);
    let second = rig.retry(&first, "1.1.1", file).unwrap();
    rig.until(&second, "completed");
    assert_eq!((rig.running("1.1.1").len(), rig.state(&second).retry_of.clone()), (4, Some(first)));
}

#[test]
fn only_what_was_taken_back_or_stopped_is_tried_again() {
    let mut rig = Rig::new(4);
    let check = |rig: &mut Rig, first: &RolloutId, why: &str| {
        let refused = rig.retry(first, "1.1.0", quick("1,4")).unwrap_err();
        let CoreError::Start(refused) = refused else { panic!("{refused:?}") };
        assert!(refused.to_string().contains(why), "{refused}");
        assert!(refused.hint().is_some());
    };
    check(&mut rig, &"r-none".parse().unwrap(), "there is none");
    let first = rig.start("1.1.0", "1,4");
    rig.until(&first, "soaking");
    check(&mut rig, &first, "it is soaking");
    rig.until(&first, "completed");
    check(&mut rig, &first, "it is completed");
    rig.release("1.2.0", Behaviour::Good);
    let aborted = rig.start("1.2.0", "1,4");
    rig.until(&aborted, "soaking");
    rig.command(&aborted, &abort(AbortMode::Revert));
    rig.until(&aborted, "aborted-reverted");
    let again = rig.retry(&aborted, "1.2.0", quick("1,4")).unwrap();
    rig.until(&again, "completed");
}
