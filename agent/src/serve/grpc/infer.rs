//! ModelInferRequest and ModelInferResponse (OIP v2 §GRPC Inference), with raw or typed contents.
//!
//! An answer has the form of its question: `raw_output_contents` where that had `raw_input_contents`, typed contents
//! else; FP16, which has no typed form, makes all of an answer raw.

use super::super::error::ApiError;
use super::super::oip::infer::Written;
use super::super::oip::messages::{InferOutputTensor, InferTensorContents, ModelInferResponse, RAW_OUTPUT_CONTENTS};
use super::super::oip::tensors::{self, Given, InferRequest, MAX_AXES, Named, Sent, Values, Wanted};
use super::parameter::Parameter;
use super::wire::{Fields, Malformed, Value, put_bytes, varint};
use fieldpost_shared::bundle::tensor::{element_count, push_text};
use fieldpost_shared::bundle::{Dtype, Manifest, Tensor};
use fieldpost_shared::id::ReleaseRef;
use prost::Message as _;
use std::borrow::Cow;
use std::num::NonZeroUsize;

/// Most inputs, outputs and raw contents of a request: what is kept of each takes more memory than its bytes.
const MAX_TENSORS: usize = 1_024;

impl From<Malformed> for ApiError {
    fn from(_: Malformed) -> Self {
        Self::bad_request("malformed inference request: these bytes are no ModelInferRequest")
    }
}

/// Reads a request for a model.
///
/// # Errors
/// 400 with the tensor and the reason.
pub(crate) fn parse(message: &[u8], manifest: &Manifest) -> Result<InferRequest, ApiError> {
    let (mut id, mut timeout) = (None, None);
    let (mut inputs, mut outputs, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for field in Fields::of(message) {
        let list = match field? {
            (3, Value::Bytes(bytes)) => {
                id = Some(text(bytes)?.to_owned()).filter(|id| !id.is_empty());
                continue;
            }
            (4, Value::Bytes(entry)) => {
                let parameter = Parameter::of(entry)?;
                match parameter.key {
                    b"timeout" => timeout = tensors::timeout(parameter.whole()?),
                    b"sequence_id" | b"sequence_start" | b"sequence_end" if parameter.is_set() => {
                        return Err(tensors::sequence());
                    }
                    _ => {}
                }
                continue;
            }
            (5, Value::Bytes(bytes)) => (&mut inputs, bytes),
            (6, Value::Bytes(bytes)) => (&mut outputs, bytes),
            (7, Value::Bytes(bytes)) => (&mut raw, bytes),
            (3..=7, _) => return Err(Malformed.into()),
            _ => continue,
        };
        if list.0.len() == MAX_TENSORS {
            return Err(ApiError::bad_request(format!("more than {MAX_TENSORS} inputs, outputs or contents")));
        }
        list.0.push(list.1);
    }
    if !raw.is_empty() && raw.len() != inputs.len() {
        let (contents, inputs) = (raw.len(), inputs.len());
        return Err(ApiError::bad_request(format!("{contents} `raw_input_contents` for {inputs} inputs")));
    }
    let is_raw = !raw.is_empty();
    let mut raw = raw.into_iter();
    let sent = inputs.into_iter().map(|input| sent(input, raw.next())).collect::<Result<Vec<_>, _>>()?;
    let inputs = tensors::inputs(manifest, &sent)?;
    let named = outputs.into_iter().map(|output| named(output, is_raw)).collect::<Result<Vec<_>, _>>()?;
    let mut wanted = tensors::wanted(manifest, named, is_raw)?;
    let has_no_typed_form = |wanted: &Wanted| {
        let dtype = manifest.outputs.get(wanted.output).map(|spec| spec.dtype);
        wanted.classes.is_none() && dtype == Some(Dtype::Fp16)
    };
    if wanted.iter().any(has_no_typed_form) {
        wanted.iter_mut().for_each(|wanted| wanted.binary = true);
    }
    Ok(InferRequest { id, timeout, inputs, wanted })
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(bytes).map_err(|_not_text| Malformed)
}

fn sent<'a>(message: &'a [u8], raw: Option<&'a [u8]>) -> Result<Sent<'a>, ApiError> {
    let (mut name, mut datatype, mut shape, mut contents) = ("", "", Vec::new(), Vec::new());
    let mut shared_memory = false;
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(bytes)) => datatype = text(bytes)?,
            (3, value) => push_axes(&mut shape, value)?,
            (4, Value::Bytes(entry)) => shared_memory |= Parameter::of(entry)?.key == b"shared_memory_region",
            (5, Value::Bytes(bytes)) if contents.len() < MAX_TENSORS => contents.push(bytes),
            (1 | 2 | 4 | 5, _) => return Err(Malformed.into()),
            _ => {}
        }
    }
    let refuse = |text: &str| Err(ApiError::bad_request(format!("input `{}`: {text}", tensors::short(name))));
    if shared_memory {
        return refuse("shared memory is not served");
    }
    let values = match raw {
        Some(_) if !contents.is_empty() => return refuse("it has both `contents` and `raw_input_contents`"),
        Some(raw) => Values::Raw(raw),
        None => Values::Typed(typed(datatype, &shape, &contents)?),
    };
    Ok(Sent { name: Cow::from(name), datatype: Cow::from(datatype), shape, values })
}

/// Appends one axis, or a packed list of them.
fn push_axes(shape: &mut Vec<i64>, value: Value<'_>) -> Result<(), ApiError> {
    let mut push = |axis: u64| {
        if shape.len() == MAX_AXES {
            return Err(ApiError::bad_request(format!("a shape of more than {MAX_AXES} axes")));
        }
        shape.push(axis.cast_signed());
        Ok(())
    };
    match value {
        Value::Varint(axis) => push(axis),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                push(varint(&mut packed).ok_or(Malformed)?)?;
            }
            Ok(())
        }
        _ => Err(Malformed.into()),
    }
}

/// An output that is asked for, with what its parameters say.
fn named(message: &[u8], binary: bool) -> Result<Named<'_>, ApiError> {
    let (mut name, mut classes, mut shared_memory) = ("", None, false);
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(entry)) => match Parameter::of(entry)? {
                Parameter { key: b"shared_memory_region", .. } => shared_memory = true,
                parameter @ Parameter { key: b"classification", .. } => {
                    classes = NonZeroUsize::new(usize::try_from(parameter.whole()?).unwrap_or(usize::MAX));
                }
                _ => {}
            },
            (1 | 2, _) => return Err(Malformed.into()),
            _ => {}
        }
    }
    if shared_memory {
        let name = tensors::short(name);
        return Err(ApiError::bad_request(format!("output `{name}`: shared memory is not served")));
    }
    Ok(Named { name, binary, classes })
}

/// The elements of typed contents in raw form; where type or shape are wrong none, for the rules to say so.
fn typed(datatype: &str, shape: &[i64], contents: &[&[u8]]) -> Result<Result<Vec<u8>, String>, Malformed> {
    let Ok(dtype) = datatype.parse::<Dtype>() else { return Ok(Ok(Vec::new())) };
    let axes: Option<Vec<usize>> = shape.iter().map(|axis| usize::try_from(*axis).ok()).collect();
    let Some(most) = axes.and_then(|axes| element_count(&axes).ok()) else { return Ok(Ok(Vec::new())) };
    let (number, name) = match dtype {
        Dtype::Bool => (1, "bool_contents"),
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 => (2, "int_contents"),
        Dtype::Int64 => (3, "int64_contents"),
        Dtype::Uint8 | Dtype::Uint16 | Dtype::Uint32 => (4, "uint_contents"),
        Dtype::Uint64 => (5, "uint64_contents"),
        Dtype::Fp32 => (6, "fp32_contents"),
        Dtype::Fp64 => (7, "fp64_contents"),
        Dtype::Bytes => (8, "bytes_contents"),
        Dtype::Fp16 => return Ok(Err("FP16 has no typed contents: send `raw_input_contents`".to_owned())),
    };
    let mut elements = Elements { dtype, most, count: 0, data: Vec::new() };
    for field in contents.iter().flat_map(|message| Fields::of(message)) {
        match field? {
            (other, _) if other != number => {
                return Ok(Err(format!("{dtype} is sent in `{name}`, the request has other contents")));
            }
            (_, value) => {
                if let Err(reason) = elements.read(value)? {
                    return Ok(Err(reason));
                }
            }
        }
    }
    if elements.count == most {
        return Ok(Ok(elements.data));
    }
    Ok(Err(format!("shape {shape:?} has {most} elements, `{name}` {}", elements.count)))
}

/// Elements on their way into raw form.
struct Elements {
    dtype: Dtype,
    most: usize,
    count: usize,
    data: Vec<u8>,
}

impl Elements {
    /// One field: an element, or a packed list of them.
    fn read(&mut self, value: Value<'_>) -> Result<Result<(), String>, Malformed> {
        match (self.dtype, value) {
            (Dtype::Bytes, Value::Bytes(text)) => Ok(self.put(|data| push_text(data, text).is_some())),
            (Dtype::Fp32, Value::Fixed32(bytes)) => Ok(self.put_bytes(&bytes)),
            (Dtype::Fp64, Value::Fixed64(bytes)) => Ok(self.put_bytes(&bytes)),
            (Dtype::Fp32 | Dtype::Fp64, Value::Bytes(packed)) => {
                let chunks = packed.chunks_exact(self.dtype.size_bytes());
                if !chunks.remainder().is_empty() {
                    return Err(Malformed);
                }
                for chunk in chunks {
                    if let Err(reason) = self.put_bytes(chunk) {
                        return Ok(Err(reason));
                    }
                }
                Ok(Ok(()))
            }
            (Dtype::Bytes | Dtype::Fp32 | Dtype::Fp64, _) => Err(Malformed),
            (_, Value::Varint(number)) => Ok(self.put_number(number)),
            (_, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let number = varint(&mut packed).ok_or(Malformed)?;
                    if let Err(reason) = self.put_number(number) {
                        return Ok(Err(reason));
                    }
                }
                Ok(Ok(()))
            }
            _ => Err(Malformed),
        }
    }

    fn put(&mut self, push: impl FnOnce(&mut Vec<u8>) -> bool) -> Result<(), String> {
        if self.count == self.most {
            return Err(format!("more than {} elements, which the shape has", self.most));
        }
        self.count += 1;
        if push(&mut self.data) { Ok(()) } else { Err(format!("an element does not fit {}", self.dtype)) }
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.put(|data| {
            data.extend_from_slice(bytes);
            true
        })
    }

    /// A varint as the type reads it: signed ones are in two's complement, of 64 bits.
    fn put_number(&mut self, number: u64) -> Result<(), String> {
        fn put<const N: usize>(data: &mut Vec<u8>, bytes: Option<[u8; N]>) -> bool {
            bytes.map(|bytes| data.extend_from_slice(&bytes)).is_some()
        }
        let (dtype, signed) = (self.dtype, number.cast_signed());
        self.put(|data| match dtype {
            Dtype::Bool => put(data, Some([u8::from(number != 0)])),
            Dtype::Int8 => put(data, i8::try_from(signed).ok().map(i8::to_le_bytes)),
            Dtype::Int16 => put(data, i16::try_from(signed).ok().map(i16::to_le_bytes)),
            Dtype::Int32 => put(data, i32::try_from(signed).ok().map(i32::to_le_bytes)),
            Dtype::Uint8 => put(data, u8::try_from(number).ok().map(u8::to_le_bytes)),
            Dtype::Uint16 => put(data, u16::try_from(number).ok().map(u16::to_le_bytes)),
            Dtype::Uint32 => put(data, u32::try_from(number).ok().map(u32::to_le_bytes)),
            _ => put(data, Some(number.to_le_bytes())),
        })
    }
}

/// The answer's message.
pub(crate) fn write(
    release: &ReleaseRef,
    manifest: &Manifest,
    id: &str,
    wanted: &[Wanted],
    outputs: &[Tensor],
) -> Written {
    let given = tensors::given(manifest, wanted, outputs);
    let output = |Given { name, tensor, binary }: &Given<'_>| InferOutputTensor {
        name: (*name).to_owned(),
        datatype: tensor.dtype.to_string(),
        shape: tensor.shape.iter().map(|axis| i64::try_from(*axis).unwrap_or(i64::MAX)).collect(),
        contents: (!*binary).then(|| contents(tensor)),
    };
    let response = ModelInferResponse {
        model_name: release.model.to_string(),
        model_version: release.version.to_string(),
        id: id.to_owned(),
        outputs: given.iter().map(output).collect(),
    };
    let raw: usize = given.iter().map(|given| given.tensor.data.len().saturating_add(16)).sum();
    let mut bytes = response.encode_to_vec();
    bytes.reserve_exact(raw);
    for raw in given.iter().filter(|given| given.binary) {
        put_bytes(&mut bytes, RAW_OUTPUT_CONTENTS, &raw.tensor.data);
    }
    Written::message(bytes)
}

fn contents(tensor: &Tensor) -> InferTensorContents {
    fn all<T, const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        data.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
    }
    let (mut contents, data) = (InferTensorContents::default(), tensor.data.as_slice());
    match tensor.dtype {
        Dtype::Bool => contents.bool_contents = data.iter().map(|byte| *byte != 0).collect(),
        Dtype::Int8 => contents.int_contents = all(data, |b| i8::from_le_bytes(b).into()),
        Dtype::Int16 => contents.int_contents = all(data, |b| i16::from_le_bytes(b).into()),
        Dtype::Int32 => contents.int_contents = all(data, i32::from_le_bytes),
        Dtype::Int64 => contents.int64_contents = all(data, i64::from_le_bytes),
        Dtype::Uint8 => contents.uint_contents = all(data, |b| u8::from_le_bytes(b).into()),
        Dtype::Uint16 => contents.uint_contents = all(data, |b| u16::from_le_bytes(b).into()),
        Dtype::Uint32 => contents.uint_contents = all(data, u32::from_le_bytes),
        Dtype::Uint64 => contents.uint64_contents = all(data, u64::from_le_bytes),
        // An answer with such an output is raw.
        Dtype::Fp16 => {}
        Dtype::Fp32 => contents.fp32_contents = all(data, f32::from_le_bytes),
        Dtype::Fp64 => contents.fp64_contents = all(data, f64::from_le_bytes),
        Dtype::Bytes => contents.bytes_contents = tensor.texts().map(<[u8]>::to_vec).collect(),
    }
    contents
}

#[cfg(test)]
#[path = "infer_tests.rs"]
mod tests;
