//! An external broker behind TLS that asks for certificates: the machine's authorities are believed where no file is
//! named, and whoever is not believed is told so in words.

use crate::scenario;
use anyhow::{Context as _, ensure};
use fieldpost::demo::assets::GOOD;
use fieldpost::demo::process::eventually;
use fieldpost_tests::Field;
use fieldpost_tests::broker::Kind;
use fieldpost_tests::field::PATIENCE;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_behind_tls_is_believed_by_its_authority_alone() {
    scenario(Kind::MosquittoTls, 2, believed).await;
}

/// Starts an agent again with another configuration, and waits until it tells why its line is down.
async fn line_is_down(field: &mut Field, config: impl Fn(&str) -> String, why: &str) -> anyhow::Result<()> {
    let file = field.dir().join("box-02/agent.toml");
    let before = std::fs::read_to_string(&file)?;
    std::fs::write(&file, config(&before))?;
    let agent = field.agents.get_mut(1).context("no such agent")?;
    agent.kill().await?;
    agent.restart().await?;
    eventually(&format!("line down: {why}"), PATIENCE, || async {
        let status: Value = agent.command(["status"]).await.ok()?.json().ok()?;
        status.get("line")?.to_string().contains(why).then_some(())
    })
    .await?;
    std::fs::write(&file, before)?;
    Ok(())
}

async fn believed(mut field: Field) -> anyhow::Result<()> {
    ensure!(field.controller.mqtt.starts_with("mqtts://"), "{}", field.controller.mqtt);
    field.publish(&GOOD).await?;
    field.install("1.0.0").await?;
    field.serves(0, "1.0.0").await?;
    let foreign = field.broker.certificates().context("no certificates")?.foreign_ca.clone();
    let wrong = |config: &str| format!("{config}ca_file = {foreign:?}\n");
    line_is_down(&mut field, wrong, "the broker's certificate is not believed: check its CA").await?;
    let nobody = |config: &str| {
        let kept = config.lines().filter(|line| !line.starts_with("cert_file") && !line.starts_with("key_file"));
        kept.collect::<Vec<_>>().join("\n")
    };
    line_is_down(&mut field, nobody, "the broker refuses this side: it may want a certificate").await?;
    // Nothing of that harmed what runs.
    let agent = field.agents.get_mut(1).context("no such agent")?;
    agent.kill().await?;
    agent.restart().await?;
    field.serves(1, "1.0.0").await
}
