//! Windows of statistics on disk, keyed so that "this release on this device since then" is one range.
//!
//! ```text
//! key    device 0x00 manifest(32) received(8, ms) epoch(8) first(8)     numbers big-endian
//! value  WindowStats in its own versioned encoding
//! ```
//! Time is when the window *came*, by the controller's clock: a box's own may be in 1970. Device names hold no zero
//! byte, so no device's keys lie among another's.

use crate::store::{Store, StoreError, Table, Write, after_prefix};
use fieldpost_shared::id::{DeviceId, Digest};
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::time::Timestamp;
use std::time::Duration;

const DIGEST_BYTES: usize = 32;

/// Start of the keys of one device.
fn device_prefix(device: &DeviceId) -> Vec<u8> {
    let mut key = device.as_str().as_bytes().to_vec();
    key.push(0);
    key
}

fn release_prefix(device: &DeviceId, manifest: &Digest) -> Vec<u8> {
    let mut key = device_prefix(device);
    key.extend_from_slice(manifest.as_bytes());
    key
}

/// The row of a window.
#[must_use]
pub fn row(device: &DeviceId, manifest: &Digest, came: Timestamp, epoch: u64, first: u64, content: &[u8]) -> Write {
    let mut key = release_prefix(device, manifest);
    for number in [came.as_millis(), epoch, first] {
        key.extend_from_slice(&number.to_be_bytes());
    }
    Write::put(Table::Windows, key, content)
}

/// All windows of a release on a device that came at `since` or later, merged; `None` when there are none.
///
/// # Errors
/// When the store cannot be read.
pub fn merged(
    store: &dyn Store,
    device: &DeviceId,
    manifest: &Digest,
    since: Timestamp,
) -> Result<Option<WindowStats>, StoreError> {
    let prefix = release_prefix(device, manifest);
    let mut from = prefix.clone();
    from.extend_from_slice(&since.as_millis().to_be_bytes());
    let Some(to) = after_prefix(&prefix) else { return Ok(None) };
    let rows = store.range(Table::Windows, &from, &to, usize::MAX)?;
    Ok(merge(rows.iter().map(|(_, content)| content.as_slice())))
}

/// Windows of a release on a device that came at `since` or later and before `until`, merged; `None` when there are none.
///
/// # Errors
/// When the store cannot be read.
pub fn merged_between(
    store: &dyn Store,
    device: &DeviceId,
    manifest: &Digest,
    since: Timestamp,
    until: Timestamp,
) -> Result<Option<WindowStats>, StoreError> {
    let key = |at: Timestamp| {
        let mut key = release_prefix(device, manifest);
        key.extend_from_slice(&at.as_millis().to_be_bytes());
        key
    };
    if until <= since {
        return Ok(None);
    }
    let rows = store.range(Table::Windows, &key(since), &key(until), usize::MAX)?;
    Ok(merge(rows.iter().map(|(_, content)| content.as_slice())))
}

/// The releases that a device has windows of.
///
/// # Errors
/// When the store cannot be read.
pub fn releases(store: &dyn Store, device: &DeviceId) -> Result<Vec<Digest>, StoreError> {
    let prefix = device_prefix(device);
    let Some(end) = after_prefix(&prefix) else { return Ok(vec![]) };
    let mut from = prefix.clone();
    let mut found = Vec::new();
    // One row tells the release; the next release begins after all keys of this one.
    while let Some((key, _)) = store.range(Table::Windows, &from, &end, 1)?.pop() {
        let digest = key.get(prefix.len()..).and_then(|rest| rest.first_chunk::<DIGEST_BYTES>());
        let Some(digest) = digest.map(|bytes| Digest::from_bytes(*bytes)) else { break };
        found.push(digest);
        match after_prefix(&release_prefix(device, &digest)) {
            Some(next) => from = next,
            None => break,
        }
    }
    Ok(found)
}

/// Merges what fits together; what does not, such as windows over another baseline, is left out of the sum.
fn merge<'a>(contents: impl Iterator<Item = &'a [u8]>) -> Option<WindowStats> {
    let mut sum: Option<WindowStats> = None;
    for window in contents.filter_map(|content| WindowStats::decode(content).ok()) {
        match &mut sum {
            None => sum = Some(window),
            Some(sum) => {
                if let Err(error) = sum.merge(&window) {
                    tracing::debug!(%error, "a window does not fit the others and is left out");
                }
            }
        }
    }
    sum
}

/// What to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Windows that came longer ago are deleted.
    pub age: Duration,
    /// Beyond so many per device and release, the older half is merged pair by pair.
    pub windows: usize,
}

/// The writes that bring one device's windows within bounds. Merging keeps every request counted; the pair stands at
/// the later one's time, so that "since" never leaves out what came after it.
///
/// # Errors
/// When the store cannot be read.
pub fn prune(store: &dyn Store, device: &DeviceId, keep: Retention, now: Timestamp) -> Result<Vec<Write>, StoreError> {
    let oldest = now.minus(keep.age).as_millis();
    let mut writes = Vec::new();
    for manifest in releases(store, device)? {
        let prefix = release_prefix(device, &manifest);
        let mut rows = store.scan(Table::Windows, &prefix)?;
        rows.retain(|(key, _)| {
            let came = key.get(prefix.len()..).and_then(|rest| rest.first_chunk::<8>()).map(|b| u64::from_be_bytes(*b));
            let young = came.is_some_and(|came| came >= oldest);
            if !young {
                writes.push(Write::delete(Table::Windows, key.clone()));
            }
            young
        });
        if rows.len() > keep.windows {
            let older = rows.len().div_ceil(2);
            for pair in rows.get(..older).unwrap_or_default().chunks_exact(2) {
                writes.extend(merge_pair(pair));
            }
        }
    }
    Ok(writes)
}

/// The writes after which no window of a device came more than `tolerance` after `now`: what a clock that was since put back
/// has seen come is no evidence of tomorrow. It came just before `now`.
///
/// # Errors
/// When the store cannot be read.
pub fn put_back(
    store: &dyn Store,
    device: &DeviceId,
    now: Timestamp,
    tolerance: Duration,
) -> Result<Vec<Write>, StoreError> {
    let before = now.minus(Duration::from_millis(1)).as_millis().to_be_bytes();
    let mut writes = Vec::new();
    for manifest in releases(store, device)? {
        let prefix = release_prefix(device, &manifest);
        let Some(end) = after_prefix(&prefix) else { continue };
        let mut from = prefix.clone();
        from.extend_from_slice(&now.plus(tolerance).as_millis().to_be_bytes());
        for (key, content) in store.range(Table::Windows, &from, &end, usize::MAX)? {
            // Epoch and first stay: no two windows of a device and a release have the same.
            let rest = key.get(prefix.len() + before.len()..).unwrap_or_default();
            let put = [prefix.as_slice(), &before, rest].concat();
            writes.extend([Write::delete(Table::Windows, key), Write::put(Table::Windows, put, content)]);
        }
    }
    Ok(writes)
}

fn merge_pair(pair: &[(Vec<u8>, Vec<u8>)]) -> Vec<Write> {
    let [(older_key, older), (newer_key, newer)] = pair else { return vec![] };
    let (Ok(mut sum), Ok(window)) = (WindowStats::decode(older), WindowStats::decode(newer)) else { return vec![] };
    match sum.merge(&window) {
        Ok(()) => vec![
            Write::delete(Table::Windows, older_key.clone()),
            Write::put(Table::Windows, newer_key.clone(), sum.encode()),
        ],
        Err(_other_baseline) => vec![],
    }
}

#[cfg(test)]
#[path = "windows_tests.rs"]
pub(crate) mod tests;
