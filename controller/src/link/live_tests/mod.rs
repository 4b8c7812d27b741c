//! The link over real connections: a broker that lets everybody do everything, the controller's link to it, and other
//! MQTT clients beside it.

mod believed;
mod kept;

use super::connection::Target;
use super::ingest::{Ingest, QUEUE};
use super::outbox::{Item, Source as _};
use super::{Link, run};
use crate::config::{BrokerAddress, ExternalBroker};
use crate::fleet::tests::World;
use crate::metrics::{KindLabel, Metrics};
use crate::releases::tests::Registry;
use bytes::Bytes;
use fieldpost_shared::wire::Topics;
use mqtt5::broker::config::{StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerConfig, BrokerShutdownHandle, MqttBroker};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let look = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, look).await.is_ok(), "{what} did not come");
}

/// A broker without access lists, in memory; it forgets everything when it stops.
struct OpenBroker {
    address: SocketAddr,
    handle: BrokerShutdownHandle,
    tasks: JoinSet<()>,
}

impl OpenBroker {
    async fn start(listen: SocketAddr) -> Self {
        let mut config = BrokerConfig::new().with_bind_address(listen).with_max_packet_size(1 << 20);
        config.sys_topics_enabled = false;
        config.storage_config = StorageConfig { backend: StorageBackend::Memory, ..StorageConfig::default() };
        let mut broker = MqttBroker::with_config(config).await.unwrap();
        let (address, handle, mut ready) =
            (broker.local_addr().unwrap(), broker.shutdown_handle(), broker.ready_receiver());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { broker.run().await.unwrap() });
        ready.wait_for(|ready| *ready).await.unwrap();
        Self { address, handle, tasks }
    }

    async fn any() -> Self {
        Self::start("127.0.0.1:0".parse().unwrap()).await
    }

    /// Stops, forgets everything, and starts again on the same port.
    async fn wiped(mut self) -> Self {
        self.handle.shutdown();
        while self.tasks.join_next().await.is_some() {}
        Self::start(self.address).await
    }
}

/// A client that hears what it subscribed to.
pub(crate) struct Client {
    client: AsyncClient,
    heard: Arc<Mutex<BTreeMap<String, Vec<Bytes>>>>,
    _tasks: JoinSet<()>,
}

impl Client {
    async fn open(broker: SocketAddr, name: &str) -> Self {
        Self::with(MqttOptions::new(name, broker.ip().to_string(), broker.port())).await.unwrap()
    }

    /// Connects; the error is the broker's refusal.
    pub(crate) async fn with(mut options: MqttOptions) -> Result<Self, rumqttc::ConnectionError> {
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::new(options, 64);
        events.poll().await?;
        let heard: Arc<Mutex<BTreeMap<String, Vec<Bytes>>>> = Arc::default();
        let hears = Arc::clone(&heard);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok(event) = events.poll().await {
                let (topic, said) = match event {
                    Event::Incoming(Packet::Publish(publish)) => (publish.topic, publish.payload),
                    Event::Incoming(Packet::SubAck(ack)) => ("suback".into(), format!("{:?}", ack.return_codes).into()),
                    Event::Incoming(Packet::PubAck(_)) => ("puback".into(), Bytes::new()),
                    _ => continue,
                };
                hears.lock().unwrap().entry(topic).or_default().push(said);
            }
            hears.lock().unwrap().entry("lost".into()).or_default().push(Bytes::new());
        });
        Ok(Self { client, heard, _tasks: tasks })
    }

    pub(crate) async fn subscribe(&self, filter: &str) -> String {
        let before = self.heard("suback").len();
        self.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        until("the answer to a subscription", || self.heard("suback").len() > before).await;
        String::from_utf8(self.heard("suback").pop().unwrap().to_vec()).unwrap()
    }

    /// Publishes, and waits until the broker has it.
    pub(crate) async fn say(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        let before = self.heard("puback").len();
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await.unwrap();
        until("the broker's answer", || self.heard("puback").len() > before).await;
    }

    /// Publishes without waiting: the broker may not answer.
    pub(crate) async fn publish_unheard(&self, topic: &str, payload: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }

    /// Everything heard on a topic, oldest first.
    pub(crate) fn heard(&self, topic: &str) -> Vec<Bytes> {
        self.heard.lock().unwrap().get(topic).cloned().unwrap_or_default()
    }

    /// The newest thing heard on each topic that holds something.
    fn holds(&self) -> BTreeMap<String, Bytes> {
        let heard = self.heard.lock().unwrap();
        let newest = heard.iter().filter_map(|(topic, said)| Some((topic.clone(), said.last()?.clone())));
        newest.filter(|(topic, said)| topic.starts_with("fp/1/") && !said.is_empty()).collect()
    }
}

/// A fleet whose link is up.
struct Rig {
    world: World,
    broker: OpenBroker,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Rig {
    async fn new() -> Self {
        Self::over(World::new(), OpenBroker::any().await, Arc::default()).await
    }

    async fn over(world: World, broker: OpenBroker, metrics: Arc<Metrics>) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (inbound, queue) = mpsc::channel(QUEUE);
        let (connected, mut connection) = watch::channel(false);
        let address = BrokerAddress { host: "127.0.0.1".into(), port: broker.address.port(), tls: false };
        let external = ExternalBroker { advertise: address.clone(), address, login: None, ca: None, own: None };
        let link = Link {
            fleet: world.fleet.clone(),
            outbox: world.outbox.clone(),
            clock: world.registry.clock.clone(),
            topics: Topics::default(),
            metrics: metrics.clone(),
            inbound,
            connected,
        };
        let ingest = Ingest {
            fleet: world.fleet.clone(),
            outbox: world.outbox.clone(),
            clock: world.registry.clock.clone(),
            topics: Topics::default(),
            metrics: metrics.clone(),
        };
        tasks.spawn(run(link, Target::external(&external, &"f".parse().unwrap()).unwrap(), stop.clone()));
        let (token, reactor) = (stop.clone(), Handle::current());
        tasks.spawn_blocking(move || ingest.run(queue, &token, &reactor));
        let rig = Self { world, broker, metrics, stop, tasks };
        tokio::time::timeout(PATIENCE, connection.wait_for(|up| *up)).await.unwrap().unwrap();
        rig
    }

    /// The controller stops and starts again; the broker and the disk stay.
    async fn restarted(mut self) -> Self {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let Self { world: World { registry, .. }, broker, .. } = self;
        Self::over(World::over(registry), broker, Arc::default()).await
    }

    async fn client(&self, name: &str) -> Client {
        Client::open(self.broker.address, name).await
    }

    /// A client that sees all that the broker holds.
    async fn observer(&self) -> Client {
        let client = self.client("observer").await;
        client.subscribe("fp/1/#").await;
        client
    }

    /// Waits until the broker holds exactly what it should of the controller's topics.
    async fn settled(&self, observer: &Client) {
        let fleet = self.world.fleet.as_ref();
        let topic = |item: &Item| Topics::default().name(&item.topic());
        let mut wanted: BTreeMap<String, Bytes> = BTreeMap::new();
        for item in fleet.wanted() {
            wanted.extend(fleet.payload(&item).unwrap().map(|payload| (topic(&item), payload.into())));
        }
        let ours = || {
            let mut held = observer.holds();
            held.retain(|topic, _| Topics::default().parse(topic).is_ok_and(|topic| Item::of(topic).is_some()));
            held
        };
        until("what the broker should hold", || ours() == wanted && self.world.outbox.is_empty()).await;
    }

    fn published(&self, kind: &'static str) -> u64 {
        self.metrics.published.get_or_create(&KindLabel { kind }).get()
    }
}

/// A registry whose release `digits@1.0.0` has chunks worth counting.
fn registry() -> (Registry, fieldpost_shared::id::ReleaseRef) {
    let registry = Registry::new();
    let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let release = registry.release("1.0.0", &noise);
    (registry, release)
}
