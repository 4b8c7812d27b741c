use super::*;
use crate::fleet::tests::World;
use crate::releases::tests::NOW;
use fieldpost_shared::trust::SecretKey;
use fieldpost_shared::wire::seal;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::types::{ConnectOptions, WillMessage};

struct Fixture {
    world: World,
    key: SecretKey,
    door: Door,
}

fn fixture() -> Fixture {
    let world = World::new();
    let key = world.enroll("a", 1);
    world.enroll("b", 2);
    let door = Door::new(
        world.fleet.clone(),
        world.registry.clock.clone(),
        Topics::default(),
        Arc::default(),
        Login::new().unwrap(),
    );
    Fixture { world, key, door }
}

fn token() -> BrokerToken {
    BrokerToken {
        fleet: "f".parse().unwrap(),
        device: "a".parse().unwrap(),
        client_id: "fp-f-a".into(),
        issued: NOW,
        expires: NOW.plus(Duration::from_secs(600)),
    }
}

fn connect(device: &str) -> ConnectPacket {
    ConnectPacket::new(ConnectOptions::new(format!("fp-f-{device}")).protocol_options)
}

fn password(token: &BrokerToken, key: &SecretKey) -> Vec<u8> {
    URL_SAFE_NO_PAD.encode(seal(token, key).unwrap()).into_bytes()
}

fn check(change: impl FnOnce(&mut BrokerToken), expected: Result<(), &str>) {
    let Fixture { key, door, .. } = fixture();
    let mut token = token();
    change(&mut token);
    assert_eq!(door.admit("a", &password(&token, &key), &connect("a")), expected, "{token:?}");
}

#[test]
fn a_device_comes_in_with_what_its_key_said_a_short_while_ago() {
    check(|_| (), Ok(()));
    check(|token| token.issued = NOW.plus(SKEW), Ok(()));
}

#[test]
fn tokens_out_of_time_are_refused() {
    check(|token| token.expires = NOW.minus(Duration::from_millis(1)), Err("lifetime"));
    check(
        |token| {
            token.issued = NOW.minus(Duration::from_secs(60));
            token.expires = NOW.minus(Duration::from_millis(1));
        },
        Err("expired"),
    );
    check(
        |token| {
            token.issued = NOW.plus(SKEW + Duration::from_secs(1));
            token.expires = token.issued.plus(Duration::from_secs(60));
        },
        Err("not-yet"),
    );
    check(|token| token.expires = NOW.plus(MAX_TOKEN_LIFETIME + Duration::from_secs(1)), Err("lifetime"));
}

#[test]
fn tokens_for_another_purpose_are_refused() {
    check(|token| token.client_id = "fp-f-b".into(), Err("client-id"));
    check(|token| token.device = "b".parse().unwrap(), Err("token"));
    check(|token| token.fleet = "g".parse().unwrap(), Err("token"));
}

#[test]
fn a_key_does_not_open_for_another_name() {
    let Fixture { key, door, .. } = fixture();
    let mine = password(&token(), &key);
    assert_eq!(door.admit("b", &mine, &connect("b")), Err("token"));
    assert_eq!(door.admit("a", &mine, &connect("b")), Err("client-id"));
    assert_eq!(door.admit("stranger", &mine, &connect("stranger")), Err("unknown-device"));
    assert_eq!(door.admit("", &[], &connect("a")), Err("name"));
    assert_eq!(door.admit("a", b"nonsense!", &connect("a")), Err("token"));
}

#[test]
fn a_revoked_device_stays_outside() {
    let Fixture { world, key, door } = fixture();
    world.fleet.revoke("op", &"a".parse().unwrap()).unwrap();
    assert_eq!(door.admit("a", &password(&token(), &key), &connect("a")), Err("unknown-device"));
    assert!(!door.may_publish("a", "fp/1/dev/a/report"));
    assert!(!door.may_subscribe("a", "fp/1/dev/a/desired"));
}

#[test]
fn only_the_controllers_password_is_the_controllers() {
    let Fixture { door, .. } = fixture();
    let (user, password) = door.login.credentials();
    assert_eq!(door.admit(user, password.as_bytes(), &connect("x")), Ok(()));
    assert_eq!(door.admit(user, b"", &connect("x")), Err("password"));
    assert_eq!(door.admit(user, &password.as_bytes()[1..], &connect("x")), Err("password"));
}

#[test]
fn a_death_notice_is_for_its_own_topic_alone() {
    let Fixture { key, door, .. } = fixture();
    let with_will = |topic: &str, bytes: usize| {
        let mut connect = connect("a");
        connect.will = Some(WillMessage::new(topic, vec![0; bytes]));
        door.admit("a", &password(&token(), &key), &connect)
    };
    assert_eq!(with_will("fp/1/dev/a/alive", 100), Ok(()));
    assert_eq!(with_will("fp/1/dev/a/alive", MAX_WILL_BYTES + 1), Err("will"));
    for topic in ["fp/1/dev/b/alive", "fp/1/dev/a/desired", "x", "fp/1/trust/2"] {
        assert_eq!(with_will(topic, 100), Err("will"), "{topic}");
    }
}

#[test]
fn a_device_publishes_only_what_is_its_own_to_say() {
    let Fixture { door, .. } = fixture();
    for (topic, allowed) in [
        ("fp/1/dev/a/report", true),
        ("fp/1/dev/a/stats", true),
        ("fp/1/dev/a/alive", true),
        ("fp/1/dev/a/desired", false),
        ("fp/1/dev/a/ack", false),
        ("fp/1/dev/b/report", false),
        ("fp/1/trust/2", false),
        ("fp/1/dev/a/report/x", false),
        ("other", false),
        ("$SYS/x", false),
    ] {
        assert_eq!(door.may_publish("a", topic), allowed, "{topic}");
    }
    assert!(!door.may_publish("a", &format!("fp/1/blob/{}", Digest::of(b"x"))));
}

#[test]
fn a_device_hears_only_what_is_for_it() {
    let Fixture { door, .. } = fixture();
    for (filter, allowed) in [
        ("fp/1/dev/a/desired", true),
        ("fp/1/dev/a/ack", true),
        ("fp/1/blob/+", true),
        ("fp/1/trust/+", true),
        ("fp/1/trust/3", true),
        ("fp/1/dev/b/desired", false),
        ("fp/1/dev/a/report", false),
        ("fp/1/dev/+/desired", false),
        ("fp/1/dev/a/+", false),
        ("fp/1/dev/a/#", false),
        ("fp/1/#", false),
        ("#", false),
        ("+/1/dev/a/desired", false),
        ("$share/g/fp/1/dev/a/desired", false),
        ("$SYS/#", false),
    ] {
        assert_eq!(door.may_subscribe("a", filter), allowed, "{filter}");
    }
    assert!(door.may_subscribe("a", &format!("fp/1/blob/{}", Digest::of(b"x"))));
}
