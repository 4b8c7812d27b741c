use super::*;
use crate::fleet::heard::Heard;
use crate::fleet::tests::World;
use crate::link::outbox::Source as _;
use crate::releases::tests::Registry;
use crate::store::{Store as _, Table};
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{ModelReport, Report};
use std::sync::Arc;
use std::time::Duration;

fn a() -> DeviceId {
    "a".parse().unwrap()
}

fn signed(world: &World) -> u64 {
    world.fleet.desired().find(&a()).map_or(0, |signed| signed.desired.sequence)
}

fn should_run(world: &World) -> Vec<String> {
    let signed = world.fleet.desired().find(&a());
    signed.iter().flat_map(|signed| &signed.desired.assignments).map(|said| said.release.to_string()).collect()
}

/// The device reports what it has accepted and what is live.
fn says(world: &World, accepted: u64, live: &[&ReleaseRef]) {
    let model = |live: &&ReleaseRef| ModelReport {
        model: live.model.clone(),
        live: Some((*live).clone()),
        previous: None,
        candidate: None,
        swaps: 1,
    };
    let report = Report {
        fleet: "f".parse().unwrap(),
        device: a(),
        sequence: Default::default(),
        at: Timestamp::EPOCH,
        desired_sequence: accepted,
        root_version: 1,
        inventory: Default::default(),
        models: live.iter().map(model).collect(),
        quarantine: vec![],
        outbox: Default::default(),
        refused: vec![],
        hold: None,
        fetched_bytes: 0,
    };
    let before = world.fleet.stood(&a());
    world.fleet.take_up([(a(), Heard { report: Some(Arc::new(report)), reported: true, ..Heard::default() })]);
    world.fleet.reported(&before).unwrap();
}

/// A controller that was stopped after it had told `a` to run 1.0.0, started again from that moment's store, while the
/// device was told 1.1.0 by what is lost. Gives the number that the device has accepted.
fn restored(forgotten: bool) -> (World, ReleaseRef, ReleaseRef, u64) {
    let world = World::over(Registry::new());
    let (old, new) = (world.registry.release("1.0.0", b"model"), world.registry.release("1.1.0", b"other"));
    world.enroll("a", 1);
    world.assign("a", Some(&old)).unwrap();
    let before = world.registry.store.get(Table::Desired, b"a").unwrap().unwrap();
    world.registry.clock.advance(Duration::from_secs(60));
    world.assign("a", Some(&new)).unwrap();
    let accepted = signed(&world);
    let back = if forgotten {
        crate::store::Write::delete(Table::Desired, "a")
    } else {
        crate::store::Write::put(Table::Desired, "a", before)
    };
    world.registry.store.commit(vec![back]).unwrap();
    world.registry.clock.advance(Duration::from_secs(60));
    (World::unheard(world.registry), old, new, accepted)
}

#[test]
fn a_device_is_told_nothing_before_it_has_been_heard() {
    let (world, old, ..) = restored(false);
    let told = signed(&world);
    world.assign("a", None).unwrap();
    world.registry.clock.advance(Duration::from_secs(40 * 86_400));
    assert_eq!(world.fleet.renew_due().unwrap(), 0, "it is long past half its time");
    assert_eq!(signed(&world), told);
    assert!(world.told().iter().all(|(item, _)| *item != Item::Desired(a())));
    assert!(world.fleet.payload(&Item::Desired(a())).is_err(), "what the broker holds is left alone");
    says(&world, told, &[&old]);
    assert!(signed(&world) > told);
    assert!(world.told().contains(&(Item::Desired(a()), true)));
}

#[test]
fn what_was_decided_before_a_device_was_heard_hides_no_newer_orders() {
    for forgotten in [false, true] {
        let (world, old, new, accepted) = restored(forgotten);
        world.assign("a", Some(&old)).unwrap();
        world.assign("a", None).unwrap();
        // Also after one more start.
        let world = World::unheard(world.registry);
        says(&world, accepted, &[&new]);
        assert_eq!(world.fleet.ahead(&a()), Some(accepted));
        assert_eq!(world.fleet.take_ahead(), [a()].into());
        assert!(world.fleet.payload(&Item::Desired(a())).is_err());
        assert!(matches!(world.assign("a", Some(&old)), Err(FleetError::Ahead(_))));
    }
}

#[test]
fn a_person_keeps_what_runs() {
    let (world, _, new, accepted) = restored(false);
    says(&world, accepted, &[&new]);
    world.told();
    world.fleet.may_accept(&a(), Take::Keep).unwrap();
    world.fleet.accept("op", &a(), Take::Keep).unwrap();
    assert_eq!((should_run(&world), world.fleet.ahead(&a())), (vec!["digits@1.1.0".to_owned()], None));
    assert!(signed(&world) > accepted);
    assert!(world.told().contains(&(Item::Desired(a()), true)));
    assert!(matches!(world.fleet.accept("op", &a(), Take::Keep), Err(FleetError::NotAhead(_))));
    let log = world.registry.audit.after(0, 100).unwrap();
    let entry = log.iter().find(|entry| entry.action == "device.accept").unwrap();
    assert_eq!((entry.actor.as_str(), entry.detail.as_str()), ("op", "it keeps digits@1.1.0"));
    // The last number was told by this very store: nothing is held after a start.
    let again = World::unheard(world.registry);
    says(&again, signed(&again), &[&new]);
    assert_eq!(again.fleet.ahead(&a()), None);
}

#[test]
fn a_person_restores_what_should_run() {
    let (world, _, new, accepted) = restored(false);
    says(&world, accepted, &[&new]);
    world.fleet.accept("op", &a(), Take::Restore).unwrap();
    assert_eq!((should_run(&world), world.fleet.ahead(&a())), (vec!["digits@1.0.0".to_owned()], None));
    assert!(signed(&world) > accepted);
    // Of a device that was first told something after the copy was made, the store says nothing.
    let (world, _, new, accepted) = restored(true);
    says(&world, accepted, &[&new]);
    world.fleet.accept("op", &a(), Take::Restore).unwrap();
    assert!(should_run(&world).is_empty() && signed(&world) > accepted);
}

#[test]
fn what_was_never_pushed_here_cannot_be_kept() {
    let (world, _, new, accepted) = restored(false);
    let stranger = ReleaseRef { manifest: Digest::of(b"stranger"), model: "cancer".parse().unwrap(), ..new.clone() };
    says(&world, accepted, &[&new, &stranger]);
    let refused = world.fleet.may_accept(&a(), Take::Keep).unwrap_err();
    assert!(refused.to_string().contains("runs cancer@1.1.0 ("), "{refused}");
    assert!(world.fleet.accept("op", &a(), Take::Keep).is_err());
    assert_eq!(world.fleet.ahead(&a()), Some(accepted));
}

#[test]
fn a_hold_outlives_a_start_and_ends_with_the_device() {
    let (world, _, new, accepted) = restored(false);
    says(&world, accepted, &[&new]);
    let heard = world.fleet.heard().find(&a());
    let key = fieldpost_shared::trust::SecretKey::from_seed(&[1; 32]);
    let sealed = fieldpost_shared::wire::seal(heard.report.as_ref().unwrap().as_ref(), &key).unwrap();
    let row = crate::fleet::heard::report_row(&a(), Timestamp::EPOCH, &sealed);
    world.registry.store.commit(vec![row]).unwrap();
    let world = World::unheard(world.registry);
    assert_eq!(world.fleet.ahead(&a()), Some(accepted));
    assert_eq!(world.fleet.take_ahead(), [a()].into(), "rollouts pause after a start, too");
    world.fleet.revoke("op", &a()).unwrap();
    assert_eq!(world.fleet.ahead(&a()), None);
}
