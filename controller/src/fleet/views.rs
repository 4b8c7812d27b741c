//! The fleet as the API shows it.

use super::devices::DeviceRecord;
use super::{Fleet, windows};
use crate::api::types::{DesiredModel, Device, DeviceStats, DeviceStatus, ModelState};
use crate::store::StoreError;
use fieldpost_shared::id::{DeviceId, Digest, ModelName, ReleaseRef};
use fieldpost_shared::stats::{ClassCounts, WindowStats};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::ModelReport;
use std::sync::Arc;

impl Fleet {
    /// One device.
    #[must_use]
    pub fn device(&self, record: &DeviceRecord) -> Device {
        let heard = self.heard.find(&record.id);
        let signed = self.desired.find(&record.id);
        let report = heard.report.as_deref();
        let assignments = signed.iter().flat_map(|signed| &signed.desired.assignments);
        Device {
            id: record.id.clone(),
            status: record.status,
            alive: record.status == DeviceStatus::Active && heard.alive(),
            last_seen: heard.last_seen,
            enrolled: record.enrolled,
            fingerprint: record.public_key.id(),
            public_key: record.public_key,
            labels: record.labels.clone(),
            inventory: report.map_or_else(|| record.inventory.clone(), |report| report.inventory.clone()),
            models: report.map(|report| report.models.iter().map(model).collect()).unwrap_or_default(),
            desired: assignments
                .map(|assignment| DesiredModel {
                    release: assignment.release.clone(),
                    rollout: assignment.rollout.clone(),
                    attempt: assignment.attempt,
                    probation_s: assignment.probation_s,
                })
                .collect(),
            desired_sequence: signed.as_ref().map_or(0, |signed| signed.desired.sequence),
            accepted_sequence: report.map_or(0, |report| report.desired_sequence),
            root_version: report.map_or(0, |report| report.root_version),
            quarantine: report.map(|report| report.quarantine.clone()).unwrap_or_default(),
            outbox: report.map(|report| report.outbox).unwrap_or_default(),
            windows_lost: heard.lost,
            rival_seen: heard.rivals.seen(self.clock.now()),
            hold: report.and_then(|report| report.hold.clone()),
            ahead: self.ahead(&record.id).is_some(),
            refused: report.map(|report| report.refused.clone()).unwrap_or_default(),
            fetched_bytes: report.map_or(0, |report| report.fetched_bytes),
            reported_at: report.map(|report| report.at),
        }
    }

    /// Devices that should run a release, and devices that say they do.
    #[must_use]
    pub fn counts(&self, manifest: &Digest) -> (usize, usize) {
        let active = self.devices.list().into_iter().filter(|record| record.status == DeviceStatus::Active);
        let lives = |record: &Arc<DeviceRecord>| {
            let heard = self.heard.find(&record.id);
            let mut live =
                heard.report.iter().flat_map(|report| &report.models).filter_map(|model| model.live.as_ref());
            live.any(|release| release.manifest == *manifest)
        };
        (self.desired.wanted().get(manifest).copied().unwrap_or_default(), active.filter(lives).count())
    }

    /// What devices served, in windows that came since a time, per device and release.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn stats(
        &self,
        device: Option<&DeviceId>,
        model: Option<&ModelName>,
        since: Timestamp,
    ) -> Result<Vec<DeviceStats>, StoreError> {
        let mut found = Vec::new();
        for record in self.devices.list().into_iter().filter(|record| device.is_none_or(|device| record.id == *device))
        {
            for manifest in windows::releases(self.store.as_ref(), &record.id)? {
                let window = windows::merged(self.store.as_ref(), &record.id, &manifest, since)?;
                let view = window.and_then(|window| stats_view(&record.id, manifest, &window));
                found.extend(view.filter(|view| model.is_none_or(|model| view.release.model == *model)));
            }
        }
        Ok(found)
    }
}

fn model(report: &ModelReport) -> ModelState {
    let (candidate, phase) = report.candidate.clone().unzip();
    ModelState {
        model: report.model.clone(),
        live: report.live.clone(),
        previous: report.previous.clone(),
        candidate,
        phase,
        swaps: report.swaps,
    }
}

fn stats_view(device: &DeviceId, manifest: Digest, window: &WindowStats) -> Option<DeviceStats> {
    let release = ReleaseRef { model: window.model.parse().ok()?, version: window.version.parse().ok()?, manifest };
    let latency = |q: f64| window.latency.quantile(q).map(|time| time.as_secs_f64() * 1e3);
    let errors = window.errors.by_model().saturating_add(window.errors.by_caller());
    Some(DeviceStats {
        device: device.clone(),
        release,
        windows: window.windows,
        opened: Timestamp::from_millis(window.opened_ms),
        closed: Timestamp::from_millis(window.closed_ms),
        requests: window.requests,
        model_errors: window.errors.by_model(),
        errors,
        p50_ms: latency(0.5),
        p95_ms: latency(0.95),
        classes: window.classes.as_ref().map(ClassCounts::counts).unwrap_or_default().to_vec(),
    })
}
