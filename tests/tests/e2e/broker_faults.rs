//! A broker that forgets everything.

use crate::scenario;
use anyhow::{bail, ensure};
use fieldpost::demo::assets::{BETTER, GOOD};
use fieldpost_tests::broker::Kind;
use fieldpost_tests::{Broker, Field};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_broker_is_told_everything_again() {
    scenario(Kind::Mosquitto, 2, wiped).await;
}

async fn wiped(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    let Broker::Mosquitto(mosquitto) = &mut field.broker else { bail!("not mosquitto") };
    mosquitto.wipe().await?;
    // A device that was never there finds what it needs, though nothing was published anew for it.
    let newcomer = field.join(&[]).await?;
    let id = field
        .start("1.1.0", &["--waves", "100%", "--soak", "1s", "--min-requests", "0", "--evidence", "requests"])
        .await?;
    field.until(&id, &["completed"]).await?;
    for agent in [0, 1, newcomer] {
        field.serves(agent, "1.1.0").await?;
    }
    let device = field.device(0).await?;
    ensure!(device.get("alive") == Some(&true.into()), "{device}");
    Ok(())
}
