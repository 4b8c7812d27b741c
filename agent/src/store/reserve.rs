//! Space put by for a full disk: a file that is deleted when the database could not be opened otherwise.

use super::error::StoreError;
use fieldpost_shared::durable;
use std::fs;
use std::path::Path;

const NAME: &str = "db.reserve";
/// A few of sled's segments (512 KiB), which is what it asks for to open.
const BYTES: usize = 2 << 20;

/// Puts the reserve by, where it is not yet.
pub(super) fn take(data: &Path) -> Result<(), StoreError> {
    if fs::metadata(data.join(NAME)).is_ok_and(|file| file.len() >= BYTES as u64) {
        return Ok(());
    }
    // Noise, since zeros would take no space on a file system that compresses.
    let mut noise = vec![0; BYTES];
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for bytes in noise.chunks_exact_mut(8) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    durable::write_atomic(data, NAME, &noise)
        .map_err(|source| StoreError::durable("keep a reserve", &data.join(NAME), source))
}

/// Gives the space free. False when there was no reserve.
pub(super) fn release(data: &Path) -> bool {
    fs::remove_file(data.join(NAME)).is_ok()
}
