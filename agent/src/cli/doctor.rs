//! `doctor`: what a person would look at first, in the order in which things depend on each other.

use super::local::fetch_status;
use super::output::{columns, print};
use super::{CommandError, Output};
use crate::config::Config;
use crate::identity::{Identity, check_owner, enroll::http_client, load_key};
use crate::link::rivals::ADVICE;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::time::{Clock as _, SystemClock, Timestamp};
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    detail: String,
}

/// 2026-01-01: before this program was written, so a clock before it is wrong.
const WRITTEN: Timestamp = Timestamp::from_millis(1_767_225_600_000);

fn finding(check: &'static str, result: Result<String, String>) -> Finding {
    match result {
        Ok(detail) => Finding { check, ok: true, detail },
        Err(detail) => Finding { check, ok: false, detail },
    }
}

pub(super) async fn run(config: &Config, output: Output) -> Result<(), CommandError> {
    let mut findings = vec![finding("data directory", data_dir(config)), finding("clock", clock())];
    let key = load_key(&config.data_dir);
    findings.push(finding(
        "device key",
        key.map(|key| key.public().id().short()).map_err(|error| Chain(&error).to_string()),
    ));
    match Identity::load(&config.data_dir) {
        Ok(identity) => {
            findings.push(finding("enrolment", Ok(format!("{} of fleet {}", identity.device, identity.fleet))));
            findings.push(finding("broker", reach(&identity).await));
            findings.push(finding("controller", controller(config, &identity).await));
        }
        Err(error) => findings.push(finding("enrolment", Err(Chain(&error).to_string()))),
    }
    let agent = fetch_status(config).await;
    let rival = agent.as_ref().is_ok_and(|status| status.rival);
    findings.push(finding(
        "agent",
        agent
            .map(|status| format!("running; line {}; {} models", status.line_text(), status.report.models.len()))
            .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned()),
    ));
    if rival {
        findings.push(finding("identity", Err(ADVICE.to_owned())));
    }
    let rows: Vec<_> = findings
        .iter()
        .map(|f| vec![if f.ok { "ok" } else { "FAIL" }.to_owned(), f.check.to_owned(), f.detail.clone()])
        .collect();
    print(output, &findings, &columns(&["", "CHECK", "DETAIL"], &rows))?;
    match findings.iter().filter(|finding| !finding.ok).count() {
        0 => Ok(()),
        failed => Err(CommandError::Failed(anyhow::anyhow!("{failed} of {} checks failed", findings.len()))),
    }
}

fn data_dir(config: &Config) -> Result<String, String> {
    let dir = &config.data_dir;
    // A doctor changes nothing: a directory made by whoever runs it would be in the agent's way later.
    if !dir.is_dir() {
        return Err(format!(
            "`{}` is not there; `fieldpost-agent enroll` makes it, or name another with --data-dir",
            dir.display()
        ));
    }
    check_owner(dir).map_err(|error| error.to_string())?;
    let probe = fieldpost_shared::durable::write_atomic(dir, ".doctor", b"probe");
    probe.map_err(|error| Chain(&error).to_string())?;
    drop(std::fs::remove_file(dir.join(".doctor")));
    let free = crate::fetch::disk::free_bytes(dir);
    match free.map(|bytes| bytes >> 20) {
        Some(mib) if mib < 64 => Err(format!("only {mib} MiB free on the disk of `{}`", dir.display())),
        Some(mib) => Ok(format!("{}, {mib} MiB free", dir.display())),
        None => Ok(format!("{}, free space unknown", dir.display())),
    }
}

fn clock() -> Result<String, String> {
    let now = SystemClock::new().now();
    if now < WRITTEN {
        Err(format!("{now} is before this program was written: set the clock, for instance with NTP"))
    } else {
        Ok(now.to_string())
    }
}

async fn reach(identity: &Identity) -> Result<String, String> {
    let address = (identity.broker.host.clone(), identity.broker.port);
    let name = format!("{}:{}", address.0, address.1);
    match tokio::time::timeout(Duration::from_secs(5), tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(format!("{name} answers")),
        Ok(Err(error)) => Err(format!("{name}: {error}")),
        Err(_elapsed) => Err(format!("{name} did not answer within 5 s")),
    }
}

async fn controller(config: &Config, identity: &Identity) -> Result<String, String> {
    let ca = config.ca_file.as_ref().map(std::fs::read).transpose().map_err(|error| format!("CA file: {error}"))?;
    let client = http_client(ca.as_deref()).map_err(|error| Chain(&error).to_string())?;
    let url = format!("{}/v1/health", identity.controller);
    match client.get(&url).timeout(Duration::from_secs(5)).send().await {
        Ok(response) => Ok(format!("{} answers {}", identity.controller, response.status().as_u16())),
        // The broker is what matters day by day; a controller behind a firewall is normal.
        Err(error) => {
            Ok(format!("{} cannot be reached over HTTP ({error}); enrolment alone needs it", identity.controller))
        }
    }
}
