//! Releases that do harm in one way each, on real agents: the comparison of devices finds it, and finds nothing where there
//! is nothing. Limits are opened wide, so that no fixed number decides.

use crate::scenario;
use anyhow::{Context as _, ensure};
use fieldpost::demo::assets::GOOD;
use fieldpost::demo::traffic::Traffic;
use fieldpost_tests::Field;
use fieldpost_tests::broker::Kind;
use fieldpost_tests::harms::Harm;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Half of them are the first wave: 924 ways to choose them, so the smallest p-value is 0.0011.
const DEVICES: usize = 12;

const STRATEGY: &str = r#"
waves = "6,100%"
holdout = "0"
soak = "3s"
warm_up = "2s"
max_dwell = "50s"
probation = "1s"
evidence = "trial"
history = "1h"

[trial]
look_every = "3s"
permutations = 9999

[limits]
error_rate = 1.0
p95_latency_ms = 60000.0
max_psi = 1000.0
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_with_errors_is_found_by_comparison() {
    scenario(Kind::Embedded, DEVICES, |field| found(field, Harm::Errors, "failed requests", false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_release_is_found_by_comparison() {
    scenario(Kind::Embedded, DEVICES, |field| found(field, Harm::Slow, "slower than", false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_is_wrong_is_found_by_labels_alone() {
    scenario(Kind::Embedded, DEVICES, |field| found(field, Harm::WrongLabels, "wrong answers", true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_broker_takes_no_harmless_release_back() {
    scenario(Kind::Mosquitto, 4, outage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_that_falls_silent_does_not_advance() {
    scenario(Kind::Embedded, 4, silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_is_held_out_devices_are_held_against_their_own_past() {
    scenario(Kind::Embedded, 4, everybody).await;
}

/// Keeps all agents busy until dropped.
fn traffic(field: &Field) -> anyhow::Result<Traffic> {
    let devices: Vec<_> = field.agents.iter().map(|agent| (agent.device.clone(), agent.http.clone())).collect();
    Traffic::start(devices.into_iter(), &Arc::new(field.digits.clone()), Duration::from_millis(40))
}

/// Asks every agent ten times a second, and tells it the truth about each answer.
fn labelled(field: &Field) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let client = reqwest::Client::new();
    for (offset, agent) in field.agents.iter().enumerate() {
        let (client, http, digits) = (client.clone(), agent.http.clone(), field.digits.clone());
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            for n in offset * 67.. {
                ticks.tick().await;
                let digit = &digits[n % digits.len()];
                let id = format!("truth-{n}");
                let asked = client.post(format!("http://{http}/predict")).header("content-type", "image/png");
                // An agent that is down is asked again later.
                let Ok(_answer) = asked.header("x-request-id", &id).body(digit.png.clone()).send().await else {
                    continue;
                };
                let truth = json!({"id": id, "label": digit.label.to_string()});
                drop(client.post(format!("http://{http}/v2/models/digits/feedback")).json(&truth).send().await);
            }
        });
    }
    tasks
}

/// A harmful release goes back, and the comparison of this metric is why.
async fn found(field: Field, harm: Harm, metric: &str, with_truth: bool) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish_folder(&harm.unpack(&field.dir().join("models"))?).await?;
    field.install("1.0.0").await?;
    let (traffic, mut truth) = (traffic(&field)?, JoinSet::new());
    if with_truth {
        truth = labelled(&field);
    }
    known(&field).await?;
    let strategy = field.dir().join("strategy.toml");
    std::fs::write(&strategy, STRATEGY)?;
    let strategy = strategy.to_str().context("a path in UTF-8")?;
    let id = field.start(harm.version(), &["--strategy", strategy]).await?;
    let ended = field.until(&id, &["rolled-back", "paused", "completed"]).await?;
    let state = ended.get("state").and_then(Value::as_str).unwrap_or_default();
    let reason = ended.get("reason").and_then(Value::as_str).unwrap_or_default();
    let explained = field.command(&["rollout", "explain", &id]).await?.stdout;
    ensure!(state == "rolled-back" && reason.contains(metric), "{state}: {reason}\n{explained}");
    for agent in 0..DEVICES {
        field.serves(agent, "1.0.0").await?;
    }
    truth.shutdown().await;
    drop(traffic.stop().await);
    Ok(())
}

/// Waits until the controller has counted what each device did before: that is what it is compared with.
async fn known(field: &Field) -> anyhow::Result<()> {
    for agent in &field.agents {
        fieldpost::demo::process::eventually(
            "statistics of every device",
            fieldpost_tests::field::PATIENCE,
            || async { field.counted(&agent.device).await.ok().filter(|requests| *requests > 50).map(drop) },
        )
        .await?;
    }
    Ok(())
}

/// Everybody is cut off in the middle of the soak for as long as counts as silence, all at the same time.
async fn outage(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish_folder(&Harm::None.unpack(&field.dir().join("models"))?).await?;
    field.install("1.0.0").await?;
    let traffic = traffic(&field)?;
    known(&field).await?;
    let flags =
        ["--waves", "2,4", "--soak", "12s", "--evidence", "gates", "--silence-after", "4s", "--probation", "1s"];
    let id = field.start(Harm::None.version(), &flags).await?;
    field.until(&id, &["soaking"]).await?;
    field.broker.apart()?.away(Duration::from_secs(8)).await?;
    let ended = field.until(&id, &["completed", "rolled-back", "paused"]).await?;
    ensure!(ended.get("state").and_then(Value::as_str) == Some("completed"), "{ended}");
    for agent in 0..4 {
        field.serves(agent, Harm::None.version()).await?;
    }
    drop(traffic.stop().await);
    Ok(())
}

/// The whole first wave dies while it soaks: whatever comes of it, nobody else gets the release.
async fn silent(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish_folder(&Harm::None.unpack(&field.dir().join("models"))?).await?;
    field.install("1.0.0").await?;
    let traffic = traffic(&field)?;
    known(&field).await?;
    let flags = ["--waves", "2,4", "--soak", "4s", "--evidence", "gates", "--silence-after", "3s", "--probation", "1s"];
    let id = field.start(Harm::None.version(), &flags).await?;
    let detail = field.until(&id, &["soaking"]).await?;
    let first: Vec<String> = detail
        .get("devices")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|member| member.get("wave_number").and_then(Value::as_u64) == Some(1))
        .filter_map(|member| member.get("device")?.as_str().map(str::to_owned))
        .collect();
    ensure!(first.len() == 2, "{detail}");
    for agent in field.agents.iter_mut().filter(|agent| first.contains(&agent.device)) {
        traffic.mark_down(&agent.device, true);
        agent.kill().await?;
    }
    let ended = field.until(&id, &["rolling-back", "rolled-back", "paused", "completed"]).await?;
    let state = ended.get("state").and_then(Value::as_str).unwrap_or_default();
    ensure!(state != "completed", "it advanced on silence: {ended}");
    for agent in (0..4).filter(|agent| !first.contains(&field.agents[*agent].device)) {
        field.serves(agent, "1.0.0").await?;
    }
    drop(traffic.stop().await);
    Ok(())
}

/// Everybody in one wave: a harmless release passes when its devices were watched for long enough, and a harmful one goes
/// back.
async fn everybody(field: Field) -> anyhow::Result<()> {
    const PAST: Duration = Duration::from_secs(40);
    field.publish(&GOOD).await?;
    for harm in [Harm::None, Harm::Errors] {
        field.publish_folder(&harm.unpack(&field.dir().join("models"))?).await?;
    }
    field.install("1.0.0").await?;
    let traffic = traffic(&field)?;
    let strategy = field.dir().join("strategy.toml");
    let everybody = STRATEGY.replace("6,100%", "100%").replace("\"1h\"", "\"40s\"").replace("\"50s\"", "\"120s\"");
    std::fs::write(&strategy, everybody)?;
    let strategy = strategy.to_str().context("a path in UTF-8")?;
    for (harm, outcome, told) in [
        (Harm::None, "completed", "are not worse than they were"),
        (Harm::Errors, "rolled-back", "above all of their past"),
    ] {
        tokio::time::sleep(PAST).await;
        let id = field.start(harm.version(), &["--strategy", strategy]).await?;
        let ended = field.until(&id, &["rolled-back", "paused", "completed"]).await?;
        let explained = field.command(&["rollout", "explain", &id]).await?.stdout;
        ensure!(ended.get("state").and_then(Value::as_str) == Some(outcome), "{ended}\n{explained}");
        ensure!(explained.contains(told), "{explained}");
    }
    for agent in 0..4 {
        field.serves(agent, Harm::None.version()).await?;
    }
    drop(traffic.stop().await);
    Ok(())
}
