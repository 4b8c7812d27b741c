//! Speed and size of the whole, as a table: `cargo bench -p fieldpost-tests --bench footprint`.
//!
//! Real processes on loopback, the embedded broker. Build the agent first for its size on disk:
//! `cargo build --release -p fieldpost-agent`. Figures vary with the machine; compare within one run.

use anyhow::{Context as _, bail};
use fieldpost::demo::assets::{BETTER, GOOD};
use fieldpost::demo::process::eventually;
use fieldpost_agent::runtime::{LoadedModel, PredictInput};
use fieldpost_shared::bundle::Manifest;
use fieldpost_tests::Field;
use fieldpost_tests::broker::Kind;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    println!("{:<58} {:>12}  {:>12}", "what", "measured", "wanted");
    let Some(mut field) = Field::new(Kind::Embedded, 12).await? else { bail!("no broker") };
    agent_size();
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    field.install("1.0.0").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    resident(&field)?;
    overhead(&field).await?;
    recovery(&mut field).await?;
    large_update(&field).await?;
    Ok(())
}

fn row(what: &str, measured: String, wanted: &str) {
    println!("{what:<58} {measured:>12}  {wanted:>12}");
}

fn agent_size() {
    let mut path = std::env::current_exe().unwrap_or_default();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    match std::fs::metadata(path.join("fieldpost-agent")) {
        Ok(file) => row("agent, stripped", format!("{:.1} MB", file.len() as f64 / 1e6), "<= 15 MB"),
        Err(_) => row("agent, stripped", "not built".to_owned(), "<= 15 MB"),
    }
}

fn resident(field: &Field) -> anyhow::Result<()> {
    let agent = field.agents.first().context("no agent")?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid().context("not running")?))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .context("no VmRSS")?;
    row("agent idle with digits 1.0, resident", format!("{:.1} MB", kib * 1024.0 / 1e6), "<= 20 MB");
    Ok(())
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The same image through HTTP and through the library, on the release that the agent has on its disk.
async fn overhead(field: &Field) -> anyhow::Result<()> {
    const ROUNDS: usize = 3_000;
    let (agent, digit) = (field.agents.first().context("no agent")?, field.digits.first().context("no digits")?);
    let client = reqwest::Client::new();
    let url = format!("http://{}/predict", agent.http);
    let mut through_http = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let request = client.post(&url).header("content-type", "image/png").body(digit.png.clone());
        request.send().await?.error_for_status()?.bytes().await?;
        through_http.push(started.elapsed());
    }
    let releases = agent.data_dir().join("releases");
    let release = std::fs::read_dir(releases)?.flatten().next().context("no release on disk")?.path();
    let bytes = std::fs::read(release.join("manifest.json"))?;
    let manifest = Manifest::parse(&bytes)?;
    let reference = manifest.release(&bytes);
    let model = LoadedModel::load(&release.join("files"), Arc::new(manifest), reference)?;
    let inputs = model.prepare(&PredictInput::Image(&digit.png))?.tensors;
    let bare = (0..ROUNDS).map(|_| {
        let started = Instant::now();
        model.infer(&inputs).map(|_| started.elapsed())
    });
    let bare = median(bare.collect::<Result<Vec<_>, _>>()?);
    let http = median(through_http);
    row("prediction, bare tract call, median", format!("{:.1} us", bare.as_nanos() as f64 / 1e3), "");
    row("prediction through HTTP (PNG), median", format!("{:.1} us", http.as_nanos() as f64 / 1e3), "");
    let added = http.saturating_sub(bare);
    row("added by HTTP, PNG decoding, client", format!("{:.1} us", added.as_nanos() as f64 / 1e3), "<= 100 us");
    Ok(())
}

async fn recovery(field: &mut Field) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let agent = field.agents.first_mut().context("no agent")?;
        let started = Instant::now();
        agent.kill().await?;
        agent.restart().await?;
        eventually("answer", Duration::from_secs(30), || async { field.ask(0, 0).await.ok() }).await?;
        times.push(started.elapsed());
    }
    row("kill -9 to serving again, median of 5", format!("{:.2} s", median(times).as_secs_f64()), "<= 2 s");
    Ok(())
}

async fn published(field: &Field) -> anyhow::Result<f64> {
    let text = field.get("/metrics").await?;
    let line = text.lines().find(|line| line.starts_with("fieldpost_blob_bytes_published_total"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).context("no count of published bytes")
}

/// A model of 21 MB of noise to 12 devices at once.
async fn large_update(field: &Field) -> anyhow::Result<()> {
    let folder = field.dir().join("large");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("model.onnx"), onnx(1_280, 4_096))?;
    reference(&folder.join("reference.csv"), 1_280)?;
    let toml =
        "name = \"digits\"\nversion = \"9.0.0\"\nmodel = \"model.onnx\"\n[reference]\ndata = \"reference.csv\"\n";
    std::fs::write(folder.join("bundle.toml"), toml)?;
    let before = published(field).await?;
    field.publish_folder(&folder).await?;
    let size = std::fs::metadata(folder.with_extension("fieldpost"))?.len() as f64;
    let started = Instant::now();
    let id =
        field.start("9.0.0", &["--waves", "100%", "--soak", "1s", "--min-requests", "0", "--evidence", "requests"]);
    let id = id.await?;
    let all_live = eventually("12 devices live", Duration::from_secs(120), || async {
        let detail: Value = field.rollout(&id).await.ok()?;
        (detail.pointer("/counts/live").and_then(Value::as_u64) == Some(12)).then(|| started.elapsed())
    });
    let took = all_live.await?;
    let sent = published(field).await? - before;
    row("21 MB model: rollout start to the 12th device live", format!("{:.1} s", took.as_secs_f64()), "");
    row("bytes that the controller sent, per byte of the bundle", format!("{:.3} x", sent / size), "<= 1.05 x");
    Ok(())
}

fn reference(path: &Path, columns: usize) -> anyhow::Result<()> {
    let names: Vec<String> = (0..columns).map(|column| format!("f{column}")).collect();
    let mut text = names.join(",") + "\n";
    for row in 0..20 {
        let values: Vec<String> = (0..columns).map(|column| format!("{}", (row * 7 + column) % 13)).collect();
        text += &(values.join(",") + "\n");
    }
    Ok(std::fs::write(path, text)?)
}

/// `y = x W` with x `[N, rows]` and W of noise, as ONNX protobuf (onnx.proto, IR version 8, opset 13).
fn onnx(rows: u64, columns: u64) -> Vec<u8> {
    let mut state = 1_u64;
    let weights: Vec<u8> = (0..rows * columns)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 40) as f32 / 16_777_216.0 - 0.5).to_le_bytes()
        })
        .collect();
    let tensor = [number(1, rows), number(1, columns), number(2, 1), text(8, "w"), bytes(9, &weights)].concat();
    let node = [text(1, "x"), text(1, "w"), text(2, "y"), text(3, "product"), text(4, "MatMul")].concat();
    let value = |name: &str, columns: u64| {
        let shape = [bytes(1, &text(2, "N")), bytes(1, &number(1, columns))].concat();
        let tensor_type = [number(1, 1), bytes(2, &shape)].concat();
        [text(1, name), bytes(2, &bytes(1, &tensor_type))].concat()
    };
    let graph = [
        bytes(1, &node),
        text(2, "large"),
        bytes(5, &tensor),
        bytes(11, &value("x", rows)),
        bytes(12, &value("y", columns)),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}
