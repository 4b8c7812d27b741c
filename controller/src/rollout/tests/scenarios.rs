//! Whole rollouts.

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::core::CoreError;
use crate::rollout::events::Event;
use crate::rollout::machine::Progress;
use crate::rollout::start::StartError;
use fieldpost_shared::trust::SecretKey;
use fieldpost_shared::wire::v1::FailureKind;

#[test]
fn a_good_release_goes_from_one_to_four_to_twelve() {
    let mut rig = Rig::new(12);
    let id = rig.start("1.1.0", "1,4,12");
    let mut seen = vec![];
    for _ in 0..120 {
        rig.second();
        let live = rig.running("1.1.0").len();
        if seen.last() != Some(&live) {
            seen.push(live);
        }
    }
    assert_eq!(seen, [0, 1, 4, 12]);
    assert_eq!(rig.stage(&id), "completed");
    assert!(matches!(rig.events(&id).last().unwrap().event, Event::Completed { ref pending } if pending.is_empty()));
}

#[test]
fn waves_are_prefixes_of_the_signed_order() {
    let mut rig = Rig::new(12);
    let id = rig.start("1.1.0", "1,4,12");
    rig.until(&id, "soaking");
    let order = rig.state(&id).signed.clone().unwrap();
    let statement = order.verify(&SecretKey::from_seed(&[1; 32]).public()).unwrap();
    assert_eq!(rig.running("1.1.0"), [statement.order[0].device.to_string()]);
}

#[test]
fn each_wave_soaks_before_the_next_begins() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "1,4");
    rig.until(&id, "completed");
    let events = rig.events(&id);
    let at = |wanted: fn(&Event) -> bool| events.iter().find(|r| wanted(&r.event)).unwrap().at;
    let soak =
        at(|e| matches!(e, Event::WavePassed { wave: 0, .. })).since(at(|e| matches!(e, Event::SoakStarted { .. })));
    assert!(soak.as_secs() >= 10, "{soak:?}");
    let passed = events.iter().position(|r| matches!(r.event, Event::WavePassed { wave: 0, .. })).unwrap();
    let second = events.iter().position(|r| matches!(r.event, Event::WaveStarted { wave: 1 })).unwrap();
    assert!(passed < second);
}

#[test]
fn a_release_whose_answers_shift_is_taken_back_in_its_first_wave() {
    let mut rig = Rig::new(12);
    rig.release("1.2.0", Behaviour::OneClass);
    let id = rig.start("1.2.0", "1,4,12");
    rig.until(&id, "rolled-back");
    assert_eq!(rig.running("1.0.0").len(), 12);
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Assigned { .. })), 1, "only the first wave was touched");
    let reason = rig.reason(&id);
    assert!(reason.contains("PSI of the outputs is") && reason.contains("limit 0.250"), "{reason}");
    assert!(reason.contains("0.000 on devices without the release"), "{reason}");
}

#[test]
fn a_device_whose_windows_fit_nothing_blinds_no_gate() {
    let mut rig = Rig::new(6);
    // The first by name: its windows are the first of every sum.
    rig.fleet.edit("box-0", |device| device.odd_windows = true);
    rig.release("1.2.0", Behaviour::OneClass);
    let id = rig.start("1.2.0", "6");
    rig.until(&id, "rolled-back");
    assert!(rig.reason(&id).contains("PSI of the outputs is"), "{}", rig.reason(&id));
}

#[test]
fn a_wave_whose_windows_all_fit_nothing_does_not_pass() {
    let mut rig = Rig::new(2);
    (0..2).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.odd_windows = true));
    let id = rig.start("1.1.0", "1,2");
    rig.until(&id, "paused");
    assert!(rig.reason(&id).contains("inconclusive"), "{}", rig.reason(&id));
}

#[test]
fn a_model_that_fails_requests_is_taken_back() {
    let mut rig = Rig::new(6);
    rig.release("1.2.0", Behaviour::Errors(0.3));
    let id = rig.start("1.2.0", "1,6");
    rig.until(&id, "rolled-back");
    assert!(rig.reason(&id).contains("the model's error rate is"), "{}", rig.reason(&id));
}

#[test]
fn a_model_that_is_over_its_latency_budget_is_taken_back() {
    let mut rig = Rig::new(6);
    rig.release("1.2.0", Behaviour::Slow(200));
    let id = rig.start("1.2.0", "1,6");
    rig.until(&id, "rolled-back");
    assert!(rig.reason(&id).contains("p95 latency is"), "{}", rig.reason(&id));
}

#[test]
fn errors_that_all_devices_have_do_not_take_a_release_back() {
    let mut rig = Rig::new(6);
    (0..6).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.upstream_errors = 0.3));
    rig.run(30);
    let id = rig.start("1.1.0", "1,6");
    rig.until(&id, "completed");
}

#[test]
fn a_fleet_that_always_sees_one_class_can_be_updated_to_the_last_device() {
    let mut rig = Rig::new(6);
    (0..6).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.skewed = true));
    rig.run(10);
    let id = rig.start("1.1.0", "1,6");
    rig.until(&id, "completed");
    let told = rig.core.explain(&id).unwrap();
    let last = told.events.iter().rev().find(|told| matches!(told.event, Event::WavePassed { .. })).unwrap();
    let drift = last.because.iter().find(|line| line.starts_with("output-drift")).unwrap();
    assert!(drift.contains("on the same devices before: not 3 times worse"), "{drift}");
}

#[test]
fn a_harmless_release_without_traffic_pauses_and_does_not_complete() {
    let mut rig = Rig::new(4);
    (0..4).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.traffic = 0));
    let id = rig.start("1.1.0", "1,4");
    rig.until(&id, "paused");
    assert_eq!(rig.running("1.1.0").len(), 1);
    let reason = rig.reason(&id);
    assert!(reason.contains("inconclusive") && reason.contains("0 of 1 devices have sent a window"), "{reason}");
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Holding { .. })), 1, "a reason is told once");
}

#[test]
fn a_silent_device_does_not_let_its_wave_advance() {
    let mut rig = Rig::new(6);
    rig.release("1.2.0", Behaviour::Silences);
    let id = rig.start("1.2.0", "1,6");
    rig.until(&id, "rolled-back");
    assert!(matches!(&rig.events(&id).last().unwrap().event, Event::RolledBack { pending, .. } if pending.len() == 1));
    assert!(rig.reason(&id).contains("1 fell silent"), "{}", rig.reason(&id));
    assert_eq!(rig.count(&id, |e| matches!(e, Event::WavePassed { .. })), 0);
}

#[test]
fn a_device_that_hangs_pauses_the_rollout_and_is_named() {
    let mut rig = Rig::new(3);
    rig.release("1.2.0", Behaviour::Hangs);
    let id = rig.start("1.2.0", "1,3");
    rig.until(&id, "paused");
    let first = rig.nth(&id, 0);
    assert!(
        rig.reason(&id).contains(&format!("{first} failed (not live after 21 s: fetching, 1 of 2 bytes)")),
        "{}",
        rig.reason(&id)
    );
}

#[test]
fn a_canary_that_fails_its_self_test_is_retried_and_then_the_release_goes_back() {
    let mut rig = Rig::new(3);
    rig.release("1.2.0", Behaviour::Fails(FailureKind::SelfTest));
    let id = rig.start("1.2.0", "1,3");
    rig.until(&id, "rolled-back");
    let attempts: Vec<u32> = rig
        .events(&id)
        .iter()
        .filter_map(|r| if let Event::Assigned { attempt, .. } = r.event { Some(attempt) } else { None })
        .collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert!(rig.reason(&id).contains("every device of wave 1 failed: 1 of 1 (1 failed the self-test)"));
}

#[test]
fn what_a_device_rejects_is_not_tried_again() {
    let mut rig = Rig::new(3);
    rig.release("1.2.0", Behaviour::Fails(FailureKind::Unfit));
    let id = rig.start("1.2.0", "1,3");
    rig.until(&id, "paused");
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Assigned { .. })), 1);
}

#[test]
fn a_release_that_crashes_in_front_of_users_is_not_tried_again() {
    let mut rig = Rig::new(3);
    rig.release("1.2.0", Behaviour::FailsLive(FailureKind::Crash));
    let id = rig.start("1.2.0", "1,3");
    rig.until(&id, "rolled-back");
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Assigned { .. })), 1);
    assert!(rig.reason(&id).contains("1 crashed"), "{}", rig.reason(&id));
}

#[test]
fn a_second_rollout_of_a_release_asks_with_a_higher_attempt() {
    let mut rig = Rig::new(2);
    rig.release("1.2.0", Behaviour::Fails(FailureKind::SelfTest));
    let id = rig.start("1.2.0", "2");
    rig.until(&id, "rolled-back");
    rig.fleet.world().releases.get_mut(&"1.2.0".parse().unwrap()).unwrap().1 = Behaviour::Good;
    let again = rig.start("1.2.0", "2");
    assert_ne!(id, again);
    rig.until(&again, "completed");
    assert!(rig.state(&again).members.values().all(|member| member.attempt == 4));
}

#[test]
fn a_late_joiner_enters_the_wave_of_its_place_and_none_before() {
    for n in 0..12 {
        let mut rig = Rig::new(4);
        let id = rig.start("1.1.0", "1,50%,100%");
        rig.until(&id, "soaking");
        let old = rig.fleet.world().devices.values().next().unwrap().live.clone().unwrap();
        let old = if old.version.minor == 0 { old } else { rig.fleet.add_release("1.0.0", Behaviour::Good) };
        let name = format!("late-{n}");
        rig.fleet.add_device(&name, Some(&old));
        rig.second();
        let member = rig.state(&id).members[&name.parse().unwrap()].clone();
        assert!(member.late && member.wave >= 1, "wave 1 of one device was full: {member:?}");
        let state = rig.state(&id);
        let seat = crate::rollout::order::Seat { device: name.parse().unwrap(), stratum: member.stratum.clone() };
        let place = crate::rollout::order::late_place(&state.seed, &state.order, &seat).min(3);
        assert!(member.wave >= state.wave_of(place), "ahead of its place {place}: {member:?}");
        if member.wave == 2 {
            rig.until(&id, "deploying");
            rig.until(&id, "soaking");
            assert!(!rig.running("1.1.0").contains(&name), "it is of wave 3");
        }
        rig.until(&id, "completed");
        rig.run(5);
        assert_eq!(rig.running("1.1.0").len(), 5);
    }
}

#[test]
fn a_device_that_was_away_the_whole_time_gets_the_release_when_it_comes() {
    let mut rig = Rig::new(12);
    let id = rig.start("1.1.0", "1,4,12");
    let last = rig.nth(&id, 11);
    rig.fleet.edit(&last, |device| device.online = false);
    rig.until(&id, "completed");
    assert_eq!(rig.running("1.1.0").len(), 11);
    assert!(
        matches!(&rig.events(&id).last().unwrap().event, Event::Completed { pending } if pending[0].as_str() == last)
    );
    rig.fleet.edit(&last, |device| device.online = true);
    rig.run(5);
    assert_eq!(rig.running("1.1.0").len(), 12);
}

#[test]
fn a_first_wave_that_is_away_pauses_instead_of_passing() {
    let mut rig = Rig::new(6);
    let id = rig.start("1.1.0", "1,6");
    let first = rig.nth(&id, 0);
    rig.fleet.edit(&first, |device| device.online = false);
    rig.until(&id, "paused");
    assert!(rig.reason(&id).contains(&format!("no device of wave 1 is live: 1 away: {first}")), "{}", rig.reason(&id));
}

#[test]
fn a_device_that_was_away_through_the_rollback_goes_back_a_week_later() {
    let mut rig = Rig::new(4);
    rig.release("1.2.0", Behaviour::Good);
    let id = rig.start("1.2.0", "4");
    rig.until(&id, "soaking");
    rig.fleet.edit("box-2", |device| device.online = false);
    rig.fleet.world().releases.get_mut(&"1.2.0".parse().unwrap()).unwrap().1 = Behaviour::OneClass;
    rig.until(&id, "rolled-back");
    assert!(matches!(&rig.events(&id).last().unwrap().event, Event::RolledBack { pending, .. } if pending.len() == 1));
    assert_eq!((rig.running("1.0.0").len(), rig.running("1.2.0")), (3, vec!["box-2".to_owned()]));
    rig.clock.advance(std::time::Duration::from_secs(7 * 86_400));
    rig.restart();
    rig.fleet.edit("box-2", |device| device.online = true);
    rig.run(3);
    assert_eq!(rig.running("1.0.0").len(), 4);
    assert_eq!(rig.state(&id).members[&"box-2".parse().unwrap()].progress, Progress::Reverted);
}

#[test]
fn each_device_returns_to_its_own_previous_release() {
    let mut rig = Rig::new(3);
    let other = rig.fleet.add_release("0.9.0", Behaviour::Good);
    rig.fleet.add_device("old", Some(&other));
    rig.fleet.add_device("empty", None);
    rig.run(2);
    rig.release("1.2.0", Behaviour::OneClass);
    let id = rig.start("1.2.0", "5");
    rig.until(&id, "rolled-back");
    assert_eq!((rig.running("1.0.0").len(), rig.running("0.9.0")), (3, vec!["old".to_owned()]));
    assert!(rig.running("1.2.0").is_empty(), "a device that did not have the model loses it again");
}

#[test]
fn an_outage_that_silences_everybody_takes_nothing_back() {
    let mut rig = Rig::new(6);
    let id = rig.start("1.1.0", "3,6");
    rig.until(&id, "soaking");
    (0..6).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.online = false));
    rig.run(40);
    assert_eq!(rig.stage(&id), "soaking");
    (0..6).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.online = true));
    rig.until(&id, "completed");
}

#[test]
fn an_outage_in_the_last_wave_takes_nothing_back() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "4");
    rig.until(&id, "soaking");
    (0..4).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.online = false));
    rig.run(30);
    (0..4).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.online = true));
    rig.until(&id, "completed");
}

#[test]
fn a_controller_that_was_away_calls_nobody_silent() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "2,4");
    rig.until(&id, "soaking");
    rig.clock.advance(std::time::Duration::from_secs(3_600));
    rig.restart();
    rig.core.look().unwrap();
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Silent { .. })), 0);
    rig.until(&id, "completed");
}

#[test]
fn a_broker_that_is_away_silences_nobody() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "2,4");
    rig.until(&id, "soaking");
    rig.fleet.listen(false);
    (0..4).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.online = false));
    rig.run(30);
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Silent { .. })), 0);
}

#[test]
fn no_more_devices_change_at_once_than_a_site_allows() {
    let mut rig = Rig::new(8);
    (0..8).for_each(|i| {
        rig.fleet.edit(&format!("box-{i}"), |d| drop(d.labels.insert("site".into(), ["a", "b"][i % 2].into())));
    });
    let mut strategy = quick("8");
    strategy.per = Some(vec!["site:1".parse().unwrap()]);
    let id = rig.start_with("1.1.0", strategy);
    let mut most = 0;
    for _ in 0..60 {
        rig.second();
        let state = rig.state(&id);
        most = most.max(state.members.values().filter(|member| member.in_flight()).count());
    }
    assert_eq!((most, rig.stage(&id)), (2, "completed"));
}

#[test]
fn no_more_devices_change_at_once_than_asked() {
    let mut rig = Rig::new(9);
    let mut strategy = quick("9");
    strategy.max_concurrent = Some(3);
    let id = rig.start_with("1.1.0", strategy);
    for _ in 0..40 {
        rig.second();
        assert!(rig.state(&id).members.values().filter(|member| member.in_flight()).count() <= 3);
    }
    assert_eq!(rig.running("1.1.0").len(), 9);
}

#[test]
fn a_holdout_gets_the_release_when_the_last_soak_has_passed_or_never() {
    for (then, expected) in [("release", 6), ("keep", 4)] {
        let mut rig = Rig::new(6);
        let mut strategy = quick("1,100%");
        strategy.holdout = Some("2".parse().unwrap());
        strategy.holdout_then = Some(serde_json::from_value(then.into()).unwrap());
        let id = rig.start_with("1.1.0", strategy);
        rig.until(&id, "completed");
        assert_eq!(rig.running("1.1.0").len(), expected, "{then}");
        let passed = rig.events(&id).iter().filter(|r| matches!(r.event, Event::SoakStarted { .. })).count();
        assert_eq!(passed, 2, "a holdout has no soak");
    }
}

#[test]
fn a_second_rollout_of_the_model_on_the_same_devices_is_refused_and_the_first_is_named() {
    let mut rig = Rig::new(3);
    rig.release("1.2.0", Behaviour::Good);
    let first = rig.start("1.1.0", "3");
    let error = rig.try_start("1.2.0", quick("3")).unwrap_err();
    let CoreError::Start(StartError::Conflict { other, count, .. }) = &error else { panic!("{error:?}") };
    assert_eq!((other, *count), (&first, 3));
    assert!(fieldpost_shared::error_chain::Chain(&error).to_string().contains(first.as_str()));
    rig.until(&first, "completed");
    assert!(!matches!(rig.try_start("1.2.0", quick("3")), Err(CoreError::Start(StartError::Conflict { .. }))));
}

#[test]
fn a_selector_that_matches_nobody_is_refused_with_advice() {
    let mut rig = Rig::new(3);
    let mut strategy = quick("3");
    strategy.selector = Some("id=mars".into());
    let Err(CoreError::Start(error)) = rig.try_start("1.1.0", strategy) else { panic!("it began") };
    assert_eq!(error.to_string(), "the selector `id=mars` matches none of 3 active devices");
    assert!(error.hint().unwrap().contains("fieldpost device list"));
}

#[test]
fn waves_that_do_not_add_up_are_refused_before_anything_changes() {
    let mut rig = Rig::new(3);
    for (waves, why) in [("1,4", "only 3 can take part"), ("1,2", "the waves end at 2 of 3 devices")] {
        let error = rig.try_start("1.1.0", quick(waves)).unwrap_err();
        assert!(fieldpost_shared::error_chain::Chain(&error).to_string().contains(why), "{error:?}");
    }
    assert!(rig.core.list().is_empty());
}

#[test]
fn an_unknown_release_and_one_that_is_there_already_are_refused() {
    let mut rig = Rig::new(3);
    assert!(matches!(rig.try_start("9.9.9", quick("3")), Err(CoreError::Start(StartError::UnknownRelease { .. }))));
    assert!(matches!(rig.try_start("1.0.0", quick("3")), Err(CoreError::Start(StartError::AlreadyThere(3)))));
}

#[test]
fn boxes_that_cannot_run_the_release_are_left_out_and_named() {
    let mut rig = Rig::new(3);
    rig.fleet.edit("box-1", |device| device.inventory.arch = "riscv64".into());
    rig.fleet.edit_manifest("1.1.0", |manifest| manifest.requirements.arch = vec!["x86_64".into()]);
    rig.run(1);
    let id = rig.start("1.1.0", "1,2");
    assert_eq!(rig.state(&id).unfit[0].0.as_str(), "box-1");
    rig.until(&id, "completed");
    assert_eq!(rig.running("1.0.0"), ["box-1"]);
}

#[test]
fn a_wave_that_needs_approval_waits_for_it_and_is_still_watched() {
    let mut rig = Rig::new(4);
    let mut strategy = quick("1,4");
    strategy.approve_before = Some(vec![2.into()]);
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "awaiting-approval");
    rig.run(60);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len()), ("awaiting-approval", 1));
    rig.fleet.world().releases.get_mut(&"1.1.0".parse().unwrap()).unwrap().1 = Behaviour::Errors(0.9);
    rig.until(&id, "rolled-back");
}

#[test]
fn a_device_that_leaves_the_fleet_is_waited_for_no_more() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "2,4");
    rig.until(&id, "soaking");
    let first = rig.nth(&id, 0);
    rig.fleet.world().devices.remove(&first.parse().unwrap());
    rig.until(&id, "completed");
    assert_eq!(rig.running("1.1.0").len(), 3);
}

#[test]
fn a_wave_with_too_few_requests_to_judge_holds_unless_requests_are_enough() {
    for (evidence, ends) in [("gates", "paused"), ("requests", "completed")] {
        let mut rig = Rig::new(2);
        let mut strategy = quick("1,2");
        strategy.evidence = Some(serde_json::from_value(evidence.into()).unwrap());
        let id = rig.start_with("1.1.0", strategy);
        rig.until(&id, "soaking");
        (0..2).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.traffic = 0));
        // One request each, in a window of its own: enough to be there, too few to judge.
        for i in 0..2 {
            rig.fleet.edit(&format!("box-{i}"), |device| device.traffic = 1);
        }
        rig.second();
        (0..2).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.traffic = 0));
        rig.until(&id, if evidence == "gates" { ends } else { "deploying" });
        assert_eq!(rig.count(&id, |e| matches!(e, Event::WavePassed { .. })), usize::from(evidence == "requests"));
    }
}

#[test]
fn a_device_that_failed_is_told_to_go_back_too() {
    let mut rig = Rig::new(2);
    rig.release("1.2.0", Behaviour::Fails(FailureKind::SelfTest));
    let id = rig.start("1.2.0", "2");
    rig.until(&id, "rolled-back");
    let told = rig.fleet.world().devices.values().map(|d| d.desired.clone().unwrap()).collect::<Vec<_>>();
    assert!(told.iter().all(|to| to.release.version.to_string() == "1.0.0"), "{told:?}");
}

#[test]
fn a_report_from_before_the_order_confirms_neither_going_nor_coming_back() {
    let mut rig = Rig::new(2);
    let id = rig.start("1.1.0", "2");
    rig.until(&id, "soaking");
    // Away from now on: its newest report says 1.1.0, and stays so.
    rig.fleet.edit("box-0", |device| device.online = false);
    rig.command(&id, &crate::rollout::machine::Command::Rollback { reason: "x".into() });
    rig.until(&id, "rolled-back");
    let again = rig.start("1.1.0", "2");
    rig.run(5);
    let live = |rig: &Rig| rig.state(&again).members[&"box-0".parse().unwrap()].progress == Progress::Live;
    assert!(!live(&rig), "the old report does not answer the new order");
    rig.fleet.edit("box-0", |device| device.online = true);
    rig.run(5);
    assert!(live(&rig));
}
