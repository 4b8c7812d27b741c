//! Silence that says nothing about the release, and silence that does.

use super::fake::{Behaviour, Rig};
use crate::rollout::events::Event;

fn all_online(rig: &Rig, count: usize, online: bool) {
    (0..count).for_each(|i| rig.fleet.edit(&format!("box-{i}"), |device| device.online = online));
}

/// An outage of a whole site that is longer than `silence_after`; then something happens to the controller.
fn check(then: impl Fn(&mut Rig)) {
    let mut rig = Rig::new(6);
    let id = rig.start("1.1.0", "3,6");
    rig.until(&id, "soaking");
    all_online(&rig, 6, false);
    rig.run(20);
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Silent { accepted: true, .. })), 3);
    then(&mut rig);
    rig.run(20);
    assert_eq!(rig.count(&id, |e| matches!(e, Event::RollbackStarted { .. })), 0, "{}", rig.reason(&id));
    all_online(&rig, 6, true);
    rig.until(&id, "completed");
}

#[test]
fn an_outage_in_which_the_controller_restarts_takes_nothing_back() {
    check(Rig::restart);
}

#[test]
fn an_outage_in_which_the_link_comes_back_first_takes_nothing_back() {
    check(|rig| {
        rig.fleet.listen(false);
        rig.run(3);
        rig.fleet.listen(true);
    });
}

#[test]
fn an_outage_in_which_the_link_stays_away_takes_nothing_back() {
    check(|rig| {
        rig.fleet.listen(false);
        rig.run(30);
        rig.fleet.listen(true);
    });
}

#[test]
fn devices_that_the_release_silenced_still_count_after_a_restart() {
    let mut rig = Rig::new(6);
    rig.release("1.2.0", Behaviour::Silences);
    let id = rig.start("1.2.0", "1,6");
    while rig.count(&id, |e| matches!(e, Event::Assigned { .. })) == 0 {
        rig.second();
    }
    rig.run(5);
    rig.restart();
    rig.until(&id, "rolled-back");
    assert!(rig.reason(&id).contains("1 fell silent"), "{}", rig.reason(&id));
}

#[test]
fn no_wave_passes_while_nobody_knows_whether_silent_devices_are_there() {
    let mut rig = Rig::new(10);
    let mut strategy = super::fake::quick("5,10");
    // One of five may be away, and is.
    strategy.soak = Some(std::time::Duration::from_secs(20));
    strategy.max_offline = Some("20%".parse().unwrap());
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "soaking");
    let first = rig.nth(&id, 0);
    rig.fleet.edit(&first, |device| device.online = false);
    while rig.count(&id, |e| matches!(e, Event::Silent { .. })) == 0 {
        rig.second();
    }
    rig.run(7);
    rig.restart();
    rig.run(5);
    let waiting = rig.core.explain(&id).unwrap().waiting.join("; ");
    assert_eq!(rig.count(&id, |e| matches!(e, Event::WavePassed { .. })), 0);
    assert!(waiting.contains("since the controller listens again"), "{waiting}");
}

#[test]
fn a_few_of_many_devices_that_are_away_are_not_the_release() {
    let mut rig = Rig::new(60);
    let id = rig.start("1.1.0", "30,60");
    rig.until(&id, "soaking");
    let away: Vec<String> = (0..3).map(|place| rig.nth(&id, place)).collect();
    away.iter().for_each(|name| rig.fleet.edit(name, |device| device.online = false));
    rig.run(20);
    assert_eq!(rig.count(&id, |e| matches!(e, Event::Silent { accepted: true, .. })), 3);
    assert_eq!(rig.count(&id, |e| matches!(e, Event::RollbackStarted { .. })), 0, "{}", rig.reason(&id));
}

#[test]
fn many_of_many_devices_that_fall_silent_are_the_release() {
    let mut rig = Rig::new(60);
    rig.release("1.2.0", Behaviour::Silences);
    let id = rig.start("1.2.0", "30,60");
    rig.until(&id, "rolled-back");
    assert!(rig.reason(&id).contains("fell silent"), "{}", rig.reason(&id));
}
