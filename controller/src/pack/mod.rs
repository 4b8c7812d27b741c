//! From a folder with a `bundle.toml` to a signed bundle.
//!
//! ```text
//! bundle.toml --source--> Source --resolve (with the tensors of the graph)--> manifest draft
//! reference data, samples --request--> what a box would be asked --run--> golden answers, baseline, measured cost
//! all of it --files--> chunks, manifest, signatures: one tar
//! ```
//! The model runs here on the agent's own runtime: what cannot run on a device is refused before it is signed.

mod baseline;
mod error;
mod files;
pub mod npy;
pub mod reference;
pub mod request;
pub mod resolve;
mod run;
pub mod source;
mod statements;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use error::PackError;
pub use files::write;
pub use reference::MAX_ROWS;

use baseline::Collector;
use fieldpost_agent::runtime::{self, LoadedModel, SelfTestReport, self_test};
use fieldpost_shared::bundle::archive::Bundle;
use fieldpost_shared::bundle::chunk::{MAX_PAYLOAD_BYTES, frame};
use fieldpost_shared::bundle::golden::MAX_SAMPLES;
use fieldpost_shared::bundle::manifest::{Budgets, FileRole, Measured, Preprocess, SCHEMA};
use fieldpost_shared::bundle::{Dim, GoldenSet, Manifest};
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::trust::{Kind, SecretKey, envelope};
use files::Blobs;
use reference::{Reference, file_sample, folder, spread};
use request::{Sample, Target};
use source::{MAX_SOURCE_BYTES, PostprocessSource, Source};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The commented `bundle.toml` that `bundle new` writes.
pub const TEMPLATE: &str = include_str!("../../../shared/src/bundle/template.toml");
/// The file that describes a bundle.
pub const SOURCE_FILE: &str = "bundle.toml";
/// Where the golden samples lie in a bundle.
const GOLDEN_FILE: &str = "golden.bin";

/// How to pack.
#[derive(Debug)]
pub struct Options<'a> {
    /// Publisher keys; each signs the manifest.
    pub keys: &'a [SecretKey],
    /// The time that the manifest states. With one given the cost that was measured is left out, so that the same
    /// folder gives the same bytes.
    pub created: Option<Timestamp>,
    /// The clock.
    pub clock: &'a dyn Clock,
}

/// Who watches.
pub trait Progress {
    /// A stage of `total` steps begins.
    fn stage(&mut self, name: &'static str, total: usize);
    /// A step of it is done.
    fn step(&mut self);
    /// Something that the publisher should know, though it stops nothing.
    fn note(&mut self, text: String);
}

/// Packs a folder. Blocking: loads and runs the model.
///
/// # Errors
/// When the folder is incomplete or contradicts itself, or the model cannot run, answers NaN, or does not repeat itself.
pub fn pack(dir: &Path, options: &Options<'_>, progress: &mut dyn Progress) -> Result<Bundle, PackError> {
    let source = read_source(dir)?;
    let model_path = files::plain_path(&source.model)?;
    if model_path == GOLDEN_FILE {
        return Err(PackError::Statement(format!(
            "the model cannot be named `{GOLDEN_FILE}`: the bundle needs the name"
        )));
    }
    progress.stage("loading the model", 1);
    let unusable = |error| PackError::Model { path: dir.join(&model_path), source: Box::new(error) };
    let model_file = files::read(&dir.join(&model_path))?;
    let (inputs, outputs) = runtime::inspect(dir, &model_path, &source.shapes).map_err(unusable)?;
    let mut reference = open_reference(dir, &source)?;
    let header = reference.as_ref().and_then(|(_, data)| data.header());
    let mut labels = statements::labels(dir, &source)?;
    if source.labels.is_none() && matches!(source.postprocess, Some(PostprocessSource::Classification(_))) {
        let classes = runtime::classes(dir, &model_path).map_err(unusable)?;
        let columns = Some(Dim::Fixed(classes.len() as u64));
        if outputs.iter().any(|spec| spec.shape.len() == 2 && spec.shape.last() == columns.as_ref()) {
            labels = classes;
        }
    }

    let mut blobs = Blobs::default();
    let mut entries = vec![blobs.add(&model_path, FileRole::Model, &model_file)?];
    for path in runtime::external_files(dir, &model_path).map_err(unusable)? {
        entries.push(blobs.add(&path, FileRole::External, &files::read(&dir.join(&path))?)?);
    }
    let preprocess = resolve::preprocess(source.preprocess.as_ref(), &inputs, header).map_err(PackError::Resolve)?;
    let postprocess =
        resolve::postprocess(source.postprocess.as_ref(), &outputs, &labels).map_err(PackError::Resolve)?;
    preprocess.check().map_err(|error| PackError::Statement(format!("[preprocess] {error}")))?;
    postprocess.check(&labels).map_err(|error| PackError::Statement(format!("[postprocess] {error}")))?;
    let draft = Manifest {
        schema: SCHEMA.to_owned(),
        name: source.name.clone(),
        version: source.version.clone(),
        created: options.created.unwrap_or_else(|| options.clock.now()),
        note: statements::one_line(&source.note)?,
        files: entries,
        preprocess,
        postprocess,
        inputs,
        outputs,
        labels,
        baseline: None,
        tolerance: statements::tolerance(&source)?,
        requirements: statements::requirements(&source)?,
        // Budgets hold on devices. Here they are only compared, once everything is known.
        budgets: Budgets::default(),
        lineage: statements::lineage(&source.lineage)?,
        measured: Measured::default(),
        unknown: std::collections::BTreeMap::new(),
    };
    let draft_bytes = draft.to_bytes().map_err(PackError::Manifest)?;
    // Known before the model runs for minutes; what the reference data add is looked at again below.
    check_message(&draft, &draft_bytes)?;
    let release = draft.release(&draft_bytes);
    let before = options.clock.monotonic();
    let model = LoadedModel::load(dir, Arc::new(draft.clone()), release).map_err(unusable)?;
    let load_ms = options.clock.monotonic().saturating_sub(before).as_secs_f64() * 1e3;
    progress.step();

    let target = Target { manifest: &draft };
    let golden = golden(dir, &source, &model, target, progress)?;
    let report = {
        progress.stage("measuring", 1);
        let report = self_test(&model, &golden, options.clock).map_err(PackError::SelfTest)?;
        progress.step();
        report
    };
    let mut manifest = draft.clone();
    if let Some((path, data)) = &mut reference {
        manifest.baseline = Some(baseline(path, data, &model, target, progress)?);
    } else {
        progress.note("no [reference] data: drift of this release cannot be told from its baseline".to_owned());
    }
    let golden_bytes = golden.encode().map_err(PackError::Golden)?;
    manifest.files.push(blobs.add(GOLDEN_FILE, FileRole::Golden, &golden_bytes)?);
    manifest.budgets = statements::budgets(&source)?;
    compare(&manifest.budgets, &report, progress);
    if options.created.is_none() {
        manifest.measured = measured(&report, load_ms);
    }
    let manifest_bytes = manifest.to_bytes().map_err(PackError::Manifest)?;
    check_message(&manifest, &manifest_bytes)?;
    let signatures = options.keys.iter().map(|key| envelope::sign(Kind::Manifest, &manifest_bytes, key)).collect();
    Ok(Bundle { manifest, manifest_bytes, signatures, blobs: blobs.framed })
}

fn read_source(dir: &Path) -> Result<Source, PackError> {
    let path = dir.join(SOURCE_FILE);
    let failed = |source| PackError::Read { path: path.clone(), source };
    let size = std::fs::metadata(&path).map_err(failed)?.len();
    if size > MAX_SOURCE_BYTES {
        let message = format!("it has {size} bytes, at most {MAX_SOURCE_BYTES} are read");
        return Err(PackError::Source { path, line: 1, message });
    }
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    toml::from_str(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text.get(..start).unwrap_or_default().matches('\n').count().saturating_add(1);
        PackError::Source { path, line, message: error.message().to_owned() }
    })
}

fn open_reference(dir: &Path, source: &Source) -> Result<Option<(PathBuf, Reference)>, PackError> {
    let Some(reference) = &source.reference else { return Ok(None) };
    let path = dir.join(&reference.data);
    match Reference::open(&path) {
        Ok(data) => Ok(Some((path, data))),
        Err(error) => Err(PackError::Data { path, source: Box::new(error) }),
    }
}

/// Golden samples: the folder's files, else the first rows of the reference data.
fn golden(
    dir: &Path,
    source: &Source,
    model: &LoadedModel,
    target: Target<'_>,
    progress: &mut dyn Progress,
) -> Result<GoldenSet, PackError> {
    let samples: Vec<Sample> = match (&source.golden.samples, &source.reference) {
        (Some(samples), _) => {
            let path = dir.join(samples);
            let unusable = |error| PackError::Data { path: path.clone(), source: Box::new(error) };
            let files = folder(&path).map_err(unusable)?;
            if files.len() > MAX_SAMPLES {
                let found = files.len();
                let text = format!("`{}` holds {found} samples, at most {MAX_SAMPLES} travel", path.display());
                return Err(PackError::Statement(text));
            }
            files.iter().map(|file| file_sample(file, target)).collect::<Result<_, _>>().map_err(unusable)?
        }
        (None, Some(_)) => {
            let rows = source.golden.rows;
            if !(1..=MAX_SAMPLES).contains(&rows) {
                return Err(PackError::Statement(format!("[golden] rows must be 1 to {MAX_SAMPLES}, got {rows}")));
            }
            // Opened anew: rows are read in ascending order, and the baseline begins at the first again.
            let Some((path, mut data)) = open_reference(dir, source)? else { return Err(PackError::NoSamples) };
            let taken = rows.min(data.rows());
            let samples: Result<_, _> = (0..taken).map(|row| data.sample(row, target)).collect();
            samples.map_err(|error| PackError::Data { path, source: Box::new(error) })?
        }
        (None, None) => return Err(PackError::NoSamples),
    };
    progress.stage("answering golden samples", samples.len());
    let mut set = GoldenSet::default();
    for sample in samples {
        set.samples.push(run::run(model, sample)?.into_golden());
        progress.step();
    }
    Ok(set)
}

fn baseline(
    path: &Path,
    data: &mut Reference,
    model: &LoadedModel,
    target: Target<'_>,
    progress: &mut dyn Progress,
) -> Result<fieldpost_shared::stats::Baseline, PackError> {
    let rows = data.rows();
    if rows > MAX_ROWS {
        progress.note(format!("of {rows} reference rows {MAX_ROWS} are taken, evenly spread"));
    }
    progress.stage("running the reference data", rows.min(MAX_ROWS));
    let mut collector = Collector::new(model.manifest());
    for row in spread(rows, MAX_ROWS) {
        let sample = data
            .sample(row, target)
            .map_err(|error| PackError::Data { path: path.to_owned(), source: Box::new(error) })?;
        collector.add(&run::run(model, sample)?);
        progress.step();
    }
    let (baseline, empty) = collector.finish().map_err(PackError::Baseline)?;
    if !empty.is_empty() {
        progress.note(format!("no baseline for {}: all their values are NaN", empty.join(", ")));
    }
    if matches!(target.manifest.preprocess, Preprocess::Tensor) && baseline.inputs.is_empty() {
        progress.note("no input has a baseline".to_owned());
    }
    Ok(baseline)
}

/// Whether the packed manifest travels in one message. A chunk takes about 40 bytes of it, so this bounds the model.
fn check_message(manifest: &Manifest, bytes: &[u8]) -> Result<(), PackError> {
    let packed_bytes = frame(bytes).map_err(PackError::Chunk)?.len();
    if packed_bytes <= MAX_PAYLOAD_BYTES {
        return Ok(());
    }
    let (chunks, total_bytes) = (manifest.chunks().len(), manifest.total_bytes());
    Err(PackError::Message { packed_bytes, chunks, total_mib: total_bytes >> 20 })
}

/// What this machine cannot keep, a smaller one hardly will; but the device decides.
fn compare(budgets: &Budgets, report: &SelfTestReport, progress: &mut dyn Progress) {
    let p95_ms = report.p95.as_secs_f64() * 1e3;
    if let Some(budget) = budgets.p95_latency_ms.filter(|budget| p95_ms > *budget) {
        progress.note(format!("p95 of one inference is {p95_ms:.1} ms here, over its budget of {budget} ms"));
    }
    if let (Some(found), Some(budget)) = (report.rss_mib, budgets.rss_mib)
        && found > budget
    {
        progress.note(format!("memory grew by {found:.1} MiB here, over its budget of {budget} MiB"));
    }
}

fn measured(report: &SelfTestReport, load_ms: f64) -> Measured {
    let tenths = |value: f64| (value * 10.0).round() / 10.0;
    Measured {
        arch: std::env::consts::ARCH.to_owned(),
        p50_us: tenths(report.p50.as_secs_f64() * 1e6),
        p95_us: tenths(report.p95.as_secs_f64() * 1e6),
        load_ms: tenths(load_ms),
        rss_mib: tenths(report.rss_mib.unwrap_or(0.0)),
    }
}
