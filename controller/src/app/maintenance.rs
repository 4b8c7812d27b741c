//! What must be done now and then: new root versions, signatures that age, statistics that pile up, blobs that nobody
//! uses, and connections of devices that do not belong any more.

use crate::api::types::DeviceStatus;
use crate::audit::{Act, Audit};
use crate::broker::Disconnect;
use crate::fleet::Fleet;
use crate::link::outbox::{Item, Outbox};
use crate::metrics::{KindLabel, Metrics, RolloutLabel, StateLabel};
use crate::rollout::engine::EngineHandle;
use crate::rollout::machine::Stage;
use crate::rollout::view::RolloutSummary;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::time::Clock;
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// How often small things are looked at: a new root, signatures at half their time, gauges.
const OFTEN: Duration = Duration::from_secs(5);
/// How often large things are looked at: statistics and blobs that pile up.
const SELDOM: Duration = Duration::from_secs(3_600);
/// Every which round of the small things rollouts are summed up.
const SUMMED: u64 = 3;
/// Rollouts whose devices are counted, newest first: each is several series.
const COUNTED: usize = 100;
/// How long an upload may lie without a release.
const GIVEN_UP: Duration = Duration::from_secs(24 * 3600);

/// Looks after large things until it is told to stop: apart from the small ones, since a round over the statistics of a
/// large fleet takes a while, and a new root must not wait for it.
pub(super) async fn run_seldom(fleet: Arc<Fleet>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    loop {
        let (fleet, clock) = (Arc::clone(&fleet), Arc::clone(&clock));
        let stopped = stop.clone();
        // The store and the disk block.
        let work = tokio::task::spawn_blocking(move || hourly(&fleet, clock.as_ref(), &stopped));
        if let Err(error) = work.await {
            tracing::error!(%error, "housekeeping failed");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SELDOM) => (),
        }
    }
}

/// Looks after small things until it is told to stop.
pub(super) async fn run(
    fleet: Arc<Fleet>,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    engine: EngineHandle,
    stop: CancellationToken,
) {
    let mut shown = HashSet::new();
    for round in 0_u64.. {
        // To sum up rollouts of a large fleet is work; an engine that is busy for that long answers the next time.
        if round.is_multiple_of(SUMMED)
            && let Ok(Ok(all)) = tokio::time::timeout(OFTEN, engine.list()).await
        {
            rollouts(&all, &metrics, &mut shown);
        }
        let (fleet, outbox, metrics, audit) =
            (Arc::clone(&fleet), Arc::clone(&outbox), Arc::clone(&metrics), Arc::clone(&audit));
        // The store and the disk block.
        let work = tokio::task::spawn_blocking(move || {
            often(&fleet, &outbox, &audit);
            gauges(&fleet, &outbox, &metrics);
        });
        if let Err(error) = work.await {
            tracing::error!(%error, "housekeeping failed");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(OFTEN) => (),
        }
    }
}

fn report(what: &'static str, error: &(dyn Error + 'static)) {
    tracing::error!(error = %Chain(error), what, "housekeeping failed");
}

fn often(fleet: &Fleet, outbox: &Outbox, audit: &Audit) {
    match fleet.trust().reload() {
        Ok(false) => (),
        Ok(true) => {
            let root = fleet.trust().root();
            tracing::info!(version = root.version, "a new root version is in force");
            let (subject, detail) = (format!("version {}", root.version), format!("{} revoked", root.revoked.len()));
            let act = Act { actor: "controller", action: "trust.root", subject: &subject, detail: &detail };
            if let Err(error) = audit.commit(act, Vec::new()) {
                report("noting the new root version in the log", &error);
            }
            outbox.push_all(fleet.trust().roots().iter().map(|root| Item::Trust(root.metadata.version)));
        }
        Err(error) => report("taking up the next root version", &error),
    }
    match fleet.renew_due() {
        Ok(0) => (),
        Ok(devices) => tracing::info!(devices, "signed desired states anew"),
        Err(error) => report("signing desired states anew", &error),
    }
}

fn hourly(fleet: &Fleet, clock: &dyn Clock, stop: &CancellationToken) {
    let root = fleet.trust().root();
    if root.check_fresh(clock.now()).is_err() {
        tracing::error!(expired = %root.expires, "the root metadata has expired: nothing can change until a new version is signed");
    }
    for record in fleet.devices().list() {
        if stop.is_cancelled() {
            return;
        }
        if let Err(error) = fleet.prune(&record.id) {
            report("merging old statistics", &error);
        }
    }
    match fleet.releases().collect(GIVEN_UP) {
        Ok(0) => (),
        Ok(blobs) => tracing::info!(blobs, "deleted blobs of pushes that were given up"),
        Err(error) => report("deleting unused blobs", &error),
    }
}

fn gauges(fleet: &Fleet, outbox: &Outbox, metrics: &Metrics) {
    let devices = fleet.devices().list();
    let gauge = |kind: &'static str, count: usize| {
        metrics.devices.get_or_create(&KindLabel { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    };
    let of = |status: DeviceStatus| devices.iter().filter(|record| record.status == status).count();
    gauge("active", of(DeviceStatus::Active));
    gauge("pending", of(DeviceStatus::Pending));
    gauge("revoked", of(DeviceStatus::Revoked));
    gauge("alive", devices.iter().filter(|record| fleet.heard().find(&record.id).alive()).count());
    let ahead = |id: &DeviceId| fleet.devices().active_key(id).is_some() && fleet.ahead(id).is_some();
    gauge("ahead", devices.iter().filter(|record| ahead(&record.id)).count());
    metrics.outbox.set(i64::try_from(outbox.len()).unwrap_or(i64::MAX));
    let root = fleet.trust().root();
    metrics.root_version.set(i64::try_from(root.version).unwrap_or(i64::MAX));
    metrics.root_expires.set(Duration::from_millis(root.expires.as_millis()).as_secs_f64());
}

/// Rollouts in numbers. Of those that ended no devices are counted any more.
fn rollouts(all: &[RolloutSummary], metrics: &Metrics, shown: &mut HashSet<RolloutLabel>) {
    let mut by_state: BTreeMap<&str, i64> = Stage::NAMES.map(|state| (state, 0)).into();
    for rollout in all {
        *by_state.entry(&rollout.state).or_default() += 1;
    }
    for (state, count) in by_state {
        metrics.rollouts.get_or_create(&StateLabel { state: state.to_owned() }).set(count);
    }
    let mut now = HashSet::new();
    for rollout in all.iter().filter(|rollout| rollout.active).take(COUNTED) {
        for (standing, count) in rollout.counts.named() {
            let label = RolloutLabel {
                rollout: rollout.id.to_string(),
                model: rollout.release.model.to_string(),
                version: rollout.release.version.to_string(),
                standing,
            };
            metrics.rollout_devices.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
            now.insert(label);
        }
    }
    for gone in shown.difference(&now) {
        metrics.rollout_devices.remove(gone);
    }
    *shown = now;
}

/// Cuts the connection of every device that is revoked while it is connected.
pub(super) async fn cut_revoked(fleet: Arc<Fleet>, disconnect: Disconnect, stop: CancellationToken) {
    let mut changes = fleet.subscribe();
    let revoked = |record: &crate::fleet::devices::DeviceRecord| record.status == DeviceStatus::Revoked;
    loop {
        // Cancel-safe: a change that was not received stays in the channel.
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.recv() => changed,
        };
        match changed {
            Ok(device) => {
                if fleet.devices().find(&device).is_some_and(|record| revoked(&record)) {
                    disconnect.device(&device).await;
                }
            }
            Err(RecvError::Lagged(_)) => {
                for record in fleet.devices().list().iter().filter(|record| revoked(record)) {
                    disconnect.device(&record.id).await;
                }
            }
            Err(RecvError::Closed) => return stop.cancelled().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::tests::{Rig, quick};

    #[test]
    fn a_rollout_is_counted_while_it_goes_on() {
        let mut rig = Rig::new(4);
        let id = rig.start_with("1.1.0", quick("1,4"));
        rig.until(&id, "soaking");
        let (metrics, mut shown) = (Metrics::new(), HashSet::new());
        rollouts(&rig.core.list(), &metrics, &mut shown);
        let text = metrics.text();
        assert!(text.contains("fieldpost_rollouts{state=\"soaking\"} 1\n"), "{text}");
        assert!(text.contains("fieldpost_rollouts{state=\"paused\"} 0\n"), "{text}");
        let devices = format!("rollout=\"{id}\",model=\"digits\",version=\"1.1.0\"");
        assert!(text.contains(&format!("fieldpost_rollout_devices{{{devices},standing=\"live\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("fieldpost_rollout_devices{{{devices},standing=\"waiting\"}} 3\n")), "{text}");
        rig.until(&id, "completed");
        rollouts(&rig.core.list(), &metrics, &mut shown);
        let text = metrics.text();
        assert!(!text.contains(id.as_str()) && text.contains("fieldpost_rollouts{state=\"soaking\"} 0\n"), "{text}");
        assert!(text.contains("fieldpost_rollouts{state=\"completed\"} 1\n"), "{text}");
    }
}
