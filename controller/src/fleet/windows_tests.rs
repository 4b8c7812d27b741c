use super::*;
use crate::store::MemoryStore;
use fieldpost_shared::stats::{Baseline, Recorder};
use std::sync::Arc;

const KEEP: Retention = Retention { age: Duration::from_secs(100), windows: 4 };

/// A window of `requests` requests.
pub(crate) fn window(requests: u64) -> Vec<u8> {
    let mut recorder = Recorder::new("digits", "1.0.0", Arc::new(Baseline::default()), 5);
    (0..requests).for_each(|_| recorder.request());
    recorder.close(10).encode()
}

fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn put(store: &MemoryStore, device: &str, release: &str, came: u64, first: u64, requests: u64) {
    let manifest = Digest::of(release.as_bytes());
    store.commit(vec![row(&id(device), &manifest, at(came), 1, first, &window(requests))]).unwrap();
}

fn requests(store: &MemoryStore, device: &str, release: &str, since: u64) -> Option<(u64, u32)> {
    let merged = merged(store, &id(device), &Digest::of(release.as_bytes()), at(since)).unwrap();
    merged.map(|window| (window.requests, window.windows))
}

#[test]
fn windows_since_a_time_are_merged() {
    let store = MemoryStore::default();
    for (came, first) in [(1, 1), (2, 2), (2, 3), (3, 4)] {
        put(&store, "a", "r", came, first, 10);
    }
    assert_eq!(requests(&store, "a", "r", 0), Some((40, 4)));
    assert_eq!(requests(&store, "a", "r", 2), Some((30, 3)));
    assert_eq!(requests(&store, "a", "r", 4), None);
}

#[test]
fn devices_and_releases_do_not_mix() {
    let store = MemoryStore::default();
    put(&store, "a", "r", 1, 1, 1);
    put(&store, "a", "s", 1, 2, 2);
    put(&store, "aa", "r", 1, 1, 4);
    put(&store, "a.b", "r", 1, 1, 8);
    assert_eq!(requests(&store, "a", "r", 0), Some((1, 1)));
    let mut expected = vec![Digest::of(b"r"), Digest::of(b"s")];
    expected.sort();
    assert_eq!(releases(&store, &id("a")).unwrap(), expected);
    assert_eq!(releases(&store, &id("b")).unwrap(), []);
}

#[test]
fn a_window_that_cannot_be_read_is_left_out() {
    let store = MemoryStore::default();
    put(&store, "a", "r", 1, 1, 1);
    store.commit(vec![row(&id("a"), &Digest::of(b"r"), at(2), 1, 2, b"noise")]).unwrap();
    assert_eq!(requests(&store, "a", "r", 0), Some((1, 1)));
}

#[test]
fn old_windows_go_and_many_are_merged_without_losing_a_request() {
    let store = MemoryStore::default();
    put(&store, "a", "r", 1, 1, 1_000);
    for number in 2..12 {
        put(&store, "a", "r", 100 + number, number, 10);
    }
    store.commit(prune(&store, &id("a"), KEEP, at(110)).unwrap()).unwrap();
    assert_eq!(requests(&store, "a", "r", 0), Some((100, 10)));
    assert_eq!(store.scan(Table::Windows, b"").unwrap().len(), 8);
    for _ in 0..3 {
        store.commit(prune(&store, &id("a"), KEEP, at(110)).unwrap()).unwrap();
    }
    assert!(store.scan(Table::Windows, b"").unwrap().len() <= KEEP.windows);
    assert_eq!(requests(&store, "a", "r", 0), Some((100, 10)));
    assert!(prune(&store, &id("a"), KEEP, at(110)).unwrap().is_empty());
}

#[test]
fn what_came_since_stays_in_after_merging() {
    let store = MemoryStore::default();
    for number in 1..9 {
        put(&store, "a", "r", number, number, 10);
    }
    let before = requests(&store, "a", "r", 7).unwrap();
    store.commit(prune(&store, &id("a"), KEEP, at(9)).unwrap()).unwrap();
    assert_eq!(requests(&store, "a", "r", 7), Some(before));
}

#[test]
fn after_a_clock_was_put_back_no_window_came_later_than_now() {
    let store = MemoryStore::default();
    for (came, first) in [(100, 1), (1_050, 2), (5_000, 3), (9_000, 4)] {
        put(&store, "a", "r", came, first, 10);
        put(&store, "a", "s", came, first, 1);
    }
    let tolerance = Duration::from_secs(300);
    store.commit(put_back(&store, &id("a"), at(1_000), tolerance).unwrap()).unwrap();
    assert_eq!(requests(&store, "a", "r", 0), Some((40, 4)), "none is lost");
    assert_eq!(requests(&store, "a", "r", 1_000), Some((10, 1)), "a clock is set right by a little all the time");
    assert_eq!(requests(&store, "a", "r", 999), Some((30, 3)));
    assert_eq!(requests(&store, "a", "s", 1_000), Some((1, 1)));
    assert!(put_back(&store, &id("a"), at(1_000), tolerance).unwrap().is_empty());
}
