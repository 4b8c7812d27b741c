//! Attributes that tract does not read although they change the answer. A graph that sets one to anything but its usual
//! value is refused: nobody would notice the other answer, for golden outputs are made by the same code.
//!
//! Found by comparing the operators' schemas with what tract 0.23.9 reads, and by running the `onnx` package's own tests
//! (`tests/zoo/operators.py`).

use super::{Built, tracts};
use crate::ml::attributes::Attributes;
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// What an attribute may be without changing anything.
enum Usual {
    Int(i64),
    Text(&'static str),
    /// It may not be there at all.
    Absent,
}

/// Operators, an attribute of theirs, and what it may be.
const UNREAD: [(&[&str], &str, Usual); 9] = [
    // Broadcasting as before opset 7: along an axis that is named.
    (&["Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"], "axis", Usual::Absent),
    (&["Attention"], "left_window_size", Usual::Int(-1)),
    (&["Attention"], "right_window_size", Usual::Int(-1)),
    (&["BatchNormalization"], "training_mode", Usual::Int(0)),
    // By it the standard works out the padding anew; tract cuts at the end instead.
    (&["ConvTranspose"], "output_shape", Usual::Absent),
    (&["MultiHeadAttention"], "unidirectional", Usual::Int(0)),
    (&["Pad"], "paddings", Usual::Absent),
    (&["Scan"], "directions", Usual::Absent),
    (&["SpaceToDepth"], "mode", Usual::Text("DCR")),
];

pub(super) fn register(operators: &mut OnnxOpRegister) {
    // tract's divides by the number of places, and adds up powers of the numbers instead of their absolute values.
    operators.0.remove("GlobalLpPool");
    for name in UNREAD.iter().flat_map(|(names, ..)| *names) {
        operators.insert(name, build);
    }
}

pub(super) fn build(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node);
    check(node, &attributes).with_context(|| attributes.title())?;
    tracts(&node.op_type, context, node)
}

fn check(node: &NodeProto, attributes: &Attributes<'_>) -> TractResult<()> {
    for (names, attribute, usual) in &UNREAD {
        let set = node.attribute.iter().any(|found| found.name == *attribute);
        if !set || !names.contains(&node.op_type.as_str()) {
            continue;
        }
        let same = match usual {
            Usual::Int(usual) => attributes.int(attribute)? == Some(*usual),
            Usual::Text(usual) => attributes.text(attribute)?.as_deref() == Some(*usual),
            Usual::Absent => false,
        };
        ensure!(same, "attribute `{attribute}` has a value that is not supported");
    }
    let same = attributes.text("auto_pad")?.is_some_and(|auto| auto.starts_with("SAME"));
    if node.op_type == "ConvTranspose"
        && same
        && attributes.list_or_empty::<i64>("output_padding")?.iter().any(|n| *n != 0)
    {
        bail!("`auto_pad` together with `output_padding` is not supported");
    }
    // Which positions are in the past is counted from the last query, which tract does not know of.
    let past = node.input.iter().skip(4).take(2).any(|name| !name.is_empty());
    let causal = || attributes.int("is_causal").map(|causal| causal.unwrap_or(0) != 0);
    if node.op_type == "Attention" && past && causal()? {
        bail!("`is_causal` together with past keys and values is not supported");
    }
    Ok(())
}
