//! What the broker must still be told. Not a queue of messages but a set of topics: what a topic should hold is asked
//! when its turn comes, so that the newest statement is sent once, and the set is bounded by the fleet.
//!
//! Small messages go before chunks. A desired state waits until the chunks that it names are with the broker, so that
//! no device asks for what is not there yet; one that names no such chunk, such as a rollback, never waits.

use fieldpost_shared::id::{DeviceId, Digest};
use fieldpost_shared::wire::Topic;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A retained topic that the controller owns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Item {
    /// A version of the root metadata.
    Trust(u64),
    /// Which statistics of a device are on disk.
    Ack(DeviceId),
    /// What a device should run.
    Desired(DeviceId),
    /// A chunk or a manifest.
    Blob(Digest),
}

impl Item {
    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> Topic {
        match self {
            Self::Trust(version) => Topic::Trust(*version),
            Self::Ack(device) => Topic::Ack(device.clone()),
            Self::Desired(device) => Topic::Desired(device.clone()),
            Self::Blob(digest) => Topic::Blob(*digest),
        }
    }

    /// The item of a topic, when the controller owns it.
    #[must_use]
    pub fn of(topic: Topic) -> Option<Self> {
        match topic {
            Topic::Trust(version) => Some(Self::Trust(version)),
            Topic::Ack(device) => Some(Self::Ack(device)),
            Topic::Desired(device) => Some(Self::Desired(device)),
            Topic::Blob(digest) => Some(Self::Blob(digest)),
            Topic::Report(_) | Topic::Stats(_) | Topic::Alive(_) => None,
        }
    }

    /// Its kind, for counters.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Trust(_) => "trust",
            Self::Ack(_) => "ack",
            Self::Desired(_) => "desired",
            Self::Blob(_) => "blob",
        }
    }
}

/// What a topic should hold cannot be told now. Where that is a fault, it was logged where it was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the topic should hold cannot be told now")]
pub struct Unreadable;

/// Where the truth is: what each topic should hold now.
pub trait Source: Send + Sync + fmt::Debug {
    /// The payload that a topic should hold; `None` when it should hold nothing. May read files.
    ///
    /// # Errors
    /// When that cannot be told now; what the broker holds is then left alone.
    fn payload(&self, item: &Item) -> Result<Option<Vec<u8>>, Unreadable>;
    /// Every topic that should hold something.
    fn wanted(&self) -> Vec<Item>;
    /// The releases that some device should run, each with its blobs.
    fn live(&self) -> Vec<(Digest, Vec<Digest>)>;
    /// The releases that a device's desired state names.
    fn needs(&self, device: &DeviceId) -> Vec<Digest>;
}

#[derive(Debug, Default)]
struct Inner {
    small: VecDeque<Item>,
    blobs: VecDeque<Item>,
    /// In one of the lanes, or behind a gate.
    pending: HashSet<Item>,
    /// Handed to the client, not confirmed by the broker.
    in_flight: HashMap<Item, usize>,
    /// Release -> blobs of it that the broker does not have yet.
    gates: HashMap<Digest, HashSet<Digest>>,
    /// Release -> devices whose desired state waits for it.
    behind: HashMap<Digest, Vec<DeviceId>>,
    /// What was handed over since somebody began to look at what the broker holds.
    recent: Option<HashSet<Item>>,
}

/// The set of topics that wait.
#[derive(Debug, Default)]
pub struct Outbox {
    inner: Mutex<Inner>,
    wake: Notify,
}

impl Outbox {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a topic may have to be told anew. Twice is once.
    pub fn push(&self, item: Item) {
        self.inner().push(item);
        self.wake.notify_one();
    }

    /// The same for many.
    pub fn push_all(&self, items: impl IntoIterator<Item = Item>) {
        let mut inner = self.inner();
        items.into_iter().for_each(|item| inner.push(item));
        drop(inner);
        self.wake.notify_one();
    }

    /// Begins to note what is handed over, for [`Outbox::refill`].
    pub fn note_recent(&self) {
        self.inner().recent = Some(HashSet::new());
    }

    /// Puts in line what the broker was found not to hold, but for what was handed over since [`Outbox::note_recent`]:
    /// that may have been on its way while somebody looked. Desired states wait for the blobs of the live releases
    /// that they name from the first moment, since the gates are set under the same lock.
    pub fn refill(&self, items: impl IntoIterator<Item = Item>, live: &[(Digest, Vec<Digest>)]) {
        let mut inner = self.inner();
        let recent = inner.recent.take().unwrap_or_default();
        items.into_iter().filter(|item| !recent.contains(item)).for_each(|item| inner.push(item));
        live.iter().for_each(|(release, blobs)| inner.gate(*release, blobs));
        drop(inner);
        self.wake.notify_one();
    }

    /// Makes desired states that name `release` wait for those of its blobs that are not with the broker yet.
    pub fn gate(&self, release: Digest, blobs: &[Digest]) {
        self.inner().gate(release, blobs);
        self.wake.notify_one();
    }

    /// The next topic to tell, now in flight; `None` when nothing is ready.
    pub fn take(&self, source: &dyn Source) -> Option<Item> {
        let mut inner = self.inner();
        let item = loop {
            let Some(item) = inner.small.pop_front() else { break inner.blobs.pop_front()? };
            let Item::Desired(device) = &item else { break item };
            let gate = source.needs(device).into_iter().find(|release| inner.gates.contains_key(release));
            match gate {
                Some(release) => inner.behind.entry(release).or_default().push(device.clone()),
                None => break item,
            }
        };
        inner.pending.remove(&item);
        if let Some(recent) = &mut inner.recent {
            recent.insert(item.clone());
        }
        let flying = inner.in_flight.entry(item.clone()).or_default();
        *flying = flying.saturating_add(1);
        Some(item)
    }

    /// The broker has it, or never will.
    pub fn confirm(&self, item: &Item) {
        let mut inner = self.inner();
        inner.landed(item);
        if let Item::Blob(digest) = item {
            inner.arrived(*digest);
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// The connection was lost: what was in flight may not have come, and waits again.
    pub fn lost(&self) {
        let mut inner = self.inner();
        let items: Vec<_> = inner.in_flight.drain().map(|(item, _)| item).collect();
        items.into_iter().for_each(|item| inner.push(item));
    }

    /// Forgets everything: the broker will be told all anew.
    pub fn clear(&self) {
        *self.inner() = Inner::default();
    }

    /// Waits until something may be ready.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Topics that wait or are in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        let inner = self.inner();
        inner.pending.len().saturating_add(inner.in_flight.len())
    }

    /// Whether the broker has been told everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn push(&mut self, item: Item) {
        if !self.pending.insert(item.clone()) {
            // A desired state behind a gate may have become one that does not need it: it gets in line again.
            let Item::Desired(device) = &item else { return };
            let mut waited = false;
            self.behind.values_mut().for_each(|devices| {
                let before = devices.len();
                devices.retain(|waiting| waiting != device);
                waited |= devices.len() < before;
            });
            if !waited {
                return;
            }
        }
        match item {
            Item::Blob(_) => self.blobs.push_back(item),
            Item::Trust(_) | Item::Ack(_) | Item::Desired(_) => self.small.push_back(item),
        }
    }

    fn gate(&mut self, release: Digest, blobs: &[Digest]) {
        let waits = |digest: &&Digest| {
            let item = Item::Blob(**digest);
            self.pending.contains(&item) || self.in_flight.contains_key(&item)
        };
        let missing: HashSet<_> = blobs.iter().filter(waits).copied().collect();
        if missing.is_empty() {
            self.open(release);
        } else {
            self.gates.insert(release, missing);
        }
    }

    fn landed(&mut self, item: &Item) {
        if let Some(flying) = self.in_flight.get_mut(item) {
            *flying = flying.saturating_sub(1);
            if *flying == 0 {
                self.in_flight.remove(item);
            }
        }
    }

    fn arrived(&mut self, digest: Digest) {
        let mut opened = Vec::new();
        self.gates.iter_mut().for_each(|(release, missing)| {
            if missing.remove(&digest) && missing.is_empty() {
                opened.push(*release);
            }
        });
        opened.into_iter().for_each(|release| self.open(release));
    }

    fn open(&mut self, release: Digest) {
        self.gates.remove(&release);
        let devices = self.behind.remove(&release).unwrap_or_default();
        self.small.extend(devices.into_iter().map(Item::Desired));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices `a` and `b`; `a` needs release `new`.
    #[derive(Debug)]
    struct Fixed;

    fn release() -> Digest {
        Digest::of(b"new")
    }

    fn blob(name: &str) -> Item {
        Item::Blob(Digest::of(name.as_bytes()))
    }

    fn desired(name: &str) -> Item {
        Item::Desired(name.parse().unwrap())
    }

    fn ack(name: &str) -> Item {
        Item::Ack(name.parse().unwrap())
    }

    impl Source for Fixed {
        fn payload(&self, _: &Item) -> Result<Option<Vec<u8>>, Unreadable> {
            Ok(None)
        }
        fn wanted(&self) -> Vec<Item> {
            vec![]
        }
        fn live(&self) -> Vec<(Digest, Vec<Digest>)> {
            vec![]
        }
        fn needs(&self, device: &DeviceId) -> Vec<Digest> {
            if device.as_str() == "a" { vec![release()] } else { vec![] }
        }
    }

    fn all(outbox: &Outbox) -> Vec<Item> {
        std::iter::from_fn(|| outbox.take(&Fixed)).collect()
    }

    #[test]
    fn a_topic_waits_once_and_small_ones_go_first() {
        let outbox = Outbox::default();
        outbox.push_all([blob("x"), ack("a"), blob("x"), ack("a"), desired("b")]);
        assert_eq!(outbox.len(), 3);
        assert_eq!(all(&outbox), [ack("a"), desired("b"), blob("x")]);
    }

    #[test]
    fn a_change_while_in_flight_is_sent_again() {
        let outbox = Outbox::default();
        outbox.push(ack("a"));
        assert_eq!(all(&outbox), [ack("a")]);
        outbox.push(ack("a"));
        assert_eq!(all(&outbox), [ack("a")]);
        outbox.confirm(&ack("a"));
        assert!(!outbox.is_empty());
        outbox.confirm(&ack("a"));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_was_in_flight_when_the_connection_went_waits_again() {
        let outbox = Outbox::default();
        outbox.push_all([ack("a"), ack("b")]);
        assert_eq!(all(&outbox).len(), 2);
        outbox.confirm(&ack("a"));
        outbox.lost();
        assert_eq!(all(&outbox), [ack("b")]);
    }

    #[test]
    fn a_desired_state_waits_for_its_blobs_and_others_do_not() {
        let outbox = Outbox::default();
        outbox.push_all([blob("x"), blob("y"), desired("a"), desired("b")]);
        outbox.gate(release(), &[Digest::of(b"x"), Digest::of(b"y")]);
        assert_eq!(all(&outbox), [desired("b"), blob("x"), blob("y")]);
        outbox.confirm(&blob("x"));
        assert_eq!(all(&outbox), []);
        outbox.confirm(&blob("y"));
        assert_eq!(all(&outbox), [desired("a")]);
    }

    #[test]
    fn a_gate_stays_shut_when_the_connection_goes() {
        let outbox = Outbox::default();
        outbox.push_all([blob("x"), desired("a")]);
        outbox.gate(release(), &[Digest::of(b"x")]);
        assert_eq!(all(&outbox), [blob("x")]);
        outbox.lost();
        assert_eq!(all(&outbox), [blob("x")]);
        outbox.confirm(&blob("x"));
        assert_eq!(all(&outbox), [desired("a")]);
    }

    #[test]
    fn what_was_on_its_way_while_somebody_looked_is_no_difference() {
        let outbox = Outbox::default();
        outbox.push(blob("sent before"));
        all(&outbox);
        outbox.note_recent();
        outbox.push(blob("sent meanwhile"));
        all(&outbox);
        outbox.refill([blob("sent before"), blob("sent meanwhile")], &[]);
        assert_eq!(all(&outbox), [blob("sent before")]);
    }

    #[test]
    fn a_gate_for_blobs_that_are_there_is_open() {
        let outbox = Outbox::default();
        outbox.push(desired("a"));
        outbox.gate(release(), &[Digest::of(b"x")]);
        assert_eq!(all(&outbox), [desired("a")]);
    }

    #[test]
    fn a_desired_state_that_changes_behind_a_gate_gets_in_line_again() {
        let outbox = Outbox::default();
        outbox.push_all([blob("x"), desired("a")]);
        outbox.gate(release(), &[Digest::of(b"x")]);
        assert_eq!(all(&outbox), [blob("x")]);
        outbox.push(desired("a"));
        outbox.confirm(&blob("x"));
        assert_eq!(all(&outbox), [desired("a")]);
        outbox.confirm(&desired("a"));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_a_broker_is_told_anew_comes_chunks_first() {
        let outbox = Outbox::default();
        let live = [(release(), vec![Digest::of(b"x")])];
        outbox.refill([desired("a"), desired("b"), blob("x")], &live);
        assert_eq!(outbox.take(&Fixed), Some(desired("b")), "it needs nothing");
        assert_eq!(outbox.take(&Fixed), Some(blob("x")));
        assert_eq!(outbox.take(&Fixed), None, "the desired state of `a` waits until the chunk is there");
        outbox.confirm(&blob("x"));
        assert_eq!(outbox.take(&Fixed), Some(desired("a")));
    }
}
