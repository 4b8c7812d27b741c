//! What `fieldpost serve` is: every part made, joined, started, watched and stopped. The one place where they meet.

mod http;
mod maintenance;
mod running;
mod start;
mod supervise;
mod verdicts;

pub use start::{StartError, Started};

use crate::api::types::Endpoints;
use crate::config::Config;
use fieldpost_shared::durable::{DurableError, write_atomic};
use fieldpost_shared::time::{Clock, SystemClock};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Below the data directory: where a running controller listens.
pub const ENDPOINTS: &str = "endpoints.json";
/// Below the data directory: the first token, with the role admin.
pub const ADMIN_TOKEN: &str = "admin.token";

/// Why the controller stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It never ran.
    #[error("cannot start the controller")]
    Start(#[from] StartError),
    /// Its addresses cannot be written down.
    #[error("cannot write where the controller listens")]
    Endpoints(#[source] DurableError),
    /// A part that it cannot be without ended.
    #[error("{part} stopped")]
    Part {
        /// Which part.
        part: &'static str,
        /// Why, where that is known.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl ServeError {
    /// What to do next, where that is known.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Start(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether the configuration or the machine must change first: starting again by itself would not help.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Start(error) if error.is_configuration())
    }
}

/// Where a running controller is, and what it found or made. Prints as the start-up block.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Where the API listens.
    pub http: SocketAddr,
    /// Where devices find the broker; none when it is another process.
    pub mqtt: Option<SocketAddr>,
    /// The addresses as URLs, as in `DATA/endpoints.json`.
    pub endpoints: Endpoints,
    /// Where its files are.
    pub data_dir: PathBuf,
    /// Name of the fleet.
    pub fleet: String,
    /// Newest root metadata version.
    pub root_version: u64,
    /// What a person should know or do: one line each.
    pub notes: Vec<String>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = if self.mqtt.is_some() { "embedded broker" } else { "external broker" };
        writeln!(f, "fieldpost {} is ready", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  API     {}", self.endpoints.http)?;
        writeln!(f, "  MQTT    {} ({broker})", self.endpoints.mqtt)?;
        writeln!(f, "  data    {}", self.data_dir.display())?;
        writeln!(f, "  fleet   {}, root version {}", self.fleet, self.root_version)?;
        writeln!(f, "  token   {} (role admin)", self.data_dir.join(ADMIN_TOKEN).display())?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  note    {note}"))
    }
}

/// Runs the controller until it is told to stop. `ready` is called once, when everything listens.
///
/// # Errors
/// When it cannot start, or a part ends that it cannot be without.
pub async fn serve(config: Config, ready: impl FnOnce(&Bound), stop: CancellationToken) -> Result<(), ServeError> {
    serve_with(config, Arc::new(SystemClock::new()), ready, stop).await
}

/// The same with a clock of the caller's.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    config: Config,
    clock: Arc<dyn Clock>,
    ready: impl FnOnce(&Bound),
    stop: CancellationToken,
) -> Result<(), ServeError> {
    crate::install_crypto();
    let deadline = config.shutdown;
    let started = Started::open(config, clock).await?;
    let bound = started.bound();
    let written = serde_json::to_vec_pretty(&bound.endpoints).unwrap_or_default();
    write_atomic(&bound.data_dir, ENDPOINTS, &written).map_err(ServeError::Endpoints)?;
    let parts = started.run();
    ready(&bound);
    supervise::until_stopped(parts, stop, deadline).await
}

#[cfg(test)]
mod tests;
