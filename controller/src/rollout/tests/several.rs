//! Several rollouts at once: models that change one after the other, and models that need each other.

use super::fake::{Behaviour, Rig, device, model, quick};
use crate::rollout::approval::{Authority, Person};
use crate::rollout::core::CoreError;
use crate::rollout::machine::{AbortMode, Command, Progress};
use crate::rollout::start::{StartError, StartRequest};
use crate::rollout::strategy::StrategyFile;
use fieldpost_shared::id::{ReleaseRef, RolloutId};
use fieldpost_shared::wire::v1::FailureKind;

/// A fleet with a second model, `detector` 1.0.0, which takes five seconds to change; and its next release.
fn with_detector(count: usize) -> (Rig, ReleaseRef) {
    let mut rig = Rig::new(count);
    let (old, new) = (rig.fleet.add_other("detector", "1.0.0"), rig.fleet.add_other("detector", "2.1.0"));
    (0..count).for_each(|i| rig.fleet.has_other(&format!("box-{i}"), &old, 5));
    rig.run(2);
    (rig, new)
}

fn of_priority(waves: &str, priority: i32) -> StrategyFile {
    StrategyFile { priority: Some(priority), ..quick(waves) }
}

/// Devices on which both models are told and not live at the same moment.
fn both_change(rig: &Rig, first: &RolloutId, second: &RolloutId) -> Vec<String> {
    let changes = |id: &RolloutId, name: &fieldpost_shared::id::DeviceId| {
        rig.state(id).members.get(name).is_some_and(|member| member.progress == Progress::Assigned)
    };
    let both = rig.state(first).members.keys().filter(|name| changes(first, name) && changes(second, name));
    both.map(ToString::to_string).collect()
}

fn refused(result: Result<RolloutId, CoreError>) -> StartError {
    let Err(CoreError::Start(error)) = result else { panic!("it began") };
    error
}

#[test]
fn one_model_at_a_time_changes_on_a_device() {
    let (mut rig, detector) = with_detector(6);
    let first = rig.try_start_other(&detector, quick("6")).unwrap();
    let second = rig.start("1.1.0", "6");
    for _ in 0..200 {
        rig.second();
        assert_eq!(both_change(&rig, &first, &second), Vec::<String>::new());
    }
    assert_eq!((rig.stage(&first), rig.stage(&second)), ("completed", "completed"));
}

#[test]
fn a_strategy_may_say_that_models_change_together() {
    let (mut rig, detector) = with_detector(4);
    let together = || StrategyFile { one_at_a_time: Some(false), ..quick("4") };
    let first = rig.try_start_other(&detector, together()).unwrap();
    let second = rig.start_with("1.1.0", together());
    rig.run(1);
    assert_eq!(both_change(&rig, &first, &second).len(), 4);
}

#[test]
fn the_higher_priority_goes_first_on_devices_that_both_want() {
    for high_first in [true, false] {
        let (mut rig, detector) = with_detector(4);
        // One device at a time, so that the lower one could slip in between.
        let one = |priority| StrategyFile { max_concurrent: Some(1), ..of_priority("4", priority) };
        let (low, high) = if high_first {
            let high = rig.try_start_other(&detector, one(5)).unwrap();
            (rig.start_with("1.1.0", one(0)), high)
        } else {
            let low = rig.start_with("1.1.0", one(0));
            (low, rig.try_start_other(&detector, one(5)).unwrap())
        };
        rig.run(2);
        let why = format!("waits for rollout {high} of detector, which goes first");
        assert!(rig.waiting(&low).contains(&why), "{}", rig.waiting(&low));
        for _ in 0..300 {
            rig.second();
            assert_eq!(both_change(&rig, &low, &high), Vec::<String>::new());
            let treated = |id: &RolloutId| {
                let members = rig.state(id).members.iter();
                members
                    .filter(|(_, m)| m.progress != Progress::Waiting)
                    .map(|(name, _)| name.clone())
                    .collect::<Vec<_>>()
            };
            let (ahead, behind) = (treated(&high), treated(&low));
            assert!(behind.iter().all(|name| ahead.contains(name)), "{behind:?} before {ahead:?}");
        }
        assert_eq!((rig.stage(&low), rig.stage(&high)), ("completed", "completed"));
    }
}

#[test]
fn a_higher_priority_that_waits_itself_holds_nobody_up() {
    // The higher one needs what the lower one brings.
    let (mut rig, detector) = with_detector(3);
    let one = rig.fleet.world().devices[&device("box-0")].others.keys().next().unwrap().clone();
    rig.fleet.edit("box-0", |found| {
        let other = found.others.get_mut(&one).unwrap();
        other.live = Some(detector.clone());
        other.desired.as_mut().unwrap().release = detector.clone();
    });
    rig.run(2);
    let needs = Some(vec!["detector>=2.1".parse().unwrap()]);
    let high = rig.start_with("1.1.0", StrategyFile { requires: needs, ..of_priority("3", 9) });
    rig.run(5);
    assert!(rig.waiting(&high).contains("needs detector>=2.1 live, and runs 1.0.0"), "{}", rig.waiting(&high));
    assert_eq!(rig.running("1.1.0"), ["box-0"]);
    let low = rig.try_start_other(&detector, quick("3")).unwrap();
    rig.until(&low, "completed");
    rig.until(&high, "completed");
    assert_eq!(rig.running("1.1.0").len(), 3);
}

#[test]
fn a_rollout_whose_requirement_nobody_satisfies_is_refused() {
    let (mut rig, _) = with_detector(3);
    let needs = |text: &str| StrategyFile { requires: Some(vec![text.parse().unwrap()]), ..quick("3") };
    let error = refused(rig.try_start("1.1.0", needs("detector>=2.1")));
    assert!(
        error.to_string().contains("none of the 3 devices") && error.to_string().contains("3 have 1.0.0"),
        "{error}"
    );
    let error = refused(rig.try_start("1.1.0", needs("ocr^1")));
    assert!(error.to_string().contains("3 have none") && error.hint().is_some(), "{error}");
    assert!(rig.try_start("1.1.0", needs("detector>=1")).is_ok());
}

#[test]
fn two_rollouts_of_one_model_on_a_device_are_refused_whatever_their_priority() {
    let mut rig = Rig::new(4);
    rig.release("1.2.0", Behaviour::Good);
    let first = rig.start("1.1.0", "1,4");
    let error = refused(rig.try_start("1.2.0", of_priority("4", 100)));
    assert!(matches!(&error, StartError::Conflict { other, count: 4, .. } if *other == first), "{error}");
}

#[test]
fn a_device_that_is_away_while_another_model_changes_is_told_when_it_is_there() {
    let (mut rig, detector) = with_detector(5);
    rig.fleet.edit("box-2", |device| device.online = false);
    rig.run(15);
    let first = rig.try_start_other(&detector, quick("5")).unwrap();
    let second = rig.start("1.1.0", "5");
    rig.until(&second, "soaking");
    assert_eq!(rig.running("1.1.0").len(), 4);
    rig.fleet.edit("box-2", |device| device.online = true);
    for _ in 0..60 {
        rig.second();
        assert_eq!(both_change(&rig, &first, &second), Vec::<String>::new());
    }
    rig.until(&second, "completed");
    assert_eq!(rig.running("1.1.0").len(), 5);
}

#[test]
fn a_release_that_half_of_the_devices_cannot_run_is_refused_unless_it_may() {
    let mut rig = Rig::new(6);
    rig.fleet.edit_manifest("1.1.0", |manifest| manifest.requirements.arch = vec!["x86_64".into()]);
    (0..3).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.inventory.arch = "riscv64".into()));
    let error = refused(rig.try_start("1.1.0", quick("100%")));
    let text = error.to_string();
    assert!(text.contains("3 of 6 matching devices cannot run the release, and 2 may be left out"), "{text}");
    assert!(text.contains("3 (box-0, box-1, ...): its architecture is riscv64"), "{text}");
    assert!(error.hint().unwrap().contains("--allow-unfit"));
    let two = StrategyFile { max_unfit: Some("2".parse().unwrap()), ..quick("100%") };
    assert!(matches!(refused(rig.try_start("1.1.0", two)), StartError::TooUnfit { limit: 2, .. }));
    let id = rig.start_with("1.1.0", StrategyFile { max_unfit: Some("all".parse().unwrap()), ..quick("100%") });
    rig.until(&id, "completed");
    assert_eq!(rig.running("1.1.0"), ["box-3", "box-4", "box-5"]);
}

#[test]
fn a_start_that_is_tried_names_other_rollouts_of_its_devices() {
    let (mut rig, detector) = with_detector(4);
    let other = rig.try_start_other(&detector, of_priority("4", 3)).unwrap();
    let strategy = StrategyFile { approve_before: Some(vec!["2:admin+other".parse().unwrap()]), ..quick("1,4") };
    let request = StartRequest { model: model(), version: "1.1.0".parse().unwrap(), strategy, retry_of: None };
    let preview = rig.core.preview(&request, "ann").unwrap();
    let expected = format!(
        "4 devices take part in rollout {other} of detector@2.1.0 too: one model at a time; that one goes first"
    );
    assert_eq!(preview.notes, [expected]);
    assert_eq!(preview.waves[1].approval.as_deref(), Some("an admin other than ann"));
}

#[test]
fn a_wave_needs_the_word_of_whoever_the_strategy_names() {
    let mut rig = Rig::new(4);
    let approvals = ["1:other", "2:admin"].map(|text| text.parse().unwrap()).to_vec();
    let id = rig.start_with("1.1.0", StrategyFile { approve_before: Some(approvals), ..quick("1,4") });
    rig.until(&id, "awaiting-approval");
    let refuse = |rig: &mut Rig, by: &str| {
        let Err(CoreError::Refused(refusal)) = rig.core.command(&id, &Command::Approve, by) else { panic!("approved") };
        assert!(refusal.forbidden, "{refusal}");
        refusal.to_string()
    };
    assert_eq!(rig.waiting(&id), "an operator other than ann has to approve wave 1");
    let why = refuse(&mut rig, "ann");
    assert!(why.contains("wave 1 needs the word of an operator other than ann, and it is ann who started it"), "{why}");
    rig.core.command(&id, &Command::Approve, "bob").unwrap();
    rig.until(&id, "soaking");
    rig.restart();
    rig.until(&id, "awaiting-approval");
    let why = refuse(&mut rig, "bob");
    assert!(why.contains("wave 2 needs the word of an admin, and bob is none"), "{why}");
    rig.core.command(&id, &Command::Approve, Person { name: "root".into(), authority: Authority::Admin }).unwrap();
    rig.until(&id, "completed");
    let told: Vec<String> = rig.core.explain(&id).unwrap().events.into_iter().map(|told| told.sentence).collect();
    for sentence in [
        "Wave 1 waits for the approval of an operator other than ann, as the strategy asks.",
        "bob approved wave 1.",
        "Wave 2 waits for the approval of an admin, as the strategy asks.",
        "root approved wave 2.",
    ] {
        assert!(told.iter().any(|told| told == sentence), "{sentence}: {told:?}");
    }
}

#[test]
fn a_failed_model_is_not_held_up_by_one_that_is_stuck() {
    let (mut rig, detector) = with_detector(3);
    rig.release("1.2.0", Behaviour::Fails(FailureKind::SelfTest));
    let failing = rig.start("1.2.0", "3");
    let other = rig.try_start_other(&detector, quick("3")).unwrap();
    rig.until(&failing, "rolled-back");
    rig.until(&other, "completed");
    rig.command(&other, &Command::Rollback { reason: "x".into() });
    rig.until(&other, "rolled-back");
    let stopped = rig.core.command(&other, &Command::Abort { mode: AbortMode::Keep, reason: "x".into() }, "bob");
    assert!(stopped.is_err());
}
