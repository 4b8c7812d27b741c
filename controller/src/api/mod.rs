//! The HTTP API: who may ask what, and the handlers. Bodies are in [`types`].

mod accept;
mod auth;
mod devices;
mod error;
mod general;
pub mod page;
mod path;
mod registry;
pub mod rollouts;
pub mod types;

pub use auth::Caller;
pub use error::ApiError;

use crate::audit::Audit;
use crate::fleet::FleetError;
use crate::fleet::devices::{DeviceError, DeviceRecord, Devices};
use crate::metrics::Metrics;
use crate::releases::Releases;
use crate::store::StoreError;
use crate::tokens::Tokens;
use crate::trust_dir::Trust;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post, put};
use fieldpost_shared::bundle::chunk::{MAX_MANIFEST_BYTES, MAX_PAYLOAD_BYTES};
use fieldpost_shared::id::{DeviceId, Digest, ModelName};
use fieldpost_shared::time::{Clock, Timestamp};
use std::fmt;
use std::sync::Arc;
use types::{DeviceStats, MqttEndpoint, Take};

/// What the handlers ask of the running controller beyond its books.
pub trait Running: Send + Sync + fmt::Debug {
    /// A device as it is shown: its record, its reports, its presence, what it should run.
    fn device(&self, record: &DeviceRecord) -> types::Device;
    /// Makes a device's key open nothing any more, and forgets what it should run.
    ///
    /// # Errors
    /// When there is none of that name, or the store will not.
    fn revoke(&self, actor: &str, device: &DeviceId) -> Result<Arc<DeviceRecord>, DeviceError>;
    /// Whether [`Running::accept`] would be refused.
    ///
    /// # Errors
    /// Why.
    fn may_accept(&self, device: &DeviceId, take: Take) -> Result<(), FleetError>;
    /// Ends the hold on a device that follows orders which the store does not know.
    ///
    /// # Errors
    /// When there is none, or it cannot be done.
    fn accept(&self, actor: &str, device: &DeviceId, take: Take) -> Result<(), FleetError>;
    /// Devices that should run a release, and devices that say they do.
    fn counts(&self, manifest: &Digest) -> (usize, usize);
    /// Statistics of windows that came since a time, by the controller's clock, per device and release.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn stats(
        &self,
        device: Option<&DeviceId>,
        model: Option<&ModelName>,
        since: Timestamp,
    ) -> Result<Vec<DeviceStats>, StoreError>;
    /// Whether the line to the broker is up.
    fn broker_connected(&self) -> bool;
    /// Where a device that asked at `host` finds the broker.
    fn endpoint(&self, host: Option<&str>) -> MqttEndpoint;
}

/// What the handlers work on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    /// Who belongs to the fleet.
    pub devices: Arc<Devices>,
    /// What opens the API.
    pub tokens: Arc<Tokens>,
    /// What was pushed.
    pub releases: Arc<Releases>,
    /// What was done.
    pub audit: Arc<Audit>,
    /// The fleet's keys.
    pub trust: Arc<Trust>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The rest.
    pub running: Arc<dyn Running>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Prefix of all topics.
    pub topic_prefix: String,
    /// Whether devices without a token may ask, and wait for approval.
    pub approval: bool,
}

/// Bytes of a JSON body; the largest is a pushed manifest in base64 with its signatures.
pub(crate) const MAX_JSON_BYTES: usize = MAX_MANIFEST_BYTES / 3 * 4 + (64 << 10);

/// Bytes of a request to enrol.
pub(crate) const MAX_ENROLL_BYTES: usize = 64 << 10;

/// All routes but those of rollouts, which are merged in by the caller under `/v1/rollouts`.
pub fn router(api: Api) -> Router {
    let blobs = Router::new()
        .route("/v1/blobs/{sha256}", put(registry::put_blob).get(registry::get_blob))
        .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES));
    // Whoever asks here has shown no token.
    let enroll =
        Router::new().route("/v1/enroll", post(general::enroll)).layer(DefaultBodyLimit::max(MAX_ENROLL_BYTES));
    Router::new()
        .route("/v1/health", get(general::health))
        .route("/v1/time", get(general::time))
        .route("/v1/devices", get(devices::list))
        .route("/v1/devices/{id}", get(devices::show))
        .route("/v1/devices/{id}/labels", post(devices::label))
        .route("/v1/devices/{id}/approve", post(devices::approve))
        .route("/v1/devices/{id}/revoke", post(devices::revoke))
        .route("/v1/tokens", get(general::list_tokens).post(general::create_token))
        .route("/v1/tokens/{id}", delete(general::delete_token))
        .route("/v1/blobs/missing", post(registry::missing_blobs))
        .route("/v1/releases", get(registry::list).post(registry::push))
        .route("/v1/releases/{model}/{version}", get(registry::show))
        .route("/v1/audit", get(general::audit))
        .route("/v1/stats", get(general::stats))
        .route("/metrics", get(general::metrics))
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .merge(blobs)
        .merge(enroll)
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
        .with_state(api)
}

/// Runs work on the store or on files off the reactor.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ApiError::internal(&error)))
}
