use super::*;
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::stats::{Baseline, WindowStats};
use fieldpost_shared::time::{ManualClock, Timestamp};
use fieldpost_shared::wire::v1::{FailureKind, Quarantined, Sequence, Window};
use fieldpost_shared::wire::v2::{Beside, Desired, Mode};
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000_000;

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_millis(NOW))
}

fn open_with(data: &Path, outbox_bytes: u64) -> (Store, Opened) {
    Store::open(data, StoreSettings { outbox_bytes }, &clock()).unwrap()
}

fn open(data: &Path) -> Store {
    open_with(data, 64 << 20).0
}

fn release(n: u8) -> ReleaseRef {
    ReleaseRef {
        model: "m".parse().unwrap(),
        version: semver::Version::new(u64::from(n), 0, 0),
        manifest: Digest::of(&[n]),
    }
}

/// The `i`-th minute, with `requests` requests.
fn window(n: u8, i: u64, requests: u64) -> WindowStats {
    let mut window = WindowStats::open("m", format!("{n}.0.0"), &Baseline::default(), NOW + i * 60_000);
    window.requests = requests;
    window.closed_ms = window.opened_ms + 59_999;
    window
}

fn failed(n: u8, at: u64) -> Quarantined {
    Quarantined {
        release: release(n),
        attempt: 1,
        rollout: None,
        kind: FailureKind::Errors,
        detail: String::new(),
        at: Timestamp::from_millis(at),
    }
}

fn requests(windows: &[Window]) -> Vec<u64> {
    windows.iter().map(|w| WindowStats::decode(&w.content).unwrap().requests).collect()
}

fn ranges(windows: &[Window]) -> Vec<(u64, u64)> {
    windows.iter().map(|w| (w.first, w.last)).collect()
}

/// An acknowledgement.
fn acknowledge(store: &Store, epoch: u64, number: u64) -> Acknowledged {
    store.acknowledge(Sequence { epoch, number }, Timestamp::from_millis(NOW)).unwrap()
}

/// Everything that waits, handed out and acknowledged bit by bit.
fn drain(store: &Store) -> Vec<Window> {
    let mut all = Vec::new();
    loop {
        let Pending { epoch, windows } = store.pending(0, 4096).unwrap();
        let Some(last) = windows.last() else { return all };
        acknowledge(store, epoch, last.last);
        all.extend(windows);
    }
}

#[test]
fn numbers_survive_a_restart_and_are_never_given_twice() {
    let data = tempfile::tempdir().unwrap();
    let first = open(data.path()).next(Counter::Report).unwrap();
    assert_eq!(first, Sequence { epoch: NOW, number: 1 });
    let store = open(data.path());
    let second = store.next(Counter::Report).unwrap();
    assert!(second.epoch > first.epoch && second.number == 2, "{second:?}");
    assert_eq!(store.next(Counter::Session).unwrap(), Sequence { epoch: second.epoch, number: 1 });
}

#[test]
fn a_second_process_is_refused_by_name() {
    let data = tempfile::tempdir().unwrap();
    let _first = open(data.path());
    let error = Store::open(data.path(), StoreSettings::default(), &clock()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
}

/// Opens what `damage` left of a database that held something.
fn check_damage(damage: impl Fn(&Path)) -> Opened {
    let data = tempfile::tempdir().unwrap();
    {
        let store = open(data.path());
        store.commit(&"m".parse().unwrap(), Some(&7_u32), &[failed(1, 1)]).unwrap();
        (0..200).for_each(|i| store.push(&release(1), &window(1, i, i)).unwrap());
    }
    damage(&data.path().join("db"));
    let (store, opened) = open_with(data.path(), 64 << 20);
    if opened.set_aside.is_some() {
        assert!(store.epoch() > NOW, "a new store begins a later epoch though the clock stands still");
    }
    store.next(Counter::Report).unwrap();
    opened
}

fn overwrite(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    use std::io::Write as _;
    fs::File::create(path).unwrap().write_all(&bytes).unwrap();
}

#[test]
fn a_database_of_noise_is_set_aside() {
    let opened = check_damage(|db| overwrite(&db.join("conf"), |bytes| bytes.fill(0xa5)));
    assert!(opened.fresh && opened.set_aside.unwrap().ends_with("db.corrupt"));
}

#[test]
fn a_mark_left_by_damage_at_work_sets_the_database_aside() {
    let opened = check_damage(|db| {
        let data = db.parent().unwrap();
        durable::write_atomic(data, "db.damaged", b"").unwrap();
    });
    assert!(opened.set_aside.is_some());
    assert!(opened.fresh);
}

#[test]
fn a_database_with_any_part_spoiled_opens_or_is_set_aside() {
    for at in [0, 1, 2, 3] {
        check_damage(|db| {
            overwrite(&db.join("db"), |bytes| {
                let part = bytes.len() / 4;
                bytes[at * part..(at + 1) * part].fill(0x5a);
            });
        });
        check_damage(|db| overwrite(&db.join("db"), |bytes| bytes.truncate(bytes.len() * at / 4)));
    }
}

#[test]
fn a_record_of_a_newer_agent_is_refused_and_left_alone() {
    let data = tempfile::tempdir().unwrap();
    {
        let store = open(data.path());
        store.set_hold(Some(&Hold { reason: "x".into(), until: None })).unwrap();
        let newer = |trees: &Trees| {
            trees.meta.insert("hold", &[2, 0, 0])?;
            Ok(trees.flush()?)
        };
        store.database.run("test", newer).unwrap();
    }
    for _ in 0..2 {
        let error = Store::open(data.path(), StoreSettings::default(), &clock()).unwrap_err();
        assert!(matches!(error, StoreError::Record { source: RecordError::Newer { found: 2, .. }, .. }), "{error:?}");
    }
}

#[test]
fn a_malformed_slot_leaves_the_mark_for_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    {
        let store = open(data.path());
        store.commit(&"m".parse().unwrap(), Some(&"text"), &[]).unwrap();
        let error = store.slots::<(u64, u64, u64)>().unwrap_err();
        assert!(error.needs_restart(), "{error:?}");
    }
    assert!(open_with(data.path(), 1 << 20).1.set_aside.is_some());
}

#[test]
fn an_accepted_state_and_the_latest_signed_time_survive() {
    let data = tempfile::tempdir().unwrap();
    let desired: Desired =
        crate::deploy::testing::desired(7, 9_000, &[crate::deploy::testing::assignment("m", 1, 1)]).into();
    let at = |ms| Timestamp::from_millis(ms);
    {
        let store = open(data.path());
        store.witness(at(500_000)).unwrap();
        store.witness(at(100_000)).unwrap();
        store.accept(&desired).unwrap();
    }
    let store = open(data.path());
    assert_eq!(store.known().unwrap(), Known { desired: Some(desired), latest_signed: at(500_000) });
}

#[test]
fn what_stands_beside_survives_and_new_controller_keys_keep_it() {
    let data = tempfile::tempdir().unwrap();
    let state = crate::deploy::testing::desired(7, 9_000, &[crate::deploy::testing::assignment("m", 1, 1)]);
    let beside = vec![Beside { model: "m".parse().unwrap(), mode: Mode::Shadow { portion: 500 } }];
    let desired = Desired { state, beside };
    open(data.path()).accept(&desired).unwrap();
    let store = open(data.path());
    assert_eq!(store.known().unwrap().desired.as_ref(), Some(&desired));
    store.add_root(1, b"one", false).unwrap();
    store.add_root(2, b"two", true).unwrap();
    let known = store.known().unwrap().desired.unwrap();
    assert_eq!((known.sequence, &known.beside), (0, &desired.beside));
    store.accept(&desired.state.clone().into()).unwrap();
    assert_eq!(store.known().unwrap().desired, Some(desired.state.into()));
}

#[test]
fn new_controller_keys_forget_a_sequence_that_ran_ahead() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    store.add_root(1, b"one", false).unwrap();
    let ahead = crate::deploy::testing::desired(u64::MAX, u64::MAX, &[crate::deploy::testing::assignment("m", 1, 1)]);
    let ahead: Desired = ahead.into();
    store.accept(&ahead).unwrap();
    store.add_root(2, b"two", false).unwrap();
    assert_eq!(store.known().unwrap().desired.unwrap().sequence, u64::MAX);
    store.add_root(3, b"three", true).unwrap();
    let known = store.known().unwrap();
    assert_eq!((known.desired.clone().unwrap().sequence, known.latest_signed), (0, Timestamp::EPOCH));
    assert_eq!(known.desired.unwrap().assignments, ahead.assignments, "what runs goes on");
    assert_eq!(store.roots().unwrap().len(), 3);
    assert_eq!(store.latest_root().unwrap(), Some((3, b"three".to_vec())));
}

#[test]
fn a_hold_lasts_until_its_time_or_its_release() {
    let data = tempfile::tempdir().unwrap();
    let hold = Hold { reason: "harvest".into(), until: Some(Timestamp::from_millis(5)) };
    open(data.path()).set_hold(Some(&hold)).unwrap();
    let store = open(data.path());
    assert_eq!(store.hold().unwrap().unwrap(), hold);
    assert!(hold.holds(Timestamp::from_millis(4)) && !hold.holds(Timestamp::from_millis(5)));
    store.set_hold(None).unwrap();
    assert_eq!(store.hold().unwrap(), None);
}

#[test]
fn a_release_has_one_quarantine_entry_and_the_oldest_go_first() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    let model = "m".parse().unwrap();
    for at in [1, 2] {
        store.commit::<u32>(&model, None, &[failed(1, at)]).unwrap();
    }
    assert_eq!(store.quarantine().unwrap().iter().map(|q| q.at.as_millis()).collect::<Vec<_>>(), [2]);
    for n in 2..=255 {
        store.commit::<u32>(&model, None, &[failed(n, 1_000 + u64::from(n))]).unwrap();
    }
    store.commit::<u32>(&model, None, &[failed(0, 9_000)]).unwrap();
    assert_eq!(store.quarantine().unwrap().len(), MAX_QUARANTINE);
    let mut other = failed(3, 9_001);
    other.release.manifest = Digest::of(b"other");
    store.commit::<u32>(&model, None, std::slice::from_ref(&other)).unwrap();
    let left = store.quarantine().unwrap();
    assert_eq!(left.len(), MAX_QUARANTINE);
    assert!(left.contains(&other) && !left.iter().any(|q| q.at.as_millis() == 2));
}

#[test]
fn windows_come_back_in_order_until_they_are_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    {
        let store = open(data.path());
        (0..5).for_each(|i| store.push(&release(1), &window(1, i, i)).unwrap());
        assert_eq!(ranges(&store.pending(0, 1 << 20).unwrap().windows), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
    }
    let store = open(data.path());
    assert_eq!(requests(&store.pending(0, 1 << 20).unwrap().windows), [0, 1, 2, 3, 4]);
    assert_eq!(acknowledge(&store, NOW, 3).gone, 3);
    assert_eq!(ranges(&store.pending(0, 1 << 20).unwrap().windows), [(4, 4), (5, 5)]);
    assert_eq!(ranges(&store.pending(4, 1 << 20).unwrap().windows), [(5, 5)]);
    assert_eq!(store.outbox().unwrap().windows, 2);
}

#[test]
fn an_acknowledgement_of_an_earlier_epoch_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    store.push(&release(1), &window(1, 0, 1)).unwrap();
    store.pending(0, 1 << 20).unwrap();
    assert_eq!(acknowledge(&store, NOW - 1, 9), Acknowledged::default());
    assert_eq!(store.outbox().unwrap().windows, 1);
}

#[test]
fn an_acknowledgement_beyond_what_was_sent_deletes_no_unsent_window() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    store.push(&release(1), &window(1, 0, 1)).unwrap();
    assert_eq!(acknowledge(&store, NOW, u64::MAX).gone, 0);
    assert_eq!(requests(&store.pending(0, 1 << 20).unwrap().windows), [1]);
}

#[test]
fn max_bytes_holds_apart_from_the_first_window() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    (0..4).for_each(|i| store.push(&release(1), &window(1, i, 1)).unwrap());
    let each = store.outbox().unwrap().bytes / 4;
    let take = |after, bytes| ranges(&store.pending(after, usize::try_from(bytes).unwrap()).unwrap().windows).len();
    assert_eq!(take(0, 1), 1);
    assert_eq!(take(0, each * 2 + 9), 2, "what has a number already, and one more");
    assert_eq!(take(0, each * 3 + 9), 3);
}

#[test]
fn the_same_window_again_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    (0..2).for_each(|_| store.push(&release(1), &window(1, 0, 1)).unwrap());
    assert_eq!(store.outbox().unwrap().windows, 1);
}

#[test]
fn a_window_that_no_message_carries_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let mut large = window(1, 0, 1);
    large.model = "m".repeat(MAX_WINDOW_BYTES);
    let error = open(data.path()).push(&release(1), &large).unwrap_err();
    assert!(matches!(error, StoreError::WindowTooLarge { .. }), "{error:?}");
}

/// Bytes of one window's record here.
fn one_record() -> u64 {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    store.push(&release(1), &window(1, 0, 1)).unwrap();
    store.outbox().unwrap().bytes
}

#[test]
fn a_full_outbox_merges_evenly_and_counts() {
    let data = tempfile::tempdir().unwrap();
    let store = open_with(data.path(), one_record() * 16).0;
    (0..100).for_each(|i| store.push(&release(1), &window(1, i, 1)).unwrap());
    let report = store.outbox().unwrap();
    assert!(report.bytes <= one_record() * 16, "{report:?}");
    assert_eq!(report.windows + report.merged, 100);
    let all = drain(&store);
    assert_eq!(requests(&all).iter().sum::<u64>(), 100, "nothing is dropped, nothing counted twice");
    assert!(requests(&all).iter().max() <= Some(&16), "no window swallows the rest: {:?}", requests(&all));
    let mut next = 1;
    for (first, last) in ranges(&all) {
        assert_eq!(first, next, "numbers have no gaps");
        next = last + 1;
    }
    assert_eq!(next, 101);
}

#[test]
fn windows_that_may_have_been_sent_are_never_merged() {
    let data = tempfile::tempdir().unwrap();
    let store = open_with(data.path(), one_record() * 16).0;
    (0..4).for_each(|i| store.push(&release(1), &window(1, i, 1)).unwrap());
    let sent = store.pending(0, 1 << 20).unwrap().windows;
    (4..100).for_each(|i| store.push(&release(1), &window(1, i, 1)).unwrap());
    assert_eq!(store.pending(0, 1 << 20).unwrap().windows[..sent.len()], sent[..]);
}

#[test]
fn windows_of_different_releases_are_never_merged() {
    let data = tempfile::tempdir().unwrap();
    let store = open_with(data.path(), 1).0;
    (0..60).for_each(|i| store.push(&release(u8::try_from(i % 3).unwrap()), &window((i % 3) as u8, i, 1)).unwrap());
    let all = drain(&store);
    assert_eq!(requests(&all).iter().sum::<u64>(), 60);
    assert!(all.len() <= 3 * 5, "few windows per release stay, however small the bound: {}", all.len());
    let version = |w: &Window| WindowStats::decode(&w.content).unwrap().version;
    assert!(all.iter().all(|w| w.release.version.to_string() == version(w)));
}

#[test]
fn most_of_a_full_outbox_stays_mergeable_when_nothing_is_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let store = open_with(data.path(), one_record() * 40).0;
    (0..40).for_each(|i| store.push(&release(1), &window(1, i, 1)).unwrap());
    let sent = store.pending(0, 1 << 30).unwrap().windows.len();
    assert!((10..=12).contains(&sent), "{sent}");
    assert_eq!(store.pending(0, 1 << 30).unwrap().windows.len(), sent);
    assert_eq!(store.pending(u64::try_from(sent).unwrap(), 1 << 30).unwrap().windows, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is pushed, handed out, acknowledged, lost and sent again, the controller counts each request once.
    #[test]
    fn every_request_is_counted_exactly_once(actions in prop::collection::vec((0_u8..6, 0_u64..8), 1..120)) {
        let data = tempfile::tempdir().unwrap();
        let bound = one_record() * 6;
        let mut store = open_with(data.path(), bound).0;
        let (mut pushed, mut counted, mut stored) = (0_u64, 0_u64, Sequence::default());
        for (i, (action, amount)) in actions.into_iter().enumerate() {
            match action {
                0..=2 => {
                    store.push(&release((amount % 2) as u8), &window((amount % 2) as u8, i as u64, 1 + amount)).unwrap();
                    pushed += 1 + amount;
                }
                3 => {
                    drop(store);
                    store = open_with(data.path(), bound).0;
                }
                _ => {
                    let after = if action == 4 { stored.number } else { 0 };
                    let pending = store.pending(after, 1 << (6 + amount)).unwrap();
                    // The controller takes what continues what it has, and may lose the acknowledgement.
                    for w in pending.windows {
                        prop_assert!(pending.epoch >= stored.epoch, "an epoch that is over");
                        if pending.epoch > stored.epoch && w.first == 1 {
                            stored = Sequence { epoch: pending.epoch, number: 0 };
                        }
                        if pending.epoch == stored.epoch && w.first == stored.number + 1 {
                            counted += WindowStats::decode(&w.content).unwrap().requests;
                            stored.number = w.last;
                        }
                        prop_assert!(action == 4 || w.last <= stored.number, "a gap before {}", w.first);
                    }
                    if amount % 2 == 0 {
                        acknowledge(&store, stored.epoch, stored.number);
                    }
                }
            }
        }
        acknowledge(&store, stored.epoch, stored.number);
        counted += requests(&drain(&store)).iter().sum::<u64>();
        prop_assert_eq!(counted, pushed);
        let left = store.outbox().unwrap();
        prop_assert_eq!((left.windows, left.bytes), (0, 0));
    }
}

/// To freeze a new form: write it beside the old one, never over it, and give the record another form number.
#[test]
fn records_are_written_as_they_were_frozen() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    let desired: Desired =
        crate::deploy::testing::desired(7, 9_000, &[crate::deploy::testing::assignment("m", 1, 1)]).into();
    store.accept(&desired).unwrap();
    store.set_hold(Some(&Hold { reason: "harvest".into(), until: Some(Timestamp::from_millis(5)) })).unwrap();
    store.next(Counter::Report).unwrap();
    store.next(Counter::Session).unwrap();
    store.add_fetched_bytes(99).unwrap();
    store.add_root(1, b"root", false).unwrap();
    store.commit(&"m".parse().unwrap(), Some(&7_u32), &[failed(1, 1)]).unwrap();
    store.push(&release(1), &window(1, 0, 1)).unwrap();
    store.pending(0, 1).unwrap();
    store.push(&release(1), &window(1, 1, 2)).unwrap();
    let dump = |trees: &Trees| {
        let mut text = String::new();
        for (name, tree) in ["meta", "trust", "slots", "quarantine", "outbox"].into_iter().zip(trees.each()) {
            for entry in tree {
                let (key, value) = entry?;
                text += &crate::deploy::testing::frozen(&format!("{name} {}", key.escape_ascii()), &value);
            }
        }
        Ok(text)
    };
    let written = store.database.run("dump", dump).unwrap();
    assert_eq!(written, include_str!("testdata/records-v1.txt"), "\n{written}");
}

#[test]
fn an_open_window_survives_a_death_and_is_sent_once() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    store.checkpoint(&release(1), &window(1, 0, 5)).unwrap();
    store.checkpoint(&release(1), &window(1, 0, 9)).unwrap();
    store.checkpoint(&release(2), &window(2, 0, 2)).unwrap();
    assert_eq!(store.pending(0, 1 << 20).unwrap().windows, [], "open windows are not handed out");
    // The first one closes; the agent dies with its successor, and with the other release's, open.
    store.push(&release(1), &window(1, 0, 10)).unwrap();
    store.checkpoint(&release(1), &window(1, 1, 3)).unwrap();
    drop(store);
    let store = open(data.path());
    assert_eq!(store.recover_windows().unwrap(), 2);
    assert_eq!(store.recover_windows().unwrap(), 0);
    let mut found = requests(&store.pending(0, 1 << 20).unwrap().windows);
    found.sort_unstable();
    assert_eq!(found, [2, 3, 10]);
}

#[test]
fn open_windows_do_not_pile_up() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    (0..100).for_each(|i| store.checkpoint(&release(1), &window(1, i, 1)).unwrap());
    assert_eq!(store.recover_windows().unwrap(), 64);
}

/// A second copy of a state directory.
fn copy(data: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp").arg("-a").arg(data.join(".")).arg(to.path()).status();
    assert!(status.unwrap().success());
    to
}

#[test]
fn a_state_that_was_put_back_gives_no_number_again_also_where_the_clock_stands_still() {
    let data = tempfile::tempdir().unwrap();
    drop(open(data.path()));
    let older = copy(data.path());
    let (went_on, put_back) = (open(data.path()), open(older.path()));
    for store in [&went_on, &put_back] {
        store.push(&release(1), &window(1, 0, 1)).unwrap();
    }
    assert_ne!(went_on.next(Counter::Session).unwrap(), put_back.next(Counter::Session).unwrap());
    let (theirs, ours) = (went_on.pending(0, 1 << 20).unwrap(), put_back.pending(0, 1 << 20).unwrap());
    assert_ne!(theirs.epoch, ours.epoch, "once in a million runs this fails by chance");
    let heard = acknowledge(&put_back, theirs.epoch, 1);
    assert!(heard.foreign && heard.gone == 0, "{heard:?}");
    assert_eq!(heard.overtaken, theirs.epoch > ours.epoch);
    assert!(put_back.next(Counter::Session).unwrap().epoch > theirs.epoch, "it is believed again");
    assert_eq!(put_back.outbox().unwrap().windows, 1, "its own window is still there");
}

#[test]
fn windows_of_an_earlier_start_keep_their_numbers_until_they_are_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    (0..3).for_each(|i| store.push(&release(1), &window(1, i, i)).unwrap());
    let each = store.outbox().unwrap().bytes / 3;
    assert_eq!(store.pending(0, usize::try_from(each * 2 + 9).unwrap()).unwrap().windows.len(), 2);
    drop(store);
    let store = open(data.path());
    let first = store.pending(0, 1 << 20).unwrap();
    assert_eq!((first.epoch, ranges(&first.windows)), (NOW, vec![(1, 1), (2, 2)]));
    assert_eq!(acknowledge(&store, NOW, 2).gone, 2);
    let then = store.pending(0, 1 << 20).unwrap();
    assert_eq!((then.epoch, ranges(&then.windows)), (store.epoch(), vec![(1, 1)]));
    assert!(then.epoch > NOW);
}

#[test]
fn windows_of_an_epoch_that_is_over_at_the_controller_get_other_numbers() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    (0..2).for_each(|i| store.push(&release(1), &window(1, i, i)).unwrap());
    store.pending(0, 1 << 20).unwrap();
    drop(store);
    let store = open(data.path());
    let heard = acknowledge(&store, NOW + 5, 0);
    assert!(heard.foreign && heard.renumbered == 0, "a number of 0 is about no window: {heard:?}");
    let later = store.epoch() + 5;
    let heard = acknowledge(&store, later, 40);
    assert_eq!((heard.gone, heard.renumbered, heard.foreign, heard.overtaken), (0, 2, true, true));
    assert!(store.epoch() > later);
    let pending = store.pending(0, 1 << 20).unwrap();
    assert_eq!((pending.epoch, ranges(&pending.windows)), (store.epoch(), vec![(1, 1), (2, 2)]));
    assert_eq!(requests(&pending.windows), [0, 1]);
    assert_eq!(acknowledge(&store, store.epoch(), 2).gone, 2);
    assert_eq!(store.outbox().unwrap().bytes, 0);
}

#[test]
fn an_epoch_that_nobody_could_follow_moves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let store = open(data.path());
    store.push(&release(1), &window(1, 0, 1)).unwrap();
    store.pending(0, 1 << 20).unwrap();
    assert_eq!(acknowledge(&store, u64::MAX, u64::MAX), Acknowledged::default());
    assert_eq!(store.epoch(), NOW);
}
