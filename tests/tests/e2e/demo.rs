//! The demo, as somebody runs it who has just built the program: its harmful release moves the classes that are answered and
//! nothing else, and the comparison of the devices finds it.

use crate::place;
use anyhow::{Context as _, ensure};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_the_demo_promises_is_observed() {
    let _place = place().await;
    played("12", Some("trial:drift")).await.expect("the demo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_works_with_too_few_devices_for_a_comparison() {
    let _place = place().await;
    played("4", None).await.expect("the demo");
}

/// Runs it; with `gate`, that must be what broke.
async fn played(devices: &str, gate: Option<&str>) -> anyhow::Result<()> {
    let ended = fieldpost_tests::field::exe().run(["demo", "--devices", devices, "--output", "json"]).await?;
    let story: Value = ended.json().with_context(|| format!("{ended:?}"))?;
    let checks = story.get("checks").and_then(Value::as_array).context("checks")?;
    ensure!(checks.len() >= 6, "{checks:?}");
    for check in checks {
        ensure!(check.get("observed") == Some(&Value::Bool(true)), "{check}");
    }
    let Some(gate) = gate else { return Ok(()) };
    let events = story.pointer("/explain/events").and_then(Value::as_array).context("events")?;
    let back =
        events.iter().find(|told| told.pointer("/event/kind").and_then(Value::as_str) == Some("rollback-started"));
    let evidence = back.and_then(|told| told.pointer("/event/evidence")?.as_array()).context("evidence")?;
    let broken: Vec<&str> = evidence
        .iter()
        .filter(|report| report.get("verdict").and_then(Value::as_str) == Some("breach"))
        .filter_map(|report| report.get("gate")?.as_str())
        .collect();
    ensure!(broken.contains(&gate), "{broken:?}");
    Ok(())
}
