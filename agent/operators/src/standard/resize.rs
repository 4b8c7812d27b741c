//! `Upsample` (versions 7 and 9), which newer graphs write as `Resize`, and `Resize` of version 10, which has no attribute
//! for how it rounds and takes the place before; tract rounds to the nearest.

use super::{Built, tracts};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::nn::resize::{CoordTransformer, Resize};
use tract_onnx::tract_hir::internal::*;

/// The last version of the operators in which `Resize` is as `Upsample` was.
const AS_UPSAMPLE: i64 = 10;

pub(super) fn resize(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    if context.onnx_operator_set_version == AS_UPSAMPLE {
        return tracts("Resize", context, &rounding_down(node));
    }
    tracts("Resize", context, node)
}

pub(super) fn upsample(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    ensure!(
        node.input.iter().filter(|name| !name.is_empty()).count() == 2,
        "`Upsample` with `scales` as an attribute (opset 7 and 8) is not supported: export with opset 11 or newer"
    );
    let as_resize = ParsingContext { onnx_operator_set_version: AS_UPSAMPLE, ..context.clone() };
    tracts("Resize", &as_resize, &rounding_down(node))
}

fn rounding_down(node: &NodeProto) -> NodeProto {
    let mut node = node.clone();
    node.attribute.push(AttributeProto {
        name: "nearest_mode".to_owned(),
        r#type: AttributeType::String.into(),
        s: b"floor".into(),
        ..AttributeProto::default()
    });
    node
}

/// Where corners are aligned, sizes count and not the scales that they come from: 10 times 1.75 is 17, and the last of these
/// 17 places lies on the last of the 10, as it does in PyTorch and ONNX Runtime. tract goes by 17.5.
pub(crate) fn align_whole_sizes(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let Some(op) = node.op_as::<Resize>() else { continue };
        let (Some(from), Some(at)) = (node.inputs.first(), op.optional_scales_input) else { continue };
        let sizes = model.outlet_fact(*from)?.shape.as_concrete();
        let scales = node.inputs.get(at).and_then(|scales| model.node(scales.node).op_as::<Const>());
        let (CoordTransformer::AlignCorners, Some(sizes), Some(scales)) = (&op.coord_transformer, sizes, scales) else {
            continue;
        };
        let before = scales.val().cast_to::<f32>()?;
        let before = before.try_as_plain_ram()?.as_slice::<f32>()?;
        let after: Vec<f32> = sizes.iter().zip(before).map(|(size, scale)| whole(*size, *scale)).collect();
        if before.len() != sizes.len() || before == after {
            continue;
        }
        let mut patch = TypedModelPatch::new("scales of whole sizes");
        let mut inputs = patch.taps(model, &node.inputs)?;
        let scales = patch.add_const(format!("{}.whole", node.name), tensor1(&after))?;
        if let Some(input) = inputs.get_mut(at) {
            *input = scales;
        }
        let resized = patch.wire_node(&node.name, op.clone(), &inputs)?;
        for output in &resized {
            patch.shunt_outside(model, node.id.into(), *output)?;
        }
        patch.apply(model)?;
    }
    Ok(())
}

/// The scale that gives a whole size, the one that the given scale is rounded down to.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as tract works out the size")]
fn whole(size: usize, scale: f32) -> f32 {
    let out = (size as f32 * scale) as usize;
    let whole = out as f32 / size.max(1) as f32;
    if (size as f32 * whole) as usize == out { whole } else { whole.next_up() }
}
