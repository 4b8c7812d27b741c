//! The Open Inference Protocol over HTTP.

use super::super::testing::FakeModel;
use super::{Answered, Running, send, start};
use serde_json::{Value, json};

fn request() -> Value {
    json!({
        "id": "7",
        "inputs": [{ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": vec![0.5; 64] }]
    })
}

async fn infer(server: &Running, path: &str, request: &Value) -> Answered {
    send(server.post(path, "application/json", request.to_string())).await
}

#[tokio::test]
async fn infer_answers_the_outputs_with_the_callers_id() {
    let mut server = Running::serving(FakeModel::new("1.0.0")).await;
    let answer = infer(&server, "/v2/models/digits/infer", &request()).await;
    assert_eq!(
        (answer.status, answer.json()),
        (
            200,
            json!({
                "model_name": "digits", "model_version": "1.0.0", "id": "7",
                "outputs": [{ "name": "logits", "shape": [1, 10], "datatype": "FP32", "data": vec![0.0; 10] }]
            })
        )
    );
    let window = server.window().await;
    assert_eq!((window.requests, window.classes.unwrap().counts()[7]), (1, 1), "tensors are watched for drift too");
}

#[tokio::test]
async fn only_the_live_version_answers() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    assert_eq!(infer(&server, "/v2/models/digits/versions/1.0.0/infer", &request()).await.status, 200);
    let other = infer(&server, "/v2/models/digits/versions/2.0.0/infer", &request()).await;
    assert_eq!((other.status, other.error().contains("version 1.0.0 of `digits` is live")), (404, true));
}

#[tokio::test]
async fn wrong_tensors_are_400() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let mut wrong = request();
    wrong["inputs"][0]["shape"] = json!([1, 64]);
    let refused = infer(&server, "/v2/models/digits/infer", &wrong).await;
    assert_eq!((refused.status, refused.error().contains("its shape is [N,1,8,8]")), (400, true));
}

#[tokio::test]
async fn tensors_travel_behind_the_json_both_ways() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let request = json!({
        "parameters": { "binary_data_output": true },
        "inputs": [{
            "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "parameters": { "binary_data_size": 256 }
        }]
    })
    .to_string();
    let json_bytes = request.len().to_string();
    let body = [request.into_bytes(), vec![0; 256]].concat();
    let post = |json_bytes: &str| {
        let request = server.post("/v2/models/digits/infer", "application/octet-stream", body.clone());
        request.header("inference-header-content-length", json_bytes)
    };
    let answer = post(&json_bytes).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/octet-stream".parse().unwrap())
    );
    let head: usize = answer.headers()["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let body = answer.bytes().await.unwrap();
    let outputs: Value = serde_json::from_slice(&body[..head]).unwrap();
    assert_eq!(outputs["outputs"][0]["parameters"], json!({ "binary_data_size": 40 }));
    assert_eq!(body[head..], [0; 40]);
    for wrong in ["9999", "12", "-1", "many"] {
        assert_eq!(send(post(wrong)).await.status, 400, "{wrong}");
    }
    let raw = send(post("0")).await;
    assert_eq!((raw.status, raw.error().contains("input `image`")), (400, true));
}

#[tokio::test]
async fn health_follows_the_models() {
    let server = start().await;
    assert_eq!(server.get("/v2/health/live").await.json(), json!({ "live": true, "ready": false }));
    assert_eq!(server.get("/v2/health/ready").await.status, 503);
    assert_eq!(server.get("/v2/models/digits/ready").await.status, 404);
    server.registry.expect(&"digits".parse().unwrap());
    let loading = server.get("/v2/models/digits/ready").await;
    assert_eq!((loading.status, loading.json()), (503, json!({ "name": "digits", "ready": false })));
    server.registry.install(FakeModel::new("1.0.0"));
    let ready = server.get("/v2/health/ready").await;
    assert_eq!((ready.status, ready.json()), (200, json!({ "live": true, "ready": true })));
    let ready = server.get("/v2/models/digits/ready").await;
    assert_eq!((ready.status, ready.json()), (200, json!({ "name": "digits", "ready": true })));
    assert_eq!(server.get("/v2/models/digits/versions/9.0.0/ready").await.status, 404);
}

#[tokio::test]
async fn metadata_says_what_the_server_and_its_models_are() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    for path in ["/v2", "/v2/"] {
        let metadata = server.get(path).await.json();
        assert_eq!((&metadata["name"], &metadata["extensions"]), (&json!("fieldpost-agent"), &json!([])));
    }
    let metadata = server.get("/v2/models/digits").await.json();
    assert_eq!((&metadata["platform"], &metadata["versions"]), (&json!("onnx_onnxv1"), &json!(["1.0.0"])));
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 1, 8, 8]));
    assert_eq!(server.get("/v2/models/digits/versions/1.0.0").await.json(), metadata);
    assert_eq!(server.get("/v2/models/other").await.status, 404);
}
