//! One connection to the broker, from login to loss.

use super::Link;
use super::ingest::Inbound;
use super::outbox::{Item, Source as _};
use super::reconcile::{self, Scan};
use crate::broker::door::Login;
use crate::config::{BrokerAddress, ExternalBroker};
use crate::metrics::KindLabel;
use crate::tls::{self, TlsError};
use bytes::Bytes;
use fieldpost_shared::bundle::chunk::MAX_PAYLOAD_BYTES;
use fieldpost_shared::id::FleetId;
use fieldpost_shared::wire::Topic;
use fieldpost_shared::wire::names::controller_client;
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, Packet, QoS,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc};

/// Largest packet that is sent: the largest payload, a topic and headers.
const MAX_SENT_BYTES: usize = MAX_PAYLOAD_BYTES + 4 * 1024;
/// Largest packet that is read: all that MQTT allows. rumqttc ends the connection at a larger one, so with a lower limit
/// one retained message of a hostile client would end every connection that the controller makes.
const MAX_READ_BYTES: usize = 268_435_455 + 5;
/// Publishes that the broker has not confirmed. Below rumqttc's own limit, so that its queue never fills.
const MAX_IN_FLIGHT: u16 = 32;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT_S: u64 = 10;

/// Where to connect, and as whom.
#[derive(Clone)]
pub struct Target {
    address: BrokerAddress,
    client: String,
    login: Option<(String, String)>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// Whether the broker holds nothing when the controller starts.
    pub starts_empty: bool,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("address", &self.address).field("client", &self.client).finish_non_exhaustive()
    }
}

impl Target {
    /// The embedded broker.
    #[must_use]
    pub fn embedded(address: SocketAddr, login: &Login) -> Self {
        let (user, password) = login.credentials();
        Self {
            address: BrokerAddress { host: address.ip().to_string(), port: address.port(), tls: false },
            client: login.client().to_owned(),
            login: Some((user.to_owned(), password.to_owned())),
            tls: None,
            starts_empty: true,
        }
    }

    /// Another broker.
    ///
    /// # Errors
    /// When its certificate authorities cannot be read.
    pub fn external(broker: &ExternalBroker, fleet: &FleetId) -> Result<Self, TlsError> {
        let tls = match (broker.address.tls, &broker.ca) {
            (false, _) => None,
            (true, Some(path)) => Some(tls::client(path, broker.own.as_ref())?),
            (true, None) => Some(tls::client_with_system_authorities(broker.own.as_ref())?),
        };
        Ok(Self {
            address: broker.address.clone(),
            client: controller_client(fleet),
            login: broker.login.as_ref().map(|(user, password)| (user.clone(), password.0.clone())),
            tls,
            starts_empty: false,
        })
    }

    fn options(&self) -> MqttOptions {
        let mut options = MqttOptions::new(&self.client, &self.address.host, self.address.port);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(true)
            .set_max_packet_size(MAX_READ_BYTES, MAX_SENT_BYTES)
            .set_inflight(MAX_IN_FLIGHT);
        if let Some((user, password)) = &self.login {
            options.set_credentials(user, password);
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
        }
        options
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionFailed {
    /// It never came up.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: BrokerAddress,
        /// The reason.
        #[source]
        source: Box<ConnectionError>,
    },
    /// It broke.
    #[error("the connection to {address} broke")]
    Lost {
        /// Where.
        address: BrokerAddress,
        /// The reason.
        #[source]
        source: Box<ConnectionError>,
    },
    /// The broker will not let the controller hear its devices.
    #[error("{address} refuses the subscription to `{filter}`: its access list must let the controller read it")]
    Subscription {
        /// Where.
        address: BrokerAddress,
        /// To what.
        filter: String,
    },
    /// rumqttc's queue is closed, or full, which the limits rule out.
    #[error("the connection to {address} takes no more requests")]
    Stuck {
        /// Where.
        address: BrokerAddress,
        /// The reason.
        #[source]
        source: Box<ClientError>,
    },
    /// What should be told cannot be worked out.
    #[error("the thread that works out what to tell the broker died")]
    Source,
    /// Nobody takes up what devices say.
    #[error("the ingest has stopped")]
    Ingest,
}

impl ConnectionFailed {
    /// Whether the broker was reached: then it may hold something.
    #[must_use]
    pub fn was_connected(&self) -> bool {
        !matches!(self, Self::Connect { .. })
    }
}

/// Publishes on their way, in the order in which they were handed over.
#[derive(Debug, Default)]
struct Flight {
    handed: VecDeque<Item>,
    sent: HashMap<u16, Item>,
}

/// What the two halves of a connection share.
struct Shared<'a> {
    link: &'a Link,
    target: &'a Target,
    client: AsyncClient,
    flight: Mutex<Flight>,
    slots: Semaphore,
    scan: Mutex<Option<Scan>>,
    /// The broker answered the subscription of the scan, or told something of it.
    scanned: Notify,
}

impl Shared<'_> {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scan(&self) -> MutexGuard<'_, Option<Scan>> {
        self.scan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stuck(&self, source: ClientError) -> ConnectionFailed {
        ConnectionFailed::Stuck { address: self.target.address.clone(), source: Box::new(source) }
    }
}

/// Connects and holds the connection until it breaks. `empty` says that the broker is known to hold nothing.
pub async fn hold(link: &Link, target: &Target, empty: bool) -> ConnectionFailed {
    let (client, mut eventloop) = AsyncClient::new(target.options(), usize::from(MAX_IN_FLIGHT).saturating_mul(2));
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_TIMEOUT_S).set_tcp_nodelay(true);
    eventloop.set_network_options(network);
    // The first event of a new event loop is the broker's answer to the login.
    if let Err(source) = eventloop.poll().await {
        return ConnectionFailed::Connect { address: target.address.clone(), source: Box::new(source) };
    }
    let shared = Shared {
        link,
        target,
        client,
        flight: Mutex::default(),
        slots: Semaphore::new(usize::from(MAX_IN_FLIGHT)),
        scan: Mutex::new(None),
        scanned: Notify::new(),
    };
    // All three run in this task; the first that fails ends the connection, and what was in flight is told again.
    tokio::select! {
        failed = listen(&shared, eventloop) => failed,
        failed = speak(&shared) => failed,
        failed = refill(&shared, empty) => failed,
    }
}

/// Hands waiting topics to rumqttc, as many at once as the broker may leave unconfirmed.
async fn speak(shared: &Shared<'_>) -> ConnectionFailed {
    let link = shared.link;
    loop {
        let Ok(slot) = shared.slots.acquire().await else { return ConnectionFailed::Ingest };
        let item = loop {
            match link.outbox.take(link.fleet.as_ref()) {
                Some(item) => break item,
                None => link.outbox.changed().await,
            }
        };
        slot.forget();
        link.metrics.outbox.set(i64::try_from(link.outbox.len()).unwrap_or(i64::MAX));
        let (fleet, asked) = (Arc::clone(&link.fleet), item.clone());
        // Blobs are read from disk and checked on the way.
        let Ok(payload) = tokio::task::spawn_blocking(move || fleet.payload(&asked)).await else {
            return ConnectionFailed::Source;
        };
        let Ok(payload) = payload.map(Option::unwrap_or_default) else {
            link.outbox.confirm(&item);
            shared.slots.add_permits(1);
            continue;
        };
        if payload.len() > MAX_PAYLOAD_BYTES {
            // A broker would cut the connection for it, again and again.
            tracing::error!(?item, bytes = payload.len(), "a message is too large for any broker and is not sent");
            link.outbox.confirm(&item);
            shared.slots.add_permits(1);
            continue;
        }
        link.metrics.published.get_or_create(&KindLabel { kind: item.kind() }).inc();
        if matches!(item, Item::Blob(_)) {
            link.metrics.blob_bytes_published.inc_by(u64::try_from(payload.len()).unwrap_or_default());
        }
        let topic = link.topics.name(&item.topic());
        shared.flight().handed.push_back(item);
        if let Err(source) = shared.client.publish_bytes(topic, QoS::AtLeastOnce, true, Bytes::from(payload)).await {
            return shared.stuck(source);
        }
    }
}

/// Takes what the broker says.
async fn listen(shared: &Shared<'_>, mut eventloop: EventLoop) -> ConnectionFailed {
    loop {
        match eventloop.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(id))) => {
                let mut flight = shared.flight();
                if let Some(item) = flight.handed.pop_front() {
                    flight.sent.insert(id, item);
                }
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                let item = shared.flight().sent.remove(&ack.pkid);
                if let Some(item) = item {
                    shared.link.outbox.confirm(&item);
                    shared.slots.add_permits(1);
                }
            }
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                if let Some(failed) = subscribed(shared, &ack.return_codes) {
                    return failed;
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let inbound = Inbound { topic: publish.topic, payload: publish.payload, retained: publish.retain };
                if let Err(failed) = heard(shared, inbound).await {
                    return failed;
                }
            }
            Ok(_) => (),
            Err(source) => {
                return ConnectionFailed::Lost { address: shared.target.address.clone(), source: Box::new(source) };
            }
        }
    }
}

/// The first answer is to the subscription to devices, the second to that of a scan.
fn subscribed(shared: &Shared<'_>, codes: &[SubscribeReasonCode]) -> Option<ConnectionFailed> {
    let scanning = shared.scan().is_some();
    let refused = codes.iter().position(|code| matches!(code, SubscribeReasonCode::Failure));
    if scanning {
        if refused.is_some() {
            tracing::warn!("the broker does not let the controller read what it holds; it is told everything");
        }
        if let Some(scan) = shared.scan().as_mut() {
            scan.answered();
        }
        shared.scanned.notify_one();
        return None;
    }
    if let Some(index) = refused {
        let filter = device_filters(shared.link).into_iter().nth(index).unwrap_or_default();
        return Some(ConnectionFailed::Subscription { address: shared.target.address.clone(), filter });
    }
    tracing::info!(broker = %shared.target.address, "connected to the broker");
    shared.link.metrics.broker_connections.inc();
    shared.link.metrics.broker_connected.set(1);
    shared.link.fleet.set_listening(true);
    shared.link.connected.send_replace(true);
    None
}

/// Ours go to the scan, those of devices to the ingest. A full ingest stops the reading, and so the broker: that is
/// the flow control, and the ingest never waits for this connection.
async fn heard(shared: &Shared<'_>, inbound: Inbound) -> Result<(), ConnectionFailed> {
    let topic = shared.link.topics.parse(&inbound.topic).ok();
    if inbound.payload.len() > MAX_PAYLOAD_BYTES {
        // Refused here: a queue of such would be a lot of memory.
        shared.link.metrics.refuse(topic.as_ref().map_or("unknown", kind), "oversized");
        return Ok(());
    }
    match topic.and_then(Item::of) {
        Some(item) => {
            if let Some(scan) = shared.scan().as_mut() {
                scan.found(item, &inbound.payload);
                shared.scanned.notify_one();
            }
            Ok(())
        }
        None => shared
            .link
            .inbound
            .send(inbound)
            .await
            .map_err(|_closed: mpsc::error::SendError<_>| ConnectionFailed::Ingest),
    }
}

fn kind(topic: &Topic) -> &'static str {
    match topic {
        Topic::Report(_) => "report",
        Topic::Stats(_) => "stats",
        Topic::Alive(_) => "alive",
        Topic::Desired(_) | Topic::Ack(_) | Topic::Blob(_) | Topic::Trust(_) => "own",
    }
}

fn device_filters(link: &Link) -> Vec<String> {
    ["report", "stats", "alive"].map(|kind| link.topics.of_all_devices(kind)).to_vec()
}

async fn subscribe(shared: &Shared<'_>, filters: Vec<String>, qos: QoS) -> Result<(), ConnectionFailed> {
    let filters = filters.into_iter().map(|filter| SubscribeFilter::new(filter, qos));
    shared.client.subscribe_many(filters).await.map_err(|source| shared.stuck(source))
}

/// Subscribes to devices, and brings what the broker holds to what it should hold; then there is nothing more to do.
async fn refill(shared: &Shared<'_>, empty: bool) -> ConnectionFailed {
    match reconciled(shared, empty).await {
        Ok(()) => std::future::pending().await,
        Err(failed) => failed,
    }
}

async fn reconciled(shared: &Shared<'_>, empty: bool) -> Result<(), ConnectionFailed> {
    let link = shared.link;
    subscribe(shared, device_filters(link), QoS::AtLeastOnce).await?;
    let scan = if empty { None } else { Some(scanned(shared).await?) };
    let (fleet, outbox) = (Arc::clone(&link.fleet), Arc::clone(&link.outbox));
    // Manifests and blobs are read from disk.
    let filled = tokio::task::spawn_blocking(move || {
        let missing = match scan {
            None => fleet.wanted(),
            Some(scan) => {
                let differences = reconcile::differences(fleet.as_ref(), &scan);
                let count = differences.len();
                tracing::info!(differences = count, "compared what the broker holds with what it should");
                differences
            }
        };
        outbox.refill(missing, &fleet.live());
    });
    filled.await.map_err(|_panicked| ConnectionFailed::Source)?;
    link.metrics.reconciliations.inc();
    Ok(())
}

/// What the broker holds of the controller's topics.
async fn scanned(shared: &Shared<'_>) -> Result<Scan, ConnectionFailed> {
    let link = shared.link;
    link.outbox.note_recent();
    // Until the answer to the first subscription has come, a second could be taken for it.
    let mut connected = link.connected.subscribe();
    drop(connected.wait_for(|connected| *connected).await);
    *shared.scan() = Some(Scan::default());
    let filters = reconcile::filters(&link.topics);
    // QoS 0: nothing is lost by a message that is not seen but a publish that was not needed.
    subscribe(shared, filters.clone(), QoS::AtMostOnce).await?;
    reconcile::settled(&shared.scanned, || shared.scan().as_ref().is_some_and(Scan::is_answered)).await;
    let scan = shared.scan().take().unwrap_or_default();
    for filter in filters {
        shared.client.unsubscribe(filter).await.map_err(|source| shared.stuck(source))?;
    }
    Ok(scan)
}
