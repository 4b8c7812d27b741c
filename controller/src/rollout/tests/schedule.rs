//! When rollouts begin and end, and when devices may be told.

use super::fake::{Behaviour, Rig, device, quick};
use crate::rollout::core::CoreError;
use crate::rollout::events::Event;
use crate::rollout::machine::{AbortMode, Command};
use crate::rollout::start::StartError;
use crate::rollout::strategy::StrategyFile;
use fieldpost_shared::time::{Clock as _, Timestamp};
use std::time::Duration;

/// A moment in simulated time: the rigs begin on Tuesday, 14 November 2023, 22:13:20 UTC.
fn at(text: &str) -> Timestamp {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).unwrap()
}

/// A controller that is at this moment, with devices that were heard of just now.
fn rig_at(count: usize, moment: &str) -> Rig {
    let mut rig = Rig::new(count);
    let by = at(moment).since(rig.clock.now());
    rig.clock.advance(by);
    rig.run(5);
    rig
}

fn nightly(waves: &str) -> StrategyFile {
    let maintenance = Some(vec!["Mon-Fri 01:00-05:00".parse().unwrap()]);
    StrategyFile { maintenance, timezone: Some("Europe/Paris".parse().unwrap()), ..quick(waves) }
}

fn zone(rig: &Rig, name: &str, zone: &str) {
    rig.fleet.edit(name, |device| drop(device.labels.insert("timezone".into(), zone.into())));
}

/// Lets time pass until a moment, a look every minute, as devices report.
fn pass(rig: &mut Rig, moment: &str) {
    while rig.clock.now() < at(moment) {
        rig.clock.advance(Duration::from_secs(59));
        rig.fleet.tick();
        rig.second();
    }
}

#[test]
fn a_rollout_begins_at_its_time_and_not_before() {
    let mut rig = rig_at(4, "2023-11-15T12:00:00Z");
    let strategy = StrategyFile { not_before: Some(Some(at("2023-11-15T12:05:00Z"))), ..quick("1,4") };
    let id = rig.start_with("1.1.0", strategy);
    rig.run(240);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len()), ("draft", 0));
    assert!(rig.waiting(&id).contains("it begins at 2023-11-15T12:05:00"), "{}", rig.waiting(&id));
    rig.restart();
    rig.until(&id, "completed");
    let started = rig.events(&id).into_iter().find(|r| matches!(r.event, Event::WaveStarted { wave: 0 })).unwrap();
    assert!(started.at >= at("2023-11-15T12:05:00Z"));
}

#[test]
fn a_wave_can_be_approved_before_its_time() {
    let mut rig = rig_at(2, "2023-11-15T12:00:00Z");
    let strategy = StrategyFile {
        not_before: Some(Some(at("2023-11-15T12:05:00Z"))),
        approve_before: Some(vec![1.into()]),
        ..quick("1,2")
    };
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "awaiting-approval");
    rig.command(&id, &Command::Approve);
    rig.run(30);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len()), ("awaiting-approval", 0));
    let again = rig.core.command(&id, &Command::Approve, "bob").unwrap_err();
    assert!(matches!(again, CoreError::Refused(refusal) if refusal.reason.contains("is approved")));
    rig.until(&id, "completed");
}

#[test]
fn a_device_that_comes_before_the_beginning_takes_part() {
    let mut rig = rig_at(3, "2023-11-15T12:00:00Z");
    let strategy = StrategyFile { not_before: Some(Some(at("2023-11-15T12:05:00Z"))), ..quick("1,3") };
    let id = rig.start_with("1.1.0", strategy);
    rig.run(10);
    let old = rig.fleet.world().releases[&"1.0.0".parse().unwrap()].0.release.clone();
    rig.fleet.add_device("late", Some(&old));
    rig.until(&id, "completed");
    rig.run(20);
    assert_eq!(rig.running("1.1.0").len(), 4);
}

#[test]
fn after_its_end_nobody_is_told_until_somebody_says_so() {
    let mut rig = rig_at(4, "2023-11-15T12:00:00Z");
    let strategy = StrategyFile { until: Some(Some(at("2023-11-15T12:00:12Z"))), ..quick("2,4") };
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "paused");
    let reason = rig.reason(&id);
    assert!(
        reason.contains("its schedule ended at 2023-11-15T12:00:12") && reason.contains("2 devices of wave 2"),
        "{reason}"
    );
    assert_eq!(rig.running("1.1.0").len(), 2, "the wave that had begun has soaked and passed");
    assert_eq!(rig.count(&id, |e| matches!(e, Event::WavePassed { wave: 0, .. })), 1);
    rig.command(&id, &Command::Resume { accept: false });
    rig.restart();
    rig.until(&id, "completed");
}

#[test]
fn a_wave_that_is_told_little_by_little_stops_at_the_end() {
    let mut rig = rig_at(4, "2023-11-15T12:00:00Z");
    let until = Some(Some(rig.clock.now().plus(Duration::from_secs(5))));
    let strategy = StrategyFile { until, max_concurrent: Some(1), ..quick("4") };
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "paused");
    assert!(!rig.running("1.1.0").is_empty() && rig.running("1.1.0").len() < 4);
    rig.command(&id, &Command::Abort { mode: AbortMode::Revert, reason: "x".into() });
    rig.until(&id, "aborted-reverted");
}

#[test]
fn a_schedule_that_is_over_or_ends_before_it_begins_is_refused() {
    let mut rig = rig_at(2, "2023-11-15T12:00:00Z");
    let over = StrategyFile { until: Some(Some(at("2023-11-15T11:00:00Z"))), ..quick("2") };
    assert!(matches!(rig.try_start("1.1.0", over), Err(CoreError::Start(StartError::Over(_)))));
    let backwards = StrategyFile {
        not_before: Some(Some(at("2023-11-16T12:00:00Z"))),
        until: Some(Some(at("2023-11-16T11:00:00Z"))),
        ..quick("2")
    };
    assert!(matches!(rig.try_start("1.1.0", backwards), Err(CoreError::Start(StartError::Strategy(_)))));
}

#[test]
fn devices_are_told_within_their_windows_each_by_its_own_clock() {
    // Noon in Paris, 6 in New York, 16:45 in Kathmandu.
    let mut rig = rig_at(3, "2023-11-15T11:00:00Z");
    zone(&rig, "box-1", "America/New_York");
    zone(&rig, "box-2", "Asia/Kathmandu");
    let id = rig.start_with("1.1.0", nightly("3"));
    rig.run(3);
    let waiting = rig.waiting(&id);
    assert!(waiting.contains("3 devices wait for their maintenance windows"), "{waiting}");
    let first =
        "box-2 waits for its maintenance window, opens at 2023-11-15T19:15:00.000Z (Thu 01:00 in Asia/Kathmandu)";
    assert!(waiting.contains(first), "{waiting}");
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Holding { .. })), 1, "it is told once");
    for (moment, running) in [
        ("2023-11-15T19:14:00Z", vec![]),
        ("2023-11-15T19:17:00Z", vec!["box-2"]),
        ("2023-11-15T23:58:00Z", vec!["box-2"]),
        ("2023-11-16T00:03:00Z", vec!["box-0", "box-2"]),
        ("2023-11-16T05:58:00Z", vec!["box-0", "box-2"]),
        ("2023-11-16T06:03:00Z", vec!["box-0", "box-1", "box-2"]),
    ] {
        pass(&mut rig, moment);
        assert_eq!(rig.running("1.1.0"), running, "at {moment}");
        assert_ne!(rig.stage(&id), "paused", "a closed window is not a wave that is late");
    }
    rig.until(&id, "completed");
    let told = rig.core.explain(&id).unwrap().events;
    assert!(
        told.iter().any(|told| told
            .sentence
            .contains("within its maintenance window alone (Mon,Tue,Wed,Thu,Fri 01:00-05:00)"))
    );
    assert!(
        told.iter().any(|told| told.sentence.starts_with("Wave 1 waits: 3 devices wait for their maintenance windows"))
    );
}

#[test]
fn a_window_that_closes_in_the_middle_of_a_wave_lets_the_others_wait_for_the_next() {
    // Friday, 04:59:30 in Paris: one at a time, and not all in time.
    let mut rig = rig_at(4, "2023-11-17T03:59:50Z");
    let strategy = StrategyFile { max_concurrent: Some(1), ..nightly("4") };
    let id = rig.start_with("1.1.0", strategy);
    rig.run(60);
    let early = rig.running("1.1.0").len();
    assert!((1..4).contains(&early), "{early}");
    pass(&mut rig, "2023-11-19T23:55:00Z");
    assert_eq!((rig.running("1.1.0").len(), rig.stage(&id)), (early, "deploying"), "not over the weekend");
    pass(&mut rig, "2023-11-20T00:05:00Z");
    rig.until(&id, "completed");
}

#[test]
fn rollbacks_ignore_windows() {
    let mut rig = rig_at(3, "2023-11-17T03:59:50Z");
    rig.release("1.2.0", Behaviour::Good);
    let id = rig.start_with("1.2.0", nightly("3"));
    rig.until(&id, "soaking");
    rig.run(8);
    rig.fleet.world().releases.get_mut(&"1.2.0".parse().unwrap()).unwrap().1 = Behaviour::Errors(0.9);
    rig.until(&id, "rolled-back");
    assert!(rig.clock.now() > at("2023-11-17T04:00:00Z"), "the windows are closed");
    assert_eq!(rig.running("1.0.0").len(), 3);
}

#[test]
fn a_device_that_is_away_is_told_in_a_window_when_it_is_there() {
    let mut rig = rig_at(5, "2023-11-16T23:50:00Z");
    rig.fleet.edit("box-3", |device| device.online = false);
    rig.run(15);
    let id = rig.start_with("1.1.0", nightly("5"));
    pass(&mut rig, "2023-11-17T00:10:00Z");
    // The others soak without it.
    rig.until(&id, "completed");
    assert_eq!(rig.running("1.1.0").len(), 4);
    let told = |rig: &Rig| rig.count(&id, |e| matches!(e, Event::Assigned { device: d, .. } if *d == device("box-3")));
    assert_eq!(told(&rig), 0, "it would have changed when it came, whatever the hour");
    let Event::Completed { pending } = rig.events(&id).pop().unwrap().event else { panic!("not completed") };
    assert_eq!(pending, [device("box-3")]);
    // It comes at noon, and gets the release in the next night.
    pass(&mut rig, "2023-11-17T11:00:00Z");
    rig.fleet.edit("box-3", |device| device.online = true);
    pass(&mut rig, "2023-11-19T23:00:00Z");
    assert_eq!(told(&rig), 0);
    pass(&mut rig, "2023-11-20T00:05:00Z");
    rig.run(15);
    assert_eq!((told(&rig), rig.running("1.1.0").len()), (1, 5));
}

#[test]
fn a_time_zone_that_nobody_knows_is_refused_and_a_later_one_is_named() {
    let mut rig = rig_at(3, "2023-11-17T00:30:00Z");
    zone(&rig, "box-1", "Europ/Paris");
    let Err(CoreError::Start(error)) = rig.try_start("1.1.0", nightly("3")) else { panic!("it began") };
    let text = fieldpost_shared::error_chain::Chain(&error).to_string();
    assert!(text.contains("`box-1`") && text.contains("perhaps `Europe/Paris` is meant"), "{text}");
    assert!(rig.try_start("1.1.0", quick("3")).is_ok(), "without windows it does not matter");
    let mut rig = rig_at(3, "2023-11-17T00:30:00Z");
    let id = rig.start_with("1.1.0", nightly("1,3"));
    rig.until(&id, "soaking");
    let second = rig.nth(&id, 1);
    zone(&rig, &second, "Mars/Olympus");
    rig.until(&id, "paused");
    assert!(rig.reason(&id).contains("there is no time zone `Mars/Olympus`"), "{}", rig.reason(&id));
}

#[test]
fn a_restored_controller_asks_before_a_scheduled_rollout_begins() {
    let mut rig = rig_at(3, "2023-11-15T12:00:00Z");
    let strategy = StrategyFile { not_before: Some(Some(at("2023-11-15T12:05:00Z"))), ..quick("1,3") };
    let id = rig.start_with("1.1.0", strategy);
    rig.run(3);
    // One order is not in the backup: the abort of this very rollout, perhaps.
    rig.fleet.edit("box-1", |device| device.desired_sequence -= 1);
    rig.run(400);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len()), ("awaiting-approval", 0));
    let told = rig.core.explain(&id).unwrap();
    assert!(told.events.iter().any(|told| told.sentence.contains("box-1 had newer orders")), "{:?}", told.events);
    rig.command(&id, &Command::Approve);
    rig.until(&id, "completed");
}
