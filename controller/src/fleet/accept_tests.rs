use super::*;
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::time::Timestamp;

fn at(epoch: u64, number: u64) -> Sequence {
    Sequence { epoch, number }
}

#[test]
fn only_a_newer_report_counts() {
    assert_eq!(report(None, at(1, 1)), Ok(()));
    assert_eq!(report(Some(at(1, 5)), at(1, 6)), Ok(()));
    assert_eq!(report(Some(at(1, 5)), at(2, 1)), Ok(()));
    for old in [at(1, 5), at(1, 4), at(0, 9)] {
        assert_eq!(report(Some(at(1, 5)), old), Err(Refusal::Replayed));
    }
}

fn check_alive(known: Option<(u64, bool)>, new: (u64, bool), expected: Option<bool>) {
    let known = known.map(|(number, dead)| Session { number: at(1, number), dead });
    let message = Alive {
        fleet: "f".parse().unwrap(),
        device: "a".parse().unwrap(),
        session: at(1, new.0),
        alive: new.1,
        since: Timestamp::EPOCH,
    };
    let expected = expected.map(|alive| Session { number: at(1, new.0), dead: !alive }).ok_or(Refusal::Replayed);
    assert_eq!(alive(known, &message), expected, "{known:?} then {new:?}");
}

#[test]
fn births_and_deaths_are_paired_by_their_session() {
    const BIRTH: bool = true;
    const DEATH: bool = false;
    let (alive, dead) = (Some((5, false)), Some((5, true)));
    for (known, new, expected) in [
        (None, (1, BIRTH), Some(true)),
        (None, (1, DEATH), Some(false)),
        (alive, (6, BIRTH), Some(true)),
        (alive, (5, BIRTH), Some(true)),
        (alive, (6, DEATH), Some(false)),
        (alive, (5, DEATH), Some(false)),
        (alive, (4, BIRTH), None),
        (alive, (4, DEATH), None),
        (dead, (6, BIRTH), Some(true)),
        (dead, (5, BIRTH), None),
        (dead, (6, DEATH), Some(false)),
        (dead, (5, DEATH), Some(false)),
        (dead, (4, BIRTH), None),
        (dead, (4, DEATH), None),
    ] {
        check_alive(known, new, expected);
    }
}

fn windows(ranges: &[(u64, u64)]) -> Vec<Window> {
    let release =
        ReleaseRef { model: "m".parse().unwrap(), version: semver::Version::new(1, 0, 0), manifest: Digest::of(b"m") };
    let window = |&(first, last): &(u64, u64)| Window { first, last, release: release.clone(), content: vec![] };
    ranges.iter().map(window).collect()
}

/// Stored up to (1, 5); says which windows are new, or why none.
fn check(epoch: u64, ranges: &[(u64, u64)], expected: Result<&[(u64, u64)], Refusal>) {
    let windows = windows(ranges);
    let accepted = stats(at(1, 5), &mut GapSeen::default(), epoch, &windows);
    let found = accepted.clone().map(|a| a.windows.iter().map(|w| (w.first, w.last)).collect::<Vec<_>>());
    assert_eq!(found, expected.map(<[_]>::to_vec), "{epoch} {ranges:?}");
    if let (Ok(accepted), Some(last)) = (accepted, ranges.last()) {
        assert_eq!((accepted.stored, accepted.lost), (at(epoch, last.1), 0));
    }
}

#[test]
fn windows_that_follow_are_new() {
    check(1, &[(6, 6), (7, 9)], Ok(&[(6, 6), (7, 9)]));
}

#[test]
fn what_is_stored_is_passed_over() {
    check(1, &[(4, 4), (5, 5), (6, 6)], Ok(&[(6, 6)]));
}

#[test]
fn what_is_stored_whole_is_a_replay() {
    check(1, &[(4, 4), (5, 5)], Err(Refusal::Replayed));
    check(0, &[(6, 6)], Err(Refusal::Replayed));
}

#[test]
fn a_new_store_of_the_device_begins_at_one() {
    check(2, &[(1, 1), (2, 2)], Ok(&[(1, 1), (2, 2)]));
    check(2, &[(2, 2)], Err(Refusal::Gap));
}

#[test]
fn windows_in_disorder_are_refused() {
    check(1, &[(7, 6)], Err(Refusal::Disorder));
    check(1, &[(6, 6), (8, 8)], Err(Refusal::Disorder));
    check(1, &[(6, 7), (7, 8)], Err(Refusal::Disorder));
    check(1, &[(5, 6)], Err(Refusal::Disorder));
    check(1, &[(0, 0)], Err(Refusal::Disorder));
    check(1, &[(6, u64::MAX), (1, 1)], Err(Refusal::Disorder));
}

#[test]
fn a_gap_is_believed_at_the_third_offer() {
    let mut gap = GapSeen::default();
    let later = windows(&[(9, 9)]);
    assert_eq!(stats(at(1, 5), &mut gap, 1, &later), Err(Refusal::Gap));
    assert_eq!(stats(at(1, 5), &mut gap, 1, &later), Err(Refusal::Gap));
    let accepted = stats(at(1, 5), &mut gap, 1, &later).unwrap();
    assert_eq!((accepted.stored, accepted.lost), (at(1, 9), 3));
}

#[test]
fn different_offers_beyond_a_gap_are_not_believed() {
    let mut gap = GapSeen::default();
    for first in [9, 10, 9, 10, 9] {
        assert_eq!(stats(at(1, 5), &mut gap, 1, &windows(&[(first, first)])), Err(Refusal::Gap));
    }
}
