//! What devices say, over a broker that lets everybody say everything.

use super::*;
use crate::store::{Rows, Store, StoreError, Table, Write};
use fieldpost_shared::stats::{Baseline, Recorder};
use fieldpost_shared::trust::SecretKey;
use fieldpost_shared::wire::v1::{Ack, Report, Sequence, Stats, Window};
use fieldpost_shared::wire::{open_controller, seal};
use std::sync::atomic::{AtomicBool, Ordering};

fn report(device: &str, number: u64) -> Report {
    Report {
        fleet: "f".parse().unwrap(),
        device: device.parse().unwrap(),
        sequence: Sequence { epoch: 1, number },
        at: Default::default(),
        desired_sequence: 0,
        root_version: 1,
        inventory: Default::default(),
        models: vec![],
        quarantine: vec![],
        outbox: Default::default(),
        refused: vec![],
        hold: None,
        fetched_bytes: 0,
    }
}

fn stats(first: u64) -> Stats {
    let mut recorder = Recorder::new("digits", "1.0.0", Arc::new(Baseline::default()), 1);
    recorder.request();
    let release = fieldpost_shared::id::ReleaseRef {
        model: "digits".parse().unwrap(),
        version: semver::Version::new(1, 0, 0),
        manifest: fieldpost_shared::id::Digest::of(&crate::releases::tests::manifest("1.0.0", b"model")),
    };
    let window = Window { first, last: first, release, content: recorder.close(2).encode() };
    Stats { fleet: "f".parse().unwrap(), device: "a".parse().unwrap(), epoch: 1, windows: vec![window] }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_messages_are_refused_counted_and_change_nothing() {
    let rig = Rig::new().await;
    let key = rig.world.enroll("a", 1);
    rig.world.enroll("b", 2);
    let client = rig.client("foe").await;
    let said = |number: u64, key: &SecretKey| seal(&report("a", number), key).unwrap();
    client.say("fp/1/dev/a/report", said(5, &key), true).await;
    let heard = || rig.world.fleet.heard().find(&"a".parse().unwrap());
    until("the report", || heard().report.is_some()).await;
    let everything = || Table::ALL.map(|table| rig.world.registry.store.scan(table, b"").unwrap()).to_vec();
    let before: Vec<Rows> = everything();
    let stranger = SecretKey::from_seed(&[9; 32]);
    for (topic, payload, kind, reason) in [
        ("fp/1/dev/a/report", said(6, &stranger), "report", "signature"),
        ("fp/1/dev/b/report", said(6, &key), "report", "signature"),
        ("fp/1/dev/a/stats", said(6, &key), "stats", "signature"),
        ("fp/1/dev/a/report", said(4, &key), "report", "replayed"),
        ("fp/1/dev/a/report", said(5, &key), "report", "replayed"),
        ("fp/1/dev/stranger/report", said(6, &key), "report", "unknown-device"),
        ("fp/1/dev/a/report", vec![1; 123_000], "report", "oversized"),
        ("fp/1/dev/a/alive", b"noise".to_vec(), "alive", "malformed"),
    ] {
        let counted = rig.metrics.refusals(kind, reason);
        client.say(topic, payload, false).await;
        until("the refusal", || rig.metrics.refusals(kind, reason) > counted).await;
    }
    assert_eq!(everything(), before);
    assert_eq!(heard().report.as_ref().unwrap().sequence.number, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_refused_and_keeps_nobody_out() {
    let rig = Rig::new().await;
    let key = rig.world.enroll("a", 1);
    let client = rig.client("foe").await;
    client.say("fp/1/dev/a/report", vec![1; 900_000], true).await;
    until("the refusal", || rig.metrics.refusals("report", "oversized") == 1).await;
    let rig = rig.restarted().await;
    until("the refusal", || rig.metrics.refusals("report", "oversized") == 1).await;
    client.say("fp/1/dev/a/report", seal(&report("a", 1), &key).unwrap(), true).await;
    until("the report", || rig.world.fleet.heard().find(&"a".parse().unwrap()).report.is_some()).await;
    assert_eq!(rig.metrics.broker_connections.get(), 1);
}

/// A disk that is full, and then is not.
#[derive(Debug)]
struct Sick {
    inner: Arc<dyn Store>,
    full: Arc<AtomicBool>,
}

impl Store for Sick {
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
        if self.full.load(Ordering::SeqCst) {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StoreError::Commit(full.into()));
        }
        self.inner.commit(writes)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_are_acknowledged_only_when_they_are_on_disk() {
    let full = Arc::new(AtomicBool::new(false));
    let registry = Registry::new();
    registry.release("1.0.0", b"model");
    let store = Sick { inner: registry.store.clone(), full: full.clone() };
    let world = World::with(registry, Arc::new(store));
    let rig = Rig::over(world, OpenBroker::any().await, Arc::default()).await;
    let key = rig.world.enroll("a", 1);
    let client = rig.observer().await;
    let acked = || {
        let ack = client.heard("fp/1/dev/a/ack").pop()?;
        let ack: Ack = open_controller(&ack, &rig.world.registry.trust.root(), &"a".parse().unwrap()).unwrap();
        Some(ack.stored.number)
    };
    client.say("fp/1/dev/a/stats", seal(&stats(1), &key).unwrap(), false).await;
    until("the first acknowledgement", || acked() == Some(1)).await;

    full.store(true, Ordering::SeqCst);
    client.say("fp/1/dev/a/stats", seal(&stats(2), &key).unwrap(), false).await;
    until("failed commits", || rig.metrics.commit_failures.get() >= 3).await;
    assert_eq!(acked(), Some(1), "what is not on disk is not acknowledged");

    full.store(false, Ordering::SeqCst);
    until("the second acknowledgement", || acked() == Some(2)).await;
    assert_eq!(rig.metrics.windows_stored.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_while_the_controller_was_away_is_heard_when_it_comes_back() {
    let mut rig = Rig::new().await;
    let key = rig.world.enroll("a", 1);
    let client = rig.client("a").await;
    rig.stop.cancel();
    while rig.tasks.join_next().await.is_some() {}
    client.say("fp/1/dev/a/report", seal(&report("a", 1), &key).unwrap(), true).await;
    let rig = rig.restarted().await;
    until("the report", || rig.world.fleet.heard().find(&"a".parse().unwrap()).report.is_some()).await;
    assert_eq!(rig.metrics.refusals("report", "replayed"), 0);
}
