//! Graphs in other words, before tract reads them: the same by the standard, and right in tract.
//!
//! - `Pad` that does not pad with a constant has no constant: tract pads with it all the same.
//! - `ReduceLogSumExp` of numbers that are shifted by their largest, which is added again; of integers in real numbers.
//! - `GatherND`, `ScatterND`: indices that count from the back are counted from the front.
//! - `Attention`: a mask that says yes or no becomes one that is added; tract adds 1 for yes.
//! - `ConstantOfShape` without a value is of float32; tract makes it of float64.
//! - `CumSum` of sizes counts integers, `NonMaxSuppression` takes scalars for lists of one.
//! - `QLinearConv` and its like are of real numbers (`integers`).
//! - Weights of 4 bits are of 8 (`nibbles`).
//! - `SkipLayerNormalization` without `epsilon` has ONNX Runtime's, 1e-12; tract's is 1e-5.

use super::names::OURS;
use super::rewritten::{ADDED, FINITE, FROM_THE_FRONT, LIKE, LIST, NUMBERS, REAL};
use super::{integers, nibbles};
use crate::ml::attributes::Attributes;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Says a graph and those inside of it in the other words.
pub fn rewrite(model: &mut ModelProto) {
    let plain = model.opset_import.iter().filter(|opset| ["", "ai.onnx"].contains(&&*opset.domain));
    let opset = plain.map(|opset| opset.version).max().unwrap_or(1);
    if let Some(graph) = &mut model.graph {
        of_graph(graph, opset);
    }
}

fn of_graph(graph: &mut GraphProto, opset: i64) {
    nibbles::as_bytes(graph);
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|graph| of_graph(graph, opset));
        }
        if let Some(node) = integers::in_reals(node, opset, &mut nodes) {
            of_node(node, &mut nodes);
        }
    }
    graph.node = nodes;
}

fn of_node(mut node: NodeProto, nodes: &mut Vec<NodeProto>) {
    let there = |node: &NodeProto, at: usize| node.input.get(at).is_some_and(|name| !name.is_empty());
    match node.op_type.as_str() {
        "Pad" => {
            let mode = Attributes::new(&node).text("mode");
            if mode.is_ok_and(|mode| mode.is_some_and(|mode| mode != "constant"))
                && let Some(value) = node.input.get_mut(2)
            {
                value.clear();
            }
        }
        "GatherND" | "ScatterND" if there(&node, 1) => {
            let mut indices = before(&node, FROM_THE_FRONT, &[0, 1], "indices");
            indices.attribute.extend(node.attribute.iter().filter(|attribute| attribute.name == "batch_dims").cloned());
            read(&mut node, 1, indices, nodes);
        }
        "Attention" if there(&node, 3) => {
            let mask = before(&node, ADDED, &[3, 0], "mask");
            read(&mut node, 3, mask, nodes);
        }
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization"
            if node.attribute.iter().all(|attribute| attribute.name != "epsilon") =>
        {
            node.attribute.push(AttributeProto {
                name: "epsilon".to_owned(),
                r#type: AttributeType::Float.into(),
                f: 1e-12,
                ..AttributeProto::default()
            });
        }
        "ConstantOfShape" if node.attribute.is_empty() => {
            let zero = TensorProto {
                dims: vec![1],
                data_type: DataType::Float.into(),
                float_data: vec![0.0],
                ..TensorProto::default()
            };
            node.attribute.push(AttributeProto {
                name: "value".to_owned(),
                r#type: AttributeType::Tensor.into(),
                t: Some(zero),
                ..AttributeProto::default()
            });
        }
        "CumSum" if there(&node, 0) => {
            let numbers = before(&node, NUMBERS, &[0], "numbers");
            read(&mut node, 0, numbers, nodes);
        }
        "NonMaxSuppression" => {
            for (at, what) in [(2, "most"), (3, "overlap"), (4, "score")] {
                if there(&node, at) {
                    let list = before(&node, LIST, &[at], what);
                    read(&mut node, at, list, nodes);
                }
            }
        }
        "ReduceLogSumExp" if there(&node, 0) => return log_sum_exp(node, nodes),
        _ => {}
    }
    nodes.push(node);
}

/// A node that reads inputs of another and comes before it.
fn before(node: &NodeProto, operator: &str, inputs: &[usize], what: &str) -> NodeProto {
    // A name of a graph of its own would have to be looked for in all graphs; outputs are told apart already.
    let name = format!("{}{OURS}{what}", node.output.iter().find(|name| !name.is_empty()).unwrap_or(&node.name));
    let input = inputs.iter().filter_map(|at| node.input.get(*at)).cloned().collect();
    NodeProto { op_type: operator.to_owned(), input, output: vec![name.clone()], name, ..NodeProto::default() }
}

fn read(node: &mut NodeProto, at: usize, from: NodeProto, nodes: &mut Vec<NodeProto>) {
    if let (Some(input), Some(output)) = (node.input.get_mut(at), from.output.first()) {
        input.clone_from(output);
    }
    nodes.push(from);
}

/// `m + log(sum(exp(x - m)))`, `m` the largest, or zero where that is infinite.
fn log_sum_exp(mut node: NodeProto, nodes: &mut Vec<NodeProto>) {
    // Axes that are left out may be so by an empty name.
    node.input.retain(|name| !name.is_empty());
    // Of integers it is worked out in real numbers, and cut off.
    let mut like = before(&node, LIKE, &[0], "like");
    let real = before(&node, REAL, &[0], "real");
    read(&mut node, 0, real, nodes);
    let axes: Vec<usize> = (0..node.input.len()).collect();
    let keeps = node.attribute.iter().any(|attribute| attribute.name == "keepdims" && attribute.i == 0);
    let largest = |keep: bool, what: &str| {
        let mut largest = before(&node, "ReduceMax", &axes, what);
        largest.attribute = node.attribute.clone();
        if keep {
            largest.attribute.retain(|attribute| attribute.name != "keepdims");
        }
        let mut finite = before(&node, FINITE, &[], &format!("{what}.finite"));
        finite.input.clone_from(&largest.output);
        (largest, finite)
    };
    let (kept, shift) = largest(true, "largest");
    let (dropped, back) = largest(false, "largest.dropped");
    let mut shifted = before(&node, "Sub", &[0], "shifted");
    shifted.input.extend(shift.output.iter().cloned());
    let mut sum = before(&node, "Add", &[], "sum");
    sum.input.clone_from(&sum.output);
    sum.input.extend(if keeps { back.output.clone() } else { shift.output.clone() });
    // The last node is the one that messages name.
    std::mem::swap(&mut node.output, &mut sum.output);
    std::mem::swap(&mut sum.output, &mut like.output);
    std::mem::swap(&mut node.name, &mut like.name);
    like.input.splice(..0, sum.output.iter().cloned());
    nodes.extend([kept, shift]);
    if keeps {
        nodes.extend([dropped, back]);
    }
    read(&mut node, 0, shifted, nodes);
    nodes.extend([node, sum, like]);
}
