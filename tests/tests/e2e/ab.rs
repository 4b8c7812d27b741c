//! A/B tests on real agents: both releases answer side by side, what they differ by is measured, and only a person ends it.

use crate::scenario;
use anyhow::{Context as _, ensure};
use fieldpost::demo::assets::{BETTER, GOOD};
use fieldpost::demo::traffic::Traffic;
use fieldpost_tests::Field;
use fieldpost_tests::broker::Kind;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const DEVICES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_releases_are_held_side_by_side_on_each_device_and_over_devices() {
    scenario(Kind::Embedded, DEVICES, both).await;
}

async fn both(field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    let devices = field.agents.iter().map(|agent| (agent.device.clone(), agent.http.clone()));
    let traffic = Traffic::start(devices, &Arc::new(field.digits.clone()), Duration::from_millis(25))?;
    on_each_device(&field).await?;
    over_devices(&field).await?;
    let answered = traffic.stop().await;
    let failed: u64 = answered.values().map(|tally| tally.failed).sum();
    ensure!(failed == 0, "{failed} requests failed: {answered:?}");
    Ok(())
}

/// Each device answers half of its requests with the new release, and a caller with a name stays with one.
async fn on_each_device(field: &Field) -> anyhow::Result<()> {
    let flags = ["--ab", "6s", "--warm-up", "1s", "--ab-split", "50%", "--ab-sticky", "header:x-line"];
    let id = field.start("1.1.0", &flags).await?;
    field.until(&id, &["soaking"]).await?;
    let mut versions = BTreeSet::new();
    for line in 0..20 {
        let first = asked(field, line).await?;
        for _ in 0..3 {
            ensure!(asked(field, line).await? == first, "line {line} has changed its release");
        }
        versions.insert(first);
    }
    ensure!(versions.len() == 2, "one release alone answers: {versions:?}");
    let measured = measured(field, &id).await?;
    for metric in measured.pointer("/metrics").and_then(Value::as_array).context("metrics")? {
        for arm in ["new", "old"] {
            let scored = metric.pointer(&format!("/{arm}/scored")).and_then(Value::as_u64);
            ensure!(scored == Some(4), "{metric}");
        }
        ensure!(metric.pointer("/difference/low").is_some_and(Value::is_number), "{metric}");
    }
    ended(field, &id, "--keep").await?;
    for agent in 0..DEVICES {
        field.serves(agent, "1.0.0").await?;
    }
    Ok(())
}

/// Half of the devices run the new release, until a person takes it back.
async fn over_devices(field: &Field) -> anyhow::Result<()> {
    let id = field.start("1.1.0", &["--ab", "5s", "--warm-up", "1s", "--probation", "1s"]).await?;
    let measured = measured(field, &id).await?;
    let errors = measured.pointer("/metrics/0").context("errors")?;
    for arm in ["new", "old"] {
        ensure!(errors.pointer(&format!("/{arm}/devices")).and_then(Value::as_u64) == Some(2), "{errors}");
    }
    let early = field.command(&["rollout", "retry", &id]).await?;
    ensure!(early.code == Some(1) && early.stderr.contains("it is paused"), "{early:?}");
    ended(field, &id, "--revert").await?;
    for agent in 0..DEVICES {
        field.serves(agent, "1.0.0").await?;
    }
    again(field, &id).await
}

/// What was aborted begins anew, as the same test on the same devices.
async fn again(field: &Field, first: &str) -> anyhow::Result<()> {
    let plan: Value = field.command(&["rollout", "retry", first, "--dry-run"]).await?.json().context("a plan")?;
    ensure!(plan.get("retry_of").and_then(Value::as_str) == Some(first), "{plan}");
    ensure!(plan.pointer("/strategy/ab/lasts").and_then(Value::as_str) == Some("5s"), "{plan}");
    let started: Value = field.command(&["rollout", "retry", first, "--soak", "1s"]).await?.json().context("retry")?;
    let id = started.get("id").and_then(Value::as_str).context("an id")?;
    field.until(id, &["soaking"]).await?;
    ended(field, id, "--revert").await
}

/// The release that answers a caller of the first device.
async fn asked(field: &Field, line: usize) -> anyhow::Result<String> {
    let url = format!("http://{}/predict", field.agents[0].http);
    let request =
        reqwest::Client::new().post(url).header("content-type", "image/png").header("x-line", line.to_string());
    let answer: Value = request.body(field.digits[line].png.clone()).send().await?.error_for_status()?.json().await?;
    Ok(answer.get("version").and_then(Value::as_str).context("a version")?.to_owned())
}

/// What the test measured, once it waits for a person; it is told in words as well.
async fn measured(field: &Field, id: &str) -> anyhow::Result<Value> {
    let detail = field.until(id, &["paused", "rolled-back", "completed"]).await?;
    ensure!(detail.get("state").and_then(Value::as_str) == Some("paused"), "{detail}");
    let reason = detail.get("reason").and_then(Value::as_str).unwrap_or_default();
    ensure!(reason.contains("side by side"), "{reason}");
    let told = field.command(&["rollout", "explain", id]).await?.stdout;
    ensure!(told.contains("the difference is"), "{told}");
    detail.get("measured").cloned().with_context(|| format!("nothing measured: {detail}"))
}

async fn ended(field: &Field, id: &str, how: &str) -> anyhow::Result<()> {
    field.command(&["rollout", "abort", id, how, "--reason", "measured"]).await?.json::<Value>().context("abort")?;
    field.until(id, &["aborted-kept", "aborted-reverted"]).await?;
    Ok(())
}
