//! Rollouts whose waves begin in shadow.

use super::fake::{Behaviour, Rig, device, quick};
use crate::rollout::events::Event;
use crate::rollout::machine::{Command, Progress};
use crate::rollout::strategy::{Demand, StrategyFile};
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::time::Clock as _;
use fieldpost_shared::wire::v1::{FailureKind, Quarantined};
use std::time::Duration;

fn shadowed(waves: &str) -> StrategyFile {
    StrategyFile { shadow: Some(Duration::from_secs(5)), ..quick(waves) }
}

/// Boxes on 1.0.0 that understand, and 1.1.0 whose bundle allows 5 % disagreement.
fn rig(count: usize, behaviour: Behaviour) -> Rig {
    let rig = Rig::new(count);
    rig.release("1.1.0", behaviour);
    rig.fleet.edit_manifest("1.1.0", |manifest| manifest.budgets.max_disagreement = Some(0.05));
    rig.fleet.understand();
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
fn a_wave_that_cannot_run_the_release_in_shadow_is_left_out_by_a_persons_word() {
    let mut rig = rig(3, Behaviour::Good);
    rig.fleet.edit("box-1", |device| device.inventory.agent_version = "0.1.0".into());
    let id = rig.start_with("1.1.0", shadowed("1,2,3"));
    let mut accepted = 0;
    while rig.stage(&id) != "completed" {
        rig.second();
        if rig.stage(&id) == "paused" {
            assert!(rig.reason(&id).contains("resume --accept goes on without them"), "{}", rig.reason(&id));
            rig.command(&id, &Command::Resume { accept: true });
            accepted += 1;
        }
    }
    let alone = |event: &Event| matches!(event, Event::ShadowPassed { evidence, .. } if evidence.is_empty());
    assert_eq!((accepted, rig.count(&id, alone), rig.running("1.1.0").len()), (1, 1, 2));
}

#[test]
fn a_person_who_accepts_what_failed_accepts_nobody_that_is_in_shadow_and_no_missing_proof() {
    let mut rig = rig(4, Behaviour::Good);
    let id = rig.start_with("1.1.0", StrategyFile { evidence: Some(Demand::Trial), ..shadowed("2,4") });
    rig.until(&id, "shadowing");
    rig.run(2);
    rig.command(&id, &Command::Pause { reason: "a look".into() });
    rig.command(&id, &Command::Resume { accept: true });
    rig.run(3);
    assert_eq!(rig.stage(&id), "shadowing", "{}", rig.waiting(&id));
    let state = rig.state(&id);
    assert!(state.members.values().all(|member| !member.accepted) && state.unproven.is_empty());
}

#[test]
fn a_device_that_failed_in_shadow_and_tries_again_after_it_has_a_shadow_of_its_own() {
    let mut rig = rig(3, Behaviour::Good);
    let id = rig.start_with("1.1.0", StrategyFile { retry_after: Some(Duration::from_secs(30)), ..shadowed("3") });
    rig.until(&id, "shadowing");
    rig.run(1);
    let first = rig.nth(&id, 0);
    let release = rig.fleet.world().releases[&"1.1.0".parse().unwrap()].0.release.clone();
    let failed = Quarantined {
        release,
        attempt: 1,
        rollout: Some(id.clone()),
        kind: FailureKind::Fetch,
        detail: "the link broke".into(),
        at: rig.clock.now(),
    };
    rig.fleet.edit(&first, |device| device.quarantine.push(failed));
    rig.until(&id, "deploying");
    let is = |rig: &Rig| rig.state(&id).members[&device(&first)].progress;
    assert!(matches!(is(&rig), Progress::Retrying { .. }), "{:?}", is(&rig));
    rig.restart();
    while matches!(is(&rig), Progress::Retrying { .. }) {
        rig.second();
    }
    assert_eq!(is(&rig), Progress::Shadowing);
    let told: Vec<bool> = {
        let world = rig.fleet.world();
        world.devices[&device(&first)].assigned.iter().flatten().map(|to| to.beside.is_some()).collect()
    };
    assert_eq!(told, [true, true], "twice beside, never live unseen");
    rig.run(60);
    assert_eq!((is(&rig), rig.running("1.1.0").len()), (Progress::Live, 3));
}

#[test]
fn devices_leave_the_shadow_by_turns() {
    let mut rig = rig(6, Behaviour::Good);
    let id = rig.start_with("1.1.0", StrategyFile { max_concurrent: Some(2), ..shadowed("6") });
    let mut most = 0;
    for _ in 0..60 {
        rig.second();
        let members = &rig.state(&id).members;
        let waits = members.values().any(|member| member.progress == Progress::Shadowing);
        let changing = members.values().filter(|member| member.in_flight()).count();
        assert!(changing <= 2, "{changing}");
        most = most.max(if waits { changing } else { 0 });
    }
    assert_eq!((most, rig.stage(&id), rig.running("1.1.0").len()), (2, "completed", 6));
    assert_eq!(rig.count(&id, |event| matches!(event, Event::SwapAsked { .. })), 6);
}

#[test]
fn devices_leave_the_shadow_in_their_maintenance_windows() {
    // The rigs begin on a Tuesday at 22:13:20 UTC.
    let mut rig = rig(3, Behaviour::Good);
    let windows = ["Tue 22:13-22:15", "Thu 00:00-06:00"].map(|window| window.parse().unwrap()).into();
    let strategy = StrategyFile {
        maintenance: Some(windows),
        timezone: Some("UTC".parse().unwrap()),
        shadow: Some(Duration::from_secs(12 * 3600)),
        ..shadowed("3")
    };
    let id = rig.start_with("1.1.0", strategy);
    rig.run(30);
    assert_eq!(rig.stage(&id), "shadowing");
    let until = |rig: &mut Rig, hours: u64| {
        let end = rig.clock.now().plus(Duration::from_secs(hours * 3600));
        while rig.clock.now() < end {
            rig.clock.advance(Duration::from_secs(59));
            rig.fleet.tick();
            rig.second();
        }
    };
    // Wednesday, 22:13: the shadow is over, the window is closed.
    until(&mut rig, 24);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len()), ("deploying", 0));
    assert!(rig.waiting(&id).contains("maintenance windows"), "{}", rig.waiting(&id));
    until(&mut rig, 2);
    rig.until(&id, "completed");
    assert_eq!(rig.running("1.1.0").len(), 3);
}

#[test]
fn a_shadow_waits_for_windows_to_begin_and_lasts_for_the_last_device() {
    let mut rig = rig(2, Behaviour::Good);
    // Noon in UTC is 21:00 in Tokyo: the one is told nine hours before the other.
    let name = rig.fleet.world().devices.keys().next().unwrap().to_string();
    rig.fleet.edit(&name, |device| drop(device.labels.insert("timezone".into(), "Asia/Tokyo".into())));
    let strategy = StrategyFile {
        maintenance: Some(vec!["12:00-13:00".parse().unwrap()]),
        timezone: Some("UTC".parse().unwrap()),
        shadow: Some(Duration::from_secs(3600)),
        ..shadowed("2")
    };
    let id = rig.start_with("1.1.0", strategy);
    let mut began = Vec::new();
    for _ in 0..24 * 61 {
        rig.clock.advance(Duration::from_secs(59));
        rig.fleet.tick();
        rig.second();
        assert_ne!(rig.stage(&id), "paused", "{}", rig.reason(&id));
        let told = rig.count(&id, |event| matches!(event, Event::Shadowed { .. }));
        if began.len() < told {
            began.push(rig.clock.now());
        }
        if rig.stage(&id) != "shadowing" {
            break;
        }
        assert!(!rig.waiting(&id).is_empty());
    }
    let [first, last] = began[..] else { panic!("{began:?}") };
    assert!(last.since(first) >= Duration::from_secs(8 * 3600), "{first} {last}");
    assert!(rig.clock.now().since(last) >= Duration::from_secs(3600));
    assert_eq!(rig.running("1.1.0").len(), 0, "each waits for its next window");
}

#[test]
fn a_device_that_joins_after_the_shadow_has_one_of_its_own() {
    let mut rig = rig(2, Behaviour::Good);
    let id = rig.start_with("1.1.0", StrategyFile { soak: Some(Duration::from_secs(30)), ..shadowed("2") });
    rig.until(&id, "soaking");
    let old = rig.fleet.world().releases[&"1.0.0".parse().unwrap()].0.release.clone();
    rig.fleet.add_device("late", Some(&old));
    rig.fleet.understand();
    rig.run(5);
    let progress = |rig: &Rig| rig.state(&id).members.get(&device("late")).map(|member| member.progress);
    assert_eq!(progress(&rig), Some(Progress::Shadowing));
    rig.restart();
    rig.until(&id, "completed");
    rig.run(10);
    assert_eq!((progress(&rig), rig.running("1.1.0").len()), (Some(Progress::Live), 3));
    let of_late = |event: &Event| match event {
        Event::Shadowed { device, .. } | Event::SwapAsked { device, .. } | Event::Live { device } => {
            device.as_str() == "late"
        }
        _ => false,
    };
    assert_eq!(rig.count(&id, of_late), 3);
}

#[test]
fn a_stored_shadow_of_before_lets_everybody_swap_at_once() {
    let text = r#"{"kind":"shadow-passed","wave":0,"evidence":[]}"#;
    let event: Event = serde_json::from_str(text).unwrap();
    assert!(matches!(event, Event::ShadowPassed { in_turn: false, .. }), "{event:?}");
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
