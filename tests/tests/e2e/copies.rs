//! Copies of a box's state: an older one that is put back, and one that runs beside the first.

use crate::on_each_broker;
use anyhow::{Context as _, ensure};
use fieldpost::demo::assets::GOOD;
use fieldpost::demo::process::eventually;
use fieldpost_tests::Field;
use fieldpost_tests::field::PATIENCE;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

on_each_broker! {
    an_older_copy_of_a_boxs_state_goes_on_and_loses_nothing: 1 devices, older;
    a_cloned_box_is_named_as_one: 1 devices, cloned;
}

/// Copies a directory in place of another.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    std::fs::create_dir_all(to.parent().context("no root")?)?;
    ensure!(Command::new("cp").arg("-a").args([from, to]).status()?.success(), "cp {}", from.display());
    Ok(())
}

fn data_dir(field: &Field) -> anyhow::Result<PathBuf> {
    Ok(field.agents.first().context("one agent")?.data_dir())
}

async fn ask(field: &Field, times: usize) -> anyhow::Result<u64> {
    for image in 0..times {
        field.ask(0, image).await?;
    }
    Ok(times as u64)
}

async fn counted(field: &Field, requests: u64) -> anyhow::Result<()> {
    let arrived = eventually(&format!("{requests} requests"), PATIENCE, || async {
        field.counted("box-01").await.ok().filter(|counted| *counted >= requests)
    })
    .await?;
    ensure!(arrived == requests, "{arrived} requests counted, {requests} were made");
    Ok(())
}

/// Waits until the device is alive, and has reported after `since`.
async fn online(field: &Field, since: &str) -> anyhow::Result<()> {
    eventually("report of a box that is alive", PATIENCE, || async {
        let device = field.device(0).await.ok()?;
        let reported = device.get("reported_at")?.as_str()?.to_owned();
        (device.get("alive")?.as_bool()? && reported.as_str() > since).then_some(())
    })
    .await
}

async fn reported_at(field: &Field) -> anyhow::Result<String> {
    let device = field.device(0).await?;
    Ok(device.get("reported_at").and_then(|at| at.as_str()).context("no report")?.to_owned())
}

async fn older(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.install("1.0.0").await?;
    let mut asked = ask(&field, 5).await?;
    counted(&field, asked).await?;

    // The state as it is now, with nothing that waits to be sent: the controller has counted all, and its acknowledgement is on
    // the way. Nothing says when the box has it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (data, older) = (data_dir(&field)?, field.dir().join("older"));
    let agent = field.agents.first_mut().context("one agent")?;
    agent.stop().await?;
    copy(&data, &older)?;
    agent.restart().await?;
    field.serves(0, "1.0.0").await?;
    asked += 1;

    // It goes on for a while, over a restart, and numbers more than the copy knows.
    for _ in 0..3 {
        asked += ask(&field, 7).await?;
        counted(&field, asked).await?;
    }
    field.agents.first_mut().context("one agent")?.kill().await?;
    field.agents.first_mut().context("one agent")?.restart().await?;
    field.serves(0, "1.0.0").await?;
    asked += 1 + ask(&field, 7).await?;
    counted(&field, asked).await?;

    for round in 0..2 {
        field.agents.first_mut().context("one agent")?.stop().await?;
        let before = reported_at(&field).await?;
        copy(&older, &data)?;
        field.agents.first_mut().context("one agent")?.restart().await?;
        online(&field, &before).await.with_context(|| format!("round {round}"))?;
        field.serves(0, "1.0.0").await?;
        asked += 1 + ask(&field, 9).await?;
        counted(&field, asked).await.with_context(|| format!("round {round}"))?;
    }
    let device = field.device(0).await?;
    ensure!(device.get("windows_lost").and_then(serde_json::Value::as_u64) == Some(0), "{device}");
    ensure!(device.get("rival_seen").is_some_and(serde_json::Value::is_null), "one box is no two: {device}");
    Ok(())
}

async fn cloned(mut field: Field) -> anyhow::Result<()> {
    let (data, name) = (data_dir(&field)?, "clone");
    field.agents.first_mut().context("one agent")?.stop().await?;
    copy(&data, &field.dir().join(name).join("data"))?;
    field.agents.first_mut().context("one agent")?.restart().await?;
    let clone = field.agents.first().context("one agent")?.twin(&field.dir().join(name)).await?;
    eventually("word of a second agent", PATIENCE, || async {
        let device = field.device(0).await.ok()?;
        device.get("rival_seen")?.as_str().map(drop)
    })
    .await?;
    let log = |of: &Path| std::fs::read_to_string(of.with_file_name("agent.log")).unwrap_or_default();
    let clones = clone.data_dir();
    eventually("word of it in a log", PATIENCE, || async {
        let said = |of: &Path| log(of).contains("another agent runs with this box's identity");
        (said(&data) || said(&clones)).then_some(())
    })
    .await?;
    let log = std::fs::read_to_string(field.controller.data_dir().with_file_name("controller.log"))?;
    ensure!(log.contains("two agents run under this device's name"), "{log}");
    let metrics = field.get("/metrics").await?;
    ensure!(metrics.lines().any(|line| line.starts_with("fieldpost_old_births_total")), "{metrics}");
    let status = clone.command(["status"]).await?.json::<serde_json::Value>()?;
    let other = field.agents.first().context("one agent")?.command(["status"]).await?.json::<serde_json::Value>()?;
    ensure!([status, other].iter().any(|status| status.get("rival").and_then(|rival| rival.as_bool()) == Some(true)));
    Ok(())
}
