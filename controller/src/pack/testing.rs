//! A small manifest for tests.

use fieldpost_shared::bundle::chunk::ChunkRef;
use fieldpost_shared::bundle::manifest::{
    Budgets, FileRole, Lineage, Measured, Postprocess, Preprocess, Requirements, SCHEMA, Tolerance,
};
use fieldpost_shared::bundle::{Dim, Dtype, FileEntry, Manifest, TensorSpec};
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::Timestamp;

pub(crate) fn manifest() -> Manifest {
    let tensor = |name: &str| TensorSpec {
        name: name.into(),
        dtype: Dtype::Fp32,
        shape: vec![Dim::Symbol("N".into()), Dim::Fixed(4)],
    };
    Manifest {
        schema: SCHEMA.into(),
        name: "digits".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        created: Timestamp::from_millis(1_800_000_000_000),
        note: String::new(),
        files: vec![file("model.onnx", FileRole::Model, b"content")],
        inputs: vec![tensor("x")],
        outputs: vec![tensor("y")],
        preprocess: Preprocess::Tensor,
        postprocess: Postprocess::Raw,
        labels: vec![],
        baseline: None,
        tolerance: Tolerance::default(),
        requirements: Requirements::default(),
        budgets: Budgets::default(),
        lineage: Lineage::default(),
        measured: Measured::default(),
        unknown: [].into(),
    }
}

pub(crate) fn file(path: &str, role: FileRole, content: &[u8]) -> FileEntry {
    let size = content.len() as u64;
    let sha256 = Digest::of(content);
    FileEntry { path: path.into(), role, size, sha256, chunks: vec![ChunkRef { sha256, size }] }
}
