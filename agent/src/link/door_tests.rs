use super::super::testing::{Fixture, NOW, key, root};
use super::*;
use crate::deploy::testing::{assignment, desired};
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::stats::{Baseline, WindowStats};
use fieldpost_shared::trust::{Envelope, Kind};
use fieldpost_shared::wire::seal;
use fieldpost_shared::wire::v1::Sequence;
use fieldpost_shared::wire::v2::{Beside, Mode};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn of_box_1(topic: fn(fieldpost_shared::id::DeviceId) -> Topic) -> Topic {
    topic("box-1".parse().unwrap())
}

fn ack(fixture: &Fixture, number: u64) -> Ack {
    let stored = Sequence { epoch: fixture.store.epoch(), number };
    Ack { fleet: "default".parse().unwrap(), device: "box-1".parse().unwrap(), stored, issued: NOW }
}

fn push(fixture: &Fixture) {
    let version = semver::Version::new(1, 0, 0);
    let release = ReleaseRef { model: "m".parse().unwrap(), version, manifest: Digest::of(b"m") };
    fixture.store.push(&release, &WindowStats::open("m", "1.0.0", &Baseline::default(), 1)).unwrap();
    assert_eq!(fixture.store.pending(0, 1 << 20).unwrap().windows.len(), 1);
}

#[tokio::test]
async fn an_epoch_that_only_a_copy_of_the_state_can_have_begun_is_overtaken() {
    let fixture = Fixture::new();
    push(&fixture);
    let later = |more: u64| {
        let stored = Sequence { epoch: fixture.store.epoch() + more, number: 0 };
        Ack { stored, ..ack(&fixture, 0) }
    };
    let heard = later(7);
    assert_eq!(fixture.hear(of_box_1(Topic::Ack), &heard, 9).await, Heard::Other, "a stranger's word moves nothing");
    assert_eq!(fixture.hear(of_box_1(Topic::Ack), &heard, 3).await, Heard::Overtaken);
    assert!(fixture.store.epoch() > heard.stored.epoch);
    assert_eq!(fixture.hear(of_box_1(Topic::Ack), &heard, 3).await, Heard::Other, "the broker says it again");
    assert_eq!(fixture.store.outbox().unwrap().windows, 1);
    // Whoever answers each later epoch by one that is later still is another agent.
    let present = || fixture.door.rivals().present(fixture.clock.monotonic());
    for rival in [false, true] {
        assert_eq!(fixture.hear(of_box_1(Topic::Ack), &later(1), 3).await, Heard::Overtaken);
        assert_eq!(present(), rival);
    }
}

/// Expires tomorrow.
fn tomorrow(sequence: u64) -> v1::Desired {
    v1::Desired { issued: NOW, ..desired(sequence, NOW.plus(DAY).as_millis(), &[assignment("m", sequence, 1)]) }
}

fn accepted(fixture: &Fixture) -> u64 {
    fixture.store.known().unwrap().desired.map_or(0, |desired| desired.sequence)
}

#[tokio::test]
async fn an_acknowledgement_that_is_played_back_asks_for_nothing() {
    let fixture = Fixture::new();
    push(&fixture);
    let ack = ack(&fixture, 1);
    assert_eq!(fixture.hear(of_box_1(Topic::Ack), &ack, 3).await, Heard::Acknowledged);
    assert_eq!(fixture.hear(of_box_1(Topic::Ack), &ack, 3).await, Heard::Other);
}

#[tokio::test]
async fn what_expired_only_by_a_clock_ahead_is_accepted_once_the_clock_is_right() {
    let fixture = Fixture::new();
    fixture.clock.jump_to(NOW.plus(10 * DAY));
    fixture.hear(of_box_1(Topic::Desired), &tomorrow(7), 3).await;
    fixture.door.present_again().await;
    assert_eq!(accepted(&fixture), 0);
    assert_eq!(fixture.door.refused(), [("desired-expired".to_owned(), 1)], "counted when it came, and then no more");
    fixture.clock.jump_to(NOW);
    fixture.door.present_again().await;
    assert_eq!(accepted(&fixture), 7);
}

#[tokio::test]
async fn an_expired_root_that_a_clock_ahead_made_so_is_no_refusal_for_ever() {
    let fixture = Fixture::new();
    fixture.clock.jump_to(NOW.plus(100 * DAY));
    fixture.hear(of_box_1(Topic::Desired), &tomorrow(7), 3).await;
    assert_eq!(fixture.door.refused(), [("root-expired".to_owned(), 1)]);
    fixture.clock.jump_to(NOW);
    fixture.door.present_again().await;
    assert_eq!(accepted(&fixture), 7);
}

#[tokio::test]
async fn an_older_state_played_back_does_not_displace_the_one_that_waits() {
    let fixture = Fixture::new();
    fixture.clock.jump_to(NOW.plus(10 * DAY));
    fixture.hear(of_box_1(Topic::Desired), &tomorrow(7), 3).await;
    fixture.hear(of_box_1(Topic::Desired), &tomorrow(6), 3).await;
    fixture.clock.jump_to(NOW);
    fixture.door.present_again().await;
    assert_eq!(accepted(&fixture), 7);
}

#[tokio::test]
async fn nothing_is_presented_again_after_something_newer_was_accepted() {
    let fixture = Fixture::new();
    fixture.clock.jump_to(NOW.plus(10 * DAY));
    fixture.hear(of_box_1(Topic::Desired), &tomorrow(7), 3).await;
    fixture.clock.jump_to(NOW);
    fixture.hear(of_box_1(Topic::Desired), &tomorrow(8), 3).await;
    assert!(fixture.door.deferred().is_none());
    assert_eq!(accepted(&fixture), 8);
}

#[tokio::test]
async fn a_root_that_could_not_be_kept_is_asked_for_again() {
    let fixture = Fixture::new();
    fixture.hear(of_box_1(Topic::Desired), &tomorrow(7), 3).await;
    // The step to new controller keys rewrites the desired state, which does not read any more.
    fixture.store.spoil_desired();
    let next = root(2, 4);
    assert_eq!(fixture.hear_bytes(Topic::Trust(2), next.to_bytes()).await, Heard::NotKept);
    assert_eq!(fixture.door.root().version, 1, "not believed before it is on disk");
}

#[tokio::test]
async fn a_root_moves_on_and_what_waited_for_it_is_accepted() {
    let fixture = Fixture::new();
    let waits = v1::Desired { root_version: 2, ..tomorrow(7) };
    fixture.hear_bytes(of_box_1(Topic::Desired), seal(&waits, &key(3)).unwrap()).await;
    assert_eq!(accepted(&fixture), 0);
    assert_eq!(fixture.hear_bytes(Topic::Trust(2), root(2, 3).to_bytes()).await, Heard::NewRoot);
    assert_eq!(accepted(&fixture), 7);
    assert_eq!(fixture.driver.status().borrow().desired_sequence, 7);
}

#[tokio::test]
async fn what_stands_beside_the_live_release_is_heard_in_version_2_and_only_signed_as_such() {
    let fixture = Fixture::new();
    let beside = vec![Beside { model: "m".parse().unwrap(), mode: Mode::Shadow { portion: 500 } }];
    let two = Desired { state: tomorrow(7), beside };
    let as_one = Envelope::seal(Kind::Desired, postcard::to_stdvec(&two).unwrap(), &key(3)).to_bytes();
    fixture.hear_bytes(of_box_1(Topic::Desired), as_one).await;
    assert_eq!(accepted(&fixture), 0, "version 1 has nothing behind its end");
    fixture.hear(of_box_1(Topic::Desired), &two, 3).await;
    assert_eq!(fixture.store.known().unwrap().desired, Some(two));
    fixture.hear(of_box_1(Topic::Desired), &tomorrow(8), 3).await;
    assert_eq!(
        fixture.store.known().unwrap().desired,
        Some(tomorrow(8).into()),
        "and an older controller is understood"
    );
    let forged = Desired { state: tomorrow(9), beside: vec![] };
    fixture.hear(of_box_1(Topic::Desired), &forged, 2).await;
    assert_eq!(accepted(&fixture), 8, "a publisher does not speak for the controller");
}
