//! One MQTT 3.1.1 connection (QoS 1, clean session) over rumqttc, polled by a task of its own.

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ClientError, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    NetworkOptions, Packet, QoS, StateError, SubscribeFilter, TlsConfiguration, Transport,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Largest packet in either direction: a payload of 120 KiB, its topic, and the header.
pub const MAX_PACKET_BYTES: usize = 128 * 1024;
/// Requests that may wait for the socket; when they do not fit, the line is stuck.
const REQUESTS: usize = 1_024;
/// Events that may wait for us; then the socket is not read, and TCP holds the broker back.
const EVENTS: usize = 64;

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS, when the broker speaks it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The client id.
    pub client_id: String,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Between pings.
    pub keep_alive: Duration,
    /// Topic and payload that the broker publishes, retained, when the connection dies.
    pub will: Option<(String, Vec<u8>)>,
    /// QoS 1 publishes that may wait for their PUBACK.
    pub inflight: u16,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker said no to who we are.
    #[error("the broker refused the login ({0:?})")]
    Refused(ConnectReturnCode),
    /// The broker ended it by a packet that no MQTT 3.1.1 broker sends.
    #[error(
        "the broker ended the connection, as it does when it stops, or when another client comes with this one's id"
    )]
    Ended,
    /// Anything else.
    #[error("no connection to the broker")]
    Lost(#[source] Box<ConnectionError>),
    /// The broker did not answer.
    #[error("the broker did not answer within {0:?}")]
    Silent(Duration),
}

/// What comes in.
#[derive(Debug)]
pub enum Incoming {
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Bytes,
        /// Whether it stood there before we subscribed.
        retained: bool,
    },
    /// The broker has one of our publishes.
    Published,
    /// The broker refused one of our subscriptions.
    SubscriptionRefused,
    /// The connection is over.
    Lost(ConnectError),
}

/// Our queue to the socket is full: the line is stuck, reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line to the broker is stuck")]
pub struct Stuck;

impl From<ClientError> for Stuck {
    fn from(_: ClientError) -> Self {
        Self
    }
}

/// An open connection. Dropping it closes the socket without a farewell.
#[derive(Debug)]
pub struct Connection {
    client: AsyncClient,
    events: mpsc::Receiver<Incoming>,
    poller: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

impl Connection {
    /// Connects, and returns when the broker has said yes.
    ///
    /// # Errors
    /// When it says no, or nothing.
    pub async fn open(options: ConnectOptions) -> Result<Self, ConnectError> {
        const PATIENCE: Duration = Duration::from_secs(15);
        let (client, mut eventloop) = AsyncClient::new(mqtt_options(options), REQUESTS);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(PATIENCE.as_secs());
        eventloop.set_network_options(network);
        match tokio::time::timeout(PATIENCE, eventloop.poll()).await {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {}
            Ok(Ok(_)) => return Err(ConnectError::Silent(PATIENCE)),
            Ok(Err(error)) => return Err(connect_error(error)),
            Err(_elapsed) => return Err(ConnectError::Silent(PATIENCE)),
        }
        let (sender, events) = mpsc::channel(EVENTS);
        #[allow(clippy::disallowed_methods, reason = "the connection owns this task and aborts it when it is dropped")]
        let poller = tokio::spawn(poll(eventloop, sender));
        Ok(Self { client, events, poller })
    }

    /// The next event; none when the connection is over and was reported so. Cancel-safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.events.recv().await
    }

    /// Queues a publish with QoS 1.
    ///
    /// # Errors
    /// When the line is stuck.
    pub fn publish(&self, topic: String, payload: Vec<u8>, retain: bool) -> Result<(), Stuck> {
        Ok(self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload)?)
    }

    /// Queues a subscription with QoS 1.
    ///
    /// # Errors
    /// When the line is stuck.
    pub fn subscribe(&self, topics: impl IntoIterator<Item = String>) -> Result<(), Stuck> {
        let filters: Vec<_> = topics.into_iter().map(|topic| SubscribeFilter::new(topic, QoS::AtLeastOnce)).collect();
        // Brokers bound the filters of one packet (AWS IoT Core: 8).
        for some in filters.chunks(8) {
            self.client.try_subscribe_many(some.to_vec())?;
        }
        Ok(())
    }

    /// Queues the end of a subscription.
    ///
    /// # Errors
    /// When the line is stuck.
    pub fn unsubscribe(&self, topic: String) -> Result<(), Stuck> {
        Ok(self.client.try_unsubscribe(topic)?)
    }

    /// Says farewell, so that the broker does not publish the will; waits for what is queued, at most `patience`.
    pub async fn close(mut self, patience: Duration) {
        if self.client.try_disconnect().is_ok() {
            let over =
                async { while self.events.recv().await.is_some_and(|event| !matches!(event, Incoming::Lost(_))) {} };
            drop(tokio::time::timeout(patience, over).await);
        }
    }
}

fn mqtt_options(options: ConnectOptions) -> MqttOptions {
    let mut mqtt = MqttOptions::new(options.client_id, options.host, options.port);
    mqtt.set_keep_alive(options.keep_alive)
        .set_clean_session(true)
        .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
        .set_inflight(options.inflight);
    if let Some((user, password)) = options.login {
        mqtt.set_credentials(user, password);
    }
    if let Some((topic, payload)) = options.will {
        mqtt.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
    }
    if let Some(tls) = options.tls {
        mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    mqtt
}

fn connect_error(error: ConnectionError) -> ConnectError {
    match error {
        ConnectionError::ConnectionRefused(code) => ConnectError::Refused(code),
        // A broker of MQTT 5 says DISCONNECT, with its reason, to clients of 3.1.1 too.
        ConnectionError::MqttState(StateError::WrongPacket) => ConnectError::Ended,
        other => ConnectError::Lost(Box::new(other)),
    }
}

async fn poll(mut eventloop: EventLoop, events: mpsc::Sender<Incoming>) {
    loop {
        let (event, last) = match eventloop.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let (topic, payload, retained) = (publish.topic, publish.payload, publish.retain);
                (Incoming::Message { topic, payload, retained }, false)
            }
            Ok(Event::Incoming(Packet::PubAck(_))) => (Incoming::Published, false),
            Ok(Event::Incoming(Packet::SubAck(ack)))
                if ack.return_codes.iter().any(|code| matches!(code, rumqttc::SubscribeReasonCode::Failure)) =>
            {
                (Incoming::SubscriptionRefused, false)
            }
            // A second ConnAck would be a connection that this loop made again by itself: ours is over.
            Ok(Event::Incoming(Packet::ConnAck(_)) | Event::Outgoing(rumqttc::Outgoing::Disconnect)) => {
                (Incoming::Lost(ConnectError::Lost(Box::new(ConnectionError::RequestsDone))), true)
            }
            Ok(_) => continue,
            Err(error) => (Incoming::Lost(connect_error(error)), true),
        };
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}
