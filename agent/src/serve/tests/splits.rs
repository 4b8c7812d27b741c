//! A release that answers a part of the requests: who meets which.

use super::super::grpc::put_bytes;
use super::super::oip::messages::{InferTarget, ModelInferResponse};
use super::super::testing::FakeModel;
use super::super::{Portion, Sticky};
use super::rivals::{digits, version};
use super::{Answered, Running, send, start};
use axum::body::Body;
use axum::http::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

fn half() -> Portion {
    Portion::percent(50.0).unwrap()
}

#[tokio::test]
async fn a_split_is_by_the_requests_id_and_each_arm_has_its_window() {
    let mut server = Running::serving(FakeModel::new("1.0.0")).await;
    server.registry.set_split(FakeModel::new("1.1.0"), half(), Sticky::Request).unwrap();
    let mut first = BTreeMap::new();
    for n in 0..60 {
        first.insert(n, version(&server, &format!("request {n}")).await);
    }
    let arm = first.values().filter(|version| *version == "1.1.0").count();
    assert!((10..=50).contains(&arm), "{arm} of 60");
    for (n, was) in &first {
        assert_eq!(version(&server, &format!("request {n}")).await, *was, "the same request meets the same release");
    }
    server.registry.close_windows(true).await;
    let mut windows = BTreeMap::new();
    while let Ok(window) = server.closed.try_recv() {
        windows.insert(window.content.version.clone(), window.content.requests);
    }
    let (arm, live) = (arm as u64 * 2, (60 - arm as u64) * 2);
    assert_eq!(windows, BTreeMap::from([("1.0.0".to_owned(), live), ("1.1.0".to_owned(), arm)]));
    assert_eq!(server.registry.observed_rival(&digits()).unwrap().0.requests, arm);
}

#[tokio::test]
async fn a_sticky_split_keeps_a_caller_with_one_release() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let by_header = Sticky::Header("x-camera".to_owned());
    server.registry.set_split(FakeModel::new("1.1.0"), half(), by_header).unwrap();
    let ask = async |camera: usize, parameter: bool| {
        let path = if parameter { format!("/predict?camera={camera}") } else { "/predict".to_owned() };
        let request = server.post(&path, "image/png", "an image").header("x-camera", camera.to_string());
        send(request).await.json()["version"].as_str().unwrap().to_owned()
    };
    let (mut arms, mut by_camera) = (BTreeSet::new(), Vec::new());
    for camera in 0..16 {
        let first = ask(camera, false).await;
        for _ in 0..3 {
            assert_eq!(ask(camera, false).await, first);
        }
        arms.insert(first.clone());
        by_camera.push(first);
    }
    assert_eq!(arms.len(), 2);
    let by_parameter = Sticky::Parameter("camera".to_owned());
    server.registry.set_split(FakeModel::new("1.1.0"), half(), by_parameter).unwrap();
    for (camera, was) in by_camera.iter().enumerate() {
        assert_eq!(ask(camera, true).await, *was, "the key is the same, wherever it stands");
    }
}

#[tokio::test]
async fn both_arms_are_told_of_and_a_shadow_is_not() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let told = async || {
        let metadata = server.get("/v2/models/digits").await.json()["versions"].clone();
        let index = send(server.post("/v2/repository/index", "application/json", "{}")).await.json();
        let [all, one] = [server.get("/v2/models/stats").await, server.get("/v2/models/digits/stats").await];
        let versions =
            |list: &Value| list.as_array().unwrap().iter().map(|it| it["version"].clone()).collect::<Value>();
        let stats = |answer: Answered| versions(&answer.json()["model_stats"]);
        [metadata, versions(&index), stats(all), stats(one)]
    };
    server.registry.set_shadow(FakeModel::new("1.1.0"), Portion::ALL).unwrap();
    assert_eq!(told().await, [0; 4].map(|_| json!(["1.0.0"])));
    server.registry.set_split(FakeModel::new("1.1.0"), half(), Sticky::Request).unwrap();
    assert_eq!(told().await, [0; 4].map(|_| json!(["1.0.0", "1.1.0"])));
    let of_arm = server.get("/v2/models/digits/versions/1.1.0/stats").await.json();
    assert_eq!(
        (of_arm["model_stats"].as_array().unwrap().len(), &of_arm["model_stats"][0]["version"]),
        (1, &json!("1.1.0"))
    );
}

#[tokio::test]
async fn an_arm_is_asked_by_its_version_and_a_shadow_is_not() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let ready = async || server.get("/v2/models/digits/versions/1.1.0/ready").await.status;
    server.registry.set_shadow(FakeModel::new("1.1.0"), Portion::ALL).unwrap();
    assert_eq!(ready().await, 404);
    server.registry.set_split(FakeModel::new("1.1.0"), Portion::percent(0.0).unwrap(), Sticky::Request).unwrap();
    assert_eq!(ready().await, 200);
}

/// A server with a split, over HTTP and gRPC.
async fn split(by: Sticky) -> Running {
    let server = start().await;
    server.registry.install(FakeModel::new("1.0.0"));
    server.registry.set_split(FakeModel::new("1.1.0"), half(), by).unwrap();
    server
}

fn by_line() -> Sticky {
    Sticky::Parameter("line".to_owned())
}

/// The version that answers a request in tensors over HTTP, which has these fields beside its inputs.
async fn over_http(server: &Running, mut fields: Value) -> String {
    fields["inputs"] = json!([{ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": vec![0.5; 64] }]);
    let answer = send(server.post("/v2/models/digits/infer", "application/json", fields.to_string())).await;
    answer.json()["model_version"].as_str().unwrap().to_owned()
}

/// A caller of gRPC.
struct Caller {
    sender: SendRequest<Body>,
    _connection: JoinSet<()>,
}

impl Caller {
    async fn of(server: &Running) -> Self {
        let stream = TcpStream::connect(server.grpc).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        Self { sender, _connection: tasks }
    }

    /// The version that answers a request with this id, and with this InferParameter as `line`, each where there is one.
    async fn version(&mut self, id: &str, line: &[u8]) -> String {
        let target = InferTarget { model_name: "digits".to_owned(), id: id.to_owned(), ..InferTarget::default() };
        let mut message = target.encode_to_vec();
        if !line.is_empty() {
            put_bytes(&mut message, 4, &[field(1, b"line"), field(2, line)].concat());
        }
        // The input: its name, type and shape, and the elements in raw form.
        put_bytes(&mut message, 5, &[field(1, b"image"), field(2, b"FP32"), field(3, &[1, 1, 8, 8])].concat());
        put_bytes(&mut message, 7, &[0; 256]);
        let framed = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
        let request = Request::post("http://box/inference.GRPCInferenceService/ModelInfer")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::from(framed))
            .unwrap();
        self.sender.ready().await.unwrap();
        let answer = self.sender.send_request(request).await.unwrap();
        assert_eq!(answer.headers().get("grpc-status"), None, "{answer:?}");
        let answer = axum::body::to_bytes(Body::new(answer.into_body()), 1 << 20).await.unwrap();
        ModelInferResponse::decode(&answer[5..]).unwrap().model_version
    }
}

fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    put_bytes(&mut field, number, bytes);
    field
}

#[tokio::test]
async fn the_protocols_own_id_decides_over_http_and_grpc_alike() {
    let server = split(Sticky::Request).await;
    let mut caller = Caller::of(&server).await;
    let mut arms = BTreeSet::new();
    for n in 0..16 {
        let id = format!("request {n}");
        let first = version(&server, &id).await;
        for _ in 0..3 {
            assert_eq!(over_http(&server, json!({ "id": id })).await, first);
            assert_eq!(caller.version(&id, b"").await, first);
        }
        arms.insert(first);
    }
    assert_eq!(arms.len(), 2);
}

#[tokio::test]
async fn a_parameter_of_the_request_keeps_a_caller_with_one_release() {
    let server = split(by_line()).await;
    let mut caller = Caller::of(&server).await;
    let mut arms = BTreeSet::new();
    for line in 0..16_u8 {
        let first = over_http(&server, json!({ "parameters": { "line": line } })).await;
        for n in 0..3 {
            let id = format!("request {n}");
            let asked = json!({ "id": id, "parameters": { "line": line.to_string() } });
            assert_eq!(over_http(&server, asked).await, first);
            assert_eq!(caller.version(&id, &[0x10, line]).await, first, "as a number");
        }
        arms.insert(first);
    }
    assert_eq!(arms.len(), 2);
}
