//! What a program on the box sends: images, features, text, tensors, and what stands around them.

use fieldpost_agent::fuzzing::{self, infer_message, infer_request, prepare};
use fieldpost_agent::runtime::PredictInput;
use fieldpost_shared::bundle::Manifest;
use serde_json::{Value, json};
use std::hint::black_box;
use std::sync::OnceLock;

/// What is declared: two manifests of real bundles, as `bundle pack` writes them, and others made from them.
struct Manifests {
    images: [Manifest; 3],
    features: [Manifest; 3],
    bytes: [Manifest; 1],
    tensors: Manifest,
}

fn manifests() -> &'static Manifests {
    static CELL: OnceLock<Manifests> = OnceLock::new();
    CELL.get_or_init(|| {
        let image = include_str!("../corpus/manifest/image.json");
        let features = include_str!("../corpus/manifest/features.json");
        Manifests {
            images: [read(image), turned(image), cropped(image)],
            features: [read(features), categories(features), named_inputs(features)],
            bytes: [text(features)],
            tensors: read(include_str!("../corpus/manifest/tensors.json")),
        }
    })
}

fn read(json: &str) -> Manifest {
    Manifest::parse(json.as_bytes()).expect("a manifest of this repository")
}

/// Another declaration in place of a bundle's own; there is no baseline for it.
fn with(json: &str, inputs: Value, preprocess: Value) -> Manifest {
    let mut manifest: Value = serde_json::from_str(json).expect("JSON of this repository");
    manifest["inputs"] = inputs;
    manifest["preprocess"] = preprocess;
    manifest["baseline"] = Value::Null;
    read(&manifest.to_string())
}

fn turned(json: &str) -> Manifest {
    let preprocess = json!({
        "kind": "image", "tensor": "image", "width": 24, "height": 16, "channels": "bgr", "layout": "nhwc",
        "resize": "bicubic", "scale": 1.0, "mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 3.0], "fit": "letterbox",
        "fill": [114, 114, 114], "exif_orientation": true, "background": [255, 255, 255],
    });
    with(json, json!([{"name": "image", "dtype": "UINT8", "shape": ["N", 16, 24, 3]}]), preprocess)
}

fn cropped(json: &str) -> Manifest {
    let preprocess = json!({
        "kind": "image", "tensor": "image", "width": 9, "height": 5, "channels": "rgb", "layout": "nchw",
        "resize": "bilinear", "scale": 0.01, "mean": [], "std": [], "fit": "crop", "short_side": 12, "antialias": false,
    });
    with(json, json!([{"name": "image", "dtype": "FP32", "shape": [1, 3, 5, 9]}]), preprocess)
}

fn categories(json: &str) -> Manifest {
    let preprocess = json!({
        "kind": "tabular", "tensor": "row", "features": ["size", "colour", "grade"], "missing": {"value": -1.0},
        "details": {
            "colour": {"categories": ["red", "green", "blue"], "encoding": "one-hot", "unknown": {"value": 0.0}},
            "grade": {"categories": ["a", "b"], "missing": "nan", "unknown": "missing"},
        },
    });
    with(json, json!([{"name": "row", "dtype": "FP32", "shape": ["N", 5]}]), preprocess)
}

fn named_inputs(json: &str) -> Manifest {
    let preprocess = json!({
        "kind": "tabular", "tensor": "", "features": ["size", "count", "colour"], "missing": "refuse", "per_feature": true,
    });
    let inputs = json!([
        {"name": "size", "dtype": "FP64", "shape": ["N", 1]},
        {"name": "count", "dtype": "INT8", "shape": ["N", 1]},
        {"name": "colour", "dtype": "BYTES", "shape": ["N", 1]},
    ]);
    with(json, inputs, preprocess)
}

fn text(json: &str) -> Manifest {
    let preprocess = json!({
        "kind": "bytes", "tensor": "text", "head": 5, "tail": 3, "pad": 256, "strip": true, "utf8": true,
    });
    with(json, json!([{"name": "text", "dtype": "INT32", "shape": [1, 8]}]), preprocess)
}

/// What is taken fills the model's inputs.
fn prepared(manifests: &[Manifest], input: &PredictInput<'_>) {
    for manifest in manifests {
        let Ok(prepared) = prepare(manifest, input).expect("it can be declared so") else { continue };
        assert_eq!(prepared.tensors.len(), manifest.inputs.len());
        for (tensor, spec) in prepared.tensors.iter().zip(&manifest.inputs) {
            assert!(
                tensor.check().is_ok() && tensor.dtype == spec.dtype && spec.admits(&tensor.shape),
                "{}",
                spec.name
            );
        }
    }
}

pub fn image(data: &[u8]) {
    prepared(&manifests().images, &PredictInput::Image(data));
}

pub fn features(data: &[u8]) {
    if let Ok(json) = serde_json::from_slice(data) {
        prepared(&manifests().features, &PredictInput::Json(&json));
    }
}

pub fn text_bytes(data: &[u8]) {
    prepared(&manifests().bytes, &PredictInput::Bytes(data));
}

/// Numbers, whole numbers and truths, and texts.
fn inferred() -> [&'static Manifest; 4] {
    let all = manifests();
    let [image, ..] = &all.images;
    let [row, _, texts] = &all.features;
    [image, row, texts, &all.tensors]
}

pub fn infer(data: &[u8]) {
    for manifest in inferred() {
        black_box(infer_request(data, None, manifest));
    }
}

/// The first two bytes say where the JSON ends.
pub fn infer_binary(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else { return };
    for manifest in inferred() {
        black_box(infer_request(body, Some(usize::from(u16::from_le_bytes(*length))), manifest));
    }
}

pub fn infer_protobuf(data: &[u8]) {
    for manifest in inferred() {
        black_box(infer_message(data, manifest));
    }
}

/// Most bytes of a packed body when unpacked.
const MAX_UNPACKED: usize = 1 << 20;

/// The first byte says how it is packed.
pub fn unpack(data: &[u8]) {
    let Some((kind, packed)) = data.split_first() else { return };
    let unpacked = fuzzing::unpack(kind % 2 == 1, packed, MAX_UNPACKED);
    assert!(unpacked.is_none_or(|bytes| bytes.len() <= MAX_UNPACKED));
}

pub fn feedback(data: &[u8]) {
    let [image, ..] = &manifests().images;
    black_box(fuzzing::feedback(data, image));
}

pub fn grpc_small(data: &[u8]) {
    black_box(fuzzing::small_message(data));
}

/// The first byte is the size of the pieces in which it comes, which must make no difference.
pub fn grpc_frames(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let at_once = fuzzing::messages(bytes, bytes.len(), 1_000);
    assert_eq!(fuzzing::messages(bytes, usize::from(*piece), 1_000), at_once);
    assert!(at_once.0.iter().all(|(_, message)| message.len() <= 1_000));
}

pub fn head(data: &[u8]) {
    black_box(fuzzing::head(data));
}
