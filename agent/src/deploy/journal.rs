//! What the driver keeps: a trait, so that tests can make any write fail or be the last.

use super::accept::Believed;
use super::slot::Slot;
use crate::store::{Hold, Known, Store, StoreError};
use fieldpost_shared::id::{Digest, ModelName};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::SignedRoot;
use fieldpost_shared::wire::v1::Quarantined;
use fieldpost_shared::wire::v2::Desired;
use std::fmt;

/// The newest root, as far as deployment looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootView {
    /// Its version; 0 when there is none.
    pub version: u64,
    /// When it expires.
    pub expires: Timestamp,
    /// Manifests that must not run any more.
    pub revoked: Vec<Digest>,
}

impl RootView {
    /// What [`super::accept()`] decides by.
    #[must_use]
    pub fn believed(&self, known: &Known) -> Believed {
        Believed {
            sequence: known.desired.as_ref().map_or(0, |desired| desired.sequence),
            latest_signed: known.latest_signed,
            root_version: self.version,
            root_expires: self.expires,
        }
    }
}

/// Durable state of the deployment. Every method that writes is atomic, and durable when it returns.
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// All slots.
    ///
    /// # Errors
    /// When they do not read.
    fn slots(&self) -> Result<Vec<(ModelName, Slot)>, StoreError>;

    /// All releases that failed here.
    ///
    /// # Errors
    /// When they do not read.
    fn quarantine(&self) -> Result<Vec<Quarantined>, StoreError>;

    /// What the controller has said.
    ///
    /// # Errors
    /// When it does not read.
    fn known(&self) -> Result<Known, StoreError>;

    /// The newest root.
    ///
    /// # Errors
    /// When it does not read.
    fn root(&self) -> Result<RootView, StoreError>;

    /// The hold.
    ///
    /// # Errors
    /// When it does not read.
    fn hold(&self) -> Result<Option<Hold>, StoreError>;

    /// Writes a transition: see [`Store::commit`].
    ///
    /// # Errors
    /// When it may not be there; writing it again is right.
    fn commit(&self, model: &ModelName, slot: Option<&Slot>, failed: &[Quarantined]) -> Result<(), StoreError>;

    /// Keeps a desired state as the accepted one.
    ///
    /// # Errors
    /// When it may not be there.
    fn accept(&self, desired: &Desired) -> Result<(), StoreError>;

    /// Sets or releases the hold.
    ///
    /// # Errors
    /// When it may not be there.
    fn set_hold(&self, hold: Option<&Hold>) -> Result<(), StoreError>;
}

impl Journal for Store {
    fn slots(&self) -> Result<Vec<(ModelName, Slot)>, StoreError> {
        Self::slots(self)
    }

    fn quarantine(&self) -> Result<Vec<Quarantined>, StoreError> {
        Self::quarantine(self)
    }

    fn known(&self) -> Result<Known, StoreError> {
        Self::known(self)
    }

    fn root(&self) -> Result<RootView, StoreError> {
        // Only roots that were believed are in the store. One that does not parse is as good as none: nothing changes.
        let newest = self.latest_root()?.and_then(|(_, bytes)| SignedRoot::parse(&bytes).ok());
        Ok(newest.map_or(RootView { version: 0, expires: Timestamp::EPOCH, revoked: Vec::new() }, |root| RootView {
            version: root.metadata.version,
            expires: root.metadata.expires,
            revoked: root.metadata.revoked,
        }))
    }

    fn hold(&self) -> Result<Option<Hold>, StoreError> {
        Self::hold(self)
    }

    fn commit(&self, model: &ModelName, slot: Option<&Slot>, failed: &[Quarantined]) -> Result<(), StoreError> {
        Self::commit(self, model, slot, failed)
    }

    fn accept(&self, desired: &Desired) -> Result<(), StoreError> {
        Self::accept(self, desired)
    }

    fn set_hold(&self, hold: Option<&Hold>) -> Result<(), StoreError> {
        Self::set_hold(self, hold)
    }
}
