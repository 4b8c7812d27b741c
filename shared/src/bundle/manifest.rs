//! The manifest: everything a device must know before it fetches a byte of a model. JSON, signed as the bytes it is.

use super::chunk::{ChunkRef, MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES};
use super::contract::TensorSpec;
pub use super::declare::*;
use crate::id::{Digest, ModelName, ReleaseRef};

use crate::stats::Baseline;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema this program writes. A newer major number is refused, a newer minor one is read.
pub const SCHEMA: &str = "fieldpost.bundle/1.0";
const SCHEMA_PREFIX: &str = "fieldpost.bundle/1.";

/// Largest model file, unpacked.
pub const MAX_FILE_BYTES: u64 = 8 << 30;
/// Most files in a bundle.
pub const MAX_FILES: usize = 64;

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST_BYTES`].
    #[error("the manifest has {0} bytes, at most {MAX_MANIFEST_BYTES} are allowed")]
    TooLarge(usize),
    /// Not the JSON of this schema.
    #[error("cannot read the manifest")]
    Json(#[source] serde_json::Error),
    /// A major version this program does not know.
    #[error("the manifest's schema is `{0}`, this program reads `{SCHEMA_PREFIX}x`: update the reader")]
    Schema(String),
    /// A statement that contradicts itself.
    #[error("the manifest is inconsistent: {0}")]
    Inconsistent(String),
}

/// What a file of a bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileRole {
    /// The ONNX graph.
    Model,
    /// Data beside the graph (ONNX external tensors), found by its path.
    External,
    /// Golden samples ([`super::golden`]).
    Golden,
}

/// One file, by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// A relative path without `..`.
    pub path: String,
    /// What it is for.
    pub role: FileRole,
    /// Bytes.
    pub size: u64,
    /// sha256 of the whole.
    pub sha256: Digest,
    /// Its chunks in order; their sizes add up to `size`.
    pub chunks: Vec<ChunkRef>,
}

/// What a box must have. Checked before the first byte is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Requirements {
    /// Architectures (`x86_64`, `aarch64`, `arm`); empty is any.
    #[serde(default)]
    pub arch: Vec<String>,
    /// CPU features that must all be there, as the kernel names them; empty is none.
    #[serde(default)]
    pub cpu_features: Vec<String>,
    /// Total memory of the box, MiB.
    #[serde(default)]
    pub ram_mib: u64,
    /// Free disk, MiB, beyond the bundle itself.
    #[serde(default)]
    pub disk_mib: u64,
    /// Lowest agent version, as a requirement such as `>=0.1`.
    #[serde(default)]
    pub agent: Option<semver::VersionReq>,
}

/// What the release may cost and how often it may fail. None is "not bounded".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Budgets {
    /// 95th percentile of one inference, milliseconds, on the device.
    #[serde(default)]
    pub p95_latency_ms: Option<f64>,
    /// Growth of the agent's resident memory by this model, MiB.
    #[serde(default)]
    pub rss_mib: Option<f64>,
    /// Share of requests the model itself may fail, 0..=1.
    #[serde(default)]
    pub error_rate: Option<f64>,
    /// PSI_adj of the outputs against the baseline; above it the release does harm.
    #[serde(default)]
    pub max_psi: Option<f64>,
    /// Share of shadowed requests whose label differs from the live model's.
    #[serde(default)]
    pub max_disagreement: Option<f64>,
    /// Median time of a shadowed request as a multiple of the live model's, on the same device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_ratio: Option<f64>,
}

/// How far a golden output may be from its expectation: |a - b| <= abs + rel * |b|, NaN only where NaN was expected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Absolute part.
    pub abs: f64,
    /// Relative part.
    pub rel: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { abs: 1e-4, rel: 1e-3 }
    }
}

/// Where the model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Lineage {
    /// Digest or name of the training data.
    #[serde(default)]
    pub data: Option<String>,
    /// Algorithm, such as `mlp`.
    #[serde(default)]
    pub algorithm: Option<String>,
    /// Commit of the training code.
    #[serde(default)]
    pub commit: Option<String>,
    /// Release this one was derived from, `name@version`.
    #[serde(default)]
    pub parent: Option<String>,
    /// Hyperparameters.
    #[serde(default)]
    pub hyperparameters: BTreeMap<String, serde_json::Value>,
    /// Offline metrics, such as accuracy.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

/// What one inference cost where the bundle was packed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Measured {
    /// Architecture of the packing machine.
    pub arch: String,
    /// Median of one inference, microseconds.
    pub p50_us: f64,
    /// 95th percentile, microseconds.
    pub p95_us: f64,
    /// Time to load and optimise, milliseconds.
    pub load_ms: f64,
    /// Growth of resident memory, MiB.
    pub rss_mib: f64,
}

/// The manifest of one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`]; comes first.
    pub schema: String,
    /// The model's name.
    pub name: ModelName,
    /// The release's version.
    pub version: semver::Version,
    /// When it was packed.
    pub created: Timestamp,
    /// One line for people.
    #[serde(default)]
    pub note: String,
    /// The files.
    pub files: Vec<FileEntry>,
    /// The model's inputs.
    pub inputs: Vec<TensorSpec>,
    /// The model's outputs.
    pub outputs: Vec<TensorSpec>,
    /// From request to inputs.
    #[serde(default)]
    pub preprocess: Preprocess,
    /// From outputs to answer.
    #[serde(default)]
    pub postprocess: Postprocess,
    /// Class names by index; empty when there are none.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Distributions on the reference data.
    #[serde(default)]
    pub baseline: Option<Baseline>,
    /// Tolerance of the golden samples.
    #[serde(default)]
    pub tolerance: Tolerance,
    /// What a box must have.
    #[serde(default)]
    pub requirements: Requirements,
    /// What the release may cost.
    #[serde(default)]
    pub budgets: Budgets,
    /// Where the model comes from.
    #[serde(default)]
    pub lineage: Lineage,
    /// What it cost where it was packed.
    #[serde(default)]
    pub measured: Measured,
    /// Fields of a newer minor version, kept.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct SchemaOnly {
    schema: String,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// When it is too large, not of this schema, or inconsistent.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        // The schema is read alone first, so that a newer manifest is refused for being newer and not for a field.
        let SchemaOnly { schema } = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if !schema.starts_with(SCHEMA_PREFIX) {
            return Err(ManifestError::Schema(schema.chars().take(80).collect()));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The bytes to sign.
    ///
    /// # Errors
    /// When the manifest is inconsistent or too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(ManifestError::Json)?;
        if bytes.len() > MAX_MANIFEST_BYTES { Err(ManifestError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// The release that these bytes are.
    #[must_use]
    pub fn release(&self, bytes: &[u8]) -> ReleaseRef {
        ReleaseRef { model: self.name.clone(), version: self.version.clone(), manifest: Digest::of(bytes) }
    }

    /// The file with a role.
    #[must_use]
    pub fn file(&self, role: FileRole) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.role == role)
    }

    /// Bytes of all files, unpacked.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// Every chunk once, in order of first use.
    #[must_use]
    pub fn chunks(&self) -> Vec<ChunkRef> {
        let mut seen = std::collections::HashSet::new();
        self.files.iter().flat_map(|file| &file.chunks).filter(|chunk| seen.insert(chunk.sha256)).copied().collect()
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |text: String| Err(ManifestError::Inconsistent(text));
        if self.files.len() > MAX_FILES {
            return wrong(format!("{} files, at most {MAX_FILES} are allowed", self.files.len()));
        }
        if self.files.iter().filter(|file| file.role == FileRole::Model).count() != 1 {
            return wrong("exactly one file must have the role `model`".to_owned());
        }
        let mut paths = std::collections::HashSet::new();
        for file in &self.files {
            check_file(file)?;
            if !paths.insert(&file.path) {
                return wrong(format!("two files are named `{}`", file.path));
            }
        }
        if self.inputs.is_empty() || self.outputs.is_empty() {
            return wrong("a model needs at least one input and one output".to_owned());
        }
        self.preprocess.check().or_else(|error| wrong(format!("preprocess: {error}")))?;
        self.postprocess.check(&self.labels).or_else(|error| wrong(format!("postprocess: {error}")))?;
        let bounds = [self.budgets.p95_latency_ms, self.budgets.rss_mib, self.budgets.error_rate, self.budgets.max_psi];
        if bounds.into_iter().flatten().any(|bound| !(bound.is_finite() && bound >= 0.0)) {
            return wrong("a budget must be a finite number of at least 0".to_owned());
        }
        if !(self.tolerance.abs >= 0.0 && self.tolerance.rel >= 0.0) {
            return wrong("a tolerance must be at least 0".to_owned());
        }
        Ok(())
    }
}

fn check_file(file: &FileEntry) -> Result<(), ManifestError> {
    let wrong = |text: String| Err(ManifestError::Inconsistent(text));
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']);
    if file.path.len() > 200 || !file.path.split('/').all(plain) {
        return wrong(format!("`{}` is not a plain relative path", file.path));
    }
    if file.size > MAX_FILE_BYTES {
        return wrong(format!("`{}` has {} bytes, at most {MAX_FILE_BYTES} are allowed", file.path, file.size));
    }
    let limit = u64::try_from(MAX_CHUNK_BYTES).unwrap_or(u64::MAX);
    if file.chunks.iter().any(|chunk| chunk.size == 0 || chunk.size > limit) {
        return wrong(format!("`{}` has a chunk of 0 or more than {limit} bytes", file.path));
    }
    let sum = file.chunks.iter().fold(0_u64, |sum, chunk| sum.saturating_add(chunk.size));
    if sum != file.size {
        return wrong(format!("the chunks of `{}` have {sum} bytes, the file {}", file.path, file.size));
    }
    Ok(())
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
pub(in crate::bundle) mod tests;
