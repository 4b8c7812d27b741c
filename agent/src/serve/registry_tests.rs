use super::super::testing::FakeModel;
use super::*;
use crate::monitor::collector::{Measured, Timing};
use crate::monitor::testing;
use crate::runtime::Answer;
use fieldpost_shared::time::{ManualClock, Timestamp};
use std::time::Duration;

struct Fixture {
    registry: Registry,
    clock: Arc<ManualClock>,
    closed: mpsc::Receiver<ClosedWindow>,
    model: ModelName,
}

fn fixture() -> Fixture {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let (sender, closed) = mpsc::channel(16);
    let settings = MonitorSettings { window: Duration::from_secs(60), ..MonitorSettings::default() };
    let registry = Registry::new(Arc::clone(&clock) as Arc<dyn Clock>, settings, sender);
    Fixture { registry, clock, closed, model: testing::release("1.0.0").model }
}

fn answered(live: &Live) {
    live.collector().answered(Timing::default(), &Measured::default(), &[], None);
}

fn status(found: Result<Arc<Live>, ApiError>) -> u16 {
    found.map_or_else(|error| error.status.as_u16(), |_live| 200)
}

#[test]
fn a_model_is_unknown_then_expected_then_live_then_unknown() {
    let f = fixture();
    let find = || status(f.registry.find(Some("digits")));
    assert_eq!(find(), 404);
    f.registry.expect(&f.model);
    assert_eq!((find(), f.registry.is_ready()), (503, false));
    f.registry.install(FakeModel::new("1.0.0"));
    assert_eq!((find(), f.registry.is_ready()), (200, true));
    f.registry.remove(&f.model);
    assert_eq!((find(), f.registry.is_ready()), (404, false));
}

#[test]
fn without_a_name_there_must_be_exactly_one_model() {
    let f = fixture();
    assert_eq!(status(f.registry.find(None)), 503);
    f.registry.install(FakeModel::new("1.0.0"));
    assert_eq!(status(f.registry.find(None)), 200);
    f.registry.expect(&"other".parse().unwrap());
    let error = f.registry.find(None).unwrap_err();
    assert_eq!((error.status.as_u16(), error.message.contains("digits, other")), (400, true));
}

#[test]
fn a_name_that_is_none_is_unknown_and_shortened() {
    let message = fixture().registry.find(Some(&"/".repeat(5_000))).unwrap_err().message;
    assert!(message.len() < 120, "{message}");
}

#[tokio::test]
async fn the_old_window_closes_when_its_last_request_is_answered() {
    let mut f = fixture();
    f.registry.install(FakeModel::new("1.0.0"));
    let running = f.registry.find(None).unwrap();
    answered(&running);
    f.registry.install(FakeModel::new("1.1.0"));
    f.registry.close_windows(false).await;
    assert!(f.closed.try_recv().is_err(), "a request still runs on it");
    answered(&running);
    drop(running);
    f.registry.close_windows(false).await;
    let window = f.closed.try_recv().unwrap();
    assert_eq!((window.release.version.to_string().as_str(), window.content.requests), ("1.0.0", 2));
    assert!(f.closed.try_recv().is_err());
}

#[tokio::test]
async fn an_old_window_closes_by_the_timer_and_a_used_one_by_force() {
    let mut f = fixture();
    f.registry.install(FakeModel::new("1.0.0"));
    f.registry.close_windows(true).await;
    assert!(f.closed.try_recv().is_err(), "nothing happened");
    answered(&f.registry.find(None).unwrap());
    f.registry.close_windows(true).await;
    assert_eq!(f.closed.try_recv().unwrap().content.requests, 1);
    f.clock.advance(Duration::from_secs(60));
    f.registry.close_windows(false).await;
    assert_eq!(f.closed.try_recv().unwrap().content.requests, 0, "silence is news");
}

#[tokio::test]
async fn a_window_is_not_lost_when_nobody_takes_it_in_time() {
    let (sender, mut closed) = mpsc::channel(1);
    let settings = MonitorSettings { window: Duration::ZERO, ..MonitorSettings::default() };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(1)));
    let registry = Registry::new(clock, settings, sender);
    registry.install(FakeModel::new("1.0.0"));
    registry.close_windows(false).await;
    assert!(tokio::time::timeout(Duration::from_millis(10), registry.close_windows(false)).await.is_err());
    closed.try_recv().unwrap();
    registry.collect_windows(true);
    tokio::time::timeout(Duration::from_secs(10), registry.close_windows(true)).await.unwrap();
    assert!(closed.try_recv().is_ok(), "the one that had to wait");
}

#[test]
fn observed_starts_anew_with_each_install() {
    let f = fixture();
    f.registry.install(FakeModel::new("1.0.0"));
    answered(&f.registry.find(None).unwrap());
    f.registry.crashed(&f.model);
    let seen = f.registry.observed(&f.model).unwrap();
    assert_eq!((seen.requests, seen.model_errors), (1, 1));
    f.registry.install(FakeModel::new("1.1.0"));
    let seen = f.registry.observed(&f.model).unwrap();
    assert_eq!((seen.requests, seen.model_errors), (0, 0));
    assert_eq!(f.registry.live(&f.model).unwrap().version.to_string(), "1.1.0");
}

#[test]
fn a_replaced_release_frees_its_model() {
    let f = fixture();
    let model = FakeModel::new("1.0.0");
    let weak = Arc::downgrade(&model);
    f.registry.install(model);
    f.registry.remove(&f.model);
    f.registry.collect_windows(false);
    assert!(weak.upgrade().is_none());
}

/// A prediction of the live release is kept; its id is "a".
fn predicted(registry: &Registry) {
    let top = Answer::Classification { class: 7, label: None, score: 0.75, top: vec![], probabilities: vec![] };
    let live = registry.find(None).unwrap();
    let prediction = Prediction::of(&live.ledger, &[top]).unwrap();
    lock(&live.recent).remember("a", prediction, 0);
}

/// The truth is told about it.
fn labelled(registry: &Registry) {
    let recent = registry.recent("digits").unwrap();
    let mut recent = lock(&recent);
    let Prediction { by, rows } = recent.find("a").unwrap();
    by.labelled(&rows[0].said, &rows[0].said);
}

#[tokio::test]
async fn labels_of_a_replaced_release_have_windows_until_its_last_prediction_is_forgotten() {
    let mut f = fixture();
    f.registry.install(FakeModel::new("1.0.0"));
    predicted(&f.registry);
    f.registry.install(FakeModel::new("1.1.0"));
    let mut closed = async |pass: u64| {
        f.clock.advance(Duration::from_secs(pass));
        f.registry.close_windows(false).await;
        let mut windows = Vec::new();
        while let Ok(window) = f.closed.try_recv() {
            windows.push((window.content.version, window.content.labelled_correct.n));
        }
        windows
    };
    let live = ("1.1.0".to_owned(), 0);
    assert!(closed(30).await.is_empty());
    labelled(&f.registry);
    labelled(&f.registry);
    let checkpoints: Vec<u64> = f.registry.checkpoints().iter().map(|c| c.content.labelled_correct.n).collect();
    assert_eq!(checkpoints, [2], "a death loses none");
    assert_eq!(closed(30).await, [("1.0.0".to_owned(), 2), live.clone()]);
    assert_eq!(closed(60).await, [live], "what gets no label is no news");
    labelled(&f.registry);
    *lock(&f.registry.recent("digits").unwrap()) = Recent::default();
    assert_eq!(closed(1).await, [("1.0.0".to_owned(), 1)]);
    assert_eq!(lock(&f.registry.0.past).len(), 0);
}
