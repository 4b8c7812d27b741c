//! A release beside the live one, above all as a shadow.

use super::super::testing::FakeModel;
use super::super::{Portion, RivalError, Sticky};
use super::{LONG, Running, send};
use crate::runtime::{Answer, Found, InferError, Ranked};
use fieldpost_shared::bundle::Tensor;
use fieldpost_shared::id::ModelName;
use fieldpost_shared::stats::WindowStats;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

pub(super) fn digits() -> ModelName {
    "digits".parse().unwrap()
}

/// A model that counts its runs.
fn counting(version: &str) -> (Arc<FakeModel>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let model = FakeModel::with(version, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(vec![Tensor::from_f32(vec![1, 10], &[0.0; 10]).unwrap()])
    });
    (model, count)
}

pub(super) async fn version(server: &Running, id: &str) -> String {
    let answer = send(server.image().header("x-request-id", id)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["version"].as_str().unwrap().to_owned()
}

/// The live release's window, once so many requests were compared or failed in it.
async fn compared(server: &mut Running, requests: u64) -> WindowStats {
    let mut sum: Option<WindowStats> = None;
    let wait = async {
        loop {
            server.registry.close_windows(true).await;
            while let Ok(window) = server.closed.try_recv() {
                match &mut sum {
                    Some(sum) => sum.merge(&window.content).unwrap(),
                    None => sum = Some(window.content),
                }
            }
            let seen = sum.iter().flat_map(|sum| sum.pairs.iter());
            if seen.map(|p| p.latency.n() + p.other_errors + p.passed_over).sum::<u64>() >= requests {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("the pairs are counted");
    sum.unwrap()
}

#[tokio::test]
async fn a_shadow_sees_every_request_and_answers_none() {
    let mut server = Running::serving(FakeModel::new("1.0.0")).await;
    let (shadow, count) = counting("1.1.0");
    server.registry.set_shadow(shadow, Portion::ALL).unwrap();
    for n in 0..8 {
        assert_eq!(version(&server, &n.to_string()).await, "1.0.0");
    }
    let window = compared(&mut server, 8).await;
    let pair = window.pairs.iter().next().unwrap();
    assert_eq!(
        (pair.version.as_str(), pair.agreed.hits, pair.agreed.n, count.load(Ordering::SeqCst)),
        ("1.1.0", 8, 8, 8)
    );
    assert_eq!((pair.score_delta.n, pair.score_delta.sum_micros, pair.other_latency.n()), (8, 0, 8));
    assert_eq!((window.version.as_str(), window.requests, window.shadow_disagreements.n), ("1.0.0", 8, 8));
}

#[tokio::test]
async fn a_shadow_that_fails_or_panics_is_counted_and_nobody_notices() {
    for fault in [|| Err(InferError::Run("as the test wants".into())), || panic!("as the test wants")] {
        let mut server = Running::serving(FakeModel::new("1.0.0")).await;
        server.registry.set_shadow(FakeModel::with("1.1.0", move |_| fault()), Portion::ALL).unwrap();
        assert_eq!(version(&server, "a").await, "1.0.0");
        let window = compared(&mut server, 1).await;
        let pair = window.pairs.iter().next().unwrap();
        assert_eq!((pair.other_errors, pair.agreed.n, window.errors.by_model()), (1, 0, 0));
    }
}

/// What is counted of a shadow that answers `theirs` where the live release answers `mine`: compared rows, those on which
/// both said the same, requests that it failed, and requests of which the times are known. Counts of the window, and of the
/// box.
async fn shown(mine: Answer, theirs: Answer) -> [(u64, u64, u64, u64); 2] {
    let mut server = Running::serving(FakeModel::new("1.0.0").answering(vec![mine])).await;
    let shadow = FakeModel::new("1.1.0").answering(vec![theirs]);
    server.registry.set_shadow(shadow, Portion::ALL).unwrap();
    assert_eq!(send(server.image()).await.status, 200);
    let window = compared(&mut server, 1).await;
    let (pair, on_box) = (window.pairs.iter().next().unwrap(), server.registry.observed_rival(&digits()).unwrap().1);
    [
        (pair.agreed.n, pair.agreed.hits, pair.other_errors, pair.other_latency.n()),
        (on_box.agreed.n, on_box.agreed.hits, on_box.errors, on_box.answered),
    ]
}

fn objects(left: f32) -> Answer {
    let bounds = [left, 0.0, left + 10.0, 10.0];
    Answer::Detection { objects: vec![Found { class: 1, label: None, score: 0.5, bounds }] }
}

fn holding(label: &str) -> Answer {
    let labels = vec![Ranked { class: 0, label: Some(label.to_owned()), score: 0.75 }];
    Answer::MultiLabel { labels, probabilities: vec![0.75] }
}

#[tokio::test]
async fn a_shadow_of_a_detector_is_compared() {
    assert_eq!(shown(objects(0.0), objects(1.0)).await, [(1, 1, 0, 1); 2]);
    assert_eq!(shown(objects(0.0), objects(9.0)).await, [(1, 0, 0, 1); 2]);
}

#[tokio::test]
async fn a_shadow_of_a_model_of_several_labels_is_compared() {
    assert_eq!(shown(holding("red"), holding("red")).await, [(1, 1, 0, 1); 2]);
    assert_eq!(shown(holding("red"), holding("blue")).await, [(1, 0, 0, 1); 2]);
}

#[tokio::test]
async fn a_shadow_of_a_regression_is_compared() {
    let value = |value| Answer::Regression { value };
    assert_eq!(shown(value(1.0), value(1.001)).await, [(1, 1, 0, 1); 2]);
    assert_eq!(shown(value(1.0), value(2.0)).await, [(1, 0, 0, 1); 2]);
}

#[tokio::test]
async fn a_shadow_of_raw_outputs_is_compared() {
    assert_eq!(shown(Answer::Raw, Answer::Raw).await, [(1, 1, 0, 1); 2]);
}

#[tokio::test]
async fn a_shadow_of_another_kind_is_not_compared_and_that_is_no_error() {
    assert_eq!(shown(objects(0.0), holding("red")).await, [(0, 0, 0, 1); 2]);
}

#[tokio::test]
async fn a_shadow_prepares_text_as_its_own_bundle_says() {
    let mut server = Running::serving(FakeModel::new("1.0.0").taking_bytes(2)).await;
    let (see, seen) = mpsc::channel();
    let shadow = FakeModel::with("1.1.0", move |inputs| {
        see.send(inputs.to_vec()).ok();
        Ok(vec![Tensor::from_f32(vec![1, 10], &[0.0; 10]).unwrap()])
    });
    server.registry.set_shadow(shadow.taking_bytes(3), Portion::ALL).unwrap();
    assert_eq!(send(server.post("/predict", "text/plain", "abcd")).await.status, 200);
    compared(&mut server, 1).await;
    assert_eq!(seen.recv().unwrap(), [Tensor::from_f32(vec![1, 3], &[97.0, 98.0, 99.0]).unwrap()]);
}

#[tokio::test]
async fn a_shadow_that_stands_still_holds_nobody_up_and_what_it_misses_is_counted() {
    let mut server = Running::serving(FakeModel::new("1.0.0")).await;
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (begin, begun) = mpsc::channel();
    let shadow = FakeModel::with("1.1.0", move |_| {
        begin.send(()).ok();
        gate.lock().unwrap().recv().ok();
        Ok(vec![Tensor::from_f32(vec![1, 10], &[0.0; 10]).unwrap()])
    });
    server.registry.set_shadow(shadow, Portion::ALL).unwrap();
    assert_eq!(version(&server, "0").await, "1.0.0");
    tokio::task::spawn_blocking(move || begun.recv_timeout(LONG)).await.unwrap().unwrap();
    // One stands still, 32 wait, the rest is passed over. The gate opens only when that is counted: a request is answered
    // before its shadow is offered.
    for n in 1..50 {
        assert_eq!(version(&server, &n.to_string()).await, "1.0.0");
    }
    let missed = compared(&mut server, 17).await;
    drop(open);
    let seen = compared(&mut server, 33).await;
    let counts = |window: &WindowStats| window.pairs.iter().map(|p| (p.passed_over, p.agreed.n)).collect::<Vec<_>>();
    assert_eq!((counts(&missed), counts(&seen)), (vec![(17, 0)], vec![(0, 33)]));
}

#[tokio::test]
async fn a_swap_ends_shadow_and_split() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let candidate = FakeModel::new("1.1.0");
    let weak = Arc::downgrade(&candidate);
    server.registry.set_split(candidate, Portion::ALL, Sticky::Request).unwrap();
    assert_eq!(version(&server, "a").await, "1.1.0");
    server.registry.install(FakeModel::new("1.2.0"));
    assert_eq!((version(&server, "a").await.as_str(), server.registry.rival(&digits())), ("1.2.0", None));
    server.registry.close_windows(true).await;
    assert!(weak.upgrade().is_none(), "its memory is given back");
}

#[tokio::test]
async fn there_must_be_a_live_release_and_it_must_be_another() {
    let server = super::start().await;
    let set = |version: &str| server.registry.set_shadow(FakeModel::new(version), Portion::ALL);
    assert_eq!(set("1.1.0"), Err(RivalError::NotLive(digits())));
    server.registry.install(FakeModel::new("1.0.0"));
    assert!(matches!(set("1.0.0"), Err(RivalError::Live(_))));
    assert_eq!(set("1.1.0"), Ok(()));
    server.registry.clear_rival(&digits());
    assert_eq!(server.registry.rival(&digits()), None);
}
