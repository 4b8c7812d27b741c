//! The experiment in the engine: looks, what follows from them, and what it leaves to people.

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::events::Event;
use crate::rollout::machine::Command;
use crate::rollout::plot::series;
use crate::rollout::strategy::{Demand, SmallFleet, StrategyFile};
use crate::rollout::trial::{Look, LookVerdict};

fn trial(waves: &str) -> StrategyFile {
    StrategyFile { evidence: Some(Demand::Trial), max_dwell: None, ..quick(waves) }
}

fn looks(rig: &Rig, id: &fieldpost_shared::id::RolloutId) -> Vec<Look> {
    let look = |event| if let Event::Looked { look, .. } = event { Some(*look) } else { None };
    rig.events(id).into_iter().filter_map(|record| look(record.event)).collect()
}

#[test]
fn a_harmless_release_passes_each_wave_by_its_proof() {
    let mut rig = Rig::new(40);
    let id = rig.start_with("1.1.0", trial("10,20,100%"));
    rig.until(&id, "completed");
    assert_eq!(rig.state(&id).waves.iter().map(|wave| wave.reaches).collect::<Vec<_>>(), [10, 20, 38, 40]);
    let looks = looks(&rig, &id);
    assert_eq!(looks.len(), 3, "one each was enough");
    assert!(looks.iter().all(|look| look.verdict == LookVerdict::Proven), "{looks:#?}");
    assert_eq!(looks.iter().map(|look| look.metrics[0].treated.devices).collect::<Vec<_>>(), [10, 20, 38]);
}

#[test]
fn harm_within_the_limits_is_found_by_the_comparison() {
    let mut rig = Rig::new(40);
    rig.release("1.2.0", Behaviour::Errors(0.015));
    let id = rig.start_with("1.2.0", trial("10,20,100%"));
    rig.until(&id, "rolled-back");
    assert!(rig.reason(&id).contains("rank 1"), "{}", rig.reason(&id));
    let looks = looks(&rig, &id);
    assert_eq!(looks.last().unwrap().verdict, LookVerdict::Harm);
    assert!(rig.running("1.2.0").is_empty());
    let told = rig.core.explain(&id).unwrap().events;
    let look = told.iter().find(|told| told.sentence.contains("worse in errors")).unwrap();
    assert!(look.because[0].contains("alpha to be spent") && look.because[0].contains("decide at look"), "{look:#?}");
    let events = rig.events(&id);
    let drawn = series(events.iter().map(|record| (record.at, &record.event)));
    assert_eq!(drawn[0].metric, "errors");
    assert_eq!(drawn[0].points.len(), looks.len());
    let last = drawn[0].points.last().unwrap();
    assert!(last.decides && Some(last.treated) > last.controls && last.test.is_some(), "{last:#?}");
    assert!(drawn.iter().any(|series| series.metric == "error-rate"), "the limit is drawn too");
}

#[test]
fn errors_that_everybody_has_take_nothing_back() {
    let mut rig = Rig::new(40);
    (0..40).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.upstream_errors = 0.30));
    let id = rig.start_with("1.1.0", trial("10,100%"));
    rig.run(200);
    assert_ne!(rig.stage(&id), "rolled-back", "{}", rig.reason(&id));
}

#[test]
fn nothing_is_decided_between_looks() {
    let mut rig = Rig::new(40);
    rig.release("1.2.0", Behaviour::Errors(0.015));
    let id = rig.start_with("1.2.0", trial("10,100%"));
    rig.until(&id, "soaking");
    rig.run(8);
    assert_eq!((rig.stage(&id), looks(&rig, &id).len()), ("soaking", 0));
    rig.run(5);
    assert_eq!(looks(&rig, &id).len(), 1);
}

#[test]
fn a_controller_that_restarts_again_and_again_makes_the_same_looks() {
    let run = |restarts: bool| {
        let mut rig = Rig::new(30);
        rig.release("1.2.0", Behaviour::Errors(0.004));
        let mut strategy = trial("10,100%");
        strategy.trial = Some(toml::from_str("acceptable.errors = 0.0\nlook_every = \"5s\"").unwrap());
        let id = rig.start_with("1.2.0", strategy);
        for second in 0..90 {
            rig.second();
            // It has to have listened for as long as a look takes, or it waits for that.
            if restarts && second % 12 == 0 {
                rig.restart();
            }
        }
        looks(&rig, &id).into_iter().map(|look| (look.number, look.metrics)).collect::<Vec<_>>()
    };
    let (calm, restless) = (run(false), run(true));
    assert!(!calm.is_empty() && !restless.is_empty());
    for (number, metrics) in &restless {
        let retired: usize = metrics.iter().map(|metric| metric.harm.retired.len()).sum();
        let of_calm = calm.iter().find(|(other, _)| other == number);
        let expected: usize =
            of_calm.map_or(retired, |(_, metrics)| metrics.iter().map(|metric| metric.harm.retired.len()).sum());
        assert_eq!(retired, expected, "look {number}");
    }
}

#[test]
fn without_proof_it_pauses_and_a_person_may_let_the_wave_pass() {
    let mut rig = Rig::new(40);
    let mut strategy = trial("10,100%");
    // So few requests bound nothing, and without errors ranks tie.
    strategy.trial = Some(toml::from_str("acceptable.errors = 0.00001\nlooks = 2").unwrap());
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "paused");
    assert!(rig.reason(&id).contains("inconclusive") && rig.reason(&id).contains("errors"), "{}", rig.reason(&id));
    assert_eq!(looks(&rig, &id).len(), 2);
    rig.command(&id, &Command::Resume { accept: true });
    rig.run(30);
    assert_eq!(rig.state(&id).stage.wave(), Some(1));
    assert_eq!(rig.running("1.1.0").len(), 38);
}

#[test]
fn a_wave_too_small_to_compare_asks_before_the_next_one() {
    let mut rig = Rig::new(12);
    let id = rig.start_with("1.1.0", trial("1,6,100%"));
    rig.until(&id, "awaiting-approval");
    let told = rig.core.explain(&id).unwrap().events;
    assert!(told.iter().any(|told| told.sentence.contains("1 against 11 devices")), "{told:#?}");
    assert!(looks(&rig, &id).is_empty());
    rig.command(&id, &Command::Approve);
    rig.until(&id, "soaking");
    assert_eq!(rig.state(&id).stage.wave(), Some(1));
}

#[test]
fn a_small_fleet_may_be_left_to_the_limits() {
    let mut rig = Rig::new(4);
    let strategy = StrategyFile { small_fleet: Some(SmallFleet::Limits), ..trial("1,2,4") };
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "completed");
    assert!(looks(&rig, &id).is_empty());
    assert_eq!(rig.state(&id).waves.len(), 3, "nobody is held out where nothing can be compared");
}

#[test]
fn a_first_release_is_left_to_the_limits() {
    let mut rig = Rig::new(0);
    (0..6).for_each(|i| rig.fleet.add_device(&format!("new-{i}"), None));
    rig.run(2);
    let strategy = StrategyFile { min_requests: Some(0), evidence: Some(Demand::Trial), ..quick("2,6") };
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "completed");
    assert_eq!(rig.state(&id).design, None);
}

#[test]
fn devices_that_fall_silent_are_held_against_the_release() {
    let mut rig = Rig::new(40);
    rig.release("1.2.0", Behaviour::Silences);
    let id = rig.start_with("1.2.0", trial("10,100%"));
    rig.until(&id, "rolled-back");
}

fn watched(rig: &Rig, id: &fieldpost_shared::id::RolloutId) -> Vec<u16> {
    let slice = |event| if let Event::Watched { slice, .. } = event { Some(slice) } else { None };
    rig.events(id).into_iter().filter_map(|record| slice(record.event)).collect()
}

/// Nobody is held out, so that nobody is left without the release.
fn everybody(rig: &Rig, waves: &str) -> StrategyFile {
    rig.fleet.world().devices.values_mut().for_each(|device| device.traffic = 200);
    let mut strategy = trial(waves);
    strategy.holdout = Some("0".parse().unwrap());
    strategy.soak = Some(std::time::Duration::from_secs(20));
    strategy.history = Some(std::time::Duration::from_secs(100));
    strategy
}

#[test]
fn the_last_of_all_devices_are_held_against_their_own_past() {
    let mut rig = Rig::new(40);
    let strategy = everybody(&rig, "10,100%");
    rig.run(100);
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "completed");
    assert_eq!(looks(&rig, &id).len(), 1);
    let watch = rig.state(&id).design.as_ref().unwrap().waves[1].watch.unwrap();
    assert!(watched(&rig, &id).last().unwrap() >= &watch.needed, "{watch:?} {:?}", watched(&rig, &id));
    assert_eq!(rig.running("1.1.0").len(), 40);
}

#[test]
fn harm_that_nobody_can_be_compared_with_is_found_by_the_past() {
    let mut rig = Rig::new(40);
    rig.release("1.2.0", Behaviour::Errors(0.009));
    let strategy = everybody(&rig, "100%");
    rig.run(100);
    let id = rig.start_with("1.2.0", strategy);
    rig.until(&id, "rolled-back");
    assert!(rig.reason(&id).contains("above all of their past"), "{}", rig.reason(&id));
    assert!(rig.running("1.2.0").is_empty());
    let told = rig.core.explain(&id).unwrap().events;
    assert!(told.iter().any(|told| told.sentence.contains("worse than they were in errors")), "{told:#?}");
}

#[test]
fn a_watch_goes_on_where_it_was_after_a_restart() {
    let mut rig = Rig::new(10);
    let strategy = everybody(&rig, "100%");
    rig.run(100);
    let id = rig.start_with("1.1.0", strategy);
    for second in 0..80 {
        rig.second();
        if second % 9 == 0 {
            rig.restart();
        }
    }
    assert_eq!(rig.stage(&id), "completed", "{:?}", rig.waiting(&id));
    let slices = watched(&rig, &id);
    assert!(slices.is_sorted() && slices.windows(2).all(|pair| pair[0] < pair[1]), "{slices:?}");
}
