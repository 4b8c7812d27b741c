//! What rollouts do to a fleet.

use crate::on_each_broker;
use anyhow::{Context as _, ensure};
use fieldpost::demo::assets::{BETTER, GOOD, HARMFUL};
use fieldpost_tests::Field;
use fieldpost_tests::field::PATIENCE;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

on_each_broker! {
    a_good_release_goes_through_its_waves: 4 devices, good;
    a_harmful_release_is_stopped_in_its_first_wave: 4 devices, harmful;
    a_good_release_leaves_its_shadow_and_completes: 2 devices, good_shadow;
    a_release_that_disagrees_in_shadow_answers_nobody: 2 devices, harmful_shadow;
    a_late_joiner_gets_the_release_in_its_turn: 2 devices, late;
    a_device_that_slept_through_a_rollback_goes_back_too: 3 devices, slept;
    an_abort_with_revert_brings_everybody_back: 2 devices, abort;
}

/// Keeps all agents busy with digits until dropped.
fn traffic(field: &Field) -> anyhow::Result<fieldpost::demo::traffic::Traffic> {
    let devices: Vec<_> = field.agents.iter().map(|agent| (agent.device.clone(), agent.http.clone())).collect();
    let digits = Arc::new(field.digits.clone());
    fieldpost::demo::traffic::Traffic::start(devices.into_iter(), &digits, Duration::from_millis(25))
}

async fn good(field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    let traffic = traffic(&field)?;
    let id = field.start("1.1.0", &["--waves", "1,2,4", "--soak", "2s", "--evidence", "gates"]).await?;
    let detail = field.until(&id, &["completed", "rolled-back", "paused"]).await?;
    ensure!(detail.get("state").and_then(Value::as_str) == Some("completed"), "{detail}");
    for agent in 0..4 {
        field.serves(agent, "1.1.0").await?;
    }
    for (device, tally) in traffic.stop().await {
        ensure!(tally.failed == 0, "{device}: {} requests failed: {:?}", tally.failed, tally.last_failure);
        ensure!(tally.requests() > 20, "{device} answered only {}", tally.requests());
    }
    Ok(())
}

async fn harmful(field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&HARMFUL).await?;
    field.install("1.0.0").await?;
    let traffic = traffic(&field)?;
    let args = ["rollout", "start", "digits@1.2.0", "--waves", "1,4", "--soak", "5s", "--evidence", "gates", "--wait"];
    let finished = field.command(&args).await?;
    ensure!(finished.code == Some(3), "exit code {:?}: {} {}", finished.code, finished.stdout, finished.stderr);
    let list: Value = field.command(&["rollout", "list"]).await?.json()?;
    let id = list
        .as_array()
        .and_then(|all| all.iter().find(|one| one.pointer("/release/version").and_then(Value::as_str) == Some("1.2.0")))
        .and_then(|one| one.get("id")?.as_str())
        .context("the rollout is not listed")?
        .to_owned();
    let detail = field.until(&id, &["rolled-back"]).await?;
    let reason = detail.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure!(reason.to_lowercase().contains("psi"), "the reason does not name the drift: {reason}");
    for agent in 0..4 {
        field.serves(agent, "1.0.0").await?;
    }
    let tallies = traffic.stop().await;
    let exposed = tallies.values().filter(|tally| tally.answered.contains_key("1.2.0")).count();
    ensure!(exposed == 1, "{exposed} devices served the harmful release");
    let explained = field.command(&["rollout", "explain", &id]).await?;
    ensure!(explained.code == Some(0) && explained.stdout.to_lowercase().contains("psi"), "{}", explained.stdout);
    Ok(())
}

const SHADOW: [&str; 10] =
    ["--waves", "1,2", "--soak", "1s", "--evidence", "gates", "--shadow", "2s", "--shadow-pairs", "50"];

async fn good_shadow(field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    let traffic = traffic(&field)?;
    let id = field.start("1.1.0", &SHADOW).await?;
    let detail = field.until(&id, &["completed", "rolled-back", "paused"]).await?;
    ensure!(detail.get("state").and_then(Value::as_str) == Some("completed"), "{detail}");
    for agent in 0..2 {
        field.serves(agent, "1.1.0").await?;
    }
    for (device, tally) in traffic.stop().await {
        ensure!(tally.failed == 0, "{device}: {} requests failed: {:?}", tally.failed, tally.last_failure);
    }
    let explained = field.command(&["rollout", "explain", &id]).await?;
    ensure!(explained.stdout.contains("Wave 1 has shown in shadow what it had to"), "{}", explained.stdout);
    ensure!(
        explained.stdout.contains("of the scores are within"),
        "how answers differ is not told: {}",
        explained.stdout
    );
    Ok(())
}

async fn harmful_shadow(field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&HARMFUL).await?;
    field.install("1.0.0").await?;
    let traffic = traffic(&field)?;
    let id = field.start("1.2.0", &SHADOW).await?;
    let detail = field.until(&id, &["completed", "rolled-back", "paused"]).await?;
    ensure!(detail.get("state").and_then(Value::as_str) == Some("rolled-back"), "{detail}");
    for agent in 0..2 {
        field.serves(agent, "1.0.0").await?;
    }
    for (device, tally) in traffic.stop().await {
        ensure!(!tally.answered.contains_key("1.2.0"), "{device} answered with the release that was in shadow");
        ensure!(tally.failed == 0, "{device}: {} requests failed: {:?}", tally.failed, tally.last_failure);
    }
    let explained = field.command(&["rollout", "explain", &id]).await?;
    ensure!(explained.stdout.to_lowercase().contains("in shadow"), "{}", explained.stdout);
    Ok(())
}

async fn late(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.install("1.0.0").await?;
    field.publish(&BETTER).await?;
    let id = field
        .start("1.1.0", &["--waves", "1,100%", "--soak", "2s", "--min-requests", "0", "--evidence", "requests"])
        .await?;
    let newcomer = field.join(&[]).await?;
    field.until(&id, &["completed"]).await?;
    field.serves(newcomer, "1.1.0").await?;
    let detail = field.rollout(&id).await?;
    let devices = detail.get("devices").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(devices == 3, "{devices} devices in the rollout: {detail}");
    Ok(())
}

async fn slept(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    // Long soak: the rollout is still running when the sleeper goes to sleep and when it is taken back.
    let id = field
        .start("1.1.0", &["--waves", "100%", "--soak", "10m", "--min-requests", "0", "--evidence", "requests"])
        .await?;
    for agent in 0..3 {
        field.serves(agent, "1.1.0").await?;
    }
    field.agents.get_mut(2).context("three agents")?.kill().await?;
    let back = field.command(&["rollout", "rollback", &id, "--reason", "for the test"]).await?;
    ensure!(back.code == Some(0), "{}", back.stderr);
    for agent in 0..2 {
        field.serves(agent, "1.0.0").await?;
    }
    field.agents.get_mut(2).context("three agents")?.restart().await?;
    field.serves(2, "1.0.0").await
}

async fn abort(field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    let id = field
        .start("1.1.0", &["--waves", "1,100%", "--soak", "10m", "--min-requests", "0", "--evidence", "requests"])
        .await?;
    fieldpost::demo::process::eventually("first device on 1.1.0", PATIENCE, || async {
        let answers = [field.ask(0, 1).await, field.ask(1, 1).await];
        answers.into_iter().flatten().any(|(_, version)| version == "1.1.0").then_some(())
    })
    .await?;
    let paused = field.command(&["rollout", "pause", &id, "--reason", "lunch"]).await?;
    ensure!(paused.code == Some(0), "{}", paused.stderr);
    field.until(&id, &["paused"]).await?;
    let aborted = field.command(&["rollout", "abort", &id, "--revert"]).await?;
    ensure!(aborted.code == Some(0), "{}", aborted.stderr);
    field.until(&id, &["aborted-reverted"]).await?;
    field.serves(0, "1.0.0").await?;
    field.serves(1, "1.0.0").await
}
