//! Whose value it is that reaches a node: a request's, or the model's.

use super::wide;
use std::collections::HashSet;
use tract_onnx::tract_core::ops::array::{DynSlice, Gather, MultiBroadcastTo, Slice, StridedSlice, TypedConcat};
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::change_axes::{AxisOp, IntoShape};
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_hir::internal::*;

/// Whether the integers of an outlet are a request's: made of its inputs by arithmetic of integers, or real numbers of it that
/// were moved and cast and nothing else. What is made of the model's constants alone is not.
pub(super) fn is_requests(model: &TypedModel, outlet: OutletId) -> TractResult<bool> {
    let (mut next, mut seen) = (vec![outlet], HashSet::from([outlet]));
    let mut requests = false;
    while let Some(outlet) = next.pop() {
        let node = model.node(outlet.node);
        if model.input_outlets()?.contains(&outlet) {
            requests = true;
            continue;
        }
        let facts = model.node_input_facts(node.id)?;
        let mut open = facts.iter().filter(|fact| fact.konst.is_none());
        if (model.outlet_fact(outlet)?.datum_type.is_float() || open.any(|fact| fact.datum_type.is_float()))
            && !moves(node)
        {
            return Ok(false);
        }
        let made_of = node.inputs.iter().zip(&facts).filter(|(_, fact)| fact.konst.is_none());
        next.extend(made_of.map(|(input, _)| *input).filter(|input| seen.insert(*input)));
    }
    Ok(requests)
}

/// Whether a node takes values elsewhere and changes none.
fn moves(node: &TypedNode) -> bool {
    node.op_is::<AxisOp>()
        || node.op_is::<Cast>()
        || node.op_is::<DynSlice>()
        || node.op_is::<Gather>()
        || node.op_is::<Identity>()
        || node.op_is::<IntoShape>()
        || node.op_is::<MultiBroadcastTo>()
        || node.op_is::<Slice>()
        || node.op_is::<StridedSlice>()
        || node.op_is::<TypedConcat>()
        || node.op.name() == wide::NAME
}
