//! What a broker holds, against what it should hold. After a reconnect nobody knows: a broker may have kept all, been
//! wiped, or come back with what it held an hour ago.

use super::outbox::{Item, Source};
use fieldpost_shared::id::Digest;
use fieldpost_shared::wire::Topics;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Notify;

/// A broker that says nothing more for so long has told all that it holds. MQTT 3.1.1 has no end mark.
const QUIET: Duration = Duration::from_millis(500);
/// A broker that never answers the subscription is given up after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the broker was seen to hold, by the digest of the payload.
#[derive(Debug, Default)]
pub struct Scan {
    held: HashMap<Item, Digest>,
    answered: bool,
}

impl Scan {
    /// The broker holds this.
    pub fn found(&mut self, item: Item, payload: &[u8]) {
        if payload.is_empty() {
            self.held.remove(&item);
        } else {
            self.held.insert(item, Digest::of(payload));
        }
    }

    /// The broker has taken, or refused, the subscription.
    pub fn answered(&mut self) {
        self.answered = true;
    }

    /// Whether it has.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.answered
    }
}

/// What to subscribe to for a scan: every topic that the controller owns.
#[must_use]
pub fn filters(topics: &Topics) -> Vec<String> {
    vec![topics.all("trust"), topics.of_all_devices("desired"), topics.of_all_devices("ack"), topics.all("blob")]
}

/// Waits until the broker has answered and then been quiet for a while.
pub async fn settled(told: &Notify, answered: impl Fn() -> bool) {
    let wait = async {
        while !answered() {
            told.notified().await;
        }
        while tokio::time::timeout(QUIET, told.notified()).await.is_ok() {}
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        tracing::warn!("the broker does not come to an end telling what it holds");
    }
}

/// The topics to tell anew: what is missing or different, and what should not be there.
pub fn differences(source: &dyn Source, scan: &Scan) -> Vec<Item> {
    let wanted = source.wanted();
    let missing = wanted.iter().filter(|item| match scan.held.get(item) {
        Some(held) => match source.payload(item) {
            Ok(Some(payload)) => Digest::of(&payload) != *held,
            Ok(None) => true,
            Err(_leave_it) => false,
        },
        None => true,
    });
    let mut items: Vec<_> = missing.cloned().collect();
    let wanted: std::collections::HashSet<_> = wanted.iter().collect();
    items.extend(scan.held.keys().filter(|item| !wanted.contains(item)).cloned());
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::outbox::Unreadable;
    use fieldpost_shared::id::DeviceId;

    /// Wants `trust/1` to be "one", the blob of "x", and one that its disk has lost.
    #[derive(Debug)]
    struct Fixed;

    fn blob(name: &str) -> Item {
        Item::Blob(Digest::of(name.as_bytes()))
    }

    impl Source for Fixed {
        fn payload(&self, item: &Item) -> Result<Option<Vec<u8>>, Unreadable> {
            match item {
                Item::Trust(1) => Ok(Some(b"one".to_vec())),
                item if *item == blob("x") => Ok(Some(b"x".to_vec())),
                item if *item == blob("rotten") => Err(Unreadable),
                _ => Ok(None),
            }
        }
        fn wanted(&self) -> Vec<Item> {
            vec![Item::Trust(1), blob("x"), blob("rotten")]
        }
        fn live(&self) -> Vec<(Digest, Vec<Digest>)> {
            vec![]
        }
        fn needs(&self, _: &DeviceId) -> Vec<Digest> {
            vec![]
        }
    }

    fn check(held: &[(Item, &[u8])], expected: &[Item]) {
        let mut scan = Scan::default();
        held.iter().for_each(|(item, payload)| scan.found(item.clone(), payload));
        assert_eq!(differences(&Fixed, &scan), expected);
    }

    #[test]
    fn a_broker_that_kept_all_is_told_nothing() {
        check(&[(Item::Trust(1), b"one"), (blob("x"), b"x"), (blob("rotten"), b"whole")], &[]);
    }

    #[test]
    fn a_wiped_broker_is_told_everything() {
        check(&[], &[Item::Trust(1), blob("x"), blob("rotten")]);
    }

    #[test]
    fn what_is_old_or_should_not_be_there_is_told_anew() {
        let rotten = (blob("rotten"), b"whole".as_slice());
        check(&[(Item::Trust(1), b"older"), (blob("x"), b"x"), rotten.clone()], &[Item::Trust(1)]);
        check(&[(Item::Trust(1), b"one"), (blob("x"), b"x"), rotten, (blob("gone"), b"y")], &[blob("gone")]);
    }

    #[test]
    fn what_is_cleared_while_scanning_is_not_held() {
        let mut scan = Scan::default();
        scan.found(blob("x"), b"x");
        scan.found(blob("x"), b"");
        assert!(differences(&Fixed, &scan).contains(&blob("x")));
    }
}
