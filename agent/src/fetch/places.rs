//! Where the chunks of a release stand already, and which are missing.

use super::disk::{Disk, DiskError, failed, names};
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::bundle::chunk::ChunkRef;
use fieldpost_shared::id::Digest;
use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// A chunk inside a file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whose file it is.
    pub release: Digest,
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

    /// Whether the chunk can be read there.
    #[must_use]
    pub fn holds(&self, chunk: &Digest) -> bool {
        self.read().is_ok_and(|content| Digest::of(&content) == *chunk)
    }
}

impl Disk {
    /// The chunks of a release that neither wait on disk nor stand in a file of a release.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn missing(&self, chunks: &[ChunkRef]) -> Result<Vec<ChunkRef>, DiskError> {
        let installed = self.installed(chunks);
        // A power cut leaves files that are short or empty; any other damage is found when the release is assembled.
        let waits = |chunk: &ChunkRef| {
            std::fs::metadata(self.chunk_path(&chunk.sha256)).is_ok_and(|file| file.len() == chunk.size)
        };
        let here = |chunk: &ChunkRef| waits(chunk) || installed.contains_key(&chunk.sha256);
        Ok(chunks.iter().filter(|chunk| !here(chunk)).copied().collect())
    }

    /// Where these chunks stand in files of releases: that is what makes an update a delta. Whole releases are believed;
    /// of others (cut off, or found damaged) only what was read and is good counts.
    #[must_use]
    pub fn installed(&self, chunks: &[ChunkRef]) -> HashMap<Digest, Place> {
        let wanted: HashSet<Digest> = chunks.iter().map(|chunk| chunk.sha256).collect();
        let (mut places, mut doubtful) = (HashMap::new(), Vec::new());
        for release in self.releases().unwrap_or_default() {
            match self.manifest(&release) {
                Ok(Some(manifest)) => self.places(release, &manifest, &wanted, |chunk, place| {
                    places.entry(chunk).or_insert(place);
                }),
                Ok(None) => doubtful.push(release),
                Err(_unreadable) => {}
            }
        }
        for release in doubtful {
            let Some(manifest) = self.unfinished(&release) else { continue };
            self.places(release, &manifest, &wanted, |chunk, place| {
                if !places.contains_key(&chunk) && place.holds(&chunk) {
                    places.insert(chunk, place);
                }
            });
        }
        places
    }

    /// The manifest of a release that is not whole.
    fn unfinished(&self, release: &Digest) -> Option<Manifest> {
        Manifest::parse(&self.manifest_bytes(release).ok()??).ok()
    }

    fn places(
        &self,
        release: Digest,
        manifest: &Manifest,
        wanted: &HashSet<Digest>,
        mut found: impl FnMut(Digest, Place),
    ) {
        for file in &manifest.files {
            let path = self.files_dir(&release).join(&file.path);
            let mut offset = 0_u64;
            for chunk in &file.chunks {
                if wanted.contains(&chunk.sha256) {
                    found(chunk.sha256, Place { release, path: path.clone(), offset, size: chunk.size });
                }
                offset = offset.saturating_add(chunk.size);
            }
        }
    }

    /// Deletes the releases that are not in `keep`, and the waiting chunks that none of `keep` is still to be made of.
    ///
    /// # Errors
    /// When something cannot be deleted; the rest is still tried.
    pub fn collect(&self, keep: &HashSet<Digest>) -> Result<(), DiskError> {
        let mut first_error = None;
        for release in self.releases()?.into_iter().filter(|release| !keep.contains(release)) {
            let dir = self.release_dir(&release);
            // The manifest goes first: what is half deleted must not look whole.
            drop(std::fs::remove_file(dir.join("manifest.json")));
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                first_error.get_or_insert(failed("delete", &dir)(error));
            }
        }
        let unfinished = keep.iter().filter(|release| !matches!(self.manifest(release), Ok(Some(_))));
        let awaited: HashSet<Digest> = unfinished
            .filter_map(|release| self.unfinished(release))
            .flat_map(|manifest| manifest.chunks())
            .map(|chunk| chunk.sha256)
            .collect();
        for chunk in names(&self.chunks_dir())?.into_iter().filter(|chunk| !awaited.contains(chunk)) {
            let path = self.chunk_path(&chunk);
            if let Err(error) = std::fs::remove_file(&path) {
                first_error.get_or_insert(failed("delete", &path)(error));
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Deletes what a process that died was just writing. Only while nothing is fetched or assembled.
    ///
    /// # Errors
    /// When the directory of chunks cannot be read.
    pub fn sweep(&self) -> Result<(), DiskError> {
        let dir = self.chunks_dir();
        for entry in std::fs::read_dir(&dir).map_err(failed("read", &dir))?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                // What cannot be deleted now is tried at the next start.
                drop(std::fs::remove_file(entry.path()));
            }
        }
        Ok(())
    }
}
