//! `Attention`; what is expected is what ONNX Runtime 1.32 and the reference of the `onnx` package answer.

use super::{Ends, open_engine};
use crate::runtime::fixtures::f32s;
use crate::runtime::onnx_builder::{Attribute, Onnx, data_type};
use fieldpost_shared::bundle::{Dtype, Tensor};
use fieldpost_shared::durable::write_atomic;
use std::collections::BTreeMap;

const FLOAT: u64 = data_type(Dtype::Fp32);
const MIXED: [f64; 2] = [4.679_046, 6.679_046];

/// Queries (0,1), (1,0) and so on of one batch, two keys and two values, in numbers of some type.
fn answers(dtype: Dtype, attributes: &[Attribute<'_>], queries: (&[u16], &[f32]), mask: &Tensor) -> Vec<f64> {
    let to = |dtype| [Attribute::Int("to", dtype)];
    let (shape, values) = queries;
    let four = shape.len() == 4;
    let other: &[u64] = if four { &[1, 1, 2, 2] } else { &[1, 2, 2] };
    let text = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>();
    let shape: Vec<usize> = shape.iter().map(|size| usize::from(*size)).collect();
    let (axes, mask_axes) = (text(&shape), text(&mask.shape));
    let [axes, mask_axes] = [&axes, &mask_axes].map(|axes| axes.iter().map(String::as_str).collect::<Vec<_>>());
    let masks = if mask.dtype == Dtype::Bool { "mask" } else { "m" };
    let mut graph = Onnx::default();
    if masks == "m" {
        graph = graph.node_with("cast_m", "Cast", &["mask"], &["m"], &to(data_type(dtype)));
    }
    let graph = graph
        .node_with("cast_q", "Cast", &["x"], &["q"], &to(data_type(dtype)))
        .node_with("cast_k", "Cast", &["keys"], &["k"], &to(data_type(dtype)))
        .node_with("cast_v", "Cast", &["values"], &["v"], &to(data_type(dtype)))
        .node_with("n", "Attention", &["q", "k", "v", masks], &["answers"], attributes)
        .node_with("back", "Cast", &["answers"], &["y"], &to(FLOAT))
        .weight("keys", other, &[1.0, 0.0, 0.0, 1.0])
        .weight("values", other, &[2.0, 4.0, 6.0, 8.0])
        .input("x", FLOAT, &axes)
        .input("mask", data_type(mask.dtype), &mask_axes)
        .output("y", FLOAT, &["A", "B", "C", "D"][..shape.len()]);
    let dir = tempfile::tempdir().unwrap();
    write_atomic(dir.path(), "model.onnx", &graph.bytes_of(23)).unwrap();
    let engine = open_engine(dir.path(), "model.onnx", None, Ends::Graph(&BTreeMap::new())).unwrap();
    engine.run(&[f32s(&shape, values), mask.clone()]).unwrap()[0].to_f64()
}

fn yes(shape: &[usize], values: &[u8]) -> Tensor {
    Tensor::new(Dtype::Bool, shape.to_vec(), values.to_vec()).unwrap()
}

fn close(found: &[f64], expected: &[f64], dtype: Dtype) {
    let most = if dtype == Dtype::Fp16 { 5e-3 } else { 1e-5 };
    let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= most);
    assert!(found.len() == expected.len() && near, "{dtype:?}: {found:?} instead of {expected:?}");
}

#[test]
fn a_query_that_sees_nothing_is_answered_by_zero() {
    let less = f32::NEG_INFINITY;
    let masks = [yes(&[3, 2], &[1, 0, 0, 0, 1, 1]), f32s(&[3, 2], &[0.0, less, less, less, 0.0, 0.0])];
    for dtype in [Dtype::Fp32, Dtype::Fp16] {
        for mask in &masks {
            let y = answers(dtype, &[], (&[1, 1, 3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]), mask);
            close(&y, &[2.0, 4.0, 0.0, 0.0, 4.0, 6.0], dtype);
        }
        // The first query sees itself alone, which its mask hides.
        let causal = [Attribute::Int("is_causal", 1)];
        let y = answers(dtype, &causal, (&[1, 1, 2, 2], &[1.0, 0.0, 0.0, 1.0]), &yes(&[2, 2], &[0, 1, 1, 1]));
        close(&y, &[0.0, 0.0, MIXED[0], MIXED[1]], dtype);
    }
}

#[test]
fn each_head_has_its_own_mask() {
    for dtype in [Dtype::Fp32, Dtype::Fp16] {
        let heads = [Attribute::Int("q_num_heads", 2), Attribute::Int("kv_num_heads", 1)];
        let mask = yes(&[1, 2, 2, 2], &[1, 0, 0, 0, 0, 0, 1, 1]);
        let y = answers(dtype, &heads, (&[1, 2, 4], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 0.0]), &mask);
        close(&y, &[2.0, 4.0, 0.0, 0.0, 0.0, 0.0, 2.782_281, 4.782_281], dtype);
    }
}
