//! A/B tests: two releases side by side, until a person decides.

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::ab::{AbTest, Measured};
use crate::rollout::events::Event;
use crate::rollout::machine::{AbortMode, Command};
use crate::rollout::plan::Share;
use crate::rollout::strategy::{Demand, Holdout, Strategy, StrategyFile};
use crate::rollout::trial::Metric;
use crate::rollout::trial::contrast::{Contrast, Says};
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::wire::v1::FailureKind;
use std::time::Duration;

fn test(ab: AbTest) -> StrategyFile {
    let given = quick("100%");
    StrategyFile { waves: None, holdout: None, evidence: None, ab: Some(ab), ..given }
}

fn lasting(seconds: u64) -> AbTest {
    AbTest { lasts: Duration::from_secs(seconds), ..AbTest::default() }
}

fn split(seconds: u64) -> AbTest {
    AbTest { split: Share::Parts(5_000), ..lasting(seconds) }
}

/// Devices that answer 1.5 % of requests with an error, of an agent that understands splits.
fn rig(count: usize, behaviour: Behaviour) -> Rig {
    let rig = Rig::new(count);
    rig.release("1.1.0", behaviour);
    for device in rig.fleet.world().devices.values_mut() {
        device.inventory.agent_version = "0.1.0+beside".into();
        device.upstream_errors = 0.015;
    }
    rig
}

fn measured(rig: &Rig, id: &RolloutId) -> Vec<Measured> {
    let found = |event| if let Event::Measured { found } = event { Some(*found) } else { None };
    rig.events(id).into_iter().filter_map(|record| found(record.event)).collect()
}

fn errors(measured: &Measured) -> &Contrast {
    measured.metrics.iter().find(|found| found.metric == Metric::Errors).unwrap()
}

#[test]
fn half_of_the_devices_run_the_release_until_the_time_is_over_and_a_person_ends_it() {
    let mut rig = rig(20, Behaviour::Errors(0.02));
    let id = rig.start_with("1.1.0", test(lasting(30)));
    rig.until(&id, "soaking");
    assert_eq!(rig.running("1.1.0").len(), 10);
    rig.run(25);
    assert_eq!((rig.stage(&id), measured(&rig, &id).len()), ("soaking", 0));
    rig.until(&id, "paused");
    let found = measured(&rig, &id);
    let contrast = errors(&found[0]);
    assert_eq!((contrast.new.devices, contrast.old.devices, contrast.says()), (10, 10, Says::Worse), "{contrast:#?}");
    let difference = contrast.difference.unwrap();
    assert!(difference.low < 0.02 && 0.02 < difference.high, "{difference:?}");
    assert!(rig.reason(&id).contains("worse in errors"), "{}", rig.reason(&id));
    // Nothing ends by itself.
    rig.run(300);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len(), measured(&rig, &id).len()), ("paused", 10, 1));
    rig.command(&id, &Command::Abort { mode: AbortMode::Revert, reason: "worse".into() });
    rig.until(&id, "aborted-reverted");
    assert_eq!(rig.running("1.0.0").len(), 20);
}

#[test]
fn resume_measures_another_time_as_long() {
    let mut rig = rig(8, Behaviour::Good);
    let id = rig.start_with("1.1.0", test(lasting(20)));
    rig.until(&id, "paused");
    rig.command(&id, &Command::Resume { accept: false });
    rig.run(15);
    assert_eq!(rig.stage(&id), "soaking");
    rig.until(&id, "paused");
    let found = measured(&rig, &id);
    assert_eq!(found.len(), 2);
    assert!(found[1].since >= found[0].until);
    rig.command(&id, &Command::Abort { mode: AbortMode::Keep, reason: "enough".into() });
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len()), ("aborted-kept", 4));
}

#[test]
fn each_device_answers_with_both_and_is_its_own_comparison() {
    let mut rig = rig(6, Behaviour::Errors(0.02));
    let id = rig.start_with("1.1.0", test(split(60)));
    rig.until(&id, "soaking");
    assert_eq!(rig.running("1.0.0").len(), 6, "the release is beside the live one");
    rig.until(&id, "paused");
    let found = measured(&rig, &id).remove(0);
    let contrast = errors(&found);
    assert!(found.split);
    assert_eq!((contrast.new.scored, contrast.old.scored), (6, 6));
    assert!(
        contrast.new.requests.abs_diff(contrast.old.requests) <= 6 * 20,
        "half of the requests each, but for a second"
    );
    assert_eq!(contrast.says(), Says::Worse, "{contrast:#?}");
    rig.command(&id, &Command::Abort { mode: AbortMode::Keep, reason: "enough".into() });
    rig.run(5);
    let world = rig.fleet.world();
    let told = |device: &super::fake::FakeDevice| {
        device.desired.as_ref().map(|to| (to.release.version.to_string(), to.beside.is_some()))
    };
    assert!(world.devices.values().all(|device| told(device) == Some(("1.0.0".into(), false))));
}

#[test]
fn a_test_of_so_many_requests_waits_for_both_arms() {
    let mut rig = rig(4, Behaviour::Good);
    let ab = AbTest { requests: 2_000, ..AbTest::default() };
    let id = rig.start_with("1.1.0", test(ab));
    rig.until(&id, "soaking");
    rig.run(40);
    assert_eq!(rig.stage(&id), "soaking", "2 devices with 20 requests a second are not there yet");
    rig.until(&id, "paused");
    let found = measured(&rig, &id).remove(0);
    assert!(errors(&found).new.requests >= 2_000 && errors(&found).old.requests >= 2_000);
}

#[test]
fn silence_measures_nothing() {
    let mut rig = rig(4, Behaviour::Good);
    let id = rig.start_with("1.1.0", test(lasting(20)));
    rig.until(&id, "soaking");
    rig.fleet.world().devices.values_mut().for_each(|device| device.mute = true);
    rig.run(100);
    assert_eq!((rig.stage(&id), measured(&rig, &id).len()), ("soaking", 0));
    assert!(rig.waiting(&id).contains("at least 1 each"), "{}", rig.waiting(&id));
    rig.fleet.world().devices.values_mut().for_each(|device| device.mute = false);
    rig.until(&id, "paused");
    assert_eq!(measured(&rig, &id).len(), 1);
}

#[test]
fn limits_end_a_catastrophe_in_either_form() {
    for ab in [lasting(600), split(600)] {
        let mut rig = rig(20, Behaviour::Errors(0.6));
        let id = rig.start_with("1.1.0", test(ab));
        rig.until(&id, "rolled-back");
        assert!(rig.reason(&id).contains("error rate"), "{}", rig.reason(&id));
        assert_eq!(rig.running("1.0.0").len(), 20);
    }
}

#[test]
fn where_no_device_can_answer_with_both_a_person_is_asked() {
    let mut rig = rig(3, Behaviour::Fails(FailureKind::Load));
    let id = rig.start_with("1.1.0", test(split(30)));
    rig.run(400);
    assert!(["paused", "rolled-back"].contains(&rig.stage(&id)), "{}", rig.stage(&id));
    let mut old = Rig::new(3);
    let id = old.start_with("1.1.0", test(split(30)));
    old.until(&id, "paused");
    assert!(old.reason(&id).contains("no device answers with both"), "{}", old.reason(&id));
}

#[test]
fn what_a_test_cannot_be_is_refused() {
    let check = |edit: fn(&mut StrategyFile), field: &str| {
        let mut file = test(lasting(30));
        edit(&mut file);
        let refused = Strategy::resolve(&file).unwrap_err().to_string();
        assert!(refused.contains(&format!("`{field}`")), "{refused}");
    };
    check(|file| file.waves = "1,100%".parse().ok(), "waves");
    check(|file| file.evidence = Some(Demand::Trial), "evidence");
    check(|file| file.holdout_then = Some(Holdout::Release), "holdout_then");
    check(|file| file.shadow = Some(Duration::from_secs(5)), "shadow");
    check(|file| file.ab = Some(AbTest { split: Share::ALL, ..lasting(30) }), "ab.split");
    check(|file| file.ab = Some(lasting(91 * 86_400)), "ab.lasts");
    assert!(Strategy::resolve(&test(lasting(30))).is_ok());
}

#[test]
fn a_restored_controller_measures_nothing_before_a_person_has_looked() {
    let mut rig = rig(20, Behaviour::Good);
    let id = rig.start_with("1.1.0", test(lasting(30)));
    rig.until(&id, "soaking");
    // One order is not in the backup: the end of this test, perhaps.
    let first = rig.nth(&id, 0);
    rig.fleet.edit(&first, |device| device.desired_sequence -= 1);
    rig.until(&id, "paused");
    assert!(rig.reason(&id).contains(&format!("{first} had newer orders")), "{}", rig.reason(&id));
    rig.run(60);
    assert_eq!((rig.stage(&id), measured(&rig, &id).len(), rig.running("1.1.0").len()), ("paused", 0, 10));
    rig.command(&id, &Command::Resume { accept: false });
    rig.until(&id, "soaking");
    rig.until(&id, "paused");
    assert_eq!(measured(&rig, &id).len(), 1, "{}", rig.reason(&id));
}
