//! What is reported: composed anew whenever a part of it changes.

use super::inventory;
use crate::deploy::DriverHandle;
use crate::fetch::{Disk, Downloader};
use crate::link::Door;
use crate::monitor::ClosedWindow;
use crate::serve::Registry;
use crate::store::{MAX_WINDOW_BYTES, Store, StoreError};
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::time::Clock;
use fieldpost_shared::wire::v1::{Inventory, Report, Sequence};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long after a change of the deployments somebody may be waiting for word, and how often it is sent then.
const WATCHED: Duration = Duration::from_secs(900);
const WATCHED_INTERVAL: Duration = Duration::from_secs(10);

/// Closed windows that may wait for a disk that takes none; beyond that the oldest are merged.
const MAX_WAITING: usize = 64;
/// Between two tries to keep what waits.
const KEEP_AGAIN: Duration = Duration::from_secs(10);

/// Fetched bytes are counted on the disk in steps of so many while a download runs.
const COUNTED_BYTES: u64 = 4 << 20;

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
    /// The report now; its sequence is given when it is sent. Reads the store: blocking.
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
            let idle = tokio::select! {
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    watched_until = now.saturating_add(WATCHED);
                    false
                }
                () = tokio::time::sleep(wait) => {
                    let (disk, serving) = (self.disk.clone(), self.inventory.serving.clone());
                    let read = tokio::task::spawn_blocking(move || inventory::read(&disk, serving)).await;
                    if let Ok(inventory) = read {
                        self.inventory = inventory;
                    }
                    true
                }
                () = shutdown.cancelled() => return,
            };
            let received = self.downloader.received_bytes();
            let fetched = received.saturating_sub(kept);
            // Each count is a write to the flash; a crash may forget the last of it.
            let fetched = if idle || fetched >= COUNTED_BYTES { fetched } else { 0 };
            kept = kept.saturating_add(fetched);
            let reporter = self.clone();
            let composed = tokio::task::spawn_blocking(move || {
                if fetched > 0
                    && let Err(error) = reporter.store.add_fetched_bytes(fetched)
                {
                    tracing::error!(error = %Chain(&error), "cannot count fetched bytes");
                }
                reporter.compose()
            });
            match composed.await {
                Ok(composed) => drop(report.send_replace(composed)),
                Err(error) => tracing::error!(%error, "cannot compose a report"),
            }
        }
    }
}

/// Lets `timer` close windows, and puts them into the outbox until it ends. What the disk does not take waits here, and is
/// tried again. Between, the open ones are put on the disk: here, one after the other, so that no checkpoint of a window
/// comes after the window itself.
pub(super) async fn keep_windows(
    timer: impl Future<Output = ()>,
    registry: Registry,
    mut closed: mpsc::Receiver<ClosedWindow>,
    store: Arc<Store>,
    filled: Arc<Notify>,
) {
    let mut waiting = Waiting { store: Arc::clone(&store), filled, windows: VecDeque::new(), refused: false };
    let mut checkpoints = tokio::time::interval(registry.settings().checkpoint);
    checkpoints.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(timer);
    loop {
        // Cancel-safe: a window that was not taken stays in its channel, a sleep begins anew, a tick comes again.
        tokio::select! {
            Some(window) = closed.recv() => waiting.keep(window).await,
            () = tokio::time::sleep(KEEP_AGAIN), if waiting.refused => waiting.flush().await,
            _now = checkpoints.tick() => checkpoint(registry.checkpoints(), Arc::clone(&store)).await,
            () = &mut timer => break,
        }
    }
    while let Ok(window) = closed.try_recv() {
        waiting.keep(window).await;
    }
    if !waiting.windows.is_empty() {
        tracing::error!(
            windows = waiting.windows.len(),
            "windows of statistics are lost: the disk took none to the end"
        );
    }
}

/// Closed windows on their way to the outbox, oldest first.
struct Waiting {
    store: Arc<Store>,
    filled: Arc<Notify>,
    windows: VecDeque<ClosedWindow>,
    /// The store did not take the oldest at the last try.
    refused: bool,
}

impl Waiting {
    async fn keep(&mut self, window: ClosedWindow) {
        self.windows.push_back(window);
        if self.windows.len() > MAX_WAITING && !merge_oldest(&mut self.windows) {
            tracing::error!(
                "a window of statistics is lost: the disk takes none, and no two of those that wait fit together"
            );
            self.windows.pop_front();
        }
        self.flush().await;
    }

    async fn flush(&mut self) {
        while let Some(window) = self.windows.front().cloned() {
            let store = Arc::clone(&self.store);
            let pushed = tokio::task::spawn_blocking(move || store.push(&window.release, &window.content)).await;
            match pushed {
                Ok(Ok(())) => {
                    self.refused = false;
                    self.filled.notify_one();
                }
                // No try of this very window can end better.
                Ok(Err(error @ StoreError::WindowTooLarge { .. })) => {
                    tracing::error!(error = %Chain(&error), "a window of statistics is lost");
                }
                Err(error) => tracing::error!(%error, "a window of statistics is lost"),
                Ok(Err(error)) => {
                    if !self.refused {
                        tracing::error!(error = %Chain(&error), "cannot keep a window of statistics; tried again");
                    }
                    self.refused = true;
                    return;
                }
            }
            self.windows.pop_front();
        }
    }
}

/// Makes one window of the oldest two that are of one release and fit together; false when there are none.
fn merge_oldest(windows: &mut VecDeque<ClosedWindow>) -> bool {
    for older in 0..windows.len() {
        for newer in older.saturating_add(1)..windows.len() {
            let (Some(one), Some(other)) = (windows.get(older), windows.get(newer)) else { continue };
            if one.release != other.release {
                continue;
            }
            let mut content = one.content.clone();
            if content.merge(&other.content).is_ok() && content.encode().len() <= MAX_WINDOW_BYTES {
                windows.remove(newer);
                if let Some(one) = windows.get_mut(older) {
                    one.content = content;
                }
                return true;
            }
        }
    }
    false
}

/// Losing one is losing what a death in the next seconds would lose; so it is told, and not tried again.
async fn checkpoint(open: Vec<ClosedWindow>, store: Arc<Store>) {
    if open.is_empty() {
        return;
    }
    let keep = move || open.iter().try_for_each(|window| store.checkpoint(&window.release, &window.content));
    match tokio::task::spawn_blocking(keep).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %Chain(&error), "cannot put an open window of statistics on the disk"),
        Err(error) => tracing::error!(%error, "cannot put an open window of statistics on the disk"),
    }
}

#[cfg(test)]
#[path = "reporting_tests.rs"]
mod tests;
