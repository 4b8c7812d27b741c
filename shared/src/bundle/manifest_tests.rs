use super::*;
use crate::bundle::{Dim, Dtype};

pub(crate) fn sample() -> Manifest {
    let tensor = |name: &str| TensorSpec {
        name: name.into(),
        dtype: Dtype::Fp32,
        shape: vec![Dim::Symbol("N".into()), Dim::Fixed(4)],
    };
    let chunk = ChunkRef { sha256: Digest::of(b"abc"), size: 3 };
    Manifest {
        schema: SCHEMA.into(),
        name: "digits".parse().unwrap(),
        version: semver::Version::new(1, 0, 0),
        created: Timestamp::from_millis(1_700_000_000_000),
        note: String::new(),
        files: vec![FileEntry {
            path: "model.onnx".into(),
            role: FileRole::Model,
            size: 3,
            sha256: Digest::of(b"abc"),
            chunks: vec![chunk],
        }],
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
        unknown: BTreeMap::new(),
    }
}

fn check_refused(change: impl FnOnce(&mut Manifest), expected: &str) {
    let mut manifest = sample();
    change(&mut manifest);
    let error = Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap_err();
    let text = crate::error_chain::Chain(&error).to_string();
    assert!(text.contains(expected), "{text}");
}

#[test]
fn the_schema_comes_first() {
    let bytes = sample().to_bytes().unwrap();
    assert!(bytes.starts_with(br#"{"schema":"fieldpost.bundle/1.0","#));
    assert_eq!(Manifest::parse(&bytes).unwrap(), sample());
}

#[test]
fn a_newer_major_is_refused_and_a_newer_minor_is_read_whole() {
    check_refused(|m| m.schema = "fieldpost.bundle/2.0".into(), "update the reader");
    let mut manifest = sample();
    manifest.schema = "fieldpost.bundle/1.7".into();
    manifest.unknown.insert("colour".into(), "blue".into());
    let read = Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap();
    assert_eq!(read.unknown.get("colour"), Some(&"blue".into()));
}

#[test]
fn a_path_that_leaves_the_bundle_is_refused() {
    for path in ["../x", "/etc/passwd", "a//b", "", "a/../b", "a\\b"] {
        check_refused(|m| m.files[0].path = path.into(), "not a plain relative path");
    }
}

#[test]
fn chunks_that_do_not_add_up_are_refused() {
    check_refused(|m| m.files[0].size = 4, "the chunks of `model.onnx` have 3 bytes");
    check_refused(|m| m.files[0].chunks[0].size = 0, "a chunk of 0");
    check_refused(|m| m.files[0].chunks[0].size = 1 << 20, "more than");
}

#[test]
fn no_model_or_two_models_are_refused() {
    check_refused(|m| m.files.clear(), "exactly one file");
    check_refused(|m| m.files.push(m.files[0].clone()), "exactly one file");
}

#[test]
fn truncated_json_is_refused() {
    let bytes = sample().to_bytes().unwrap();
    assert!(matches!(Manifest::parse(&bytes[..bytes.len() / 2]), Err(ManifestError::Json(_))));
}
