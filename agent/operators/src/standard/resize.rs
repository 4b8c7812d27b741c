//! `Upsample` (versions 7 and 9), which newer graphs write as `Resize`, and `Resize` of version 10, which has no attribute
//! for how it rounds and takes the place before; tract rounds to the nearest.

use super::{Built, tracts};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};
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
