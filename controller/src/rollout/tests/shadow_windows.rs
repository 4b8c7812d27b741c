//! Shadows and waves whose devices are told within maintenance windows, and devices that do not come to theirs.

use super::fake::{Behaviour, Rig, device, quick};
use crate::rollout::events::Event;
use crate::rollout::machine::{Member, Progress};
use crate::rollout::strategy::StrategyFile;
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::time::Clock as _;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Boxes in UTC, and among them one in Tokyo and one in Berlin that are not there any more. It is 22:13 in UTC.
fn rig(count: usize) -> Rig {
    let mut rig = Rig::new(count);
    rig.release("1.1.0", Behaviour::Good);
    rig.fleet.edit_manifest("1.1.0", |manifest| manifest.budgets.max_disagreement = Some(0.05));
    rig.fleet.understand();
    rig.run(2);
    for (name, zone) in [("box-0", "Asia/Tokyo"), ("box-1", "Europe/Berlin")] {
        rig.fleet.edit(name, |device| {
            drop(device.labels.insert("timezone".into(), zone.into()));
            device.online = false;
        });
    }
    rig.clock.advance(Duration::from_secs(60));
    rig.fleet.tick();
    rig
}

fn within(windows: &str, waves: &str) -> StrategyFile {
    StrategyFile {
        maintenance: Some(vec![windows.parse().unwrap()]),
        timezone: Some("UTC".parse().unwrap()),
        device_timeout: Some(Duration::from_secs(1_200)),
        wave_timeout: Some(2 * HOUR),
        max_dwell: Some(2 * HOUR),
        max_offline: Some("100%".parse().unwrap()),
        ..quick(waves)
    }
}

/// Lets time pass, a look every `step`, until the rollout is in one of these states.
fn pass(rig: &mut Rig, id: &RolloutId, stages: &[&str], (step, most): (Duration, Duration)) {
    let end = rig.clock.now().plus(most);
    while !stages.contains(&rig.stage(id)) {
        assert!(rig.clock.now() < end, "still {}: {}", rig.stage(id), rig.waiting(id));
        rig.clock.advance(step);
        rig.fleet.tick();
        rig.second();
    }
}

fn member<'r>(rig: &'r Rig, id: &RolloutId, name: &str) -> &'r Member {
    &rig.state(id).members[&device(name)]
}

const MINUTE: Duration = Duration::from_secs(59);

#[test]
fn a_shadow_does_not_wait_for_the_windows_of_devices_that_are_away() {
    let mut rig = rig(3);
    let id = rig.start_with("1.1.0", StrategyFile { shadow: Some(HOUR), ..within("01:00-05:00", "3") });
    pass(&mut rig, &id, &["completed"], (MINUTE, 3 * DAY));
    assert_eq!(rig.running("1.1.0"), ["box-2"]);
    // Who comes later has its shadow then.
    rig.fleet.edit("box-0", |device| device.online = true);
    let end = rig.clock.now().plus(4 * DAY);
    while rig.clock.now() < end && member(&rig, &id, "box-0").progress != Progress::Live {
        rig.clock.advance(MINUTE);
        rig.fleet.tick();
        rig.second();
    }
    let of_box = |event: &Event| match event {
        Event::Shadowed { device, .. } | Event::SwapAsked { device, .. } | Event::Live { device } => {
            device.as_str() == "box-0"
        }
        _ => false,
    };
    assert_eq!(rig.count(&id, of_box), 3, "{:?}", member(&rig, &id, "box-0"));
}

#[test]
fn a_wave_does_not_wait_for_the_window_of_a_device_that_is_away() {
    let mut rig = rig(3);
    // Shorter than a device that is away is waited for.
    let id = rig.start_with("1.1.0", within("01:00-01:10", "3"));
    pass(&mut rig, &id, &["completed"], (MINUTE, 3 * DAY));
    assert_eq!(rig.running("1.1.0"), ["box-2"]);
}

#[test]
fn windows_that_open_for_nobody_pause_the_wave_at_last() {
    for shadow in [None, Some(HOUR)] {
        let mut rig = rig(2);
        let id = rig.start_with("1.1.0", StrategyFile { shadow, ..within("01:00-05:00", "2") });
        pass(&mut rig, &id, &["paused"], (Duration::from_secs(1_799), 30 * DAY));
        let long = rig.clock.now().since(rig.state(&id).wave_since);
        assert!(long >= 7 * DAY, "a window that opens once a week has opened: {long:?} {}", rig.reason(&id));
    }
}

#[test]
fn who_joins_does_not_make_a_shadow_longer() {
    let mut rig = rig(3);
    let id = rig.start_with("1.1.0", StrategyFile { shadow: Some(3 * HOUR), ..within("00:00-24:00", "3") });
    rig.run(5);
    let old = rig.fleet.world().releases[&"1.0.0".parse().unwrap()].0.release.clone();
    let end = rig.clock.now().plus(7 * HOUR);
    while rig.stage(&id) == "shadowing" {
        assert!(rig.clock.now() < end, "still in shadow: {}", rig.waiting(&id));
        let name = format!("new-{}", rig.clock.now().as_millis());
        rig.fleet.add_device(&name, Some(&old));
        rig.fleet.understand();
        for _ in 0..60 {
            rig.clock.advance(MINUTE);
            rig.fleet.tick();
            rig.second();
        }
    }
    assert_eq!(rig.stage(&id), "deploying");
}
