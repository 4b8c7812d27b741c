//! What comes over the broker: envelopes, bodies, topics, roots, windows.

use fieldpost_shared::id::{DeviceId, FleetId};
use fieldpost_shared::stats::{Limits, WindowStats};

use fieldpost_shared::trust::{Envelope, SecretKey, SignedRoot};
use fieldpost_shared::wire::v1::{Ack, Alive, Body, BrokerToken, Desired, Report, Stats};
use fieldpost_shared::wire::v2;
use fieldpost_shared::wire::{Topics, open_device};
use std::sync::OnceLock;

fn key() -> &'static SecretKey {
    static KEY: OnceLock<SecretKey> = OnceLock::new();
    KEY.get_or_init(|| SecretKey::from_seed(&[1; 32]))
}

pub fn envelope(data: &[u8]) {
    if let Ok(envelope) = Envelope::from_bytes(data) {
        assert_eq!(Envelope::from_bytes(&envelope.to_bytes()).ok().as_ref(), Some(&envelope));
    }
    open::<Report>(data);
}

fn open<B: Body>(sealed: &[u8]) {
    let (fleet, device): (FleetId, DeviceId) = ("default".parse().unwrap(), "box-1".parse().unwrap());
    drop(open_device::<B>(sealed, &fleet, &device, &key().public()));
}

/// The first byte chooses the kind, the rest is signed by the right key: what a stolen device could say.
pub fn body(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind % 7 {
        0 => sealed::<Desired>(body),
        1 => sealed::<Ack>(body),
        2 => sealed::<Alive>(body),
        3 => sealed::<BrokerToken>(body),
        4 => sealed::<Stats>(body),
        5 => sealed::<Report>(body),
        _ => sealed::<v2::Desired>(body),
    }
}

fn sealed<B: Body>(body: &[u8]) {
    // Only what reads as a body is worth a signature.
    if postcard::take_from_bytes::<B>(body).is_ok() {
        open::<B>(&Envelope::seal(B::KIND, body.to_vec(), key()).to_bytes());
    }
}

pub fn topic(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    let topics = Topics::default();
    if let Ok(topic) = topics.parse(name) {
        assert_eq!(topics.name(&topic), name, "a topic has one name");
    }
    drop(Topics::new(name));
}

pub fn root(data: &[u8]) {
    if let Ok(root) = SignedRoot::parse(data) {
        drop(root.verify_self());
        drop(root.verify_after(&root.metadata));
        assert_eq!(SignedRoot::parse(&root.to_bytes()).map(|again| again.metadata).ok(), Some(root.metadata));
    }
}

pub fn window(data: &[u8]) {
    let Ok(window) = WindowStats::decode(data) else { return };
    let encoded = window.encode();
    assert_eq!(WindowStats::decode(&encoded).map(|again| again.encode()).ok(), Some(encoded), "it is kept as it is");
    drop(window.validate(&Limits::default()));
    let _ = (window.covered(), window.model_error_rate(), window.latency.quantile(0.95));
    let mut sum = window.clone();
    drop(sum.merge(&window));
}
