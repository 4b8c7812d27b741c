//! The audit log: who did what, when. Append-only, and each entry holds the hash of the one before, so that a later
//! change anywhere shows. An entry is committed together with what it tells of, or neither is.

use crate::api::types::AuditEntry;
use crate::store::{Store, StoreError, Table, Write, decode, encode};
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::{Clock, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};

const HEAD: &[u8] = b"audit/head";
const FORM: u8 = 1;
/// Goes under every hash, so that no other record of the same bytes has it.
const DOMAIN: &[u8] = b"fieldpost.audit/1\n";

/// What is to be written down.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// Who: a token's id and role, a rollout, a device, or `controller`.
    pub actor: &'a str,
    /// What, such as `device.revoke`.
    pub action: &'a str,
    /// On what.
    pub subject: &'a str,
    /// With which particulars.
    pub detail: &'a str,
}

/// An entry that does not follow from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} of the audit log does not follow from the one before: the log was changed")]
pub struct Broken {
    /// The entry.
    pub number: u64,
}

/// The log.
#[derive(Debug)]
pub struct Audit {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    head: Mutex<(u64, Digest)>,
}

impl Audit {
    /// Opens the log of a store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let head = match store.get(Table::Meta, HEAD)? {
            Some(bytes) => decode(FORM, &bytes)?,
            None => (0, Digest::from_bytes([0; 32])),
        };
        Ok(Self { store, clock, head: Mutex::new(head) })
    }

    /// Commits changes together with the entry that tells of them.
    ///
    /// # Errors
    /// When nothing was committed.
    pub fn commit(&self, act: Act<'_>, mut writes: Vec<Write>) -> Result<(), StoreError> {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = follow(*head, act, self.clock.now());
        writes.push(Write::put(Table::Audit, entry.number.to_be_bytes(), encode(FORM, &entry)?));
        writes.push(Write::put(Table::Meta, HEAD, encode(FORM, &(entry.number, entry.hash))?));
        self.store.commit(writes)?;
        *head = (entry.number, entry.hash);
        Ok(())
    }

    /// The entries after `number`, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn after(&self, number: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let from = number.saturating_add(1).to_be_bytes();
        let rows = self.store.range(Table::Audit, &from, &[u8::MAX; 9], limit)?;
        rows.iter().map(|(_, value)| decode(FORM, value)).collect()
    }
}

fn follow((number, previous): (u64, Digest), act: Act<'_>, at: Timestamp) -> AuditEntry {
    let mut entry = AuditEntry {
        number: number.saturating_add(1),
        at,
        actor: act.actor.to_owned(),
        action: act.action.to_owned(),
        subject: act.subject.to_owned(),
        detail: act.detail.to_owned(),
        previous,
        hash: previous,
    };
    entry.hash = hash(&entry);
    entry
}

/// sha256 over domain, previous hash, and the JSON array of the other fields, the time in milliseconds.
fn hash(entry: &AuditEntry) -> Digest {
    let AuditEntry { number, at, actor, action, subject, detail, previous, hash: _ } = entry;
    let mut bytes = DOMAIN.to_vec();
    bytes.extend_from_slice(previous.as_bytes());
    // Numbers and texts always have a JSON form.
    let fields = serde_json::to_vec(&(number, at.as_millis(), actor, action, subject, detail)).unwrap_or_default();
    bytes.extend_from_slice(&fields);
    Digest::of(&bytes)
}

/// Checks that entries follow from `previous` and from each other without gaps.
///
/// # Errors
/// The first entry that does not.
pub fn verify(previous: Option<&AuditEntry>, entries: &[AuditEntry]) -> Result<(), Broken> {
    let start = previous.map_or((0, Digest::from_bytes([0; 32])), |entry| (entry.number, entry.hash));
    entries
        .iter()
        .try_fold(start, |(number, before), entry| {
            let follows =
                Some(entry.number) == number.checked_add(1) && entry.previous == before && entry.hash == hash(entry);
            if follows { Ok((entry.number, entry.hash)) } else { Err(Broken { number: entry.number }) }
        })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use fieldpost_shared::time::ManualClock;

    fn log() -> (Arc<MemoryStore>, Audit) {
        let store = Arc::new(MemoryStore::default());
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        (store.clone(), Audit::open(store, clock).unwrap())
    }

    fn act(subject: &str) -> Act<'_> {
        Act { actor: "ab12 (admin)", action: "device.revoke", subject, detail: "" }
    }

    #[test]
    fn entries_follow_each_other_also_after_reopening() {
        let (store, audit) = log();
        audit.commit(act("a"), vec![Write::put(Table::Meta, "k", "v")]).unwrap();
        let again = Audit::open(store.clone(), Arc::new(ManualClock::new(Timestamp::EPOCH))).unwrap();
        again.commit(act("b"), vec![]).unwrap();
        let entries = again.after(0, 10).unwrap();
        assert_eq!(entries.iter().map(|e| (e.number, e.subject.as_str())).collect::<Vec<_>>(), [(1, "a"), (2, "b")]);
        assert_eq!(verify(None, &entries), Ok(()));
        assert_eq!(verify(Some(&entries[0]), &entries[1..]), Ok(()));
        assert_eq!(store.get(Table::Meta, b"k").unwrap().unwrap(), b"v");
    }

    fn check(change: impl FnOnce(&mut Vec<AuditEntry>), broken_at: u64) {
        let (_, audit) = log();
        for subject in ["a", "b", "c"] {
            audit.commit(act(subject), vec![]).unwrap();
        }
        let mut entries = audit.after(0, 10).unwrap();
        change(&mut entries);
        assert_eq!(verify(None, &entries), Err(Broken { number: broken_at }));
    }

    #[test]
    fn a_changed_entry_shows() {
        check(|entries| entries[1].detail = "changed".into(), 2);
    }

    #[test]
    fn a_changed_entry_with_a_new_hash_shows_in_the_next() {
        check(
            |entries| {
                entries[1].detail = "changed".into();
                entries[1].hash = hash(&entries[1]);
            },
            3,
        );
    }

    #[test]
    fn a_removed_entry_shows() {
        check(|entries| drop(entries.remove(1)), 3);
    }

    /// The hash is part of the disk form: logs of today must verify with the program of tomorrow.
    #[test]
    fn the_hash_is_frozen() {
        let (_, audit) = log();
        audit.commit(act("a"), vec![]).unwrap();
        assert_eq!(audit.after(0, 1).unwrap()[0].hash.to_string(), FROZEN);
    }

    const FROZEN: &str = "47e04cfd0d0d16fc0e23dba705e6ccf1345578cd356c95b839709f0ca6edc67f";
}
