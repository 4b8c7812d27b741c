//! Swaps under load with the real models: nobody fails, and every answer is of the version that it names.

use super::super::Model;
use super::{Running, settings, start_with};
use crate::monitor::testing;
use crate::runtime::{Answer, LoadedModel, PredictInput};
use fieldpost_shared::id::ReleaseRef;
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models").join(version)
}

pub(super) fn digits(folder_name: &str, version: &str) -> Arc<LoadedModel> {
    let mut manifest = testing::manifest();
    manifest.version = version.parse().unwrap();
    let release: ReleaseRef = testing::release(version);
    Arc::new(LoadedModel::load(&folder(folder_name), Arc::new(manifest), release).unwrap())
}

pub(super) fn sample() -> Vec<u8> {
    std::fs::read(folder("digits-1.0").join("samples/digit-7.png")).unwrap()
}

/// What a model says of an image when nobody disturbs it.
fn alone(model: &LoadedModel, image: &[u8]) -> f64 {
    let outputs = model.infer(&model.prepare(&PredictInput::Image(image)).unwrap().tensors).unwrap();
    match model.answer(&outputs, None).unwrap().as_slice() {
        [Answer::Classification { score, .. }] => f64::from(*score),
        other => panic!("{other:?}"),
    }
}

const SWAPS: usize = 20;
const REQUESTS: usize = 10_000;
const CALLERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_swaps_under_load_fail_nobody() {
    let server = start_with(super::ServeSettings { threads: NonZeroUsize::new(2).unwrap(), ..settings() }).await;
    let models: Vec<Arc<LoadedModel>> = vec![digits("digits-1.0", "1.0.0"), digits("digits-1.1", "1.1.0")];
    let image = sample();
    let scores: BTreeMap<String, f64> =
        models.iter().map(|model| (model.release().version.to_string(), alone(model, &image))).collect();
    assert_ne!(scores["1.0.0"].to_string(), scores["1.1.0"].to_string(), "else the test proves nothing");
    server.registry.install(Arc::clone(&models[0]) as Arc<dyn Model>);

    let mut callers = tokio::task::JoinSet::new();
    let (progress, mut answered) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..CALLERS {
        let (client, url) = (server.client.clone(), server.url("/predict"));
        let (image, progress) = (image.clone(), progress.clone());
        callers.spawn(async move {
            let mut seen = BTreeMap::<String, Vec<f64>>::new();
            for _ in 0..REQUESTS / CALLERS {
                let answer = client.post(&url).header("content-type", "image/png").body(image.clone()).send().await;
                let answer = answer.unwrap();
                assert_eq!(answer.status().as_u16(), 200);
                let json: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                let version = json["version"].as_str().unwrap().to_owned();
                seen.entry(version).or_default().push(json["score"].as_f64().unwrap());
                progress.send(()).unwrap();
            }
            seen
        });
    }
    // One swap for every so many answers, so that all happen under load whatever the machine's speed.
    for swap in 1..=SWAPS {
        for _ in 0..REQUESTS / (SWAPS + 1) {
            answered.recv().await.unwrap();
        }
        server.registry.install(Arc::clone(&models[swap % 2]) as Arc<dyn Model>);
    }
    let mut total = 0;
    for seen in callers.join_all().await {
        for (version, found) in seen {
            total += found.len();
            let wrong = found.iter().filter(|score| (**score - scores[&version]).abs() > 1e-6).count();
            assert_eq!(wrong, 0, "answers that name {version} and are not of it");
        }
    }
    assert_eq!(total, REQUESTS);

    let mut server = server;
    server.registry.close_windows(true).await;
    let mut windows = BTreeMap::<String, u64>::new();
    while let Ok(window) = server.closed.try_recv() {
        assert_eq!(window.content.errors, Default::default());
        *windows.entry(window.release.version.to_string()).or_default() += window.content.requests;
    }
    assert_eq!(
        windows.values().sum::<u64>(),
        u64::try_from(REQUESTS).unwrap(),
        "every request is in a window: {windows:?}"
    );
    assert!(windows.values().all(|n| *n > 100), "both versions answered: {windows:?}");
}

#[tokio::test]
async fn a_real_digit_is_recognised_over_http_in_both_protocols() {
    let server = super::start().await;
    server.registry.install(digits("digits-1.1", "1.1.0"));
    let answer = super::send(server.post("/predict", "image/png", sample())).await;
    assert_eq!((answer.status, answer.json()["label"].as_str()), (200, Some("7")));
    let model = digits("digits-1.1", "1.1.0");
    let tensor = model.prepare(&PredictInput::Image(&sample())).unwrap().tensors.remove(0).to_f64();
    let request = serde_json::json!({
        "inputs": [{ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": tensor }]
    });
    let answer = super::send(server.post("/v2/models/digits/infer", "application/json", request.to_string())).await;
    let logits = answer.json()["outputs"][0]["data"].as_array().unwrap().clone();
    let best = logits.iter().enumerate().max_by(|a, b| a.1.as_f64().unwrap().total_cmp(&b.1.as_f64().unwrap()));
    assert_eq!(best.unwrap().0, 7);
}

#[tokio::test]
async fn a_damaged_picture_is_400_from_the_real_decoder() {
    let mut server: Running = super::start().await;
    server.registry.install(digits("digits-1.0", "1.0.0"));
    let mut half = sample();
    half.truncate(half.len() / 2);
    let answer = super::send(server.post("/predict", "image/png", half)).await;
    assert_eq!((answer.status, answer.error().is_empty()), (400, false));
    assert_eq!(server.window().await.errors.malformed, 1);
}
