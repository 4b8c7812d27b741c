//! The layout of releases and chunks on disk.

use fieldpost_shared::bundle::chunk::ChunkRef;
use fieldpost_shared::bundle::{Manifest, ManifestError};
use fieldpost_shared::id::Digest;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

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
    /// A manifest on disk that cannot be read any more.
    #[error("the manifest of release {} on disk is damaged", release.short())]
    Manifest {
        /// Its digest.
        release: Digest,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// A manifest on disk whose bytes are not what its name says.
    #[error("the manifest of release {} on disk was changed", .0.short())]
    Changed(Digest),
    /// A durable write failed.
    #[error("cannot keep a file")]
    Durable(#[source] fieldpost_shared::durable::DurableError),
}

impl DiskError {
    /// Whether the disk is full: the one failure that deleting something mends.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match self {
            Self::Io { source, .. } => full(source),
            Self::Durable(fieldpost_shared::durable::DurableError::Write { source, .. }) => full(source),
            Self::Manifest { .. } | Self::Changed(_) => false,
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

    /// The manifest of a whole release; none when it is not here, or not whole.
    ///
    /// # Errors
    /// When the disk fails, or the manifest is damaged.
    pub fn manifest(&self, release: &Digest) -> Result<Option<Manifest>, DiskError> {
        let path = self.release_dir(release).join("manifest.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        if Digest::of(&bytes) != *release {
            return Err(DiskError::Changed(*release));
        }
        Manifest::parse(&bytes).map(Some).map_err(|source| DiskError::Manifest { release: *release, source })
    }

    /// The digests of all release directories, whole or not.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn releases(&self) -> Result<Vec<Digest>, DiskError> {
        names(&self.releases_dir())
    }

    /// The chunks of a release that neither wait on disk nor stand in a whole release.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn missing(&self, chunks: &[ChunkRef]) -> Result<Vec<ChunkRef>, DiskError> {
        let waiting: HashSet<Digest> = names(&self.chunks_dir())?.into_iter().collect();
        let installed = self.installed();
        let here = |chunk: &ChunkRef| waiting.contains(&chunk.sha256) || installed.contains_key(&chunk.sha256);
        Ok(chunks.iter().filter(|chunk| !here(chunk)).copied().collect())
    }

    /// Where each chunk of each whole release stands: that is what makes an update a delta.
    #[must_use]
    pub fn installed(&self) -> HashMap<Digest, Place> {
        let mut places = HashMap::new();
        for release in self.releases().unwrap_or_default() {
            let Ok(Some(manifest)) = self.manifest(&release) else { continue };
            for file in &manifest.files {
                let mut offset = 0;
                for chunk in &file.chunks {
                    let path = self.files_dir(&release).join(&file.path);
                    places.entry(chunk.sha256).or_insert(Place { path, offset, size: chunk.size });
                    offset += chunk.size;
                }
            }
        }
        places
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
        let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
        let root = self.root.canonicalize().ok()?;
        let mounted = disks.iter().filter(|disk| root.starts_with(disk.mount_point()));
        mounted.max_by_key(|disk| disk.mount_point().as_os_str().len()).map(sysinfo::Disk::available_space)
    }

    /// Deletes the releases that are not in `keep`, and the waiting chunks that are not in `chunks`.
    ///
    /// # Errors
    /// When something cannot be deleted; the rest is still tried.
    pub fn collect(&self, keep: &HashSet<Digest>, chunks: &HashSet<Digest>) -> Result<(), DiskError> {
        let mut first_error = None;
        for release in self.releases()?.into_iter().filter(|release| !keep.contains(release)) {
            let dir = self.release_dir(&release);
            // The manifest goes first: what is half deleted must not look whole.
            drop(std::fs::remove_file(dir.join("manifest.json")));
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                first_error.get_or_insert(failed("delete", &dir)(error));
            }
        }
        for chunk in names(&self.chunks_dir())?.into_iter().filter(|chunk| !chunks.contains(chunk)) {
            let path = self.chunk_path(&chunk);
            if let Err(error) = std::fs::remove_file(&path) {
                first_error.get_or_insert(failed("delete", &path)(error));
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// A chunk inside a file of a whole release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    offset: u64,
    size: u64,
}

impl Place {
    /// Reads it; the caller checks the content.
    ///
    /// # Errors
    /// When the file is gone or short.
    pub fn read(&self) -> Result<Vec<u8>, DiskError> {
        let read = |mut file: std::fs::File| {
            file.seek(SeekFrom::Start(self.offset))?;
            let mut content = Vec::new();
            file.take(self.size).read_to_end(&mut content)?;
            Ok(content)
        };
        std::fs::File::open(&self.path).and_then(read).map_err(failed("read", &self.path))
    }
}

fn names(dir: &Path) -> Result<Vec<Digest>, DiskError> {
    let entries = std::fs::read_dir(dir).map_err(failed("read", dir))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}
