//! Squares of integers: what is multiplied by itself, or raised to 2, becomes tract's square, which they have none of.

use super::wide::sizes;
use crate::ml::kernel::{Fact, Kernel, operation};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_hir::internal::tract_num_traits::WrappingMul;
use tract_onnx::tract_hir::internal::*;

/// Gives them one.
pub(crate) fn of_integers(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let is_square = node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.name() == "Square");
        // What is cast to int64 is tract's own type of sizes.
        let integer = |dtype: DatumType| dtype.is_integer() || dtype == TDim::datum_type();
        let integers = model.node_input_facts(id)?.iter().any(|fact| integer(fact.datum_type));
        if is_square && integers {
            let square = operation("SquareOfIntegers", Square, 1);
            TypedModelPatch::replace_single_op(model, node, &node.inputs, square)?.apply(model)?;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Square;

impl Kernel for Square {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        Ok(inputs.iter().cloned().collect())
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let mut out = x.clone().into_tensor();
        if out.datum_type() == TDim::datum_type() {
            let mut wide = out.cast_to::<i64>()?.into_owned();
            squares::<i64>(&mut wide)?;
            return Ok(tvec![sizes(&wide)?.into_tvalue()]);
        }
        match out.datum_type() {
            DatumType::I8 => squares::<i8>(&mut out)?,
            DatumType::I16 => squares::<i16>(&mut out)?,
            DatumType::I32 => squares::<i32>(&mut out)?,
            DatumType::I64 => squares::<i64>(&mut out)?,
            DatumType::U8 => squares::<u8>(&mut out)?,
            DatumType::U16 => squares::<u16>(&mut out)?,
            DatumType::U32 => squares::<u32>(&mut out)?,
            DatumType::U64 => squares::<u64>(&mut out)?,
            other => bail!("the input is {other:?}; it must be of integers"),
        }
        Ok(tvec![out.into_tvalue()])
    }
}

fn squares<T: Datum + Copy + WrappingMul>(tensor: &mut Tensor) -> TractResult<()> {
    let mut values = tensor.try_as_plain_ram_mut()?;
    // What does not fit is cut off, as in ONNX Runtime.
    values.as_slice_mut::<T>()?.iter_mut().for_each(|value| *value = value.wrapping_mul(value));
    Ok(())
}
