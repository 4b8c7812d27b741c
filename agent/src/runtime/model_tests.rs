use super::super::fixtures::{digits_manifest, f32s, file, load, load_from, manifest, models, spec};
use super::super::onnx_builder::Onnx;
use super::*;
use crate::runtime::{external_files, inspect};
use fieldpost_shared::bundle::manifest::{Activation, Channels, ClassificationOutput, ImageInput, Layout};
use fieldpost_shared::bundle::manifest::{Postprocess, Preprocess, ResizeFilter};
use fieldpost_shared::bundle::{Dtype, GoldenSample, TensorSpec};
use fieldpost_shared::error_chain::Chain;
use std::collections::BTreeMap;

fn int_io() -> Manifest {
    manifest(
        "int-io",
        vec![
            spec("ids", Dtype::Int64, &["N", "3"]),
            spec("mask", Dtype::Bool, &["N", "3"]),
            spec("weights", Dtype::Fp64, &["N", "3"]),
        ],
        vec![
            spec("kept", Dtype::Int64, &["N", "3"]),
            spec("large", Dtype::Bool, &["N", "3"]),
            spec("total", Dtype::Fp64, &["N"]),
        ],
    )
}

fn int_io_inputs() -> Vec<Tensor> {
    let ids: Vec<u8> = [3_i64, 6, -9_007_199_254_740_993].iter().flat_map(|id| id.to_le_bytes()).collect();
    let weights: Vec<u8> = [0.5_f64, 0.25, 8.0].iter().flat_map(|weight| weight.to_le_bytes()).collect();
    vec![
        Tensor::new(Dtype::Int64, vec![1, 3], ids).unwrap(),
        Tensor::new(Dtype::Bool, vec![1, 3], vec![1, 0, 7]).unwrap(),
        Tensor::new(Dtype::Fp64, vec![1, 3], weights).unwrap(),
    ]
}

#[test]
fn int64_bool_and_float64_go_in_and_come_out() {
    let outputs = load("bad/int-io", int_io()).unwrap().infer(&int_io_inputs()).unwrap();
    let kept: Vec<u8> = [3_i64, -1, -9_007_199_254_740_993].iter().flat_map(|id| id.to_le_bytes()).collect();
    assert_eq!(outputs[0].data, kept);
    assert_eq!((outputs[1].dtype, outputs[1].data.as_slice()), (Dtype::Bool, &[0_u8, 1, 0][..]));
    assert_eq!((outputs[2].shape.as_slice(), outputs[2].to_f64()), (&[1][..], vec![8.5]));
}

#[test]
fn inputs_and_outputs_follow_the_manifests_order() {
    let mut turned = int_io();
    turned.inputs.reverse();
    turned.outputs.reverse();
    let mut inputs = int_io_inputs();
    inputs.reverse();
    let outputs = load("bad/int-io", turned).unwrap().infer(&inputs).unwrap();
    assert_eq!(outputs[0].to_f64(), [8.5]);
    assert_eq!(outputs[2].dtype, Dtype::Int64);
}

#[test]
fn any_batch_size_is_answered_row_by_row() {
    let model = load("digits-1.0", digits_manifest()).unwrap();
    let pixels = |row: usize| (0..64).map(move |pixel| ((row * 31 + pixel * 7) % 256) as f32 / 255.0);
    let row = |row: usize| model.infer(&[f32s(&[1, 1, 8, 8], &pixels(row).collect::<Vec<_>>())]).unwrap()[0].to_f64();
    for batch in [1, 2, 3, 17] {
        let all: Vec<f32> = (0..batch).flat_map(pixels).collect();
        let outputs = model.infer(&[f32s(&[batch, 1, 8, 8], &all)]).unwrap();
        assert_eq!(outputs[0].shape, [batch, 10]);
        for (at, found) in outputs[0].to_f64().chunks(10).enumerate() {
            let near = found.iter().zip(row(at)).all(|(found, expected)| (found - expected).abs() < 1e-4);
            assert!(near, "row {at} of {batch}");
        }
    }
}

#[test]
fn two_outputs_come_out_and_one_is_the_answer() {
    let mut two = manifest(
        "two-heads",
        vec![spec("features", Dtype::Fp32, &["N", "4"])],
        vec![spec("logits", Dtype::Fp32, &["N", "3"]), spec("size", Dtype::Fp32, &["N", "1"])],
    );
    two.postprocess = Postprocess::Regression { tensor: "size".to_owned(), unit: None };
    let model = load("bad/stateless-two-heads", two).unwrap();
    let outputs = model.infer(&[f32s(&[2, 4], &[0.1, 0.2, 0.3, 0.4, 1.0, 1.0, 1.0, 1.0])]).unwrap();
    assert_eq!((outputs[0].shape.as_slice(), outputs[1].shape.as_slice()), (&[2, 3][..], &[2, 1][..]));
    let sizes: Vec<Answer> = outputs[1].to_f64().into_iter().map(|value| Answer::Regression { value }).collect();
    assert_eq!(model.answer(&outputs, None).unwrap(), sizes);
}

#[test]
fn a_picture_of_a_digit_is_told_apart() {
    // ONNX Runtime 1.32 says the same of the same files: release 1.0 takes one of the ones for a six.
    for (version, expected) in [("1.0", [0, 6, 2, 3, 4, 5, 6, 7]), ("1.1", [0, 1, 2, 3, 4, 5, 6, 7])] {
        let mut digits = digits_manifest();
        digits.preprocess = Preprocess::Image(ImageInput {
            tensor: "image".to_owned(),
            width: 8,
            height: 8,
            channels: Channels::Gray,
            layout: Layout::Nchw,
            resize: ResizeFilter::Bilinear,
            scale: 1.0 / 255.0,
            mean: Vec::new(),
            std: Vec::new(),
            ..ImageInput::default()
        });
        digits.postprocess = Postprocess::Classification(ClassificationOutput {
            tensor: "logits".to_owned(),
            activation: Activation::Softmax,
            top_k: 3,
            threshold: None,
            thresholds: [].into(),
        });
        digits.labels = (0..10).map(|digit| digit.to_string()).collect();
        let folder = format!("digits-{version}");
        let model = load(&folder, digits).unwrap();
        for (digit, expected) in expected.into_iter().enumerate() {
            let png = std::fs::read(models().join(&folder).join(format!("samples/digit-{digit}.png"))).unwrap();
            let inputs = model.prepare(&PredictInput::Image(&png)).unwrap().tensors;
            let answers = model.answer(&model.infer(&inputs).unwrap(), None).unwrap();
            let Answer::Classification { class, label, top, .. } = &answers[0] else { panic!() };
            assert_eq!((*class, label.as_deref(), top.len()), (expected, Some(expected.to_string().as_str()), 3));
        }
        assert!(matches!(model.prepare(&PredictInput::Json(&serde_json::json!({}))), Err(InputError::Kind { .. })));
    }
}

fn refused_by(folder: &str, manifest: Manifest) -> String {
    let error = load(folder, manifest).unwrap_err();
    Chain(&error).to_string()
}

#[test]
fn an_operator_that_cannot_run_is_named_with_its_node() {
    let error = refused_by("bad/unsupported-operator", {
        manifest("m", vec![spec("signal", Dtype::Fp32, &["N", "64"])], vec![spec("energy", Dtype::Fp32, &["N"])])
    });
    assert!(
        error.starts_with("node `stft_7`: operator `STFT` cannot run in this graph; compute the spectrum"),
        "{error}"
    );
    let error =
        inspect(&models().join("bad/unsupported-operator"), "model.onnx", &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("`stft_7`"), "{error}");
}

#[test]
fn half_a_file_is_refused() {
    let error = inspect(&models().join("bad/truncated"), "model.onnx", &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
}

#[test]
fn every_truncation_is_refused_or_sound_and_none_panics() {
    let whole = std::fs::read(models().join("bad/stateless-two-heads/model.onnx")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for length in 0..whole.len() {
        fieldpost_shared::durable::write_atomic(dir.path(), "model.onnx", &whole[..length]).unwrap();
        if let Err(error @ LoadError::Panic { .. }) = inspect(dir.path(), "model.onnx", &BTreeMap::new()) {
            panic!("{length} bytes: {error}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Chain(&inspect(Path::new("/nowhere"), "model.onnx", &BTreeMap::new()).unwrap_err()).to_string();
    assert!(error.starts_with("cannot read `/nowhere/model.onnx`: No such file"), "{error}");
}

#[test]
fn what_is_no_onnx_is_refused() {
    let error = inspect(&models().join("digits-1.0"), "samples/digit-0.png", &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
}

#[test]
fn a_manifest_with_another_shape_is_refused() {
    let with = |inputs: Vec<TensorSpec>, outputs| refused_by("bad/wrong-shape", manifest("m", inputs, outputs));
    let scores = || vec![spec("scores", Dtype::Fp32, &["N", "3"])];
    assert_eq!(
        with(vec![spec("features", Dtype::Fp32, &["N", "5"])], scores()),
        "input `features`: expected FP32 [N,5] as the manifest says, found FP32 [N,4] in the graph"
    );
    assert!(with(vec![spec("features", Dtype::Int64, &["N", "4"])], scores()).contains("found FP32 [N,4]"));
    assert!(with(vec![spec("feature", Dtype::Fp32, &["N", "4"])], scores()).contains("input `feature`"));
    let unnamed = with(vec![spec("features", Dtype::Fp32, &["N", "4"])], vec![]);
    assert_eq!(unnamed, "output `scores`: expected it in the manifest, found it in the graph alone");
}

#[test]
fn a_batch_that_the_manifest_fixes_is_fixed() {
    let fixed =
        manifest("m", vec![spec("features", Dtype::Fp32, &["2", "4"])], vec![spec("scores", Dtype::Fp32, &["2", "3"])]);
    let model = load("bad/wrong-shape", fixed).unwrap();
    assert_eq!(model.infer(&[f32s(&[2, 4], &[1.0; 8])]).unwrap()[0].shape, [2, 3]);
    assert!(model.infer(&[f32s(&[1, 4], &[1.0; 4])]).unwrap_err().is_callers_fault());
}

#[test]
fn nan_is_the_models_error_and_names_the_output() {
    let scores =
        manifest("m", vec![spec("x", Dtype::Fp32, &["N", "4"])], vec![spec("score", Dtype::Fp32, &["N", "4"])]);
    let model = load("bad/nan-output", scores).unwrap();
    let error = model.infer(&[f32s(&[1, 4], &[1.0; 4])]).unwrap_err();
    assert!(matches!(&error, InferError::NanOutput { output } if output == "score") && !error.is_callers_fault());
}

fn nan_scores(golden: Option<&[u8]>) -> Result<LoadedModel, LoadError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(models().join("bad/nan-output/model.onnx"), dir.path().join("model.onnx")).unwrap();
    if let Some(golden) = golden {
        fieldpost_shared::durable::write_atomic(dir.path(), "golden.bin", golden).unwrap();
    }
    let spec = |name| vec![spec(name, Dtype::Fp32, &["N", "4"])];
    let mut manifest = manifest("m", spec("x"), spec("score"));
    manifest.files.push(file("golden.bin", FileRole::Golden));
    load_from(dir.path(), manifest)
}

fn golden(outputs: &[f32]) -> Vec<u8> {
    let (inputs, outputs) = (vec![f32s(&[1, 4], &[1.0; 4])], vec![f32s(&[1, 4], outputs)]);
    GoldenSet { samples: vec![GoldenSample { name: "s".to_owned(), request: None, inputs, outputs }] }.encode().unwrap()
}

#[test]
fn nan_is_an_answer_where_the_golden_samples_have_it() {
    let fails = |golden: Option<&[u8]>| nan_scores(golden).unwrap().infer(&[f32s(&[1, 4], &[1.0; 4])]).is_err();
    assert!(!fails(Some(&golden(&[0.0, f32::NAN, 0.0, 0.0]))));
    assert!(fails(Some(&golden(&[0.0; 4]))));
    assert!(fails(None));
}

#[test]
fn golden_samples_that_cannot_be_read_are_named() {
    let error = Chain(&nan_scores(Some(b"\x07")).unwrap_err()).to_string();
    assert!(error.contains("golden.bin`: golden samples have encoding Some(7)"), "{error}");
}

#[test]
fn weights_must_be_files_of_the_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let graph = Onnx::default()
        .node("mul", "Mul", &["x", "w"], &["y"])
        .external("w", &[1], "w.bin", 0)
        .input("x", 1, &["N"])
        .output("y", 1, &["N"]);
    fieldpost_shared::durable::write_atomic(dir.path(), "model.onnx", &graph.bytes()).unwrap();
    fieldpost_shared::durable::write_atomic(dir.path(), "w.bin", &2.5_f32.to_le_bytes()).unwrap();
    let mut scaled = manifest("m", vec![spec("x", Dtype::Fp32, &["N"])], vec![spec("y", Dtype::Fp32, &["N"])]);
    let error = load_from(dir.path(), scaled.clone()).unwrap_err();
    assert!(matches!(error, LoadError::External { .. }), "{error}");
    scaled.files.push(file("w.bin", FileRole::External));
    assert_eq!(load_from(dir.path(), scaled).unwrap().infer(&[f32s(&[1], &[2.0])]).unwrap()[0].to_f64(), [5.0]);
}

#[test]
fn wrong_tensors_are_the_callers_fault() {
    let model = load("bad/int-io", int_io()).unwrap();
    let told = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut inputs = int_io_inputs();
        change(&mut inputs);
        let error = model.infer(&inputs).unwrap_err();
        assert!(error.is_callers_fault());
        error.to_string()
    };
    assert_eq!(told(&|inputs| drop(inputs.pop())), "the model has 3 inputs, the request 2");
    assert_eq!(told(&|inputs| inputs.swap(0, 1)), "input `ids`: expected INT64 [N,3], found BOOL [1,3]");
    assert_eq!(told(&|inputs| inputs[1].shape = vec![3]), "input `mask`: expected BOOL [N,3], found BOOL [3]");
    assert_eq!(told(&|inputs| inputs[0].shape = vec![usize::MAX, 3]), "input `ids` is damaged");
    assert_eq!(
        told(&|inputs| inputs[1] = Tensor::new(Dtype::Bool, vec![2, 3], vec![0; 6]).unwrap()),
        "`N` is 1 in `ids` and 2 in `mask`; it must be the same"
    );
    assert_eq!(
        told(&|inputs| inputs[0] = Tensor::new(Dtype::Int64, vec![0, 3], vec![]).unwrap()),
        "input `ids`: expected at least 1 in axis 0 (`N`), found 0"
    );
}

#[test]
fn an_onnx_file_tells_its_contract() {
    let (inputs, outputs) = inspect(&models().join("digits-1.1"), "model.onnx", &BTreeMap::new()).unwrap();
    assert_eq!(inputs, [spec("image", Dtype::Fp32, &["N", "1", "8", "8"])]);
    assert_eq!(outputs, [spec("logits", Dtype::Fp32, &["N", "10"])]);
    assert!(external_files(&models().join("digits-1.1"), "model.onnx").unwrap().is_empty());
}

#[test]
fn many_threads_share_a_model() {
    let model = Arc::new(load("digits-1.1", digits_manifest()).unwrap());
    let answer = |batch: usize| model.infer(&[f32s(&[batch, 1, 8, 8], &vec![0.5; 64 * batch])]).unwrap()[0].to_f64();
    let expected = answer(1);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (answer, expected) = (&answer, &expected);
            scope.spawn(move || {
                for call in 0..30 {
                    let found = answer(1 + (thread + call) % 3);
                    assert!(found[..10].iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-4));
                }
            });
        }
    });
}

#[test]
fn a_manifest_without_the_files_is_refused() {
    assert!(matches!(load_from(Path::new("/nowhere"), digits_manifest()), Err(LoadError::Read { .. })));
}
