//! Between fieldpost's tensors and tract's. One copy each way; f32, f64 and integers are copied as memory.

use crate::runtime::error::{Cause, InferError};
use fieldpost_shared::bundle::{Dtype, Tensor};
use tract_onnx::prelude as tract;
use tract_onnx::prelude::{DatumType, TValue, TractResult};

// Tensors travel in little-endian order and are copied as memory here.
const _: () = assert!(cfg!(target_endian = "little"), "the runtime is written for little-endian processors");

/// tract's type for ours.
pub(super) const fn datum_type(dtype: Dtype) -> DatumType {
    match dtype {
        Dtype::Bool => DatumType::Bool,
        Dtype::Uint8 => DatumType::U8,
        Dtype::Int8 => DatumType::I8,
        Dtype::Int16 => DatumType::I16,
        Dtype::Int32 => DatumType::I32,
        Dtype::Int64 => DatumType::I64,
        Dtype::Fp32 => DatumType::F32,
        Dtype::Fp64 => DatumType::F64,
        Dtype::Uint16 => DatumType::U16,
        Dtype::Uint32 => DatumType::U32,
        Dtype::Uint64 => DatumType::U64,
        Dtype::Fp16 => DatumType::F16,
        Dtype::Bytes => DatumType::String,
    }
}

/// Our type for tract's. Sizes of axes (`TDim`) are ONNX's int64; a quantised type is the integer that holds it.
pub(super) fn dtype(datum_type: DatumType) -> Option<Dtype> {
    Some(match datum_type.unquantized() {
        DatumType::Bool => Dtype::Bool,
        DatumType::U8 => Dtype::Uint8,
        DatumType::I8 => Dtype::Int8,
        DatumType::I16 => Dtype::Int16,
        DatumType::I32 => Dtype::Int32,
        DatumType::I64 | DatumType::TDim => Dtype::Int64,
        DatumType::F32 => Dtype::Fp32,
        DatumType::F64 => Dtype::Fp64,
        DatumType::U16 => Dtype::Uint16,
        DatumType::U32 => Dtype::Uint32,
        DatumType::U64 => Dtype::Uint64,
        DatumType::F16 => Dtype::Fp16,
        DatumType::String => Dtype::Bytes,
        _ => return None,
    })
}

/// Copies a whole tensor into memory aligned as tract wants it. A BOOL byte that is not 0 is true; texts are UTF-8, as
/// checked before.
pub(super) fn to_tract(tensor: &Tensor) -> TractResult<TValue> {
    let Tensor { shape, data, dtype } = tensor;
    let copied = match dtype {
        Dtype::Bool => {
            let values: Vec<bool> = data.iter().map(|byte| *byte != 0).collect();
            tract::Tensor::from_shape(shape, &values)
        }
        Dtype::Uint8 => tract::Tensor::from_shape(shape, data),
        Dtype::Bytes => {
            let texts: Vec<String> = tensor.texts().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
            Ok(tract::Tensor::from(tract::tract_ndarray::ArrayD::from_shape_vec(shape.as_slice(), texts)?))
        }
        _ => {
            // The safe way: tract clears the memory before it lends it for writing.
            let mut copy = tract::Tensor::zero_dt(datum_type(*dtype), shape)?;
            copy.as_bytes_mut().copy_from_slice(data);
            Ok(copy)
        }
    };
    Ok(TValue::from(copied?))
}

/// Copies an output out of tract, as the type that the contract says.
pub(super) fn from_tract(name: &str, expected: Dtype, value: &TValue) -> Result<Tensor, InferError> {
    let wrong = |found: String| InferError::Output { output: name.to_owned(), expected: expected.to_string(), found };
    let found = value.datum_type();
    if dtype(found) != Some(expected) {
        return Err(wrong(format!("{found:?}")));
    }
    let run = |source: tract::TractError| InferError::Run(Cause::from(source));
    let cast = if found == DatumType::TDim { Some(value.cast_to_dt(DatumType::I64).map_err(run)?) } else { None };
    let tensor: &tract::Tensor = cast.as_deref().unwrap_or(value);
    let plain = tensor.try_as_plain_ram().map_err(run)?;
    if expected == Dtype::Bytes {
        let texts = plain.as_slice::<String>().map_err(run)?;
        return Tensor::from_texts(tensor.shape().to_vec(), texts).map_err(|error| wrong(error.to_string()));
    }
    Tensor::new(expected, tensor.shape().to_vec(), plain.as_bytes().to_vec()).map_err(|error| wrong(error.to_string()))
}
