//! Operators whose types tract does not have all of: `Equal` of booleans, `IsInf` and `IsNaN` of float64. It reads the graphs, and
//! finds at the run that it cannot.

use crate::ml::attributes::Attributes;
use crate::ml::kernel::{Fact, FromNode, Kernel, operation};
use std::fmt::Debug;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

/// Gives comparisons of booleans their type.
pub(crate) fn compare_booleans(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let booleans = model.node_input_facts(id)?.iter().all(|fact| fact.datum_type == bool::datum_type());
        if booleans && node.op.name() == "Eq" {
            let equal = operation("EqualOfBooleans", EqualOfBooleans, 2);
            TypedModelPatch::replace_single_op(model, node, &node.inputs, equal)?.apply(model)?;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct EqualOfBooleans;

impl Kernel for EqualOfBooleans {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [a, b] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        Ok(tvec![Fact::new(bool::datum_type(), multi_broadcast(&[&a.shape, &b.shape])?)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [a, b] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        let mut out = a.broadcast_to_shape(&multi_broadcast(&[a.shape(), b.shape()])?)?;
        let b = b.to_plain_array_view::<bool>()?;
        let mut plain = out.try_as_plain_ram_mut()?;
        let mut values = plain.to_array_view_mut::<bool>()?;
        let b = b.broadcast(values.raw_dim()).context("shapes that do not go together")?;
        values.zip_mut_with(&b, |a, b| *a = a == b);
        Ok(tvec![out.into_tvalue()])
    }
}

/// Whether a number is NaN (ONNX `IsNaN`).
#[derive(Debug)]
pub(super) struct IsNan;

/// Whether a number is infinite (ONNX `IsInf`).
#[derive(Debug)]
pub(super) struct IsInf {
    above: bool,
    below: bool,
}

impl FromNode for IsNan {
    fn from_node(_: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl FromNode for IsInf {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let asked = |name| Ok::<_, TractError>(attributes.int(name)?.unwrap_or(1) != 0);
        Ok(Self { above: asked("detect_positive")?, below: asked("detect_negative")? })
    }
}

/// A question about each number by itself.
trait Asked: Debug + Send + Sync + 'static {
    fn holds(&self, x: f64) -> bool;
}

impl Asked for IsNan {
    fn holds(&self, x: f64) -> bool {
        x.is_nan()
    }
}

impl Asked for IsInf {
    fn holds(&self, x: f64) -> bool {
        x.is_infinite() && if x > 0.0 { self.above } else { self.below }
    }
}

macro_rules! kernel {
    ($($type:ty)*) => {$(
        impl Kernel for $type {
            fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
                let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
                ensure!(x.dtype.is_float(), "the input is {:?}; it must be of real numbers", x.dtype);
                Ok(tvec![Fact::new(bool::datum_type(), x.shape.clone())])
            }

            fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
                let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
                let plain = x.try_as_plain_ram()?;
                let found: Vec<bool> = match x.datum_type() {
                    DatumType::F16 => plain.as_slice::<f16>()?.iter().map(|x| self.holds(x.to_f64())).collect(),
                    DatumType::F32 => plain.as_slice::<f32>()?.iter().map(|x| self.holds(f64::from(*x))).collect(),
                    DatumType::F64 => plain.as_slice::<f64>()?.iter().map(|x| self.holds(*x)).collect(),
                    other => bail!("the input is {other:?}; it must be of real numbers"),
                };
                Ok(tvec![Tensor::from_shape(x.shape(), &found)?.into_tvalue()])
            }
        }
    )*};
}

kernel! { IsNan IsInf }
