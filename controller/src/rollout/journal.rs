//! Rollouts on disk: what happened, in the order in which it did. An event is here before anything is done about it.
//!
//! [`Table::RolloutEvents`] holds the events; a key is the rollout's id, `/`, and the event's number, big-endian.
//! [`Table::Rollouts`] holds one short description per rollout, for whoever reads the store without folding.

use super::events::{Event, EventError, Record};
use crate::store::{Rows, Store, StoreError, Table, Write, encode};
use fieldpost_shared::id::{ReleaseRef, RolloutId};
use fieldpost_shared::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Number of the description's form.
const FORM: u8 = 1;
/// A page of events ends with the one that reaches this: twice as much, told, fits the clients' 64 MiB by far.
const PAGE_BYTES: usize = 4 << 20;
/// Events that are read at once for a page.
const PAGE_READS: usize = 100;

/// Why rollouts cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed.
    #[error("cannot {operation} the events of rollouts")]
    Store {
        /// Read or write.
        operation: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// An event that cannot be read or written.
    #[error("cannot use event {sequence} of rollout `{rollout}`")]
    Event {
        /// Of which rollout.
        rollout: RolloutId,
        /// Which.
        sequence: u64,
        /// Why.
        #[source]
        source: EventError,
    },
    /// A key that names no event.
    #[error("`{0}` is no key of a rollout's event")]
    Key(String),
}

/// What [`Table::Rollouts`] says of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// What is rolled out.
    pub release: ReleaseRef,
    /// Which devices.
    pub selector: String,
    /// Who started it.
    pub by: String,
    /// When.
    pub created: Timestamp,
}

fn prefix(rollout: &RolloutId) -> Vec<u8> {
    // No name has a `/`, so no rollout's keys begin with another's prefix.
    format!("{rollout}/").into_bytes()
}

fn key(rollout: &RolloutId, sequence: u64) -> Vec<u8> {
    let mut key = prefix(rollout);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

fn parse_key(key: &[u8]) -> Option<(RolloutId, u64)> {
    let (name, number) = key.split_at_checked(key.len().checked_sub(8)?)?;
    let name = std::str::from_utf8(name.strip_suffix(b"/")?).ok()?;
    Some((name.parse().ok()?, u64::from_be_bytes(number.try_into().ok()?)))
}

/// Stores events of one rollout: all of them or none, on disk when this returns.
///
/// # Errors
/// When nothing was written.
pub fn append(store: &dyn Store, rollout: &RolloutId, records: &[Record]) -> Result<(), JournalError> {
    let mut writes = Vec::with_capacity(records.len() + 1);
    for record in records {
        let refuse = |source| JournalError::Event { rollout: rollout.clone(), sequence: record.sequence, source };
        writes.push(Write::put(Table::RolloutEvents, key(rollout, record.sequence), record.encode().map_err(refuse)?));
        if let Event::Created { spec, by, .. } = &record.event {
            let description = Description {
                release: spec.release.clone(),
                selector: spec.selector.clone(),
                by: by.clone(),
                created: record.at,
            };
            let value =
                encode(FORM, &description).map_err(|source| JournalError::Store { operation: "write", source })?;
            writes.push(Write::put(Table::Rollouts, rollout.as_str(), value));
        }
    }
    store.commit(writes).map_err(|source| JournalError::Store { operation: "write", source })
}

fn decode(rollout: &RolloutId, sequence: u64, value: &[u8]) -> Result<Record, JournalError> {
    Record::decode(value).map_err(|source| JournalError::Event { rollout: rollout.clone(), sequence, source })
}

/// Everything, by rollout. What cannot be read is an error: a rollout that is half known is not resumed.
///
/// # Errors
/// When the store cannot be read, or holds what is no event.
pub fn load(store: &dyn Store) -> Result<BTreeMap<RolloutId, Vec<Record>>, JournalError> {
    let rows =
        store.scan(Table::RolloutEvents, b"").map_err(|source| JournalError::Store { operation: "read", source })?;
    let mut rollouts: BTreeMap<RolloutId, Vec<Record>> = BTreeMap::new();
    for (key, value) in rows {
        let (rollout, sequence) =
            parse_key(&key).ok_or_else(|| JournalError::Key(String::from_utf8_lossy(&key).into_owned()))?;
        let record = decode(&rollout, sequence, &value)?;
        rollouts.entry(rollout).or_default().push(record);
    }
    Ok(rollouts)
}

/// Events of one rollout after a number, at most `limit`.
///
/// # Errors
/// When the store cannot be read, or holds what is no event.
pub fn after(store: &dyn Store, rollout: &RolloutId, sequence: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
    rows(store, rollout, sequence, limit)?.iter().map(|(key, value)| read(key, value)).collect()
}

fn rows(store: &dyn Store, rollout: &RolloutId, sequence: u64, limit: usize) -> Result<Rows, JournalError> {
    let (from, to) = (key(rollout, sequence.saturating_add(1)), key(rollout, u64::MAX));
    store
        .range(Table::RolloutEvents, &from, &to, limit)
        .map_err(|source| JournalError::Store { operation: "read", source })
}

fn read(key: &[u8], value: &[u8]) -> Result<Record, JournalError> {
    let (rollout, sequence) =
        parse_key(key).ok_or_else(|| JournalError::Key(String::from_utf8_lossy(key).into_owned()))?;
    decode(&rollout, sequence, value)
}

/// The same for one answer to somebody: it ends early when it becomes long, with at least one event in it.
///
/// # Errors
/// As [`after`].
pub fn page(store: &dyn Store, rollout: &RolloutId, sequence: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
    let mut records = Vec::new();
    let (mut from, mut bytes) = (sequence, 0_usize);
    while records.len() < limit && bytes < PAGE_BYTES {
        // A few at a time: one event can be large, that of a rollout's order above all.
        let rows = rows(store, rollout, from, PAGE_READS.min(limit - records.len()))?;
        if rows.is_empty() {
            break;
        }
        for (key, value) in rows {
            if bytes >= PAGE_BYTES {
                break;
            }
            bytes = bytes.saturating_add(value.len());
            let record = read(&key, &value)?;
            from = record.sequence;
            records.push(record);
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::events::tests::every_event;
    use crate::store::MemoryStore;

    fn records(count: u64) -> Vec<Record> {
        let at = Timestamp::from_millis(1);
        let all = every_event().into_iter().cycle();
        (1..=count).zip(all).map(|(sequence, event)| Record { sequence, at, event }).collect()
    }

    #[test]
    fn events_come_back_in_order_beyond_a_byte_of_numbers() {
        let store = MemoryStore::default();
        let (one, two): (RolloutId, RolloutId) = ("r-1".parse().unwrap(), "r-12".parse().unwrap());
        append(&store, &one, &records(300)).unwrap();
        append(&store, &two, &records(2)).unwrap();
        let loaded = load(&store).unwrap();
        assert_eq!(loaded[&one], records(300));
        assert_eq!(loaded[&two], records(2));
        assert_eq!(after(&store, &one, 298, 10).unwrap(), records(300)[298..]);
        assert_eq!(after(&store, &one, 0, 2).unwrap(), records(2));
        assert_eq!(page(&store, &one, 0, 250).unwrap(), records(250));
        assert_eq!(page(&store, &one, 298, 10).unwrap(), records(300)[298..]);
    }

    #[test]
    fn a_page_of_large_events_ends_early_and_never_empty() {
        let store = MemoryStore::default();
        let rollout: RolloutId = "r-1".parse().unwrap();
        let at = Timestamp::from_millis(1);
        let event = |sequence| Record {
            sequence,
            at,
            event: Event::AbortedKeeping { by: "ann".into(), reason: "x".repeat(PAGE_BYTES / 3) },
        };
        append(&store, &rollout, &(1..=8).map(event).collect::<Vec<_>>()).unwrap();
        let sizes = |from| page(&store, &rollout, from, 1_000).unwrap().len();
        assert_eq!((sizes(0), sizes(3), sizes(6), sizes(8)), (3, 3, 2, 0));
    }

    #[test]
    fn a_damaged_event_stops_loading_by_its_name() {
        let store = MemoryStore::default();
        let rollout: RolloutId = "r-1".parse().unwrap();
        append(&store, &rollout, &records(2)).unwrap();
        store.commit(vec![Write::put(Table::RolloutEvents, key(&rollout, 2), *b"\x01{")]).unwrap();
        assert_eq!(load(&store).unwrap_err().to_string(), "cannot use event 2 of rollout `r-1`");
    }

    #[test]
    fn a_foreign_key_is_refused() {
        for bad in [&b"x"[..], b"r-1/", b"r-1\0\0\0\0\0\0\0\x01", b"R/\0\0\0\0\0\0\0\x01"] {
            assert_eq!(parse_key(bad), None);
        }
    }
}
