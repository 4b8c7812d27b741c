//! Operators that are said in other words, or have a kernel of their own, since tract's answer is another one.

use super::{Ends, Engine, open_engine};
use crate::runtime::fixtures::f32s;
use crate::runtime::onnx_builder::{Attribute, Onnx, data_type};
use fieldpost_shared::bundle::{Dtype, Tensor};
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::error_chain::Chain;
use std::collections::BTreeMap;

const FLOAT: u64 = data_type(Dtype::Fp32);
const INT64: u64 = data_type(Dtype::Int64);

fn opened(onnx: &Onnx) -> Box<dyn Engine> {
    let dir = tempfile::tempdir().unwrap();
    write_atomic(dir.path(), "model.onnx", &onnx.bytes()).unwrap();
    open_engine(dir.path(), "model.onnx", None, Ends::Graph(&BTreeMap::new())).unwrap()
}

fn ints(shape: &[usize], values: &[i64]) -> Tensor {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(Dtype::Int64, shape.to_vec(), data).unwrap()
}

fn close(found: &Tensor, expected: &[f64]) {
    let found = found.to_f64();
    let same = |(found, expected): (&f64, &f64)| found == expected || (found - expected).abs() <= 1e-5 * expected.abs();
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(same), "{found:?} {expected:?}");
}

fn one(op: &str, attributes: &[Attribute<'_>], shape: &[&str], out: &[&str]) -> Box<dyn Engine> {
    let graph = Onnx::default().node_with("n", op, &["x"], &["y"], attributes);
    opened(&graph.input("x", FLOAT, shape).output("y", FLOAT, out))
}

#[test]
fn a_logit_far_below_the_largest_has_a_logarithm() {
    let x = f32s(&[2, 3], &[100.0, 101.0, 1000.0, -120.0, 0.0, 0.0]);
    let engine = one("LogSoftmax", &[], &["2", "3"], &["2", "3"]);
    let half = 0.5_f64.ln();
    close(&engine.run(&[x]).unwrap()[0], &[-900.0, -899.0, 0.0, -120.0 + half, half, half]);
    // Along the columns, in a batch of any size.
    let engine = one("LogSoftmax", &[Attribute::Int("axis", 0)], &["N", "2"], &["N", "2"]);
    let y = engine.run(&[f32s(&[2, 2], &[0.0, 500.0, 200.0, 0.0])]).unwrap();
    close(&y[0], &[-200.0, 0.0, 0.0, -500.0]);
}

#[test]
fn sums_of_exponentials_end_where_the_numbers_do() {
    let x = f32s(&[2, 2], &[100.0, 100.0, -300.0, f32::NEG_INFINITY]);
    for (keep, out) in [(0, &["2"][..]), (1, &["2", "1"][..])] {
        let attributes = [Attribute::Ints("axes", &[1]), Attribute::Int("keepdims", keep)];
        let y = one("ReduceLogSumExp", &attributes, &["2", "2"], out).run(std::slice::from_ref(&x)).unwrap();
        close(&y[0], &[100.0 + 2.0_f64.ln(), -300.0]);
        assert_eq!(y[0].shape.len(), out.len());
    }
    let y = one("Softplus", &[], &["3"], &["3"]).run(&[f32s(&[3], &[-200.0, 0.0, 200.0])]).unwrap();
    close(&y[0], &[0.0, 2.0_f64.ln(), 200.0]);
}

#[test]
fn padding_by_reflection_passes_its_constant_over() {
    let graph = Onnx::default()
        .node_with("p", "Pad", &["x", "pads", "value"], &["y"], &[Attribute::Text("mode", "reflect")])
        .integers("pads", &[2], &[1, 1])
        .weight("value", &[], &[7.0])
        .input("x", FLOAT, &["3"])
        .output("y", FLOAT, &["5"]);
    let y = opened(&graph).run(&[f32s(&[3], &[1.0, 2.0, 3.0])]).unwrap();
    assert_eq!(y[0].to_f64(), [2.0, 1.0, 2.0, 3.0, 2.0]);
}

#[test]
fn indices_count_from_the_back_and_those_outside_are_an_error_of_the_request() {
    let graph = Onnx::default()
        .node("g", "GatherND", &["x", "at"], &["y"])
        .input("x", FLOAT, &["2", "2"])
        .input("at", INT64, &["1", "2"])
        .output("y", FLOAT, &["1"]);
    let engine = opened(&graph);
    let x = f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(engine.run(&[x.clone(), ints(&[1, 2], &[-1, 0])]).unwrap()[0].to_f64(), [3.0]);
    let outside = engine.run(&[x, ints(&[1, 2], &[2, 0])]).unwrap_err();
    assert!(format!("{outside:?}").contains("found: 2"), "{outside:?}");
}

#[test]
fn aligned_corners_lie_on_corners_whatever_the_scale() {
    let attributes =
        [Attribute::Text("mode", "linear"), Attribute::Text("coordinate_transformation_mode", "align_corners")];
    let graph = Onnx::default()
        .node_with("r", "Resize", &["x", "", "scales"], &["y"], &attributes)
        .weight("scales", &[3], &[1.0, 1.0, 1.8])
        .input("x", FLOAT, &["1", "1", "L"])
        .output("y", FLOAT, &["1", "1", "M"]);
    // 1.8 times 4 is 7: a place every half.
    let y = opened(&graph).run(&[f32s(&[1, 1, 4], &[0.0, 1.0, 2.0, 3.0])]).unwrap();
    close(&y[0], &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
}

#[test]
fn integers_of_64_bits_have_squares() {
    let graph =
        Onnx::default().node("m", "Mul", &["x", "x"], &["y"]).input("x", INT64, &["N"]).output("y", INT64, &["N"]);
    assert_eq!(opened(&graph).run(&[ints(&[2], &[-3, 3_000_000_000])]).unwrap()[0].to_f64(), [9.0, 9e18]);
}

#[test]
fn zeros_of_no_type_are_of_float32() {
    let graph = Onnx::default()
        .node("s", "Shape", &["x"], &["shape"])
        .node("z", "ConstantOfShape", &["shape"], &["zeros"])
        .node("a", "Add", &["x", "zeros"], &["y"])
        .input("x", FLOAT, &["N", "2"])
        .output("y", FLOAT, &["N", "2"]);
    let y = opened(&graph).run(&[f32s(&[3, 2], &[1.0; 6])]).unwrap();
    assert_eq!((y[0].dtype, y[0].to_f64()), (Dtype::Fp32, vec![1.0; 6]));
}

#[test]
fn a_graph_that_can_be_read_only_with_sizes_runs_with_every_size() {
    // What is halved and doubled again is as long as before for even lengths: tract does not see that.
    let halves = [Attribute::Ints("kernel_shape", &[2]), Attribute::Ints("strides", &[2])];
    let graph = Onnx::default()
        .node_with("down", "MaxPool", &["x"], &["half"], &halves)
        .node_with("up", "Resize", &["half", "", "scales"], &["again"], &[Attribute::Text("mode", "nearest")])
        .node("add", "Add", &["x", "again"], &["y"])
        .weight("scales", &[3], &[1.0, 1.0, 2.0])
        .input("x", FLOAT, &["1", "1", "L"])
        .output("y", FLOAT, &["1", "1", "L"]);
    let engine = opened(&graph);
    for length in [2, 64, 10] {
        let x: Vec<f32> = (0_u8..length).map(f32::from).collect();
        let y = engine.run(&[f32s(&[1, 1, usize::from(length)], &x)]).unwrap();
        let expected: Vec<f64> = (0..length).map(|at| f64::from(at) + f64::from(at | 1)).collect();
        assert_eq!(y[0].to_f64(), expected);
    }
    assert!(engine.run(&[f32s(&[1, 1, 3], &[0.0; 3])]).is_err(), "a half of three is one");
}

/// Integers, from real numbers by a cast, squared.
#[test]
fn what_is_cast_to_integers_has_squares() {
    let to = |dtype| [Attribute::Int("to", dtype)];
    for (square, two) in [("Mul", "made"), ("Pow", "two")] {
        let graph = Onnx::default()
            .node_with("cast", "Cast", &["x"], &["made"], &to(INT64))
            .node("square", square, &["made", two], &["y"])
            .integers("two", &[], &[2])
            .input("x", FLOAT, &["N"])
            .output("y", INT64, &["N"]);
        let y = opened(&graph).run(&[f32s(&[3], &[-3.0, 2.5, 70_000.0])]).unwrap();
        assert_eq!((y[0].dtype, y[0].to_f64()), (Dtype::Int64, vec![9.0, 4.0, 4.9e9]));
    }
    // As an index.
    let graph = Onnx::default()
        .node_with("cast", "Cast", &["x"], &["made"], &to(INT64))
        .node("square", "Mul", &["made", "made"], &["at"])
        .node("pick", "Gather", &["table", "at"], &["y"])
        .weight("table", &[5], &[0.0, 10.0, 20.0, 30.0, 40.0])
        .input("x", FLOAT, &["N"])
        .output("y", FLOAT, &["N"]);
    assert_eq!(opened(&graph).run(&[f32s(&[2], &[2.0, 1.0])]).unwrap()[0].to_f64(), [40.0, 10.0]);
}

#[test]
fn sums_of_exponentials_of_integers_are_cut_off() {
    for dtype in [INT64, data_type(Dtype::Int32)] {
        let graph = Onnx::default()
            .node_with("cast", "Cast", &["x"], &["whole"], &[Attribute::Int("to", dtype)])
            .node_with("sum", "ReduceLogSumExp", &["whole"], &["y"], &[Attribute::Ints("axes", &[1])])
            .input("x", FLOAT, &["3", "2"])
            .output("y", dtype, &["3", "1"]);
        let y = opened(&graph).run(&[f32s(&[3, 2], &[1.0, 2.0, 3.0, -4.0, 100.0, 100.0])]).unwrap();
        assert_eq!(y[0].to_f64(), [2.0, 3.0, 100.0]);
    }
}

#[test]
fn products_of_other_numbers_than_float32_have_their_bias_and_factors() {
    let check = |dtype: u64, factors: &[Attribute<'_>], bias: &str, expected: &[f64]| {
        let to = || [Attribute::Int("to", dtype)];
        let graph = Onnx::default()
            .node_with("cast_x", "Cast", &["x"], &["a"], &to())
            .node_with("cast_w", "Cast", &["real_w"], &["w"], &to())
            .node_with("cast_c", "Cast", &["real_c"], &["c"], &to())
            .node_with("gemm", "Gemm", &["a", "w", bias], &["product"], factors)
            .node_with("back", "Cast", &["product"], &["y"], &[Attribute::Int("to", FLOAT)])
            .weight("real_w", &[2, 3], &[1.0, 0.0, 2.0, 0.5, 1.0, -1.0])
            .weight("real_c", &[3], &[10.0, 20.0, 30.0])
            .input("x", FLOAT, &["2", "2"])
            .output("y", FLOAT, &["2", "3"]);
        close(&opened(&graph).run(&[f32s(&[2, 2], &[1.0, 2.0, 3.0, -4.0])]).unwrap()[0], expected);
    };
    for dtype in [Dtype::Fp16, Dtype::Fp64].map(data_type) {
        check(dtype, &[], "c", &[12.0, 22.0, 30.0, 11.0, 16.0, 40.0]);
        let factors = [Attribute::Float("alpha", 0.5), Attribute::Float("beta", 2.0)];
        check(dtype, &factors, "c", &[21.0, 41.0, 60.0, 20.5, 38.0, 65.0]);
        check(dtype, &[Attribute::Int("transA", 1)], "", &[2.5, 3.0, -1.0, 0.0, -4.0, 8.0]);
    }
}

/// Three boxes, the second of which covers the first.
fn suppressing(inputs: &[&str]) -> Box<dyn Engine> {
    opened(
        &Onnx::default()
            .node("n", "NonMaxSuppression", inputs, &["y"])
            .weight("boxes", &[1, 3, 4], &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.1, 0.0, 2.0, 1.0, 3.0])
            .weight("overlap", &[1], &[0.5])
            .integers("none", &[1], &[0])
            .integers("one", &[1], &[1])
            .input("scores", FLOAT, &["1", "1", "3"])
            .input("most", INT64, &[])
            .output("y", INT64, &["K", "3"]),
    )
}

#[test]
fn no_boxes_are_given_where_none_are_asked_for() {
    let scores = f32s(&[1, 1, 3], &[0.9, 0.8, 0.7]);
    let found = |most: &str, number: i64| {
        let engine = suppressing(&["boxes", "scores", most, "overlap"]);
        let y = engine.run(&[scores.clone(), ints(&[], &[number])]).unwrap();
        (y[0].shape.clone(), y[0].to_f64())
    };
    assert_eq!(found("", 5), (vec![0, 3], vec![]));
    assert_eq!(found("none", 5), (vec![0, 3], vec![]));
    assert_eq!(found("one", 5), (vec![1, 3], vec![0.0; 3]));
    assert_eq!(found("most", 0), (vec![0, 3], vec![]));
    assert_eq!(found("most", -1), (vec![0, 3], vec![]));
    assert_eq!(found("most", 5), (vec![2, 3], vec![0.0, 0.0, 0.0, 0.0, 0.0, 2.0]));
}

#[test]
fn names_that_a_rewritten_graph_would_have_twice_are_refused() {
    let graph = Onnx::default()
        .node("other", "Identity", &["x"], &["y.fieldpost.indices"])
        .node("g", "GatherND", &["x", "at"], &["y"])
        .integers("at", &[1, 1], &[-1])
        .input("x", FLOAT, &["2"])
        .output("y", FLOAT, &["1"])
        .output("y.fieldpost.indices", FLOAT, &["2"]);
    let dir = tempfile::tempdir().unwrap();
    write_atomic(dir.path(), "model.onnx", &graph.bytes()).unwrap();
    let error = open_engine(dir.path(), "model.onnx", None, Ends::Graph(&BTreeMap::new())).unwrap_err();
    let text = Chain(&error).to_string();
    assert!(text.contains("`y.fieldpost.indices` holds `.fieldpost.`"), "{text}");
}

#[test]
fn what_is_cast_to_integers_of_64_bits_has_all_of_them() {
    for (dtype, x) in [(FLOAT, f32s(&[2], &[3e9, -7.9])), (INT64, ints(&[2], &[3_000_000_000, -7]))] {
        let graph = Onnx::default()
            .node_with("cast", "Cast", &["x"], &["y"], &[Attribute::Int("to", INT64)])
            .input("x", dtype, &["N"])
            .output("y", INT64, &["N"]);
        assert_eq!(opened(&graph).run(&[x]).unwrap()[0].to_f64(), [3e9, -7.0]);
    }
}
