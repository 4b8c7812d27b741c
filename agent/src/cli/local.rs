//! Commands that speak with the running agent over its control socket.

use super::output::{columns, pairs, print};
use super::{CommandError, Output};
use crate::app::control::{SOCKET, Status};
use crate::config::Config;
use crate::link::rivals::ADVICE;
use anyhow::{Context as _, anyhow};
use fieldpost_shared::id::ModelName;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

async fn ask<T: DeserializeOwned>(config: &Config, path: &str, body: Option<Value>) -> Result<T, CommandError> {
    let socket = config.data_dir.join(SOCKET);
    let client = reqwest::Client::builder()
        .unix_socket(socket.clone())
        .timeout(std::time::Duration::from_secs(60))
        .build()
        .context("cannot set up the client of the control socket")?;
    let url = format!("http://agent{path}");
    let request = match body {
        Some(body) => client.post(url).json(&body),
        None => client.get(url),
    };
    let response = request.send().await.map_err(|_error| {
        CommandError::Unreachable(anyhow!(
            "no agent answers on `{}`\nnext: start it with `fieldpost-agent run`, or name its directory with --data-dir",
            socket.display()
        ))
    })?;
    let status = response.status();
    let answer: Value = response.json().await.context("cannot read the agent's answer")?;
    if !status.is_success() {
        let message = answer.get("error").and_then(Value::as_str).unwrap_or("no reason given").to_owned();
        return Err(CommandError::Failed(anyhow!(message)));
    }
    Ok(serde_json::from_value(answer).context("cannot read the agent's answer")?)
}

/// The running agent's status; used by `doctor` too.
pub(super) async fn fetch_status(config: &Config) -> Result<Status, CommandError> {
    ask(config, "/status", None).await
}

fn endpoint(status: &Status, name: &str) -> String {
    status.endpoints.get(name).and_then(Value::as_str).unwrap_or("off").to_owned()
}

pub(super) async fn status(config: &Config, output: Output) -> Result<(), CommandError> {
    let status = fetch_status(config).await?;
    let report = &status.report;
    let mut rows = vec![
        ("device", format!("{} of fleet {}", report.device, report.fleet)),
        ("line", status.line_text()),
        ("serving", report.inventory.serving.clone()),
        ("grpc", endpoint(&status, "grpc")),
        ("socket", endpoint(&status, "http_socket")),
        ("outbox", format!("{} windows, {} bytes", report.outbox.windows, report.outbox.bytes)),
        ("fetched", format!("{} bytes", report.fetched_bytes)),
    ];
    if let Some(trouble) = &status.trouble {
        rows.push(("trouble", format!("the journal cannot be written, nothing changes until it can: {trouble}")));
    }
    if status.rival {
        rows.push(("identity", ADVICE.to_owned()));
    }
    if let Some(hold) = &report.hold {
        rows.push(("hold", hold.clone()));
    }
    for (reason, count) in &report.refused {
        rows.push(("refused", format!("{count} x {reason}")));
    }
    let table = format!("{}\n{}", pairs(&rows), models_table(&status));
    Ok(print(output, &status, &table)?)
}

pub(super) async fn models(config: &Config, output: Output) -> Result<(), CommandError> {
    let status = fetch_status(config).await?;
    Ok(print(output, &status.report.models, &models_table(&status))?)
}

fn models_table(status: &Status) -> String {
    let version = |release: Option<&fieldpost_shared::id::ReleaseRef>| {
        release.map_or_else(|| "-".to_owned(), |release| release.version.to_string())
    };
    let rows: Vec<Vec<String>> = status
        .report
        .models
        .iter()
        .map(|model| {
            let candidate = model
                .candidate
                .as_ref()
                .map_or_else(|| "-".to_owned(), |(release, phase)| format!("{} ({phase:?})", release.version));
            vec![model.model.to_string(), version(model.live.as_ref()), version(model.previous.as_ref()), candidate]
        })
        .collect();
    let mut text = columns(&["MODEL", "LIVE", "PREVIOUS", "CANDIDATE"], &rows);
    for entry in &status.report.quarantine {
        let model = &entry.release.model;
        if !status.report.models.iter().any(|report| report.model == *model && report.live.is_some()) {
            text.push_str(&format!("no release of {model} is on this box: the one that came has failed\n"));
        }
        let kind = serde_json::to_value(entry.kind).ok();
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or("?");
        text.push_str(&format!("quarantined: {} since {}: {kind}: {}\n", entry.release, entry.at, entry.detail));
    }
    text
}

pub(super) async fn rollback(config: &Config, model: &ModelName, output: Output) -> Result<(), CommandError> {
    let answer: Value = ask(config, "/rollback", Some(json!({ "model": model }))).await?;
    let now = answer.get("live").and_then(Value::as_str).unwrap_or("nothing").to_owned();
    Ok(print(output, &answer, &format!("{model} goes back to {now}; `fieldpost-agent models` shows when it is there"))?)
}

pub(super) async fn hold(config: &Config, reason: &str, minutes: u64, output: Output) -> Result<(), CommandError> {
    let body = json!({ "reason": reason, "seconds": minutes.saturating_mul(60) });
    let answer: Value = ask(config, "/hold", Some(body)).await?;
    // The agent bounds it: what it says holds.
    let until = answer.get("until").and_then(Value::as_str).unwrap_or("further notice").to_owned();
    Ok(print(output, &answer, &format!("changes are refused until {until}; `release-hold` ends it"))?)
}

pub(super) async fn release_hold(config: &Config, output: Output) -> Result<(), CommandError> {
    let answer: Value = ask(config, "/release-hold", Some(json!({}))).await?;
    Ok(print(output, &answer, "changes are accepted again")?)
}
