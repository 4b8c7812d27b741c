//! A fleet of simulated devices, a clock that tests own, and a controller that can be killed between any two steps.

mod device;
mod rig;

pub(crate) use device::{Behaviour, FakeDevice, Other};
pub(crate) use rig::{Rig, quick};

use crate::rollout::fleet::{AssignTo, Devices, Fleet, FleetError, ReleaseInfo};
use device::CLASSES;
use fieldpost_shared::bundle::manifest::{Budgets, Manifest, SCHEMA};
use fieldpost_shared::id::{DeviceId, Digest, ModelName, ReleaseRef};
use fieldpost_shared::stats::{Baseline, ClassCounts, OutputBaseline, WindowStats};
use fieldpost_shared::time::{Clock, ManualClock, Timestamp};
use semver::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

#[derive(Debug)]
pub(crate) struct World {
    /// Releases of other models.
    pub(crate) other_releases: BTreeMap<(ModelName, Version), ReleaseInfo>,
    pub(crate) devices: BTreeMap<DeviceId, FakeDevice>,
    pub(crate) releases: BTreeMap<Version, (ReleaseInfo, Behaviour)>,
    /// Since when the controller hears its devices.
    pub(crate) listening: Option<Timestamp>,
    /// Assignments after which the controller is dead; none is never.
    pub(crate) assignments_left: Option<u64>,
    /// A device that nothing can be said to.
    pub(crate) untellable: Option<DeviceId>,
    pub(crate) seconds: u64,
    /// Devices that knew newer orders than the controller.
    pub(crate) ahead: BTreeSet<DeviceId>,
}

/// The fleet.
#[derive(Debug)]
pub(crate) struct FakeFleet {
    world: Mutex<World>,
    clock: Arc<ManualClock>,
    changes: broadcast::Sender<DeviceId>,
}

pub(crate) fn model() -> ModelName {
    "digits".parse().unwrap()
}

pub(crate) fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn baseline() -> Baseline {
    let mut classes = ClassCounts::new(CLASSES);
    (0..2_000).for_each(|i| classes.insert(i % CLASSES));
    Baseline {
        n: 2_000,
        inputs: vec![],
        output: OutputBaseline { classes: Some(classes), ..OutputBaseline::default() },
    }
}

fn release(version: &Version) -> ReleaseInfo {
    let manifest = Manifest {
        schema: SCHEMA.into(),
        name: model(),
        version: version.clone(),
        created: Timestamp::EPOCH,
        note: String::new(),
        files: vec![],
        inputs: vec![],
        outputs: vec![],
        preprocess: Default::default(),
        postprocess: Default::default(),
        labels: vec![],
        baseline: Some(baseline()),
        tolerance: Default::default(),
        requirements: Default::default(),
        budgets: Budgets { p95_latency_ms: Some(50.0), error_rate: Some(0.02), ..Budgets::default() },
        lineage: Default::default(),
        measured: Default::default(),
        unknown: BTreeMap::new(),
    };
    let release =
        ReleaseRef { model: model(), version: version.clone(), manifest: Digest::of(version.to_string().as_bytes()) };
    ReleaseInfo { release, manifest: Arc::new(manifest), revoked: false }
}

impl FakeFleet {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        let world = World {
            other_releases: BTreeMap::new(),
            devices: BTreeMap::new(),
            releases: BTreeMap::new(),
            listening: Some(Timestamp::EPOCH),
            assignments_left: None,
            untellable: None,
            seconds: 0,
            ahead: BTreeSet::new(),
        };
        Self { world: Mutex::new(world), clock, changes: broadcast::channel(1_024).0 }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_release(&self, version: &str, behaviour: Behaviour) -> ReleaseRef {
        let version: Version = version.parse().unwrap();
        let info = release(&version);
        let found = info.release.clone();
        self.world().releases.insert(version, (info, behaviour));
        found
    }

    /// A release of another model.
    pub(crate) fn add_other(&self, model: &str, version: &str) -> ReleaseRef {
        let (model, version): (ModelName, Version) = (model.parse().unwrap(), version.parse().unwrap());
        let mut info = release(&version);
        let digest = Digest::of(format!("{model} {version}").as_bytes());
        info.release = ReleaseRef { model: model.clone(), version: version.clone(), manifest: digest };
        let found = info.release.clone();
        self.world().other_releases.insert((model, version), info);
        found
    }

    /// A device that runs a release of another model.
    pub(crate) fn has_other(&self, device: &str, live: &ReleaseRef, takes: u32) {
        let desired = AssignTo { release: live.clone(), rollout: None, attempt: 1, probation_s: 0, beside: None };
        let other = Other { live: Some(live.clone()), desired: Some(desired), takes, ..Other::default() };
        self.edit(device, |found| drop(found.others.insert(live.model.clone(), other)));
    }

    pub(crate) fn edit_manifest(&self, version: &str, edit: impl FnOnce(&mut Manifest)) {
        let version: Version = version.parse().unwrap();
        let mut world = self.world();
        let (info, _) = world.releases.get_mut(&version).unwrap();
        edit(Arc::make_mut(&mut info.manifest));
    }

    /// A device that runs this release already.
    pub(crate) fn add_device(&self, name: &str, live: Option<&ReleaseRef>) {
        let assigned = live.map(|release| AssignTo {
            release: release.clone(),
            rollout: None,
            attempt: 1,
            probation_s: 0,
            beside: None,
        });
        self.world().devices.insert(device(name), FakeDevice::new(name, live, assigned));
    }

    /// The link to the broker breaks, or is there again: then the controller has only just begun to listen.
    pub(crate) fn listen(&self, there: bool) {
        let now = self.clock.now();
        let mut world = self.world();
        world.listening = if there { world.listening.or(Some(now)) } else { None };
    }

    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut FakeDevice)) {
        edit(self.world().devices.get_mut(&device(name)).unwrap());
    }

    /// Agents of a version that runs one release beside another.
    pub(crate) fn understand(&self) {
        self.world().devices.values_mut().for_each(|device| device.inventory.agent_version = "0.1.0+beside".into());
    }

    /// One second of every device's life.
    pub(crate) fn tick(&self) {
        let now = self.clock.now();
        let mut world = self.world();
        world.seconds += 1;
        let World { devices, releases, seconds, ahead, .. } = &mut *world;
        for (id, device) in devices.iter_mut() {
            device.live_second(now, *seconds, releases);
            if device.accepted > device.desired_sequence {
                // The controller hears it, and signs above it.
                device.desired_sequence = device.accepted + 1;
                ahead.insert(id.clone());
            }
            drop(self.changes.send(id.clone()));
        }
    }
}

impl Fleet for FakeFleet {
    fn devices(&self) -> Result<Devices, FleetError> {
        Ok(self.world().devices.iter().map(|(id, device)| (id.clone(), Arc::new(device.view(id)))).collect())
    }

    fn assign(&self, device: &DeviceId, which: &ModelName, to: Option<&AssignTo>) -> Result<(), FleetError> {
        let mut world = self.world();
        if let Some(left) = &mut world.assignments_left {
            *left = left.checked_sub(1).ok_or_else(|| FleetError::new("assign", "the controller is dead"))?;
        }
        if world.untellable.as_ref() == Some(device) {
            return Err(FleetError::new("assign", "nothing can be said to it"));
        }
        let found = world.devices.get_mut(device).ok_or_else(|| FleetError::new("assign", "no such device"))?;
        if *which != model() {
            let other = found.others.entry(which.clone()).or_default();
            if other.desired.as_ref() != to {
                other.desired = to.cloned();
                found.desired_sequence += 1;
            }
            return Ok(());
        }
        if found.desired.as_ref() != to {
            found.desired = to.cloned();
            found.desired_sequence += 1;
            found.assigned.push(to.cloned());
        }
        Ok(())
    }

    fn windows(
        &self,
        device: &DeviceId,
        release: &Digest,
        since: Timestamp,
    ) -> Result<Option<WindowStats>, FleetError> {
        self.windows_between(device, release, since, Timestamp::from_millis(u64::MAX))
    }

    fn windows_between(
        &self,
        device: &DeviceId,
        release: &Digest,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Option<WindowStats>, FleetError> {
        let world = self.world();
        let Some(found) = world.devices.get(device) else { return Ok(None) };
        let mut merged: Option<WindowStats> = None;
        let within = |at: &Timestamp| (since..until).contains(at);
        for (_, _, window) in found.windows.iter().filter(|(at, digest, _)| within(at) && digest == release) {
            match &mut merged {
                None => merged = Some(window.clone()),
                // As in the store: what does not fit the first is left out.
                Some(all) => drop(all.merge(window)),
            }
        }
        Ok(merged)
    }

    fn put_windows_back(&self, now: Timestamp, tolerance: Duration) -> Result<(), FleetError> {
        let mut world = self.world();
        let all = world.devices.values_mut().flat_map(|device| device.windows.iter_mut());
        let later = all.filter(|(at, ..)| *at > now.plus(tolerance));
        later.for_each(|(at, ..)| *at = now.minus(Duration::from_millis(1)));
        Ok(())
    }

    fn release(&self, which: &ModelName, version: &Version) -> Result<Option<ReleaseInfo>, FleetError> {
        if *which != model() {
            return Ok(self.world().other_releases.get(&(which.clone(), version.clone())).cloned());
        }
        Ok(self.world().releases.get(version).map(|(info, _)| info.clone()))
    }

    fn listening_since(&self) -> Option<Timestamp> {
        self.world().listening
    }

    fn take_ahead(&self) -> BTreeSet<DeviceId> {
        std::mem::take(&mut self.world().ahead)
    }

    fn changes(&self) -> broadcast::Receiver<DeviceId> {
        self.changes.subscribe()
    }
}
