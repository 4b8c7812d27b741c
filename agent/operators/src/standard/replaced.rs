//! What is put into the place of tract's operators once sizes are known, in a graph and in those inside of it.

use super::{indices, one_hot, suppression, wide};
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_hir::internal::*;

/// Does so.
pub(crate) fn in_graph(model: &mut TypedModel) -> TractResult<()> {
    of_nodes(model, true)
}

/// `outer` is whether it is the graph itself.
fn of_nodes(model: &mut TypedModel, outer: bool) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        if let Some(branches) = model.node_mut(id).op_as_mut::<IfThenElse>() {
            of_nodes(&mut branches.then_body, false)?;
            of_nodes(&mut branches.else_body, false)?;
        } else if let Some(scan) = model.node_mut(id).op_as_mut::<Scan>() {
            of_nodes(&mut scan.body, false)?;
        } else if !(one_hot::replace(model, id)? || suppression::limit(model, id)? || wide::replace(model, id)?) {
            indices::check(model, id, outer)?;
        }
    }
    Ok(())
}
