//! `Gemm` (ONNX versions 7 to 13) of other numbers than float32. tract's multiplies by factors of float32 alone; what is left
//! out there is one by default. For float32 it is tract's.

use super::translated::{Translate, Translated};
use super::{Built, tracts};
use crate::ml::attributes::Attributes;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_hir::internal::*;

pub(super) fn build(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (operator, reads) = tracts("Gemm", context, node)?;
    let attributes = Attributes::new(node);
    let factor = |name: &str| Ok::<_, TractError>(attributes.float(name)?.unwrap_or(1.0));
    let turned = |name: &str| Ok::<_, TractError>(attributes.int(name)?.unwrap_or(0) != 0);
    let gemm = Gemm {
        operator,
        alpha: factor("alpha")?,
        beta: factor("beta")?,
        turned: (turned("transA")?, turned("transB")?),
    };
    Ok((Box::new(Translated(gemm)), reads))
}

#[derive(Debug, Clone)]
struct Gemm {
    operator: Box<dyn InferenceOp>,
    alpha: f32,
    beta: f32,
    /// Which of the matrices are.
    turned: (bool, bool),
}

impl Translate for Gemm {
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
        let input = |at: usize| node.inputs.get(at).and_then(|input| mapping.get(input)).copied();
        let (a, b) = input(0).zip(input(1)).context("two matrices are expected")?;
        let dtype = target.outlet_fact(a)?.datum_type;
        if dtype == f32::datum_type() {
            return self.operator.to_typed(source, node, target, mapping);
        }
        let name = |part: &str| format!("{}.{part}", node.name);
        let axes = AxesMapping::for_numpy_matmul(2, self.turned.0, self.turned.1, false)?;
        let product = only(&target.wire_node(name("product"), EinSum::new(axes, dtype), &[a, b])?)?;
        let product = times(target, name("alpha"), self.alpha, product)?;
        let Some(mut bias) = input(2) else { return Ok(tvec![product]) };
        while target.outlet_fact(bias)?.rank() < 2 {
            let rank = target.outlet_fact(bias)?.rank();
            bias = only(&target.wire_node(name(&format!("bias.{rank}")), AxisOp::Add(0), &[bias])?)?;
        }
        let bias = times(target, name("beta"), self.beta, bias)?;
        target.wire_node(&node.name, math::add(), &[product, bias])
    }
}

fn only(outlets: &[OutletId]) -> TractResult<OutletId> {
    outlets.first().copied().context("a node without an output")
}

/// By a factor, where it is not one. Integers are multiplied by its whole part, as in ONNX Runtime.
fn times(target: &mut TypedModel, name: String, factor: f32, outlet: OutletId) -> TractResult<OutletId> {
    if factor.to_bits() == 1.0_f32.to_bits() {
        return Ok(outlet);
    }
    let dtype = target.outlet_fact(outlet)?.datum_type;
    let value = tensor0(factor).cast_to_dt(dtype)?.into_owned().broadcast_into_rank(2)?;
    let value = target.add_const(format!("{name}.factor"), value)?;
    only(&target.wire_node(name, math::mul(), &[value, outlet])?)
}
