//! OIP v2 §Inference over HTTP: JSON, the binary tensor data extension, and the raw binary request.
//!
//! A body is a JSON text, and behind it, where `Inference-Header-Content-Length` says how long that is, the elements of
//! each input with a `binary_data_size`, in order, without gaps. A length of 0 is a body that is the one input's elements.

use super::super::coding::Coding;
use super::super::error::ApiError;
use super::json::Elements;
use super::tensors::{self, Given, InferRequest, MAX_AXES, Named, Sent, Values, Wanted};
use super::words;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use fieldpost_shared::bundle::{Dim, Dtype, Manifest, Tensor, TensorSpec};
use fieldpost_shared::id::ReleaseRef;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;

/// The header that says how many bytes of a body are JSON.
pub(crate) const JSON_BYTES_HEADER: &str = "inference-header-content-length";

#[derive(Deserialize)]
struct RequestJson<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow, default)]
    parameters: Option<RequestParameters<'a>>,
    #[serde(borrow)]
    inputs: Vec<InputJson<'a>>,
    #[serde(default, borrow)]
    outputs: Option<Vec<OutputJson<'a>>>,
}

#[derive(Deserialize, Default)]
struct RequestParameters<'a> {
    #[serde(default)]
    binary_data_output: bool,
    #[serde(default)]
    timeout: Option<u64>,
    /// A number or a text.
    #[serde(borrow, default)]
    sequence_id: Option<&'a RawValue>,
    #[serde(default)]
    sequence_start: bool,
    #[serde(default)]
    sequence_end: bool,
}

impl RequestParameters<'_> {
    /// Whether the request says that it is part of a sequence: an id of 0 or of no text says that it is not.
    fn is_of_sequence(&self) -> bool {
        let id = self.sequence_id.is_some_and(|id| !matches!(id.get(), "0" | "\"\"" | "null"));
        id || self.sequence_start || self.sequence_end
    }
}

#[derive(Deserialize)]
struct InputJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Shape,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<InputParameters>,
    /// Read when the type is known, which may come after it.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct InputParameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
    #[serde(default)]
    shared_memory_region: Option<de::IgnoredAny>,
}

#[derive(Deserialize)]
struct OutputJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<OutputParameters>,
}

#[derive(Deserialize, Default)]
struct OutputParameters {
    #[serde(default)]
    binary_data: Option<bool>,
    #[serde(default)]
    classification: usize,
    #[serde(default)]
    shared_memory_region: Option<de::IgnoredAny>,
}

struct Shape(Vec<i64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Axes;
        impl<'de> Visitor<'de> for Axes {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shape: a list of whole numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut axes = Vec::new();
                while let Some(axis) = seq.next_element()? {
                    if axes.len() == MAX_AXES {
                        return Err(de::Error::custom(format!("a shape of more than {MAX_AXES} axes")));
                    }
                    axes.push(axis);
                }
                Ok(Shape(axes))
            }
        }
        deserializer.deserialize_seq(Axes)
    }
}

/// What the header of a request says.
///
/// # Errors
/// 400 when it is no number.
pub(crate) fn json_bytes(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(JSON_BYTES_HEADER) else { return Ok(None) };
    let wrong = || ApiError::bad_request(format!("`{JSON_BYTES_HEADER}` must be a whole number of bytes"));
    value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(wrong).map(Some)
}

/// Reads a request for a model; `json_bytes` is what the header says. Fields and parameters that are not known are passed
/// over, as the protocol wants.
///
/// # Errors
/// 400 with the tensor and the reason.
pub(crate) fn parse(body: &[u8], json_bytes: Option<usize>, manifest: &Manifest) -> Result<InferRequest, ApiError> {
    if json_bytes == Some(0) {
        return raw_request(body, manifest);
    }
    let (json, mut blobs) = body.split_at_checked(json_bytes.unwrap_or(body.len())).ok_or_else(|| {
        let (stated, found) = (json_bytes.unwrap_or_default(), body.len());
        ApiError::bad_request(format!("`{JSON_BYTES_HEADER}` says {stated} bytes, the body has {found}"))
    })?;
    let malformed = |error| ApiError::bad_request(format!("malformed inference request: {error}"));
    let with_words;
    let request: RequestJson<'_> = match serde_json::from_slice(json) {
        Ok(request) => request,
        Err(error) => {
            with_words = words::quoted(json).ok_or_else(|| malformed(error))?;
            serde_json::from_slice(&with_words).map_err(malformed)?
        }
    };
    let parameters = request.parameters.unwrap_or_default();
    if parameters.is_of_sequence() {
        return Err(tensors::sequence());
    }
    let sent = request.inputs.into_iter().map(|input| sent(input, json_bytes.is_some(), &mut blobs));
    let sent = sent.collect::<Result<Vec<_>, _>>()?;
    if !blobs.is_empty() {
        return Err(ApiError::bad_request(format!("{} bytes are left behind the last input's", blobs.len())));
    }
    let inputs = tensors::inputs(manifest, &sent)?;
    let binary = parameters.binary_data_output;
    let outputs = request.outputs.unwrap_or_default();
    let named = outputs.iter().map(|output| named(output, binary)).collect::<Result<Vec<_>, _>>()?;
    let wanted = tensors::wanted(manifest, named, binary)?;
    let timeout = parameters.timeout.and_then(tensors::timeout);
    Ok(InferRequest { id: request.id, timeout, inputs, wanted })
}

fn sent<'a>(input: InputJson<'a>, has_blobs: bool, blobs: &mut &'a [u8]) -> Result<Sent<'a>, ApiError> {
    let refuse = |text: String| Err(ApiError::bad_request(format!("input `{}`: {text}", tensors::short(&input.name))));
    let parameters = input.parameters.unwrap_or_default();
    if parameters.shared_memory_region.is_some() {
        return refuse("shared memory is not served".to_owned());
    }
    let values = match (parameters.binary_data_size, input.data) {
        (None, None) => Values::None,
        (None, Some(data)) => Values::Json(data),
        (Some(_), Some(_)) => return refuse("it has both `data` and a `binary_data_size`".to_owned()),
        (Some(_), None) if !has_blobs => {
            return refuse(format!("it has a `binary_data_size`, the request no `{JSON_BYTES_HEADER}`"));
        }
        (Some(bytes), None) => match blobs.split_at_checked(bytes) {
            Some((raw, rest)) => {
                *blobs = rest;
                Values::Raw(raw)
            }
            None => return refuse(format!("its `binary_data_size` is {bytes}, {} bytes are left", blobs.len())),
        },
    };
    Ok(Sent { name: input.name, datatype: input.datatype, shape: input.shape.0, values })
}

/// An output with what its parameters say; `binary` is what those of the request say.
fn named<'a>(output: &'a OutputJson<'_>, binary: bool) -> Result<Named<'a>, ApiError> {
    let name = output.name.as_ref();
    let Some(parameters) = &output.parameters else { return Ok(Named { name, binary, classes: None }) };
    if parameters.shared_memory_region.is_some() {
        let name = tensors::short(name);
        return Err(ApiError::bad_request(format!("output `{name}`: shared memory is not served")));
    }
    let classes = NonZeroUsize::new(parameters.classification);
    Ok(Named { name, binary: parameters.binary_data.unwrap_or(binary), classes })
}

/// A body that is the elements of the one input: the size says how large its one open axis is. A text comes without a
/// length. It is answered in raw form.
fn raw_request(body: &[u8], manifest: &Manifest) -> Result<InferRequest, ApiError> {
    let [spec] = manifest.inputs.as_slice() else {
        let message = format!("a raw request is for models with one input; this one has {}", manifest.inputs.len());
        return Err(ApiError::bad_request(message));
    };
    let shape = raw_shape(spec, body.len())
        .map_err(|reason| ApiError::bad_request(format!("input `{}`: {reason}", spec.name)))?;
    let values = if spec.dtype == Dtype::Bytes {
        let mut data = Vec::with_capacity(body.len().saturating_add(4));
        let whole = fieldpost_shared::bundle::tensor::push_text(&mut data, body);
        Values::Typed(whole.map(|()| data).ok_or_else(|| "a text of 4 GiB".to_owned()))
    } else {
        Values::Raw(body)
    };
    let (name, datatype) = (Cow::from(&spec.name), Cow::from(spec.dtype.as_str()));
    let inputs = tensors::inputs(manifest, &[Sent { name, datatype, shape, values }])?;
    Ok(InferRequest { id: None, timeout: None, inputs, wanted: tensors::wanted(manifest, [], true)? })
}

/// The shape of an input of so many bytes. A first axis that is open besides another is a batch of one.
fn raw_shape(spec: &TensorSpec, bytes: usize) -> Result<Vec<i64>, String> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => i64::try_from(*size).ok(),
        Dim::Symbol(_) => None,
    };
    let mut axes: Vec<Option<i64>> = spec.shape.iter().map(size).collect();
    let open = axes.iter().filter(|axis| axis.is_none()).count();
    if let (2.., Some(batch)) = (open, axes.first_mut()) {
        batch.get_or_insert(1);
    }
    let known = axes.iter().flatten().try_fold(1_i64, |product, axis| product.checked_mul(*axis));
    let count = if spec.dtype == Dtype::Bytes { 1 } else { bytes / spec.dtype.size_bytes() };
    let rest = known.filter(|known| *known > 0).map(|known| i64::try_from(count).unwrap_or(i64::MAX) / known);
    let unclear = || format!("its shape {} does not follow from {bytes} bytes: send it with JSON", spec.shape_text());
    if axes.iter().filter(|axis| axis.is_none()).count() > 1 {
        return Err(unclear());
    }
    axes.into_iter().map(|axis| axis.or(rest).ok_or_else(unclear)).collect()
}

#[derive(Serialize)]
struct ResponseJson<'a> {
    model_name: &'a str,
    model_version: String,
    id: &'a str,
    outputs: Vec<TensorJson<'a>>,
}

/// One output as the protocol writes it.
#[derive(Serialize)]
pub(crate) struct TensorJson<'a> {
    name: &'a str,
    shape: &'a [usize],
    datatype: Dtype,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

impl<'a> TensorJson<'a> {
    /// An output with its elements.
    ///
    /// # Errors
    /// When JSON cannot carry them.
    pub(crate) fn whole(name: &'a str, tensor: &'a Tensor) -> Result<Self, ApiError> {
        let data = Some(Elements::of(name, tensor)?);
        Ok(Self { name, shape: &tensor.shape, datatype: tensor.dtype, parameters: None, data })
    }

    fn of(given: &'a Given<'_>) -> Result<Self, ApiError> {
        let Given { name, tensor, binary } = given;
        if *binary { Ok(Self::without_data(name, tensor)) } else { Self::whole(name, tensor) }
    }

    fn without_data(name: &'a str, tensor: &'a Tensor) -> Self {
        let parameters = Some(BinarySize { binary_data_size: tensor.data.len() });
        Self { name, shape: &tensor.shape, datatype: tensor.dtype, parameters, data: None }
    }
}

/// The body of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    /// How many of them are JSON, where others follow; before they were packed.
    pub(crate) json_bytes: Option<usize>,
    /// How they are packed.
    pub(crate) coding: Option<Coding>,
}

/// The answer's body.
///
/// # Errors
/// 400 when an output is asked for in a form that cannot carry it.
pub(crate) fn write(
    release: &ReleaseRef,
    manifest: &Manifest,
    id: &str,
    wanted: &[Wanted],
    outputs: &[Tensor],
) -> Result<Written, ApiError> {
    let given = tensors::given(manifest, wanted, outputs);
    let response = ResponseJson {
        model_name: release.model.as_str(),
        model_version: release.version.to_string(),
        id,
        outputs: given.iter().map(TensorJson::of).collect::<Result<_, _>>()?,
    };
    // Plain data with text keys into memory: serde_json has nothing to fail on.
    let mut bytes = serde_json::to_vec(&response).unwrap_or_default();
    let json_bytes = wanted.iter().any(|wanted| wanted.binary).then_some(bytes.len());
    for raw in given.iter().filter(|given| given.binary) {
        bytes.extend_from_slice(&raw.tensor.data);
    }
    Ok(Written { json_bytes, ..Written::json(bytes) })
}

impl Written {
    /// A body that is JSON.
    pub(crate) fn json(bytes: Vec<u8>) -> Self {
        Self { bytes, json_bytes: None, coding: None }
    }

    /// A message of gRPC.
    pub(crate) fn message(bytes: Vec<u8>) -> Self {
        Self::json(bytes)
    }

    /// Packed, where its caller would have that and it is worth it. Blocking.
    pub(crate) fn packed(self, coding: Option<Coding>) -> Self {
        match coding.and_then(|coding| Some((coding, coding.pack(&self.bytes, self.json_bytes.is_none())?))) {
            Some((coding, bytes)) => Self { bytes, coding: Some(coding), ..self },
            None => self,
        }
    }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        let content_type = if self.json_bytes.is_none() { "application/json" } else { "application/octet-stream" };
        let mut response =
            ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], self.bytes).into_response();
        if let Some(bytes) = self.json_bytes {
            response.headers_mut().insert(JSON_BYTES_HEADER, bytes.into());
        }
        if let Some(coding) = self.coding {
            response.headers_mut().insert(header::CONTENT_ENCODING, coding.header());
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        response
    }
}

#[cfg(test)]
#[path = "infer_tests.rs"]
mod tests;
