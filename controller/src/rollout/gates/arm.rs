//! What a group of devices served, by release: windows of one release merge exactly, those of two never.

use fieldpost_shared::bundle::manifest::Manifest;
use fieldpost_shared::id::Digest;
use fieldpost_shared::stats::WindowStats;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What devices served with one release.
#[derive(Debug, Clone)]
pub struct Served {
    /// The windows, merged.
    pub window: WindowStats,
    /// The release's manifest, for its baseline; none when the controller no longer has it.
    pub manifest: Option<Arc<Manifest>>,
    /// How many devices.
    pub devices: usize,
}

/// A group of devices.
#[derive(Debug, Clone, Default)]
pub struct Arm {
    devices: usize,
    served: BTreeMap<Digest, Served>,
}

impl Arm {
    /// Takes in one device, whether it served something or not. Windows that do not belong to what the release's
    /// other devices sent (another baseline under the same digest is a broken agent) are left out.
    pub fn insert(&mut self, release: &Digest, manifest: Option<&Arc<Manifest>>, window: Option<&WindowStats>) {
        self.devices += 1;
        let Some(window) = window else { return };
        match self.served.get_mut(release) {
            None => {
                let served = Served { window: window.clone(), manifest: manifest.cloned(), devices: 1 };
                self.served.insert(*release, served);
            }
            Some(served) => {
                if served.window.merge(window).is_ok() {
                    served.devices += 1;
                }
            }
        }
    }

    /// Devices in the group.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices
    }

    /// What was served with the release that served most requests: arms are compared by their main release.
    #[must_use]
    pub fn main(&self) -> Option<&Served> {
        self.served.values().max_by_key(|served| served.window.requests)
    }
}
