//! What the engine decides by itself, in the audit log: a person's commands are there already. The rollout's own journal
//! says the same with its reasons, so a stop between the two loses nothing but the line here.

use crate::audit::{Act, Audit};
use crate::rollout::engine::EngineHandle;
use crate::rollout::events::{Event, Record};
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::RolloutId;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Events asked for at once.
const PAGE: usize = 1_000;

/// The action and the reason of an event that the engine decided and that changes where a rollout goes.
fn verdict(event: &Event) -> Option<(&'static str, &str)> {
    Some(match event {
        Event::RollbackStarted { by: None, reason, .. } => ("rollout.take-back", reason),
        Event::Paused { by: None, reason, .. } => ("rollout.hold", reason),
        Event::RolledBack { .. } => ("rollout.taken-back", ""),
        Event::Completed { .. } => ("rollout.complete", ""),
        _ => return None,
    })
}

/// Listens until it is told to stop.
pub(super) async fn run(engine: EngineHandle, audit: Arc<Audit>, stop: CancellationToken) {
    let mut news = engine.news();
    // What happened before is in the log of those days.
    let known = engine.list().await.unwrap_or_default();
    let mut seen: HashMap<RolloutId, u64> = known.into_iter().map(|summary| (summary.id, summary.sequence)).collect();
    loop {
        // Cancel-safe: news that were not received stay in the channel.
        let told = tokio::select! {
            () = stop.cancelled() => return,
            told = news.recv() => told,
        };
        let rollouts = match told {
            Ok(news) => vec![news.rollout],
            Err(RecvError::Lagged(_)) => seen.keys().cloned().collect(),
            Err(RecvError::Closed) => return stop.cancelled().await,
        };
        for rollout in rollouts {
            let from = seen.get(&rollout).copied().unwrap_or(0);
            let Ok((_, records)) = engine.events(rollout.clone(), from, PAGE).await else { continue };
            let Some(last) = records.last().map(|record| record.sequence) else { continue };
            seen.insert(rollout.clone(), last);
            write(&audit, rollout, records).await;
        }
    }
}

async fn write(audit: &Arc<Audit>, rollout: RolloutId, records: Vec<Record>) {
    let audit = Arc::clone(audit);
    // The store blocks.
    let work = tokio::task::spawn_blocking(move || {
        for record in &records {
            let Some((action, detail)) = verdict(&record.event) else { continue };
            let act = Act { actor: "engine", action, subject: rollout.as_str(), detail };
            if let Err(error) = audit.commit(act, Vec::new()) {
                tracing::error!(%rollout, error = %Chain(&error), "a verdict cannot be noted in the log");
            }
        }
    });
    if let Err(error) = work.await {
        tracing::error!(%error, "the log of verdicts failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::engine::{Engine, EngineSettings};
    use crate::rollout::start::StartRequest;
    use crate::rollout::tests::{Behaviour, Rig, quick};
    use std::time::Duration;

    #[tokio::test]
    async fn a_rollback_that_nobody_asked_for_is_in_the_log_with_its_reason() {
        let rig = Rig::new(3);
        rig.release("1.2.0", Behaviour::OneClass);
        let audit = Arc::new(Audit::open(Arc::clone(&rig.store), rig.clock.clone()).unwrap());
        let settings = EngineSettings { every: Duration::from_millis(10), gap: Duration::from_millis(2) };
        let (engine, handle) = Engine::load(Rig::parts(&rig.clock, &rig.fleet, &rig.store), settings).unwrap();
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        let (running, listening) = (engine.run(stop.clone()), run(handle.clone(), Arc::clone(&audit), stop.clone()));
        tasks.spawn(async move { drop(running.await) });
        tasks.spawn(listening);
        let request = StartRequest {
            model: "digits".parse().unwrap(),
            version: "1.2.0".parse().unwrap(),
            strategy: quick("1,3"),
            retry_of: None,
        };
        handle.start(request, "ann".into()).await.unwrap();
        let log = || audit.after(0, 100).unwrap();
        let done = async {
            while !log().iter().any(|entry| entry.action == "rollout.taken-back") {
                rig.clock.advance(Duration::from_secs(1));
                rig.fleet.tick();
                // The engine shares this thread.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), done).await.unwrap();
        let back = log().into_iter().find(|entry| entry.action == "rollout.take-back").unwrap();
        assert!(back.actor == "engine" && back.detail.contains("PSI of the outputs"), "{back:?}");
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    }
}
