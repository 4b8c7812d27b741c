//! A controller that was restored from an older copy of its data, and a broker that loses what it kept while everybody
//! stays connected to it.

use crate::{on_each_broker, scenario};
use anyhow::{Context as _, ensure};
use fieldpost::demo::assets::{BETTER, GOOD, HARMFUL};
use fieldpost::demo::process::eventually;
use fieldpost_tests::Field;
use fieldpost_tests::broker::Kind;
use fieldpost_tests::field::PATIENCE;
use fieldpost_tests::foe::Foe;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

on_each_broker! {
    a_controller_of_yesterday_changes_nothing_until_somebody_decides: 3 devices, yesterday;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mosquitto_lost_while_connected_is_published_again() {
    scenario(Kind::Mosquitto, 1, cleared).await;
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn ahead(device: &Value) -> bool {
    device.get("ahead") == Some(&true.into())
}

fn should_run(device: &Value) -> Option<&str> {
    device.pointer("/desired/0/release/version")?.as_str()
}

async fn devices(field: &Field) -> anyhow::Result<Vec<Value>> {
    field.command(&["device", "list"]).await?.json()
}

/// What the controller says of a box and what the box runs are the same, and it has heard so.
async fn settled(field: &Field, agent: usize, version: &str) -> anyhow::Result<()> {
    field.serves(agent, version).await?;
    eventually(&format!("agent {agent} settled on {version}"), PATIENCE, || async {
        let device = field.device(agent).await.ok()?;
        let accepted = device.get("accepted_sequence") == device.get("desired_sequence");
        (accepted && !ahead(&device) && should_run(&device) == Some(version)).then_some(())
    })
    .await
}

const QUICK: [&str; 4] = ["--min-requests", "0", "--evidence", "requests"];

async fn yesterday(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    // The copy is made in the middle of a rollout: its first box has the release, and the next wave is about to begin.
    let half = field.start("1.1.0", &[&["--waves", "1,3", "--soak", "2s"][..], &QUICK].concat()).await?;
    field.until(&half, &["soaking"]).await?;
    field.controller.kill().await?;
    let (data, old) = (field.controller.data_dir(), field.dir().join("yesterday"));
    copy(&data, &old)?;
    field.controller.restart().await?;
    field.until(&half, &["completed"]).await?;
    field.publish(&HARMFUL).await?;
    field.install("1.2.0").await?;

    field.controller.kill().await?;
    std::fs::remove_dir_all(&data)?;
    copy(&old, &data)?;
    field.controller.restart().await?;
    eventually("every device on hold", PATIENCE, || async {
        devices(&field).await.ok().filter(|all| all.len() == 3 && all.iter().all(ahead)).map(drop)
    })
    .await?;
    let paused = field.until(&half, &["paused"]).await?;
    ensure!(paused.to_string().contains("fieldpost device accept"), "{paused}");
    // Long enough for what the store of yesterday would have done.
    for _ in 0..8 {
        for agent in 0..3 {
            let (_, version) = field.ask(agent, 0).await?;
            ensure!(version == "1.2.0", "agent {agent} answers with {version}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let shown = field.controller.command_as("table", ["device", "list"]).await?.stdout;
    ensure!(shown.contains("3 devices follow orders that this controller does not know"), "{shown}");
    let metrics = field.get("/metrics").await?;
    ensure!(metrics.contains("fieldpost_devices{kind=\"ahead\"} 3"), "{metrics}");
    let log: Vec<Value> = serde_json::from_str(&field.get("/v1/audit").await?)?;
    let noted = log.iter().filter(|entry| entry.get("action") == Some(&"device.ahead".into())).count();
    ensure!(noted == 3, "{noted} notes in {log:?}");

    decided(&field, &half).await
}

async fn decided(field: &Field, half: &str) -> anyhow::Result<()> {
    // What was pushed after the copy cannot be kept until it is pushed again.
    let refused = field.command(&["device", "accept", "box-01", "--keep"]).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("digits@1.2.0"), "{refused:?}");
    let bundle = HARMFUL.unpack(&field.dir().join("models"))?.with_extension("fieldpost");
    let bundle = bundle.to_str().context("the path is text")?;
    field.command(&["bundle", "push", bundle]).await?.json::<Value>().context("bundle push")?;
    field.command(&["device", "accept", "box-01", "--keep"]).await?.json::<Value>().context("keep")?;
    settled(field, 0, "1.2.0").await?;

    let before = field.device(1).await?;
    let version = should_run(&before).context("it should run something")?.to_owned();
    ensure!(version != "1.2.0", "the store of yesterday knows no such release: {before}");
    field.command(&["device", "accept", "box-02", "--restore"]).await?.json::<Value>().context("restore")?;
    settled(field, 1, &version).await?;

    field.command(&["device", "accept", "--all", "--keep"]).await?.json::<Value>().context("keep all")?;
    settled(field, 2, "1.2.0").await?;
    let again = field.command(&["device", "accept", "box-03.lyon.example", "--keep"]).await?;
    ensure!(again.code == Some(1), "{again:?}");
    // The rollout of yesterday does not touch them when it ends, and life goes on.
    let abort = ["rollout", "abort", half, "--keep", "--reason", "it is over"];
    ensure!(field.command(&abort).await?.code == Some(0));
    field.until(half, &["aborted-kept"]).await?;
    settled(field, 0, "1.2.0").await?;
    settled(field, 2, "1.2.0").await?;
    field.install("1.1.0").await?;
    for agent in 0..3 {
        settled(field, agent, "1.1.0").await?;
    }
    Ok(())
}

async fn cleared(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    let agent = field.agents.first_mut().context("one agent")?;
    agent.kill().await?;
    field.start("1.1.0", &[&["--waves", "100%", "--soak", "1s"][..], &QUICK].concat()).await?;
    eventually("the assignment", PATIENCE, || async {
        field.device(0).await.ok().filter(|device| should_run(device) == Some("1.1.0")).map(drop)
    })
    .await?;
    let mut foe = Foe::connect(&field.controller.mqtt).await?;
    foe.listen(Duration::from_secs(2)).await?;
    let ours = |topic: &&str| topic.ends_with("/desired") || topic.contains("/blob/");
    let topics: Vec<String> = foe.topics().filter(ours).map(str::to_owned).collect();
    ensure!(topics.len() > 3, "{topics:?}");
    for topic in &topics {
        foe.say(topic, b"", true)?;
    }
    foe.listen(Duration::from_secs(1)).await?;
    field.agents.first_mut().context("one agent")?.restart().await?;
    eventually("the desired state", PATIENCE, || async {
        let device = field.device(0).await.ok()?;
        (device.get("accepted_sequence") == device.get("desired_sequence")).then_some(())
    })
    .await?;
    // The blobs are missed next: by then the box has begun to fetch.
    field.serves(0, "1.1.0").await.context("the blobs")
}
