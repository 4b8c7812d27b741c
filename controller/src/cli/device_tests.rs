use super::*;
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::trust::SecretKey;
use fieldpost_shared::wire::v1::{FailureKind, Inventory, OutboxReport, Quarantined};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn release(version: &str) -> ReleaseRef {
    let manifest = Digest::of(version.as_bytes());
    ReleaseRef { model: "digits".parse().unwrap(), version: version.parse().unwrap(), manifest }
}

fn device(id: &str) -> Device {
    let key = SecretKey::from_seed(&[1; 32]).public();
    Device {
        id: id.parse().unwrap(),
        status: DeviceStatus::Active,
        alive: true,
        last_seen: Some(NOW.minus(Duration::from_secs(3))),
        enrolled: NOW.minus(Duration::from_secs(86_400)),
        fingerprint: key.id(),
        public_key: key,
        labels: [("site".to_owned(), "lyon".to_owned())].into(),
        inventory: Inventory {
            agent_version: "0.1.0".into(),
            arch: "aarch64".into(),
            os: "Debian 13".into(),
            cpu_model: "Cortex-A76".into(),
            cpus: 4,
            ram_mib: 8_000,
            free_disk_mib: 20_000,
            hostname: "pi".into(),
            serving: "127.0.0.1:8000".into(),
        },
        models: vec![ModelState {
            model: "digits".parse().unwrap(),
            live: Some(release("1.0.0")),
            previous: None,
            candidate: Some(release("1.1.0")),
            phase: Some(Phase::Fetching { done: 2, total: 5 }),
            swaps: 1,
        }],
        desired: vec![],
        desired_sequence: 4,
        accepted_sequence: 4,
        root_version: 1,
        quarantine: vec![],
        outbox: OutboxReport::default(),
        windows_lost: 0,
        rival_seen: None,
        hold: None,
        ahead: false,
        refused: vec![],
        fetched_bytes: 70_000,
        reported_at: Some(NOW),
    }
}

#[test]
fn the_fleet_at_a_glance() {
    let offline = Device { alive: false, last_seen: None, models: vec![], ..device("box-2") };
    let pending = Device { status: DeviceStatus::Pending, labels: [].into(), models: vec![], ..device("new-box") };
    insta::assert_snapshot!(list(&[device("box-1"), offline, pending], NOW), @r"
    DEVICE   STATE    SEEN     RUNS                                 LABELS     ARCH
    box-1    online   3 s ago  digits@1.0.0 -> 1.1.0 fetching 40 %  site=lyon  aarch64
    box-2    offline  never                                         site=lyon  aarch64
    new-box  pending  3 s ago                                                  aarch64
    ");
}

#[test]
fn devices_that_follow_orders_of_nobody_known_are_pointed_out() {
    let ahead = Device { ahead: true, models: vec![], ..device("box-2") };
    let shown = list(&[device("box-1"), ahead.clone()], NOW);
    assert!(shown.contains("box-2   ahead "), "{shown}");
    assert!(shown.contains("1 device follows orders that this controller does not know"), "{shown}");
    assert!(show(&ahead, NOW).contains("`fieldpost device accept box-2 --keep`"));
}

#[test]
fn one_device_closely() {
    let mut device = device("box-1");
    device.quarantine.push(Quarantined {
        release: release("1.2.0"),
        attempt: 1,
        rollout: None,
        kind: FailureKind::SelfTest,
        detail: "golden sample `3.png`: output differs".into(),
        at: NOW.minus(Duration::from_secs(7_200)),
    });
    insta::assert_snapshot!(show(&device, NOW), @r"
    device       box-1
    state        online
    seen         3 s ago
    enrolled     2027-01-14T08:00:00.000Z
    fingerprint  34750f98bd59fcfc946da45aaabe933be154a4b5094e1c4abf42866505f3c97e
    labels       site=lyon
    box          Debian 13, 4 x aarch64, 8000 MiB RAM, 20000 MiB free disk
    host         pi, agent 0.1.0
    serves on    127.0.0.1:8000
    runs         digits@1.0.0 -> 1.1.0 fetching 40 %
    failed       digits@1.2.0 (2 h ago): golden sample `3.png`: output differs
    fetched      68.4 KiB
    ");
}

#[test]
fn labels_are_set_and_taken_away() {
    let change = |labels: &[&str]| label_change(&labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>());
    let LabelChange { set, remove } = change(&["site=lyon", "note=a-b=c-", "tier-"]).unwrap();
    assert_eq!((set["site"].as_str(), set["note"].as_str(), remove), ("lyon", "a-b=c-", vec!["tier".to_owned()]));
    for wrong in [&["site"][..], &["=x"], &["-"], &["a=1", "a-"]] {
        assert_eq!(change(wrong).unwrap_err().exit(), Exit::Usage, "{wrong:?}");
    }
}
