//! The life of the line: connect, say who and what we are, listen, pump statistics, reconnect with back-off.

use super::connection::{ConnectError, ConnectOptions, Connection, Incoming, Stuck};
use super::door::{Door, Heard};
use super::reports;
use super::speaker::Speaker;
use super::tls;
use crate::fetch::BlobExchange;
use crate::fetch::exchange::Want;
use crate::store::{Counter, Pending, Store, StoreError};
use fieldpost_shared::backoff::Backoff;
use fieldpost_shared::bundle::chunk::MAX_PAYLOAD_BYTES;
use fieldpost_shared::time::Clock;
use fieldpost_shared::wire::names::device_level;
use fieldpost_shared::wire::v1::Report;
use fieldpost_shared::wire::{Topic, Topics};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How the line behaves.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// TLS, when the broker speaks it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Between pings.
    pub keep_alive: Duration,
    /// Between reports when nothing changes.
    pub report_interval: Duration,
    /// Waits between connections.
    pub backoff: Backoff,
    /// Topic names.
    pub topics: Topics,
}

/// First wait for an acknowledgement of statistics; doubles up to five minutes.
const ACK_PATIENCE: Backoff = Backoff { base: Duration::from_secs(10), max: Duration::from_secs(300) };
/// Bytes of windows in one message; the envelope comes on top.
const STATS_BYTES: usize = MAX_PAYLOAD_BYTES - 4 * 1024;
/// A connection that lived this long resets the back-off.
const STEADY: Duration = Duration::from_secs(30);

/// So often a session that the controller does not take is followed by another at once.
const OVERTAKEN: u32 = 2;

/// Whether the line is up, for `status` and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum LineState {
    /// Between connections.
    Down {
        /// Why the last one ended.
        reason: String,
    },
    /// Connected.
    Up,
}

/// The line's driver.
#[derive(Debug)]
pub struct Link {
    /// How it behaves.
    pub settings: LinkSettings,
    /// Signs what is said.
    pub speaker: Speaker,
    /// Judges what is heard.
    pub door: Door,
    /// Blobs that downloads wait for.
    pub exchange: BlobExchange,
    /// Sequences and the outbox.
    pub store: Arc<Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The latest report's content; its sequence is filled in here.
    pub report: watch::Receiver<Report>,
    /// Told when a window was put into the outbox.
    pub outbox_filled: Arc<Notify>,
    /// Told of the line's state.
    pub state: watch::Sender<LineState>,
}

enum End {
    Lost(ConnectError),
    Stuck,
    NotKept,
    Overtaken,
    Store(StoreError),
}

impl From<Stuck> for End {
    fn from(_: Stuck) -> Self {
        Self::Stuck
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Link {
    /// Runs until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (mut failures, mut overtaken) = (0_u32, 0_u32);
        while !shutdown.is_cancelled() {
            let started = self.clock.monotonic();
            let end = match self.talk(&shutdown).await {
                Ok(()) => break,
                Err(end) => end,
            };
            let again = matches!(end, End::Overtaken);
            let reason = match end {
                End::Lost(error) => {
                    if matches!(error, ConnectError::Refused(_)) {
                        tokio::select! {
                            () = self.door.login_refused() => {}
                            () = shutdown.cancelled() => break,
                        }
                    }
                    let reason = fieldpost_shared::error_chain::Chain(&error).to_string();
                    match tls::hint(&error) {
                        Some(hint) => format!("{reason}; {hint}"),
                        None => reason,
                    }
                }
                End::Stuck => Stuck.to_string(),
                End::Overtaken => "the controller has heard this box in a later epoch".to_owned(),
                End::NotKept => "what was heard could not be stored".to_owned(),
                End::Store(error) => fieldpost_shared::error_chain::Chain(&error).to_string(),
            };
            if self.clock.monotonic().saturating_sub(started) > STEADY {
                (failures, overtaken) = (0, 0);
            }
            let mut random = [0; 8];
            if let Err(error) = getrandom::fill(&mut random) {
                tracing::warn!(%error, "no random numbers: the fleet reconnects in step");
            }
            let (now, random) = (self.clock.monotonic(), u64::from_le_bytes(random));
            let wait = if again && overtaken < OVERTAKEN {
                // Whoever has just taken the line, and is not believed on it, comes back at once, and stays.
                overtaken = overtaken.saturating_add(1);
                self.settings.backoff.wait(0, random)
            } else {
                let rival = self.door.rivals().wait(now, random);
                rival.unwrap_or_else(|| self.settings.backoff.wait(failures, random))
            };
            failures = failures.saturating_add(1);
            tracing::warn!(reason, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "line down");
            self.state.send_replace(LineState::Down { reason });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => break,
            }
        }
    }

    /// One connection, from the login to its end; Ok when the agent is stopping. A farewell is said before that, so the
    /// caller must not drop this future.
    async fn talk(&mut self, shutdown: &CancellationToken) -> Result<(), End> {
        let identity = self.speaker.identity().clone();
        let now = self.door.now();
        let session = self.store.background(|store| store.next(Counter::Session)).await?;
        let alive_topic = self.settings.topics.name(&Topic::Alive(identity.device.clone()));
        let death = self.speaker.alive(session, false, now);
        let opening = Connection::open(ConnectOptions {
            host: identity.broker.host.clone(),
            port: identity.broker.port,
            tls: self.settings.tls.clone(),
            client_id: self.speaker.client_id(),
            login: Some((device_level(&identity.device), self.speaker.password(self.door.login_time()))),
            keep_alive: self.settings.keep_alive,
            will: Some((alive_topic.clone(), death.clone())),
            inflight: 16,
        });
        let mut connection = tokio::select! {
            opened = opening => opened.map_err(End::Lost)?,
            () = shutdown.cancelled() => return Ok(()),
        };
        tracing::info!(broker = %identity.broker.host, port = identity.broker.port, "line up");
        self.state.send_replace(LineState::Up);

        let own = [Topic::Desired(identity.device.clone()), Topic::Ack(identity.device.clone())];
        connection
            .subscribe(own.iter().chain(&[self.door.next_root()]).map(|topic| self.settings.topics.name(topic)))?;
        connection.publish(alive_topic.clone(), self.speaker.alive(session, true, now), true)?;
        let (outstanding, wants) = self.exchange.connect();
        connection.subscribe(outstanding.into_iter().map(|blob| self.settings.topics.name(&Topic::Blob(blob))))?;
        let sent = self.publish_report(&connection).await?;

        let ended = self.converse(&mut connection, wants, sent, shutdown).await;
        if matches!(ended, Ok(())) {
            connection.publish(alive_topic, death, true)?;
            connection.close(Duration::from_secs(2)).await;
        }
        ended
    }

    /// Every arm is cancel-safe: channels, notifications, timers.
    async fn converse(
        &mut self,
        connection: &mut Connection,
        mut wants: mpsc::UnboundedReceiver<Want>,
        mut sent: (Report, Duration),
        shutdown: &CancellationToken,
    ) -> Result<(), End> {
        let mut pump = Pump::default();
        self.pump(connection, &mut pump).await?;
        let mut report_due = self.clock.monotonic().saturating_add(self.settings.report_interval);
        let outbox_filled = Arc::clone(&self.outbox_filled);
        loop {
            let now = self.clock.monotonic();
            tokio::select! {
                event = connection.next() => match event {
                    Some(Incoming::Message { topic, payload, .. }) => {
                        match self.door.hear(&self.settings.topics, &topic, payload, &self.exchange).await {
                            Heard::Acknowledged => {
                                pump = Pump::default();
                                self.pump(connection, &mut pump).await?;
                            }
                            Heard::NewRoot => {
                                let next = self.settings.topics.name(&self.door.next_root());
                                connection.subscribe([next])?;
                            }
                            Heard::NotKept => return Err(End::NotKept),
                            Heard::Overtaken => return Err(End::Overtaken),
                            Heard::Other => {}
                        }
                    }
                    Some(Incoming::SubscriptionRefused) => {
                        tracing::warn!("the broker refused a subscription: its access list does not know this device");
                    }
                    Some(Incoming::Published) => {}
                    Some(Incoming::Lost(error)) => return Err(End::Lost(error)),
                    None => return Err(End::Stuck),
                },
                Some(want) = wants.recv() => match want {
                    Want::Start(blob) => connection.subscribe([self.settings.topics.name(&Topic::Blob(blob))])?,
                    Want::Stop(blob) => connection.unsubscribe(self.settings.topics.name(&Topic::Blob(blob)))?,
                },
                changed = self.report.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let due = reports::due(Some(&sent), &self.report.borrow_and_update(), now);
                    report_due = report_due.min(due);
                }
                () = tokio::time::sleep(report_due.saturating_sub(now)) => {
                    sent = self.publish_report(connection).await?;
                    // It may be the clock that was wrong: what it made look expired is looked at again.
                    if self.door.present_again().await == Heard::NotKept {
                        return Err(End::NotKept);
                    }
                    report_due = now.saturating_add(self.settings.report_interval);
                }
                () = outbox_filled.notified() => self.pump(connection, &mut pump).await?,
                () = tokio::time::sleep(pump.remaining(now)), if pump.waiting_since.is_some() => {
                    pump.again();
                    self.pump(connection, &mut pump).await?;
                }
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Sends the report as it is now; gives what was sent, and when.
    async fn publish_report(&mut self, connection: &Connection) -> Result<(Report, Duration), End> {
        let mut report = self.report.borrow_and_update().clone();
        let sent = (report.clone(), self.clock.monotonic());
        report.sequence = self.store.background(|store| store.next(Counter::Report)).await?;
        report.at = self.door.now();
        match reports::fitted(report, MAX_PAYLOAD_BYTES, |report| self.speaker.report(report)) {
            Some(payload) => {
                let topic = Topic::Report(self.speaker.identity().device.clone());
                connection.publish(self.settings.topics.name(&topic), payload, true)?;
            }
            None => tracing::error!("a report is too large to send"),
        }
        Ok(sent)
    }

    /// Sends the oldest windows that no acknowledgement covers, one message at a time.
    async fn pump(&self, connection: &Connection, pump: &mut Pump) -> Result<(), End> {
        if pump.waiting_since.is_some() {
            return Ok(());
        }
        // What is handed out got its number durably: a window that may have been sent is never merged with another.
        let Pending { epoch, windows } = self.store.background(|store| store.pending(0, STATS_BYTES)).await?;
        if windows.is_empty() {
            return Ok(());
        }
        let topic = self.settings.topics.name(&Topic::Stats(self.speaker.identity().device.clone()));
        connection.publish(topic, self.speaker.stats(epoch, windows), false)?;
        pump.waiting_since = Some(self.clock.monotonic());
        Ok(())
    }
}

/// One message of statistics is under way at a time.
#[derive(Debug, Default)]
struct Pump {
    waiting_since: Option<Duration>,
    repeats: u32,
}

impl Pump {
    /// How much longer to wait for the acknowledgement.
    fn remaining(&self, now: Duration) -> Duration {
        let patience = ACK_PATIENCE.base.saturating_mul(2_u32.saturating_pow(self.repeats)).min(ACK_PATIENCE.max);
        patience.saturating_sub(now.saturating_sub(self.waiting_since.unwrap_or(now)))
    }

    fn again(&mut self) {
        self.repeats = self.repeats.saturating_add(1);
        self.waiting_since = None;
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
