//! From chunks to files: each chunk and each file checked, the manifest written last.

use super::disk::{Disk, DiskError, failed};
use fieldpost_shared::bundle::chunk::ChunkRef;
use fieldpost_shared::bundle::{FileEntry, Manifest};
use fieldpost_shared::durable;
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

/// Assembles a release from waiting chunks and from the files of whole releases. Blocking.
///
/// Repeating it after a kill at any instant is safe: nothing counts before `manifest.json` is durable.
///
/// # Errors
/// When chunks are missing or damaged, or the disk fails.
pub fn assemble(disk: &Disk, manifest: &Manifest, manifest_bytes: &[u8]) -> Result<(), AssembleError> {
    let release = Digest::of(manifest_bytes);
    let files = disk.files_dir(&release);
    let installed = disk.installed();
    for file in &manifest.files {
        let path = files.join(&file.path);
        let dir = path.parent().unwrap_or(&files).to_owned();
        std::fs::create_dir_all(&dir).map_err(failed("create", &dir)).map_err(AssembleError::Disk)?;
        write_file(disk, file, &path, |chunk| read_chunk(disk, chunk, &installed))?;
        durable::sync_dir(&dir).map_err(durable_failed)?;
    }
    let dir = disk.release_dir(&release);
    durable::write_atomic(&dir, "manifest.json", manifest_bytes).map_err(durable_failed)?;
    // The names of the new directories themselves.
    for dir in [Some(dir.as_path()), dir.parent()].into_iter().flatten() {
        durable::sync_dir(dir).map_err(durable_failed)?;
    }
    for chunk in manifest.chunks() {
        drop(std::fs::remove_file(disk.chunk_path(&chunk.sha256)));
    }
    Ok(())
}

fn durable_failed(error: durable::DurableError) -> AssembleError {
    AssembleError::Disk(DiskError::Durable(error))
}

fn read_chunk(disk: &Disk, chunk: &ChunkRef, installed: &HashMap<Digest, super::disk::Place>) -> Option<Vec<u8>> {
    let waiting = disk.chunk_path(&chunk.sha256);
    let whole = |content: &Vec<u8>| Digest::of(content) == chunk.sha256;
    if let Some(content) = std::fs::read(&waiting).ok().filter(whole) {
        return Some(content);
    }
    // Damaged: it must not look fetched any longer.
    drop(std::fs::remove_file(&waiting));
    installed.get(&chunk.sha256).and_then(|place| place.read().ok()).filter(whole)
}

fn write_file(
    disk: &Disk,
    file: &FileEntry,
    path: &Path,
    read: impl Fn(&ChunkRef) -> Option<Vec<u8>>,
) -> Result<(), AssembleError> {
    let part = disk.chunks_dir().join(format!(".{}.file", file.sha256));
    let io = |operation, at: &Path| {
        let failed = failed(operation, at);
        move |error| AssembleError::Disk(failed(error))
    };
    let mut out = std::fs::File::create(&part).map_err(io("create", &part))?;
    let mut hash = Sha256::new();
    for chunk in &file.chunks {
        let content =
            read(chunk).ok_or_else(|| AssembleError::Chunk { chunk: chunk.sha256, path: file.path.clone() })?;
        hash.update(&content);
        out.write_all(&content).map_err(io("write", &part))?;
    }
    out.sync_all().map_err(io("sync", &part))?;
    let found = Digest::from_bytes(hash.finalize().into());
    if found != file.sha256 {
        drop(std::fs::remove_file(&part));
        return Err(AssembleError::File { path: file.path.clone(), expected: file.sha256, found });
    }
    durable::publish(&part, path).map_err(durable_failed)
}
