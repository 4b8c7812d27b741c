//! A box for the tests of this room: a store, deployments that wait for ever, a door, and the keys of its fleet.

use super::{Door, Link, LinkSettings, Speaker};
use crate::clock::TrustedClock;
use crate::deploy::testing::Idle;
use crate::deploy::{Driver, DriverHandle, DriverSettings, Journal};
use crate::fetch::BlobExchange;
use crate::identity::{Broker, Identity};
use crate::link::session::LineState;
use crate::store::{Store, StoreSettings};
use bytes::Bytes;
use fieldpost_shared::backoff::Backoff;
use fieldpost_shared::time::{ManualClock, SystemClock, Timestamp};
use fieldpost_shared::trust::root::{RoleKeys, SCHEMA};
use fieldpost_shared::trust::{RootMetadata, SecretKey, SignedRoot};
use fieldpost_shared::wire::v1::{Body, Inventory, OutboxReport, Report, Sequence};
use fieldpost_shared::wire::{Topic, Topics, seal};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(super) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Root key 1, publisher 2, the given key for the controller.
pub(super) fn root(version: u64, controller: u8) -> SignedRoot {
    let one = |seed| RoleKeys { keys: vec![key(seed).public()], threshold: 1 };
    let metadata = RootMetadata {
        schema: SCHEMA.into(),
        fleet: "default".parse().unwrap(),
        version,
        created: Timestamp::EPOCH,
        expires: NOW.plus(Duration::from_secs(30 * 86_400)),
        root: one(1),
        publisher: one(2),
        controller: one(controller),
        revoked: vec![],
    };
    SignedRoot::sign(metadata, &[&key(1)]).unwrap()
}

pub(super) fn report() -> Report {
    Report {
        fleet: "default".parse().unwrap(),
        device: "box-1".parse().unwrap(),
        sequence: Sequence::default(),
        at: NOW,
        desired_sequence: 0,
        root_version: 1,
        inventory: Inventory::default(),
        models: vec![],
        quarantine: vec![],
        outbox: OutboxReport::default(),
        refused: vec![],
        hold: None,
        fetched_bytes: 0,
    }
}

/// Whose controller has key 3.
pub(super) struct Fixture {
    pub(super) clock: Arc<ManualClock>,
    pub(super) store: Arc<Store>,
    pub(super) door: Door,
    pub(super) driver: DriverHandle,
    topics: Topics,
    _driving: JoinSet<()>,
    _data: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let shared = Arc::new(TrustedClock::new(Arc::<ManualClock>::clone(&clock), Timestamp::EPOCH));
        let store = Arc::new(Store::open(data.path(), StoreSettings::default(), clock.as_ref()).unwrap().0);
        store.add_root(1, &root(1, 3).to_bytes(), false).unwrap();
        let journal: Arc<dyn Journal> = Arc::<Store>::clone(&store);
        let (running, driver) =
            Driver::open(journal, Arc::new(Idle), Arc::<TrustedClock>::clone(&shared), DriverSettings::default())
                .unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(async move { running.run(CancellationToken::new()).await.unwrap() });
        let root = Arc::new(RwLock::new(Arc::new(root(1, 3).metadata)));
        let http = reqwest::Client::builder().build().unwrap();
        let door = Door::new(identity(0), root, Arc::clone(&store), driver.clone(), shared, http);
        let topics = Topics::new("fp/1").unwrap();
        Self { clock, store, door, driver, topics, _driving: driving, _data: data }
    }

    /// A message of a controller with this key.
    pub(super) async fn hear<B: Body>(&self, topic: Topic, body: &B, controller: u8) -> super::door::Heard {
        self.hear_bytes(topic, seal(body, &key(controller)).unwrap()).await
    }

    pub(super) async fn hear_bytes(&self, topic: Topic, payload: Vec<u8>) -> super::door::Heard {
        let name = self.topics.name(&topic);
        self.door.hear(&self.topics, &name, Bytes::from(payload), &BlobExchange::default()).await
    }

    /// A line to a broker on this machine.
    pub(super) fn link(&self, port: u16, report: watch::Receiver<Report>) -> (Link, watch::Receiver<LineState>) {
        let (state, line) = watch::channel(LineState::Down { reason: String::new() });
        let link = Link {
            settings: LinkSettings {
                tls: None,
                keep_alive: Duration::from_secs(30),
                report_interval: Duration::from_secs(60),
                backoff: Backoff { base: Duration::from_millis(10), max: Duration::from_millis(100) },
                topics: self.topics.clone(),
            },
            speaker: Speaker::new(identity(port), key(9)),
            door: self.door.clone(),
            exchange: BlobExchange::default(),
            store: Arc::clone(&self.store),
            clock: Arc::new(SystemClock::new()),
            report,
            outbox_filled: Arc::new(Notify::new()),
            state,
        };
        (link, line)
    }
}

fn identity(port: u16) -> Identity {
    Identity {
        device: "box-1".parse().unwrap(),
        fleet: "default".parse().unwrap(),
        broker: Broker { host: "127.0.0.1".to_owned(), port, tls: false },
        topic_prefix: "fp/1".to_owned(),
        controller: "http://127.0.0.1:9".to_owned(),
    }
}
