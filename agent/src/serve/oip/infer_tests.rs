use super::*;
use crate::monitor::testing;
use serde_json::{Value, json};
use std::time::Duration;

fn image() -> Value {
    json!({ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": vec![0.5; 64] })
}

/// An image whose elements come behind the JSON.
fn binary_image() -> Value {
    json!({ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "parameters": { "binary_data_size": 256 } })
}

fn halves() -> Vec<u8> {
    0.5_f32.to_le_bytes().repeat(64)
}

fn with_blobs(request: &Value, blobs: &[u8]) -> Result<InferRequest, String> {
    let mut body = request.to_string().into_bytes();
    let json_bytes = body.len();
    body.extend_from_slice(blobs);
    parse(&body, Some(json_bytes), &testing::manifest()).map_err(|error| error.message)
}

fn parsed(request: &Value) -> Result<InferRequest, String> {
    parse(request.to_string().as_bytes(), None, &testing::manifest()).map_err(|error| {
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

#[track_caller]
fn refused_binary(change: impl FnOnce(&mut Value), blobs: &[u8], part: &str) {
    let mut request = json!({ "inputs": [binary_image()] });
    change(&mut request);
    let error = with_blobs(&request, blobs).unwrap_err();
    assert!(error.contains(part), "{error}");
}

#[test]
fn a_request_is_read_whatever_the_order_of_its_fields() {
    let text = format!(
        r#"{{"parameters":{{}},"inputs":[{{"data":{:?},"datatype":"FP32","shape":[1,1,8,8],"name":"image"}}],"id":"7"}}"#,
        [0.5; 64]
    );
    let request = parse(text.as_bytes(), None, &testing::manifest()).unwrap();
    assert_eq!(
        (request.id.as_deref(), request.wanted),
        (Some("7"), vec![Wanted { output: 0, binary: false, classes: None }])
    );
    assert_eq!(request.inputs, [Tensor::from_f32(vec![1, 1, 8, 8], &[0.5; 64]).unwrap()]);
}

#[test]
fn names_with_escapes_are_read() {
    let escaped = json!({ "inputs": [image()] }).to_string().replace("image", r"\u0069mage");
    assert!(parse(escaped.as_bytes(), None, &testing::manifest()).is_ok());
}

#[test]
fn bare_words_of_pythons_json_are_read() {
    let text = json!({ "inputs": [image()] }).to_string().replacen("0.5", "NaN", 1).replacen("0.5", "-Infinity", 1);
    let values = parse(text.as_bytes(), None, &testing::manifest()).unwrap().inputs[0].to_f64();
    assert!(values[0].is_nan() && values[1] == f64::NEG_INFINITY);
}

#[test]
fn outputs_are_chosen_by_name() {
    let request =
        json!({ "inputs": [image()], "outputs": [{ "name": "logits", "parameters": { "binary_data": true } }] });
    assert_eq!(parsed(&request).unwrap().wanted, [Wanted { output: 0, binary: true, classes: None }]);
    let all = json!({ "inputs": [image()], "outputs": [], "parameters": { "binary_data_output": true } });
    assert_eq!(parsed(&all).unwrap().wanted, [Wanted { output: 0, binary: true, classes: None }]);
}

#[test]
fn one_output_may_be_json_where_the_rest_is_binary() {
    let request = json!({
        "inputs": [image()], "parameters": { "binary_data_output": true },
        "outputs": [{ "name": "logits", "parameters": { "binary_data": false } }]
    });
    assert_eq!(parsed(&request).unwrap().wanted, [Wanted { output: 0, binary: false, classes: None }]);
}

#[test]
fn classes_may_be_asked_for_in_an_outputs_stead() {
    let asked = |count: u64| json!({ "inputs": [image()], "outputs": [{ "name": "logits", "parameters": { "classification": count } }] });
    let wanted = |count| [Wanted { output: 0, binary: false, classes: NonZeroUsize::new(count) }];
    assert_eq!(parsed(&asked(3)).unwrap().wanted, wanted(3));
    assert_eq!(parsed(&asked(0)).unwrap().wanted, wanted(0));
    let (release, manifest) = (testing::release("1.0.0"), testing::manifest());
    let scores: Vec<f32> = (0..10_u8).map(f32::from).collect();
    let written =
        write(&release, &manifest, "7", &wanted(2), &[Tensor::from_f32(vec![1, 10], &scores).unwrap()]).unwrap();
    let answer: Value = serde_json::from_slice(&written.bytes).unwrap();
    let expected = json!({ "name": "logits", "shape": [1, 2], "datatype": "BYTES", "data": ["9:9:9", "8:8:8"] });
    assert_eq!(answer["outputs"], json!([expected]));
    let mut texts = testing::manifest();
    texts.outputs[0].dtype = Dtype::Bytes;
    let refused = parse(asked(1).to_string().as_bytes(), None, &texts).unwrap_err();
    assert!(refused.message.contains("texts have no order"), "{}", refused.message);
}

#[test]
fn a_timeout_is_read_and_a_sequence_refused() {
    let asked = |parameters: Value| parsed(&json!({ "inputs": [image()], "parameters": parameters }));
    let timeout = |us: Value| asked(json!({ "timeout": us, "priority": 1 })).unwrap().timeout;
    assert_eq!((timeout(json!(1_500)), timeout(json!(0))), (Some(Duration::from_micros(1_500)), None));
    assert!(asked(json!({ "timeout": "5 s" })).unwrap_err().contains("malformed"));
    for id in [json!(7), json!("a"), json!([0])] {
        assert!(asked(json!({ "sequence_id": id })).unwrap_err().contains("sequences are not served"));
    }
    assert!(asked(json!({ "sequence_start": true })).unwrap_err().contains("sequences are not served"));
    for id in [json!(0), json!(""), Value::Null] {
        assert!(asked(json!({ "sequence_id": id, "sequence_start": false, "sequence_end": false })).is_ok());
    }
}

#[test]
fn wrong_requests_are_refused_with_the_reason() {
    refused(|r| *r = json!([]), "malformed inference request");
    refused(|r| *r = json!({}), "missing field `inputs`");
    refused(|r| r["inputs"] = json!([]), "input `image`: it is missing");
    refused(|r| r["inputs"][0]["name"] = json!("x"), "input `image`: it is missing");
    let other = json!({ "name": "x", "shape": [], "datatype": "FP32" });
    refused(|r| r["inputs"] = json!([image(), other]), "no input `x`");
    refused(|r| r["inputs"] = json!([image(), image()]), "twice");
    refused(|r| r["inputs"][0]["datatype"] = json!("FP64"), "its datatype is FP32, the request has FP64");
    refused(|r| r["inputs"][0]["datatype"] = json!("BF16"), "`BF16` is not one of");
    refused(|r| r["inputs"][0]["shape"] = json!([1, 64]), "its shape is [N,1,8,8]");
    refused(|r| r["inputs"][0]["shape"] = json!([-1, 1, 8, 8]), "an axis of its shape is negative: -1");
    refused(|r| r["inputs"][0]["shape"] = json!([u64::MAX, 1, 8, 8]), "malformed");
    refused(|r| r["inputs"][0]["shape"] = json!([i64::MAX, 1, 8, 8]), "overflows");
    refused(|r| r["inputs"][0]["shape"] = json!(vec![1; 65]), "more than 64 axes");
    refused(|r| r["inputs"][0]["shape"] = json!([2, 1, 8, 8]), "has 128 elements, its data 64");
    refused(|r| r["inputs"][0]["shape"] = json!([0, 1, 8, 8]), "more than 0 elements");
    refused(|r| r["inputs"][0]["data"] = json!(["a"]), "its data does not fit");
    refused(|r| drop(r["inputs"][0].as_object_mut().unwrap().remove("data")), "it has no data");
    refused(|r| r["inputs"][0] = binary_image(), "the request no `inference-header-content-length`");
    refused(|r| r["outputs"] = json!([{ "name": "x" }]), "no output `x`");
    refused(|r| r["outputs"] = json!([{ "name": "logits" }, { "name": "logits" }]), "asked for twice");
    let asked = |key: &str, value: Value| json!([{ "name": "logits", "parameters": { key: value } }]);
    refused(|r| r["outputs"] = asked("classification", json!(-3)), "malformed");
    refused(|r| r["outputs"] = asked("shared_memory_region", json!("r")), "shared memory is not served");
    refused(|r| r["inputs"][0]["parameters"] = json!({ "shared_memory_region": "r" }), "shared memory is not served");
}

#[test]
fn elements_behind_the_json_are_read() {
    let request = with_blobs(&json!({ "inputs": [binary_image()] }), &halves()).unwrap();
    assert_eq!(request.inputs, [Tensor::from_f32(vec![1, 1, 8, 8], &[0.5; 64]).unwrap()]);
}

#[test]
fn wrong_sizes_of_blobs_are_refused() {
    refused_binary(|_| (), &halves()[1..], "its `binary_data_size` is 256, 255 bytes are left");
    refused_binary(|_| (), &[halves(), vec![0]].concat(), "1 bytes are left behind");
    refused_binary(|r| r["inputs"][0]["data"] = json!([1]), &halves(), "both `data` and a `binary_data_size`");
    refused_binary(
        |r| r["inputs"][0]["parameters"]["binary_data_size"] = json!(252),
        &halves()[..252],
        "needs 256 bytes, got 252",
    );
    refused_binary(|r| r["inputs"][0]["parameters"]["binary_data_size"] = json!(-1), &halves(), "malformed");
    refused_binary(|r| r["inputs"][0]["parameters"]["binary_data_size"] = json!(u64::MAX), &halves(), "bytes are left");
    let beyond = parse(b"{}", Some(3), &testing::manifest()).unwrap_err();
    assert!(beyond.message.contains("says 3 bytes, the body has 2"), "{}", beyond.message);
}

#[test]
fn a_raw_request_is_the_one_inputs_elements() {
    let request = parse(&halves().repeat(2), Some(0), &testing::manifest()).unwrap();
    assert_eq!(request.inputs[0].shape, [2, 1, 8, 8]);
    assert_eq!(request.wanted, [Wanted { output: 0, binary: true, classes: None }]);
    let torn = parse(&halves()[1..], Some(0), &testing::manifest()).unwrap_err();
    assert_eq!(torn.status, 400);
    assert_eq!(parse(&halves()[..255], Some(0), &testing::manifest()).unwrap_err().status, 400);
}

#[test]
fn a_raw_text_has_no_length() {
    let mut manifest = testing::manifest();
    manifest.inputs[0].dtype = Dtype::Bytes;
    manifest.inputs[0].shape = vec![Dim::Symbol("N".to_owned())];
    let request = parse(b"hello", Some(0), &manifest).unwrap();
    assert_eq!(request.inputs, [Tensor::from_texts(vec![1], ["hello"]).unwrap()]);
}

#[test]
fn the_answer_names_model_version_and_id() {
    let outputs = [Tensor::from_f32(vec![1, 2], &[0.5, 2.0]).unwrap()];
    let (release, manifest) = (testing::release("1.0.0"), testing::manifest());
    let wanted = |binary| [Wanted { output: 0, binary, classes: None }];
    let json = write(&release, &manifest, "7", &wanted(false), &outputs).unwrap();
    assert_eq!(
        String::from_utf8(json.bytes).unwrap(),
        r#"{"model_name":"digits","model_version":"1.0.0","id":"7","outputs":[{"name":"logits","shape":[1,2],"datatype":"FP32","data":[0.5,2.0]}]}"#
    );
    assert_eq!(json.json_bytes, None);
    let binary = write(&release, &manifest, "7", &wanted(true), &outputs).unwrap();
    let (head, tail) = binary.bytes.split_at(binary.json_bytes.unwrap());
    assert_eq!(
        str::from_utf8(head).unwrap(),
        r#"{"model_name":"digits","model_version":"1.0.0","id":"7","outputs":[{"name":"logits","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#
    );
    assert_eq!(tail, outputs[0].data);
}
