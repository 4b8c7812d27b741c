//! What a group of devices served, by release: windows of one release merge exactly, those of two never.

use fieldpost_shared::bundle::manifest::Manifest;
use fieldpost_shared::id::Digest;
use fieldpost_shared::stats::{Baseline, WindowStats};
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
    /// Model errors and requests of the device with most errors: one bad device is no bad release.
    pub worst: (u64, u64),
}

/// Model errors, and requests or errors where a crash that was counted after the restart has no request beside it.
fn errors(window: &WindowStats) -> (u64, u64) {
    let errors = window.errors.by_model();
    (errors, window.requests.max(errors))
}

/// Whether a window was counted over the baseline of a release.
#[must_use]
pub fn fits(manifest: &Manifest, window: &WindowStats) -> bool {
    match &manifest.baseline {
        Some(baseline) => window.fits(baseline).is_ok(),
        None => window.fits(&Baseline::default()).is_ok(),
    }
}

/// A group of devices.
#[derive(Debug, Clone, Default)]
pub struct Arm {
    devices: usize,
    served: BTreeMap<Digest, Served>,
    /// Digests of the releases' baselines, worked out once.
    baselines: BTreeMap<Digest, u64>,
}

impl Arm {
    /// Takes in one device, whether it served something or not. What was not counted over the release's own baseline (a
    /// broken agent, or a lying one) is left out, so that no device decides the shape in which the others are summed.
    pub fn insert(&mut self, release: &Digest, manifest: Option<&Arc<Manifest>>, window: Option<&WindowStats>) {
        self.devices += 1;
        let Some(window) = window else { return };
        if let Some(manifest) = manifest {
            let none = Baseline::default();
            let baseline = manifest.baseline.as_ref().unwrap_or(&none);
            let digest = *self.baselines.entry(*release).or_insert_with(|| baseline.digest());
            if window.fits_digested(baseline, digest).is_err() {
                return;
            }
        }
        match self.served.get_mut(release) {
            None => {
                let (window, manifest, worst) = (window.clone(), manifest.cloned(), errors(window));
                let served = Served { window, manifest, devices: 1, worst };
                self.served.insert(*release, served);
            }
            Some(served) => {
                if served.window.merge(window).is_ok() {
                    served.devices += 1;
                    served.worst = served.worst.max(errors(window));
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
