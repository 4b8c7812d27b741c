//! The digits release as a test builds it, without packing.

use fieldpost_shared::bundle::manifest::{
    Activation, Budgets, Channels, ClassificationOutput, FileEntry, FileRole, ImageInput, Layout, Lineage, Measured,
    Postprocess, Preprocess, Requirements, ResizeFilter, SCHEMA, Tolerance,
};
use fieldpost_shared::bundle::{Dim, Dtype, Manifest, TensorSpec};
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::stats::{Baseline, ClassCounts, Confidence, NumericBaseline, OutputBaseline};
use fieldpost_shared::time::Timestamp;

fn spec(name: &str, sizes: &[u64]) -> TensorSpec {
    let shape = [Dim::Symbol("N".to_owned())].into_iter().chain(sizes.iter().map(|size| Dim::Fixed(*size)));
    TensorSpec { name: name.to_owned(), dtype: Dtype::Fp32, shape: shape.collect() }
}

/// The manifest of digits, with a baseline of one input feature.
pub(crate) fn manifest() -> Manifest {
    let brightness = NumericBaseline::from_values("image.brightness", &[50.0, 70.0, 80.0, 90.0, 110.0], 0, 4).unwrap();
    Manifest {
        schema: SCHEMA.to_owned(),
        name: "digits".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        created: Timestamp::EPOCH,
        note: String::new(),
        files: vec![FileEntry {
            path: "model.onnx".to_owned(),
            role: FileRole::Model,
            size: 4_057,
            sha256: Digest::of(b""),
            chunks: vec![],
        }],
        inputs: vec![spec("image", &[1, 8, 8])],
        outputs: vec![spec("logits", &[10])],
        preprocess: Preprocess::Image(ImageInput {
            tensor: "image".to_owned(),
            width: 8,
            height: 8,
            channels: Channels::Gray,
            layout: Layout::Nchw,
            resize: ResizeFilter::Bilinear,
            scale: 1.0 / 255.0,
            mean: vec![],
            std: vec![],
            ..ImageInput::default()
        }),
        postprocess: Postprocess::Classification(ClassificationOutput {
            tensor: "logits".to_owned(),
            activation: Activation::Softmax,
            top_k: 3,
            threshold: None,
            thresholds: [].into(),
        }),
        labels: (0..10).map(|digit| digit.to_string()).collect(),
        baseline: Some(Baseline {
            n: 5,
            inputs: vec![brightness],
            output: OutputBaseline {
                classes: Some(ClassCounts::new(10)),
                confidence: Some(Confidence::default()),
                regression: None,
            },
        }),
        tolerance: Tolerance::default(),
        requirements: Requirements::default(),
        budgets: Budgets::default(),
        lineage: Lineage::default(),
        measured: Measured::default(),
        unknown: std::collections::BTreeMap::default(),
    }
}

/// A release of digits.
pub(crate) fn release(version: &str) -> ReleaseRef {
    let manifest = Digest::of(version.as_bytes());
    ReleaseRef { model: "digits".parse().unwrap(), version: version.parse().unwrap(), manifest }
}
