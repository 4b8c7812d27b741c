//! Processes that die at the worst moment.

use crate::on_each_broker;
use anyhow::{Context as _, ensure};
use fieldpost::demo::assets::{BETTER, GOOD};
use fieldpost::demo::process::eventually;
use fieldpost_tests::Field;
use fieldpost_tests::field::PATIENCE;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

on_each_broker! {
    an_agent_killed_in_each_state_of_an_update_recovers: 1 devices, agent;
    a_controller_killed_in_each_state_of_a_rollout_goes_on: 2 devices, controller;
    statistics_of_an_offline_device_arrive_whole: 1 devices, statistics;
}

/// What a box is doing while it takes a release in.
const STATES: [&str; 5] = ["fetching", "verifying", "self-testing", "swapping", "probation"];
/// A state may be over before the kill comes; then it is tried again.
const TRIES: usize = 20;

async fn agent(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.install("1.0.0").await?;
    let mut live = "1.0.0".to_owned();
    for (number, state) in STATES.into_iter().enumerate() {
        let mut met = Vec::new();
        while !met.iter().any(|last| last == state) {
            ensure!(met.len() < TRIES, "no kill met `{state}`, only {met:?}");
            // One that the box has had would be swapped in at once.
            let to = format!("1.{}.{}", number + 2, met.len());
            publish_as(&field, &to).await?;
            let last = killed_in(&mut field, state, &live, &to).await;
            met.push(last.with_context(|| format!("killed in `{state}`"))?);
            live = to;
        }
    }
    Ok(())
}

/// The better release under another version.
async fn publish_as(field: &Field, version: &str) -> anyhow::Result<()> {
    let folder = BETTER.unpack(&field.dir().join(version))?;
    let file = folder.join("bundle.toml");
    let text = std::fs::read_to_string(&file)?;
    let renamed = text.replace("version = \"1.1.0\"", &format!("version = {version:?}"));
    ensure!(renamed != text, "{} states no version 1.1.0", file.display());
    std::fs::write(&file, renamed)?;
    field.publish_folder(&folder).await
}

/// Kills the box as soon as it says that it has reached a state on its way to a version, and sees it recover. Gives the
/// last state that it had written down.
async fn killed_in(field: &mut Field, state: &str, live: &str, to: &str) -> anyhow::Result<String> {
    let agent = field.agents.first().context("one agent")?;
    let log = agent.data_dir().with_file_name("agent.log");
    let begin = std::fs::metadata(&log)?.len();
    let quick = ["--waves", "1", "--soak", "1s", "--min-requests", "0", "--evidence", "requests", "--probation", "1s"];
    let id = field.start(to, &quick).await?;
    let reached = format!("to=\"{state}\"");
    let said = tokio::task::spawn_blocking(move || -> anyhow::Result<PathBuf> {
        let begun = std::time::Instant::now();
        // Some states last for a millisecond: nothing sleeps here.
        while !since(&log, begin)?.contains(&reached) {
            ensure!(begun.elapsed() < PATIENCE, "`{reached}` is not in its log");
        }
        Ok(log)
    });
    let log = said.await??;
    let agent = field.agents.first_mut().context("one agent")?;
    agent.kill().await?;
    let said = since(&log, begin)?;
    let last = said.rsplit("to=\"").next().and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned();
    agent.restart().await?;
    let (_, version) = eventually("answer after the kill", PATIENCE, || async { field.ask(0, 3).await.ok() }).await?;
    ensure!(version == live || version == to, "answers with {version}");
    field.serves(0, to).await?;
    field.until(&id, &["completed"]).await?;
    Ok(last)
}

fn since(log: &Path, begin: u64) -> anyhow::Result<String> {
    let mut file = std::fs::File::open(log)?;
    file.seek(SeekFrom::Start(begin))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

async fn controller(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;

    let id = field
        .start("1.1.0", &["--waves", "1,2", "--soak", "3s", "--min-requests", "0", "--evidence", "requests"])
        .await?;
    restart(&mut field).await?;
    field.until(&id, &["soaking"]).await?;
    restart(&mut field).await?;
    field.until(&id, &["completed"]).await?;
    field.serves(0, "1.1.0").await?;
    field.serves(1, "1.1.0").await?;

    let id = field
        .start("1.0.0", &["--waves", "2", "--soak", "10m", "--min-requests", "0", "--evidence", "requests"])
        .await?;
    field.serves(0, "1.0.0").await?;
    ensure!(field.command(&["rollout", "pause", &id, "--reason", "x"]).await?.code == Some(0));
    field.until(&id, &["paused"]).await?;
    restart(&mut field).await?;
    field.until(&id, &["paused"]).await?;
    ensure!(field.command(&["rollout", "rollback", &id, "--reason", "y"]).await?.code == Some(0));
    restart(&mut field).await?;
    field.until(&id, &["rolled-back"]).await?;
    field.serves(0, "1.1.0").await?;
    field.serves(1, "1.1.0").await
}

async fn restart(field: &mut Field) -> anyhow::Result<()> {
    field.controller.kill().await?;
    field.controller.restart().await
}

async fn statistics(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.install("1.0.0").await?;
    field.ask(0, 0).await?;
    eventually("first window", PATIENCE, || async { field.counted("box-01").await.ok().filter(|n| *n >= 1).map(drop) })
        .await?;
    let before = field.counted("box-01").await?;
    // Without its controller the device goes on answering and counting; with the embedded broker the line is down too.
    field.controller.kill().await?;
    for image in 0..150 {
        field.ask(0, image).await?;
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    field.controller.restart().await?;
    let arrived = eventually("all windows", PATIENCE, || async {
        field.counted("box-01").await.ok().filter(|n| *n >= before + 150)
    })
    .await?;
    ensure!(arrived == before + 150, "{arrived} requests counted, {} were made", before + 150);
    Ok(())
}
