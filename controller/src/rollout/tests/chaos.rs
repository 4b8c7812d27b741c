//! Anything, in any order: devices come and go, the broker is away, people change their minds, the controller is
//! killed. Whatever happened, when it is over every device runs what the rollout's end says.

mod always;

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::machine::{AbortMode, Command, Progress};
use always::Watch;
use fieldpost_shared::id::{DeviceId, RolloutId};
use fieldpost_shared::time::Clock;
use fieldpost_shared::wire::v1::FailureKind;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Happening {
    Seconds(u64),
    Away(usize),
    Back(usize),
    Idle(usize),
    Joins,
    Leaves(usize),
    Broker(bool),
    /// What a device says is lost, or arrives again.
    Mute(usize, bool),
    /// What a device is told is lost, or arrives again.
    Deaf(usize, bool),
    /// The controller's wall clock jumps, by so many seconds.
    Jump(i64),
    Restart,
    /// Somebody starts another rollout of the model.
    Rival,
    Order(Command),
    Becomes(Behaviour),
}

fn command() -> impl Strategy<Value = Command> {
    let reason = || "chaos".to_owned();
    prop_oneof![
        Just(Command::Pause { reason: reason() }),
        any::<bool>().prop_map(|accept| Command::Resume { accept }),
        Just(Command::Approve),
        Just(Command::Abort { mode: AbortMode::Keep, reason: reason() }),
        Just(Command::Abort { mode: AbortMode::Revert, reason: reason() }),
        Just(Command::Rollback { reason: reason() }),
    ]
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        4 => Just(Behaviour::Good),
        1 => Just(Behaviour::OneClass),
        1 => Just(Behaviour::Errors(0.5)),
        1 => Just(Behaviour::Slow(300)),
        1 => Just(Behaviour::Hangs),
        1 => Just(Behaviour::Silences),
        1 => Just(Behaviour::Fails(FailureKind::SelfTest)),
        1 => Just(Behaviour::Fails(FailureKind::Unfit)),
        1 => Just(Behaviour::FailsLive(FailureKind::Crash)),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (1_u64..30).prop_map(Happening::Seconds),
        2 => (0_usize..6).prop_map(Happening::Away),
        2 => (0_usize..6).prop_map(Happening::Back),
        1 => (0_usize..6).prop_map(Happening::Idle),
        1 => Just(Happening::Joins),
        1 => (0_usize..6).prop_map(Happening::Leaves),
        1 => any::<bool>().prop_map(Happening::Broker),
        2 => (0_usize..6, any::<bool>()).prop_map(|(i, on)| Happening::Mute(i, on)),
        2 => (0_usize..6, any::<bool>()).prop_map(|(i, on)| Happening::Deaf(i, on)),
        1 => (-20_i64..300).prop_map(Happening::Jump),
        2 => Just(Happening::Restart),
        1 => Just(Happening::Rival),
        2 => command().prop_map(Happening::Order),
        1 => behaviour().prop_map(Happening::Becomes),
    ]
}

fn box_(i: usize) -> String {
    format!("box-{i}")
}

impl Rig {
    fn edit_if_there(&self, i: usize, edit: impl FnOnce(&mut super::fake::FakeDevice)) {
        if let Some(device) = self.fleet.world().devices.get_mut(&box_(i).parse().unwrap()) {
            edit(device);
        }
    }

    fn becomes(&self, behaviour: Behaviour) {
        self.fleet.world().releases.get_mut(&"1.2.0".parse().unwrap()).unwrap().1 = behaviour;
    }

    fn happen(&mut self, watch: &mut Watch, happening: Happening) {
        let id = watch.first.clone();
        match happening {
            Happening::Seconds(seconds) => (0..seconds).for_each(|_| {
                self.second();
                watch.check(self);
            }),
            Happening::Away(i) => self.edit_if_there(i, |device| device.online = false),
            Happening::Back(i) => self.edit_if_there(i, |device| device.online = true),
            Happening::Idle(i) => self.edit_if_there(i, |device| device.traffic = 0),
            Happening::Joins => {
                let old = self.fleet.add_release("1.0.0", Behaviour::Good);
                // A name that nobody has: another box under a known name would be a box whose disk was replaced.
                let free = |n: &usize| !self.fleet.world().devices.contains_key(&format!("late-{n}").parse().unwrap());
                let name = format!("late-{}", (6..).find(free).unwrap());
                self.fleet.add_device(&name, Some(&old));
            }
            Happening::Leaves(i) => drop(self.fleet.world().devices.remove(&box_(i).parse().unwrap())),
            Happening::Broker(there) => self.fleet.listen(there),
            Happening::Mute(i, on) => self.edit_if_there(i, |device| device.mute = on),
            Happening::Deaf(i, on) => self.edit_if_there(i, |device| device.deaf = on),
            Happening::Jump(seconds) => {
                let (now, by) = (self.clock.now(), Duration::from_secs(seconds.unsigned_abs()));
                self.clock.jump_to(if seconds < 0 { now.minus(by) } else { now.plus(by) });
            }
            Happening::Restart => self.restart(),
            // Refused while the first one has the devices.
            Happening::Rival => drop(self.try_start("1.3.0", quick("2,100%"))),
            // Refused or not, nothing may break.
            Happening::Order(command) => drop(self.core.command(&id, &command, "chaos")),
            Happening::Becomes(behaviour) => self.becomes(behaviour),
        }
    }

    fn heal(&mut self) {
        self.fleet.listen(true);
        let mut world = self.fleet.world();
        for device in world.devices.values_mut() {
            (device.online, device.traffic, device.mute, device.deaf) = (true, 20, false, false);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_every_device_ends_where_the_rollout_ends(
        first in behaviour(),
        happenings in proptest::collection::vec(happening(), 0..25),
        approve in any::<bool>(),
        shadow in any::<bool>(),
    ) {
        check(first, happenings, approve, shadow)?;
    }
}

#[test]
fn a_fleet_may_change_its_members_in_the_middle() {
    let happenings =
        vec![Happening::Joins, Happening::Seconds(19), Happening::Seconds(18), Happening::Leaves(0), Happening::Joins];
    check(Behaviour::Good, happenings, false, false).unwrap();
}

/// Devices that change at the same time.
const CONCURRENT: usize = 2;

fn check(first: Behaviour, happenings: Vec<Happening>, approve: bool, shadow: bool) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(6);
    rig.release("1.2.0", first);
    rig.release("1.3.0", Behaviour::Good);
    let mut strategy = quick("1,50%,100%");
    strategy.approve_before = approve.then(|| vec![2.into()]);
    strategy.max_concurrent = Some(CONCURRENT);
    if shadow {
        strategy.shadow = Some(Duration::from_secs(5));
        rig.fleet.understand();
    }
    let id = rig.start_with("1.2.0", strategy);
    let mut watch = Watch::new(&id);
    for happening in happenings {
        rig.happen(&mut watch, happening);
    }
    rig.heal();
    rig.happen(&mut watch, Happening::Seconds(350));
    let all: Vec<RolloutId> = rig.core.list().into_iter().map(|summary| summary.id).collect();
    for id in &all {
        if !rig.state(id).stage.active() {
            continue;
        }
        // It waits for a person, and for nothing else.
        let stage = rig.stage(id);
        prop_assert!(
            ["paused", "awaiting-approval"].contains(&stage),
            "{stage}: {:?}",
            rig.core.explain(id).unwrap().waiting
        );
        rig.core.command(id, &Command::Rollback { reason: "over".into() }, "chaos").unwrap();
        rig.happen(&mut watch, Happening::Seconds(60));
    }
    all.iter().try_for_each(|id| ended(&rig, id, first))
}

/// Whether every device runs what the end of a rollout says, unless another rollout has touched it.
fn ended(rig: &Rig, id: &RolloutId, first: Behaviour) -> Result<(), TestCaseError> {
    let last = rig.fleet.world().releases[&"1.2.0".parse().unwrap()].1;
    let silenced = first == Behaviour::Silences || last == Behaviour::Silences;
    // Nobody watches a rollout that has ended: what devices take back later is theirs.
    let taken_back_later = matches!(last, Behaviour::FailsLive(_));
    let (stage, state) = (rig.stage(id), rig.state(id));
    let others: Vec<RolloutId> = rig.core.list().into_iter().map(|s| s.id).filter(|other| other != id).collect();
    let touched = |device: &DeviceId| {
        others.iter().any(|other| rig.state(other).members.get(device).is_some_and(|member| member.touched))
    };
    let world = rig.fleet.world();
    for (device, member) in state.members.iter().filter(|(device, _)| !touched(device)) {
        let Some(found) = world.devices.get(device) else { continue };
        let release = &state.spec.release;
        let (live, previous) = (found.live.as_ref(), member.previous.as_ref().map(|previous| &previous.release));
        match (stage, member.progress) {
            ("rolled-back" | "aborted-reverted", Progress::Waiting) => {
                prop_assert!(live != Some(release), "{device}: {member:?}");
            }
            ("rolled-back" | "aborted-reverted", Progress::Reverted) => {
                prop_assert_eq!(live, previous, "{}: {:?}", device, member);
            }
            ("completed" | "aborted-kept", Progress::Live) => {
                prop_assert!(live == Some(release) || taken_back_later, "{device}: {member:?}");
            }
            // Devices that cut themselves off never say that they went back.
            ("rolled-back" | "aborted-reverted" | "aborted-kept", Progress::Reverting) => {
                prop_assert!(silenced, "{device}: {member:?}");
            }
            ("rolled-back" | "aborted-reverted", progress) if member.touched => {
                let left = matches!(progress, Progress::Superseded | Progress::Gone);
                prop_assert!(left, "{device} was touched and is not back: {member:?}");
            }
            _ => {}
        }
    }
    Ok(())
}
