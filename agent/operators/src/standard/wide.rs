//! `Cast` to int64 keeps all 64 bits. tract makes sizes of such numbers, for it is sizes that are mostly cast so, by way of 32
//! bits.

use crate::ml::kernel::{Fact, Kernel, operation};
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_hir::internal::*;

/// The operator's name.
pub(super) const NAME: &str = "CastToSizes";

/// Puts ours in the place of tract's, where a node is one.
pub(super) fn replace(model: &mut TypedModel, id: usize) -> TractResult<bool> {
    let to_sizes = model.node(id).op_as::<Cast>().is_some_and(|op| op.to == TDim::datum_type());
    let is_number = |dtype: DatumType| dtype.is_integer() || dtype.is_float();
    if !to_sizes || !model.node_input_facts(id)?.iter().all(|fact| is_number(fact.datum_type)) {
        return Ok(false);
    }
    model.node_mut(id).op = Box::new(operation(NAME, ToSizes, 1));
    Ok(true)
}

/// Integers as sizes.
pub(super) fn sizes(integers: &Tensor) -> TractResult<Tensor> {
    let values = integers.try_as_plain_ram()?;
    let sizes: Vec<TDim> = values.as_slice::<i64>()?.iter().map(TDim::from).collect();
    tensor1(&sizes).into_shape(integers.shape())
}

#[derive(Debug)]
struct ToSizes;

impl Kernel for ToSizes {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        Ok(tvec![Fact::new(TDim::datum_type(), x.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        Ok(tvec![sizes(x.cast_to::<i64>()?.as_ref())?.into_tvalue()])
    }
}
