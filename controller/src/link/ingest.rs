//! What devices say becomes state: verified, compared with what is known, stored, and only then acknowledged.
//!
//! One thread takes messages in batches, so that a burst costs one commit and not one each. A commit that fails is
//! tried again until it succeeds or the process ends, as it does when sled's disk failed; meanwhile the queue fills and
//! the broker waits. Nothing that was refused changes anything, and nothing is acknowledged that is not on disk.
//!
//! Measured with `cargo bench -p fieldpost-tests --bench controller`, this crate optimised and its dependencies partly:
//! 8,400 messages of one 30-feature window (1.7 KB) per second of one core, verified, stored in sled and acknowledged.
//! So one thread serves a hundred thousand devices that report every minute.

mod batch;

use crate::fleet::Fleet;
use crate::link::outbox::Outbox;
use crate::metrics::Metrics;
use batch::Batch;
use bytes::Bytes;
use fieldpost_shared::backoff::Backoff;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::time::Clock;
use fieldpost_shared::wire::Topics;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that wait for the ingest. Full, it stops the reading from the broker.
pub const QUEUE: usize = 1_024;
/// Most messages of one commit.
const BATCH: usize = 256;
/// Waits between tries to commit.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(30) };
/// Refusals that are logged one by one; a flood is only counted.
const MAX_LOGGED: usize = 1_000;

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// Whether the broker had kept it: then it may be old news.
    pub retained: bool,
}

/// Takes up what devices say.
#[derive(Debug)]
pub struct Ingest {
    /// Who they are, and what they said before.
    pub fleet: Arc<Fleet>,
    /// What to tell them.
    pub outbox: Arc<Outbox>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names of topics.
    pub topics: Topics,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Ingest {
    /// Works until the queue is closed or it is told to stop. Blocks: give it a thread of its own.
    pub fn run(&self, mut queue: mpsc::Receiver<Inbound>, stop: &CancellationToken, reactor: &Handle) {
        let mut logged = HashSet::new();
        while let Some(first) = reactor.block_on(async {
            // Cancel-safe: a message that was not received stays in the queue.
            tokio::select! {
                () = stop.cancelled() => None,
                first = queue.recv() => first,
            }
        }) {
            let more = std::iter::from_fn(|| queue.try_recv().ok());
            let messages: Vec<_> = std::iter::once(first).chain(more).take(BATCH).collect();
            let batch = self.weigh(&messages, &mut logged);
            if !self.commit(&batch, stop, reactor) {
                return;
            }
            self.apply(batch);
        }
    }

    /// Decides on a batch without changing anything.
    fn weigh(&self, messages: &[Inbound], logged: &mut HashSet<(String, &'static str)>) -> Batch {
        let mut batch = Batch::default();
        for message in messages {
            if let Err(refused) = batch.weigh(self, message) {
                self.metrics.refuse(refused.kind, refused.reason);
                let told = (refused.device.clone(), refused.reason);
                if logged.len() < MAX_LOGGED && logged.insert(told) {
                    let (kind, reason) = (refused.kind, refused.reason);
                    let device: String = refused.device;
                    tracing::warn!(device, kind, reason, "a message is refused; more of the same are only counted");
                }
            }
        }
        batch
    }

    fn commit(&self, batch: &Batch, stop: &CancellationToken, reactor: &Handle) -> bool {
        if batch.writes.is_empty() {
            return true;
        }
        let mut failures = 0_u32;
        while let Err(error) = self.fleet.store().commit(batch.writes.clone()) {
            self.metrics.commit_failures.inc();
            if failures == 0 {
                tracing::error!(error = %Chain(&error), "what devices say cannot be stored; trying again until it can");
            }
            let wait = BACKOFF.wait(failures, 0);
            failures = failures.saturating_add(1);
            let stopped = reactor.block_on(async {
                tokio::select! {
                    () = stop.cancelled() => true,
                    () = tokio::time::sleep(wait) => false,
                }
            });
            if stopped {
                return false;
            }
        }
        if failures > 0 {
            tracing::info!("what devices say is stored again");
        }
        true
    }

    /// Lets the world know what is on disk now.
    fn apply(&self, batch: Batch) {
        self.metrics.windows_stored.inc_by(batch.windows);
        self.metrics.windows_lost.inc_by(batch.lost);
        self.metrics.old_births.inc_by(batch.old_births);
        for (kind, count) in &batch.received {
            self.metrics.received.get_or_create(&crate::metrics::KindLabel { kind }).inc_by(*count);
        }
        let devices: Vec<_> = batch.heard.keys().cloned().collect();
        let stood: Vec<_> = batch.reported.iter().map(|device| self.fleet.stood(device)).collect();
        self.fleet.take_up(batch.heard);
        self.outbox.push_all(batch.tell);
        stood.iter().for_each(|before| self.fleet.reported_or_said(before));
        for device in batch.full {
            if let Err(error) = self.fleet.prune(&device) {
                tracing::warn!(%device, error = %Chain(&error), "old statistics cannot be merged");
            }
        }
        devices.iter().for_each(|device| self.fleet.changed(device));
    }
}

#[cfg(test)]
mod tests;
