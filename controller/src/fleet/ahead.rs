//! A store that is older than its fleet: it was restored from an older copy of the data directory. A device that has
//! accepted a higher number than was ever signed here follows orders that this store forgot. What runs there is left
//! alone until a person decides whose word counts ([ADR 0020](../../../docs/adr/0020-a-restored-controller-holds.md)).
//!
//! Nothing of this is kept apart: it follows from the newest report and from what was last signed, and both are on disk.
//! It could not be told in time if a device were told anything before it has been heard, so no device is.

use super::{Fleet, FleetError};
use crate::api::types::Take;
use crate::audit::Act;
use crate::link::outbox::Item;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{DeviceId, ReleaseRef};
use fieldpost_shared::wire::v1::Assignment;
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// How a device stood before a report of it was taken up.
#[derive(Debug, Clone)]
pub struct Stood {
    device: DeviceId,
    reported: bool,
    ahead: bool,
}

impl Fleet {
    /// The number of the orders that a device has accepted and that this store does not know; none when it knows them.
    #[must_use]
    pub fn ahead(&self, device: &DeviceId) -> Option<u64> {
        let accepted = self.heard.find(device).report.as_ref().map_or(0, |report| report.desired_sequence);
        let signed = self.desired.find(device).map_or(0, |signed| signed.desired.sequence);
        (accepted > signed).then_some(accepted)
    }

    /// Whether a device may be told what to run: it has reported since the start, and knows no newer orders.
    #[must_use]
    pub fn may_be_told(&self, device: &DeviceId) -> bool {
        self.heard.find(device).reported && self.ahead(device).is_none()
    }

    /// Every device that is ahead.
    pub(super) fn all_ahead(&self) -> BTreeSet<DeviceId> {
        let ids = self.devices.list().into_iter().map(|record| record.id.clone());
        ids.filter(|id| self.devices.active_key(id).is_some() && self.ahead(id).is_some()).collect()
    }

    /// Devices that turned out to be ahead since the last call; the first time all that were when the store was opened.
    pub fn take_ahead(&self) -> BTreeSet<DeviceId> {
        std::mem::take(&mut self.found_ahead.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// To be asked before a report is taken up.
    #[must_use]
    pub fn stood(&self, device: &DeviceId) -> Stood {
        let (reported, ahead) = (self.heard.find(device).reported, self.ahead(device).is_some());
        Stood { device: device.clone(), reported, ahead }
    }

    /// What follows from a report that was taken up: a device that is ahead is said to be; one that is not is told what
    /// it has not been told yet, and again what did not reach it.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn reported(&self, before: &Stood) -> Result<(), FleetError> {
        let device = &before.device;
        if self.devices.active_key(device).is_none() {
            return Ok(());
        }
        if let Some(accepted) = self.ahead(device) {
            if !before.ahead {
                self.found_ahead.lock().unwrap_or_else(PoisonError::into_inner).insert(device.clone());
                tracing::error!(
                    %device,
                    accepted,
                    "a device follows orders that this store does not know: it is older than the fleet; the device is \
                     told nothing until somebody decides: fieldpost device accept"
                );
                let detail = format!("it has accepted {accepted}, which this store does not know; it is told nothing");
                let act =
                    Act { actor: "controller", action: "device.ahead", subject: device.as_str(), detail: &detail };
                self.audit.commit(act, Vec::new())?;
            }
            return Ok(());
        }
        match self.desired.find(device) {
            None => Ok(()),
            Some(signed) if !signed.told() => self.renew(device),
            Some(signed) => {
                let behind = self.heard.find(device).report.as_ref().map(|report| report.desired_sequence);
                let behind = behind.is_some_and(|accepted| accepted < signed.desired.sequence);
                if self.lost.desired(device, behind.then_some(signed.desired.sequence), self.clock.monotonic()) {
                    tracing::warn!(%device, "a device has not taken what was published for it; it is published again");
                    self.outbox.push(Item::Desired(device.clone()));
                } else if !before.reported {
                    self.outbox.push(Item::Desired(device.clone()));
                }
                self.look_for_lost_blobs(device);
                Ok(())
            }
        }
    }

    /// Whether [`Fleet::accept`] would be refused.
    ///
    /// # Errors
    /// Why.
    pub fn may_accept(&self, device: &DeviceId, take: Take) -> Result<(), FleetError> {
        self.active(device)?;
        self.ahead(device).ok_or_else(|| FleetError::NotAhead(device.clone()))?;
        match take {
            Take::Keep => self.runs(device).map(drop),
            Take::Restore => Ok(()),
        }
    }

    /// Ends the hold on a device that is ahead, as a person has decided. Signs above what the device knows.
    ///
    /// # Errors
    /// When it is not ahead, runs what this controller does not have and is to keep it, or it cannot be stored.
    pub fn accept(&self, actor: &str, device: &DeviceId, take: Take) -> Result<(), FleetError> {
        self.active(device)?;
        let above = self.ahead(device).ok_or_else(|| FleetError::NotAhead(device.clone()))?;
        let (verb, with) = match take {
            Take::Keep => ("keeps", Some(self.runs(device)?)),
            Take::Restore => ("goes back to", None),
        };
        let signed = self.desired.find(device);
        let said = signed.iter().flat_map(|signed| &signed.desired.assignments);
        let names = with.as_ref().map_or_else(|| list(said), |with| list(with.iter()));
        let detail = format!("it {verb} {names}");
        let act = Act { actor, action: "device.accept", subject: device.as_str(), detail: &detail };
        let change = self.desired.replace(device, with, above, &|rows| self.audit.commit(act, rows))?;
        tracing::info!(%device, detail, "somebody has decided what becomes of a device that was ahead");
        self.publish(device, &change);
        Ok(())
    }

    /// What a device says is live, as assignments.
    fn runs(&self, device: &DeviceId) -> Result<Vec<Assignment>, FleetError> {
        let (heard, signed) = (self.heard.find(device), self.desired.find(device));
        let report = heard.report.as_ref();
        let tries = |release: &ReleaseRef| {
            let failed = report.iter().flat_map(|report| &report.quarantine).filter(|entry| entry.release == *release);
            failed.map(|entry| entry.attempt).max().unwrap_or(0).saturating_add(1)
        };
        let (mut kept, mut unknown) = (Vec::new(), Vec::new());
        for release in report.iter().flat_map(|report| &report.models).filter_map(|model| model.live.as_ref()) {
            let mut said = signed.iter().flat_map(|signed| &signed.desired.assignments);
            let known = self.releases.find(&release.model, &release.version);
            if let Some(same) = said.find(|said| said.release == *release) {
                kept.push(same.clone());
            } else if let Some(known) = known.filter(|known| known.release == *release) {
                kept.push(Assignment {
                    release: release.clone(),
                    signatures: known.signatures.clone(),
                    rollout: None,
                    attempt: tries(release),
                    probation_s: 0,
                });
            } else {
                unknown.push(release.clone());
            }
        }
        if !unknown.is_empty() {
            return Err(FleetError::Unknown { device: device.clone(), releases: unknown });
        }
        kept.sort_by(|a, b| a.release.model.cmp(&b.release.model));
        Ok(kept)
    }

    /// Says what was found when the store was opened.
    pub(super) fn say_ahead(&self) {
        let devices = self.found_ahead.lock().unwrap_or_else(PoisonError::into_inner).len();
        if devices > 0 {
            tracing::error!(devices, "devices are ahead of this store and are told nothing: fieldpost device accept");
        }
    }

    /// The same as [`Fleet::reported`], for where nobody can be told of an error.
    pub fn reported_or_said(&self, before: &Stood) {
        if let Err(error) = self.reported(before) {
            tracing::error!(device = %before.device, error = %Chain(&error), "a device cannot be told what to run");
        }
    }
}

/// Releases by name.
fn list<'a>(assignments: impl Iterator<Item = &'a Assignment>) -> String {
    let names: Vec<_> = assignments.map(|assignment| assignment.release.to_string()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;
