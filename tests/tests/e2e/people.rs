//! What people meet: local commands, and refusals that say what to do.

use crate::on_each_broker;
use anyhow::ensure;
use fieldpost::demo::assets::{BETTER, GOOD};
use fieldpost_tests::Field;

on_each_broker! {
    a_box_goes_back_by_a_local_command_without_its_controller: 1 devices, local;
    what_was_pushed_is_known_by_name: 0 devices, by_name;
}

async fn by_name(field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    for (words, shows) in [
        (&["bundle", "list"][..], "1.1.0"),
        (&["bundle", "inspect", "digits@1.0.0"], "1.0.0"),
        (&["bundle", "history", "digits"], "1.1.0"),
        (&["bundle", "diff", "digits@1.0.0", "digits@1.1.0"], "1.1.0"),
    ] {
        let said = field.command(words).await?;
        ensure!(said.code == Some(0) && said.stdout.contains(shows), "{words:?}: {}{}", said.stdout, said.stderr);
    }
    let unknown = field.command(&["bundle", "inspect", "digits@9.0.0"]).await?;
    ensure!(unknown.code == Some(1) && unknown.stderr.contains("bundle list"), "{}", unknown.stderr);
    Ok(())
}

async fn local(mut field: Field) -> anyhow::Result<()> {
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    field.install("1.1.0").await?;
    field.serves(0, "1.1.0").await?;
    field.controller.kill().await?;
    let Some(agent) = field.agents.first() else { anyhow::bail!("no agent") };
    let back = agent.command(["rollback", "digits"]).await?;
    ensure!(back.code == Some(0), "{}", back.stderr);
    field.serves(0, "1.0.0").await?;
    let unknown = agent.command(["rollback", "nothing"]).await?;
    ensure!(unknown.code == Some(1) && unknown.stderr.contains("nothing"), "{}", unknown.stderr);
    Ok(())
}
