use super::super::diagnose::blame_panic;
use super::super::graph::NodeName;
use super::super::{Ends, Engine, Order, external_files, inspect, open_engine};
use crate::runtime::error::{InferError, InputError, LoadError};
use crate::runtime::fixtures::{f32s, spec};
use crate::runtime::onnx_builder::{Attribute, BFLOAT16, Onnx, data_type};
use fieldpost_shared::bundle::{Dtype, Tensor, TensorSpec};
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::error_chain::Chain;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;
use tract_onnx::prelude::Framework;

const FLOAT: u64 = data_type(Dtype::Fp32);
/// As the graph says.
const GRAPH: Ends<'static> = Ends::Graph(&BTreeMap::new());
const INT64: u64 = data_type(Dtype::Int64);

fn put(dir: &Path, name: &str, bytes: &[u8]) {
    write_atomic(dir, name, bytes).unwrap();
}

fn folder(onnx: &Onnx) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "model.onnx", &onnx.bytes());
    dir
}

fn opened(onnx: &Onnx) -> Result<Box<dyn Engine>, LoadError> {
    open_engine(folder(onnx).path(), "model.onnx", None, GRAPH)
}

fn refused(onnx: &Onnx) -> String {
    Chain(&opened(onnx).unwrap_err()).to_string()
}

fn ints(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::new(Dtype::Int64, shape.to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect()).unwrap()
}

/// y = x * weight, the weight being the two numbers 3 and 4 from the fourth byte of another file on.
fn with_external(location: &str) -> Onnx {
    Onnx::default()
        .node("mul", "Mul", &["x", "weight"], &["y"])
        .external("weight", &[2], location, 4)
        .input("x", FLOAT, &["N", "2"])
        .output("y", FLOAT, &["N", "2"])
}

const WEIGHTS: [u8; 12] = [9, 9, 9, 9, 0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40];

#[test]
fn weights_in_a_file_beside_the_graph_are_read() {
    let dir = folder(&with_external("weights.bin"));
    put(dir.path(), "weights.bin", &WEIGHTS);
    assert_eq!(external_files(dir.path(), "model.onnx").unwrap(), ["weights.bin"]);
    let engine = open_engine(dir.path(), "model.onnx", Some(&["weights.bin"]), GRAPH).unwrap();
    assert_eq!(engine.run(&[f32s(&[1, 2], &[1.0, 2.0])]).unwrap()[0].to_f64(), [3.0, 8.0]);
}

#[test]
fn weights_are_found_from_the_graphs_own_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("onnx")).unwrap();
    put(&dir.path().join("onnx"), "model.onnx", &with_external("weights.bin").bytes());
    put(&dir.path().join("onnx"), "weights.bin", &WEIGHTS);
    assert_eq!(external_files(dir.path(), "onnx/model.onnx").unwrap(), ["onnx/weights.bin"]);
    assert!(open_engine(dir.path(), "onnx/model.onnx", Some(&["onnx/weights.bin"]), GRAPH).is_ok());
}

#[test]
fn weights_that_are_not_there_or_not_in_the_bundle_are_refused() {
    let dir = folder(&with_external("weights.bin"));
    let text = |allowed| open_engine(dir.path(), "model.onnx", allowed, GRAPH).unwrap_err().to_string();
    assert_eq!(text(None), "tensor `weight` has its data in `weights.bin`, which is not beside the model");
    put(dir.path(), "weights.bin", &WEIGHTS);
    assert!(text(Some(&[])).ends_with("which the manifest does not name as a file of the role `external`"));
    put(dir.path(), "weights.bin", &WEIGHTS[..11]);
    assert!(matches!(open_engine(dir.path(), "model.onnx", None, GRAPH), Err(LoadError::Graph { .. })));
}

#[test]
fn weights_outside_the_folder_are_refused() {
    for location in ["../weights.bin", "/etc/passwd", "a/../../b"] {
        let dir = folder(&with_external(location));
        for error in [
            inspect(dir.path(), "model.onnx", &BTreeMap::new()).map(drop),
            external_files(dir.path(), "model.onnx").map(drop),
        ] {
            assert!(matches!(error, Err(LoadError::External { .. })), "{location}");
        }
    }
}

#[test]
fn an_unknown_operator_is_named_with_its_domain_and_node() {
    let with = |node: &str, op: &str| {
        let graph = Onnx::default().node(node, op, &["x"], &["y"]);
        refused(&graph.input("x", FLOAT, &["N"]).output("y", FLOAT, &["N"]))
    };
    assert_eq!(
        with("scale", "com.microsoft:Rescale").split(';').next(),
        Some("node `scale`: operator `com.microsoft.Rescale` is not supported")
    );
    // Classical operators are all there; this one lacks its attributes.
    assert!(with("zip", "ai.onnx.ml:ZipMap").starts_with("node `zip`: operator `ai.onnx.ml.ZipMap` cannot run"));
    assert!(with("gate", "com.example:Relu").starts_with("node `gate`: operator `com.example.Relu` is not supported"));
    assert!(with("", "Frobnicate").starts_with("node `y`: operator `Frobnicate` is not supported"));
}

#[test]
fn an_unknown_operator_in_a_branch_is_named() {
    let branch = |op: &str| Onnx::default().node("inner", op, &["x"], &["z"]).output("z", FLOAT, &["N"]);
    let branches =
        [Attribute::Graph("then_branch", branch("Relu")), Attribute::Graph("else_branch", branch("Frobnicate"))];
    let graph = Onnx::default()
        .node_with("choose", "If", &["c"], &["y"], &branches)
        .input("x", FLOAT, &["N"])
        .input("c", data_type(Dtype::Bool), &[])
        .output("y", FLOAT, &["N"]);
    assert!(refused(&graph).starts_with("node `inner`: operator `Frobnicate`"));
}

#[test]
fn a_node_that_does_not_fit_is_named() {
    let graph = Onnx::default()
        .node("first", "Relu", &["x"], &["r"])
        .node("product", "MatMul", &["r", "w"], &["y"])
        .weight("w", &[3, 2], &[0.0; 6])
        .input("x", FLOAT, &["N", "4"])
        .output("y", FLOAT, &["N", "2"]);
    assert!(refused(&graph).starts_with("node `product`: operator `MatMul` cannot run"), "{}", refused(&graph));
}

#[test]
fn a_wire_from_nowhere_is_named() {
    let graph = Onnx::default().node("n", "Relu", &["ghost"], &["y"]).output("y", FLOAT, &["N"]);
    assert!(refused(&graph).contains("`ghost`, which nothing makes"), "{}", refused(&graph));
}

#[test]
fn an_output_that_nothing_makes_is_refused() {
    let graph = Onnx::default().node("n", "Relu", &["x"], &["z"]).input("x", FLOAT, &["N"]);
    let error = opened(&graph.output("y", FLOAT, &["N"])).unwrap_err();
    assert!(matches!(error, LoadError::Panic { .. } | LoadError::Graph { .. }), "{error}");
}

#[test]
fn element_types_that_are_not_served_are_named() {
    let graph = Onnx::default().node("n", "Relu", &["x"], &["y"]);
    let text = refused(&graph.input("x", BFLOAT16, &["N"]).output("y", BFLOAT16, &["N"]));
    assert!(text.contains("Bfloat16"), "{text}");
}

#[test]
fn every_served_type_goes_in_and_comes_out() {
    for dtype in Dtype::ALL.into_iter().filter(|dtype| !matches!(dtype, Dtype::Bool | Dtype::Bytes)) {
        let graph = Onnx::default()
            .node_with("n", "Concat", &["x", "x"], &["y"], &[Attribute::Int("axis", 0)])
            .input("x", data_type(dtype), &["N"])
            .output("y", data_type(dtype), &["M"]);
        let data: Vec<u8> = (0..3 * dtype.size_bytes()).map(|byte| u8::try_from(byte * 5 + 1).unwrap()).collect();
        let input = Tensor::new(dtype, vec![3], data.clone()).unwrap();
        let outputs = opened(&graph).unwrap().run(&[input]).unwrap();
        assert_eq!(outputs, [Tensor::new(dtype, vec![6], [data.clone(), data].concat()).unwrap()]);
    }
}

#[test]
fn texts_go_in_and_come_out() {
    let graph = Onnx::default()
        .node("n", "Identity", &["x"], &["y"])
        .input("x", data_type(Dtype::Bytes), &["N"])
        .output("y", data_type(Dtype::Bytes), &["N"]);
    let texts = Tensor::from_texts(vec![2], ["w\u{f6}rter", ""]).unwrap();
    assert_eq!(opened(&graph).unwrap().run(std::slice::from_ref(&texts)).unwrap(), [texts]);
}

fn relu(shape: &[&str]) -> Onnx {
    Onnx::default().node("n", "Relu", &["x"], &["y"]).input("x", FLOAT, shape).output("y", FLOAT, shape)
}

#[test]
fn an_axis_without_a_name_gets_one() {
    assert_eq!(opened(&relu(&["", "3"])).unwrap().inputs(), [spec("x", Dtype::Fp32, &["x.0", "3"])]);
}

#[test]
fn an_axis_name_that_would_overflow_the_stack_is_refused() {
    let name = format!("{}N{}", "(".repeat(3_000), ")".repeat(3_000));
    assert!(refused(&relu(&[&name])).ends_with("an axis has a name of more than 200 bytes"));
}

#[test]
fn an_input_without_a_rank_is_refused() {
    let graph = Onnx::default().node("n", "Relu", &["x"], &["y"]).input_without_shape("x", FLOAT);
    assert!(refused(&graph.output("y", FLOAT, &["N"])).contains("declared rank"));
}

#[test]
fn a_scalar_goes_in_and_comes_out() {
    let outputs = opened(&relu(&[])).unwrap().run(&[f32s(&[], &[-2.0])]).unwrap();
    assert_eq!((outputs[0].shape.len(), outputs[0].to_f64()), (0, vec![0.0]));
}

#[test]
fn the_sizes_of_axes_come_out_as_int64() {
    let graph =
        Onnx::default().node("n", "Shape", &["x"], &["y"]).input("x", FLOAT, &["N", "4"]).output("y", INT64, &["2"]);
    let engine = opened(&graph).unwrap();
    assert_eq!(engine.outputs(), [spec("y", Dtype::Int64, &["2"])]);
    assert_eq!(engine.run(&[f32s(&[3, 4], &[0.0; 12])]).unwrap(), [ints(&[2], &[3, 4])]);
}

/// A convolution 3x3 over pictures of any size.
fn any_picture() -> Onnx {
    Onnx::default()
        .node_with("conv", "Conv", &["x", "w"], &["y"], &[Attribute::Ints("kernel_shape", &[3, 3])])
        .weight("w", &[1, 1, 3, 3], &[1.0; 9])
        .input("x", FLOAT, &["N", "1", "H", "W"])
        .output("y", FLOAT, &["N", "1", "P", "Q"])
}

#[test]
fn a_picture_of_any_size_is_taken() {
    let engine = opened(&any_picture()).unwrap();
    for (height, width) in [(3, 3), (5, 4), (3, 3)] {
        let outputs = engine.run(&[f32s(&[1, 1, height, width], &vec![1.0; height * width])]).unwrap();
        assert_eq!(outputs[0].shape, [1, 1, height - 2, width - 2]);
        assert!(outputs[0].to_f64().iter().all(|value| *value == 9.0));
    }
}

#[test]
fn sizes_that_the_graph_cannot_take_are_the_callers_fault() {
    let graph = Onnx::default()
        .node("sum", "Add", &["x", "w"], &["y"])
        .weight("w", &[5], &[1.0; 5])
        .input("x", FLOAT, &["N", "W"])
        .output("y", FLOAT, &["N", "V"]);
    let engine = opened(&graph).unwrap();
    let error = engine.run(&[f32s(&[1, 4], &[1.0; 4])]).unwrap_err();
    assert!(matches!(&error, InferError::Input(InputError::Shapes { shapes, .. }) if shapes == "[1, 4]"), "{error}");
    assert_eq!(engine.run(&[f32s(&[1, 5], &[1.0; 5])]).unwrap()[0].to_f64(), [2.0; 5]);
}

#[test]
fn more_sizes_than_plans_are_kept_are_all_answered() {
    let engine = opened(&relu(&["N", "3"])).unwrap();
    for batch in (1..=12).chain(1..=12) {
        assert_eq!(engine.run(&[f32s(&[batch, 3], &vec![1.0; 3 * batch])]).unwrap()[0].shape, [batch, 3]);
    }
}

#[test]
fn an_axis_may_follow_from_others() {
    let graph = Onnx::default()
        .node_with("cat", "Concat", &["a", "b"], &["y"], &[Attribute::Int("axis", 0)])
        .input("a", FLOAT, &["past"])
        .input("b", FLOAT, &["past+2"])
        .output("y", FLOAT, &["all"]);
    let engine = opened(&graph).unwrap();
    let lengths = |a: usize, b: usize| engine.run(&[f32s(&[a], &vec![1.0; a]), f32s(&[b], &vec![2.0; b])]);
    assert_eq!(lengths(1, 3).unwrap()[0].to_f64(), [1.0, 2.0, 2.0, 2.0]);
    let error = lengths(1, 2).unwrap_err();
    assert!(error.is_callers_fault() && error.to_string().contains("expected 3 in axis 0"), "{error}");
}

#[test]
fn a_value_that_the_graph_cannot_take_fails_that_call_alone() {
    let graph = Onnx::default()
        .node("pick", "Gather", &["w", "i"], &["y"])
        .weight("w", &[2, 1], &[5.0, 6.0])
        .input("i", INT64, &["N"])
        .output("y", FLOAT, &["N", "1"]);
    let engine = opened(&graph).unwrap();
    for _ in 0..3 {
        let error = engine.run(&[ints(&[1], &[99])]).unwrap_err();
        assert!(matches!(error, InferError::Input(InputError::Value { found: 99, .. })), "{error}");
        assert_eq!(engine.run(&[ints(&[1], &[1])]).unwrap()[0].to_f64(), [6.0]);
    }
}

#[test]
fn a_recurrent_graph_forgets_the_last_caller() {
    let graph = Onnx::default()
        .node_with("rnn", "RNN", &["x", "w", "r"], &["y"], &[Attribute::Int("hidden_size", 1)])
        .weight("w", &[1, 1, 1], &[1.0])
        .weight("r", &[1, 1, 1], &[0.9])
        .input("x", FLOAT, &["T", "1", "1"])
        .output("y", FLOAT, &["T", "1", "1", "1"]);
    let engine = opened(&graph).unwrap();
    let answer = |values: &[f32]| engine.run(&[f32s(&[3, 1, 1], values)]).unwrap()[0].to_f64();
    let alone = answer(&[0.1, 0.2, 0.3]);
    drop(answer(&[5.0, 5.0, 5.0]));
    assert_eq!(answer(&[0.1, 0.2, 0.3]), alone);
    // h = tanh(x + 0.9 h)
    let expected = [0.1, 0.2, 0.3].iter().scan(0.0_f64, |h, x| {
        *h = (x + 0.9 * *h).tanh();
        Some(*h)
    });
    assert!(alone.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5), "{alone:?}");
}

/// tract 0.23.9 panics on it before sizes are concrete.
fn recurrent(batch: &str) -> Onnx {
    Onnx::default()
        .node_with("rnn", "RNN", &["x", "w", "r"], &["", "y"], &[Attribute::Int("hidden_size", 1)])
        .weight("w", &[1, 1, 2], &[1.0, 1.0])
        .weight("r", &[1, 1, 1], &[0.5])
        .input("x", FLOAT, &["T", batch, "2"])
        .output("y", FLOAT, &["1", batch, "1"])
}

#[test]
fn a_recurrent_graph_takes_any_batch_and_length() {
    let engine = opened(&recurrent("N")).unwrap();
    assert_eq!(engine.outputs(), [spec("y", Dtype::Fp32, &["1", "N", "1"])]);
    for (length, batch) in [(1, 1), (4, 1), (2, 3)] {
        let outputs = engine.run(&[f32s(&[length, batch, 2], &vec![0.1; length * batch * 2])]).unwrap();
        let expected = (0..length).fold(0.0_f64, |h, _| (0.2 + 0.5 * h).tanh());
        assert_eq!(outputs[0].shape, [1, batch, 1]);
        assert!(outputs[0].to_f64().iter().all(|found| (found - expected).abs() < 1e-5));
    }
}

#[test]
fn a_node_on_which_the_engine_panics_is_named() {
    let model = tract_onnx::onnx().model_for_read(&mut recurrent("N").bytes().as_slice()).unwrap();
    let names = ["rnn", "other"].map(|node| NodeName { node: node.to_owned(), operator: "RNN".to_owned() });
    let text = Chain(&blame_panic(Path::new("m"), &names, &model, "no size".to_owned())).to_string();
    assert!(text.starts_with("node `rnn`: operator `RNN` cannot run") && text.ends_with("panicked: no size"), "{text}");
    // Where the panic cannot be found again, the file is named.
    let sound = tract_onnx::onnx().model_for_read(&mut relu(&["N"]).bytes().as_slice()).unwrap();
    let error = blame_panic(Path::new("m"), &names, &sound, "once".to_owned());
    assert!(matches!(error, LoadError::Panic { .. }), "{error}");
}

#[test]
fn a_manifest_that_fixes_one_of_two_sizes_narrows_the_graph() {
    let dir = folder(&any_picture());
    let inputs = [spec("x", Dtype::Fp32, &["N", "1", "5", "5"])];
    let outputs: Vec<TensorSpec> = vec![spec("y", Dtype::Fp32, &["N", "1", "3", "3"])];
    let order = Order { inputs: &inputs, outputs: &outputs };
    let engine = open_engine(dir.path(), "model.onnx", None, Ends::Manifest(order)).unwrap();
    assert_eq!((engine.inputs(), engine.outputs()), (&inputs[..], &outputs[..]));
    assert_eq!(engine.run(&[f32s(&[2, 1, 5, 5], &[1.0; 50])]).unwrap()[0].shape, [2, 1, 3, 3]);
}
