//! `RNN`, `GRU` and `LSTM`. tract runs them forwards and in both directions with their usual activations, and reads no
//! attribute that says otherwise. Backwards is forwards over the flipped sequence; `RNN` takes `Relu` too, as PyTorch
//! exports it; what is left is refused.

use super::activation::Relu;
use super::flip::Flip;
use super::translated::{Translate, Translated};
use super::{Built, tracts};
use crate::ml::attributes::Attributes;
use crate::ml::kernel::operation;
use tract_onnx::model::ParsingContext;
use tract_onnx::ops::rec::common::CommonRec;
use tract_onnx::ops::rec::rnn::RNN;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

pub(super) fn build(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node);
    let (operator, reads) = checked(context, node, &attributes).with_context(|| attributes.title())?;
    if attributes.text("direction")?.as_deref() != Some("reverse") {
        return Ok((operator, reads));
    }
    let batch_first = attributes.int("layout")?.unwrap_or(0) == 1;
    let answers = node.output.first().is_some_and(|name| !name.is_empty());
    Ok((Box::new(Translated(Backwards { operator, time: usize::from(batch_first), answers })), reads))
}

fn checked(context: &ParsingContext<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Built {
    let directions = match attributes.text("direction")?.as_deref().unwrap_or("forward") {
        "forward" | "reverse" => 1,
        "bidirectional" => 2,
        other => return attributes.unexpected("direction", format!("`{other}`")),
    };
    if let Some(clip) = attributes.float("clip")? {
        return attributes.unexpected("clip", format!("{clip}: a bound on cell inputs is not supported"));
    }
    if attributes.int("input_forget")?.unwrap_or(0) != 0 {
        return attributes.unexpected("input_forget", "1: coupled gates are not supported");
    }
    let usual: &[&str] = match node.op_type.as_str() {
        "LSTM" => &["sigmoid", "tanh", "tanh"],
        "GRU" => &["sigmoid", "tanh"],
        _ => &["tanh"],
    };
    let named = attributes.list_or_empty::<String>("activations")?;
    let named: Vec<String> = named.iter().map(|name| name.to_lowercase()).collect();
    let of_each = |names: &[&str]| named.iter().map(String::as_str).eq(names.repeat(directions).iter().copied());
    if named.is_empty() || of_each(usual) {
        return tracts(&node.op_type, context, node);
    }
    if node.op_type == "RNN" && of_each(&["relu"]) {
        let relu = || -> Box<dyn TypedOp> { Box::new(operation("Relu", Relu, 1)) };
        let body = Box::new(RNN { fore: relu(), back: relu() });
        return Ok((expand(CommonRec::from_node_and_options(node, 3, 0, body)?), vec![]));
    }
    attributes.unexpected("activations", format!("[{}]: supported is [{}]", named.join(", "), usual.join(", ")))
}

/// A recurrence from the end of the sequence to its beginning.
#[derive(Debug, Clone)]
struct Backwards {
    operator: Box<dyn InferenceOp>,
    /// The axis of time in the input, and in the output of each step.
    time: usize,
    /// Whether the output of each step is asked for; it is the first then.
    answers: bool,
}

impl Translate for Backwards {
    fn name(&self) -> StaticName {
        format!("{} backwards", self.operator.name()).into()
    }

    fn operator(&self) -> &dyn InferenceOp {
        self.operator.as_ref()
    }

    fn operator_mut(&mut self) -> &mut dyn InferenceOp {
        self.operator.as_mut()
    }

    fn translate(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let sequence = node.inputs.first().context("no input")?;
        let forwards = *mapping.get(sequence).context("the input was not translated")?;
        let flipped = |what: &str, target: &mut TypedModel, outlet: OutletId| {
            let flip = operation("Flip", Flip { axis: self.time }, 1);
            let outlets = target.wire_node(format!("{}.{what}", node.name), flip, &[outlet])?;
            outlets.first().copied().context("a node without an output")
        };
        let mut mapping = mapping.clone();
        mapping.insert(*sequence, flipped("sequence", target, forwards)?);
        let mut outputs = self.operator.to_typed(source, node, target, &mapping)?;
        if let (true, Some(answer)) = (self.answers, outputs.first_mut()) {
            *answer = flipped("answers", target, *answer)?;
        }
        Ok(outputs)
    }
}
