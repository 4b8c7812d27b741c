//! The access log: of a share of the predictions (`access_log_percent`) a line each when it is answered, over HTTP and over
//! gRPC alike.

use super::oip::tensors::short;
use super::registry::Live;
use super::router::App;
use std::fmt::Display;
use std::time::Duration;

/// What will be told of a prediction under way; nothing of most.
#[derive(Debug)]
pub(crate) struct Told(Option<Entry>);

#[derive(Debug)]
struct Entry {
    id: String,
    /// When it came, by the monotonic clock.
    begun: Duration,
    model: Option<String>,
    version: Option<String>,
}

impl Told {
    /// A prediction that came just now, and what it asks for. The same id is told of, or not, wherever it goes.
    pub(crate) fn of(app: &App, id: &str, model: Option<&str>, version: Option<&str>) -> Self {
        let entry = || {
            let begun = app.registry.clock().monotonic();
            Entry { id: short(id), begun, model: model.map(short), version: version.map(short) }
        };
        Self(app.settings.access_log.holds(b"access log", id.as_bytes()).then(entry))
    }

    /// Which release it went to.
    pub(crate) fn goes_to(&mut self, live: &Live) {
        if let Self(Some(entry)) = self {
            let release = live.release();
            (entry.model, entry.version) = (Some(release.model.to_string()), Some(release.version.to_string()));
        }
    }

    /// It was answered. Model and version are those that answered, or, where none did, those that were asked for.
    pub(crate) fn end(self, app: &App, path: &str, status: impl Display) {
        let Self(Some(Entry { id, begun, model, version })) = self else { return };
        let took_us = app.registry.clock().monotonic().saturating_sub(begun).as_micros();
        tracing::info!(request = id, path, model, version, %status, took_us, "answered");
    }
}
