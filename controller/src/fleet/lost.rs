//! What a broker has lost while everybody stayed connected to it. The controller compares what a broker holds only after
//! a connection; in between a device's own reports tell: it does not take what was published for it, or gets no further
//! with a download. Then it is published again.

use super::Fleet;
use crate::link::outbox::{Item, Source as _};
use fieldpost_shared::id::{DeviceId, Digest};
use fieldpost_shared::wire::v1::Phase;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long what was published may be under way. It doubles each time that publishing again did not help.
const DESIRED: Duration = Duration::from_secs(30);
/// How long a download may get no further. A chunk on a slow line takes seconds.
const BLOBS: Duration = Duration::from_secs(60);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The blobs of one release are published again at most so often, however many devices wait for them.
const AGAIN: Duration = Duration::from_secs(300);

/// Something that does not move.
#[derive(Debug, Clone, Copy)]
struct Still {
    at: u64,
    since: Duration,
    times: u32,
}

#[derive(Debug, Default)]
struct Inner {
    desired: HashMap<DeviceId, Still>,
    downloads: HashMap<DeviceId, (Digest, Still)>,
    releases: HashMap<Digest, Duration>,
}

/// What devices wait for.
#[derive(Debug, Default)]
pub struct Lost(Mutex<Inner>);

impl Lost {
    /// A device has not taken this desired state, or is not behind. Says whether to publish it again.
    pub fn desired(&self, device: &DeviceId, behind: Option<u64>, now: Duration) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = behind else {
            inner.desired.remove(device);
            return false;
        };
        let still = inner.desired.entry(device.clone()).or_insert(Still { at, since: now, times: 0 });
        overdue(still, at, now, DESIRED)
    }

    /// How far a device is with a download, if it has one. Says whether to publish the release's blobs again.
    pub fn download(&self, device: &DeviceId, fetches: Option<(Digest, u64)>, now: Duration) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((release, at)) = fetches else {
            inner.downloads.remove(device);
            return false;
        };
        let fresh = (release, Still { at, since: now, times: 0 });
        let entry = inner.downloads.entry(device.clone()).or_insert(fresh);
        if entry.0 != release {
            *entry = fresh;
        }
        if !overdue(&mut entry.1, at, now, BLOBS) {
            return false;
        }
        let told = inner.releases.get(&release).is_some_and(|told| now.saturating_sub(*told) < AGAIN);
        if !told {
            inner.releases.insert(release, now);
        }
        !told
    }
}

/// Whether it has stood there for too long; the next time it may for longer.
fn overdue(still: &mut Still, at: u64, now: Duration, patience: Duration) -> bool {
    if still.at != at {
        *still = Still { at, since: now, times: 0 };
    }
    let patience = patience.saturating_mul(2_u32.saturating_pow(still.times)).min(LONGEST);
    if now.saturating_sub(still.since) < patience {
        return false;
    }
    *still = Still { at, since: now, times: still.times.saturating_add(1) };
    true
}

impl Fleet {
    /// Publishes the blobs of a release again when a device gets no further with it.
    pub(super) fn look_for_lost_blobs(&self, device: &DeviceId) {
        let heard = self.heard.find(device);
        let models = heard.report.iter().flat_map(|report| &report.models);
        let mut fetches = models.filter_map(|model| match &model.candidate {
            Some((release, Phase::Fetching { done, .. })) => Some((release.manifest, *done)),
            _ => None,
        });
        let needs = self.needs(device);
        let fetches = fetches.find(|(release, _)| needs.contains(release));
        if !self.lost.download(device, fetches, self.clock.monotonic()) {
            return;
        }
        let Some((release, _)) = fetches else { return };
        if let Ok(blobs) = self.releases.blobs_of(release) {
            tracing::warn!(%device, %release, "a download gets no further; the release's blobs are published again");
            self.outbox.push_all(blobs.into_iter().map(Item::Blob));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn id(device: &str) -> DeviceId {
        device.parse().unwrap()
    }

    #[test]
    fn what_was_just_published_has_time_to_arrive_and_what_does_not_help_is_done_less_and_less() {
        let (lost, a) = (Lost::default(), id("a"));
        let again: Vec<u64> = (0..400).filter(|now| lost.desired(&a, Some(7), at(*now))).collect();
        assert_eq!(again, [30, 90, 210]);
        assert!(!lost.desired(&a, Some(8), at(400)), "another one");
        assert!(!lost.desired(&a, None, at(429)));
        assert!(!lost.desired(&a, Some(8), at(431)), "it had arrived");
        assert!(lost.desired(&a, Some(8), at(461)));
    }

    #[test]
    fn a_download_that_moves_is_left_alone_and_one_release_is_not_sent_for_each_device() {
        let (lost, release) = (Lost::default(), Digest::of(b"release"));
        let stuck = |device: &str, now| lost.download(&id(device), Some((release, 5)), at(now));
        assert!((0..600).all(|now| !lost.download(&id("moves"), Some((release, now)), at(now))));
        assert!(!stuck("a", 600) && !stuck("b", 600));
        assert!(stuck("a", 660) && !stuck("b", 660), "both get what is published");
        assert!(!lost.download(&id("b"), None, at(700)) && !stuck("b", 950), "it began anew");
        assert!(stuck("b", 1_010));
    }
}
