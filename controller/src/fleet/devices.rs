//! Who belongs to the fleet: names, keys, labels, and whether a key still opens anything.

use super::heard;
use super::labels::{self, LabelError};
use crate::api::types::{DeviceStatus, EnrollRequest, LabelChange, Labels, TokenKind};
use crate::audit::{Act, Audit};
use crate::store::{Store, StoreError, Table, Write, decode, encode};
use crate::tokens::{TokenError, Tokens};
use fieldpost_shared::id::{DeviceId, Digest};
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::trust::PublicKey;
use fieldpost_shared::wire::v1::Inventory;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::broadcast;

const FORM: u8 = 1;
/// Keys in the table of single values: `revoked-key/` and the id of a key, which is never let in again.
const REVOKED_KEY: &str = "revoked-key/";
/// Most devices that wait for approval: asking needs no token, so it must not fill the disk.
const MAX_PENDING: usize = 1_000;

/// Why a device cannot be changed or let in.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is none of that name.
    #[error("there is no device `{0}`")]
    NoSuch(String),
    /// The name belongs to another key.
    #[error("device `{0}` is enrolled with another key")]
    Taken(DeviceId),
    /// Its key was revoked.
    #[error("the key of device `{0}` is revoked")]
    Revoked(DeviceId),
    /// The key belongs to another name.
    #[error("the key is enrolled already, as device `{0}`")]
    KnownAs(DeviceId),
    /// No token, and nobody approves here.
    #[error("a token is needed to enrol")]
    NoToken,
    /// Too many wait.
    #[error("{MAX_PENDING} devices wait for approval already")]
    Crowded,
    /// A label that cannot be used.
    #[error("the labels cannot be used")]
    Labels(#[from] LabelError),
    /// The token opens nothing.
    #[error("the enrolment token is refused")]
    Token(#[from] TokenError),
    /// The store would not.
    #[error("cannot keep the device")]
    Store(#[from] StoreError),
}

/// A device as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its name.
    pub id: DeviceId,
    /// Its key.
    pub public_key: PublicKey,
    /// Whether it belongs.
    pub status: DeviceStatus,
    /// What the operator calls it.
    pub labels: Labels,
    /// When it was let in, or asked.
    pub enrolled: Timestamp,
    /// Id of the token that let it in, or `approval`.
    pub by: String,
    /// What it said it was when it came; its reports are newer.
    #[serde(default)]
    pub inventory: Inventory,
}

/// Every device.
#[derive(Debug)]
pub struct Devices {
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    known: RwLock<BTreeMap<DeviceId, Arc<DeviceRecord>>>,
    /// Keys that were revoked, and the names that they had: a name may be given to another key.
    revoked: RwLock<HashMap<Digest, DeviceId>>,
    /// One change at a time.
    change: Mutex<()>,
    changes: broadcast::Sender<DeviceId>,
}

/// Changes that a slow listener may lag behind before it is told to look at everything.
const CHANGES: usize = 4_096;

impl Devices {
    /// Opens the devices of a store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: &dyn Store, audit: Arc<Audit>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let rows = store.scan(Table::Devices, b"")?;
        let records = rows
            .iter()
            .map(|(_, value)| decode::<DeviceRecord>(FORM, value).map(|record| (record.id.clone(), Arc::new(record))));
        let known: BTreeMap<_, _> = records.collect::<Result<_, _>>()?;
        let mut revoked = HashMap::new();
        for (key, device) in store.scan(Table::Meta, REVOKED_KEY.as_bytes())? {
            let keyid = std::str::from_utf8(&key).ok().and_then(|key| key.strip_prefix(REVOKED_KEY)?.parse().ok());
            let device = std::str::from_utf8(&device).ok().and_then(|device| device.parse().ok());
            revoked.extend(keyid.zip(device));
        }
        // Earlier versions wrote no such rows.
        let marked = known.values().filter(|record| record.status == DeviceStatus::Revoked);
        revoked.extend(marked.map(|record| (record.public_key.id(), record.id.clone())));
        let (changes, _) = broadcast::channel(CHANGES);
        let (known, revoked) = (RwLock::new(known), RwLock::new(revoked));
        Ok(Self { audit, clock, known, revoked, change: Mutex::new(()), changes })
    }

    /// Names a device whenever something about it changed.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<DeviceId> {
        self.changes.subscribe()
    }

    /// Says that something about a device changed. Nobody listening is no error.
    pub fn changed(&self, device: &DeviceId) {
        drop(self.changes.send(device.clone()));
    }

    /// A device.
    #[must_use]
    pub fn find(&self, id: &DeviceId) -> Option<Arc<DeviceRecord>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The key of a device that belongs to the fleet.
    #[must_use]
    pub fn active_key(&self, id: &DeviceId) -> Option<PublicKey> {
        self.find(id).filter(|record| record.status == DeviceStatus::Active).map(|record| record.public_key)
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<DeviceRecord>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, act: Act<'_>, record: DeviceRecord, more: Vec<Write>) -> Result<Arc<DeviceRecord>, StoreError> {
        let mut writes = more;
        writes.push(Write::put(Table::Devices, record.id.as_str(), encode(FORM, &record)?));
        self.audit.commit(act, writes)?;
        let record = Arc::new(record);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(record.id.clone(), Arc::clone(&record));
        drop(known);
        self.changed(&record.id);
        Ok(record)
    }

    /// Lets a device in: with a token at once, without one after an operator's approval, where that is allowed.
    /// Asking again with the same key gives the same answer and uses no token.
    ///
    /// # Errors
    /// When the name or the key is taken or revoked, or the token opens nothing.
    pub fn enroll(
        &self,
        tokens: &Tokens,
        request: EnrollRequest,
        approval: bool,
    ) -> Result<Arc<DeviceRecord>, DeviceError> {
        let _one_at_a_time = self.changing();
        let id = match request.device.clone() {
            Some(id) => id,
            None => named_after(&request.public_key),
        };
        let known = self.find(&id);
        if let Some(known) = &known {
            match (known.public_key == request.public_key, known.status) {
                (true, DeviceStatus::Revoked) => return Err(DeviceError::Revoked(id)),
                (true, DeviceStatus::Active) => return Ok(Arc::clone(known)),
                (true, DeviceStatus::Pending) if request.token.is_empty() => return Ok(Arc::clone(known)),
                // A revoked name may be taken by a new key: the box was replaced.
                (true, DeviceStatus::Pending) | (false, DeviceStatus::Revoked) => (),
                // Whoever waits for approval has shown nothing; a token wins over the name that a stranger wished for.
                (false, DeviceStatus::Pending) if !request.token.is_empty() => (),
                (false, _) => return Err(DeviceError::Taken(id)),
            }
        }
        if let Some(device) = self.revoked_as(&request.public_key) {
            return Err(DeviceError::Revoked(device));
        }
        let other = self.list().into_iter().find(|other| other.public_key == request.public_key && other.id != id);
        if let Some(other) = other {
            return Err(DeviceError::KnownAs(other.id.clone()));
        }
        labels::check(&request.labels)?;
        // What the box said that had the name before is not this one's.
        let replaced = known.filter(|known| known.public_key != request.public_key);
        let more = replaced.map(|before| successor_writes(&before)).unwrap_or_default();
        if request.token.is_empty() {
            return self.ask(id, request, approval, more);
        }
        tokens.redeem(&request.token.clone(), |token, counted| {
            let mut labels = request.labels;
            if let TokenKind::Enroll { labels: bound, .. } = &token.kind {
                labels.extend(bound.clone());
            }
            labels::check(&labels)?;
            let record = DeviceRecord {
                id: id.clone(),
                public_key: request.public_key,
                status: DeviceStatus::Active,
                labels,
                enrolled: self.clock.now(),
                by: token.id.clone(),
                inventory: request.inventory.unwrap_or_default(),
            };
            let detail = format!("key {}", record.public_key.id());
            let actor = format!("token {}", token.id);
            let act = Act { actor: &actor, action: "device.enroll", subject: id.as_str(), detail: &detail };
            Ok(self.keep(act, record, more.into_iter().chain([counted]).collect())?)
        })
    }

    fn revoked_as(&self, key: &PublicKey) -> Option<DeviceId> {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).get(&key.id()).cloned()
    }

    fn ask(
        &self,
        id: DeviceId,
        request: EnrollRequest,
        approval: bool,
        more: Vec<Write>,
    ) -> Result<Arc<DeviceRecord>, DeviceError> {
        if !approval {
            return Err(DeviceError::NoToken);
        }
        let waiting = self.list().iter().filter(|record| record.status == DeviceStatus::Pending).count();
        if waiting >= MAX_PENDING {
            return Err(DeviceError::Crowded);
        }
        let record = DeviceRecord {
            id: id.clone(),
            public_key: request.public_key,
            status: DeviceStatus::Pending,
            labels: request.labels,
            enrolled: self.clock.now(),
            by: "approval".to_owned(),
            inventory: request.inventory.unwrap_or_default(),
        };
        let detail = format!("key {}", record.public_key.id());
        let act = Act { actor: "device", action: "device.ask", subject: id.as_str(), detail: &detail };
        Ok(self.keep(act, record, more)?)
    }

    fn known(&self, id: &DeviceId) -> Result<Arc<DeviceRecord>, DeviceError> {
        self.find(id).ok_or_else(|| DeviceError::NoSuch(id.to_string()))
    }

    /// Lets a waiting device in.
    ///
    /// # Errors
    /// When there is none of that name, or it is revoked.
    pub fn approve(&self, actor: &str, id: &DeviceId) -> Result<Arc<DeviceRecord>, DeviceError> {
        let _one_at_a_time = self.changing();
        let known = self.known(id)?;
        match known.status {
            DeviceStatus::Active => Ok(known),
            DeviceStatus::Revoked => Err(DeviceError::Revoked(id.clone())),
            DeviceStatus::Pending => {
                let detail = format!("key {}", known.public_key.id());
                let act = Act { actor, action: "device.approve", subject: id.as_str(), detail: &detail };
                let record = DeviceRecord { status: DeviceStatus::Active, ..known.as_ref().clone() };
                Ok(self.keep(act, record, vec![])?)
            }
        }
    }

    /// Makes a device's key open nothing any more. `more` is committed with it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn revoke(&self, actor: &str, id: &DeviceId, more: Vec<Write>) -> Result<Arc<DeviceRecord>, DeviceError> {
        let _one_at_a_time = self.changing();
        let known = self.known(id)?;
        if known.status == DeviceStatus::Revoked {
            return Ok(known);
        }
        let detail = format!("key {}", known.public_key.id());
        let act = Act { actor, action: "device.revoke", subject: id.as_str(), detail: &detail };
        let record = DeviceRecord { status: DeviceStatus::Revoked, ..known.as_ref().clone() };
        let more = more.into_iter().chain([revoked_key(&record)]).collect();
        let record = self.keep(act, record, more)?;
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        revoked.insert(record.public_key.id(), record.id.clone());
        drop(revoked);
        Ok(record)
    }

    /// Changes labels.
    ///
    /// # Errors
    /// When there is none of that name, or a label cannot be used.
    pub fn label(&self, actor: &str, id: &DeviceId, change: &LabelChange) -> Result<Arc<DeviceRecord>, DeviceError> {
        let _one_at_a_time = self.changing();
        let known = self.known(id)?;
        let labels = labels::change(&known.labels, change)?;
        if labels == known.labels {
            return Ok(known);
        }
        let set = change.set.iter().map(|(key, value)| format!("{key}={value}"));
        let removed = change.remove.iter().map(|key| format!("-{key}"));
        let detail = set.chain(removed).collect::<Vec<_>>().join(",");
        let act = Act { actor, action: "device.label", subject: id.as_str(), detail: &detail };
        let record = DeviceRecord { labels, ..known.as_ref().clone() };
        Ok(self.keep(act, record, vec![])?)
    }
}

fn revoked_key(record: &DeviceRecord) -> Write {
    Write::put(Table::Meta, format!("{REVOKED_KEY}{}", record.public_key.id()), record.id.as_str())
}

/// What is written when another key takes over a name.
fn successor_writes(before: &DeviceRecord) -> Vec<Write> {
    let mut writes = heard::deletions(&before.id);
    writes.extend((before.status == DeviceStatus::Revoked).then(|| revoked_key(before)));
    writes
}

/// A name made of the key, for devices that wish for none.
fn named_after(key: &PublicKey) -> DeviceId {
    let name = format!("box-{}", key.id().short());
    name.parse().expect("`box-` and twelve hexadecimal characters are a device id")
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
