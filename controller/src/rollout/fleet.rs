//! The fleet as a rollout sees it: what runs where, what should, and what came of it. The engine's only way out.

use crate::fleet::selector::{Selector, SelectorError, Subject};
use fieldpost_shared::bundle::manifest::Manifest;
use fieldpost_shared::id::{DeviceId, Digest, ModelName, ReleaseRef, RolloutId};
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{Inventory, ModelReport, Quarantined};
use fieldpost_shared::wire::v2::Mode;
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// One model that a device should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignTo {
    /// What should be live.
    pub release: ReleaseRef,
    /// The rollout that asks for it.
    pub rollout: Option<RolloutId>,
    /// A device that quarantined the release tries it again only when this is higher than when it failed.
    pub attempt: u32,
    /// Seconds of probation after the swap.
    pub probation_s: u32,
    /// That it stands beside the live release, and what for; none is that it takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Mode>,
}

/// An active device. Pending and revoked ones are not part of the fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceView {
    /// Its name.
    pub id: DeviceId,
    /// What the operator calls it.
    pub labels: BTreeMap<String, String>,
    /// What the box is, as far as it has said.
    pub inventory: Inventory,
    /// What it runs, by its newest report.
    pub models: Vec<ModelReport>,
    /// Releases it will not try again by itself.
    pub quarantine: Vec<Quarantined>,
    /// When the controller last believed a message of it, by the controller's clock.
    pub last_seen: Option<Timestamp>,
    /// Whether its session at the broker is up.
    pub alive: bool,
    /// Why the box refuses changes at the moment.
    pub hold: Option<String>,
    /// Whether its newest report accepts the newest desired state: `report.desired_sequence` is the sequence that was
    /// last signed for it. Without a desired state, true.
    pub settled: bool,
    /// Whether it has accepted orders that the controller does not know, since the store went back in time: it is told
    /// nothing until a person has decided.
    pub ahead: bool,
    /// What it should run.
    pub desired: BTreeMap<ModelName, AssignTo>,
}

impl DeviceView {
    /// What it reports of a model.
    #[must_use]
    pub fn model(&self, model: &ModelName) -> Option<&ModelReport> {
        self.models.iter().find(|report| report.model == *model)
    }

    /// What it says is live.
    #[must_use]
    pub fn live(&self, model: &ModelName) -> Option<&ReleaseRef> {
        self.model(model).and_then(|report| report.live.as_ref())
    }

    /// As a selector looks at it.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject { id: &self.id, labels: &self.labels, inventory: &self.inventory }
    }

    /// Its hardware class and the given labels that it has, as the random order is stratified by.
    #[must_use]
    pub fn stratum(&self, labels: &[String]) -> String {
        let mut parts = vec![self.inventory.arch.as_str(), self.inventory.cpu_model.as_str()];
        parts.extend(labels.iter().filter_map(|label| self.labels.get(label)).map(String::as_str));
        parts.retain(|part| !part.is_empty());
        parts.join(" / ")
    }
}

/// The active devices, by name. Whoever looks again shares what has not changed.
pub type Devices = BTreeMap<DeviceId, Arc<DeviceView>>;

/// Those of the given devices that a selector (`site=lyon,arch=aarch64,tier!=lab`, `*`) matches by labels and inventory.
///
/// # Errors
/// When the text is no selector.
pub fn select(selector: &str, devices: &Devices) -> Result<BTreeSet<DeviceId>, FleetError> {
    let parsed: Result<Selector, SelectorError> = selector.parse();
    let selector = parsed.map_err(|error| FleetError::new("read the selector", error))?;
    let matching = devices.values().filter(|view| selector.matches(view.subject()));
    Ok(matching.map(|view| view.id.clone()).collect())
}

/// A release that the controller has and that its publisher signed.
#[derive(Debug, Clone)]
pub struct ReleaseInfo {
    /// Its identity.
    pub release: ReleaseRef,
    /// What it is.
    pub manifest: Arc<Manifest>,
    /// Whether the fleet's root forbids it: no device starts it.
    pub revoked: bool,
}

/// Something that the fleet could not do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct FleetError {
    /// What was tried, on what, such as ``assign digits@1.1.0 to `box-1` ``.
    pub operation: String,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl FleetError {
    /// An error of an operation.
    pub fn new(operation: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { operation: operation.into(), source: source.into() }
    }
}

/// What a rollout needs of the fleet. All methods may block on the store; the engine calls them off the reactor.
pub trait Fleet: Send + Sync + fmt::Debug {
    /// Every active device.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn devices(&self) -> Result<Devices, FleetError>;

    /// Says what a device should run of a model; `None` removes the model from the box. Signs, stores and publishes;
    /// saying the same again changes nothing.
    ///
    /// # Errors
    /// When it cannot be stored. What cannot be published now is published later and is no error.
    fn assign(&self, device: &DeviceId, model: &ModelName, to: Option<&AssignTo>) -> Result<(), FleetError>;

    /// What a device served with a release, in windows that *arrived* at `since` or later, merged. By the
    /// controller's clock: a box's own may be in 1970.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn windows(&self, device: &DeviceId, release: &Digest, since: Timestamp)
    -> Result<Option<WindowStats>, FleetError>;

    /// The same of windows that arrived at `since` or later and before `until`: a device's past, which is the same whoever
    /// asks for it later.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn windows_between(
        &self,
        device: &DeviceId,
        release: &Digest,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Option<WindowStats>, FleetError>;

    /// Whatever arrived more than `tolerance` after `now` arrived just before it: the clock has been put back since.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    fn put_windows_back(&self, now: Timestamp, tolerance: Duration) -> Result<(), FleetError>;

    /// A release by name and version.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn release(&self, model: &ModelName, version: &Version) -> Result<Option<ReleaseInfo>, FleetError>;

    /// Since when the controller is connected to the broker without a break; none while it is not. Devices are not
    /// called silent for what the controller could not hear.
    fn listening_since(&self) -> Option<Timestamp>;

    /// Devices that turned out, since the last call, to know newer orders than the controller: its store went back in
    /// time. Those that did when it was opened are among them, the first time.
    fn take_ahead(&self) -> BTreeSet<DeviceId>;

    /// Names a device whenever something about it changed. A receiver that lags has missed nothing that it would not
    /// see when it looks.
    fn changes(&self) -> broadcast::Receiver<DeviceId>;
}
