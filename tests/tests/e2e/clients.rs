//! The clients that people use, from PyPI, unchanged, against a running agent: `tests/clients`.

use anyhow::{Context as _, bail};
use fieldpost::demo::process::eventually;
use fieldpost_tests::broker::Kind;
use fieldpost_tests::field::PATIENCE;
use fieldpost_tests::{Field, place, python};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// Folder and name of each model that the clients ask.
const MODELS: [(&str, &str); 4] =
    [("digits-1.0", "digits"), ("cancer-1.0", "cancer"), ("bad/int-io", "int-io"), ("bad/echo", "echo")];

/// The files of the suite. Each is a process of its own: tritonclient and kserve register messages of the same names.
const SUITES: [&str; 4] = ["test_raw", "test_triton_http", "test_triton_grpc", "test_kserve"];

const PROXIES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// Packs one of the repository's models beside a copy of it.
async fn publish(field: &Field, folder: &str, name: &str) -> anyhow::Result<()> {
    let copy = field.dir().join("models").join(name);
    let copied = Command::new("cp").arg("-r").arg(models().join(folder)).arg(&copy).status();
    std::fs::create_dir_all(field.dir().join("models"))?;
    if !copied.await?.success() {
        bail!("cannot copy {folder}");
    }
    field.publish_folder(&copy).await.with_context(|| format!("publishing {name}"))?;
    let release = format!("{name}@1.0.0");
    let plan = ["--waves", "100%", "--soak", "1s", "--min-requests", "0", "--evidence", "requests"];
    let started: Value =
        field.command(&[&["rollout", "start", &release][..], &plan].concat()).await?.json().context("rollout start")?;
    let id = started.get("id").and_then(Value::as_str).context("no id")?.to_owned();
    field.until(&id, &["completed"]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_from_pypi_work_unchanged() {
    if let Err(error) = play().await {
        panic!("{error:#}");
    }
}

async fn play() -> anyhow::Result<()> {
    let Some(python) = python::with_clients().await? else { return Ok(()) };
    let _place = place().await;
    let field = Field::new(Kind::Embedded, 1).await?.context("the embedded broker is always there")?;
    for (folder, name) in MODELS {
        publish(&field, folder, name).await?;
    }
    let agent = field.agents.first().context("no agent")?;
    let ready = format!("http://{}/v2/health/ready", agent.http);
    eventually("readiness", PATIENCE, || async {
        reqwest::get(&ready).await.ok().filter(|answer| answer.status().is_success()).map(drop)
    })
    .await?;
    let endpoints: Value = serde_json::from_slice(&std::fs::read(agent.data_dir().join("endpoints.json"))?)?;
    let told = json!({
        "http": endpoints["http"], "grpc": endpoints["grpc"], "http_socket": endpoints["http_socket"],
        "pid": agent.pid(), "models": models(),
    });
    for file in SUITES {
        let ran = run(&python, file, &told).await.with_context(|| format!("tests/clients/{file}.py"))?;
        // A file that found nothing to test has shown nothing.
        if ran == 0 {
            bail!("tests/clients/{file}.py ran no test");
        }
    }
    Ok(())
}

#[test]
fn no_file_of_the_suite_is_forgotten() {
    let there = std::fs::read_dir(python::clients()).expect("the suite's folder");
    let names = there.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    let mut files: Vec<String> = names
        .filter_map(|name| Some(name.strip_suffix(".py")?.to_owned()))
        .filter(|name| name.starts_with("test_"))
        .collect();
    let mut suites = SUITES.map(str::to_owned);
    files.sort();
    suites.sort();
    assert_eq!(files, suites);
}

/// Runs one file of the suite; gives the number of its tests.
async fn run(python: &Path, file: &str, told: &Value) -> anyhow::Result<u32> {
    let tests = Command::new(python)
        .args(["-B", "-m", "unittest", "--verbose", file])
        .current_dir(python::clients())
        .env("FIELDPOST_AGENT", told.to_string())
        // These would send what is meant for the agent elsewhere.
        .envs(PROXIES.map(|name| (name, "")))
        .env("no_proxy", "*")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE * 5, tests).await.context("it did not end")??;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}\n{said}", String::from_utf8_lossy(&output.stdout));
    }
    let count = said.lines().rev().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse().ok());
    count.with_context(|| format!("it does not say how many tests ran: {said}"))
}
