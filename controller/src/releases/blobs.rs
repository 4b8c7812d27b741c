//! Chunks and manifests as files: `DATA/blobs/ab/<sha256>`, framed as in `bundle::chunk`, so that what is published is
//! what lies there. The name is the check.

use fieldpost_shared::bundle::chunk::{ChunkError, MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES, MAX_PAYLOAD_BYTES, unframe};
use fieldpost_shared::durable::{DurableError, write_atomic};
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::Timestamp;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use std::{fs, io};

/// Why a blob cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is not what its name says.
    #[error("blob {digest} is refused")]
    Refused {
        /// Its name.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: ChunkError,
    },
    /// It cannot travel in one message.
    #[error("blob {digest} has {found} bytes, at most {MAX_PAYLOAD_BYTES} fit one message")]
    TooLarge {
        /// Its name.
        digest: Digest,
        /// Framed bytes.
        found: usize,
    },
    /// It is not there.
    #[error("blob {0} is not there")]
    Missing(Digest),
    /// The disk would not.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It could not be made durable.
    #[error("cannot store blob {digest}")]
    Store {
        /// Its name.
        digest: Digest,
        /// The reason.
        #[source]
        source: DurableError,
    },
}

impl BlobError {
    /// Whether the disk is full.
    #[must_use]
    pub fn disk_full(&self) -> bool {
        let io = match self {
            Self::Io { source, .. } | Self::Store { source: DurableError::Write { source, .. }, .. } => source,
            _ => return false,
        };
        matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The blobs of one data directory.
#[derive(Debug, Clone)]
pub struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// Blobs under `dir`, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn folder(&self, digest: Digest) -> PathBuf {
        self.dir.join(digest.to_string().get(..2).unwrap_or("00"))
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder(digest).join(digest.to_string())
    }

    /// Whether it is there. What was put was checked, so it is whole unless the disk lost it since.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Keeps a framed chunk, durably, after checking that it holds what its name says.
    ///
    /// # Errors
    /// When it does not, or the disk will not take it.
    pub fn put(&self, digest: Digest, frame: &[u8]) -> Result<(), BlobError> {
        self.put_up_to(digest, frame, MAX_CHUNK_BYTES)
    }

    /// Keeps a framed manifest: larger unpacked than a chunk, but no larger packed.
    ///
    /// # Errors
    /// As [`Blobs::put`].
    pub fn put_manifest(&self, digest: Digest, frame: &[u8]) -> Result<(), BlobError> {
        self.put_up_to(digest, frame, MAX_MANIFEST_BYTES)
    }

    fn put_up_to(&self, digest: Digest, frame: &[u8], limit: usize) -> Result<(), BlobError> {
        if frame.len() > MAX_PAYLOAD_BYTES {
            return Err(BlobError::TooLarge { digest, found: frame.len() });
        }
        unframe(frame, digest, limit).map_err(|source| BlobError::Refused { digest, source })?;
        if self.has(digest) {
            return Ok(());
        }
        let folder = self.folder(digest);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        write_atomic(&folder, &digest.to_string(), frame).map_err(|source| BlobError::Store { digest, source })
    }

    /// The frame, as it was put.
    ///
    /// # Errors
    /// When it is not there, or cannot be read, or the disk changed it.
    pub fn frame(&self, digest: Digest) -> Result<Vec<u8>, BlobError> {
        let path = self.path(digest);
        let frame = match fs::read(&path) {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BlobError::Missing(digest)),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        unframe(&frame, digest, MAX_MANIFEST_BYTES).map_err(|source| BlobError::Refused { digest, source })?;
        Ok(frame)
    }

    /// The content of a blob.
    ///
    /// # Errors
    /// As [`Blobs::frame`].
    pub fn content(&self, digest: Digest) -> Result<Vec<u8>, BlobError> {
        let frame = self.frame(digest)?;
        unframe(&frame, digest, MAX_MANIFEST_BYTES).map_err(|source| BlobError::Refused { digest, source })
    }

    /// Deletes what no release uses and nobody touched for `age`: pushes that were given up. Says how many.
    ///
    /// # Errors
    /// When the directory cannot be read; files that cannot be deleted are left.
    pub fn collect(&self, used: &HashSet<Digest>, now: Timestamp, age: Duration) -> Result<usize, BlobError> {
        let mut deleted = 0_usize;
        for folder in fs::read_dir(&self.dir).map_err(failed("list", &self.dir))?.flatten() {
            let Ok(files) = fs::read_dir(folder.path()) else { continue };
            for file in files.flatten() {
                let name = file.file_name();
                let digest = name.to_str().and_then(|name| name.parse::<Digest>().ok());
                if digest.is_some_and(|digest| used.contains(&digest)) {
                    continue;
                }
                let modified = file.metadata().and_then(|data| data.modified()).ok();
                let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let touched = since.and_then(|since| u64::try_from(since.as_millis()).ok()).map(Timestamp::from_millis);
                if touched.is_some_and(|touched| now.since(touched) >= age) && fs::remove_file(file.path()).is_ok() {
                    deleted = deleted.saturating_add(1);
                }
            }
        }
        Ok(deleted)
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::bundle::chunk::frame;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
        (dir, blobs)
    }

    #[test]
    fn what_was_put_comes_back() {
        let (_dir, blobs) = blobs();
        let (digest, framed) = (Digest::of(b"content"), frame(b"content").unwrap());
        assert!(!blobs.has(digest));
        blobs.put(digest, &framed).unwrap();
        blobs.put(digest, &framed).unwrap();
        assert_eq!((blobs.frame(digest).unwrap(), blobs.content(digest).unwrap()), (framed, b"content".to_vec()));
    }

    #[test]
    fn content_of_another_name_is_refused_and_leaves_nothing() {
        let (_dir, blobs) = blobs();
        let digest = Digest::of(b"other");
        assert!(matches!(blobs.put(digest, &frame(b"content").unwrap()), Err(BlobError::Refused { .. })));
        assert!(matches!(blobs.frame(digest), Err(BlobError::Missing(_))));
    }

    #[test]
    fn what_no_message_can_carry_is_refused() {
        let (_dir, blobs) = blobs();
        let large = vec![0; MAX_PAYLOAD_BYTES + 1];
        assert!(matches!(blobs.put(Digest::of(b"x"), &large), Err(BlobError::TooLarge { .. })));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test damages the file on purpose")]
    fn a_blob_that_the_disk_changed_is_not_handed_out() {
        let (_dir, blobs) = blobs();
        let digest = Digest::of(b"content");
        blobs.put(digest, &frame(b"content").unwrap()).unwrap();
        fs::write(blobs.path(digest), b"\0rotten").unwrap();
        assert!(matches!(blobs.frame(digest), Err(BlobError::Refused { .. })));
    }

    #[test]
    fn only_old_unused_blobs_are_collected() {
        let (_dir, blobs) = blobs();
        for content in [b"used", b"idle"] {
            blobs.put(Digest::of(content), &frame(content).unwrap()).unwrap();
        }
        let used = HashSet::from([Digest::of(b"used")]);
        let age = Duration::from_secs(3600);
        assert_eq!(blobs.collect(&used, Timestamp::EPOCH, age).unwrap(), 0);
        assert_eq!(blobs.collect(&used, Timestamp::from_millis(u64::MAX), age).unwrap(), 1);
        assert!(blobs.has(Digest::of(b"used")) && !blobs.has(Digest::of(b"idle")));
    }
}
