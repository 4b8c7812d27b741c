//! `Squeeze` without axes: every axis of size 1 goes. With axes it is tract's.

use super::{Built, tracts};
use crate::ml::attributes::Attributes;
use crate::ml::kernel::{self, Fact, FromNode, Kernel};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

pub(super) fn build(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let stated = node.input.iter().filter(|name| !name.is_empty()).count() > 1
        || node.attribute.iter().any(|attribute| attribute.name == "axes");
    if stated { tracts("Squeeze", context, node) } else { kernel::build::<SqueezeAll>(context, node) }
}

/// Which axes go must be known when the graph is read: a rank that depends on a request's batch is no contract.
#[derive(Debug)]
struct SqueezeAll;

impl FromNode for SqueezeAll {
    fn from_node(_attributes: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Kernel for SqueezeAll {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        if let Some(open) = input.shape.iter().find(|dim| dim.to_i64().is_err()) {
            bail!(
                "without `axes` it takes away every axis of size 1, so the size `{open}` must be known: state the inputs' sizes in [shapes] of bundle.toml, or export with `axes`"
            );
        }
        let kept = input.shape.iter().filter(|dim| !dim.is_one()).cloned();
        Ok(tvec![Fact::new(input.dtype, kept)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [input] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let kept: TVec<usize> = input.shape().iter().copied().filter(|size| *size != 1).collect();
        Ok(tvec![input.clone().into_tensor().into_shape(&kept)?.into_tvalue()])
    }
}
