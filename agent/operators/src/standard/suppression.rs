//! `NonMaxSuppression` (ONNX versions 10 and 11) gives no boxes where none are asked for: without `max_output_boxes_per_class`,
//! or with 0. To tract that is no limit.

use crate::ml::kernel::{Fact, Kernel, operation};
use tract_onnx::tract_hir::internal::*;
use tract_onnx_opl::non_max_suppression::NonMaxSuppression;

/// Says no boxes to a node as it is understood there.
pub(super) fn limit(model: &mut TypedModel, id: usize) -> TractResult<bool> {
    let node = model.node(id);
    if !node.op_is::<NonMaxSuppression>() {
        return Ok(false);
    }
    let most = *node.inputs.get(2).context("no limit")?;
    let name = model.unique_name(format!("{}.most", node.name)).into_owned();
    let most = match model.outlet_fact(most)?.konst.clone() {
        Some(limit) => model.add_const(name, limited(&limit)?)?,
        None => {
            let limited = model.wire_node(name, operation("Limit", Limit, 1), &[most])?;
            *limited.first().context("a node without an output")?
        }
    };
    model.add_edge(most, InletId::new(id, 2))?;
    Ok(true)
}

/// Any number below zero is none.
fn limited(limit: &Tensor) -> TractResult<Tensor> {
    let mut limit = limit.cast_to::<i64>()?.into_owned();
    let mut values = limit.try_as_plain_ram_mut()?;
    values.as_slice_mut::<i64>()?.iter_mut().filter(|most| **most == 0).for_each(|most| *most = -1);
    Ok(limit)
}

#[derive(Debug)]
struct Limit;

impl Kernel for Limit {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [limit] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        Ok(tvec![Fact::new(i64::datum_type(), limit.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [limit] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        Ok(tvec![limited(limit)?.into_tvalue()])
    }
}
