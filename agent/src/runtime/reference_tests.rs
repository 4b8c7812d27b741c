//! Pre- and post-processing held against Pillow, numpy and scikit-learn: `tests/prepare/reference.py` wrote the cases.

use super::answer::Answering;
use super::fixtures::{manifest, spec};
use super::prepare::{Frame, PredictInput, Preparing};
use crate::serve::prediction_json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fieldpost_shared::bundle::{Dtype, Manifest, Tensor, TensorSpec};
use fieldpost_shared::id::{Digest, ReleaseRef};
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/prepare")
}

fn cases<T: for<'de> Deserialize<'de>>(file: &str) -> Vec<T> {
    serde_json::from_slice(&std::fs::read(folder().join(file)).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct InputCase {
    name: String,
    file: Option<String>,
    json: Option<Value>,
    body: Option<String>,
    preprocess: Value,
    inputs: Vec<Axes>,
    expected: Vec<String>,
    levels: f64,
}

#[derive(Deserialize)]
struct Axes {
    name: String,
    dtype: Dtype,
    shape: Vec<Value>,
}

impl Axes {
    fn spec(&self) -> TensorSpec {
        let text = |axis: &Value| axis.as_str().map_or_else(|| axis.to_string(), str::to_owned);
        let axes: Vec<String> = self.shape.iter().map(text).collect();
        spec(&self.name, self.dtype, &axes.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// What a case is off by, in levels of a pixel; or why it could not be compared.
fn off(case: &InputCase) -> Result<f64, String> {
    let inputs: Vec<TensorSpec> = case.inputs.iter().map(Axes::spec).collect();
    let mut manifest = manifest("m", inputs, vec![spec("y", Dtype::Fp32, &["N"])]);
    manifest.preprocess = serde_json::from_value(case.preprocess.clone()).map_err(|error| error.to_string())?;
    manifest.to_bytes().map_err(|error| error.to_string())?;
    let preparing = Preparing::new(&manifest).map_err(|error| error.to_string())?;
    let bytes;
    let input = match case {
        InputCase { file: Some(file), .. } => {
            bytes = std::fs::read(folder().join(file)).unwrap();
            PredictInput::Image(&bytes)
        }
        InputCase { json: Some(json), .. } => PredictInput::Json(json),
        InputCase { body: Some(body), .. } => {
            bytes = BASE64.decode(body).unwrap();
            PredictInput::Bytes(&bytes)
        }
        _ => return Err("the case asks nothing".to_owned()),
    };
    let prepared = preparing.prepare(&input).map_err(|error| format!("{error:?}"))?;
    assert_eq!(prepared.tensors.len(), case.expected.len(), "{}", case.name);
    let mut largest = 0.0_f64;
    for (found, expected) in prepared.tensors.iter().zip(&case.expected) {
        let expected = Tensor::new(found.dtype, found.shape.clone(), BASE64.decode(expected).unwrap());
        let expected = expected.map_err(|error| error.to_string())?.to_f64();
        for (found, expected) in found.to_f64().into_iter().zip(expected) {
            if !(found.is_nan() && expected.is_nan()) {
                // Comparison with NaN on one side alone is infinitely far.
                let difference = (found - expected).abs();
                largest = largest.max(if difference.is_nan() { f64::INFINITY } else { difference });
            }
        }
    }
    Ok(largest)
}

#[test]
fn requests_become_what_pillow_and_scikit_learn_make_of_them() {
    let cases: Vec<InputCase> = cases("preprocess.json");
    assert!(cases.len() > 70, "{} cases", cases.len());
    // A float of the same arithmetic may differ in its last bits.
    let allowed = |case: &InputCase| if case.levels == 0.0 { 2e-6 } else { case.levels };
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| match off(case) {
            Ok(found) if found <= allowed(case) => None,
            Ok(found) => Some(format!("{}: off by {found}, allowed are {}", case.name, case.levels)),
            Err(error) => Some(format!("{}: {error}", case.name)),
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[derive(Deserialize)]
struct OutputCase {
    name: String,
    postprocess: Value,
    labels: Vec<String>,
    outputs: Vec<OutputTensor>,
    image: Option<Value>,
    picture: Option<(u32, u32)>,
    expected: Vec<Value>,
}

#[derive(Deserialize)]
struct OutputTensor {
    #[serde(flatten)]
    axes: Axes,
    data: String,
    sizes: Vec<usize>,
}

fn answered(case: &OutputCase) -> Vec<Value> {
    let specs = case.outputs.iter().map(|output| output.axes.spec()).collect();
    let side = [spec("x", Dtype::Uint8, &["1", "64", "64", "3"])].to_vec();
    let mut manifest: Manifest = manifest("m", side, specs);
    manifest.labels = case.labels.clone();
    manifest.postprocess = serde_json::from_value(case.postprocess.clone()).unwrap();
    if let Some(image) = &case.image {
        manifest.preprocess = serde_json::from_value(image.clone()).unwrap();
    }
    manifest.to_bytes().unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let frame = case.picture.map(|picture| frame(&manifest, picture));
    let outputs: Vec<Tensor> = case
        .outputs
        .iter()
        .map(|output| {
            Tensor::new(output.axes.dtype, output.sizes.clone(), BASE64.decode(&output.data).unwrap()).unwrap()
        })
        .collect();
    let answers = Answering::new(&manifest).unwrap().answer(&manifest, &outputs, frame.as_ref()).unwrap();
    let release =
        ReleaseRef { model: manifest.name.clone(), version: manifest.version.clone(), manifest: Digest::of(b"") };
    let written: Value =
        serde_json::from_slice(&prediction_json(&release, &manifest, "id", &answers, &outputs).unwrap()).unwrap();
    match written.get("predictions") {
        Some(Value::Array(rows)) => rows.clone(),
        _ => vec![written],
    }
}

/// As pre-processing gives it for a picture of this size.
fn frame(manifest: &Manifest, (width, height): (u32, u32)) -> Frame {
    let mut png = Vec::new();
    image::GrayImage::new(width, height)
        .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
        .unwrap();
    Preparing::new(manifest).unwrap().prepare(&PredictInput::Image(&png)).unwrap().frame.unwrap()
}

/// Everything that is expected is there; numbers within `tolerance`.
fn differs(found: &Value, expected: &Value, tolerance: f64, path: &str) -> Option<String> {
    let told = || Some(format!("{path}: {found}, expected {expected}"));
    match (found, expected) {
        (Value::Number(a), Value::Number(b)) => {
            let near = (a.as_f64()? - b.as_f64()?).abs() <= tolerance;
            if near { None } else { told() }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| differs(a, b, tolerance, &format!("{path}[{i}]")))
        }
        (Value::Object(a), Value::Object(b)) => b.iter().find_map(|(key, b)| {
            let tolerance = match key.as_str() {
                "box" => 0.01,
                "value" => 1e-4,
                _ => 1e-6,
            };
            differs(a.get(key).unwrap_or(&Value::Null), b, tolerance, &format!("{path}.{key}"))
        }),
        (a, b) if a == b => None,
        _ => told(),
    }
}

#[test]
fn outputs_become_what_numpy_makes_of_them() {
    let cases: Vec<OutputCase> = cases("postprocess.json");
    assert!(cases.len() >= 16, "{} cases", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let found = Value::Array(answered(case));
            differs(&found, &Value::Array(case.expected.clone()), 1e-6, &case.name)
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
