//! `Upsample` (versions 7 and 9), which newer graphs write as `Resize`, and `Resize` of version 10, which has no attribute
//! for how the nearest place is found. ONNX Runtime takes the place before, and the one after along an axis that shrinks;
//! tract rounds.

use super::translated::{Translate, Translated};
use super::{Built, tracts};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::tract_hir::internal::*;

/// The last version of the operators in which `Resize` is as `Upsample` was.
const AS_UPSAMPLE: i64 = 10;

pub(super) fn resize(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    if context.onnx_operator_set_version != AS_UPSAMPLE {
        return tracts("Resize", context, node);
    }
    let (down, reads) = tracts("Resize", context, &rounding(node, "floor"))?;
    let (up, _) = tracts("Resize", context, &rounding(node, "ceil"))?;
    Ok((Box::new(Translated(Resize { down, up })), reads))
}

pub(super) fn upsample(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    ensure!(
        node.input.iter().filter(|name| !name.is_empty()).count() == 2,
        "`Upsample` with `scales` as an attribute (opset 7 and 8) is not supported: export with opset 11 or newer"
    );
    let as_resize = ParsingContext { onnx_operator_set_version: AS_UPSAMPLE, ..context.clone() };
    tracts("Resize", &as_resize, &rounding(node, "floor"))
}

fn rounding(node: &NodeProto, mode: &str) -> NodeProto {
    let mut node = node.clone();
    node.attribute.push(AttributeProto {
        name: "nearest_mode".to_owned(),
        r#type: AttributeType::String.into(),
        s: mode.into(),
        ..AttributeProto::default()
    });
    node
}

/// tract's, rounding down and rounding up.
#[derive(Debug, Clone)]
struct Resize {
    down: Box<dyn InferenceOp>,
    up: Box<dyn InferenceOp>,
}

impl Translate for Resize {
    fn operator(&self) -> &dyn InferenceOp {
        self.down.as_ref()
    }

    fn operator_mut(&mut self) -> &mut dyn InferenceOp {
        self.down.as_mut()
    }

    /// Axes that grow first, then those that shrink: what is nearest along one axis depends on no other.
    fn translate(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let [x, at] = *node.inputs.as_slice() else {
            bail!("two inputs are expected, there are {}", node.inputs.len())
        };
        let translated = mapping.get(&at).context("the scales were not translated")?;
        let scales = target.outlet_fact(*translated)?.konst.clone().context("the scales must be constants")?;
        let scales = scales.cast_to::<f32>()?;
        let scales = scales.try_as_plain_ram()?.as_slice::<f32>()?;
        let grow: Vec<f32> = scales.iter().map(|scale| scale.max(1.0)).collect();
        let shrink: Vec<f32> = scales.iter().map(|scale| scale.min(1.0)).collect();
        let is_any = |scales: &[f32]| scales.iter().any(|scale| scale.total_cmp(&1.0).is_ne());
        if !is_any(&shrink) {
            return self.down.to_typed(source, node, target, mapping);
        }
        if !is_any(&grow) {
            return self.up.to_typed(source, node, target, mapping);
        }
        let mut mapping = mapping.clone();
        let mut growing = node.clone();
        growing.name = format!("{}.growing", node.name);
        // Its sizes are not those of the whole.
        growing.outputs.iter_mut().for_each(|output| output.fact = InferenceFact::default());
        mapping.insert(at, target.add_const(format!("{}.scales", growing.name), tensor1(&grow))?);
        let grown = self.down.to_typed(source, &growing, target, &mapping)?;
        mapping.insert(x, grown.first().copied().context("a node without an output")?);
        mapping.insert(at, target.add_const(format!("{}.shrinking.scales", node.name), tensor1(&shrink))?);
        self.up.to_typed(source, node, target, &mapping)
    }
}
