use super::*;
use crate::api::types::{EnrollRequest, TokenKind, TokenRequest};
use crate::link::outbox::Source;
use crate::releases::tests::Registry;
use crate::rollout::fleet::{Fleet as _, select};
use crate::tokens::Tokens;
use fieldpost_shared::id::Digest;
use fieldpost_shared::trust::SecretKey;

/// A fleet in a directory of its own.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) fleet: Arc<Fleet>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Registry::new())
    }

    /// After a start; every device has reported since.
    pub(crate) fn over(registry: Registry) -> Self {
        let world = Self::unheard(registry);
        world.fleet.devices().list().iter().for_each(|record| world.hear(&record.id));
        world
    }

    /// After a start.
    pub(crate) fn unheard(registry: Registry) -> Self {
        let store = registry.store.clone();
        Self::with(registry, store)
    }

    /// A device says again what it said last.
    fn hear(&self, device: &DeviceId) {
        let heard = heard::Heard { reported: true, ..self.fleet.heard().find(device).as_ref().clone() };
        self.fleet.take_up([(device.clone(), heard)]);
    }

    /// The same with what the fleet keeps in a store of its own.
    pub(crate) fn with(registry: Registry, store: Arc<dyn Store>) -> Self {
        let Registry { clock, audit, trust, releases, .. } = &registry;
        let tokens = Arc::new(Tokens::open(store.as_ref(), audit.clone(), clock.clone()).unwrap());
        let outbox = Arc::new(Outbox::default());
        let parts = Parts {
            store: store.clone(),
            clock: clock.clone(),
            audit: audit.clone(),
            trust: trust.clone(),
            releases: releases.clone(),
            outbox: outbox.clone(),
            desired_lifetime: Duration::from_secs(30 * 86_400),
            retention: Retention { age: Duration::from_secs(86_400), windows: 32 },
        };
        let fleet = Arc::new(Fleet::open(parts).unwrap());
        Self { registry, outbox, tokens, fleet }
    }

    /// Enrols a device whose key is made of `seed`.
    pub(crate) fn enroll(&self, name: &str, seed: u8) -> SecretKey {
        let kind = TokenKind::Enroll { uses: 1, labels: [("site".into(), "lyon".into())].into() };
        let token = self.tokens.create("x", TokenRequest { kind, note: String::new(), expires_s: None }).unwrap().token;
        let key = SecretKey::from_seed(&[seed; 32]);
        let request = EnrollRequest {
            token,
            public_key: key.public(),
            device: Some(name.parse().unwrap()),
            labels: [].into(),
            inventory: None,
        };
        self.fleet.devices().enroll(&self.tokens, request, false).unwrap();
        self.hear(&name.parse().unwrap());
        key
    }

    pub(crate) fn assign(&self, device: &str, release: Option<&ReleaseRef>) -> Result<(), FleetError> {
        let to = release.map(|release| AssignTo {
            release: release.clone(),
            rollout: None,
            attempt: 1,
            probation_s: 0,
            beside: None,
        });
        self.fleet.assign(&device.parse().unwrap(), &"digits".parse().unwrap(), to.as_ref())
    }

    /// Everything that is ready, confirmed at once: topic and whether something is there.
    pub(crate) fn told(&self) -> Vec<(Item, bool)> {
        let mut told = Vec::new();
        while let Some(item) = self.outbox.take(self.fleet.as_ref()) {
            // What cannot be told now is not sent.
            told.extend(self.fleet.payload(&item).ok().map(|payload| (item.clone(), payload.is_some())));
            self.outbox.confirm(&item);
        }
        told
    }
}

fn desired(name: &str) -> Item {
    Item::Desired(name.parse().unwrap())
}

#[test]
fn a_live_release_is_published_once_and_before_its_desired_state() {
    let world = World::new();
    let release = world.registry.release("1.0.0", b"model");
    for (name, seed) in [("a", 1), ("b", 2)] {
        world.enroll(name, seed);
        world.assign(name, Some(&release)).unwrap();
    }
    let blobs = [Item::Blob(release.manifest), Item::Blob(Digest::of(b"model"))];
    let mut told = world.told();
    let rest = told.split_off(2);
    assert_eq!(told, blobs.map(|blob| (blob, true)));
    assert_eq!(rest, [(desired("a"), true), (desired("b"), true)]);
    world.assign("b", Some(&release)).unwrap();
    assert_eq!(world.told(), []);
}

#[test]
fn what_no_device_wants_any_more_is_cleared() {
    let world = World::new();
    let release = world.registry.release("1.0.0", b"model");
    world.enroll("a", 1);
    world.assign("a", Some(&release)).unwrap();
    world.told();
    world.assign("a", None).unwrap();
    let mut told = world.told();
    told.sort_by_key(|(_, there)| *there);
    assert_eq!(told.pop(), Some((desired("a"), true)));
    assert_eq!((told.len(), told.iter().any(|(_, there)| *there)), (2, false), "{told:?}");
}

#[test]
fn what_two_releases_share_is_neither_sent_again_nor_cleared() {
    let world = World::new();
    let shared = vec![7_u8; 50_000];
    let (one, two) = (world.registry.release("1.0.0", &shared), world.registry.release("1.1.0", &shared));
    world.enroll("a", 1);
    world.assign("a", Some(&one)).unwrap();
    world.told();
    world.assign("a", Some(&two)).unwrap();
    let told = world.told();
    let manifests = [(Item::Blob(one.manifest), false), (Item::Blob(two.manifest), true), (desired("a"), true)];
    assert_eq!(told.iter().filter(|told| manifests.contains(told)).count(), 3, "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn a_device_that_does_not_belong_is_told_nothing() {
    let world = World::new();
    let release = world.registry.release("1.0.0", b"model");
    assert!(matches!(world.assign("a", Some(&release)), Err(FleetError::NoDevice(_))));
    world.enroll("a", 1);
    world.assign("a", Some(&release)).unwrap();
    world.told();
    world.fleet.revoke("op", &"a".parse().unwrap()).unwrap();
    assert!(world.told().iter().all(|(_, there)| !there));
    assert!(matches!(world.assign("a", Some(&release)), Err(FleetError::NotActive { .. })));
}

#[test]
fn only_releases_that_were_pushed_are_assigned() {
    let world = World::new();
    let release = world.registry.release("1.0.0", b"model");
    world.enroll("a", 1);
    let other = ReleaseRef { manifest: Digest::of(b"other"), ..release };
    assert!(matches!(world.assign("a", Some(&other)), Err(FleetError::NoRelease(_))));
    assert!(world.fleet.desired().find(&"a".parse().unwrap()).is_none());
}

#[test]
fn after_a_start_the_broker_should_hold_all_that_is_wanted() {
    let world = World::new();
    let release = world.registry.release("1.0.0", b"model");
    world.enroll("a", 1);
    world.assign("a", Some(&release)).unwrap();
    let again = World::over(world.registry);
    let mut wanted = again.fleet.wanted();
    wanted.retain(|item| again.fleet.payload(item).unwrap().is_some());
    for item in [Item::Trust(1), desired("a"), Item::Blob(release.manifest), Item::Blob(Digest::of(b"model"))] {
        assert!(wanted.contains(&item), "{item:?}");
    }
    assert_eq!(wanted.len(), 4);
}

#[test]
fn the_engine_sees_active_devices_and_what_they_should_run() {
    let world = World::new();
    let release = world.registry.release("1.0.0", b"model");
    for (name, seed) in [("a", 1), ("b", 2)] {
        world.enroll(name, seed);
    }
    let mut changes = world.fleet.changes();
    world.assign("a", Some(&release)).unwrap();
    assert_eq!(changes.try_recv().unwrap().as_str(), "a");
    world.fleet.revoke("op", &"b".parse().unwrap()).unwrap();
    let views = crate::rollout::fleet::Fleet::devices(world.fleet.as_ref()).unwrap();
    assert_eq!(views.keys().map(DeviceId::as_str).collect::<Vec<_>>(), ["a"]);
    let view = &views[&"a".parse().unwrap()];
    assert_eq!(view.desired[&release.model].release, release);
    assert!(!view.settled);
    assert_eq!(select("site=lyon", &views).unwrap().len(), 1);
    assert!(select("nonsense", &views).is_err());
    let info = crate::rollout::fleet::Fleet::release(world.fleet.as_ref(), &release.model, &release.version).unwrap();
    assert_eq!(info.unwrap().release, release);
}
