//! OIP v2 §Inference, JSON form: from a body to the model's inputs, from its outputs to a body.

use super::super::error::ApiError;
use super::json::{Elementwise, TensorJson};
use fieldpost_shared::bundle::tensor::element_count;
use fieldpost_shared::bundle::{Dtype, Manifest, Tensor, TensorSpec};
use fieldpost_shared::id::ReleaseRef;
use serde::de::DeserializeSeed;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A request, checked as far as names and types go; whether the shapes fit, the model says.
#[derive(Debug)]
pub(crate) struct InferRequest {
    /// The caller's id.
    pub(crate) id: Option<String>,
    /// In the manifest's order.
    pub(crate) inputs: Vec<Tensor>,
    /// Names of the outputs that are wanted; `None` is all.
    pub(crate) outputs: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RequestJson<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    inputs: Vec<InputJson<'a>>,
    #[serde(default, borrow)]
    outputs: Option<Vec<OutputJson<'a>>>,
}

#[derive(Deserialize)]
struct InputJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<usize>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    /// Read when the type is known, which may come after it.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<OutputParameters>,
}

#[derive(Deserialize)]
struct OutputParameters {
    #[serde(default)]
    binary_data: bool,
}

/// Reads a request for a model. Fields that are not known are passed over, as the protocol wants.
///
/// # Errors
/// 400 with the tensor and the reason.
pub(crate) fn parse(body: &[u8], manifest: &Manifest) -> Result<InferRequest, ApiError> {
    let refuse = |text: String| Err(ApiError::bad_request(text));
    let request: RequestJson<'_> = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("malformed inference request: {error}")))?;
    let inputs = manifest.inputs.iter().map(|spec| input(spec, &request.inputs)).collect::<Result<Vec<_>, _>>()?;
    if let Some(stranger) = request.inputs.iter().find(|sent| manifest.inputs.iter().all(|s| s.name != sent.name)) {
        return refuse(format!(
            "the model has no input `{}`; it has {}",
            short(&stranger.name),
            names(&manifest.inputs)
        ));
    }
    if request.inputs.len() > inputs.len() {
        return refuse("an input is there twice".to_owned());
    }
    let Some(wanted) = request.outputs.filter(|wanted| !wanted.is_empty()) else {
        return Ok(InferRequest { id: request.id, inputs, outputs: None });
    };
    for output in &wanted {
        if manifest.outputs.iter().all(|spec| spec.name != output.name) {
            return refuse(format!(
                "the model has no output `{}`; it has {}",
                short(&output.name),
                names(&manifest.outputs)
            ));
        }
        if output.parameters.as_ref().is_some_and(|parameters| parameters.binary_data) {
            return refuse(format!("output `{}`: {NO_BINARY}", output.name));
        }
    }
    let outputs = wanted.into_iter().map(|output| output.name.into_owned()).collect();
    Ok(InferRequest { id: request.id, inputs, outputs: Some(outputs) })
}

/// What callers of the binary-tensor extension are told.
pub(crate) const NO_BINARY: &str =
    "the binary-tensor extension is not served; send and ask for JSON `data` (tritonclient: binary_data=False)";

fn input(spec: &TensorSpec, sent: &[InputJson<'_>]) -> Result<Tensor, ApiError> {
    let refuse = |text: String| ApiError::bad_request(format!("input `{}`: {text}", spec.name));
    let Some(found) = sent.iter().find(|input| input.name == spec.name) else {
        return Err(refuse("it is missing".to_owned()));
    };
    let dtype: Dtype = found.datatype.parse().map_err(|error| refuse(format!("{error}")))?;
    if dtype != spec.dtype {
        return Err(refuse(format!("its datatype is {}, the request has {dtype}", spec.dtype)));
    }
    if !spec.admits(&found.shape) {
        return Err(refuse(format!("its shape is {}, the request has {:?}", spec.shape_text(), found.shape)));
    }
    let count = element_count(&found.shape).map_err(|error| refuse(error.to_string()))?;
    let raw = found.data.ok_or_else(|| refuse(format!("it has no `data`; {NO_BINARY}")))?;
    // An element takes a byte of JSON at least, so a stated shape cannot ask for more than eight times the body.
    let mut data = Vec::with_capacity(count.min(raw.get().len()).saturating_mul(dtype.size_bytes()));
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    Elementwise { dtype, most: count, out: &mut data }
        .deserialize(&mut reader)
        .map_err(|error| refuse(format!("its data does not fit: {error}")))?;
    let found_count = data.len() / dtype.size_bytes();
    let size = |_error| refuse(format!("shape {:?} has {count} elements, its data {found_count}", found.shape));
    Tensor::new(dtype, found.shape.clone(), data).map_err(size)
}

fn names(specs: &[TensorSpec]) -> String {
    let names: Vec<String> = specs.iter().map(|spec| format!("`{}`", spec.name)).collect();
    names.join(", ")
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[derive(Serialize)]
struct ResponseJson<'a> {
    model_name: &'a str,
    model_version: String,
    id: &'a str,
    outputs: Vec<TensorJson<'a>>,
}

/// The answer's body.
pub(crate) fn write(
    release: &ReleaseRef,
    manifest: &Manifest,
    id: &str,
    wanted: Option<&[String]>,
    outputs: &[Tensor],
) -> Vec<u8> {
    let response = ResponseJson {
        model_name: release.model.as_str(),
        model_version: release.version.to_string(),
        id,
        outputs: TensorJson::all(manifest, wanted, outputs),
    };
    // Plain data with text keys into memory: serde_json has nothing to fail on.
    serde_json::to_vec(&response).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;
    use serde_json::{Value, json};

    fn image() -> Value {
        json!({ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": vec![0.5; 64] })
    }

    fn parsed(request: &Value) -> Result<InferRequest, String> {
        parse(request.to_string().as_bytes(), &testing::manifest()).map_err(|error| {
            assert_eq!(error.status, 400);
            error.message
        })
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Value), part: &str) {
        let mut request = json!({ "inputs": [image()] });
        change(&mut request);
        let error = parsed(&request).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_request_is_read_whatever_the_order_of_its_fields() {
        let text = format!(
            r#"{{"parameters":{{}},"inputs":[{{"data":{:?},"datatype":"FP32","shape":[1,1,8,8],"name":"image"}}],"id":"7"}}"#,
            [0.5; 64]
        );
        let request = parse(text.as_bytes(), &testing::manifest()).unwrap();
        assert_eq!((request.id.as_deref(), request.outputs), (Some("7"), None));
        assert_eq!(request.inputs, [Tensor::from_f32(vec![1, 1, 8, 8], &[0.5; 64]).unwrap()]);
    }

    #[test]
    fn names_with_escapes_are_read() {
        let escaped = json!({ "inputs": [image()] }).to_string().replace("image", r"\u0069mage");
        assert!(parse(escaped.as_bytes(), &testing::manifest()).is_ok());
    }

    #[test]
    fn outputs_are_chosen_by_name() {
        let request =
            json!({ "inputs": [image()], "outputs": [{ "name": "logits", "parameters": { "binary_data": false } }] });
        assert_eq!(parsed(&request).unwrap().outputs.unwrap(), ["logits"]);
        assert_eq!(parsed(&json!({ "inputs": [image()], "outputs": [] })).unwrap().outputs, None);
    }

    #[test]
    fn wrong_requests_are_refused_with_the_reason() {
        refused(|r| *r = json!([]), "malformed inference request");
        refused(|r| *r = json!({}), "missing field `inputs`");
        refused(|r| r["inputs"] = json!([]), "input `image`: it is missing");
        refused(|r| r["inputs"][0]["name"] = json!("x"), "input `image`: it is missing");
        refused(|r| r["inputs"] = json!([image(), { "name": "x", "shape": [], "datatype": "FP32" }]), "no input `x`");
        refused(|r| r["inputs"] = json!([image(), image()]), "twice");
        refused(|r| r["inputs"][0]["datatype"] = json!("FP64"), "its datatype is FP32, the request has FP64");
        refused(|r| r["inputs"][0]["datatype"] = json!("FP16"), "`FP16` is not one of");
        refused(|r| r["inputs"][0]["shape"] = json!([1, 64]), "its shape is [N,1,8,8]");
        refused(|r| r["inputs"][0]["shape"] = json!([-1, 1, 8, 8]), "malformed");
        refused(|r| r["inputs"][0]["shape"] = json!([u64::MAX, 1, 8, 8]), "overflows");
        refused(|r| r["inputs"][0]["shape"] = json!([2, 1, 8, 8]), "has 128 elements, its data 64");
        refused(|r| r["inputs"][0]["shape"] = json!([0, 1, 8, 8]), "more than 0 elements");
        refused(|r| r["inputs"][0]["data"] = json!(["a"]), "its data does not fit");
        refused(|r| drop(r["inputs"][0].as_object_mut().unwrap().remove("data")), "binary-tensor extension");
        refused(|r| r["outputs"] = json!([{ "name": "x" }]), "no output `x`");
        refused(|r| r["outputs"] = json!([{ "name": "logits", "parameters": { "binary_data": true } }]), "binary");
    }

    #[test]
    fn the_answer_names_model_version_and_id() {
        let outputs = [Tensor::from_f32(vec![1, 2], &[0.5, 2.0]).unwrap()];
        let body = write(&testing::release("1.0.0"), &testing::manifest(), "7", None, &outputs);
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"model_name":"digits","model_version":"1.0.0","id":"7","outputs":[{"name":"logits","shape":[1,2],"datatype":"FP32","data":[0.5,2.0]}]}"#
        );
    }
}
