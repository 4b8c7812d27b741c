use super::*;
use crate::rollout::core::CoreParts;
use crate::rollout::tests::{Rig, quick};
use tokio::task::JoinSet;

const SETTINGS: EngineSettings = EngineSettings { every: Duration::from_millis(10), gap: Duration::from_millis(2) };
const DEADLINE: Duration = Duration::from_secs(60);

fn request(version: &str) -> StartRequest {
    StartRequest {
        model: "digits".parse().unwrap(),
        version: version.parse().unwrap(),
        strategy: quick("1,3"),
        retry_of: None,
    }
}

struct Running {
    rig: Rig,
    handle: EngineHandle,
    tasks: JoinSet<Result<(), EngineError>>,
    shutdown: CancellationToken,
}

fn run() -> Running {
    let rig = Rig::new(3);
    let (engine, handle) = Engine::load(parts(&rig), SETTINGS).unwrap();
    let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
    tasks.spawn(engine.run(shutdown.clone()));
    Running { rig, handle, tasks, shutdown }
}

fn parts(rig: &Rig) -> CoreParts {
    Rig::parts(&rig.clock, &rig.fleet, &rig.store)
}

/// Lets simulated seconds pass until the news says that the rollout is in this state.
async fn until(running: &Running, rollout: &RolloutId, state: &str) {
    let mut news = running.handle.news();
    let reached = async {
        while running.handle.show(rollout.clone(), 0).await.unwrap().summary.state != state {
            running.rig.clock.advance(Duration::from_secs(1));
            running.rig.fleet.tick();
            // Whether or not something happened in this second, the next one begins.
            drop(tokio::time::timeout(Duration::from_millis(20), news.recv()).await);
        }
    };
    tokio::time::timeout(DEADLINE, reached).await.unwrap_or_else(|_late| panic!("never {state}"));
}

#[tokio::test]
async fn the_engine_completes_a_rollout_by_itself() {
    let running = run();
    let started = running.handle.start(request("1.1.0"), "ann".into()).await.unwrap();
    until(&running, &started.id, "completed").await;
    assert_eq!(running.rig.running("1.1.0").len(), 3);
    assert_eq!(running.handle.list().await.unwrap().len(), 1);
    let (summary, events) = running.handle.events(started.id.clone(), 0, 1_000).await.unwrap();
    assert_eq!(events.len() as u64, summary.sequence);
    assert_eq!(running.handle.explain(started.id, EventsFrom::After(0), 10).await.unwrap().state, "completed");
}

#[tokio::test]
async fn a_stopped_engine_ends_and_another_resumes() {
    let mut running = run();
    let started = running.handle.start(request("1.1.0"), "ann".into()).await.unwrap();
    until(&running, &started.id, "soaking").await;
    running.shutdown.cancel();
    tokio::time::timeout(DEADLINE, running.tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert!(matches!(running.handle.list().await, Err(EngineError::Stopped)));
    let (engine, handle) = Engine::load(parts(&running.rig), SETTINGS).unwrap();
    (running.handle, running.shutdown) = (handle, CancellationToken::new());
    running.tasks.spawn(engine.run(running.shutdown.clone()));
    until(&running, &started.id, "completed").await;
}

#[tokio::test]
async fn a_refused_request_reaches_the_caller_and_the_engine_goes_on() {
    let running = run();
    let error = running.handle.start(request("9.9.9"), "ann".into()).await.unwrap_err();
    assert!(matches!(error, EngineError::Core(CoreError::Start(_))), "{error:?}");
    let unknown = running.handle.show("r-nobody".parse().unwrap(), 0).await.unwrap_err();
    assert!(matches!(unknown, EngineError::Core(CoreError::Unknown { .. })), "{unknown:?}");
    assert!(running.handle.list().await.unwrap().is_empty());
}
