//! What a group of devices served, by release: windows of one release merge exactly, those of two never.

use fieldpost_shared::bundle::manifest::Manifest;
use fieldpost_shared::id::Digest;
use fieldpost_shared::stats::{Baseline, WindowStats};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A device that answered more than all others together is left out, when these have so many requests: its word would be
/// all that is heard.
const LEAST_OTHERS: u64 = 100;
/// Where so many devices served.
const SEVERAL: usize = 3;

/// What devices served with one release.
#[derive(Debug, Clone)]
pub struct Served<'a> {
    /// The windows, merged.
    pub window: WindowStats,
    /// The release's manifest, for its baseline; none when the controller no longer has it.
    pub manifest: Option<Arc<Manifest>>,
    /// The windows device by device: what one shows alone is no bad release, where there are several.
    pub each: Vec<&'a WindowStats>,
}

impl<'a> Served<'a> {
    fn of(mut each: Vec<&'a WindowStats>, manifest: Option<Arc<Manifest>>) -> Option<Self> {
        let busiest = each.iter().enumerate().max_by_key(|(_, window)| window.requests).map(|(at, _)| at);
        if let Some(at) = busiest.filter(|_| each.len() >= SEVERAL) {
            let others = each.iter().enumerate().filter(|(other, _)| *other != at);
            let others = others.fold(0_u64, |sum, (_, window)| sum.saturating_add(window.requests));
            if others >= LEAST_OTHERS && each.get(at).is_some_and(|busiest| busiest.requests > others) {
                each.remove(at);
            }
        }
        let mut windows = each.into_iter();
        let first = windows.next()?;
        let mut served = Self { window: first.clone(), manifest, each: vec![first] };
        served.each.extend(windows.filter(|window| served.window.merge(window).is_ok()));
        Some(served)
    }

    /// The device that shows most harm, where there is another one.
    pub fn worst<K: Ord>(&self, harm: impl Fn(&WindowStats) -> K) -> Option<&'a WindowStats> {
        self.each.iter().filter(|_| self.each.len() > 1).max_by_key(|window| harm(window)).copied()
    }
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
pub struct Arm<'a> {
    devices: usize,
    windows: BTreeMap<Digest, (Option<Arc<Manifest>>, Vec<&'a WindowStats>)>,
    /// Digests of the releases' baselines, worked out once.
    baselines: BTreeMap<Digest, u64>,
    main: OnceCell<Option<Served<'a>>>,
}

impl<'a> Arm<'a> {
    /// Takes in one device, whether it served something or not. What was not counted over the release's own baseline (a
    /// broken agent, or a lying one) is left out, so that no device decides the shape in which the others are summed.
    pub fn insert(&mut self, release: &Digest, manifest: Option<&Arc<Manifest>>, window: Option<&'a WindowStats>) {
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
        self.main.take();
        self.windows.entry(*release).or_insert_with(|| (manifest.cloned(), Vec::new())).1.push(window);
    }

    /// Devices in the group.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices
    }

    /// What was served with the release that served on most devices: arms are compared by their main release.
    #[must_use]
    pub fn main(&self) -> Option<&Served<'a>> {
        let main = || {
            let (manifest, windows) = self.windows.values().max_by_key(|(_, windows)| windows.len())?;
            Served::of(windows.clone(), manifest.clone())
        };
        self.main.get_or_init(main).as_ref()
    }
}
