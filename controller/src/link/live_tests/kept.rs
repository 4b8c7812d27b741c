//! What the broker holds: told once, told again when it was lost, and taken away when nobody needs it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_sent_once_however_many_devices_want_it() {
    let (registry, release) = registry();
    let rig = Rig::over(World::over(registry), OpenBroker::any().await, Arc::default()).await;
    let observer = rig.observer().await;
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        rig.world.enroll(name, seed);
        rig.world.assign(name, Some(&release)).unwrap();
    }
    rig.settled(&observer).await;
    let blobs = rig.world.fleet.releases().blobs_of(release.manifest).unwrap();
    let bytes: usize = blobs.iter().map(|blob| rig.world.fleet.releases().blobs().frame(*blob).unwrap().len()).sum();
    assert!(blobs.len() > 3);
    assert_eq!(rig.metrics.blob_bytes_published.get(), bytes as u64);
    assert_eq!((rig.published("blob"), rig.published("desired")), (blobs.len() as u64, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_state_never_comes_before_its_chunks() {
    let (registry, release) = registry();
    let rig = Rig::over(World::over(registry), OpenBroker::any().await, Arc::default()).await;
    let observer = rig.observer().await;
    rig.world.enroll("a", 1);
    rig.world.assign("a", Some(&release)).unwrap();
    until("the desired state", || !observer.heard("fp/1/dev/a/desired").is_empty()).await;
    for blob in rig.world.fleet.releases().blobs_of(release.manifest).unwrap() {
        assert_eq!(observer.heard(&format!("fp/1/blob/{blob}")).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wants_any_more_is_cleared() {
    let (registry, release) = registry();
    let rig = Rig::over(World::over(registry), OpenBroker::any().await, Arc::default()).await;
    let observer = rig.observer().await;
    rig.world.enroll("a", 1);
    rig.world.assign("a", Some(&release)).unwrap();
    rig.settled(&observer).await;
    rig.world.assign("a", None).unwrap();
    rig.settled(&observer).await;
    assert!(!observer.holds().keys().any(|topic| topic.contains("/blob/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_broker_is_told_everything_again() {
    let (registry, release) = registry();
    let mut rig = Rig::over(World::over(registry), OpenBroker::any().await, Arc::default()).await;
    rig.world.enroll("a", 1);
    rig.world.assign("a", Some(&release)).unwrap();
    rig.settled(&rig.observer().await).await;
    let once = rig.metrics.blob_bytes_published.get();
    rig.broker = rig.broker.wiped().await;
    until("the comparison", || rig.metrics.reconciliations.get() == 2).await;
    rig.settled(&rig.observer().await).await;
    assert_eq!(rig.metrics.blob_bytes_published.get(), 2 * once);
    assert_eq!(rig.metrics.broker_connections.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_kept_all_is_told_nothing_after_a_start() {
    let (registry, release) = registry();
    let rig = Rig::over(World::over(registry), OpenBroker::any().await, Arc::default()).await;
    rig.world.enroll("a", 1);
    rig.world.assign("a", Some(&release)).unwrap();
    rig.settled(&rig.observer().await).await;
    let rig = rig.restarted().await;
    until("the comparison", || rig.metrics.reconciliations.get() == 1).await;
    rig.settled(&rig.observer().await).await;
    assert_eq!(["blob", "trust", "desired", "ack"].map(|kind| rig.published(kind)), [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_should_not_be_there_is_cleared_after_a_start() {
    let rig = Rig::new().await;
    let foe = rig.client("foe").await;
    let stray = format!("fp/1/blob/{}", fieldpost_shared::id::Digest::of(b"stray"));
    for topic in [&stray, "fp/1/dev/stranger/desired", "fp/1/trust/99", "fp/1/trust/1"] {
        foe.say(topic, "planted", true).await;
    }
    let rig = rig.restarted().await;
    let observer = rig.observer().await;
    rig.settled(&observer).await;
    assert_eq!(observer.holds().keys().collect::<Vec<_>>(), ["fp/1/trust/1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_waited_for() {
    let (registry, release) = registry();
    let mut rig = Rig::over(World::over(registry), OpenBroker::any().await, Arc::default()).await;
    rig.world.enroll("a", 1);
    rig.broker.handle.shutdown();
    while rig.broker.tasks.join_next().await.is_some() {}
    until("the loss", || rig.world.fleet.listening_since().is_none()).await;
    rig.world.assign("a", Some(&release)).unwrap();
    assert!(!rig.world.outbox.is_empty());
    rig.broker = OpenBroker::start(rig.broker.address).await;
    rig.settled(&rig.observer().await).await;
    assert!(rig.world.fleet.listening_since().is_some());
}
