//! Between the controller and the broker, whichever broker it is: what should be retained there, and what devices say.
//!
//! [`connection`] holds one connection, [`reconcile`] compares what the broker holds with what it should, [`ingest`]
//! believes or refuses what devices say. [`run`] keeps a connection up for as long as the controller lives.

pub mod connection;
pub mod ingest;
pub mod outbox;
pub mod reconcile;

use crate::fleet::Fleet;
use crate::metrics::Metrics;
use connection::{ConnectionFailed, Target};
use fieldpost_agent::link::tls::hint;
use fieldpost_shared::backoff::Backoff;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::time::Clock;
use fieldpost_shared::wire::Topics;
use ingest::Inbound;
use outbox::Outbox;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Waits between tries to connect.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(250), max: Duration::from_secs(30) };
/// A connection that lasted so long was a good one: the waits begin anew.
const LASTED: Duration = Duration::from_secs(60);

/// What a link is made of.
#[derive(Debug, Clone)]
pub struct Link {
    /// The truth about what should be retained.
    pub fleet: Arc<Fleet>,
    /// What waits.
    pub outbox: Arc<Outbox>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names of topics.
    pub topics: Topics,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where messages of devices go.
    pub inbound: mpsc::Sender<Inbound>,
    /// Whether the controller hears its devices.
    pub connected: watch::Sender<bool>,
}

/// Keeps a connection to the broker up until it is told to stop.
///
/// Each connection is made anew: rumqttc forgets its queue silently on a reconnect without a session, and the outbox
/// is what remembers.
pub async fn run(link: Link, target: Target, stop: CancellationToken) {
    let mut failures = 0_u32;
    // What the embedded broker holds is known at the first connection: nothing.
    let mut empty = target.starts_empty;
    loop {
        let began = link.clock.monotonic();
        let ended = tokio::select! {
            // Dropping a connection in the middle is what a shutdown means; what it had in flight is told again.
            () = stop.cancelled() => None,
            ended = connection::hold(&link, &target, empty) => Some(ended),
        };
        link.outbox.lost();
        link.fleet.set_listening(false);
        link.connected.send_replace(false);
        link.metrics.broker_connected.set(0);
        let Some(failed) = ended else { return };
        if failed.was_connected() {
            empty = false;
        }
        if link.clock.monotonic().saturating_sub(began) > LASTED {
            failures = 0;
        }
        let wait = BACKOFF.wait(failures, random());
        log(&failed, failures, wait);
        failures = failures.saturating_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => (),
        }
    }
}

/// Once loudly, then quietly: a broker that is away for a night must not fill the log.
fn log(failed: &ConnectionFailed, failures: u32, wait: Duration) {
    let error = match hint(failed) {
        Some(hint) => format!("{}; {hint}", Chain(failed)),
        None => Chain(failed).to_string(),
    };
    if failures == 0 {
        tracing::warn!(%error, ?wait, "the broker is away; trying again until it comes back");
    } else {
        tracing::debug!(%error, failures, ?wait, "the broker is still away");
    }
}

/// Spreads reconnects. Without random numbers all controllers wait alike, which harms nobody.
fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_or(0, |()| u64::from_be_bytes(bytes))
}

#[cfg(test)]
pub(crate) mod live_tests;
