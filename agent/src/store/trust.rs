//! Signed root metadata by version, as the bytes that were believed.

use super::error::StoreError;
use super::{Store, meta};
use sled::Transactional as _;

impl Store {
    /// All signed roots, oldest first: version and bytes.
    ///
    /// # Errors
    /// When they do not read.
    pub fn roots(&self) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.database.run("read the roots", |trees| {
            let mut roots = Vec::new();
            for entry in &trees.trust {
                let (key, bytes) = entry?;
                // A key of another length is none of ours.
                if let Ok(version) = <[u8; 8]>::try_from(key.as_ref()) {
                    roots.push((u64::from_be_bytes(version), bytes.to_vec()));
                }
            }
            Ok(roots)
        })
    }

    /// The newest signed root.
    ///
    /// # Errors
    /// When it does not read.
    pub fn latest_root(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        Ok(self.roots()?.pop())
    }

    /// Keeps a root that was believed. With `controller_changed` (its controller keys are not those of the version
    /// before) the accepted sequence number and the latest signed time are forgotten with it, since whoever held the
    /// old keys may have pushed them far ahead (TUF 1.0.33 §5.3.11). The accepted desired state itself stays.
    ///
    /// # Errors
    /// When the database does not take it.
    pub fn add_root(&self, version: u64, bytes: &[u8], controller_changed: bool) -> Result<(), StoreError> {
        self.database.run("keep a root", |trees| {
            let mut forget = sled::Batch::default();
            if controller_changed {
                meta::forget_signed(trees, &mut forget)?;
            }
            (&trees.trust, &trees.meta)
                .transaction(|(trust, meta)| {
                    trust.insert(&version.to_be_bytes(), bytes)?;
                    meta.apply_batch(&forget)?;
                    Ok(())
                })
                .map_err(super::from_transaction)?;
            Ok(trees.flush()?)
        })
    }
}
