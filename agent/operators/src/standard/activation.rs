//! Activations with an `alpha`, in float16, binary32 and binary64; each is computed in binary32 or wider. With the usual
//! `alpha`, 1, they are tract's, which are quicker.

use super::{Built, tracts};
use crate::ml::attributes::Attributes;
use crate::ml::kernel::{self, Fact, FromNode, Kernel};
use std::fmt::Debug;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// The operator of the node's name, of which `K` is the one with an `alpha`.
pub(super) fn build<K: FromNode>(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    match Attributes::new(node).float("alpha")? {
        None | Some(1.0) => tracts(&node.op_type, context, node),
        Some(_) => kernel::build::<K>(context, node),
    }
}

/// `max(0, x) + min(0, alpha * (exp(x / alpha) - 1))` (ONNX `Celu`, version 12).
#[derive(Debug)]
pub(super) struct Celu {
    alpha: f32,
}

/// `x * sigmoid(alpha * x)` (ONNX `Swish`, version 24).
#[derive(Debug)]
pub(super) struct Swish {
    alpha: f32,
}

/// `log(1 + exp(x))` (ONNX `Softplus`), which is `x` where `exp(x)` is no number any more.
#[derive(Debug)]
pub(super) struct Softplus;

/// The number, or zero for one that is none or infinite: what sums of exponentials are shifted by.
#[derive(Debug)]
pub(super) struct FiniteOrZero;

/// `max(0, x)`, for operators that hold an activation.
#[derive(Debug)]
pub(super) struct Relu;

impl FromNode for Celu {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        match attributes.float("alpha")?.unwrap_or(1.0) {
            0.0 => attributes.unexpected("alpha", 0.0),
            alpha => Ok(Self { alpha }),
        }
    }
}

impl FromNode for Swish {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self { alpha: attributes.float("alpha")?.unwrap_or(1.0) })
    }
}

/// A function of each number by itself.
trait Each: Debug + Send + Sync + 'static {
    fn single(&self, x: f32) -> f32;
    fn double(&self, x: f64) -> f64;
}

impl Each for Celu {
    fn single(&self, x: f32) -> f32 {
        if x > 0.0 { x } else { self.alpha * (x / self.alpha).exp_m1() }
    }

    fn double(&self, x: f64) -> f64 {
        let alpha = f64::from(self.alpha);
        if x > 0.0 { x } else { alpha * (x / alpha).exp_m1() }
    }
}

impl Each for Swish {
    fn single(&self, x: f32) -> f32 {
        x / (1.0 + (-self.alpha * x).exp())
    }

    fn double(&self, x: f64) -> f64 {
        x / (1.0 + (-f64::from(self.alpha) * x).exp())
    }
}

impl FromNode for Softplus {
    fn from_node(_: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl FromNode for FiniteOrZero {
    fn from_node(_: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Each for Softplus {
    fn single(&self, x: f32) -> f32 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    fn double(&self, x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }
}

impl Each for FiniteOrZero {
    fn single(&self, x: f32) -> f32 {
        if x.is_finite() { x } else { 0.0 }
    }

    fn double(&self, x: f64) -> f64 {
        if x.is_finite() { x } else { 0.0 }
    }
}

impl Each for Relu {
    fn single(&self, x: f32) -> f32 {
        // NaN stays NaN, which `max` would hide.
        if x < 0.0 { 0.0 } else { x }
    }

    fn double(&self, x: f64) -> f64 {
        if x < 0.0 { 0.0 } else { x }
    }
}

impl<E: Each> Kernel for E {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        ensure!(x.dtype.is_float(), "the input is {:?}; it must be of real numbers", x.dtype);
        Ok(tvec![x.clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let mut out = x.clone().into_tensor();
        match out.datum_type() {
            DatumType::F16 => over(&mut out, |x: f16| f16::from_f32(self.single(x.to_f32())))?,
            DatumType::F32 => over(&mut out, |x| self.single(x))?,
            DatumType::F64 => over(&mut out, |x| self.double(x))?,
            other => bail!("the input is {other:?}; it must be of real numbers"),
        }
        Ok(tvec![out.into_tvalue()])
    }
}

fn over<T: Datum + Copy>(tensor: &mut Tensor, of: impl Fn(T) -> T) -> TractResult<()> {
    let mut values = tensor.try_as_plain_ram_mut()?;
    values.as_slice_mut::<T>()?.iter_mut().for_each(|value| *value = of(*value));
    Ok(())
}
