//! What is reported: composed anew whenever a part of it changes.

use super::inventory;
use crate::deploy::DriverHandle;
use crate::fetch::{Disk, Downloader};
use crate::link::Door;
use crate::monitor::ClosedWindow;
use crate::store::Store;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::time::Clock;
use fieldpost_shared::wire::v1::{Inventory, Report, Sequence};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long after a change of the deployments somebody may be waiting for word, and how often it is sent then.
const WATCHED: Duration = Duration::from_secs(900);
const WATCHED_INTERVAL: Duration = Duration::from_secs(10);

/// What a report is made of.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    pub driver: DriverHandle,
    pub door: Door,
    pub store: Arc<Store>,
    pub downloader: Downloader,
    pub disk: Disk,
    pub inventory: Inventory,
    pub clock: Arc<dyn Clock>,
}

impl Reporter {
    /// The report now; its sequence is given when it is sent.
    pub(super) fn compose(&self) -> Report {
        let (identity, status) = (self.door.identity(), self.driver.status().borrow().clone());
        let known = self.store.known().ok().and_then(|known| known.desired);
        let hold = self.store.hold().ok().flatten().filter(|hold| hold.holds(self.door.now()));
        Report {
            fleet: identity.fleet.clone(),
            device: identity.device.clone(),
            sequence: Sequence::default(),
            at: self.door.now(),
            desired_sequence: known.map_or(0, |desired| desired.sequence),
            root_version: self.door.root().version,
            inventory: self.inventory.clone(),
            models: status.models,
            quarantine: status.quarantine,
            outbox: self.store.outbox().unwrap_or_default(),
            refused: self.door.refused(),
            hold: hold.map(|hold| hold.reason),
            fetched_bytes: self.downloader.received_bytes(),
        }
    }

    /// Composes until shutdown: at once when the deployments change, every ten seconds for a while after that, since a
    /// rollout waits to hear that all is well, else every `interval`.
    pub(super) async fn run(mut self, report: watch::Sender<Report>, interval: Duration, shutdown: CancellationToken) {
        let mut status = self.driver.status();
        let mut kept = self.downloader.received_bytes();
        let mut watched_until = Duration::ZERO;
        loop {
            let now = self.clock.monotonic();
            let wait = if now < watched_until { interval.min(WATCHED_INTERVAL) } else { interval };
            tokio::select! {
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    watched_until = now.saturating_add(WATCHED);
                }
                () = tokio::time::sleep(wait) => {
                    let (disk, serving) = (self.disk.clone(), self.inventory.serving.clone());
                    let read = tokio::task::spawn_blocking(move || inventory::read(&disk, serving)).await;
                    if let Ok(inventory) = read {
                        self.inventory = inventory;
                    }
                }
                () = shutdown.cancelled() => return,
            }
            let received = self.downloader.received_bytes();
            if let Err(error) = self.store.add_fetched_bytes(received.saturating_sub(kept)) {
                tracing::error!(error = %Chain(&error), "cannot count fetched bytes");
            }
            kept = received;
            report.send_replace(self.compose());
        }
    }
}

/// Lets `timer` close windows, and puts them into the outbox until it ends.
pub(super) async fn keep_windows(
    timer: impl Future<Output = ()>,
    mut closed: mpsc::Receiver<ClosedWindow>,
    store: Arc<Store>,
    filled: Arc<Notify>,
) {
    let keep = |window: ClosedWindow| {
        let (store, filled) = (Arc::clone(&store), Arc::clone(&filled));
        async move {
            match tokio::task::spawn_blocking(move || store.push(&window.release, &window.content)).await {
                Ok(Ok(())) => filled.notify_one(),
                Ok(Err(error)) => tracing::error!(error = %Chain(&error), "cannot keep a window of statistics"),
                Err(error) => tracing::error!(%error, "cannot keep a window of statistics"),
            }
        }
    };
    tokio::pin!(timer);
    loop {
        tokio::select! {
            Some(window) = closed.recv() => keep(window).await,
            () = &mut timer => break,
        }
    }
    while let Ok(window) = closed.try_recv() {
        keep(window).await;
    }
}
