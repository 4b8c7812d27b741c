//! What holds for an inference request in each of its forms (JSON, binary, Protocol Buffers): the rules about names,
//! types, shapes and sizes are here, and nowhere else.

use super::super::error::ApiError;
use super::classification;
use super::json::{Elementals, Elementwise};
use fieldpost_shared::bundle::tensor::element_count;
use fieldpost_shared::bundle::{Dtype, Manifest, Tensor, TensorSpec};
use serde::de::DeserializeSeed;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Most axes of a shape: a shape takes more memory than its text.
pub(crate) const MAX_AXES: usize = 64;

/// The request parameter `timeout` (Triton §Schedule Policy Extension), microseconds; 0 is as if it were not there.
pub(crate) fn timeout(us: u64) -> Option<Duration> {
    (us > 0).then(|| Duration::from_micros(us))
}

/// What a request gets that is part of a sequence (Triton §Sequence Extension): answered as if it stood alone it would be
/// answered wrongly.
pub(crate) fn sequence() -> ApiError {
    ApiError::bad_request("sequences are not served: no model keeps a state between requests; send it as an input")
}

/// One input as a request has it.
#[derive(Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) datatype: Cow<'a, str>,
    pub(crate) shape: Vec<i64>,
    pub(crate) values: Values<'a>,
}

/// Where the elements of an input are.
#[derive(Debug)]
pub(crate) enum Values<'a> {
    /// `data`, flat or nested.
    Json(&'a RawValue),
    /// The protocol's raw form: little-endian, row-major; texts each behind their length.
    Raw(&'a [u8]),
    /// Elements that were brought into the raw form of their type, or why not.
    Typed(Result<Vec<u8>, String>),
    /// Nowhere.
    None,
}

/// An output as a request names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    /// Whether its elements are to travel in raw form.
    pub(crate) binary: bool,
    /// How many of its best classes are wanted in its stead.
    pub(crate) classes: Option<NonZeroUsize>,
}

/// An output that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its place in the manifest.
    pub(crate) output: usize,
    /// Whether its elements travel in raw form.
    pub(crate) binary: bool,
    /// How many of its best classes are answered in its stead.
    pub(crate) classes: Option<NonZeroUsize>,
}

/// An output as it is answered.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) name: &'a str,
    pub(crate) tensor: Cow<'a, Tensor>,
    pub(crate) binary: bool,
}

/// A request, checked as far as names, types and sizes go; whether the shapes fit each other, the model says.
#[derive(Debug)]
pub(crate) struct InferRequest {
    /// The caller's id.
    pub(crate) id: Option<String>,
    /// How long the caller gives it, where it says so; never zero.
    pub(crate) timeout: Option<Duration>,
    /// In the manifest's order.
    pub(crate) inputs: Vec<Tensor>,
    /// What to answer, in this order.
    pub(crate) wanted: Vec<Wanted>,
}

/// The model's inputs, in its order.
///
/// # Errors
/// 400 with the tensor and the reason.
pub(crate) fn inputs(manifest: &Manifest, sent: &[Sent<'_>]) -> Result<Vec<Tensor>, ApiError> {
    let refuse = |text: String| Err(ApiError::bad_request(text));
    let inputs = manifest.inputs.iter().map(|spec| input(spec, sent)).collect::<Result<Vec<_>, _>>()?;
    if let Some(stranger) = sent.iter().find(|sent| manifest.inputs.iter().all(|spec| spec.name != sent.name)) {
        let (name, names) = (short(&stranger.name), names(&manifest.inputs));
        return refuse(format!("the model has no input `{name}`; it has {names}"));
    }
    if sent.len() > inputs.len() {
        return refuse("an input is there twice".to_owned());
    }
    Ok(inputs)
}

fn input(spec: &TensorSpec, sent: &[Sent<'_>]) -> Result<Tensor, ApiError> {
    let refuse = |text: String| ApiError::bad_request(format!("input `{}`: {text}", spec.name));
    let found = sent.iter().find(|input| input.name == spec.name).ok_or_else(|| refuse("it is missing".to_owned()))?;
    let dtype: Dtype = found.datatype.parse().map_err(|error| refuse(format!("{error}")))?;
    if dtype != spec.dtype {
        return Err(refuse(format!("its datatype is {}, the request has {dtype}", spec.dtype)));
    }
    let axis = |axis: &i64| usize::try_from(*axis).map_err(|_negative| *axis);
    let shape: Vec<usize> = found
        .shape
        .iter()
        .map(axis)
        .collect::<Result<_, _>>()
        .map_err(|axis| refuse(format!("an axis of its shape is negative: {axis}")))?;
    if !spec.admits(&shape) {
        return Err(refuse(format!("its shape is {}, the request has {shape:?}", spec.shape_text())));
    }
    let count = element_count(&shape).map_err(|error| refuse(error.to_string()))?;
    let data = match &found.values {
        Values::Json(raw) => {
            // An element takes a byte of JSON at least, so a stated shape cannot ask for more than eight times the body.
            let bytes = count.min(raw.get().len()).saturating_mul(dtype.size_bytes());
            let mut out = Elementals { data: Vec::with_capacity(bytes), count: 0 };
            let mut reader = serde_json::Deserializer::from_str(raw.get());
            Elementwise { dtype, most: count, out: &mut out }
                .deserialize(&mut reader)
                .map_err(|error| refuse(format!("its data does not fit: {error}")))?;
            if out.count != count {
                return Err(refuse(format!("shape {shape:?} has {count} elements, its data {}", out.count)));
            }
            out.data
        }
        Values::Raw(raw) => raw.to_vec(),
        Values::Typed(Ok(data)) => data.clone(),
        Values::Typed(Err(reason)) => return Err(refuse(reason.clone())),
        Values::None => return Err(refuse("it has no data".to_owned())),
    };
    Tensor::new(dtype, shape, data).map_err(|error| refuse(error.to_string()))
}

/// The outputs that a request names, each with whether it is wanted in raw form; all of them when it names none.
///
/// # Errors
/// 400 when the model has no such output, or one is named twice: an answer must not grow with the request.
pub(crate) fn wanted<'a>(
    manifest: &Manifest,
    named: impl IntoIterator<Item = Named<'a>>,
    binary: bool,
) -> Result<Vec<Wanted>, ApiError> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for Named { name, binary, classes } in named {
        let found = manifest.outputs.iter().enumerate().find(|(_, spec)| spec.name == name);
        let Some((output, spec)) = found else {
            let (name, names) = (short(name), names(&manifest.outputs));
            return Err(ApiError::bad_request(format!("the model has no output `{name}`; it has {names}")));
        };
        if wanted.iter().any(|other| other.output == output) {
            return Err(ApiError::bad_request(format!("output `{name}` is asked for twice")));
        }
        if classes.is_some() && spec.dtype == Dtype::Bytes {
            return Err(ApiError::bad_request(format!(
                "output `{name}`: texts have no order: ask for it without classes"
            )));
        }
        wanted.push(Wanted { output, binary, classes });
    }
    if wanted.is_empty() {
        let all = 0..manifest.outputs.len();
        wanted = all.map(|output| Wanted { output, binary, classes: None }).collect();
    }
    Ok(wanted)
}

/// What is asked for, out of the model's `outputs`.
pub(crate) fn given<'a>(manifest: &'a Manifest, wanted: &[Wanted], outputs: &'a [Tensor]) -> Vec<Given<'a>> {
    let one = |wanted: &Wanted| {
        let (spec, tensor) = (manifest.outputs.get(wanted.output)?, outputs.get(wanted.output)?);
        let tensor = match wanted.classes {
            Some(count) => Cow::Owned(classification::of(manifest, spec, tensor, count)),
            None => Cow::Borrowed(tensor),
        };
        Some(Given { name: &spec.name, tensor, binary: wanted.binary })
    };
    wanted.iter().filter_map(one).collect()
}

fn names(specs: &[TensorSpec]) -> String {
    let names: Vec<String> = specs.iter().map(|spec| format!("`{}`", spec.name)).collect();
    names.join(", ")
}

pub(crate) fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
