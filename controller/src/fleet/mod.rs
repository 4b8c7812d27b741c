//! The fleet: who belongs to it, what each device should run, and what each one said.
//!
//! [`Fleet`] joins the books and knows what the broker should hold; [`rollouts`] shows it to the rollout engine,
//! [`views`] to the API.

pub mod accept;
pub mod ahead;
pub mod desired;
pub mod devices;
pub mod heard;
pub mod labels;
pub mod lost;
pub mod rivals;
pub mod rollouts;
pub mod selector;
pub mod source;
pub mod views;
pub mod windows;

use crate::api::types::DeviceStatus;
use crate::audit::Audit;
use crate::link::outbox::{Item, Outbox, Source as _};
use crate::releases::{ReleaseError, Releases};
use crate::rollout::fleet::AssignTo;
use crate::store::{Store, StoreError};
use crate::trust_dir::Trust;
use desired::{Change, DesiredError, DesiredStates, Number};
use devices::{DeviceError, DeviceRecord, Devices};
use fieldpost_shared::id::{DeviceId, Digest, ModelName, ReleaseRef};
use fieldpost_shared::time::{Clock, Timestamp};
use heard::HeardStates;
use lost::Lost;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::broadcast;
use windows::Retention;

/// Why the fleet cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The device is not one that can run anything.
    #[error("device `{device}` is {status}")]
    NotActive {
        /// Which.
        device: DeviceId,
        /// What it is.
        status: DeviceStatus,
    },
    /// There is none of that name.
    #[error("there is no device `{0}`")]
    NoDevice(DeviceId),
    /// The release was not pushed here.
    #[error("there is no release {0}")]
    NoRelease(ReleaseRef),
    /// It follows orders that this store does not know.
    #[error("device `{0}` follows orders that this controller does not know: its store went back in time")]
    Ahead(DeviceId),
    /// There is nothing to decide.
    #[error("device `{0}` follows no orders that this controller does not know")]
    NotAhead(DeviceId),
    /// It runs what was not pushed here.
    #[error("device `{device}` runs {}, which this controller does not have", names(releases))]
    Unknown {
        /// Which.
        device: DeviceId,
        /// What.
        releases: Vec<ReleaseRef>,
    },
    /// Its desired state cannot be made.
    #[error("cannot say what the device should run")]
    Desired(#[from] DesiredError),
    /// The release cannot be read.
    #[error("cannot read the release")]
    Release(#[from] ReleaseError),
    /// The store would not.
    #[error("cannot read or keep the fleet")]
    Store(#[from] StoreError),
}

fn names(releases: &[ReleaseRef]) -> String {
    releases.iter().map(|release| format!("{release} ({})", release.manifest.short())).collect::<Vec<_>>().join(", ")
}

/// What a fleet is made of.
#[derive(Debug)]
pub struct Parts {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The log.
    pub audit: Arc<Audit>,
    /// Root metadata and the online key.
    pub trust: Arc<Trust>,
    /// What was pushed.
    pub releases: Arc<Releases>,
    /// What the broker must be told.
    pub outbox: Arc<Outbox>,
    /// How long a desired state allows changes.
    pub desired_lifetime: Duration,
    /// What to keep of statistics.
    pub retention: Retention,
}

/// The fleet.
#[derive(Debug)]
pub struct Fleet {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    audit: Arc<Audit>,
    trust: Arc<Trust>,
    releases: Arc<Releases>,
    outbox: Arc<Outbox>,
    retention: Retention,
    devices: Arc<Devices>,
    desired: DesiredStates,
    heard: HeardStates,
    listening: Mutex<Option<Timestamp>>,
    /// Devices that turned out to know newer orders than this store, since somebody last asked.
    found_ahead: Mutex<BTreeSet<DeviceId>>,
    lost: Lost,
    /// The blobs of every release that some device should run.
    live_blobs: RwLock<HashSet<Digest>>,
}

impl Fleet {
    /// Opens the fleet of a store.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what it should not.
    pub fn open(parts: Parts) -> Result<Self, FleetError> {
        let Parts { store, clock, audit, trust, releases, outbox, desired_lifetime, retention } = parts;
        let devices = Arc::new(Devices::open(store.as_ref(), Arc::clone(&audit), Arc::clone(&clock))?);
        let desired =
            DesiredStates::open(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&trust), desired_lifetime)?;
        let heard = HeardStates::open(store.as_ref())?;
        let strangers = devices.list().into_iter().filter(|record| record.status != DeviceStatus::Active);
        heard.forget(strangers.map(|record| record.id.clone()).collect::<Vec<_>>().iter());
        let fleet = Self {
            store,
            clock,
            audit,
            trust,
            releases,
            outbox,
            retention,
            devices,
            desired,
            heard,
            listening: Mutex::new(None),
            found_ahead: Mutex::default(),
            lost: Lost::default(),
            live_blobs: RwLock::default(),
        };
        let live = fleet.live().into_iter().flat_map(|(_, blobs)| blobs).collect();
        let fleet = Self { live_blobs: RwLock::new(live), found_ahead: Mutex::new(fleet.all_ahead()), ..fleet };
        fleet.say_ahead();
        Ok(fleet)
    }

    /// Who belongs to it.
    #[must_use]
    pub fn devices(&self) -> &Arc<Devices> {
        &self.devices
    }

    /// What each device should run.
    #[must_use]
    pub fn desired(&self) -> &DesiredStates {
        &self.desired
    }

    /// What each device said.
    #[must_use]
    pub fn heard(&self) -> &HeardStates {
        &self.heard
    }

    /// What was pushed.
    #[must_use]
    pub fn releases(&self) -> &Arc<Releases> {
        &self.releases
    }

    /// Root metadata and the online key.
    #[must_use]
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// The truth.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Names a device whenever something about it changed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<DeviceId> {
        self.devices.changes()
    }

    /// Says that something about a device changed. Nobody listening is no error.
    pub fn changed(&self, device: &DeviceId) {
        self.devices.changed(device);
    }

    /// Since when the controller hears its devices without a break.
    #[must_use]
    pub fn listening_since(&self) -> Option<Timestamp> {
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the controller hears its devices from now on, or no more.
    pub fn set_listening(&self, listening: bool) {
        let since = listening.then(|| self.clock.now());
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn active(&self, device: &DeviceId) -> Result<Arc<DeviceRecord>, FleetError> {
        let record = self.devices.find(device).ok_or_else(|| FleetError::NoDevice(device.clone()))?;
        match record.status {
            DeviceStatus::Active => Ok(record),
            status => Err(FleetError::NotActive { device: device.clone(), status }),
        }
    }

    /// Says what a device should run of a model; `None` takes the model off the box. Signs, stores and publishes; the
    /// same again changes nothing. It is published when the device has been heard.
    ///
    /// # Errors
    /// When the device or the release is not there, or it cannot be stored.
    pub fn assign(&self, device: &DeviceId, model: &ModelName, to: Option<&AssignTo>) -> Result<(), FleetError> {
        self.active(device)?;
        if self.ahead(device).is_some() {
            return Err(FleetError::Ahead(device.clone()));
        }
        let record = match to {
            Some(to) => {
                let release = &to.release;
                let known = self.releases.find(&release.model, &release.version);
                let known = known.filter(|known| known.release == *release && release.model == *model);
                Some(known.ok_or_else(|| FleetError::NoRelease(release.clone()))?)
            }
            None => None,
        };
        let signed_to = to.zip(record.as_ref()).map(|(to, record)| (to, record.signatures.as_slice()));
        let heard = self.heard.find(device).reported;
        let number = if heard { Number::Above(0) } else { Number::Kept };
        let change = self.desired.assign(device, model, signed_to, number)?;
        self.publish(device, &change);
        // It may have been heard meanwhile, and whoever heard it may have looked before this was signed.
        if change.signed && !heard && self.may_be_told(device) {
            self.renew(device)?;
        }
        Ok(())
    }

    /// Signs a device's desired state anew.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn renew(&self, device: &DeviceId) -> Result<(), FleetError> {
        let change = self.desired.renew(device, 0)?;
        self.publish(device, &change);
        Ok(())
    }

    /// Signs anew every desired state that is due, of devices that may be told; says how many.
    ///
    /// # Errors
    /// The first that cannot be stored.
    pub fn renew_due(&self) -> Result<usize, FleetError> {
        let due: Vec<_> = self.desired.due().into_iter().filter(|device| self.may_be_told(device)).collect();
        due.iter().try_for_each(|device| self.renew(device))?;
        Ok(due.len())
    }

    /// Puts what changed in line for the broker, chunks before the desired state that names them.
    fn publish(&self, device: &DeviceId, change: &Change) {
        if !change.began.is_empty() || !change.ceased.is_empty() {
            self.refresh_live_blobs(&change.began);
        }
        if change.signed {
            self.outbox.push(Item::Desired(device.clone()));
            self.changed(device);
        }
    }

    /// Makes a device's key open nothing, takes back what it should run, and forgets what it said: whoever is enrolled
    /// under its name next is another box.
    ///
    /// # Errors
    /// When there is none, or it cannot be stored.
    pub fn revoke(&self, actor: &str, device: &DeviceId) -> Result<Arc<DeviceRecord>, DeviceError> {
        let mut more = heard::deletions(device);
        more.push(DesiredStates::deletion(device));
        let record = self.devices.revoke(actor, device, more)?;
        self.heard.forget([device]);
        let change = self.desired.forget(device);
        self.outbox.push_all([Item::Desired(device.clone()), Item::Ack(device.clone())]);
        self.publish(device, &change);
        self.changed(device);
        Ok(record)
    }

    /// Takes up what devices said, once it is stored. One that was revoked meanwhile said nothing: it is looked at after
    /// the update, and [`Fleet::revoke`] forgets after the revocation, so that one of the two always comes last.
    pub fn take_up(&self, heard: impl IntoIterator<Item = (DeviceId, heard::Heard)>) {
        let heard: Vec<_> = heard.into_iter().collect();
        let devices: Vec<_> = heard.iter().map(|(device, _)| device.clone()).collect();
        self.heard.update(heard);
        self.heard.forget(devices.iter().filter(|device| self.devices.active_key(device).is_none()));
    }

    /// Brings one device's windows within bounds.
    ///
    /// # Errors
    /// When the store will not.
    pub fn prune(&self, device: &DeviceId) -> Result<(), StoreError> {
        let writes = windows::prune(self.store.as_ref(), device, self.retention, self.clock.now())?;
        if writes.is_empty() { Ok(()) } else { self.store.commit(writes) }
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
pub(crate) mod tests;
