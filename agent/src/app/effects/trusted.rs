//! The manifest of an assignment: whose word it is, each time anew.

use super::{BoxEffects, blocking, disk_failure, failure, fetch_failure};
use crate::deploy::Failure;
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::{TrustError, verifier};
use fieldpost_shared::wire::v1::{Assignment, FailureKind};
use std::sync::{Arc, PoisonError};

/// A manifest that was believed a moment ago.
#[derive(Debug)]
pub(super) struct Genuine {
    pub(super) parsed: Manifest,
    pub(super) bytes: Vec<u8>,
}

impl BoxEffects {
    /// The manifest of an assignment, from the disk or else from the network. It is verified by the root of this moment,
    /// whatever was believed before: keys and releases are revoked while a candidate waits. What comes over the network is
    /// noted on the disk.
    pub(super) async fn manifest(&self, assignment: &Assignment) -> Result<Genuine, Failure> {
        let digest = assignment.release.manifest;
        let disk = self.disk.clone();
        let known = blocking(move || disk.manifest_bytes(&digest).map_err(|error| disk_failure(&error))).await?;
        let (bytes, new) = match known {
            Some(bytes) => (bytes, false),
            None => (self.downloader.manifest(digest).await.map_err(|error| fetch_failure(&error))?, true),
        };
        let now = self.trusted_now().await?;
        let parsed = self.believe(assignment, &bytes, now)?;
        if new {
            let (disk, bytes) = (self.disk.clone(), bytes.clone());
            blocking(move || disk.begin(&digest, &bytes).map_err(|error| disk_failure(&error))).await?;
        }
        Ok(Genuine { parsed, bytes })
    }

    fn believe(&self, assignment: &Assignment, bytes: &[u8], now: Timestamp) -> Result<Manifest, Failure> {
        let root = Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner));
        let trusted =
            root.check_fresh(now).and_then(|()| verifier::verify_manifest(&root, bytes, &assignment.signatures));
        if let Err(error) = trusted {
            // An expired root can be renewed; a missing signature cannot.
            let retry = matches!(error, TrustError::RootExpired(_));
            return Err(failure(FailureKind::Untrusted, retry, &error));
        }
        let manifest = Manifest::parse(bytes).map_err(|error| failure(FailureKind::Untrusted, false, &error))?;
        let release = manifest.release(bytes);
        if release == assignment.release {
            return Ok(manifest);
        }
        let detail = format!("the manifest is of {release}, the assignment of {}", assignment.release);
        Err(Failure::of_release(FailureKind::Untrusted, detail))
    }

    /// The clock, but never before the latest time that the controller signed: in 1970 nothing has expired yet.
    async fn trusted_now(&self) -> Result<Timestamp, Failure> {
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        let known = blocking(move || store.known().map_err(|error| failure(FailureKind::Disk, true, &error))).await?;
        Ok(now.max(known.latest_signed))
    }
}
