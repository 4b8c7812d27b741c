//! The fleet as the rollout engine sees it.

use super::{Fleet, windows};
use crate::api::types::DeviceStatus;
use crate::rollout::fleet::{self as seen, AssignTo, DeviceView, ReleaseInfo};
use fieldpost_shared::id::{DeviceId, Digest, ModelName};
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::time::Timestamp;
use semver::Version;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

impl Fleet {
    fn view(&self, record: &super::devices::DeviceRecord) -> DeviceView {
        let heard = self.heard.find(&record.id);
        let signed = self.desired.find(&record.id);
        let report = heard.report.as_deref();
        let accepted = report.map_or(0, |report| report.desired_sequence);
        let assignments = signed.iter().flat_map(|signed| &signed.desired.assignments);
        DeviceView {
            id: record.id.clone(),
            labels: record.labels.clone(),
            inventory: report.map_or_else(|| record.inventory.clone(), |report| report.inventory.clone()),
            models: report.map(|report| report.models.clone()).unwrap_or_default(),
            quarantine: report.map(|report| report.quarantine.clone()).unwrap_or_default(),
            last_seen: heard.last_seen,
            alive: heard.alive(),
            hold: report.and_then(|report| report.hold.clone()),
            settled: signed.as_ref().is_none_or(|signed| accepted == signed.desired.sequence && signed.told()),
            ahead: self.ahead(&record.id).is_some(),
            desired: assignments
                .map(|assignment| {
                    let to = AssignTo {
                        release: assignment.release.clone(),
                        rollout: assignment.rollout.clone(),
                        attempt: assignment.attempt,
                        probation_s: assignment.probation_s,
                        beside: signed.as_ref().and_then(|s| s.desired.mode(&assignment.release.model).cloned()),
                    };
                    (assignment.release.model.clone(), to)
                })
                .collect(),
        }
    }
}

impl seen::Fleet for Fleet {
    fn devices(&self) -> Result<seen::Devices, seen::FleetError> {
        let active = self.devices.list().into_iter().filter(|record| record.status == DeviceStatus::Active);
        Ok(active.map(|record| (record.id.clone(), Arc::new(self.view(&record)))).collect())
    }

    fn assign(&self, device: &DeviceId, model: &ModelName, to: Option<&AssignTo>) -> Result<(), seen::FleetError> {
        Self::assign(self, device, model, to).map_err(|error| {
            let what = to.map_or_else(|| format!("remove {model} from"), |to| format!("assign {} to", to.release));
            seen::FleetError::new(format!("{what} `{device}`"), error)
        })
    }

    fn windows(
        &self,
        device: &DeviceId,
        release: &Digest,
        since: Timestamp,
    ) -> Result<Option<WindowStats>, seen::FleetError> {
        windows::merged(self.store.as_ref(), device, release, since)
            .map_err(|error| seen::FleetError::new(format!("read the statistics of `{device}`"), error))
    }

    fn windows_between(
        &self,
        device: &DeviceId,
        release: &Digest,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Option<WindowStats>, seen::FleetError> {
        windows::merged_between(self.store.as_ref(), device, release, since, until)
            .map_err(|error| seen::FleetError::new(format!("read the statistics of `{device}`"), error))
    }

    fn put_windows_back(&self, now: Timestamp, tolerance: Duration) -> Result<(), seen::FleetError> {
        let put_back = |device: &DeviceId| {
            let writes = windows::put_back(self.store.as_ref(), device, now, tolerance)?;
            if writes.is_empty() { Ok(()) } else { self.store.commit(writes) }
        };
        for record in self.devices.list() {
            put_back(&record.id)
                .map_err(|error| seen::FleetError::new(format!("put back the statistics of `{}`", record.id), error))?;
        }
        Ok(())
    }

    fn release(&self, model: &ModelName, version: &Version) -> Result<Option<ReleaseInfo>, seen::FleetError> {
        let Some(record) = self.releases.find(model, version) else { return Ok(None) };
        let manifest = self.releases.manifest(record.release.manifest);
        let manifest = manifest.map_err(|error| seen::FleetError::new(format!("read {}", record.release), error))?;
        let revoked = self.trust.root().revoked.contains(&record.release.manifest);
        Ok(Some(ReleaseInfo { release: record.release.clone(), manifest: Arc::clone(&manifest), revoked }))
    }

    fn listening_since(&self) -> Option<Timestamp> {
        Self::listening_since(self)
    }

    fn take_ahead(&self) -> BTreeSet<DeviceId> {
        Self::take_ahead(self)
    }

    fn changes(&self) -> broadcast::Receiver<DeviceId> {
        self.subscribe()
    }
}
