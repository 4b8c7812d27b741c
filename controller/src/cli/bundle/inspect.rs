//! `bundle inspect|verify|sign`: what a bundle holds, and whether it is believed.

use super::source::{Loaded, read};
use crate::cli::keys::read_secret_key;
use crate::cli::output::{self, bytes};
use crate::cli::trust::{newest_root, read_root};
use crate::cli::{Context, Exit, Failure};
use crate::pack;
use fieldpost_shared::bundle::manifest::{Manifest, Postprocess, Preprocess};
use fieldpost_shared::bundle::{GoldenSet, TensorSpec};
use fieldpost_shared::id::Digest;
use fieldpost_shared::stats::Baseline;
use fieldpost_shared::trust::verifier::verify_manifest;
use fieldpost_shared::trust::{Kind, envelope};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Inspected<'a> {
    digest: Digest,
    signed_by: Vec<Digest>,
    manifest: &'a Manifest,
}

pub(super) fn inspect(loaded: &Loaded, context: &Context) -> Result<Exit, Failure> {
    let signed_by = loaded.signatures.iter().map(|signature| signature.keyid).collect();
    let inspected = Inspected { digest: loaded.digest, signed_by, manifest: &loaded.manifest };
    context.show(&inspected, |_| summary(loaded))
}

/// A release for people.
pub(super) fn summary(loaded: &Loaded) -> String {
    let manifest = &loaded.manifest;
    let mut rows = vec![
        ("release", format!("{}@{}", manifest.name, manifest.version)),
        ("digest", loaded.digest.to_string()),
        ("created", manifest.created.to_string()),
    ];
    let mut add = |name: &'static str, text: String| {
        if !text.is_empty() {
            rows.push((name, text));
        }
    };
    add("note", manifest.note.clone());
    let signed: Vec<String> = loaded.signatures.iter().map(|signature| signature.keyid.short()).collect();
    add("signed by", if signed.is_empty() { "nobody".to_owned() } else { signed.join(", ") });
    for file in &manifest.files {
        add("file", format!("{}  {}, {} chunks", file.path, bytes(file.size), file.chunks.len()));
    }
    manifest.inputs.iter().for_each(|spec| add("input", tensor(spec)));
    manifest.outputs.iter().for_each(|spec| add("output", tensor(spec)));
    add("takes", preprocess(&manifest.preprocess));
    add("answers", postprocess(manifest));
    add("baseline", manifest.baseline.as_ref().map(baseline).unwrap_or_default());
    add("budgets", budgets(manifest));
    add("needs", requirements(manifest));
    add("measured", measured(manifest));
    add("lineage", lineage(manifest));
    output::fields(&rows)
}

fn tensor(spec: &TensorSpec) -> String {
    format!("{} {} {}", spec.name, spec.dtype, spec.shape_text())
}

fn preprocess(preprocess: &Preprocess) -> String {
    match preprocess {
        Preprocess::Tensor => "tensors".to_owned(),
        Preprocess::Image(image) => {
            let channels = format!("{:?}", image.channels).to_lowercase();
            format!("images, {}x{} {channels}", image.width, image.height)
        }
        Preprocess::Tabular(tabular) => format!("{} named features", tabular.features.len()),
        Preprocess::Bytes(bytes) if bytes.utf8 => format!("text, {} bytes of it", bytes.length()),
        Preprocess::Bytes(bytes) => format!("any bytes, {} of them", bytes.length()),
    }
}

fn postprocess(manifest: &Manifest) -> String {
    match &manifest.postprocess {
        Postprocess::Raw => "tensors".to_owned(),
        Postprocess::Regression { tensor, unit: None } => format!("a number, of {tensor}"),
        Postprocess::Regression { tensor, unit: Some(unit) } => format!("a number in {unit}, of {tensor}"),
        Postprocess::MultiLabel(output) => format!("any of {} labels, of {}", manifest.labels.len(), output.tensor),
        Postprocess::Detection(output) => format!("objects of {} labels, of {}", manifest.labels.len(), output.boxes),
        Postprocess::Classification(output) if manifest.labels.is_empty() => format!("a class, of {}", output.tensor),
        Postprocess::Classification(_) => {
            let few: Vec<&str> = manifest.labels.iter().take(4).map(String::as_str).collect();
            let more = if manifest.labels.len() > few.len() { ", ..." } else { "" };
            format!("one of {} labels: {}{more}", manifest.labels.len(), few.join(", "))
        }
    }
}

fn baseline(baseline: &Baseline) -> String {
    let mut text = format!("{} reference rows, {} features", baseline.n, baseline.inputs.len());
    if let Some(mean) = baseline.output.confidence.as_ref().and_then(fieldpost_shared::stats::Confidence::mean) {
        text.push_str(&format!(", mean confidence {mean:.3}"));
    }
    text
}

fn budgets(manifest: &Manifest) -> String {
    let budgets = &manifest.budgets;
    let parts = [
        budgets.p95_latency_ms.map(|ms| format!("p95 {ms} ms")),
        budgets.rss_mib.map(|mib| format!("memory {mib} MiB")),
        budgets.error_rate.map(|share| format!("errors {} %", share * 100.0)),
        budgets.max_psi.map(|psi| format!("PSI {psi}")),
        budgets.max_disagreement.map(|share| format!("disagreement {} %", share * 100.0)),
        budgets.max_latency_ratio.map(|ratio| format!("{ratio} times the time in shadow")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn requirements(manifest: &Manifest) -> String {
    let needs = &manifest.requirements;
    let parts = [
        (!needs.arch.is_empty()).then(|| needs.arch.join("|")),
        (!needs.cpu_features.is_empty()).then(|| needs.cpu_features.join("+")),
        (needs.ram_mib > 0).then(|| format!("{} MiB RAM", needs.ram_mib)),
        (needs.disk_mib > 0).then(|| format!("{} MiB disk", needs.disk_mib)),
        needs.agent.as_ref().map(|agent| format!("agent {agent}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn measured(manifest: &Manifest) -> String {
    let cost = &manifest.measured;
    if cost.arch.is_empty() {
        return String::new();
    }
    format!(
        "p50 {} us, p95 {} us, loads in {} ms, {} MiB, on {}",
        cost.p50_us, cost.p95_us, cost.load_ms, cost.rss_mib, cost.arch
    )
}

fn lineage(manifest: &Manifest) -> String {
    let lineage = &manifest.lineage;
    let metrics: Vec<String> = lineage.metrics.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let parts = [
        lineage.algorithm.clone(),
        lineage.parent.as_ref().map(|parent| format!("from {parent}")),
        lineage.commit.as_ref().map(|commit| format!("commit {commit}")),
        lineage.data.as_ref().map(|data| format!("data {data}")),
        (!metrics.is_empty()).then(|| metrics.join(", ")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[derive(Serialize)]
struct Verified {
    file: PathBuf,
    digest: Digest,
    root_version: u64,
}

pub(super) fn verify(file: &Path, root: Option<&Path>, context: &Context) -> Result<Exit, Failure> {
    let bundle = read(file)?;
    let refuse = || Failure::new(format!("`{}` is not believed", file.display()));
    if let Some(golden) = bundle.manifest.file(fieldpost_shared::bundle::manifest::FileRole::Golden) {
        let content = bundle.file(golden).map_err(|error| refuse().because(&error))?;
        GoldenSet::decode(&content).map_err(|error| refuse().because(&error))?;
    }
    let root = match root {
        Some(root) => read_root(root)?,
        None => newest_root(context)?,
    };
    let version = root.metadata.version;
    let digest = verify_manifest(&root.metadata, &bundle.manifest_bytes, &bundle.signatures).map_err(|error| {
        refuse()
            .because(&error)
            .hint(format!("held against root version {version}; `fieldpost trust show` lists publishers"))
    })?;
    root.metadata.check_fresh(context.clock().now()).map_err(|error| refuse().because(&error))?;
    let verified = Verified { file: file.to_owned(), digest, root_version: version };
    context.show(&verified, |_| {
        let (name, release) = (&bundle.manifest.name, &bundle.manifest.version);
        format!("{name}@{release} is genuine: {digest}, by root version {version}")
    })
}

pub(super) fn sign(file: &Path, keys: &[PathBuf], context: &Context) -> Result<Exit, Failure> {
    let mut bundle = read(file)?;
    for path in keys {
        let signature = envelope::sign(Kind::Manifest, &bundle.manifest_bytes, &read_secret_key(path)?);
        bundle.signatures.retain(|known| known.keyid != signature.keyid);
        bundle.signatures.push(signature);
    }
    let refuse = |error| Failure::new(format!("cannot sign `{}`", file.display())).because(&error);
    pack::write(&bundle, file).map_err(refuse)?;
    let digest = Digest::of(&bundle.manifest_bytes);
    inspect(&Loaded { manifest: bundle.manifest, digest, signatures: bundle.signatures }, context)
}
