use crate::runtime::LoadError;
use crate::runtime::engine::{Ends, Engine, open_engine};
use crate::runtime::fixtures::f32s;
use crate::runtime::onnx_builder::{Attribute, Onnx, data_type};
use fieldpost_shared::bundle::{Dtype, Tensor};
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::error_chain::Chain;
use std::collections::BTreeMap;

const FLOAT: u64 = data_type(Dtype::Fp32);
const UINT8: u64 = data_type(Dtype::Uint8);
const INT8: u64 = data_type(Dtype::Int8);

fn opened(onnx: &Onnx, shapes: &[(&str, &[u64])]) -> Result<Box<dyn Engine>, LoadError> {
    let dir = tempfile::tempdir().unwrap();
    write_atomic(dir.path(), "model.onnx", &onnx.bytes()).unwrap();
    let shapes: BTreeMap<String, Vec<u64>> =
        shapes.iter().map(|(name, sizes)| ((*name).to_owned(), sizes.to_vec())).collect();
    open_engine(dir.path(), "model.onnx", None, Ends::Graph(&shapes))
}

fn refused(onnx: &Onnx, shapes: &[(&str, &[u64])]) -> String {
    Chain(&opened(onnx, shapes).unwrap_err()).to_string()
}

fn bytes(dtype: Dtype, shape: &[usize], data: &[u8]) -> Tensor {
    Tensor::new(dtype, shape.to_vec(), data.to_vec()).unwrap()
}

/// Scale 0.5, and a zero point that comes with the request.
fn quantizing(data_type: u64) -> Onnx {
    Onnx::default()
        .node("q", "QuantizeLinear", &["x", "scale", "zero"], &["y"])
        .weight("scale", &[], &[0.5])
        .input("x", FLOAT, &["5"])
        .input("zero", data_type, &[])
        .output("y", data_type, &["5"])
}

#[test]
fn quantised_values_are_rounded_half_to_even_and_saturate() {
    let engine = opened(&quantizing(UINT8), &[]).unwrap();
    let x = f32s(&[5], &[0.25, 0.75, -1.0, 1e9, f32::NAN]);
    let y = engine.run(&[x.clone(), bytes(Dtype::Uint8, &[], &[10])]).unwrap();
    assert_eq!(y[0].data, [10, 12, 8, 255, 0]);
    let engine = opened(&quantizing(INT8), &[]).unwrap();
    let y = engine.run(&[x, bytes(Dtype::Int8, &[], &[0xfe])]).unwrap();
    assert_eq!(y[0].to_f64(), [-2.0, 0.0, -4.0, 127.0, 0.0]);
}

#[test]
fn each_place_along_the_axis_has_its_own_scale() {
    let graph = Onnx::default()
        .node_with("d", "DequantizeLinear", &["x", "scale"], &["y"], &[Attribute::Int("axis", 0)])
        .weight("scale", &[2], &[0.5, 10.0])
        .input("x", UINT8, &["2", "3"])
        .output("y", FLOAT, &["2", "3"]);
    let y = opened(&graph, &[]).unwrap().run(&[bytes(Dtype::Uint8, &[2, 3], &[1, 2, 3, 4, 5, 6])]).unwrap();
    assert_eq!(y[0].to_f64(), [0.5, 1.0, 1.5, 40.0, 50.0, 60.0]);
}

#[test]
fn an_axis_of_another_length_than_its_scales_is_refused_at_the_run() {
    let graph = Onnx::default()
        .node_with("d", "DequantizeLinear", &["x", "scale"], &["y"], &[Attribute::Int("axis", 0)])
        .weight("scale", &[2], &[0.5, 10.0])
        .input("x", UINT8, &["N"])
        .output("y", FLOAT, &["N"]);
    let engine = opened(&graph, &[]).unwrap();
    assert!(engine.run(&[bytes(Dtype::Uint8, &[3], &[1, 2, 3])]).is_err());
    assert_eq!(engine.run(&[bytes(Dtype::Uint8, &[2], &[1, 2])]).unwrap()[0].to_f64(), [0.5, 20.0]);
}

#[test]
fn a_pair_around_a_table_of_values_keeps_its_answers() {
    // Dequantise with one scale, take the negative, quantise with another: what may be joined into a table.
    let graph = Onnx::default()
        .node("d", "DequantizeLinear", &["x", "fine"], &["real"])
        .node("n", "Abs", &["real"], &["abs"])
        .node("q", "QuantizeLinear", &["abs", "coarse"], &["y"])
        .weight("fine", &[], &[0.5])
        .weight("coarse", &[], &[2.0])
        .input("x", UINT8, &["4"])
        .output("y", UINT8, &["4"]);
    let y = opened(&graph, &[]).unwrap().run(&[bytes(Dtype::Uint8, &[4], &[0, 2, 6, 255])]).unwrap();
    assert_eq!(y[0].data, [0, 0, 2, 64]);
}

fn squeezing(shape: &[&str], out: &[&str]) -> Onnx {
    Onnx::default().node("s", "Squeeze", &["x"], &["y"]).input("x", FLOAT, shape).output("y", FLOAT, out)
}

#[test]
fn squeeze_without_axes_takes_away_every_axis_of_one() {
    let engine = opened(&squeezing(&["1", "2", "1"], &["2"]), &[]).unwrap();
    let y = engine.run(&[f32s(&[1, 2, 1], &[3.0, 4.0])]).unwrap();
    assert_eq!((y[0].shape.as_slice(), y[0].to_f64()), (&[2][..], vec![3.0, 4.0]));
}

#[test]
fn squeeze_without_axes_has_the_rank_that_the_sizes_give_it() {
    let graph = squeezing(&["N", "rows", "2"], &["rows", "2"]);
    let engine = opened(&graph, &[("x", &[1, 3, 2])]).unwrap();
    assert_eq!(engine.run(&[f32s(&[1, 3, 2], &[0.0; 6])]).unwrap()[0].shape, [3, 2]);
    // Without stated sizes each request's own decide.
    let engine = opened(&graph, &[]).unwrap();
    assert_eq!(engine.run(&[f32s(&[1, 3, 2], &[0.0; 6])]).unwrap()[0].shape, [3, 2]);
    assert_eq!(engine.run(&[f32s(&[1, 5, 2], &[0.0; 10])]).unwrap()[0].shape, [5, 2]);
}

/// As exporters write "squeeze when there is one": `then` when x has `size` values.
fn deciding(size: f32) -> Onnx {
    let branch = |operator: &str, attributes: &[Attribute<'_>]| {
        Onnx::default().node_with("inner", operator, &["x"], &["inner_y"], attributes).output("inner_y", FLOAT, &["n"])
    };
    let then = branch("Neg", &[]);
    // Two axes in a tensor of one: never possible.
    let otherwise = branch("Transpose", &[Attribute::Ints("perm", &[1, 0])]);
    Onnx::default()
        .node("size", "Size", &["x"], &["count"])
        .node_with("real", "Cast", &["count"], &["number"], &[Attribute::Int("to", FLOAT)])
        .node("same", "Equal", &["number", "wanted"], &["condition"])
        .node_with(
            "if",
            "If",
            &["condition"],
            &["y"],
            &[Attribute::Graph("then_branch", then), Attribute::Graph("else_branch", otherwise)],
        )
        .weight("wanted", &[], &[size])
        .input("x", FLOAT, &["n"])
        .output("y", FLOAT, &["n"])
}

#[test]
fn a_branch_that_the_shape_rules_out_need_not_make_sense() {
    let engine = opened(&deciding(4.0), &[("x", &[4])]).unwrap();
    assert_eq!(engine.run(&[f32s(&[4], &[1.0, 2.0, 3.0, 4.0])]).unwrap()[0].to_f64(), [-1.0, -2.0, -3.0, -4.0]);
}

#[test]
fn a_branch_that_is_taken_must_make_sense() {
    let text = refused(&deciding(5.0), &[("x", &[4])]);
    assert!(text.contains("operator `If`") || text.contains("operator `Transpose`"), "{text}");
}

/// `then` negates; the condition comes with the request.
fn asked(otherwise: &str, attributes: &[Attribute<'_>]) -> Onnx {
    let branch = |operator: &str, attributes: &[Attribute<'_>]| {
        Onnx::default().node_with("inner", operator, &["x"], &["inner_y"], attributes).output("inner_y", FLOAT, &["n"])
    };
    let branches = [
        Attribute::Graph("then_branch", branch("Neg", &[])),
        Attribute::Graph("else_branch", branch(otherwise, attributes)),
    ];
    Onnx::default()
        .node_with("if", "If", &["condition"], &["y"], &branches)
        .input("condition", data_type(Dtype::Bool), &[])
        .input("x", FLOAT, &["n"])
        .output("y", FLOAT, &["n"])
}

#[test]
fn a_request_chooses_its_branch() {
    let graph = asked("Abs", &[]);
    for shapes in [&[("x", &[2][..])][..], &[]] {
        let engine = opened(&graph, shapes).unwrap();
        let run = |condition| engine.run(&[bytes(Dtype::Bool, &[], &[condition]), f32s(&[2], &[-1.0, 2.0])]).unwrap();
        assert_eq!((run(1)[0].to_f64(), run(0)[0].to_f64()), (vec![1.0, -2.0], vec![1.0, 2.0]));
    }
}

#[test]
fn a_branch_that_these_sizes_rule_out_is_an_error_of_the_request_that_asks_for_it() {
    let graph = asked("Transpose", &[Attribute::Ints("perm", &[1, 0])]);
    for shapes in [&[("x", &[2][..])][..], &[]] {
        let engine = opened(&graph, shapes).unwrap();
        let run = |condition| engine.run(&[bytes(Dtype::Bool, &[], &[condition]), f32s(&[2], &[-1.0, 2.0])]);
        assert_eq!(run(1).unwrap()[0].to_f64(), [1.0, -2.0]);
        assert!(format!("{:?}", run(0).unwrap_err()).contains("makes no sense with these sizes"));
    }
}

#[test]
fn stated_sizes_must_be_the_graphs() {
    let graph = squeezing(&["N", "2"], &["N", "2"]);
    for (stated, word) in [
        (("z", &[1, 2][..]), "one of [x]"),
        (("x", &[1][..]), "2 sizes"),
        (("x", &[1, 3][..]), "[1,2]"),
        (("x", &[0, 2][..]), "at least 1"),
    ] {
        let text = refused(&graph, &[stated]);
        assert!(text.contains(word), "{text}");
    }
}

fn node(operator: &str, attributes: &[Attribute<'_>], inputs: &[&str]) -> Onnx {
    Onnx::default().node_with("n", operator, inputs, &["y"], attributes)
}

fn close(found: &[f64], expected: &[f64]) {
    let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5);
    assert!(found.len() == expected.len() && near, "{found:?} is not {expected:?}");
}

/// One number a step, one cell: `h = f(x + h / 2)`.
fn recurrence(attributes: &[Attribute<'_>]) -> Onnx {
    Onnx::default()
        .node_with("n", "RNN", &["x", "w", "r"], &["y", "last"], attributes)
        .weight("w", &[1, 1, 1], &[1.0])
        .weight("r", &[1, 1, 1], &[0.5])
        .input("x", FLOAT, &["3", "1", "1"])
        .output("y", FLOAT, &["3", "1", "1", "1"])
        .output("last", FLOAT, &["1", "1", "1"])
}

fn recurred(attributes: &[Attribute<'_>]) -> [Vec<f64>; 2] {
    let outputs = opened(&recurrence(attributes), &[]).unwrap().run(&[f32s(&[3, 1, 1], &[1.0, -2.0, 3.0])]).unwrap();
    [outputs[0].to_f64(), outputs[1].to_f64()]
}

#[test]
fn a_recurrence_runs_backwards_where_it_says_so() {
    let [h3, h2, h1] = {
        let third = 3_f64.tanh();
        let second = (-2.0 + third / 2.0).tanh();
        [third, second, (1.0 + second / 2.0).tanh()]
    };
    let [each, last] = recurred(&[Attribute::Text("direction", "reverse")]);
    close(&each, &[h1, h2, h3]);
    close(&last, &[h1]);
}

#[test]
fn a_recurrence_has_the_activation_that_it_says() {
    let relu = Attribute::Texts("activations", &["Relu"]);
    let [each, last] = recurred(&[relu]);
    close(&each, &[1.0, 0.0, 3.0]);
    close(&last, &[3.0]);
    let backwards = [Attribute::Texts("activations", &["Relu"]), Attribute::Text("direction", "reverse")];
    close(&recurred(&backwards)[0], &[1.0, 0.0, 3.0]);
    let [each, _] = recurred(&[Attribute::Texts("activations", &["Tanh"])]);
    close(&each[..1], &[1_f64.tanh()]);
}

#[test]
fn a_recurrence_that_would_answer_otherwise_is_refused() {
    for (attribute, word) in [
        (Attribute::Texts("activations", &["HardSigmoid"]), "hardsigmoid"),
        (Attribute::Float("clip", 0.5), "`clip`"),
        (Attribute::Int("input_forget", 1), "`input_forget`"),
        (Attribute::Text("direction", "sideways"), "sideways"),
    ] {
        let text = refused(&recurrence(&[attribute]), &[]);
        assert!(text.contains(word) && text.contains("operator `RNN`"), "{text}");
    }
}

#[test]
fn activations_have_their_alpha() {
    let with = |operator, alpha| {
        let graph = node(operator, &[Attribute::Float("alpha", alpha)], &["x"]);
        let engine = opened(&graph.input("x", FLOAT, &["3"]).output("y", FLOAT, &["3"]), &[]).unwrap();
        engine.run(&[f32s(&[3], &[-1.0, 0.0, 2.0])]).unwrap()[0].to_f64()
    };
    close(&with("Celu", 2.0), &[2.0 * (-0.5_f64).exp_m1(), 0.0, 2.0]);
    let swish = |x: f64| x / (1.0 + (-0.5 * x).exp());
    close(&with("Swish", 0.5), &[swish(-1.0), 0.0, swish(2.0)]);
}

#[test]
fn upsampling_repeats_each_value() {
    let graph = node("Upsample", &[Attribute::Text("mode", "nearest")], &["x", "scales"])
        .weight("scales", &[3], &[1.0, 1.0, 3.0])
        .input("x", FLOAT, &["1", "1", "2"])
        .output("y", FLOAT, &["1", "1", "6"]);
    let y = opened(&graph, &[]).unwrap().run(&[f32s(&[1, 1, 2], &[1.0, 2.0])]).unwrap();
    assert_eq!(y[0].to_f64(), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
}

#[test]
fn an_attribute_that_nobody_reads_refuses_the_graph() {
    let deep = |mode| {
        let attributes = [Attribute::Int("blocksize", 2), Attribute::Text("mode", mode)];
        node("SpaceToDepth", &attributes, &["x"]).input("x", FLOAT, &["1", "1", "2", "2"]).output(
            "y",
            FLOAT,
            &["1", "4", "1", "1"],
        )
    };
    assert!(opened(&deep("DCR"), &[]).is_ok());
    let text = refused(&deep("CRD"), &[]);
    assert!(text.contains("`mode`") && text.contains("SpaceToDepth"), "{text}");
    let added = node("Add", &[Attribute::Int("axis", 0), Attribute::Int("broadcast", 1)], &["x", "b"])
        .weight("b", &[2], &[1.0, 2.0])
        .input("x", FLOAT, &["2", "2"])
        .output("y", FLOAT, &["2", "2"]);
    assert!(refused(&added, &[]).contains("`axis`"));
}
