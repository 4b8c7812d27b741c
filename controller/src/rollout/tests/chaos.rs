//! Anything, in any order: devices come and go, the broker is away, people change their minds, the controller is
//! killed. Whatever happened, when it is over every device runs what the rollout's end says.

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::events::Event;
use crate::rollout::gates::Verdict;
use crate::rollout::machine::{AbortMode, Command, Progress, fold};
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::wire::v1::FailureKind;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Happening {
    Seconds(u64),
    Away(usize),
    Back(usize),
    Idle(usize),
    Joins,
    Leaves(usize),
    Broker(bool),
    Restart,
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
        2 => Just(Happening::Restart),
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

    fn happen(&mut self, id: &RolloutId, happening: Happening) {
        match happening {
            Happening::Seconds(seconds) => (0..seconds).for_each(|_| {
                self.second();
                self.check(id);
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
            Happening::Restart => self.restart(),
            // Refused or not, nothing may break.
            Happening::Order(command) => drop(self.core.command(id, &command, "chaos")),
            Happening::Becomes(behaviour) => self.becomes(behaviour),
        }
    }

    /// What holds at every moment.
    fn check(&self, id: &RolloutId) {
        let (state, records) = (self.state(id), self.events(id));
        assert_eq!(&fold(&records).unwrap(), state, "the state is the fold of what is stored");
        let started = records.iter().filter_map(|record| match record.event {
            Event::WaveStarted { wave } => Some(wave),
            _ => None,
        });
        let started = started.max();
        for (device, member) in state.members.iter().filter(|(_, member)| member.assigned.is_some()) {
            assert!(Some(member.wave) <= started, "{device} is ahead of its wave: {member:?}");
        }
        for record in &records {
            let Event::WavePassed { evidence, wave } = &record.event else { continue };
            let sound = |verdict| matches!(verdict, Verdict::Pass | Verdict::Unbounded);
            let shown = !evidence.is_empty() && evidence.iter().all(|report| sound(report.verdict));
            assert!(shown || self.accepted(id, *wave), "wave {wave}: {evidence:#?}");
        }
    }

    /// Whether a person took a wave's evidence on himself.
    fn accepted(&self, id: &RolloutId, wave: usize) -> bool {
        self.state(id).members.values().any(|member| member.wave == wave && member.accepted)
    }

    fn heal(&mut self) {
        self.fleet.listen(true);
        let mut world = self.fleet.world();
        for device in world.devices.values_mut() {
            (device.online, device.traffic) = (true, 20);
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
    ) {
        check(first, happenings, approve)?;
    }
}

#[test]
fn a_fleet_may_change_its_members_in_the_middle() {
    let happenings =
        vec![Happening::Joins, Happening::Seconds(19), Happening::Seconds(18), Happening::Leaves(0), Happening::Joins];
    check(Behaviour::Good, happenings, false).unwrap();
}

fn check(first: Behaviour, happenings: Vec<Happening>, approve: bool) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(6);
    rig.release("1.2.0", first);
    let mut strategy = quick("1,50%,100%");
    strategy.approve_before = approve.then(|| vec![2]);
    let id = rig.start_with("1.2.0", strategy);
    for happening in happenings {
        rig.happen(&id, happening);
    }
    rig.heal();
    rig.happen(&id, Happening::Seconds(250));
    if rig.state(&id).stage.active() {
        // It waits for a person, and for nothing else.
        let stage = rig.stage(&id);
        prop_assert!(
            ["paused", "awaiting-approval"].contains(&stage),
            "{stage}: {:?}",
            rig.core.explain(&id).unwrap().waiting
        );
        rig.happen(&id, Happening::Order(Command::Rollback { reason: "over".into() }));
        rig.happen(&id, Happening::Seconds(60));
    }
    let last = rig.fleet.world().releases[&"1.2.0".parse().unwrap()].1;
    let silenced = first == Behaviour::Silences || last == Behaviour::Silences;
    // Nobody watches a rollout that has ended: what devices take back later is theirs.
    let taken_back_later = matches!(last, Behaviour::FailsLive(_));
    let stage = rig.stage(&id);
    let world = rig.fleet.world();
    for (device, member) in &rig.state(&id).members {
        let Some(found) = world.devices.get(device) else { continue };
        let version = found.live.as_ref().map(|live| live.version.to_string());
        let version = version.as_deref();
        match (stage, member.progress) {
            ("rolled-back" | "aborted-reverted", Progress::Waiting | Progress::Reverted) => {
                prop_assert_eq!(version, Some("1.0.0"), "{}: {:?}", device, member);
            }
            ("completed" | "aborted-kept", Progress::Live) => {
                prop_assert!(version == Some("1.2.0") || taken_back_later, "{device}: {member:?}");
            }
            // Devices that cut themselves off never say that they went back.
            ("rolled-back" | "aborted-reverted" | "aborted-kept", Progress::Reverting) => {
                prop_assert!(silenced, "{device}: {member:?}");
            }
            _ => {}
        }
    }
    Ok(())
}
