//! Models that fail, queues that fill, callers that leave, servers that end.

use super::super::testing::FakeModel;
use super::super::{Model as _, ServeError, ServeSettings, Server};
use super::{LONG, Running, send, settings, start_monitored, start_with};
use crate::monitor::MonitorSettings;
use crate::runtime::InferError;
use fieldpost_shared::bundle::Tensor;
use serde_json::json;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A model that stands still until the sender sends or drops, and says when it was reached.
fn gated() -> (Arc<FakeModel>, mpsc::Sender<()>, tokio::sync::mpsc::UnboundedReceiver<()>, Arc<AtomicUsize>) {
    let (open, gate) = mpsc::channel::<()>();
    let (reached, begun) = tokio::sync::mpsc::unbounded_channel();
    let (gate, count) = (Mutex::new(gate), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let model = FakeModel::with("1.0.0", move |_inputs| {
        counted.fetch_add(1, Ordering::SeqCst);
        reached.send(()).ok();
        gate.lock().unwrap().recv().ok();
        Ok(vec![Tensor::from_f32(vec![1, 10], &[0.0; 10]).unwrap()])
    });
    (model, open, begun, count)
}

fn small() -> ServeSettings {
    ServeSettings { threads: NonZeroUsize::MIN, queue: NonZeroUsize::MIN, ..settings() }
}

async fn until(condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, poll).await.expect("it comes to pass");
}

#[tokio::test]
async fn an_error_of_the_model_is_500_and_counted_as_its_own() {
    let mut server =
        Running::serving(FakeModel::with("1.0.0", |_| Err(InferError::Run("a division by zero".into())))).await;
    let answer = send(server.image()).await;
    assert_eq!((answer.status, answer.error().as_str()), (500, "inference failed: a division by zero"));
    let seen = server.registry.observed(&"digits".parse().unwrap()).unwrap();
    assert_eq!((seen.requests, seen.model_errors), (1, 1));
    assert_eq!(server.window().await.errors.inference, 1);
}

#[tokio::test]
async fn nan_is_the_models_fault_unless_nan_went_in() {
    let nan = |_: &[Tensor]| Err(InferError::NanOutput { output: "logits".to_owned() });
    let mut server = Running::serving(FakeModel::with("1.0.0", nan)).await;
    assert_eq!(send(server.image()).await.status, 500);
    let mut data = vec![json!(0.5); 64];
    data[3] = json!(null);
    let inputs = json!({ "inputs": [{ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": data }] });
    let answer = send(server.post("/v2/models/digits/infer", "application/json", inputs.to_string())).await;
    assert_eq!((answer.status, answer.error().contains("because an input does")), (400, true));
    let window = server.window().await;
    assert_eq!((window.errors.nan_output, window.errors.malformed), (1, 1));
}

#[tokio::test]
async fn a_thread_that_breaks_costs_its_request_alone() {
    let count = AtomicUsize::new(0);
    let server = start_with(small()).await;
    server.registry.install(FakeModel::with("1.0.0", move |_| {
        assert!(count.fetch_add(1, Ordering::SeqCst) > 0, "as the test wants");
        Ok(vec![Tensor::from_f32(vec![1, 10], &[0.0; 10]).unwrap()])
    }));
    assert_eq!(send(server.image()).await.status, 500);
    assert_eq!(send(server.image()).await.status, 200);
    assert_eq!(server.registry.observed(&"digits".parse().unwrap()).unwrap().model_errors, 1);
}

#[tokio::test]
async fn a_full_queue_is_503_with_retry_after_at_once() {
    let mut server = start_with(small()).await;
    let (model, open, mut begun, _) = gated();
    server.registry.install(model);
    let (one, two) = (server.image(), server.image());
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { send(one).await.status });
    begun.recv().await.unwrap();
    waiting.spawn(async move { send(two).await.status });
    let pending = r#"nv_inference_pending_request_count{model="digits",version="1.0.0"} 2"#;
    until(|| server.registry.metrics().text(false).1.contains(pending)).await;
    let refused = send(server.image()).await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(refused.error(), "the queue is full");
    drop(open);
    assert_eq!(waiting.join_all().await, [200, 200]);
    let window = server.window().await;
    assert_eq!((window.requests, window.errors.queue_full, window.errors.by_model()), (3, 1, 0));
    assert!(window.queue_wait.max().unwrap() > Duration::ZERO);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_504_and_never_computed() {
    let mut server = start_with(small()).await;
    let (model, open, mut begun, count) = gated();
    server.registry.install(model);
    let first = server.image();
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { send(first).await.status });
    begun.recv().await.unwrap();
    let late = send(server.image().header("x-request-deadline-ms", "20")).await;
    assert_eq!((late.status, late.error().contains("deadline")), (504, true));
    drop(open);
    assert_eq!(waiting.join_all().await, [200]);
    let counted = r#"nv_inference_request_failure{model="digits",version="1.0.0",reason="OTHER"} 1"#;
    until(|| server.registry.metrics().text(false).1.contains(counted)).await;
    assert_eq!((count.load(Ordering::SeqCst), server.window().await.errors.deadline), (1, 1));
}

#[tokio::test]
async fn a_queue_full_of_calls_that_nobody_waits_for_takes_another() {
    let mut server = start_with(small()).await;
    let (model, open, mut begun, count) = gated();
    server.registry.install(model);
    let (first, third) = (server.image(), server.image());
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { send(first).await.status });
    begun.recv().await.unwrap();
    let late = send(server.image().header("x-request-deadline-ms", "20")).await;
    assert_eq!(late.status, 504);
    waiting.spawn(async move { send(third).await.status });
    let counted = r#"nv_inference_request_failure{model="digits",version="1.0.0",reason="OTHER"} 1"#;
    until(|| server.registry.metrics().text(false).1.contains(counted)).await;
    drop(open);
    assert_eq!(waiting.join_all().await, [200, 200]);
    let errors = server.window().await.errors;
    assert_eq!((count.load(Ordering::SeqCst), errors.deadline, errors.queue_full), (2, 1, 0));
}

#[tokio::test]
async fn a_model_that_hangs_is_counted_and_does_not_take_the_box_with_it() {
    let monitor = MonitorSettings { hang: Duration::from_millis(50), ..MonitorSettings::default() };
    let mut server = start_monitored(small(), monitor).await;
    let (model, open, mut begun, _) = gated();
    let name = model.release().model.clone();
    server.registry.install(model);
    let hanging = server.image().header("x-request-deadline-ms", "20");
    assert_eq!(send(hanging).await.status, 504);
    begun.recv().await.unwrap();
    until(|| {
        server.registry.give_up_hung();
        server.registry.observed(&name).unwrap().hung == 1
    })
    .await;
    server.registry.install(FakeModel::new("1.1.0"));
    assert_eq!(send(server.image()).await.status, 200, "another thread stands in for the one that hangs");
    // The window of the release that was taken back does not wait for what hangs.
    server.registry.close_windows(false).await;
    let window = server.closed.try_recv().unwrap().content;
    assert_eq!((window.version.as_str(), window.requests, window.errors.inference), ("1.0.0", 1, 1));
    drop(open);
    until(|| {
        server.registry.give_up_hung();
        *server.registry.hung().borrow() == 0
    })
    .await;
    assert_eq!(server.window().await.version, "1.1.0", "what came back after all is not counted again");
    assert!(server.closed.try_recv().is_err());
}

#[tokio::test]
async fn a_timeout_in_the_body_is_looked_at_before_and_after_the_model() {
    let mut server = start_with(small()).await;
    let (model, open, mut begun, count) = gated();
    server.registry.install(model);
    let asks = |us: u64| {
        let input = json!({ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": vec![0.5; 64] });
        let body = json!({ "inputs": [input], "parameters": { "timeout": us } });
        server.post("/v2/models/digits/infer", "application/json", body.to_string())
    };
    let at_once = send(asks(1)).await;
    assert_eq!((at_once.status, at_once.error().contains("deadline"), count.load(Ordering::SeqCst)), (504, true, 0));
    let patience = Duration::from_secs(2);
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(send(asks(2_000_000)));
    begun.recv().await.unwrap();
    tokio::time::sleep(patience).await;
    open.send(()).unwrap();
    assert_eq!(waiting.join_next().await.unwrap().unwrap().status, 504, "it was there too late");
    waiting.spawn(send(asks(30_000_000)));
    open.send(()).unwrap();
    assert_eq!(waiting.join_next().await.unwrap().unwrap().status, 200);
    let window = server.window().await;
    assert_eq!((window.errors.deadline, window.requests), (2, 3));
}

#[tokio::test]
async fn a_wrong_deadline_is_400() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    assert_eq!(send(server.image().header("x-request-deadline-ms", "soon")).await.status, 400);
}

#[tokio::test]
async fn a_caller_that_left_is_not_computed_for() {
    let server = start_with(small()).await;
    let (model, open, mut begun, count) = gated();
    server.registry.install(model);
    let first = server.image();
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { send(first).await.status });
    begun.recv().await.unwrap();
    let mut leaver = TcpStream::connect(server.address).await.unwrap();
    let request = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 1\r\n\r\nx";
    leaver.write_all(request).await.unwrap();
    let pending = |n: u32| format!("nv_inference_pending_request_count{{model=\"digits\",version=\"1.0.0\"}} {n}\n");
    until(|| server.registry.metrics().text(false).1.contains(&pending(2))).await;
    drop(leaver);
    // The server must have read the end of the connection before the thread is free again: a second one, opened after
    // it, is answered only then.
    assert_eq!(server.get("/v2/health/live").await.status, 200);
    open.send(()).unwrap();
    until(|| server.registry.metrics().text(false).1.contains(&pending(0))).await;
    assert_eq!(waiting.join_all().await, [200]);
    let canceled = r#"nv_inference_request_failure{model="digits",version="1.0.0",reason="CANCELED"} 1"#;
    assert!(server.registry.metrics().text(false).1.contains(canceled));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn going_down_finishes_what_runs_and_takes_nothing_new() {
    let server = start_with(small()).await;
    let (model, open, mut begun, _) = gated();
    server.registry.install(model);
    let running = server.image();
    let address = server.address;
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { send(running).await.status });
    begun.recv().await.unwrap();
    server.shutdown.cancel();
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(LONG, refused).await.expect("the listener closes while a request still runs");
    drop(open);
    assert_eq!(waiting.join_all().await, [200]);
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_the_server_from_ending() {
    let server = start_with(ServeSettings { drain: Duration::from_millis(50), ..small() }).await;
    let (model, _open, mut begun, _) = gated();
    server.registry.install(model);
    let running = server.image();
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { running.send().await.is_err() });
    begun.recv().await.unwrap();
    server.stop().await;
    assert_eq!(waiting.join_all().await, [true]);
}

#[tokio::test]
async fn a_head_or_body_that_does_not_come_is_cut_off() {
    let server = start_with(ServeSettings { read_timeout: Duration::from_millis(100), ..settings() }).await;
    server.registry.install(FakeModel::new("1.0.0"));
    let talk = async |request: &[u8]| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await.expect("it is cut off").unwrap();
        answer
    };
    assert_eq!(talk(b"POST /predict HT").await, "");
    let answer =
        talk(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 10\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains(r#"{"error":"the body did not come in time"}"#));
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_to_do() {
    let server = super::start().await;
    let settings = ServeSettings { http: server.address, ..settings() };
    let (_sender, status) = tokio::sync::watch::channel(json!({}));
    let error = Server::bind(settings, server.registry.clone(), status).await.unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }));
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {} (another program has the port: stop it, or choose another port)", server.address)
    );
}
