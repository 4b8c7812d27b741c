//! Manifests for the models in `tests/models`.

use super::{LoadError, LoadedModel};
use fieldpost_shared::bundle::manifest::{FileRole, SCHEMA};
use fieldpost_shared::bundle::{Dim, Dtype, FileEntry, Manifest, Tensor, TensorSpec};
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models")
}

/// `shape` holds sizes and symbols.
pub(crate) fn spec(name: &str, dtype: Dtype, shape: &[&str]) -> TensorSpec {
    let dim = |text: &&str| text.parse().map_or_else(|_| Dim::Symbol((*text).to_owned()), Dim::Fixed);
    TensorSpec { name: name.to_owned(), dtype, shape: shape.iter().map(dim).collect() }
}

pub(crate) fn file(path: &str, role: FileRole) -> FileEntry {
    FileEntry { path: path.to_owned(), role, size: 0, sha256: Digest::of(b""), chunks: Vec::new() }
}

pub(crate) fn manifest(name: &str, inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Manifest {
    Manifest {
        schema: SCHEMA.to_owned(),
        name: name.parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        created: Timestamp::EPOCH,
        note: String::new(),
        files: vec![file("model.onnx", FileRole::Model)],
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
    }
}

pub(crate) fn load_from(dir: &Path, manifest: Manifest) -> Result<LoadedModel, LoadError> {
    let release =
        ReleaseRef { model: manifest.name.clone(), version: manifest.version.clone(), manifest: Digest::of(b"") };
    LoadedModel::load(dir, Arc::new(manifest), release)
}

pub(crate) fn load(folder: &str, manifest: Manifest) -> Result<LoadedModel, LoadError> {
    load_from(&models().join(folder), manifest)
}

pub(crate) fn digits_manifest() -> Manifest {
    manifest(
        "digits",
        vec![spec("image", Dtype::Fp32, &["N", "1", "8", "8"])],
        vec![spec("logits", Dtype::Fp32, &["N", "10"])],
    )
}

pub(crate) fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape.to_vec(), values).unwrap()
}
