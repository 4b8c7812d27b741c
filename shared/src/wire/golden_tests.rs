//! The frozen form of version 1: what is in the field is read for ever, so these bytes never change.

use super::v1::*;
use super::v2::{self, Beside, Mode, SplitBy};
use crate::id::{Digest, ReleaseRef};
use crate::time::Timestamp;
use crate::trust::{Envelope, SecretKey};
use std::fmt::Debug;

fn release() -> ReleaseRef {
    ReleaseRef {
        model: "digits".parse().unwrap(),
        version: "1.2.3-rc.1".parse().unwrap(),
        manifest: Digest::of(b"manifest"),
    }
}

fn time(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_760_000_000_000 + ms)
}

const SEQUENCE: Sequence = Sequence { epoch: 1_760_000_000_000, number: 300 };

fn check<B: Body + PartialEq + Debug>(body: &B, golden: &[u8]) {
    assert_eq!(postcard::to_stdvec(body).unwrap(), golden, "written otherwise than frozen");
    assert_eq!(&postcard::from_bytes::<B>(golden).unwrap(), body, "read otherwise than frozen");
}

/// Version 2 of the desired state is the bytes of version 1, and what stands beside it.
#[test]
fn desired_of_version_2_is_frozen() {
    let state: Desired = postcard::from_bytes(include_bytes!("golden/v1/desired.postcard")).unwrap();
    let model = &state.assignments[0].release.model.clone();
    let mut frozen = include_bytes!("golden/v1/desired.postcard").to_vec();
    let beside = |mode| v2::Desired { state: state.clone(), beside: vec![Beside { model: model.clone(), mode }] };
    frozen.extend(b"\x01\x06digits\x00\xe8\x07");
    check(&beside(Mode::Shadow { portion: 1_000 }), &frozen);
    frozen.truncate(frozen.len() - 3);
    frozen.extend(b"\x01\x90\x4e\x01\x06x-line");
    let split = beside(Mode::Split { portion: 10_000, by: SplitBy::Header("x-line".into()) });
    check(&split, &frozen);
    assert!(split.bounded());
    let twice = v2::Desired { beside: [split.beside.clone(), split.beside.clone()].concat(), ..split.clone() };
    assert!(!twice.bounded(), "one model twice");
    let nothing = v2::Desired { state: Desired { assignments: vec![], ..state }, ..split };
    assert!(!nothing.bounded(), "nothing is assigned");
}

macro_rules! golden {
    ($($name:ident: $file:literal = $body:expr;)+) => {
        $(#[test]
        fn $name() {
            check(&$body, include_bytes!(concat!("golden/v1/", $file)));
        })+
        #[test]
        #[ignore = "writes the files: only for a body that is not in the field yet"]
        #[allow(clippy::disallowed_methods, reason = "a fixture in the source tree")]
        fn write_missing() {
            $({
                let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wire/golden/v1/", $file);
                if std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
                    std::fs::write(path, postcard::to_stdvec(&$body).unwrap()).unwrap();
                }
            })+
        }
    };
}

golden! {
    desired_is_frozen: "desired.postcard" = Desired {
        fleet: "default".parse().unwrap(),
        device: "box-1".parse().unwrap(),
        sequence: 7,
        issued: time(1),
        expires: time(2),
        root_version: 3,
        assignments: vec![Assignment {
            release: release(),
            signatures: vec![SecretKey::from_seed(&[9; 32]).sign(b"x")],
            rollout: Some("r-0123456789ab".parse().unwrap()),
            attempt: 2,
            probation_s: 60,
        }],
    };
    ack_is_frozen: "ack.postcard" = Ack {
        fleet: "default".parse().unwrap(),
        device: "box-1".parse().unwrap(),
        stored: SEQUENCE,
        issued: time(3),
    };
    alive_is_frozen: "alive.postcard" = Alive {
        fleet: "default".parse().unwrap(),
        device: "box-1".parse().unwrap(),
        session: SEQUENCE,
        alive: true,
        since: time(4),
    };
    broker_token_is_frozen: "broker-token.postcard" = BrokerToken {
        fleet: "default".parse().unwrap(),
        device: "box-1".parse().unwrap(),
        client_id: "fp-default-box-1".into(),
        issued: time(5),
        expires: time(6),
    };
    stats_is_frozen: "stats.postcard" = Stats {
        fleet: "default".parse().unwrap(),
        device: "box-1".parse().unwrap(),
        epoch: SEQUENCE.epoch,
        windows: vec![Window { first: 5, last: 6, release: release(), content: vec![1, 2, 3] }],
    };
    report_is_frozen: "report.postcard" = Report {
        fleet: "default".parse().unwrap(),
        device: "box-1".parse().unwrap(),
        sequence: SEQUENCE,
        at: time(7),
        desired_sequence: 7,
        root_version: 3,
        inventory: Inventory {
            agent_version: "0.1.0".into(),
            arch: "aarch64".into(),
            os: "Linux 6.1".into(),
            cpu_model: "Cortex-A72".into(),
            cpus: 4,
            ram_mib: 3_900,
            free_disk_mib: 12_000,
            hostname: "box-1".into(),
            serving: "127.0.0.1:8000".into(),
        },
        models: vec![ModelReport {
            model: "digits".parse().unwrap(),
            live: Some(release()),
            previous: None,
            candidate: Some((release(), Phase::Fetching { done: 1, total: 1_000 })),
            swaps: 4,
        }],
        quarantine: vec![Quarantined {
            release: release(),
            attempt: 1,
            rollout: None,
            kind: FailureKind::SelfTest,
            detail: "golden sample `seven.png`: 0.5 for 0.4".into(),
            at: time(8),
        }],
        outbox: OutboxReport { windows: 2, bytes: 900, merged: 0 },
        refused: vec![("signature".into(), 3)],
        hold: Some("harvest".into()),
        fetched_bytes: 123_456,
    };
}

#[test]
fn phases_and_failures_keep_their_numbers() {
    let first = |value: Vec<u8>| value[0];
    let phases = [
        Phase::Fetching { done: 0, total: 0 },
        Phase::Verifying,
        Phase::SelfTesting,
        Phase::Swapping,
        Phase::Probation,
        Phase::Blocked(String::new()),
        Phase::Shadowing,
        Phase::Splitting,
    ];
    let numbers: Vec<u8> = phases.iter().map(|phase| first(postcard::to_stdvec(phase).unwrap())).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(first(postcard::to_stdvec(&FailureKind::Untrusted).unwrap()), 0);
    assert_eq!(first(postcard::to_stdvec(&FailureKind::Disk).unwrap()), 11);
    assert_eq!(first(postcard::to_stdvec(&FailureKind::Disagreement).unwrap()), 12);
}

#[test]
fn the_envelope_is_frozen() {
    let envelope = Envelope { signatures: vec![SecretKey::from_seed(&[9; 32]).sign(b"x")], body: vec![7, 8] };
    let bytes = envelope.to_bytes();
    // Version 1, one signature: key id (32), signature (64), then the body with its length.
    assert_eq!((bytes[0], bytes[1], bytes.len()), (1, 1, 2 + 32 + 64 + 1 + 2));
    assert_eq!(bytes[98..], [2, 7, 8]);
}
