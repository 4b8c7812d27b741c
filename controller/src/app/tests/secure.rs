//! TLS on both ports.

use super::*;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, TlsConfiguration, Transport};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A certificate for `localhost` and 127.0.0.1, valid for a century, and its key. It protects nothing.
const CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/app/testdata/loopback.cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/app/testdata/loopback.key.pem");

async fn rig(dir: &Path) -> Rig {
    Rig::with(config(dir, &format!("[tls]\ncert = '{CERT}'\nkey = '{KEY}'"))).await
}

/// How a device with the given password is answered over TLS.
async fn login(rig: &Rig, user: &str, password: &str) -> Result<Event, rumqttc::ConnectionError> {
    let mut options = MqttOptions::new("fp-default-a", "127.0.0.1", rig.bound.mqtt.unwrap().port());
    options.set_credentials(user, password);
    let tls = crate::tls::client(Path::new(CERT), None).unwrap();
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    let (_client, mut events) = AsyncClient::new(options, 10);
    tokio::time::timeout(PATIENCE, events.poll()).await.unwrap()
}

/// The password of device `a`, whose key is made of ones.
fn password() -> String {
    use base64::Engine as _;
    use fieldpost_shared::wire::v1::BrokerToken;
    let now = SystemClock::new().now();
    let token = BrokerToken {
        fleet: "default".parse().unwrap(),
        device: "a".parse().unwrap(),
        client_id: "fp-default-a".into(),
        issued: now,
        expires: now.plus(Duration::from_secs(60)),
    };
    let sealed = fieldpost_shared::wire::seal(&token, &SecretKey::from_seed(&[1; 32])).unwrap();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sealed)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ports_speak_tls_and_devices_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path()).await;
    let enrolled = rig.enroll("a", 1).await;
    let mqtt = rig.bound.mqtt.unwrap();
    assert_eq!(enrolled["mqtt"], json!({"host": "127.0.0.1", "port": mqtt.port(), "tls": true}));
    assert!(rig.bound.endpoints.http.starts_with("https://") && rig.bound.endpoints.mqtt.starts_with("mqtts://"));
    let answer = login(&rig, "a", &password()).await.unwrap();
    assert!(matches!(answer, Event::Incoming(Packet::ConnAck(_))), "{answer:?}");
    assert!(login(&rig, "a", "wrong").await.is_err());
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_connections_get_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path()).await;
    let plain = format!("http://{}/v1/health", rig.bound.http);
    assert!(reqwest::get(plain).await.is_err());
    rig.stopped().await.unwrap();
}

/// mqtt5 by itself shakes hands with one client at a time.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path()).await;
    rig.enroll("a", 1).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(rig.bound.mqtt.unwrap()).await.unwrap());
        silent.push(TcpStream::connect(rig.bound.http).await.unwrap());
    }
    rig.get("/v1/devices").await;
    login(&rig, "a", &password()).await.unwrap();
    rig.stopped().await.unwrap();
    let mut byte = [0; 1];
    for stream in &mut silent {
        let closed = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
}
