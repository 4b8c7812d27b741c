//! The deployment machine's journal: one record per model slot, and the releases that failed here.

use super::error::{Cause, StoreError};
use super::record::{decode, encode};
use super::{Store, database::Trees};
use fieldpost_shared::id::{IdError, ModelName};
use fieldpost_shared::wire::v1::Quarantined;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::Transactional as _;

const SLOT_FORM: u8 = 1;
const QUARANTINE_FORM: u8 = 1;
/// Most releases in quarantine; the oldest are forgotten first. A report carries at most 1,000.
pub const MAX_QUARANTINE: usize = 256;

/// `model/digest`: a release has one entry, that of its last failure.
fn quarantine_key(entry: &Quarantined) -> Vec<u8> {
    format!("{}/{}", entry.release.model, entry.release.manifest).into_bytes()
}

pub(super) fn read_quarantine(trees: &Trees) -> Result<Vec<Quarantined>, Cause> {
    let read = |entry: Result<(sled::IVec, sled::IVec), sled::Error>| -> Result<Quarantined, Cause> {
        Ok(decode("quarantine entry", QUARANTINE_FORM, &entry?.1)?)
    };
    trees.quarantine.iter().map(read).collect()
}

pub(super) fn read_slots<S: DeserializeOwned>(trees: &Trees) -> Result<Vec<(ModelName, S)>, Cause> {
    let mut slots = Vec::new();
    for entry in &trees.slots {
        let (key, bytes) = entry?;
        let name: Result<ModelName, IdError> = String::from_utf8_lossy(&key).parse();
        // A key that is no name cannot have been written by this program.
        if let Ok(model) = name {
            slots.push((model, decode("slot", SLOT_FORM, &bytes)?));
        }
    }
    Ok(slots)
}

impl Store {
    /// All slots.
    ///
    /// # Errors
    /// When they do not read.
    pub fn slots<S: DeserializeOwned>(&self) -> Result<Vec<(ModelName, S)>, StoreError> {
        self.database.run("read the journal", read_slots)
    }

    /// Writes a transition: the slot (None empties it) and the releases that failed by it, all or nothing; durable on
    /// return.
    ///
    /// # Errors
    /// When the database does not take it. Whether it is there is then unknown; writing it again is right.
    pub fn commit<S: Serialize>(
        &self,
        model: &ModelName,
        slot: Option<&S>,
        failed: &[Quarantined],
    ) -> Result<(), StoreError> {
        self.database.run("write the journal", |trees| {
            let slot = slot.map(|slot| encode("slot", SLOT_FORM, slot)).transpose()?;
            let mut entries = Vec::new();
            for entry in failed {
                entries.push((quarantine_key(entry), encode("quarantine entry", QUARANTINE_FORM, entry)?));
            }
            let forgotten = if entries.is_empty() { Vec::new() } else { surplus(&read_quarantine(trees)?, &entries) };
            (&trees.slots, &trees.quarantine)
                .transaction(|(slots, quarantine)| {
                    match &slot {
                        Some(bytes) => slots.insert(model.as_str(), bytes.as_slice())?,
                        None => slots.remove(model.as_str())?,
                    };
                    for key in &forgotten {
                        quarantine.remove(key.as_slice())?;
                    }
                    for (key, bytes) in &entries {
                        quarantine.insert(key.as_slice(), bytes.as_slice())?;
                    }
                    Ok(())
                })
                .map_err(super::from_transaction)?;
            Ok(trees.flush()?)
        })
    }

    /// Releases that failed here and wait for a higher attempt.
    ///
    /// # Errors
    /// When they do not read.
    pub fn quarantine(&self) -> Result<Vec<Quarantined>, StoreError> {
        self.database.run("read the quarantine", read_quarantine)
    }
}

/// Keys of the oldest entries that must go so that the new ones fit.
fn surplus(entries: &[Quarantined], new: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut others: Vec<_> = entries.iter().map(|entry| (entry.at, quarantine_key(entry))).collect();
    others.retain(|(_, key)| !new.iter().any(|(new, _)| new == key));
    others.sort();
    let keep = MAX_QUARANTINE.saturating_sub(new.len());
    let surplus = others.len().saturating_sub(keep);
    others.into_iter().take(surplus).map(|(_, key)| key).collect()
}
