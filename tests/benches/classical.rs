//! Classical models on one thread, beside ONNX Runtime on the same machine in the same run:
//!
//! ```text
//! FIELDPOST_PYTHON=/path/to/venv/bin/python cargo bench -p fieldpost-tests --bench classical [-- NAME]
//! ```
//!
//! The interpreter needs `tests/models/ml/requirements.txt`. What is timed here is `LoadedModel::infer`, which checks the
//! tensors and copies them in and out; of ONNX Runtime it is one bound run from Python. Medians, and the fastest twentieth
//! for busy machines.

use anyhow::{Context as _, ensure};
use fieldpost_agent::runtime::{LoadedModel, inspect};
use fieldpost_shared::bundle::manifest::{FileRole, SCHEMA};
use fieldpost_shared::bundle::{Dtype, FileEntry, Manifest, Tensor};
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS: [usize; 2] = [1, 256];

fn main() -> anyhow::Result<()> {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let scratch = tempfile::tempdir()?;
    let folder = std::env::var_os("FIELDPOST_CLASSICAL").map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    if std::fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none()) {
        python(&["make"], &folder, &[])?;
    }
    let rows = ROWS.map(|rows| rows.to_string());
    let theirs = python(&["time"], &folder, &rows.each_ref().map(String::as_str))?;
    println!("{:<12} {:>5} {:>22} {:>22} {:>7}", "model", "rows", "ONNX Runtime, us", "agent, us", "ratio");
    for line in theirs.lines() {
        let [name, rows, median, fast] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let (own_median, own_fast) = measure(&folder, name, rows.parse()?)?;
        let ratio = own_fast / fast.parse::<f64>()?;
        println!("{name:<12} {rows:>5} {median:>12} ({fast:>7}) {own_median:>12.1} ({own_fast:>7.1}) {ratio:>7.2}");
    }
    Ok(())
}

/// Runs `bench.py`, and returns what it prints.
fn python(before: &[&str], folder: &Path, after: &[&str]) -> anyhow::Result<String> {
    let interpreter = std::env::var("FIELDPOST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ml/bench.py");
    let output = Command::new(&interpreter)
        .arg(script)
        .args(before)
        .arg(folder)
        .args(after)
        .output()
        .with_context(|| format!("cannot start `{interpreter}`"))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Microseconds of one call: median, and the fastest twentieth.
fn measure(folder: &Path, name: &str, rows: usize) -> anyhow::Result<(f64, f64)> {
    let file = format!("{name}.onnx");
    let (inputs, outputs) = inspect(folder, &file, &Default::default())?;
    let input = inputs.first().context("no input")?.name.clone();
    let entry = FileEntry { path: file, role: FileRole::Model, size: 0, sha256: Digest::of(b""), chunks: Vec::new() };
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        name: name.parse()?,
        version: "1.0.0".parse()?,
        created: Timestamp::EPOCH,
        note: String::new(),
        files: vec![entry],
        inputs,
        outputs,
        preprocess: Default::default(),
        postprocess: Default::default(),
        labels: Vec::new(),
        baseline: None,
        tolerance: Default::default(),
        requirements: Default::default(),
        budgets: Default::default(),
        lineage: Default::default(),
        measured: Default::default(),
        unknown: Default::default(),
    };
    let release =
        ReleaseRef { model: manifest.name.clone(), version: manifest.version.clone(), manifest: Digest::of(b"") };
    let model = LoadedModel::load(folder, Arc::new(manifest), release)?;
    let bytes = std::fs::read(folder.join(format!("{name}.f32")))?;
    let row_bytes = bytes.len() / ROWS[1];
    let shape = vec![rows, row_bytes / 4];
    let tensor = Tensor::new(Dtype::Fp32, shape, bytes.get(..rows * row_bytes).context(input)?.to_vec())?;
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end || times.len() < 20 {
        let start = Instant::now();
        drop(model.infer(std::slice::from_ref(&tensor))?);
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() / 20]))
}
