//! The file form of a bundle: a plain tar, written reproducibly, read with limits.

use super::chunk::{ChunkError, MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES, MAX_PAYLOAD_BYTES, unframe};
use super::manifest::{FileEntry, Manifest, ManifestError};
use crate::id::Digest;
use crate::trust::Signature;
use std::io::{self, Read, Write};
use std::path::Path;

const MANIFEST: &str = "manifest.json";
const SIGNATURES: &str = "signatures.json";
const MAX_SIGNATURES_BYTES: usize = 64 * 1024;
const MAX_BLOBS: usize = 200_000;

/// A bundle file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The tar itself is damaged or unreadable.
    #[error("cannot read the bundle")]
    Read(#[source] io::Error),
    /// The tar could not be written.
    #[error("cannot write the bundle")]
    Write(#[source] io::Error),
    /// An entry that does not belong into a bundle, or at another place.
    #[error("the bundle holds `{found}` where {expected} belongs")]
    Entry {
        /// What was found.
        found: String,
        /// What should have been there.
        expected: &'static str,
    },
    /// An entry larger than its kind may be.
    #[error("`{entry}` has {size} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its name.
        entry: String,
        /// Its stated size.
        size: u64,
        /// The limit.
        limit: usize,
    },
    /// The bundle ends early.
    #[error("the bundle has no {0}: the file is truncated or not a bundle")]
    Missing(&'static str),
    /// The signatures are not the expected JSON.
    #[error("cannot read signatures.json")]
    Signatures(#[source] serde_json::Error),
    /// The manifest cannot be used.
    #[error("the manifest of the bundle is refused")]
    Manifest(#[source] ManifestError),
    /// A chunk is not what its name says.
    #[error("blob {digest} is refused")]
    Blob {
        /// Its name.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: ChunkError,
    },
    /// A chunk that the manifest names is not in the bundle.
    #[error("blob {0} is missing from the bundle")]
    BlobMissing(Digest),
    /// A blob that no file of the manifest uses.
    #[error("blob {0} belongs to no file of the manifest")]
    BlobForeign(Digest),
    /// A file's chunks do not make the file that the manifest names.
    #[error("the content of `{path}` is {found}, expected {expected}")]
    File {
        /// The file.
        path: String,
        /// What it should hash to.
        expected: Digest,
        /// What it hashes to.
        found: Digest,
    },
}

/// A bundle in memory: its signed manifest, its signatures, and its framed chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// The manifest as the bytes that are signed.
    pub manifest_bytes: Vec<u8>,
    /// Publisher signatures over `manifest_bytes`; not verified here.
    pub signatures: Vec<Signature>,
    /// Framed chunks by name, in order of first use.
    pub blobs: Vec<(Digest, Vec<u8>)>,
}

impl Bundle {
    /// Writes the tar. Equal bundles give equal bytes: no time, no owner, fixed order.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write(&self, out: impl Write) -> Result<(), ArchiveError> {
        let signatures = serde_json::to_vec_pretty(&self.signatures).map_err(ArchiveError::Signatures)?;
        let mut tar = tar::Builder::new(out);
        let mut add = |path: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            header.set_mode(0o644);
            tar.append_data(&mut header, path, bytes).map_err(ArchiveError::Write)
        };
        add(MANIFEST, &self.manifest_bytes)?;
        add(SIGNATURES, &signatures)?;
        for (digest, frame) in &self.blobs {
            add(&format!("blobs/{digest}"), frame)?;
        }
        tar.into_inner().and_then(|mut out| out.flush()).map_err(ArchiveError::Write)
    }

    /// Reads a tar and checks every blob and every file against the manifest. Signatures are left to [`crate::trust`].
    ///
    /// # Errors
    /// When anything is malformed, too large, missing, foreign, or not what its name says.
    pub fn read(input: impl Read) -> Result<Self, ArchiveError> {
        let mut tar = tar::Archive::new(input);
        let mut entries = tar.entries().map_err(ArchiveError::Read)?;
        let mut next = |expected: &'static str, limit: usize| -> Result<Option<(String, Vec<u8>)>, ArchiveError> {
            let Some(entry) = entries.next() else { return Ok(None) };
            let mut entry = entry.map_err(ArchiveError::Read)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if !entry.header().entry_type().is_file() {
                return Err(ArchiveError::Entry { found: path, expected });
            }
            let size = entry.size();
            if usize::try_from(size).map_or(true, |size| size > limit) {
                return Err(ArchiveError::TooLarge { entry: path, size, limit });
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
            if u64::try_from(bytes.len()) != Ok(size) {
                return Err(ArchiveError::Missing("end"));
            }
            Ok(Some((path, bytes)))
        };
        let mut named = |name: &'static str, limit: usize| match next(name, limit)? {
            Some((path, bytes)) if path == name => Ok(bytes),
            Some((found, _)) => Err(ArchiveError::Entry { found, expected: name }),
            None => Err(ArchiveError::Missing(name)),
        };
        let manifest_bytes = named(MANIFEST, MAX_MANIFEST_BYTES)?;
        let signatures = named(SIGNATURES, MAX_SIGNATURES_BYTES)?;
        let signatures = serde_json::from_slice(&signatures).map_err(ArchiveError::Signatures)?;
        let manifest = Manifest::parse(&manifest_bytes).map_err(ArchiveError::Manifest)?;
        let mut blobs = Vec::new();
        while let Some((path, frame)) = next("a blob", MAX_PAYLOAD_BYTES)? {
            let digest = path.strip_prefix("blobs/").and_then(|name| name.parse::<Digest>().ok());
            let Some(digest) = digest else { return Err(ArchiveError::Entry { found: path, expected: "a blob" }) };
            if blobs.len() >= MAX_BLOBS {
                return Err(ArchiveError::TooLarge { entry: path, size: u64::MAX, limit: MAX_BLOBS });
            }
            blobs.push((digest, frame));
        }
        let bundle = Self { manifest, manifest_bytes, signatures, blobs };
        bundle.check()?;
        Ok(bundle)
    }

    /// Reads the folder that a tar was unpacked to, with the same limits and checks; files that the manifest does not name
    /// are passed over.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_dir(dir: &Path) -> Result<Self, ArchiveError> {
        let named = |name: &'static str, limit: usize| {
            read_limited(&dir.join(name), name, limit)?.ok_or(ArchiveError::Missing(name))
        };
        let manifest_bytes = named(MANIFEST, MAX_MANIFEST_BYTES)?;
        let signatures = named(SIGNATURES, MAX_SIGNATURES_BYTES)?;
        let signatures = serde_json::from_slice(&signatures).map_err(ArchiveError::Signatures)?;
        let manifest = Manifest::parse(&manifest_bytes).map_err(ArchiveError::Manifest)?;
        let mut blobs = Vec::new();
        for chunk in manifest.chunks() {
            let name = format!("blobs/{}", chunk.sha256);
            let frame = read_limited(&dir.join(&name), &name, MAX_PAYLOAD_BYTES)?;
            blobs.push((chunk.sha256, frame.ok_or(ArchiveError::BlobMissing(chunk.sha256))?));
        }
        let bundle = Self { manifest, manifest_bytes, signatures, blobs };
        bundle.check()?;
        Ok(bundle)
    }

    /// The content of one file, assembled from its chunks and checked.
    ///
    /// # Errors
    /// When a chunk is missing or wrong, or the whole is not what the manifest says.
    pub fn file(&self, file: &FileEntry) -> Result<Vec<u8>, ArchiveError> {
        let blobs: std::collections::HashMap<_, _> = self.blobs.iter().map(|(name, frame)| (*name, frame)).collect();
        let mut content = Vec::with_capacity(usize::try_from(file.size).unwrap_or(0).min(64 << 20));
        for chunk in &file.chunks {
            let frame = blobs.get(&chunk.sha256).ok_or(ArchiveError::BlobMissing(chunk.sha256))?;
            let bytes = unframe(frame, chunk.sha256, MAX_CHUNK_BYTES)
                .map_err(|source| ArchiveError::Blob { digest: chunk.sha256, source })?;
            content.extend_from_slice(&bytes);
        }
        let found = Digest::of(&content);
        if found == file.sha256 {
            Ok(content)
        } else {
            Err(ArchiveError::File { path: file.path.clone(), expected: file.sha256, found })
        }
    }

    fn check(&self) -> Result<(), ArchiveError> {
        let wanted: std::collections::HashSet<_> = self.manifest.chunks().iter().map(|chunk| chunk.sha256).collect();
        if let Some((foreign, _)) = self.blobs.iter().find(|(name, _)| !wanted.contains(name)) {
            return Err(ArchiveError::BlobForeign(*foreign));
        }
        self.manifest.files.iter().try_for_each(|file| self.file(file).map(drop))
    }
}

/// A file of at most `limit` bytes; none when it is not there.
fn read_limited(path: &Path, entry: &str, limit: usize) -> Result<Option<Vec<u8>>, ArchiveError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ArchiveError::Read(error)),
    };
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
    if bytes.len() > limit {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        return Err(ArchiveError::TooLarge { entry: entry.to_owned(), size, limit });
    }
    Ok(Some(bytes))
}
