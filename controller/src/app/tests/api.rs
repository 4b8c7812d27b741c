//! The API over HTTP: who may what, what is too large, and the way of a release to a device.

use super::*;
use crate::api::{MAX_ENROLL_BYTES, MAX_JSON_BYTES};
use crate::audit::verify;
use crate::releases::tests::manifest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fieldpost_shared::bundle::chunk::{MAX_PAYLOAD_BYTES, cut, frame};
use fieldpost_shared::trust::{Kind, SignedRoot, envelope::sign};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Method, path, and the least role.
const ROUTES: [(Method, &str, Role); 16] = [
    (Method::GET, "/v1/devices", Role::Viewer),
    (Method::GET, "/v1/devices/a", Role::Viewer),
    (Method::POST, "/v1/devices/a/labels", Role::Operator),
    (Method::POST, "/v1/devices/a/approve", Role::Admin),
    (Method::POST, "/v1/devices/a/revoke", Role::Admin),
    (Method::GET, "/v1/tokens", Role::Admin),
    (Method::POST, "/v1/tokens", Role::Admin),
    (Method::DELETE, "/v1/tokens/x", Role::Admin),
    (Method::POST, "/v1/blobs/missing", Role::Publisher),
    (Method::POST, "/v1/releases", Role::Publisher),
    (Method::GET, "/v1/releases", Role::Viewer),
    (Method::GET, "/v1/audit", Role::Viewer),
    (Method::GET, "/v1/stats", Role::Viewer),
    (Method::GET, "/metrics", Role::Viewer),
    (Method::GET, "/v1/rollouts", Role::Viewer),
    (Method::POST, "/v1/rollouts", Role::Operator),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_its_role() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    for role in [Role::Viewer, Role::Operator, Role::Publisher, Role::Admin] {
        let token = rig.role(role).await;
        for (method, path, needed) in &ROUTES {
            let body = (*method == Method::POST).then(|| json!({"nonsense": 1}));
            let (status, said) = rig.ask(method.clone(), path, &token, body).await;
            let refused = status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !role.includes(*needed), "{role} {method} {path}: {status} {said}");
        }
    }
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_there_is_nothing_to_see() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    for (method, path, _) in &ROUTES {
        for token in ["", "fp_wrong", &format!("{}x", rig.admin)] {
            let (status, said) = rig.ask(method.clone(), path, token, None).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert!(said["error"].is_string() && said["hint"].is_string(), "{said}");
        }
    }
    for path in ["/v1/health", "/v1/time"] {
        assert_eq!(rig.ask(Method::GET, path, "", None).await.0, StatusCode::OK);
    }
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let blob = format!("PUT /v1/blobs/{}", fieldpost_shared::id::Digest::of(b"x"));
    let requests = [
        ("POST /v1/enroll", MAX_ENROLL_BYTES),
        ("POST /v1/releases", MAX_JSON_BYTES),
        (blob.as_str(), MAX_PAYLOAD_BYTES),
    ];
    for (request, limit) in requests {
        let mut line = TcpStream::connect(rig.bound.http).await.unwrap();
        let (token, stated) = (&rig.admin, limit + (1 << 20));
        let head = format!(
            "{request} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {stated}\r\n\r\n"
        );
        line.write_all(head.as_bytes()).await.unwrap();
        // One byte too many and then silence: the refusal does not wait for the rest, and no byte is left unread that would
        // break the line under it.
        line.write_all(&vec![b' '; limit + 1]).await.unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(PATIENCE, line.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&answer), Ok("HTTP/1.1 413"), "{request}");
    }
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolment_gives_a_device_all_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let enrolled = rig.enroll("a", 1).await;
    let root = SignedRoot::parse(&serde_json::to_vec(&enrolled["roots"][0]).unwrap()).unwrap();
    root.verify_self().unwrap();
    assert_eq!(enrolled["mqtt"]["port"], json!(rig.bound.mqtt.unwrap().port()));
    assert_eq!((&enrolled["topic_prefix"], &enrolled["status"]), (&json!("fp/1"), &json!("active")));
    assert_eq!(rig.get("/v1/devices?selector=site%3Dlyon").await[0]["id"], "a");
    assert_eq!(rig.get("/v1/devices?selector=site%3Dparis").await, json!([]));
    rig.enroll("b", 3).await;
    let names = |list: Value| -> Vec<Value> { list.as_array().unwrap().iter().map(|d| d["id"].clone()).collect() };
    assert_eq!(names(rig.get("/v1/devices?limit=1").await), ["a"]);
    assert_eq!(names(rig.get("/v1/devices?limit=1&after=a").await), ["b"]);
    assert_eq!(names(rig.get("/v1/devices?after=b").await), json!([]).as_array().unwrap().clone());
    let request = json!({"token": "fp_wrong", "public_key": SecretKey::from_seed(&[2; 32]).public()});
    let (status, said) = rig.ask(Method::POST, "/v1/enroll", "", Some(request)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{said}");
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_pushed_chunk_by_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let content = b"a small model".to_vec();
    let chunks: Vec<_> = cut(&content).into_iter().map(|(chunk, _)| chunk.sha256).collect();
    let publisher = std::fs::read_to_string(rig.bound.data_dir.join("trust/publisher.key")).unwrap();
    let publisher = SecretKey::from_file(&publisher).unwrap();
    let bytes = manifest("1.0.0", &content);
    let push =
        |key: &SecretKey| json!({"manifest": BASE64.encode(&bytes), "signatures": [sign(Kind::Manifest, &bytes, key)]});

    let missing = rig.post("/v1/blobs/missing", json!({"digests": chunks})).await;
    assert_eq!(missing["missing"], json!(chunks));
    let (status, said) = rig.ask(Method::POST, "/v1/releases", &rig.admin, Some(push(&publisher))).await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    let path = format!("/v1/blobs/{}", chunks[0]);
    for (body, expected) in
        [(b"\0wrong".to_vec(), StatusCode::BAD_REQUEST), (frame(&content).unwrap(), StatusCode::NO_CONTENT)]
    {
        let put = rig.client.put(rig.url(&path)).bearer_auth(&rig.admin).body(body).send().await.unwrap();
        assert_eq!(put.status(), expected);
    }
    let stranger = SecretKey::from_seed(&[9; 32]);
    let (status, said) = rig.ask(Method::POST, "/v1/releases", &rig.admin, Some(push(&stranger))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "the token may push: {said}");
    rig.post("/v1/releases", push(&publisher)).await;

    let shown = rig.get("/v1/releases/digits/1.0.0").await;
    assert_eq!(BASE64.decode(shown["manifest_bytes"].as_str().unwrap()).unwrap(), bytes);
    // Also by a reader that takes no field twice.
    let text = rig.client.get(rig.url("/v1/releases/digits/1.0.0")).bearer_auth(&rig.admin).send().await.unwrap();
    let detail: crate::api::types::ReleaseDetail = serde_json::from_str(&text.text().await.unwrap()).unwrap();
    assert_eq!(detail.summary.release.manifest, fieldpost_shared::id::Digest::of(&bytes));
    assert_eq!(detail.document["name"], "digits");
    assert_eq!((&shown["desired_on"], &shown["live_on"]), (&json!(0), &json!(0)));
    assert_eq!(rig.get("/v1/releases?model=digits").await.as_array().unwrap().len(), 1);
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_stands_in_a_log_that_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.enroll("a", 1).await;
    rig.post("/v1/devices/a/labels", json!({"set": {"tier": "lab"}})).await;
    rig.post("/v1/devices/a/revoke", json!({})).await;
    let entries: Vec<crate::api::types::AuditEntry> = serde_json::from_value(rig.get("/v1/audit").await).unwrap();
    verify(None, &entries).unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["token.create", "token.create", "device.enroll", "device.label", "device.revoke"]);
    assert_eq!(rig.get("/v1/audit?after=4").await.as_array().unwrap().len(), 1);
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_trust_is_gone_is_not_given_new_keys() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    rig.enroll("a", 1).await;
    let (trust, away) = (rig.bound.data_dir.join("trust"), rig.bound.data_dir.join("away"));
    rig.stopped().await.unwrap();
    fieldpost_shared::durable::publish(&trust, &away).unwrap();
    let refused = serve(config(dir.path(), ""), |_| {}, CancellationToken::new()).await.unwrap_err();
    assert!(
        fieldpost_shared::error_chain::Chain(&refused).to_string().contains("restore it from a backup"),
        "{refused}"
    );
    fieldpost_shared::durable::publish(&away, &trust).unwrap();
    Rig::start(dir.path()).await.stopped().await.unwrap();
}
