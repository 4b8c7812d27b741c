//! Indices and numbers of places that come with a request. What is out of range, and what is not, is as in ONNX Runtime 1.32.

use super::{Ends, Engine, open_engine};
use crate::runtime::error::{InferError, InputError};
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

/// 0 to 14 in five rows.
fn table() -> Vec<f32> {
    (0_u8..15).map(f32::from).collect()
}

#[allow(clippy::panic, reason = "it is what is found instead")]
fn range(error: &InferError) -> (i64, i64, i64) {
    let InferError::Input(InputError::Value { node, least, most, found }) = error else { panic!("{error:?}") };
    assert_eq!(node, "n");
    assert!(error.is_callers_fault());
    (*least, *most, *found)
}

fn check(engine: &dyn Engine, shape: &[usize], good: &[(&[i64], &[f64])], bad: &[(&[i64], i64)], took: (i64, i64)) {
    // A bad one first: whether sizes were ever served decides nothing.
    for (indices, found) in bad {
        let error = engine.run(&[ints(shape, indices)]).unwrap_err();
        assert_eq!(range(&error), (took.0, took.1, *found));
    }
    for (indices, expected) in good {
        assert_eq!(engine.run(&[ints(shape, indices)]).unwrap()[0].to_f64(), *expected);
    }
}

#[test]
fn a_token_outside_of_its_table_is_the_callers_fault() {
    let graph = Onnx::default()
        .node("n", "Gather", &["x", "i"], &["y"])
        .weight("x", &[5, 3], &table())
        .input("i", INT64, &["N"])
        .output("y", FLOAT, &["N", "3"]);
    let good: [(&[i64], &[f64]); 1] = [(&[-5, 4], &[0.0, 1.0, 2.0, 12.0, 13.0, 14.0])];
    // Three times the last one is 2 once 64 bits are full.
    let bad: [(&[i64], i64); 3] =
        [(&[0, 5], 5), (&[-6, 0], -6), (&[0, 6_148_914_691_236_517_206], 6_148_914_691_236_517_206)];
    check(opened(&graph).as_ref(), &[2], &good, &bad, (-5, 4));
}

#[test]
fn places_of_single_elements_are_looked_at() {
    let gather = Onnx::default()
        .node_with("n", "GatherElements", &["x", "i"], &["y"], &[Attribute::Int("axis", 0)])
        .weight("x", &[5, 3], &table())
        .input("i", INT64, &["N", "3"])
        .output("y", FLOAT, &["N", "3"]);
    let bad: [(&[i64], i64); 3] = [(&[5, 0, 0], 5), (&[0, 0, -6], -6), (&[0, i64::MIN, 0], i64::MIN)];
    check(opened(&gather).as_ref(), &[1, 3], &[(&[0, -5, 4], &[0.0, 1.0, 14.0])], &bad, (-5, 4));
    let scatter = Onnx::default()
        .node_with("n", "ScatterElements", &["x", "i", "u"], &["all"], &[Attribute::Int("axis", 0)])
        .node_with("sum", "ReduceSum", &["all", "axes"], &["y"], &[Attribute::Int("keepdims", 0)])
        .weight("x", &[5, 3], &table())
        .weight("u", &[1, 3], &[-1.0; 3])
        .integers("axes", &[1], &[1])
        .input("i", INT64, &["1", "3"])
        .output("y", FLOAT, &["5"]);
    check(opened(&scatter).as_ref(), &[1, 3], &[(&[0, -5, 4], &[0.0, 12.0, 21.0, 30.0, 24.0])], &bad, (-5, 4));
}

#[test]
fn tuples_of_indices_are_looked_at_column_by_column() {
    let gather = Onnx::default()
        .node("n", "GatherND", &["x", "i"], &["y"])
        .weight("x", &[5, 3], &table())
        .input("i", INT64, &["N", "2"])
        .output("y", FLOAT, &["N"]);
    let engine = opened(&gather);
    check(engine.as_ref(), &[2, 2], &[(&[-1, 0, 4, -3], &[12.0, 12.0])], &[(&[5, 0, 0, 0], 5)], (-5, 4));
    check(engine.as_ref(), &[2, 2], &[], &[(&[0, 0, 0, 3], 3), (&[0, -4, 0, 0], -4)], (-3, 2));
    let scatter = Onnx::default()
        .node("n", "ScatterND", &["x", "i", "u"], &["y"])
        .weight("x", &[3], &[1.0, 2.0, 3.0])
        .weight("u", &[1], &[9.0])
        .input("i", INT64, &["1", "1"])
        .output("y", FLOAT, &["3"]);
    check(
        opened(&scatter).as_ref(),
        &[1, 1],
        &[(&[-1], &[1.0, 2.0, 9.0])],
        &[(&[3], 3), (&[i64::MIN], i64::MIN)],
        (-3, 2),
    );
}

#[test]
fn an_axis_has_as_many_places_as_it_has() {
    let graph = Onnx::default()
        .node("n", "TopK", &["x", "k"], &["y", "at"])
        .weight("x", &[1, 3], &[0.0, 1.0, 2.0])
        .input("k", INT64, &["1"])
        .output("y", FLOAT, &["1", "K"])
        .output("at", INT64, &["1", "K"]);
    let bad: [(&[i64], i64); 3] = [(&[-1], -1), (&[4], 4), (&[1 << 40], 1 << 40)];
    check(opened(&graph).as_ref(), &[1], &[(&[2], &[2.0, 1.0]), (&[0], &[])], &bad, (0, 3));
}

#[test]
fn an_index_outside_of_a_one_hot_marks_no_place() {
    let hot = |axis, depth: i64, shape: &[&str], out: &[&str]| {
        opened(
            &Onnx::default()
                .node_with("n", "OneHot", &["i", "depth", "values"], &["y"], &[Attribute::Int("axis", axis)])
                .integers("depth", &[], &[depth])
                .weight("values", &[2], &[0.0, 1.0])
                .input("i", INT64, shape)
                .output("y", FLOAT, out),
        )
    };
    let engine = hot(1, 4, &["N"], &["N", "4"]);
    let y = |indices: &[i64]| engine.run(&[ints(&[indices.len()], indices)]).unwrap()[0].to_f64();
    assert_eq!(y(&[-5, 7, 1 << 62, (1 << 32) + 2, i64::MIN]), [0.0; 20]);
    assert_eq!(y(&[-4, 3]), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let indices = ints(&[2, 3], &[0, 3, 1, 9, -1, -9]);
    let y = hot(0, 2, &["2", "3"], &["2", "2", "3"]).run(std::slice::from_ref(&indices)).unwrap();
    assert_eq!(y[0].to_f64(), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    let y = hot(1, 2, &["2", "3"], &["2", "2", "3"]).run(&[indices]).unwrap();
    assert_eq!(y[0].to_f64(), [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
}

/// Rows of a table by what `nodes` make of the request, `made`.
fn looked_up(nodes: Onnx, dtype: u64) -> Box<dyn Engine> {
    opened(
        &nodes
            .node("n", "Gather", &["x", "made"], &["y"])
            .weight("x", &[5, 3], &table())
            .input("i", dtype, &["N"])
            .output("y", FLOAT, &["N", "3"]),
    )
}

#[test]
fn integers_that_are_made_of_a_requests_alone_are_the_requests() {
    let engine =
        looked_up(Onnx::default().node("plus", "Add", &["i", "one"], &["made"]).integers("one", &[1], &[1]), INT64);
    assert_eq!(range(&engine.run(&[ints(&[1], &[4])]).unwrap_err()), (-5, 4, 5));
    // A category among features.
    let engine =
        looked_up(Onnx::default().node_with("cast", "Cast", &["i"], &["made"], &[Attribute::Int("to", INT64)]), FLOAT);
    assert_eq!(range(&engine.run(&[f32s(&[1], &[7.0])]).unwrap_err()), (-5, 4, 7));
}

#[test]
fn integers_that_a_model_makes_of_real_numbers_are_its_own() {
    let rounded = Onnx::default().node("bent", "Exp", &["i"], &["real"]).node_with(
        "cast",
        "Cast",
        &["real"],
        &["made"],
        &[Attribute::Int("to", INT64)],
    );
    let engine = looked_up(rounded, FLOAT);
    assert_eq!(engine.run(&[f32s(&[1], &[0.0])]).unwrap()[0].to_f64(), [3.0, 4.0, 5.0]);
    let error = engine.run(&[f32s(&[1], &[3.0])]).unwrap_err();
    assert!(matches!(error, InferError::Run(_)) && !error.is_callers_fault(), "{error:?}");
}

#[test]
fn constants_are_looked_at_when_a_plan_is_made() {
    let graph = |at: i64| {
        Onnx::default()
            .node("n", "Gather", &["x", "at"], &["y"])
            .integers("at", &[2], &[0, at])
            .input("x", FLOAT, &["2", "L"])
            .output("y", FLOAT, &["2", "L"])
    };
    let engine = opened(&graph(-2));
    assert_eq!(engine.run(&[f32s(&[2, 1], &[3.0, 4.0])]).unwrap()[0].to_f64(), [3.0, 3.0]);
    let error = opened(&graph(2)).run(&[f32s(&[2, 1], &[3.0, 4.0])]).unwrap_err();
    assert!(Chain(&error).to_string().contains("`n` takes -2 to 1 here, found 2"), "{error:?}");
    // Counted from the back, and known.
    let pairs = Onnx::default()
        .node("n", "GatherND", &["x", "at"], &["y"])
        .integers("at", &[2, 1], &[-1, 0])
        .input("x", FLOAT, &["2", "N"])
        .output("y", FLOAT, &["2", "N"]);
    assert_eq!(opened(&pairs).run(&[f32s(&[2, 1], &[3.0, 4.0])]).unwrap()[0].to_f64(), [4.0, 3.0]);
}
