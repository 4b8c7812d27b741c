//! A controller killed before or after any event, and before or after any effect, ends where an undisturbed one ends.

use super::fake::{Behaviour, Rig};
use crate::rollout::machine::{Progress, fold};
use crate::store::{MemoryStore, Rows, Store, StoreError, Table, Write};
use fieldpost_shared::id::RolloutId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A store that dies: after `left` commits nothing can be written; the one that died was stored or was not.
#[derive(Debug, Default)]
struct Mortal {
    inner: MemoryStore,
    left: AtomicI64,
    stored: bool,
}

impl Store for Mortal {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key)
    }
    fn scan(&self, table: Table, prefix: &[u8]) -> Result<Rows, StoreError> {
        self.inner.scan(table, prefix)
    }
    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, StoreError> {
        self.inner.range(table, from, to, limit)
    }
    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => self.inner.commit(writes),
            0 if self.stored => self.inner.commit(writes).and(Err(StoreError::Empty)),
            _ => Err(StoreError::Empty),
        }
    }
}

/// What is left of a whole rollout: how it ended, what each device runs, and what it was told, in order.
#[derive(Debug, PartialEq)]
struct End {
    stage: &'static str,
    devices: BTreeMap<String, (String, Vec<String>)>,
}

fn end(rig: &Rig, id: &RolloutId) -> End {
    let world = rig.fleet.world();
    let told = |to: &Option<crate::rollout::fleet::AssignTo>| {
        to.as_ref().map_or_else(|| "nothing".to_owned(), |to| format!("{} attempt {}", to.release, to.attempt))
    };
    let of = |(id, device): (&fieldpost_shared::id::DeviceId, &super::fake::FakeDevice)| {
        let live = device.live.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
        (id.to_string(), (live, device.assigned.iter().map(told).collect()))
    };
    End { stage: rig.stage(id), devices: world.devices.iter().map(of).collect() }
}

const FOREVER: i64 = i64::MAX / 2;

fn rig(stored: bool, scene: Scene) -> (Rig, Arc<Mortal>, RolloutId) {
    let store = Arc::new(Mortal { left: AtomicI64::new(FOREVER), stored, ..Mortal::default() });
    let mut rig = Rig::with_store(5, Arc::clone(&store) as Arc<dyn Store>);
    rig.release("1.2.0", scene.behaviour);
    let id = rig.start("1.2.0", "1,3,5");
    (rig, store, id)
}

#[derive(Debug, Clone, Copy)]
struct Scene {
    behaviour: Behaviour,
    ends: &'static str,
}

const SCENES: [Scene; 3] = [
    Scene { behaviour: Behaviour::Good, ends: "completed" },
    Scene { behaviour: Behaviour::OneClass, ends: "rolled-back" },
    Scene { behaviour: Behaviour::Fails(fieldpost_shared::wire::v1::FailureKind::SelfTest), ends: "rolled-back" },
];

/// Runs until it has ended; a dead controller is restarted at once.
fn finish(rig: &mut Rig, store: &Mortal, id: &RolloutId, scene: Scene) {
    for _ in 0..300 {
        rig.clock.advance(std::time::Duration::from_secs(1));
        rig.fleet.tick();
        rig.core.look().unwrap();
        let died = store.left.load(Ordering::SeqCst) < 0 || rig.fleet.world().assignments_left == Some(0);
        if died {
            store.left.store(FOREVER, Ordering::SeqCst);
            rig.fleet.world().assignments_left = None;
            rig.restart();
            rig.core.look().unwrap();
        }
        let folded = fold(&rig.events(id)).unwrap();
        assert_eq!(&folded, rig.state(id), "the state is the fold of what is stored");
        if rig.stage(id) == scene.ends && rig.state(id).members.values().all(|m| m.progress != Progress::Reverting) {
            rig.run(3);
            return;
        }
    }
    panic!("still {}: {:?}", rig.stage(id), rig.core.explain(id).unwrap());
}

fn undisturbed(scene: Scene) -> (End, i64) {
    let (mut rig, store, id) = rig(false, scene);
    store.left.store(FOREVER, Ordering::SeqCst);
    finish(&mut rig, &store, &id, scene);
    (end(&rig, &id), FOREVER - store.left.load(Ordering::SeqCst))
}

#[test]
fn a_controller_killed_at_any_write_ends_where_an_undisturbed_one_ends() {
    for scene in SCENES {
        let (expected, writes) = undisturbed(scene);
        assert!(writes > 5, "{writes} writes");
        for stored in [false, true] {
            for kill_at in 0..writes {
                let (mut rig, store, id) = rig(stored, scene);
                store.left.store(kill_at, Ordering::SeqCst);
                finish(&mut rig, &store, &id, scene);
                assert_eq!(end(&rig, &id), expected, "{scene:?}, killed at write {kill_at}, stored: {stored}");
            }
        }
    }
}

#[test]
fn a_controller_killed_at_any_assignment_ends_where_an_undisturbed_one_ends() {
    for scene in SCENES {
        let (expected, _) = undisturbed(scene);
        let assignments: usize = expected.devices.values().map(|(_, told)| told.len()).sum();
        assert!(assignments > 1);
        for kill_at in 0..assignments as u64 {
            let (mut rig, store, id) = rig(false, scene);
            rig.fleet.world().assignments_left = Some(kill_at);
            finish(&mut rig, &store, &id, scene);
            assert_eq!(end(&rig, &id), expected, "{scene:?}, killed at assignment {kill_at}");
        }
    }
}

#[test]
fn a_controller_restarted_every_second_ends_where_an_undisturbed_one_ends() {
    for scene in SCENES {
        let (expected, _) = undisturbed(scene);
        let (mut rig, _, id) = rig(false, scene);
        while rig.stage(&id) != scene.ends {
            rig.second();
            rig.restart();
        }
        rig.run(3);
        assert_eq!(end(&rig, &id), expected, "{scene:?}");
    }
}
