//! A controller whose wall clock jumps: nothing is too late because of it, nothing has lasted long enough, nothing waits for ever.

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::events::Event;
use crate::rollout::strategy::{Demand, StrategyFile};
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::time::Clock as _;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn forward(rig: &Rig) {
    rig.clock.jump_to(rig.clock.now().plus(DAY));
}

fn back(rig: &Rig) {
    rig.clock.jump_to(rig.clock.now().minus(DAY));
}

fn jumps(rig: &Rig, id: &RolloutId) -> usize {
    rig.count(id, |event| matches!(event, Event::ClockJumped { .. }))
}

/// What happens to a wave that soaks when the clock jumps: neither does it pass at once, nor does it wait for a day.
fn soak(jump: fn(&Rig)) {
    let mut rig = Rig::new(4);
    let id = rig.start_with("1.1.0", StrategyFile { soak: Some(Duration::from_secs(30)), ..quick("1,4") });
    rig.until(&id, "soaking");
    rig.run(10);
    jump(&rig);
    rig.run(25);
    assert_eq!((rig.stage(&id), rig.running("1.1.0").len(), jumps(&rig, &id)), ("soaking", 1, 1));
    rig.run(120);
    assert_eq!((rig.stage(&id), jumps(&rig, &id)), ("completed", 1), "{}", rig.waiting(&id));
}

#[test]
fn a_soak_is_as_long_as_it_should_be_when_the_clock_jumps_forward() {
    soak(forward);
}

#[test]
fn a_soak_is_as_long_as_it_should_be_when_the_clock_is_put_back() {
    soak(back);
}

#[test]
fn nobody_is_too_late_because_the_clock_jumps_forward() {
    let mut rig = Rig::new(4);
    rig.release("1.1.0", Behaviour::Hangs);
    let id = rig.start("1.1.0", "2,4");
    rig.run(20);
    assert_eq!(rig.stage(&id), "deploying");
    forward(&rig);
    rig.run(20);
    assert_eq!(rig.stage(&id), "deploying", "neither paused nor rolled back: {}", rig.reason(&id));
    assert_eq!(rig.count(&id, |event| matches!(event, Event::Failed { .. } | Event::Silent { .. })), 0);
}

#[test]
fn a_device_that_falls_silent_after_the_clock_was_put_back_is_noticed() {
    let mut rig = Rig::new(4);
    let id = rig.start_with("1.1.0", StrategyFile { soak: Some(Duration::from_secs(3_000)), ..quick("1,4") });
    rig.until(&id, "soaking");
    let first = rig.nth(&id, 0);
    rig.fleet.edit(&first, |device| device.online = false);
    back(&rig);
    rig.run(700);
    assert!(rig.count(&id, |event| matches!(event, Event::Silent { .. })) > 0, "{}", rig.waiting(&id));
}

#[test]
fn a_controller_that_begins_before_its_last_event_lets_the_clocks_begin_anew() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "1,4");
    rig.until(&id, "soaking");
    back(&rig);
    rig.restart();
    rig.run(120);
    assert_eq!((rig.stage(&id), jumps(&rig, &id)), ("completed", 1), "{}", rig.waiting(&id));
}

#[test]
fn what_arrived_before_the_clock_was_put_back_is_no_evidence_afterwards() {
    for restarts in [false, true] {
        let mut rig = Rig::new(4);
        let id = rig.start("1.1.0", "1,4");
        rig.until(&id, "soaking");
        rig.run(2);
        back(&rig);
        // Nobody asks it anything any more.
        rig.fleet.world().devices.values_mut().for_each(|device| device.traffic = 0);
        if restarts {
            rig.restart();
        }
        rig.run(100);
        assert_eq!((rig.stage(&id), jumps(&rig, &id)), ("paused", 1), "{}", rig.waiting(&id));
        assert!(rig.reason(&id).contains("0 of 1 devices have sent a window"), "{}", rig.reason(&id));
    }
}

#[test]
fn what_arrived_while_only_completed_rollouts_were_there_is_no_evidence_after_a_start_with_an_earlier_clock() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "1,4");
    rig.until(&id, "completed");
    rig.run(5);
    back(&rig);
    rig.fleet.world().devices.values_mut().for_each(|device| device.traffic = 0);
    rig.restart();
    rig.release("1.2.0", Behaviour::Good);
    rig.start("1.2.0", "1,4");
    rig.run(2);
    let now = rig.clock.now();
    let world = rig.fleet.world();
    let arrived = || world.devices.values().flat_map(|device| device.windows.iter().map(|(at, ..)| *at));
    assert!(arrived().count() > 0 && arrived().all(|at| at <= now));
}

#[test]
fn looks_are_made_anew_and_what_they_spent_stays_spent() {
    let mut rig = Rig::new(40);
    let strategy = StrategyFile { evidence: Some(Demand::Trial), max_dwell: None, ..quick("10,100%") };
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "soaking");
    forward(&rig);
    rig.run(3);
    let looked = |rig: &Rig| rig.count(&id, |event| matches!(event, Event::Looked { .. }));
    assert_eq!((rig.stage(&id), looked(&rig)), ("soaking", 0), "no look is due because of the jump");
    rig.until(&id, "completed");
    assert!(looked(&rig) > 0);
}

#[test]
fn clocks_are_set_right_by_a_little_all_the_time() {
    let mut rig = Rig::new(4);
    let id = rig.start("1.1.0", "1,4");
    for _ in 0..10 {
        rig.clock.jump_to(rig.clock.now().plus(Duration::from_secs(2)));
        rig.second();
    }
    rig.until(&id, "completed");
    assert_eq!(jumps(&rig, &id), 0);
}
