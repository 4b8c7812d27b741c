//! The Open Inference Protocol over HTTP.

use super::super::ServeSettings;
use super::super::testing::FakeModel;
use super::{Answered, Running, send, settings, start, start_with};
use fieldpost_shared::bundle::Tensor;
use serde_json::{Value, json};
use std::io::Write as _;

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
        assert_eq!(
            (&metadata["name"], &metadata["extensions"]),
            (
                &json!("fieldpost-agent"),
                &json!([
                    "binary_tensor_data",
                    "classification",
                    "model_configuration",
                    "model_repository",
                    "statistics"
                ])
            )
        );
    }
    let metadata = server.get("/v2/models/digits").await.json();
    assert_eq!((&metadata["platform"], &metadata["versions"]), (&json!("onnx_onnxv1"), &json!(["1.0.0"])));
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 1, 8, 8]));
    assert_eq!(server.get("/v2/models/digits/versions/1.0.0").await.json(), metadata);
    assert_eq!(server.get("/v2/models/other").await.status, 404);
}

#[tokio::test]
async fn a_models_configuration_is_there_with_and_without_its_version() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let config = server.get("/v2/models/digits/config").await.json();
    assert_eq!((&config["max_batch_size"], &config["input"][0]["data_type"]), (&json!(0), &json!("TYPE_FP32")));
    assert_eq!(server.get("/v2/models/digits/versions/1.0.0/config").await.json(), config);
    for path in ["/v2/models/other/config", "/v2/models/digits/versions/9.0.0/config"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn packed_requests_are_read_and_answers_packed_for_who_asks() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let packed = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let post = |body: Vec<u8>| {
        let request = server.post("/v2/models/digits/infer", "application/json", body);
        request.header("content-encoding", "gzip").header("accept-encoding", "gzip")
    };
    // The answer is below what is worth packing.
    let answer = send(post(packed(request().to_string().as_bytes()))).await;
    assert_eq!((answer.status, answer.headers.get("content-encoding")), (200, None));
    let torn = send(post(b"plain".to_vec())).await;
    assert_eq!((torn.status, torn.error().contains("cannot be unpacked")), (400, true));
    let bomb = packed(&vec![b' '; settings().max_body_bytes + 1]);
    let refused = send(post(bomb)).await;
    assert_eq!((refused.status, refused.error().contains("when unpacked")), (413, true));
}

#[tokio::test]
async fn large_answers_are_packed() {
    let model = FakeModel::with("1.0.0", |_| Ok(vec![Tensor::from_f32(vec![100, 10], &[0.0; 1_000]).unwrap()]));
    let server = Running::serving(model).await;
    for (coding, bytes) in [("gzip", &[0x1f, 0x8b][..]), ("deflate", &[0x78])] {
        let ask = server.post("/v2/models/digits/infer", "application/json", request().to_string());
        let answer = ask.header("accept-encoding", coding).send().await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], coding);
        let body = answer.bytes().await.unwrap();
        assert!(body.len() < 1_000 && body.starts_with(bytes), "{}", body.len());
    }
}

#[tokio::test]
async fn the_repository_can_be_read_and_not_changed() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    server.registry.expect(&"other".parse().unwrap());
    let index = async |body: &str| {
        let request = server.client.post(server.url("/v2/repository/index")).body(body.to_owned());
        send(request).await
    };
    let digits = json!({ "name": "digits", "version": "1.0.0", "state": "READY", "reason": "" });
    let all = index("").await.json();
    assert_eq!((all[0].clone(), &all[1]["state"]), (digits.clone(), &json!("UNAVAILABLE")));
    assert_eq!(index(r#"{"ready":true}"#).await.json(), json!([digits]));
    assert_eq!(index("ready").await.status, 400);
    assert_eq!(index(&" ".repeat((16 << 10) + 1)).await.status, 413);
    for change in ["load", "unload"] {
        let path = server.url(&format!("/v2/repository/models/digits/{change}"));
        let refused = send(server.client.post(path)).await;
        assert_eq!((refused.status, refused.error().contains("signed release")), (403, true));
    }
}

#[tokio::test]
async fn statistics_count_successes_and_failures() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    assert_eq!(infer(&server, "/v2/models/digits/infer", &request()).await.status, 200);
    assert_eq!(infer(&server, "/v2/models/digits/infer", &json!({})).await.status, 400);
    let stats = server.get("/v2/models/digits/stats").await.json();
    let model = &stats["model_stats"][0];
    assert_eq!((&model["name"], &model["version"]), (&json!("digits"), &json!("1.0.0")));
    assert_eq!((&model["inference_count"], &model["execution_count"]), (&json!(1), &json!(1)));
    let parts = &model["inference_stats"];
    assert_eq!((&parts["success"]["count"], &parts["fail"]["count"]), (&json!(1), &json!(1)));
    let (success, queue) = (parts["success"]["ns"].as_u64().unwrap(), parts["queue"]["ns"].as_u64().unwrap());
    assert!(success >= queue && success > 0 && model["last_inference"].as_u64().unwrap() > 1_600_000_000_000);
    assert_eq!(model["batch_stats"][0]["batch_size"], 1);
    assert_eq!(server.get("/v2/models/stats").await.json()["model_stats"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/v2/models/digits/versions/1.0.0/stats").await.status, 200);
    assert_eq!(server.get("/v2/models/other/stats").await.status, 404);
}

#[tokio::test]
async fn a_unix_socket_has_the_same_paths() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    let server = start_with(ServeSettings { socket: Some(path.clone()), ..settings() }).await;
    server.registry.install(FakeModel::new("1.0.0"));
    let client = reqwest::Client::builder().unix_socket(path.clone()).no_proxy().build().unwrap();
    let ask = client.post("http://agent/v2/models/digits/infer").body(request().to_string());
    assert_eq!(send(ask).await.json()["id"], "7");
    server.stop().await;
    assert!(!path.exists());
}
