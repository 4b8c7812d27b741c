//! A broker that forgets everything.

use crate::scenario;
use anyhow::ensure;
use fieldpost::demo::assets::{BETTER, GOOD};
use fieldpost::demo::process::eventually;
use fieldpost_tests::Field;
use fieldpost_tests::broker::Kind;
use fieldpost_tests::field::PATIENCE;
use fieldpost_tests::foe::Foe;
use std::collections::BTreeSet;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_mosquitto_is_told_everything_again() {
    scenario(Kind::Mosquitto, 2, wiped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_nats_is_told_everything_again() {
    scenario(Kind::Nats, 2, wiped).await;
}

/// What the broker keeps of what the controller told it.
async fn kept(url: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut reader = Foe::connect(url).await?;
    reader.listen(Duration::from_secs(1)).await?;
    let told = |topic: &&str| topic.ends_with("/desired") || topic.contains("/blob/") || topic.contains("/trust/");
    Ok(reader.topics().filter(told).map(str::to_owned).collect())
}

async fn wiped(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    let url = field.controller.mqtt.clone();
    let before = kept(&url).await?;
    for needed in ["fp/1/trust/1", "fp/1/dev/box-01/desired", "fp/1/dev/box-02/desired"] {
        ensure!(before.contains(needed), "{needed} was not retained: {before:?}");
    }
    ensure!(before.iter().any(|topic| topic.starts_with("fp/1/blob/")), "no blob was retained: {before:?}");
    field.broker.apart()?.wipe().await?;
    eventually("everything told again", PATIENCE, || async {
        kept(&url).await.ok()?.is_superset(&before).then_some(())
    })
    .await?;
    // A device that was never there finds what it needs, though nothing was published anew for it.
    let newcomer = field.join(&[]).await?;
    let id = field
        .start("1.1.0", &["--waves", "100%", "--soak", "1s", "--min-requests", "0", "--evidence", "requests"])
        .await?;
    field.until(&id, &["completed"]).await?;
    for agent in [0, 1, newcomer] {
        field.serves(agent, "1.1.0").await?;
    }
    let device = field.device(0).await?;
    ensure!(device.get("alive") == Some(&true.into()), "{device}");
    Ok(())
}
