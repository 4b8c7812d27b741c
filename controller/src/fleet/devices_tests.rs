use super::*;
use crate::api::types::TokenRequest;
use crate::store::MemoryStore;
use fieldpost_shared::time::ManualClock;
use fieldpost_shared::trust::SecretKey;

struct Fixture {
    store: Arc<MemoryStore>,
    audit: Arc<Audit>,
    clock: Arc<ManualClock>,
    tokens: Tokens,
    devices: Devices,
}

fn fixture() -> Fixture {
    let store = Arc::new(MemoryStore::default());
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
    let audit = Arc::new(Audit::open(store.clone(), clock.clone()).unwrap());
    let tokens = Tokens::open(store.as_ref(), audit.clone(), clock.clone()).unwrap();
    let devices = Devices::open(store.as_ref(), audit.clone(), clock.clone()).unwrap();
    Fixture { store, audit, clock, tokens, devices }
}

impl Fixture {
    fn token(&self, uses: u32, labels: &[(&str, &str)]) -> String {
        let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let request = TokenRequest { kind: TokenKind::Enroll { uses, labels }, note: String::new(), expires_s: None };
        self.tokens.create("x", request).unwrap().token
    }

    fn enroll(&self, token: &str, device: &str, seed: u8) -> Result<Arc<DeviceRecord>, DeviceError> {
        self.devices.enroll(&self.tokens, request(token, device, seed), false)
    }
}

fn request(token: &str, device: &str, seed: u8) -> EnrollRequest {
    EnrollRequest {
        token: token.into(),
        public_key: SecretKey::from_seed(&[seed; 32]).public(),
        device: device.parse().ok(),
        labels: [("site".into(), "wished".into()), ("own".into(), "1".into())].into(),
        inventory: None,
    }
}

fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

#[test]
fn a_token_lets_a_device_in_with_its_labels() {
    let f = fixture();
    let record = f.enroll(&f.token(1, &[("site", "lyon")]), "a", 1).unwrap();
    assert_eq!(record.labels, [("site".into(), "lyon".into()), ("own".into(), "1".into())].into());
    assert_eq!(f.devices.active_key(&id("a")), Some(record.public_key));
    let again = Devices::open(f.store.as_ref(), f.audit.clone(), f.clock.clone()).unwrap();
    assert_eq!(again.list(), f.devices.list());
}

#[test]
fn asking_twice_with_the_same_key_uses_one_token() {
    let f = fixture();
    let token = f.token(1, &[]);
    assert_eq!(f.enroll(&token, "a", 1).unwrap(), f.enroll(&token, "a", 1).unwrap());
    assert!(matches!(f.enroll(&token, "b", 2), Err(DeviceError::Token(TokenError::UsedUp(1)))));
}

#[test]
fn a_name_cannot_be_taken_over_by_another_key() {
    let f = fixture();
    let token = f.token(9, &[]);
    f.enroll(&token, "a", 1).unwrap();
    assert!(matches!(f.enroll(&token, "a", 2), Err(DeviceError::Taken(_))));
    assert!(matches!(f.enroll(&token, "b", 1), Err(DeviceError::KnownAs(_))));
}

#[test]
fn a_refused_enrolment_uses_no_token() {
    let f = fixture();
    let token = f.token(1, &[]);
    let mut bad = request(&token, "a", 1);
    bad.labels.insert("Bad".into(), String::new());
    assert!(matches!(f.devices.enroll(&f.tokens, bad, false), Err(DeviceError::Labels(_))));
    assert!(f.enroll(&token, "a", 1).is_ok());
}

#[test]
fn without_a_wish_the_name_comes_from_the_key() {
    let f = fixture();
    let record = f.enroll(&f.token(1, &[]), "NOT A NAME", 1).unwrap();
    assert_eq!(record.id.as_str(), format!("box-{}", record.public_key.id().short()));
}

#[test]
fn a_revoked_key_opens_nothing_and_does_not_come_back() {
    let f = fixture();
    let token = f.token(9, &[]);
    f.enroll(&token, "a", 1).unwrap();
    f.devices.revoke("op", &id("a"), vec![]).unwrap();
    assert_eq!(f.devices.active_key(&id("a")), None);
    assert!(matches!(f.enroll(&token, "a", 1), Err(DeviceError::Revoked(_))));
    assert!(matches!(f.enroll(&token, "b", 1), Err(DeviceError::Revoked(_))));
    assert!(matches!(f.devices.approve("op", &id("a")), Err(DeviceError::Revoked(_))));
    assert_eq!(f.enroll(&token, "a", 2).unwrap().status, DeviceStatus::Active);
    // The name has another key now; the revoked one stays revoked, under every name and after a restart.
    assert!(matches!(f.enroll(&token, "b", 1), Err(DeviceError::Revoked(_))));
    let again = Devices::open(f.store.as_ref(), f.audit.clone(), f.clock.clone()).unwrap();
    let refused = again.enroll(&f.tokens, request(&token, "b", 1), false);
    assert!(matches!(refused, Err(DeviceError::Revoked(device)) if device == id("a")));
}

#[test]
fn a_device_without_a_token_waits_where_that_is_allowed() {
    let f = fixture();
    assert!(matches!(f.enroll("", "a", 1), Err(DeviceError::NoToken)));
    let waiting = f.devices.enroll(&f.tokens, request("", "a", 1), true).unwrap();
    assert_eq!((waiting.status, f.devices.active_key(&id("a"))), (DeviceStatus::Pending, None));
    f.devices.approve("op", &id("a")).unwrap();
    assert_eq!(f.devices.enroll(&f.tokens, request("", "a", 1), true).unwrap().status, DeviceStatus::Active);
}

#[test]
fn a_token_wins_over_a_stranger_who_waits_under_the_name() {
    let f = fixture();
    f.devices.enroll(&f.tokens, request("", "a", 1), true).unwrap();
    assert!(matches!(f.devices.enroll(&f.tokens, request("", "a", 2), true), Err(DeviceError::Taken(_))));
    assert!(matches!(f.enroll("fp_wrong", "a", 2), Err(DeviceError::Token(_))));
    assert_eq!(f.devices.find(&id("a")).unwrap().status, DeviceStatus::Pending);
    let record = f.enroll(&f.token(1, &[]), "a", 2).unwrap();
    assert_eq!((record.status, record.public_key), (DeviceStatus::Active, request("", "a", 2).public_key));
    // The stranger's key was not revoked: it may ask under another name.
    assert!(f.devices.enroll(&f.tokens, request("", "z", 1), true).is_ok());
}

#[test]
fn labels_change_and_the_log_says_so() {
    let f = fixture();
    f.enroll(&f.token(1, &[]), "a", 1).unwrap();
    let change = LabelChange { set: [("tier".into(), "lab".into())].into(), remove: vec!["own".into()] };
    let record = f.devices.label("op", &id("a"), &change).unwrap();
    assert_eq!(record.labels, [("site".into(), "wished".into()), ("tier".into(), "lab".into())].into());
    let last = f.audit.after(0, 100).unwrap().pop().unwrap();
    assert_eq!((last.action.as_str(), last.detail.as_str()), ("device.label", "tier=lab,-own"));
    assert!(matches!(f.devices.label("op", &id("z"), &change), Err(DeviceError::NoSuch(_))));
}
