//! Processes that die at the worst moment.

use crate::on_each_broker;
use anyhow::{Context as _, ensure};
use fieldpost::demo::assets::{BETTER, GOOD};
use fieldpost::demo::process::eventually;
use fieldpost_tests::Field;
use fieldpost_tests::field::PATIENCE;
use std::time::Duration;

on_each_broker! {
    an_agent_killed_at_any_moment_of_an_update_recovers: 1 devices, agent;
    a_controller_killed_in_each_state_of_a_rollout_goes_on: 2 devices, controller;
    statistics_of_an_offline_device_arrive_whole: 1 devices, statistics;
}

async fn agent(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    // An update takes some hundred milliseconds here: the kills fall into each of its steps. Which state met a kill is
    // chance; that every state and every write survives one is the table in `agent/src/deploy`.
    for (round, delay_ms) in [0, 20, 60, 120, 200, 300, 500, 900].into_iter().enumerate() {
        let (to, back) = if round % 2 == 0 { ("1.1.0", "1.0.0") } else { ("1.0.0", "1.1.0") };
        let id = field
            .start(
                to,
                &["--waves", "1", "--soak", "1s", "--min-requests", "0", "--evidence", "requests", "--probation", "1s"],
            )
            .await?;
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        let agent = field.agents.first_mut().context("one agent")?;
        agent.kill().await?;
        agent.restart().await?;
        let (_, version) =
            eventually("answer after the kill", PATIENCE, || async { field.ask(0, 3).await.ok() }).await?;
        ensure!(version == to || version == back, "round {round}: answers with {version}");
        field.serves(0, to).await.with_context(|| format!("round {round}, killed after {delay_ms} ms"))?;
        field.until(&id, &["completed"]).await?;
    }
    Ok(())
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
