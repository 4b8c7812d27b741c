//! The fleet as the API shows it.

use super::devices::DeviceRecord;
use super::selector::{Selector, Subject};
use super::{Fleet, windows};
use crate::api::types::{DesiredModel, Device, DeviceStats, DeviceStatus, ModelState, Release, ReleaseDetail};
use crate::releases::{ReleaseError, ReleaseRecord};
use crate::store::StoreError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fieldpost_shared::id::{DeviceId, Digest, ModelName, ReleaseRef};
use fieldpost_shared::stats::{ClassCounts, WindowStats};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::ModelReport;
use std::collections::HashMap;

impl Fleet {
    /// The devices that a selector matches, revoked and waiting ones among them, by name.
    #[must_use]
    pub fn show(&self, selector: &Selector) -> Vec<Device> {
        let shown = self.devices.list().into_iter().map(|record| self.device(&record));
        shown
            .filter(|device| {
                selector.matches(Subject { id: &device.id, labels: &device.labels, inventory: &device.inventory })
            })
            .collect()
    }

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
            hold: report.and_then(|report| report.hold.clone()),
            refused: report.map(|report| report.refused.clone()).unwrap_or_default(),
            fetched_bytes: report.map_or(0, |report| report.fetched_bytes),
            reported_at: report.map(|report| report.at),
        }
    }

    /// The releases of a model, or of all.
    #[must_use]
    pub fn show_releases(&self, model: Option<&ModelName>) -> Vec<Release> {
        let (wanted, live) = (self.desired.wanted(), self.live_on());
        self.releases.list(model).iter().map(|record| self.release_view(record, &wanted, &live)).collect()
    }

    /// One release with everything.
    ///
    /// # Errors
    /// When its manifest is gone or damaged.
    pub fn show_release(&self, record: &ReleaseRecord) -> Result<ReleaseDetail, ReleaseError> {
        let bytes = self.releases.manifest_bytes(record.release.manifest)?;
        let manifest = serde_json::from_slice(&bytes)
            .map_err(|error| ReleaseError::Manifest(fieldpost_shared::bundle::ManifestError::Json(error)))?;
        Ok(ReleaseDetail {
            summary: self.release_view(record, &self.desired.wanted(), &self.live_on()),
            manifest,
            manifest_bytes: BASE64.encode(&bytes),
            signatures: record.signatures.clone(),
        })
    }

    fn release_view(
        &self,
        record: &ReleaseRecord,
        wanted: &HashMap<Digest, usize>,
        live: &HashMap<Digest, usize>,
    ) -> Release {
        let manifest = record.release.manifest;
        Release {
            release: record.release.clone(),
            created: record.created,
            pushed: record.pushed,
            note: record.note.clone(),
            total_bytes: record.total_bytes,
            signed_by: record.signatures.iter().map(|signature| signature.keyid).collect(),
            revoked: self.trust.root().revoked.contains(&manifest),
            desired_on: wanted.get(&manifest).copied().unwrap_or_default(),
            live_on: live.get(&manifest).copied().unwrap_or_default(),
        }
    }

    /// How many active devices say that they run each manifest.
    fn live_on(&self) -> HashMap<Digest, usize> {
        let mut live: HashMap<Digest, usize> = HashMap::new();
        for record in self.devices.list().into_iter().filter(|record| record.status == DeviceStatus::Active) {
            let heard = self.heard.find(&record.id);
            for release in heard.report.iter().flat_map(|report| &report.models).filter_map(|model| model.live.as_ref())
            {
                let devices = live.entry(release.manifest).or_default();
                *devices = devices.saturating_add(1);
            }
        }
        live
    }

    /// What devices served since a time, per device and release.
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
