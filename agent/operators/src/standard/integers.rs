//! Operators on integers that stand for real numbers (`QLinearConv`, `QLinearMatMul`, and those of ONNX Runtime's domain, as
//! its static quantiser writes them in the form `QOperator`), as what they mean: real numbers again, the operator on those,
//! integers again. So they answer as the same graph in the form `QDQ` does, within one level of ONNX Runtime's integers.

use crate::ml::attributes::Attributes;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

/// Where an operand, its scale and its zero point are among the inputs, and along which axis there may be several scales.
type Operand = (usize, usize, usize, i64);

/// From this version on `Softmax` is along one axis, and `ReduceMean` has its axes as an input from 18 on.
const SOFTMAX_OF_ONE_AXIS: i64 = 13;
const AXES_AS_INPUT: i64 = 18;

/// In the other words, or the node as it is.
pub(super) fn in_reals(mut node: NodeProto, opset: i64, nodes: &mut Vec<NodeProto>) -> Option<NodeProto> {
    let pair = [(0, 1, 2, 0), (3, 4, 5, 0)];
    let (operator, operands, out): (&str, Vec<Operand>, usize) = match node.op_type.as_str() {
        "QLinearConv" => ("Conv", pair.into(), 6),
        "QLinearMatMul" => ("MatMul", vec![(0, 1, 2, -2), (3, 4, 5, -1)], 6),
        "QGemm" if is(&node, "alpha", None) => {
            let columns = i64::from(is(&node, "transB", Some(0)));
            ("Gemm", vec![(0, 1, 2, 0), (3, 4, 5, columns)], 7)
        }
        "QLinearAdd" => ("Add", pair.into(), 6),
        "QLinearMul" => ("Mul", pair.into(), 6),
        "QLinearSigmoid" => ("Sigmoid", vec![pair[0]], 3),
        "QLinearLeakyRelu" => ("LeakyRelu", vec![pair[0]], 3),
        "QLinearSoftmax" if softmax_is_plain(&node, opset) => ("Softmax", vec![pair[0]], 3),
        "QLinearAveragePool" if is(&node, "channels_last", Some(0)) => ("AveragePool", vec![pair[0]], 3),
        "QLinearGlobalAveragePool" if is(&node, "channels_last", Some(0)) => ("GlobalAveragePool", vec![pair[0]], 3),
        "QLinearReduceMean" if opset < AXES_AS_INPUT => ("ReduceMean", vec![pair[0]], 3),
        "QLinearConcat" => ("Concat", (2..node.input.len()).step_by(3).map(|at| (at, at + 1, at + 2, 0)).collect(), 0),
        "QLinearWhere" => ("Where", vec![(1, 2, 3, 0), (4, 5, 6, 0)], 7),
        _ => return Some(node),
    };
    let mut input = Vec::new();
    if operator == "Where" {
        input.extend(node.input.first().cloned());
    }
    for (at, operand) in operands.iter().enumerate() {
        let real = dequantized(&node, *operand, &format!("operand.{at}"));
        input.extend(real.output.iter().cloned());
        nodes.push(real);
    }
    let bias = match operator {
        "Conv" => Some(8),
        "Gemm" => Some(6),
        _ => None,
    };
    if let Some(bias) = bias.filter(|at| node.input.get(*at).is_some_and(|name| !name.is_empty())) {
        // A bias has the products' scale.
        let scale = part(&node, "Mul", "scale", [1, 4].map(|at| input_of(&node, at)).into());
        let parts = vec![input_of(&node, bias), scale.output.concat()];
        let mut real = part(&node, "DequantizeLinear", "bias", parts);
        real.attribute = vec![int("axis", 0)];
        input.extend(real.output.iter().cloned());
        nodes.extend([scale, real]);
    }
    let mut reals = part(&node, operator, "real", input);
    let passed_over = ["channels_last", "opset", "alpha"];
    let theirs = |attribute: &AttributeProto| operator == "LeakyRelu" || !passed_over.contains(&&*attribute.name);
    reals.attribute = std::mem::take(&mut node.attribute).into_iter().filter(theirs).collect();
    let scale = input_of(&node, out);
    if scale.is_empty() {
        // `QGemm` without a scale answers with real numbers.
        (reals.name, reals.output) = (node.name, node.output);
        nodes.push(reals);
        return None;
    }
    let zero_point = input_of(&node, out + 1);
    let mut parts = vec![reals.output.concat(), scale];
    parts.extend(Some(zero_point).filter(|name| !name.is_empty()));
    nodes.push(reals);
    // The last node is the one that messages name.
    nodes.push(NodeProto {
        op_type: "QuantizeLinear".to_owned(),
        input: parts,
        output: node.output,
        name: node.name,
        ..NodeProto::default()
    });
    None
}

/// Whether an integer is this one or not there; whether a number is 1 or not there.
fn is(node: &NodeProto, name: &str, value: Option<i64>) -> bool {
    let attributes = Attributes::new(node);
    match value {
        Some(value) => attributes.int(name).is_ok_and(|found| found.unwrap_or(value) == value),
        None => attributes.float(name).is_ok_and(|found| found.unwrap_or(1.0).to_bits() == 1.0_f32.to_bits()),
    }
}

/// Whether its `opset` says the same of axes as the graph's.
fn softmax_is_plain(node: &NodeProto, opset: i64) -> bool {
    let stated = Attributes::new(node).int("opset").ok().flatten().unwrap_or(opset);
    (stated < SOFTMAX_OF_ONE_AXIS) == (opset < SOFTMAX_OF_ONE_AXIS)
}

fn input_of(node: &NodeProto, at: usize) -> String {
    node.input.get(at).cloned().unwrap_or_default()
}

fn dequantized(node: &NodeProto, (value, scale, zero_point, axis): Operand, what: &str) -> NodeProto {
    let mut input = vec![input_of(node, value), input_of(node, scale)];
    input.extend(Some(input_of(node, zero_point)).filter(|name| !name.is_empty()));
    let mut real = part(node, "DequantizeLinear", what, input);
    real.attribute = vec![int("axis", axis)];
    real
}

fn part(node: &NodeProto, operator: &str, what: &str, input: Vec<String>) -> NodeProto {
    let name = format!("{}.fieldpost.{what}", node.output.iter().find(|name| !name.is_empty()).unwrap_or(&node.name));
    NodeProto { op_type: operator.to_owned(), input, output: vec![name.clone()], name, ..NodeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Int.into(), i, ..AttributeProto::default() }
}
