//! What the controller counts, in Prometheus' text form at `GET /metrics`. All names start with `fieldpost_`.

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// One label: the kind of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// Such as `stats`.
    pub kind: &'static str,
}

/// Kind of a message and why it was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabel {
    /// Such as `stats`.
    pub kind: &'static str,
    /// Such as `signature`.
    pub reason: &'static str,
}

/// Method and status class of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HttpLabel {
    /// Such as `GET`.
    pub method: &'static str,
    /// Such as `2xx`.
    pub status: &'static str,
}

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// Such as `soaking`.
    pub state: String,
}

/// A rollout that goes on, and how some of its devices stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RolloutLabel {
    /// Its name.
    pub rollout: String,
    /// What it brings.
    pub model: String,
    /// In which version.
    pub version: String,
    /// Such as `live`.
    pub standing: &'static str,
}

/// Every metric. Cloning shares them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages that devices sent and that were believed.
    pub received: Family<KindLabel, Counter>,
    /// Messages that were refused and changed nothing.
    pub refused: Family<RefusalLabel, Counter>,
    /// Messages handed to the broker.
    pub published: Family<KindLabel, Counter>,
    /// Payload bytes of blobs handed to the broker: once per blob and broker, however many devices fetch it.
    pub blob_bytes_published: Counter,
    /// Windows of statistics put on disk.
    pub windows_stored: Counter,
    /// Windows that devices had numbered, and that were taken for lost when a gap before later ones stayed.
    pub windows_lost: Counter,
    /// Births of sessions that came after newer ones: a state that was put back, or two boxes under one name.
    pub old_births: Counter,
    /// Commits to the store that failed and were tried again.
    pub commit_failures: Counter,
    /// Times that the connection to the broker was made.
    pub broker_connections: Counter,
    /// Times that what the broker holds was brought to what it should hold.
    pub reconciliations: Counter,
    /// 1 while connected to the broker.
    pub broker_connected: Gauge,
    /// Messages that wait for the broker.
    pub outbox: Gauge,
    /// Devices by status; `alive` counts sessions, `ahead` those that follow orders which the store does not know.
    pub devices: Family<KindLabel, Gauge>,
    /// Rollouts by where they are.
    pub rollouts: Family<StateLabel, Gauge>,
    /// Devices of each rollout that goes on, by how they stand.
    pub rollout_devices: Family<RolloutLabel, Gauge>,
    /// Logins that the embedded broker refused, by reason.
    pub logins_refused: Family<RefusalLabel, Counter>,
    /// Topics that the embedded broker refused to a device.
    pub topics_refused: Family<KindLabel, Counter>,
    /// Answers of the API.
    pub http: Family<HttpLabel, Counter>,
    /// Newest root metadata version.
    pub root_version: Gauge,
    /// When the newest root metadata expires, seconds since 1970.
    pub root_expires: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("fieldpost"),
            received: Family::default(),
            refused: Family::default(),
            published: Family::default(),
            blob_bytes_published: Counter::default(),
            windows_stored: Counter::default(),
            windows_lost: Counter::default(),
            old_births: Counter::default(),
            commit_failures: Counter::default(),
            broker_connections: Counter::default(),
            reconciliations: Counter::default(),
            broker_connected: Gauge::default(),
            outbox: Gauge::default(),
            devices: Family::default(),
            rollouts: Family::default(),
            rollout_devices: Family::default(),
            logins_refused: Family::default(),
            topics_refused: Family::default(),
            http: Family::default(),
            root_version: Gauge::default(),
            root_expires: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("messages_received", "Messages of devices that were believed", metrics.received.clone());
        registry.register(
            "messages_refused",
            "Messages that were refused and changed nothing",
            metrics.refused.clone(),
        );
        registry.register("messages_published", "Messages handed to the broker", metrics.published.clone());
        registry.register(
            "blob_bytes_published",
            "Payload bytes of blobs handed to the broker",
            metrics.blob_bytes_published.clone(),
        );
        registry.register("windows_stored", "Windows of statistics put on disk", metrics.windows_stored.clone());
        registry.register("windows_lost", "Windows of statistics taken for lost", metrics.windows_lost.clone());
        registry.register(
            "old_births",
            "Births of sessions after newer ones: a state that was put back, or two boxes under one name",
            metrics.old_births.clone(),
        );
        registry.register(
            "commit_failures",
            "Commits that failed and were tried again",
            metrics.commit_failures.clone(),
        );
        registry.register("broker_connections", "Connections made to the broker", metrics.broker_connections.clone());
        registry.register(
            "reconciliations",
            "Times that the broker was compared with what it should hold",
            metrics.reconciliations.clone(),
        );
        registry.register("broker_connected", "1 while connected to the broker", metrics.broker_connected.clone());
        registry.register("outbox_messages", "Messages that wait for the broker", metrics.outbox.clone());
        registry.register("devices", "Devices by status", metrics.devices.clone());
        registry.register("rollouts", "Rollouts by where they are", metrics.rollouts.clone());
        registry.register(
            "rollout_devices",
            "Devices of rollouts that go on, by how they stand",
            metrics.rollout_devices.clone(),
        );
        registry.register("logins_refused", "Logins that the embedded broker refused", metrics.logins_refused.clone());
        registry.register("topics_refused", "Topics that the embedded broker refused", metrics.topics_refused.clone());
        registry.register("http_answers", "Answers of the API", metrics.http.clone());
        registry.register("root_version", "Newest root metadata version", metrics.root_version.clone());
        registry.register("root_expires_seconds", "When the root metadata expires", metrics.root_expires.clone());
        metrics
    }

    /// The text form (OpenMetrics 1.0).
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to memory does not fail.
        encode(&mut text, &self.registry).map_or_else(|_never| String::new(), |()| text)
    }

    /// Counts a refusal.
    pub fn refuse(&self, kind: &'static str, reason: &'static str) {
        self.refused.get_or_create(&RefusalLabel { kind, reason }).inc();
    }

    /// How often messages of a kind were refused for a reason.
    #[must_use]
    pub fn refusals(&self, kind: &'static str, reason: &'static str) -> u64 {
        self.refused.get_or_create(&RefusalLabel { kind, reason }).get()
    }

    /// Counts a login that was refused.
    pub fn refuse_login(&self, reason: &'static str) {
        self.logins_refused.get_or_create(&RefusalLabel { kind: "login", reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_scripts_rely_on() {
        let metrics = Metrics::new();
        metrics.blob_bytes_published.inc_by(7);
        metrics.refuse("stats", "signature");
        let text = metrics.text();
        assert!(text.contains("fieldpost_blob_bytes_published_total 7\n"), "{text}");
        assert!(text.contains("fieldpost_messages_refused_total{kind=\"stats\",reason=\"signature\"} 1\n"), "{text}");
    }
}
