//! Weights of 4 bits (`INT4`, `UINT4`) as those of 8 bits, which stand for the same numbers: tract has no type for them. They
//! are read by `DequantizeLinear`, which makes real numbers of either. Weights in files beside the graph stay as they are.

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, TensorProto};

pub(super) fn as_bytes(graph: &mut GraphProto) {
    let constants = graph.node.iter_mut().flat_map(|node| &mut node.attribute).filter_map(|value| value.t.as_mut());
    graph.initializer.iter_mut().chain(constants).for_each(unpack);
}

fn unpack(tensor: &mut TensorProto) {
    let signed = tensor.data_type == DataType::Int4 as i32;
    let external = tensor.data_location == Some(DataLocation::External as i32);
    if external || !(signed || tensor.data_type == DataType::Uint4 as i32) {
        return;
    }
    let count = tensor.dims.iter().try_fold(1_usize, |count, size| count.checked_mul(usize::try_from(*size).ok()?));
    // The first of two is the lower half.
    let packed: Vec<u8> = if tensor.raw_data.is_empty() {
        tensor.int32_data.iter().map(|pair| pair.to_le_bytes()[0]).collect()
    } else {
        std::mem::take(&mut tensor.raw_data)
    };
    let Some(count) = count.filter(|count| count.div_ceil(2) == packed.len()) else { return };
    let halves = packed.iter().flat_map(|pair| [pair & 0xf, pair >> 4]).take(count);
    // The sign is the upper bit of four.
    tensor.raw_data = halves.map(|half| if signed && half > 7 { half | 0xf0 } else { half }).collect();
    tensor.int32_data.clear();
    tensor.data_type = if signed { DataType::Int8 } else { DataType::Uint8 }.into();
}
