//! More requests than threads: fair among models, together where that pays, and nobody fails for another.

use super::super::testing::FakeModel;
use super::super::{Model, ServeSettings};
use super::swap::{digits, sample};
use super::{Answered, LONG, Running, send, settings, start_with};
use crate::runtime::InferError;
use fieldpost_shared::bundle::Tensor;
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

fn one_thread(queue: usize) -> ServeSettings {
    ServeSettings { threads: NonZeroUsize::MIN, queue: NonZeroUsize::new(queue).unwrap(), ..settings() }
}

/// A digits model whose logits are all the first pixel of their row, and that fails where one is 13. Its first run stands
/// still until the sender is used, and says so. Sizes of batches are noted.
#[allow(clippy::type_complexity, reason = "four things, each named where they are taken")]
#[allow(clippy::cast_possible_truncation, reason = "a pixel")]
fn echo() -> (Arc<FakeModel>, mpsc::Sender<()>, UnboundedReceiver<()>, Arc<Mutex<Vec<usize>>>) {
    let (open, gate) = mpsc::channel::<()>();
    let (reached, begun) = tokio::sync::mpsc::unbounded_channel();
    let (gate, sizes) = (Mutex::new(Some(gate)), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&sizes);
    let model = FakeModel::with("1.0.0", move |inputs| {
        let gate = gate.lock().unwrap().take();
        if let Some(gate) = gate {
            reached.send(()).ok();
            gate.recv().ok();
        }
        let rows = inputs[0].shape[0];
        noted.lock().unwrap().push(rows);
        let first: Vec<f64> = inputs[0].to_f64().into_iter().step_by(64).collect();
        if first.contains(&13.0) {
            return Err(InferError::Run("an unlucky number".into()));
        }
        let values: Vec<f32> = first.iter().flat_map(|pixel| [*pixel as f32; 10]).collect();
        Ok(vec![Tensor::from_f32(vec![rows, 10], &values).unwrap()])
    });
    (model, open, begun, sizes)
}

fn tensors(server: &Running, value: f64) -> reqwest::RequestBuilder {
    let input = json!({ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": vec![value; 64] });
    server.post("/v2/models/digits/infer", "application/json", json!({ "inputs": [input] }).to_string())
}

async fn pending(server: &Running, model: &str, count: usize) {
    let wanted = format!("nv_inference_pending_request_count{{model=\"{model}\",version=\"1.0.0\"}} {count}\n");
    let poll = async {
        while !server.registry.metrics().text(false).1.contains(&wanted) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, poll).await.unwrap_or_else(|_| panic!("never {count} pending of {model}"));
}

/// The answers to these values, all but the first of which wait together; and the sizes that were run.
async fn answers(values: &[f64]) -> (Vec<(f64, Answered)>, Vec<usize>) {
    let server = start_with(one_thread(64)).await;
    let (model, open, mut begun, sizes) = echo();
    server.registry.install(model);
    server.registry.find(None).unwrap().batching.assume(8);
    let mut asked = JoinSet::new();
    for (at, value) in values.iter().copied().enumerate() {
        let request = tensors(&server, value);
        asked.spawn(async move { (value, send(request).await) });
        pending(&server, "digits", at + 1).await;
        if at == 0 {
            begun.recv().await.unwrap();
        }
    }
    open.send(()).unwrap();
    let answers = asked.join_all().await;
    let metrics = server.registry.metrics().text(false).1;
    let executed = |n: usize| format!("nv_inference_exec_count{{model=\"digits\",version=\"1.0.0\"}} {n}\n");
    let (sizes, failed) = (sizes.lock().unwrap().clone(), values.contains(&13.0));
    assert!(failed || metrics.contains(&executed(sizes.len())), "{sizes:?}");
    (answers, sizes)
}

#[tokio::test]
async fn waiting_requests_run_in_one_go_and_each_gets_its_own_answer() {
    let (answers, sizes) = answers(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).await;
    assert_eq!(sizes, [1, 4, 1], "five waited: four have a plan");
    for (value, answer) in answers {
        assert_eq!((answer.status, answer.json()["outputs"][0]["data"][0].as_f64()), (200, Some(value)));
    }
}

#[tokio::test]
async fn a_bad_request_in_a_batch_fails_alone() {
    let (answers, sizes) = answers(&[1.0, 2.0, 13.0, 4.0, 5.0]).await;
    assert_eq!(sizes, [1, 4, 1, 1, 1, 1]);
    for (value, answer) in answers {
        assert_eq!(answer.status, if value == 13.0 { 500 } else { 200 }, "{}", answer.body);
    }
}

#[tokio::test]
async fn small_bodies_of_no_stated_size_are_all_taken_at_once() {
    const AT_ONCE: usize = 64;
    let server = start_with(ServeSettings { queue: NonZeroUsize::new(AT_ONCE).unwrap(), ..settings() }).await;
    server.registry.install(FakeModel::new("1.0.0"));
    let begun = Arc::new(tokio::sync::Barrier::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for _ in 0..AT_ONCE {
        let begun = Arc::clone(&begun);
        // Its length is not known before its end, and its end does not come before all have begun.
        let rest = async move {
            begun.wait().await;
            Ok::<_, std::io::Error>("image")
        };
        let body = reqwest::Body::wrap_stream(stream::iter([Ok("an ")]).chain(stream::once(rest)));
        let request = server.post("/predict", "image/png", body);
        asked.spawn(async move { send(request).await.status });
    }
    assert_eq!(asked.join_all().await, [200; AT_ONCE]);
}

#[tokio::test]
async fn a_flood_for_one_model_does_not_close_the_door_to_another() {
    let server = start_with(one_thread(4)).await;
    let (slow, open, mut begun, _) = echo();
    server.registry.install(slow.named("slow"));
    server.registry.install(FakeModel::new("1.0.0").named("fast"));
    let mut flood = JoinSet::new();
    for count in 1..=5 {
        let request = server.post("/v2/models/slow/predict", "image/png", "an image");
        flood.spawn(async move { send(request).await.status });
        pending(&server, "slow", count).await;
        if count == 1 {
            begun.recv().await.unwrap();
        }
    }
    let mut calm = JoinSet::new();
    let request = server.post("/v2/models/fast/predict", "image/png", "an image");
    calm.spawn(async move { send(request).await.status });
    pending(&server, "fast", 1).await;
    let pushed_out = tokio::time::timeout(LONG, flood.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pushed_out, 503, "at once, before anything else was answered");
    open.send(()).unwrap();
    assert_eq!(calm.join_all().await, [200]);
    assert_eq!(flood.join_all().await, [200; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_model_is_measured_by_its_first_requests_and_answers_alike_in_company() {
    let server = start_with(one_thread(64)).await;
    let model = digits("digits-1.0", "1.0.0");
    server.registry.install(Arc::clone(&model) as Arc<dyn Model>);
    let ask = || send(server.post("/predict", "image/png", sample()));
    let alone = ask().await.json();
    ask().await;
    let live = server.registry.find(None).unwrap();
    let settled = async {
        while live.batching.measured().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, settled).await.expect("it is measured");
    // Whatever this machine found, the answers of a batch are those of single requests.
    live.batching.assume(8);
    let different = Arc::new(AtomicUsize::new(0));
    let mut asked = JoinSet::new();
    for _ in 0..64 {
        let (request, different) = (server.post("/predict", "image/png", sample()), Arc::clone(&different));
        let (label, score) = (alone["label"].clone(), alone["score"].as_f64().unwrap());
        asked.spawn(async move {
            let found = send(request).await.json();
            let same = found["label"] == label && (found["score"].as_f64().unwrap() - score).abs() < 1e-4;
            different.fetch_add(usize::from(!same), Ordering::SeqCst);
        });
    }
    asked.join_all().await;
    assert_eq!(different.load(Ordering::SeqCst), 0);
    let metrics = server.registry.metrics().text(false).1;
    assert!(metrics.contains("nv_inference_count{model=\"digits\",version=\"1.0.0\"} 66\n"), "{metrics}");
}
