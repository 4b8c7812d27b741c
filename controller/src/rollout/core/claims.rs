//! Whose a device is, where several rollouts of a model want it.

use super::{Core, CoreError};
use crate::rollout::events::Event;
use crate::rollout::fleet::{Devices, select};
use crate::rollout::machine::late::awaited;
use crate::rollout::machine::{Effect, Stage, State, outstanding};
use crate::rollout::start::owns;
use fieldpost_shared::id::{DeviceId, RolloutId};
use std::collections::BTreeSet;

impl Core {
    /// A person has decided that a device keeps what it runs, whatever rollouts of this store have told it: they leave
    /// it alone from now on. One that has not told it anything may still do so in its turn.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn let_go(&mut self, device: &DeviceId) -> Result<(), CoreError> {
        let tells = |state: &State| {
            outstanding(state)
                .iter()
                .any(|effect| matches!(effect, Effect::Assign { device: told, .. } if told == device))
        };
        let telling: Vec<RolloutId> =
            self.rollouts.iter().filter(|(_, entry)| tells(&entry.state)).map(|(id, _)| id.clone()).collect();
        let mut devices = self.parts.fleet.devices()?;
        for id in telling {
            self.record(&id, vec![Event::Superseded { device: device.clone(), by: None }], &mut devices)?;
            if let Some(rollout) = self.rollouts.get_mut(&id) {
                rollout.untold.remove(device);
            }
        }
        Ok(())
    }

    /// Devices that other active rollouts of the same model own.
    pub(super) fn claimed(&self, id: &RolloutId) -> BTreeSet<DeviceId> {
        let model = self.rollouts.get(id).map(|entry| &entry.state.spec.release.model);
        let others = self.rollouts.iter().filter(|(other, entry)| {
            *other != id && entry.state.stage.active() && Some(&entry.state.spec.release.model) == model
        });
        others
            .flat_map(|(_, entry)| entry.state.members.keys().filter(|device| owns(&entry.state, device)).cloned())
            .collect()
    }

    /// Rollouts of the same model that began after this one.
    pub(super) fn later(&self, id: &RolloutId) -> Result<impl Iterator<Item = &State>, CoreError> {
        let own = &self.entry(id)?.state;
        Ok(self.rollouts.values().map(|entry| &entry.state).filter(|other| {
            other.spec.release.model == own.spec.release.model && (other.created, &other.id) > (own.created, &own.id)
        }))
    }

    /// Devices that a completed rollout could still tell something, and that are another rollout's since: an active one
    /// owns them, a later one has told them, or one that has completed as well is going to.
    pub(super) fn taken_since(&self, id: &RolloutId, devices: &Devices) -> Result<BTreeSet<DeviceId>, CoreError> {
        let own = &self.entry(id)?.state;
        let open = own.members.iter().filter(|(_, member)| own.stage == Stage::Completed && awaited(own, member));
        let open: Vec<&DeviceId> = open.map(|(device, _)| device).collect();
        if open.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (claimed, newer) = (self.claimed(id), self.completed_later(id, devices)?);
        let later: Vec<&State> = self.later(id)?.collect();
        let told = |device: &DeviceId| {
            let told = devices.get(device).and_then(|view| view.desired.get(&own.spec.release.model));
            let by = told.and_then(|told| told.rollout.as_ref());
            by.is_some_and(|by| later.iter().any(|other| other.id == *by))
        };
        let to_be_told = |device: &DeviceId| {
            let waits = |other: &State| other.members.get(device).is_some_and(|member| awaited(other, member));
            newer.iter().any(|(other, takes)| takes.contains(device) && waits(other))
        };
        let taken = open.into_iter().filter(|device| claimed.contains(*device) || told(device) || to_be_told(device));
        Ok(taken.cloned().collect())
    }

    /// Devices that a rollout which completed later takes, when they come: only the newest that matches gives a device
    /// its release.
    pub(super) fn claimed_by_newer(&self, id: &RolloutId, devices: &Devices) -> Result<BTreeSet<DeviceId>, CoreError> {
        Ok(self.completed_later(id, devices)?.into_iter().flat_map(|(_, takes)| takes).collect())
    }

    /// The rollouts that completed later and still give their release away, each with the devices that match.
    fn completed_later(
        &self,
        id: &RolloutId,
        devices: &Devices,
    ) -> Result<Vec<(&State, BTreeSet<DeviceId>)>, CoreError> {
        let mut found = Vec::new();
        for other in self.later(id)?.filter(|other| other.stage == Stage::Completed) {
            let release = &other.spec.release;
            let known = self.parts.fleet.release(&release.model, &release.version)?;
            if known.is_some_and(|known| known.release == *release && !known.revoked) {
                found.push((other, select(&other.spec.selector, devices)?));
            }
        }
        Ok(found)
    }
}
