//! The embedded broker over real connections: who comes in, and what each may say and hear.

use super::*;
use crate::api::types::Role;
use crate::fleet::tests::World;
use crate::link::live_tests::{Client, until};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldpost_shared::trust::SecretKey;
use fieldpost_shared::wire::names::device_client;
use fieldpost_shared::wire::seal;
use fieldpost_shared::wire::v1::BrokerToken;
use rumqttc::{ConnectReturnCode, ConnectionError, LastWill, MqttOptions, QoS};
use tokio::task::JoinSet;

struct Rig {
    world: World,
    metrics: Arc<Metrics>,
    address: SocketAddr,
    controller: MqttOptions,
    disconnect: Disconnect,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), BrokerError>>,
}

async fn rig() -> Rig {
    let (world, metrics) = (World::new(), Arc::<Metrics>::default());
    let broker = Broker::bind(Parts {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_clients: 10,
        tls: None,
        fleet: world.fleet.clone(),
        clock: world.registry.clock.clone(),
        topics: Topics::default(),
        metrics: metrics.clone(),
    })
    .await
    .unwrap();
    let (address, disconnect, login) = (broker.address(), broker.disconnect(), broker.login().clone());
    let mut controller = MqttOptions::new(login.client(), "127.0.0.1", address.port());
    controller.set_credentials(login.credentials().0, login.credentials().1);
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(broker.run(stop.clone()));
    Rig { world, metrics, address, controller, disconnect, stop, tasks }
}

impl Rig {
    fn options(&self, device: &str, key: &SecretKey) -> MqttOptions {
        let now = self.world.registry.clock.now();
        let (fleet, device): (FleetId, DeviceId) = ("f".parse().unwrap(), device.parse().unwrap());
        let client_id = device_client(&fleet, &device);
        let mut options = MqttOptions::new(&client_id, "127.0.0.1", self.address.port());
        let expires = now.plus(Duration::from_secs(600));
        let token = BrokerToken { fleet, device: device.clone(), client_id, issued: now, expires };
        options.set_credentials(device.as_str(), URL_SAFE_NO_PAD.encode(seal(&token, key).unwrap()));
        options
    }

    async fn device(&self, device: &str, key: &SecretKey) -> Client {
        Client::with(self.options(device, key)).await.unwrap()
    }

    async fn refused(&self, options: MqttOptions) {
        let Err(ConnectionError::ConnectionRefused(code)) = Client::with(options).await else {
            panic!("the broker let it in")
        };
        assert!(matches!(code, ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized), "{code:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_devices_of_the_fleet_come_in() {
    let rig = rig().await;
    let key = rig.world.enroll("a", 1);
    drop(rig.device("a", &key).await);
    rig.refused(rig.options("a", &SecretKey::from_seed(&[9; 32]))).await;
    rig.refused(rig.options("stranger", &key)).await;
    rig.refused(MqttOptions::new("anybody", "127.0.0.1", rig.address.port())).await;
    let mut guess = rig.controller.clone();
    guess.set_credentials("$controller", "guess");
    rig.refused(guess).await;
    assert!(rig.metrics.text().contains("fieldpost_logins_refused_total{kind=\"login\",reason=\"password\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_neither_speaks_nor_hears_for_another() {
    let rig = rig().await;
    let (key, other) = (rig.world.enroll("a", 1), rig.world.enroll("b", 2));
    let controller = Client::with(rig.controller.clone()).await.unwrap();
    controller.subscribe("fp/1/#").await;
    let (mine, theirs) = (rig.device("a", &key).await, rig.device("b", &other).await);
    theirs.subscribe("fp/1/dev/b/desired").await;

    for topic in ["fp/1/dev/b/report", "fp/1/dev/b/desired", "fp/1/dev/a/desired", "fp/1/trust/2", "elsewhere"] {
        mine.say(topic, "forged", true).await;
    }
    mine.say("fp/1/dev/a/report", "own", true).await;
    until("its own report", || !controller.heard("fp/1/dev/a/report").is_empty()).await;
    for topic in ["fp/1/dev/b/report", "fp/1/dev/b/desired", "fp/1/dev/a/desired", "fp/1/trust/2"] {
        assert!(controller.heard(topic).is_empty(), "{topic}");
    }
    for filter in ["fp/1/dev/b/desired", "fp/1/dev/+/desired", "fp/1/dev/a/report", "fp/1/#", "#"] {
        assert_eq!(mine.subscribe(filter).await, "[Failure]", "{filter}");
    }
    controller.say("fp/1/dev/b/desired", "for b", true).await;
    until("what is for b", || !theirs.heard("fp/1/dev/b/desired").is_empty()).await;
    assert!(mine.heard("fp/1/dev/b/desired").is_empty());
    assert!(mine.subscribe("fp/1/dev/a/desired").await.contains("Success"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_for_another_topic_is_refused_at_the_door() {
    let rig = rig().await;
    let key = rig.world.enroll("a", 1);
    rig.world.enroll("b", 2);
    let mut options = rig.options("a", &key);
    options.set_last_will(LastWill::new("fp/1/dev/b/alive", "dead", QoS::AtLeastOnce, true));
    rig.refused(options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_is_cut_off_and_stays_outside() {
    let rig = rig().await;
    let key = rig.world.enroll("a", 1);
    let device = rig.device("a", &key).await;
    let id: DeviceId = "a".parse().unwrap();
    rig.world.fleet.revoke("op", &id).unwrap();
    rig.disconnect.device(&id).await;
    until("the cut", || !device.heard("lost").is_empty()).await;
    rig.refused(rig.options("a", &key)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_packet_than_allowed_ends_the_connection() {
    let rig = rig().await;
    let key = rig.world.enroll("a", 1);
    let device = rig.device("a", &key).await;
    device.publish_unheard("fp/1/dev/a/report", vec![0; MAX_PACKET_BYTES + 1]).await;
    until("the cut", || !device.heard("lost").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_told() {
    let mut rig = rig().await;
    let _client = Client::with(rig.controller.clone()).await.unwrap();
    rig.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), rig.tasks.join_next()).await;
    assert!(matches!(ended, Ok(Some(Ok(Ok(()))))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let rig = rig().await;
    let parts = Parts {
        listen: rig.address,
        max_clients: 10,
        tls: None,
        fleet: rig.world.fleet.clone(),
        clock: rig.world.registry.clock.clone(),
        topics: Topics::default(),
        metrics: rig.metrics.clone(),
    };
    let refused = Broker::bind(parts).await.unwrap_err();
    assert!(matches!(&refused, BrokerError::Listen { address, .. } if *address == rig.address), "{refused}");
}

/// The role table is the API's; the broker knows only devices and the controller.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_api_opens_nothing_here() {
    use crate::api::types::{TokenKind, TokenRequest};
    let rig = rig().await;
    let kind = TokenKind::Api { role: Role::Admin };
    let token = rig.world.tokens.create("x", TokenRequest { kind, note: String::new(), expires_s: None }).unwrap();
    for user in ["$controller", "admin", "a"] {
        let mut options = MqttOptions::new("x", "127.0.0.1", rig.address.port());
        options.set_credentials(user, &token.token);
        rig.refused(options).await;
    }
}
