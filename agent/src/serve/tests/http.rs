//! What callers see when all is well with the model, and what they see when they are wrong.

use super::super::ServeSettings;
use super::super::testing::FakeModel;
use super::caller::Caller;
use super::{Running, send, settings, start, start_with};
use serde_json::json;

#[tokio::test]
async fn who_is_turned_away_before_the_queue_is_counted_by_status() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let sent = [
        (server.post("/v2/models/nobody/predict", "image/png", "an image"), 404),
        (server.image().header("content-encoding", "br"), 415),
        (
            server
                .post("/v2/models/digits/infer", "application/json", "{}")
                .header("inference-header-content-length", "x"),
            400,
        ),
    ];
    for (request, expected) in sent {
        assert_eq!(send(request).await.status, expected);
    }
    let mut caller = Caller::connect(&server).await.unwrap();
    assert!(caller.call("ModelInfer", b"no message").await.is_err());
    assert_eq!(send(server.image()).await.status, 200);
    let text = server.get("/metrics").await.body;
    let refused = |line: &str| text.lines().any(|found| found == format!("fieldpost_requests_refused{line} 1"));
    for code in ["404", "415", "400"] {
        assert!(refused(&format!("{{protocol=\"http\",code=\"{code}\"}}")), "{code}: {text}");
    }
    assert!(refused("{protocol=\"grpc\",code=\"InvalidArgument\"}"), "{text}");
    assert!(text.contains("\nfieldpost_queue_limit 64\n"), "{text}");
    let resident = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    assert!(resident.unwrap().parse::<u64>().unwrap() > 1 << 20);
}

#[tokio::test]
async fn an_image_is_answered_with_label_score_and_who_said_so() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let answer = send(server.image().header("x-request-id", "abc")).await;
    assert_eq!((answer.status, &answer.headers["content-type"]), (200, &"application/json".parse().unwrap()));
    assert_eq!(
        answer.json(),
        json!({
            "label": "7", "class": 7, "score": 0.75, "top": [{ "label": "7", "class": 7, "score": 0.75 }],
            "model": "digits", "version": "1.0.0", "request_id": "abc"
        })
    );
    assert_eq!(answer.headers["x-request-id"], "abc");
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_as_all_else_is() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    for path in ["/v2/models/%ff", "/v2/models/%ff/ready", "/v2/models/digits/versions/%ff"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.error().contains("UTF-8")), (400, true), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_request_without_an_id_gets_one() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let answer = send(server.image()).await;
    assert_eq!(answer.json()["request_id"], answer.headers["x-request-id"].to_str().unwrap());
}

#[tokio::test]
async fn a_refusal_has_a_request_id_too() {
    let answer = send(start().await.image().header("x-request-id", "abc")).await;
    assert_eq!((answer.status, &answer.headers["x-request-id"]), (503, &"abc".parse().unwrap()));
}

#[tokio::test]
async fn several_models_are_told_apart_by_name() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    server.registry.install(FakeModel::new("2.0.0").named("other"));
    let ask = |path: &str| send(server.post(path, "image/png", "an image"));
    assert_eq!(ask("/predict?model=other").await.json()["version"], "2.0.0");
    assert_eq!(ask("/v2/models/digits/predict").await.json()["version"], "1.0.0");
    let refused = ask("/predict").await;
    assert_eq!((refused.status, refused.error().contains("digits, other")), (400, true));
    assert_eq!(ask("/predict?model=third").await.status, 404);
    assert_eq!(ask("/predict?model=a&model=b").await.status, 400);
}

#[tokio::test]
async fn unknown_is_404_and_not_yet_loaded_503_with_retry_after() {
    let server = start().await;
    let ask = || send(server.post("/v2/models/digits/predict", "image/png", "an image"));
    assert_eq!(ask().await.status, 404);
    server.registry.expect(&"digits".parse().unwrap());
    let refused = ask().await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(refused.error().contains("not ready"));
}

#[tokio::test]
async fn what_callers_do_wrong_is_not_held_against_the_model() {
    let mut server = Running::serving(FakeModel::new("1.0.0")).await;
    let damaged = send(server.post("/predict", "image/png", "damaged")).await;
    assert_eq!((damaged.status, damaged.error().as_str()), (400, "the image is neither JPEG, PNG, WebP nor BMP"));
    let malformed = send(server.post("/predict", "application/json", "{\"a\": NaN}")).await;
    assert_eq!((malformed.status, malformed.error().starts_with("malformed JSON")), (400, true));
    send(server.image()).await;
    let window = server.window().await;
    assert_eq!((window.requests, window.errors.malformed, window.errors.by_model()), (3, 2, 0));
}

#[tokio::test]
async fn bodies_are_bounded_and_typed() {
    let server = start_with(ServeSettings { max_body_bytes: 1_000, ..settings() }).await;
    server.registry.install(FakeModel::new("1.0.0"));
    let large = send(server.post("/predict", "image/png", vec![0; 1_001])).await;
    assert_eq!((large.status, large.error().as_str()), (413, "the body is larger than 1000 bytes"));
    let chunks = futures_util::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(vec![0_u8; 500])));
    let chunked = send(server.post("/predict", "image/png", reqwest::Body::wrap_stream(chunks))).await;
    assert_eq!(chunked.status, 413);
    assert_eq!(send(server.post("/predict", "image/png", vec![0; 1_000])).await.status, 200);
    let text = send(server.post("/predict", "text/plain", "hello")).await;
    assert_eq!((text.status, text.error().contains("image/png")), (415, true));
    let packed = send(server.post("/predict", "image/png", "x").header("content-encoding", "br")).await;
    assert_eq!((packed.status, packed.error().contains("send gzip, deflate, or none")), (415, true));
}

#[tokio::test]
async fn wrong_paths_and_methods_are_json_errors() {
    let server = start().await;
    let lost = server.get("/nowhere").await;
    assert_eq!((lost.status, lost.error().as_str()), (404, "no such path"));
    let wrong = server.get("/predict").await;
    assert_eq!((wrong.status, wrong.error().is_empty()), (405, false));
}

#[tokio::test]
async fn status_is_what_the_app_says() {
    let server = start().await;
    assert_eq!(server.get("/status").await.json(), json!({ "device": "box-1" }));
}

#[tokio::test]
async fn metrics_have_tritons_names_in_both_formats() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    send(server.image()).await;
    send(server.post("/predict", "image/png", "damaged")).await;
    let plain = server.get("/metrics").await;
    assert!(plain.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let has = |line: &str| assert!(plain.body.lines().any(|l| l == line), "{line} in\n{}", plain.body);
    has("# TYPE nv_inference_request_success counter");
    has(r#"nv_inference_request_success{model="digits",version="1.0.0"} 1"#);
    has(r#"nv_inference_request_failure{model="digits",version="1.0.0",reason="OTHER"} 1"#);
    has(r#"nv_inference_request_failure{model="digits",version="1.0.0",reason="BACKEND"} 0"#);
    has(r#"nv_inference_count{model="digits",version="1.0.0"} 1"#);
    has(r#"nv_inference_exec_count{model="digits",version="1.0.0"} 1"#);
    has(r#"nv_inference_pending_request_count{model="digits",version="1.0.0"} 0"#);
    has("# TYPE fieldpost_request_duration_seconds histogram");
    has(r#"fieldpost_request_duration_seconds_count{model="digits",version="1.0.0"} 1"#);
    for part in ["request", "queue", "compute_input", "compute_infer", "compute_output"] {
        assert!(plain.body.contains(&format!("nv_inference_{part}_duration_us{{model=\"digits\"")), "{part}");
    }
    assert!(!plain.body.contains("unknown") && !plain.body.contains("# EOF"));
    let open = send(server.client.get(server.url("/metrics")).header("accept", "application/openmetrics-text")).await;
    assert!(open.body.ends_with("# EOF\n") && open.body.contains("# TYPE nv_inference_request_success unknown\n"));
}

#[tokio::test]
async fn series_of_versions_long_gone_are_dropped() {
    let server = start().await;
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        server.registry.install(FakeModel::new(version));
    }
    let text = server.get("/metrics").await.body;
    assert!(!text.contains("1.0.0") && ["1.1.0", "1.2.0", "1.3.0"].iter().all(|v| text.contains(v)), "{text}");
}
