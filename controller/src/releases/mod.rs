//! The registry of releases: what publishers signed and pushed. The manifest lies with the blobs; the store holds who
//! signed it and when it came.

pub mod blobs;

pub use blobs::{BlobError, Blobs};

use crate::audit::{Act, Audit};
use crate::store::{Store, StoreError, Table, Write, decode, encode};
use crate::trust_dir::Trust;
use fieldpost_shared::bundle::chunk::{ChunkError, MAX_PAYLOAD_BYTES, frame};
use fieldpost_shared::bundle::{Manifest, ManifestError};
use fieldpost_shared::id::{Digest, ModelName, ReleaseRef};
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::trust::verifier::verify_manifest;
use fieldpost_shared::trust::{Signature, TrustError};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

const FORM: u8 = 1;
/// Parsed manifests kept at hand; the fleet runs few at a time.
const MAX_PARSED: usize = 64;

/// Why a release is not taken, or cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The manifest cannot be used.
    #[error("the manifest is refused")]
    Manifest(#[source] ManifestError),
    /// Its publishers are not believed.
    #[error("the manifest's signatures are refused")]
    Trust(#[source] TrustError),
    /// Chunks have not been put.
    #[error("{release} needs {missing} chunks that were not uploaded, such as {first}")]
    Missing {
        /// Which release.
        release: ReleaseRef,
        /// How many.
        missing: usize,
        /// One of them.
        first: Digest,
    },
    /// The name and version are taken.
    #[error("{release} is there already with another content ({known}): a version is never reused")]
    Taken {
        /// The release pushed.
        release: ReleaseRef,
        /// What it is here, in short.
        known: String,
    },
    /// The manifest does not fit a message even when packed.
    #[error(
        "the manifest has {0} bytes packed, at most {MAX_PAYLOAD_BYTES} fit one message: \
         use fewer labels, a coarser baseline, or fewer files"
    )]
    TooLarge(usize),
    /// It cannot be packed.
    #[error("cannot pack the manifest")]
    Pack(#[source] ChunkError),
    /// The blobs would not.
    #[error("cannot keep the release")]
    Blob(#[from] BlobError),
    /// The store would not.
    #[error("cannot keep the release")]
    Store(#[from] StoreError),
}

/// A release as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Model, version, digest.
    pub release: ReleaseRef,
    /// When it was pushed.
    pub pushed: Timestamp,
    /// When it was packed.
    pub created: Timestamp,
    /// One line for people.
    pub note: String,
    /// Bytes of its files, unpacked.
    pub total_bytes: u64,
    /// Publisher signatures over the manifest.
    pub signatures: Vec<Signature>,
}

/// The registry.
#[derive(Debug)]
pub struct Releases {
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    trust: Arc<Trust>,
    blobs: Blobs,
    /// One push at a time, so that two cannot take one version.
    push: Mutex<()>,
    known: RwLock<BTreeMap<(ModelName, Version), Arc<ReleaseRecord>>>,
    parsed: Mutex<HashMap<Digest, Arc<Manifest>>>,
}

fn key(model: &ModelName, version: &Version) -> String {
    format!("{model}/{version}")
}

impl Releases {
    /// Opens the registry.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(
        store: &dyn Store,
        audit: Arc<Audit>,
        clock: Arc<dyn Clock>,
        trust: Arc<Trust>,
        blobs: Blobs,
    ) -> Result<Self, StoreError> {
        let records = store.scan(Table::Releases, b"")?;
        let known = records.iter().map(|(_, value)| {
            let record: ReleaseRecord = decode(FORM, value)?;
            Ok(((record.release.model.clone(), record.release.version.clone()), Arc::new(record)))
        });
        let known = RwLock::new(known.collect::<Result<_, StoreError>>()?);
        Ok(Self { audit, clock, trust, blobs, push: Mutex::new(()), known, parsed: Mutex::default() })
    }

    /// The blobs.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Takes a release whose chunks are all there: signed by enough publishers, not revoked, its version unused.
    /// Pushing the same again changes nothing; with other signatures that hold, they take the place of the old ones.
    ///
    /// # Errors
    /// When any of that does not hold.
    pub fn push(
        &self,
        actor: &str,
        bytes: &[u8],
        signatures: Vec<Signature>,
    ) -> Result<Arc<ReleaseRecord>, ReleaseError> {
        let now = self.clock.now();
        let manifest = Manifest::parse(bytes).map_err(ReleaseError::Manifest)?;
        let root = self.trust.root();
        root.check_fresh(now).map_err(ReleaseError::Trust)?;
        verify_manifest(&root, bytes, &signatures).map_err(ReleaseError::Trust)?;
        let release = manifest.release(bytes);
        // Taken before the chunks are looked for: whoever deletes unused ones holds it too.
        let _one_at_a_time: MutexGuard<'_, ()> = self.push.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<_> = manifest.chunks().into_iter().filter(|chunk| !self.blobs.has(chunk.sha256)).collect();
        if let Some(first) = missing.first() {
            return Err(ReleaseError::Missing { release, missing: missing.len(), first: first.sha256 });
        }
        let packed = frame(bytes).map_err(ReleaseError::Pack)?;
        if packed.len() > MAX_PAYLOAD_BYTES {
            return Err(ReleaseError::TooLarge(packed.len()));
        }
        let known = self.find(&release.model, &release.version);
        match &known {
            Some(known) if known.release != release => {
                return Err(ReleaseError::Taken { release, known: known.release.manifest.short() });
            }
            Some(known) if known.signatures == signatures => return Ok(Arc::clone(known)),
            // The same with other signatures that hold: publisher keys were rotated.
            Some(_) | None => (),
        }
        self.blobs.put_manifest(release.manifest, &packed)?;
        let record = Arc::new(ReleaseRecord {
            pushed: known.as_ref().map_or(now, |known| known.pushed),
            created: manifest.created,
            note: manifest.note.clone(),
            total_bytes: manifest.total_bytes(),
            signatures,
            release: release.clone(),
        });
        let row = Write::put(Table::Releases, key(&release.model, &release.version), encode(FORM, record.as_ref())?);
        let (subject, detail) = (release.to_string(), format!("manifest {}", release.manifest));
        let action = if known.is_some() { "release.sign" } else { "release.push" };
        self.audit.commit(Act { actor, action, subject: &subject, detail: &detail }, vec![row])?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert((release.model, release.version), Arc::clone(&record));
        Ok(record)
    }

    /// A release by name and version.
    #[must_use]
    pub fn find(&self, model: &ModelName, version: &Version) -> Option<Arc<ReleaseRecord>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(model.clone(), version.clone())).cloned()
    }

    /// The releases of a model, or of all, by name and version.
    #[must_use]
    pub fn list(&self, model: Option<&ModelName>) -> Vec<Arc<ReleaseRecord>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|record| model.is_none_or(|model| record.release.model == *model)).cloned().collect()
    }

    /// The manifest's bytes.
    ///
    /// # Errors
    /// When the blob is gone or damaged.
    pub fn manifest_bytes(&self, manifest: Digest) -> Result<Vec<u8>, ReleaseError> {
        Ok(self.blobs.content(manifest)?)
    }

    /// The manifest, parsed.
    ///
    /// # Errors
    /// When the blob is gone or damaged.
    pub fn manifest(&self, manifest: Digest) -> Result<Arc<Manifest>, ReleaseError> {
        if let Some(known) = self.parsed().get(&manifest) {
            return Ok(Arc::clone(known));
        }
        let parsed = Arc::new(Manifest::parse(&self.manifest_bytes(manifest)?).map_err(ReleaseError::Manifest)?);
        let mut kept = self.parsed();
        if kept.len() >= MAX_PARSED {
            kept.clear();
        }
        kept.insert(manifest, Arc::clone(&parsed));
        Ok(parsed)
    }

    fn parsed(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Manifest>>> {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What devices fetch to run a release: its manifest, and every chunk once.
    ///
    /// # Errors
    /// When the manifest is gone or damaged.
    pub fn blobs_of(&self, manifest: Digest) -> Result<Vec<Digest>, ReleaseError> {
        let chunks = self.manifest(manifest)?.chunks();
        Ok([manifest].into_iter().chain(chunks.into_iter().map(|chunk| chunk.sha256)).collect())
    }

    /// Deletes blobs that belong to no release and lie there for `age`.
    ///
    /// # Errors
    /// When a manifest or the directory cannot be read: then nothing is deleted.
    pub fn collect(&self, age: std::time::Duration) -> Result<usize, ReleaseError> {
        let _no_push_meanwhile: MutexGuard<'_, ()> = self.push.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = HashSet::new();
        for record in self.list(None) {
            used.extend(self.blobs_of(record.release.manifest)?);
        }
        Ok(self.blobs.collect(&used, self.clock.now(), age)?)
    }
}

#[cfg(test)]
pub(crate) mod tests;
