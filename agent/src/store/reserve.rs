//! Space put by for a full disk: a file that is deleted when the database could not be opened otherwise.

use super::error::StoreError;
use fieldpost_shared::durable;
use std::fs;
use std::path::Path;

const NAME: &str = "db.reserve";
/// A few of sled's segments (512 KiB), which is what it asks for to open.
const BYTES: usize = 2 << 20;
const LEAST_BYTES: usize = 64 << 10;

/// Puts the reserve by, where it is not yet.
pub(super) fn take(data: &Path) -> Result<(), StoreError> {
    if held(data) >= BYTES { Ok(()) } else { put(data, BYTES) }
}

/// On a full disk as much of it as there is space for, down to what the next opening takes at the least.
pub(super) fn take_some(data: &Path) {
    let halves = std::iter::successors(Some(BYTES), |bytes| Some(bytes / 2).filter(|half| *half >= LEAST_BYTES));
    let held = held(data);
    for bytes in halves.take_while(|bytes| *bytes > held) {
        if put(data, bytes).is_ok() {
            return;
        }
    }
}

fn held(data: &Path) -> usize {
    fs::metadata(data.join(NAME)).map_or(0, |file| usize::try_from(file.len()).unwrap_or(BYTES))
}

fn put(data: &Path, bytes: usize) -> Result<(), StoreError> {
    // Noise, since zeros would take no space on a file system that compresses.
    durable::write_atomic(data, NAME, &noise(bytes))
        .map_err(|source| StoreError::durable("keep a reserve", &data.join(NAME), source))
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for bytes in noise.chunks_exact_mut(8) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    noise
}

/// Gives the space free. False when there was no reserve.
pub(super) fn release(data: &Path) -> bool {
    fs::remove_file(data.join(NAME)).is_ok()
}
