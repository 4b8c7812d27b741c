//! `Resize`; what is expected is what ONNX Runtime 1.32 answers.

use super::{Ends, open_engine};
use crate::runtime::fixtures::f32s;
use crate::runtime::onnx_builder::{Attribute, Onnx, data_type};
use fieldpost_shared::bundle::Dtype;
use fieldpost_shared::durable::write_atomic;
use std::collections::BTreeMap;

const FLOAT: u64 = data_type(Dtype::Fp32);

/// A tensor of these values through `Resize`.
fn resized(opset: u64, attributes: &[Attribute<'_>], shape: &[u16], scales: &[f32], values: &[f32]) -> Vec<f64> {
    let inputs = if opset == 10 { &["x", "scales"][..] } else { &["x", "", "scales"][..] };
    let axes: Vec<String> = shape.iter().map(u16::to_string).collect();
    let axes: Vec<&str> = axes.iter().map(String::as_str).collect();
    let graph = Onnx::default()
        .node_with("r", "Resize", inputs, &["y"], attributes)
        .weight("scales", &[u64::try_from(scales.len()).unwrap()], scales)
        .input("x", FLOAT, &axes)
        .output("y", FLOAT, &["A", "B", "C", "D"][..shape.len()]);
    let dir = tempfile::tempdir().unwrap();
    write_atomic(dir.path(), "model.onnx", &graph.bytes_of(opset)).unwrap();
    let engine = open_engine(dir.path(), "model.onnx", None, Ends::Graph(&BTreeMap::new())).unwrap();
    let shape: Vec<usize> = shape.iter().map(|size| usize::from(*size)).collect();
    engine.run(&[f32s(&shape, values)]).unwrap()[0].to_f64()
}

fn counted(from: u8, to: u8) -> Vec<f32> {
    (from..to).map(f32::from).collect()
}

const ALIGNED: Attribute<'_> = Attribute::Text("coordinate_transformation_mode", "align_corners");

#[test]
fn the_nearest_of_aligned_corners_is_found_by_whole_sizes() {
    let check = |mode: Option<&'static str>, larger: [u8; 17], smaller: [u8; 6]| {
        for (scale, expected) in [(1.75, &larger[..]), (0.6, &smaller[..])] {
            let mut attributes = vec![ALIGNED, Attribute::Text("mode", "nearest")];
            attributes.extend(mode.map(|mode| Attribute::Text("nearest_mode", mode)));
            let y = resized(17, &attributes, &[1, 1, 10], &[1.0, 1.0, scale], &counted(0, 10));
            let expected: Vec<f64> = expected.iter().map(|value| f64::from(*value)).collect();
            assert_eq!(y, expected, "{mode:?} {scale}");
        }
    };
    check(None, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7, 7, 8, 8, 9], [0, 2, 4, 5, 7, 9]);
    check(Some("ceil"), [0, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7, 7, 8, 8, 9, 9], [0, 2, 4, 6, 8, 9]);
    check(Some("floor"), [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6, 7, 7, 8, 9], [0, 1, 3, 5, 7, 9]);
    check(Some("round_prefer_ceil"), [0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9], [0, 2, 4, 5, 7, 9]);
}

#[test]
fn aligned_corners_go_by_whole_sizes_with_every_attribute() {
    let check = |opset, attribute, mode, scales: &[f32], expected: [f64; 7]| {
        let attributes = [ALIGNED, Attribute::Text("mode", mode), attribute];
        let y = resized(opset, &attributes, &[1, 1, 1, 4], scales, &[0.0, 1.0, 4.0, 9.0]);
        let near = y.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5);
        assert!(near && y.len() == 7, "{y:?}");
    };
    let all = [1.0, 1.0, 1.0, 1.8];
    check(17, Attribute::Float("cubic_coeff_a", -0.5), "cubic", &all, [0.0, 0.3125, 1.0, 2.25, 4.0, 6.6875, 9.0]);
    check(17, Attribute::Int("exclude_outside", 1), "cubic", &all, [0.0, 0.2, 1.0, 2.125, 4.0, 6.971_429, 9.0]);
    check(18, Attribute::Ints("axes", &[3]), "linear", &[1.8], [0.0, 0.5, 1.0, 2.5, 4.0, 6.5, 9.0]);
    check(18, Attribute::Ints("axes", &[3]), "nearest", &[1.8], [0.0, 0.0, 1.0, 1.0, 4.0, 4.0, 9.0]);
}

#[test]
fn the_nearest_of_opset_10_is_the_place_before_and_the_one_after_where_it_shrinks() {
    let nearest = [Attribute::Text("mode", "nearest")];
    let smaller = resized(10, &nearest, &[1, 1, 1, 20], &[1.0, 1.0, 1.0, 0.75], &counted(1, 21));
    assert_eq!(smaller, [1.0, 3.0, 4.0, 5.0, 7.0, 8.0, 9.0, 11.0, 12.0, 13.0, 15.0, 16.0, 17.0, 19.0, 20.0]);
    let larger = resized(10, &nearest, &[1, 1, 1, 6], &[1.0, 1.0, 1.0, 1.5], &counted(1, 7));
    assert_eq!(larger, [1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 5.0, 5.0, 6.0]);
    let both = resized(10, &nearest, &[1, 1, 3, 4], &[1.0, 1.0, 2.0, 0.6], &counted(1, 13));
    assert_eq!(both, [1.0, 3.0, 1.0, 3.0, 5.0, 7.0, 5.0, 7.0, 9.0, 11.0, 9.0, 11.0]);
}
