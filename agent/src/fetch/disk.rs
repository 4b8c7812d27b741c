//! The layout of releases and chunks on disk.

use fieldpost_shared::bundle::{FileEntry, Manifest};
use fieldpost_shared::durable;
use fieldpost_shared::id::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Its presence says that a release is whole.
const MANIFEST: &str = "manifest.json";
/// The same bytes while the release is brought in, or after it was found damaged.
const UNFINISHED: &str = "unfinished.json";

/// A file operation that failed; says which and where.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system said no.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A durable write failed.
    #[error("cannot keep a file")]
    Durable(#[source] durable::DurableError),
}

impl DiskError {
    /// Whether the disk is full: the one failure that deleting something mends.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match self {
            Self::Io { source, .. } => full(source),
            Self::Durable(durable::DurableError::Write { source, .. }) => full(source),
        }
    }
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
    let path = path.to_owned();
    move |source| DiskError::Io { operation, path, source }
}

/// The agent's release and chunk directories. All methods block.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Opens, and makes, the directories under the agent's data directory.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, DiskError> {
        let disk = Self { root: data_dir.to_owned() };
        for dir in [disk.chunks_dir(), disk.releases_dir()] {
            std::fs::create_dir_all(&dir).map_err(failed("create", &dir))?;
        }
        Ok(disk)
    }

    /// The agent's data directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where chunks wait.
    #[must_use]
    pub fn chunks_dir(&self) -> PathBuf {
        self.root.join("chunks")
    }

    fn releases_dir(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// The directory of one release.
    #[must_use]
    pub fn release_dir(&self, release: &Digest) -> PathBuf {
        self.releases_dir().join(release.to_string())
    }

    /// The directory of its files.
    #[must_use]
    pub fn files_dir(&self, release: &Digest) -> PathBuf {
        self.release_dir(release).join("files")
    }

    /// Where a chunk waits.
    #[must_use]
    pub fn chunk_path(&self, chunk: &Digest) -> PathBuf {
        self.chunks_dir().join(chunk.to_string())
    }

    /// The manifest of a whole release; none when it is not here, or not whole. One that is damaged is deleted: the
    /// release is not whole any more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn manifest(&self, release: &Digest) -> Result<Option<Manifest>, DiskError> {
        let bytes = read_named(&self.release_dir(release).join(MANIFEST), release)?;
        // What is genuine and does not parse was written for a newer agent: to this one it is no whole release.
        Ok(bytes.and_then(|bytes| Manifest::parse(&bytes).ok()))
    }

    /// The bytes of the manifest of a release that is whole, or being brought in.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn manifest_bytes(&self, release: &Digest) -> Result<Option<Vec<u8>>, DiskError> {
        let dir = self.release_dir(release);
        match read_named(&dir.join(MANIFEST), release)? {
            None => read_named(&dir.join(UNFINISHED), release),
            whole => Ok(whole),
        }
    }

    /// Notes what a release is made of before its chunks come in: a restart knows by it which chunks to keep.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self, release: &Digest, manifest: &[u8]) -> Result<(), DiskError> {
        let dir = self.release_dir(release);
        std::fs::create_dir_all(&dir).map_err(failed("create", &dir))?;
        durable::write_atomic(&dir, UNFINISHED, manifest).map_err(DiskError::Durable)
    }

    /// Says that a release is whole: everything else of it is durable.
    pub(super) fn finish(&self, release: &Digest, manifest: &[u8]) -> Result<(), DiskError> {
        let dir = self.release_dir(release);
        durable::write_atomic(&dir, MANIFEST, manifest).map_err(DiskError::Durable)?;
        // The names of the new directories themselves.
        for dir in [Some(dir.as_path()), dir.parent()].into_iter().flatten() {
            durable::sync_dir(dir).map_err(DiskError::Durable)?;
        }
        drop(std::fs::remove_file(dir.join(UNFINISHED)));
        Ok(())
    }

    /// Says that a release is whole no longer, since something in it is damaged: what is still good of it is used by the
    /// next fetch, the rest comes anew.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn revoke(&self, release: &Digest) -> Result<(), DiskError> {
        let dir = self.release_dir(release);
        let whole = dir.join(MANIFEST);
        if !whole.exists() {
            return Ok(());
        }
        tracing::warn!(release = %release, "a release on this disk is damaged: what is bad of it is fetched again");
        durable::publish(&whole, &dir.join(UNFINISHED)).map_err(DiskError::Durable)
    }

    /// Whether all files of a whole release are what its manifest says; one that is not is [revoked](Self::revoke).
    /// Reads everything.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn check(&self, release: &Digest, manifest: &Manifest) -> Result<bool, DiskError> {
        let files = self.files_dir(release);
        let good = manifest.files.iter().all(|file| holds(&files.join(&file.path), file));
        if !good {
            self.revoke(release)?;
        }
        Ok(good)
    }

    /// Bytes of the files that are still to be written before a release is whole.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn unwritten_bytes(&self, release: &Digest, manifest: &Manifest) -> Result<u64, DiskError> {
        if self.manifest(release)?.is_some() {
            return Ok(0);
        }
        let files = self.files_dir(release);
        let unwritten = manifest.files.iter().filter(|file| !holds(&files.join(&file.path), file));
        Ok(unwritten.fold(0, |sum, file| sum.saturating_add(file.size)))
    }

    /// The digests of all release directories, whole or not.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn releases(&self) -> Result<Vec<Digest>, DiskError> {
        names(&self.releases_dir())
    }

    /// Puts a checked chunk down. Not synced: a chunk torn by a power cut is found at assembly and fetched again.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn keep_chunk(&self, chunk: &Digest, content: &[u8]) -> Result<(), DiskError> {
        let (path, part) = (self.chunk_path(chunk), self.chunks_dir().join(format!(".{chunk}.part")));
        #[allow(clippy::disallowed_methods, reason = "documented: chunks are checked again when they are assembled")]
        let kept = std::fs::write(&part, content).and_then(|()| std::fs::rename(&part, &path));
        kept.map_err(|error| {
            drop(std::fs::remove_file(&part));
            failed("keep chunk", &path)(error)
        })
    }

    /// Free bytes on the file system of the data directory.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.root)
    }
}

/// Whether a file is there, and what a manifest says of it.
pub(super) fn holds(path: &Path, file: &FileEntry) -> bool {
    let hash = || {
        let mut open = std::fs::File::open(path)?;
        if open.metadata()?.len() != file.size {
            return Ok(None);
        }
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
        loop {
            match open.read(&mut buffer)? {
                0 => return Ok::<_, io::Error>(Some(Digest::from_bytes(hash.finalize().into()))),
                n => hash.update(buffer.get(..n).unwrap_or_default()),
            }
        }
    };
    // A sector that does not read is as bad as one that reads wrongly.
    hash().ok().flatten() == Some(file.sha256)
}

/// Free bytes on the file system of a directory.
#[must_use]
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
    let root = dir.canonicalize().ok()?;
    let mounted = disks.iter().filter(|disk| root.starts_with(disk.mount_point()));
    mounted.max_by_key(|disk| disk.mount_point().as_os_str().len()).map(sysinfo::Disk::available_space)
}

/// A file whose name holds the digest of its bytes; one that is damaged is deleted, and as good as none.
fn read_named(path: &Path, digest: &Digest) -> Result<Option<Vec<u8>>, DiskError> {
    let damaged = match std::fs::read(path) {
        Ok(bytes) if Digest::of(&bytes) == *digest => return Ok(Some(bytes)),
        Ok(_changed) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_damage(&error) => Some(error),
        Err(error) => return Err(failed("read", path)(error)),
    };
    tracing::warn!(path = %path.display(), error = ?damaged, "a file is damaged and deleted");
    std::fs::remove_file(path).map_err(failed("delete", path))?;
    Ok(None)
}

/// What a worn flash says (`EIO`, `EBADMSG`, `EUCLEAN`), and not what a busy system says.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(5 | 74 | 117))
}

pub(super) fn names(dir: &Path) -> Result<Vec<Digest>, DiskError> {
    let entries = std::fs::read_dir(dir).map_err(failed("read", dir))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}
