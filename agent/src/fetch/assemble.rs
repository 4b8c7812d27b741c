//! From chunks to files: each chunk and each file checked, the manifest written last.

use super::disk::{Disk, DiskError, failed, holds};
use super::places::Place;
use fieldpost_shared::bundle::chunk::ChunkRef;
use fieldpost_shared::bundle::{FileEntry, Manifest};
use fieldpost_shared::durable;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// A release that could not be made whole.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The disk failed.
    #[error("cannot assemble the release")]
    Disk(#[source] DiskError),
    /// A chunk is gone or damaged; it was deleted and must be fetched again.
    #[error("chunk {} of `{path}` is missing or damaged", chunk.short())]
    Chunk {
        /// The chunk.
        chunk: Digest,
        /// The file it belongs to.
        path: String,
    },
    /// Good chunks that make another file than the manifest says: the bundle itself is wrong.
    #[error("`{path}` has digest {found}, the manifest says {expected}")]
    File {
        /// The file.
        path: String,
        /// From the manifest.
        expected: Digest,
        /// What was assembled.
        found: Digest,
    },
}

/// Assembles a release from waiting chunks and from the files of releases. Blocking.
///
/// Repeating it after a kill at any instant is safe: nothing counts before `manifest.json` is durable, and files that
/// stand already are not written again. Before it fails for a chunk, it looks at all chunks, so that one more fetch brings
/// everything that is damaged.
///
/// # Errors
/// When chunks are missing or damaged, or the disk fails.
pub fn assemble(disk: &Disk, manifest: &Manifest, manifest_bytes: &[u8]) -> Result<(), AssembleError> {
    let release = Digest::of(manifest_bytes);
    let files = disk.files_dir(&release);
    let chunks = manifest.chunks();
    let places = disk.installed(&chunks);
    for file in &manifest.files {
        let path = files.join(&file.path);
        if holds(&path, file) {
            continue;
        }
        let dir = path.parent().unwrap_or(&files).to_owned();
        std::fs::create_dir_all(&dir).map_err(failed("create", &dir)).map_err(AssembleError::Disk)?;
        let written = write_file(disk, file, &path, |chunk| read_chunk(disk, chunk, &places));
        if let Err(AssembleError::Chunk { .. }) = written {
            for chunk in &chunks {
                drop(read_chunk(disk, chunk, &places));
            }
        }
        written?;
        durable::sync_dir(&dir).map_err(durable_failed)?;
    }
    disk.finish(&release, manifest_bytes).map_err(AssembleError::Disk)?;
    for chunk in chunks {
        drop(std::fs::remove_file(disk.chunk_path(&chunk.sha256)));
    }
    Ok(())
}

fn durable_failed(error: durable::DurableError) -> AssembleError {
    AssembleError::Disk(DiskError::Durable(error))
}

/// A chunk's content. Where it is damaged, it looks as if it were here no longer.
fn read_chunk(disk: &Disk, chunk: &ChunkRef, places: &HashMap<Digest, Place>) -> Option<Vec<u8>> {
    let waiting = disk.chunk_path(&chunk.sha256);
    let whole = |content: &Vec<u8>| Digest::of(content) == chunk.sha256;
    if let Some(content) = std::fs::read(&waiting).ok().filter(whole) {
        return Some(content);
    }
    drop(std::fs::remove_file(&waiting));
    let place = places.get(&chunk.sha256)?;
    let content = place.read().ok().filter(whole);
    if content.is_none()
        && let Err(error) = disk.revoke(&place.release)
    {
        tracing::warn!(error = %Chain(&error), "cannot note that a release is damaged");
    }
    content
}

fn write_file(
    disk: &Disk,
    file: &FileEntry,
    path: &Path,
    read: impl Fn(&ChunkRef) -> Option<Vec<u8>>,
) -> Result<(), AssembleError> {
    let part = disk.chunks_dir().join(format!(".{}.file", file.sha256));
    let written = write_part(file, &part, read).and_then(|()| durable::publish(&part, path).map_err(durable_failed));
    if written.is_err() {
        // On a full disk it is what takes the space.
        drop(std::fs::remove_file(&part));
    }
    written
}

fn write_part(file: &FileEntry, part: &Path, read: impl Fn(&ChunkRef) -> Option<Vec<u8>>) -> Result<(), AssembleError> {
    let io = |operation| {
        let failed = failed(operation, part);
        move |error| AssembleError::Disk(failed(error))
    };
    let mut out = std::fs::File::create(part).map_err(io("create"))?;
    let mut hash = Sha256::new();
    for chunk in &file.chunks {
        let content =
            read(chunk).ok_or_else(|| AssembleError::Chunk { chunk: chunk.sha256, path: file.path.clone() })?;
        hash.update(&content);
        out.write_all(&content).map_err(io("write"))?;
    }
    out.sync_all().map_err(io("sync"))?;
    let found = Digest::from_bytes(hash.finalize().into());
    if found == file.sha256 {
        Ok(())
    } else {
        Err(AssembleError::File { path: file.path.clone(), expected: file.sha256, found })
    }
}
