//! What the broker should hold, asked of the books at the moment it is sent.

use super::Fleet;
use crate::api::types::DeviceStatus;
use crate::link::outbox::{Item, Source, Unreadable};
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{DeviceId, Digest};
use fieldpost_shared::trust::SignedRoot;
use std::collections::HashSet;
use std::sync::PoisonError;

impl Fleet {
    /// Works out anew which blobs live releases need, and puts in line what that changes: chunks that came to be
    /// needed, and the clearing of those that are needed no more. What two releases share is not sent again.
    ///
    /// Each caller has made its change before, and only one works it out at a time, so the last one sees every change;
    /// and `began` is gated before anybody else can tell its chunks from ones that are with the broker.
    pub(super) fn refresh_live_blobs(&self, began: &[Digest]) {
        let mut live = self.live_blobs.write().unwrap_or_else(PoisonError::into_inner);
        let releases = self.live();
        let now: HashSet<_> = releases.iter().flat_map(|(_, blobs)| blobs).copied().collect();
        // In the order of the files, so that the first chunks that a device asks for are the first to come.
        let mut seen = HashSet::new();
        let ordered = releases.iter().flat_map(|(_, blobs)| blobs).copied();
        let added = ordered.filter(|blob| !live.contains(blob) && seen.insert(*blob));
        self.outbox.push_all(live.difference(&now).copied().map(Item::Blob));
        self.outbox.push_all(added.map(Item::Blob));
        for (release, blobs) in releases.iter().filter(|(release, _)| began.contains(release)) {
            self.outbox.gate(*release, blobs);
        }
        *live = now;
    }

    fn is_live(&self, blob: Digest) -> bool {
        self.live_blobs.read().unwrap_or_else(PoisonError::into_inner).contains(&blob)
    }
}

impl Source for Fleet {
    fn payload(&self, item: &Item) -> Result<Option<Vec<u8>>, Unreadable> {
        let active = |device: &DeviceId| self.devices.active_key(device).is_some();
        Ok(match item {
            Item::Trust(version) => {
                let roots = self.trust.roots();
                roots.iter().find(|root| root.metadata.version == *version).map(SignedRoot::to_bytes)
            }
            Item::Ack(device) if active(device) => self.heard.find(device).told().map(|ack| ack.as_ref().clone()),
            // What the broker holds may be newer than this store: it is left alone until the device has been heard.
            Item::Desired(device) if active(device) && !self.may_be_told(device) => return Err(Unreadable),
            Item::Desired(device) if active(device) => self.desired.find(device).map(|signed| signed.sealed.clone()),
            Item::Ack(_) | Item::Desired(_) => None,
            Item::Blob(digest) if self.is_live(*digest) => {
                let frame = self.releases.blobs().frame(*digest).map_err(|error| {
                    tracing::error!(%digest, error = %Chain(&error), "a blob of a live release cannot be published");
                    Unreadable
                });
                Some(frame?)
            }
            Item::Blob(_) => None,
        })
    }

    fn wanted(&self) -> Vec<Item> {
        let roots = self.trust.roots();
        let mut items: Vec<_> = roots.iter().map(|root| Item::Trust(root.metadata.version)).collect();
        for record in self.devices.list().into_iter().filter(|record| record.status == DeviceStatus::Active) {
            if self.heard.find(&record.id).told().is_some() {
                items.push(Item::Ack(record.id.clone()));
            }
            if self.desired.find(&record.id).is_some() {
                items.push(Item::Desired(record.id.clone()));
            }
        }
        let live = self.live_blobs.read().unwrap_or_else(PoisonError::into_inner);
        items.extend(live.iter().copied().map(Item::Blob));
        items
    }

    fn live(&self) -> Vec<(Digest, Vec<Digest>)> {
        let wanted = self.desired.wanted();
        wanted
            .into_keys()
            .filter_map(|manifest| match self.releases.blobs_of(manifest) {
                Ok(blobs) => Some((manifest, blobs)),
                Err(error) => {
                    tracing::error!(%manifest, error = %Chain(&error), "a live release cannot be read");
                    None
                }
            })
            .collect()
    }

    fn needs(&self, device: &DeviceId) -> Vec<Digest> {
        let signed = self.desired.find(device);
        let assignments = signed.as_ref().map(|signed| signed.desired.assignments.as_slice()).unwrap_or_default();
        assignments.iter().map(|assignment| assignment.release.manifest).collect()
    }
}
