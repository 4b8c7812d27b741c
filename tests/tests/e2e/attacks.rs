//! A second client on a broker without access lists: nothing it says is believed.

use crate::scenario;
use anyhow::{Context as _, ensure};
use fieldpost::demo::assets::{BETTER, GOOD};
use fieldpost::demo::process::eventually;
use fieldpost_shared::trust::{Envelope, Kind as Said, SecretKey};
use fieldpost_tests::Field;
use fieldpost_tests::broker::Kind;
use fieldpost_tests::field::PATIENCE;
use fieldpost_tests::foe::Foe;
use serde_json::Value;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_replayed_and_misaddressed_messages_change_nothing() {
    scenario(Kind::Mosquitto, 2, attack).await;
}

async fn refused(field: &Field, agent: usize) -> anyhow::Result<Vec<(String, u64)>> {
    let status: Value = field.agents.get(agent).context("no such agent")?.command(["status"]).await?.json()?;
    Ok(serde_json::from_value(status.pointer("/report/refused").cloned().unwrap_or_default())?)
}

async fn refuses(field: &Field, agent: usize, reason: &str) -> anyhow::Result<()> {
    eventually(&format!("refusal `{reason}`"), PATIENCE, || async {
        let refused = refused(field, agent).await.ok()?;
        refused.iter().any(|(name, count)| name == reason && *count > 0).then_some(())
    })
    .await
}

async fn attack(field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    let mut foe = Foe::connect(&field.controller.mqtt).await?;
    field.install("1.0.0").await?;
    foe.listen(Duration::from_secs(1)).await?;
    let [one, two] = ["fp/1/dev/box-01/desired", "fp/1/dev/box-02/desired"];
    let old = foe.seen(one).last().context("no desired state seen")?.clone();
    let other = foe.seen(two).last().context("no desired state seen")?.clone();
    field.install("1.1.0").await?;
    foe.listen(Duration::from_secs(1)).await?;

    // Garbage, a forgery by an unknown key, another device's, and yesterday's.
    foe.say(one, b"garbage", false)?;
    refuses(&field, 0, "malformed").await?;
    let body = Envelope::from_bytes(&old)?.body;
    let forged = Envelope::seal(Said::Desired, body, &SecretKey::generate()?).to_bytes();
    foe.say(one, &forged, false)?;
    refuses(&field, 0, "signature").await?;
    foe.say(one, &other, false)?;
    refuses(&field, 0, "device").await?;
    foe.say(one, &old, false)?;
    refuses(&field, 0, "desired-stale").await?;
    field.serves(0, "1.1.0").await?;

    // Reports and statistics: forged, and replayed.
    let report = foe.seen("fp/1/dev/box-01/report").first().context("no report seen")?.clone();
    let forged = Envelope::seal(Said::Report, Envelope::from_bytes(&report)?.body, &SecretKey::generate()?).to_bytes();
    field.ask(0, 1).await?;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    foe.listen(Duration::from_millis(200)).await?;
    let stats = foe.seen("fp/1/dev/box-01/stats").first().context("no statistics seen")?.clone();
    let counted = field.counted("box-01").await?;
    for _ in 0..3 {
        foe.say("fp/1/dev/box-01/report", &forged, false)?;
        foe.say("fp/1/dev/box-01/report", &report, false)?;
        foe.say("fp/1/dev/box-01/stats", &stats, false)?;
        foe.say("fp/1/dev/box-02/stats", &stats, false)?;
        foe.say("fp/1/dev/nobody/report", &report, false)?;
    }
    eventually("refusals in the controller's metrics", PATIENCE, || async {
        let text = field.get("/metrics").await.ok()?;
        let refused = |kind: &str, reason: &str| -> Option<u64> {
            let line = format!("fieldpost_messages_refused_total{{kind=\"{kind}\",reason=\"{reason}\"}} ");
            text.lines().find_map(|l| l.strip_prefix(&line)?.parse().ok())
        };
        // box-01's statistics on box-02's topic are held against box-02's key: thrice, and nothing else forges statistics.
        let counts = [("report", "signature"), ("report", "replayed"), ("stats", "replayed"), ("stats", "signature")];
        let counts = counts.map(|(kind, reason)| refused(kind, reason).unwrap_or(0));
        (counts.iter().all(|count| *count >= 3) && counts.last() == Some(&3)).then_some(())
    })
    .await?;
    ensure!(field.counted("box-01").await? == counted, "replayed statistics were counted again");
    let device = field.device(0).await?;
    ensure!(device.pointer("/models/0/live/version").and_then(Value::as_str) == Some("1.1.0"), "{device}");
    Ok(())
}
