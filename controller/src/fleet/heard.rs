//! What devices said last: report, session, and which of their statistics are on disk. Rows hold the signed originals,
//! so that what the store says is what the device said.

use super::accept::{GapSeen, Session};
use super::rivals::Rivals;
use crate::store::{Rows, Store, StoreError, Table, Write};
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::Envelope;
use fieldpost_shared::wire::v1::{Ack, Alive, Report, Sequence};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

const REPORT: &str = "report/";
const ALIVE: &str = "alive/";
const ACK: &str = "ack/";
const LOST: &str = "lost/";

/// What one device said last.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Its newest report.
    pub report: Option<Arc<Report>>,
    /// Whether it has reported since this process started. What was stored may be older than what it has heard since.
    pub reported: bool,
    /// Its newest session.
    pub session: Option<Session>,
    /// Whether the birth of that session was heard since this process started: the broker may have lost it since.
    pub confirmed: bool,
    /// When a believed message came last, by the controller's clock.
    pub last_seen: Option<Timestamp>,
    /// Highest window on disk.
    pub stored: Sequence,
    /// The acknowledgement of it, signed, as it is published.
    pub ack: Option<Arc<Vec<u8>>>,
    /// What is published in place of it while the device says things of an epoch that is over: the highest that was heard,
    /// with the number 0, for nothing of it is acknowledged by that. Never stored.
    pub raised: Option<(u64, Arc<Vec<u8>>)>,
    /// Whether more than one box speaks under this name.
    pub rivals: Rivals,
    /// Windows that were offered beyond a gap.
    pub gap: GapSeen,
    /// Windows that were taken for lost, ever.
    pub lost: u64,
}

impl Heard {
    /// Whether its session is up.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.confirmed && self.session.is_some_and(|session| !session.dead)
    }

    /// The highest epoch in which it said anything.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        let report = self.report.as_ref().map(|report| report.sequence.epoch);
        let session = self.session.map(|session| session.number.epoch);
        report.max(session).unwrap_or(0).max(self.stored.epoch)
    }

    /// What its topic of acknowledgements should hold.
    #[must_use]
    pub fn told(&self) -> Option<&Arc<Vec<u8>>> {
        self.raised.as_ref().map(|(_, sealed)| sealed).or(self.ack.as_ref())
    }

    /// Notes that a believed message came.
    pub fn seen(&mut self, now: Timestamp) {
        self.last_seen = self.last_seen.max(Some(now));
    }
}

/// A row: when it came, 8 bytes big-endian, and what was said.
fn row(kind: &str, device: &DeviceId, came: Timestamp, said: &[u8]) -> Write {
    let mut value = came.as_millis().to_be_bytes().to_vec();
    value.extend_from_slice(said);
    Write::put(Table::Reports, format!("{kind}{device}"), value)
}

/// The row of a report.
#[must_use]
pub fn report_row(device: &DeviceId, came: Timestamp, envelope: &[u8]) -> Write {
    row(REPORT, device, came, envelope)
}

/// The row of a birth or a death.
#[must_use]
pub fn alive_row(device: &DeviceId, came: Timestamp, envelope: &[u8]) -> Write {
    row(ALIVE, device, came, envelope)
}

/// The row of an acknowledgement.
#[must_use]
pub fn ack_row(device: &DeviceId, came: Timestamp, envelope: &[u8]) -> Write {
    row(ACK, device, came, envelope)
}

/// The rows to delete with a device's key: what its successor under the name says must not be held against them.
#[must_use]
pub fn deletions(device: &DeviceId) -> Vec<Write> {
    [REPORT, ALIVE, ACK, LOST].map(|kind| Write::delete(Table::Reports, format!("{kind}{device}"))).to_vec()
}

/// The row of how many windows were taken for lost, ever: the controller's own count, so it carries no signature.
#[must_use]
pub fn lost_row(device: &DeviceId, lost: u64) -> Write {
    Write::put(Table::Reports, format!("{LOST}{device}"), lost.to_be_bytes())
}

/// What all devices said.
#[derive(Debug, Default)]
pub struct HeardStates(RwLock<HashMap<DeviceId, Arc<Heard>>>);

impl HeardStates {
    /// Opens what the store remembers. A row that cannot be read is passed over, and said: the device says it again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: &dyn Store) -> Result<Self, StoreError> {
        let mut all: HashMap<DeviceId, Heard> = HashMap::new();
        for (device, came, _, report) in read::<Report>(store.scan(Table::Reports, REPORT.as_bytes())?, REPORT) {
            let heard = all.entry(device).or_default();
            heard.seen(came);
            heard.report = Some(Arc::new(report));
        }
        for (device, came, _, alive) in read::<Alive>(store.scan(Table::Reports, ALIVE.as_bytes())?, ALIVE) {
            let heard = all.entry(device).or_default();
            heard.seen(came);
            heard.session = Some(Session { number: alive.session, dead: !alive.alive });
        }
        for (device, came, sealed, ack) in read::<Ack>(store.scan(Table::Reports, ACK.as_bytes())?, ACK) {
            let heard = all.entry(device).or_default();
            heard.seen(came);
            heard.stored = ack.stored;
            heard.ack = Some(Arc::new(sealed));
        }
        for (key, value) in store.scan(Table::Reports, LOST.as_bytes())? {
            let device = std::str::from_utf8(&key).ok().and_then(|key| key.strip_prefix(LOST)?.parse().ok());
            if let (Some(device), Ok(lost)) = (device, <[u8; 8]>::try_from(value.as_slice())) {
                all.entry(device).or_default().lost = u64::from_be_bytes(lost);
            }
        }
        Ok(Self(RwLock::new(all.into_iter().map(|(device, heard)| (device, Arc::new(heard))).collect())))
    }

    /// What one device said; nothing yet is a value too.
    #[must_use]
    pub fn find(&self, device: &DeviceId) -> Arc<Heard> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(device).cloned().unwrap_or_default()
    }

    /// Takes up what was committed.
    pub fn update(&self, changed: impl IntoIterator<Item = (DeviceId, Heard)>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.extend(changed.into_iter().map(|(device, heard)| (device, Arc::new(heard))));
    }

    /// Forgets what devices said whose key opens nothing any more.
    pub fn forget<'a>(&self, devices: impl IntoIterator<Item = &'a DeviceId>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for device in devices {
            all.remove(device);
        }
    }
}

fn read<T: DeserializeOwned>(rows: Rows, prefix: &str) -> Vec<(DeviceId, Timestamp, Vec<u8>, T)> {
    rows.into_iter()
        .filter_map(|(key, value)| {
            let device = std::str::from_utf8(&key).ok().and_then(|key| key.strip_prefix(prefix));
            let read = device.and_then(|device| device.parse().ok()).zip(said(&value));
            if read.is_none() {
                tracing::warn!(key = %String::from_utf8_lossy(&key), "a stored message cannot be read and is passed over");
            }
            read.map(|(device, (came, sealed, body))| (device, came, sealed, body))
        })
        .collect()
}

fn said<T: DeserializeOwned>(value: &[u8]) -> Option<(Timestamp, Vec<u8>, T)> {
    let (came, sealed) = value.split_first_chunk::<8>()?;
    let envelope = Envelope::from_bytes(sealed).ok()?;
    let body = postcard::from_bytes(&envelope.body).ok()?;
    Some((Timestamp::from_millis(u64::from_be_bytes(*came)), sealed.to_vec(), body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use fieldpost_shared::trust::SecretKey;
    use fieldpost_shared::wire::seal;

    #[test]
    fn what_was_said_is_there_after_reopening() {
        let store = MemoryStore::default();
        let device: DeviceId = "a".parse().unwrap();
        let key = SecretKey::from_seed(&[1; 32]);
        let (fleet, number) = ("f".parse().unwrap(), Sequence { epoch: 3, number: 4 });
        let alive = Alive { fleet, device: device.clone(), session: number, alive: true, since: Timestamp::EPOCH };
        let came = Timestamp::from_millis(77);
        store.commit(vec![alive_row(&device, came, &seal(&alive, &key).unwrap())]).unwrap();
        let heard = HeardStates::open(&store).unwrap().find(&device);
        assert_eq!((heard.session, heard.last_seen), (Some(Session { number, dead: false }), Some(came)));
        assert!(!heard.alive(), "a birth before the start says nothing about now");
    }

    #[test]
    fn a_damaged_row_is_passed_over() {
        let store = MemoryStore::default();
        store
            .commit(vec![Write::put(Table::Reports, "report/a", "x"), Write::put(Table::Reports, "ack/B", "")])
            .unwrap();
        assert!(HeardStates::open(&store).unwrap().find(&"a".parse().unwrap()).report.is_none());
    }
}
