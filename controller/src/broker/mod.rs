//! The embedded broker: mqtt5, closed by default and bounded everywhere.
//!
//! **Nothing of it is on disk.** mqtt5's own persistence acknowledges messages that a kill within 0.3 s still loses (tried:
//! 0 of 500 survived), so it could not be relied upon; and it need not be: the controller's store is the truth, every start
//! begins with an empty broker, and the link tells it everything again. Measured with `cargo bench -p fieldpost-tests
//! --bench controller` on two busy cores: 1,000 desired states and 21 MB of chunks are there again after 0.2 s.
//!
//! What is set, because the defaults are permissive: anonymous logins (the [`door`] decides every login), packets up to
//! 256 MiB, unlimited retained messages and queues, `$SYS` topics. Rate limits stay off on purpose: mqtt5 answers a
//! publish beyond them, as one beyond the retained limits, with a plain PUBACK in MQTT 3.1.1, so that the sender takes
//! a lost message for a delivered one. One that the [`door`] refuses is answered, in 3.1.1 too, by a PUBACK with the
//! reason and properties of MQTT 5; mqtt5 leaves no way to end the connection instead.

pub mod door;
pub mod tls_front;

use crate::config::TlsFiles;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::tls::TlsError;
use door::{Door, Login};
use fieldpost_shared::bundle::chunk::MAX_PAYLOAD_BYTES;
use fieldpost_shared::id::{DeviceId, FleetId};
use fieldpost_shared::time::Clock;
use fieldpost_shared::wire::Topics;
use fieldpost_shared::wire::names::device_client;
use mqtt5::broker::auth::AuthProvider;
use mqtt5::broker::config::{AuthConfig, RateLimitConfig, StorageBackend, StorageConfig};
use mqtt5::broker::resource_monitor::ResourceLimits;
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::{BrokerConfig, MqttBroker};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tls_front::TlsFront;
use tokio_util::sync::CancellationToken;

/// Largest packet: the largest payload, a topic and headers.
const MAX_PACKET_BYTES: usize = MAX_PAYLOAD_BYTES + 4 * 1024;
/// Messages that wait for one client.
const MAX_QUEUED: usize = 4_096;
/// Bytes that wait for one client.
const MAX_QUEUED_BYTES: usize = 32 << 20;
/// Retained messages in all. A million is 15 GB of chunks; it is there so that there is a limit.
const MAX_RETAINED: usize = 1_000_000;
/// Filters of one client: a window of chunks, and a few of its own.
const MAX_SUBSCRIPTIONS: usize = 512;
/// How long the session of a device that is away is kept.
const SESSION_EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// Why there is no embedded broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The port is taken, or not allowed.
    #[error("cannot listen for MQTT on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use TLS for the broker")]
    Tls(#[source] TlsError),
    /// mqtt5 would not start.
    #[error("cannot start the embedded broker")]
    Start(#[source] mqtt5::MqttError),
    /// mqtt5 stopped by itself.
    #[error("the embedded broker stopped")]
    Stopped(#[source] mqtt5::MqttError),
    /// mqtt5 stopped by itself, and gave no reason.
    #[error("the embedded broker stopped without a reason")]
    Ended,
}

/// What the broker is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Where devices connect.
    pub listen: SocketAddr,
    /// Most clients at once.
    pub max_clients: usize,
    /// Certificate and key.
    pub tls: Option<&'a TlsFiles>,
    /// Who belongs.
    pub fleet: Arc<Fleet>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names of topics.
    pub topics: Topics,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A broker that listens, and serves once it runs.
pub struct Broker {
    broker: MqttBroker,
    front: Option<TlsFront>,
    login: Login,
    fleet: FleetId,
    public: SocketAddr,
    inner: SocketAddr,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("public", &self.public).field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Cuts the connections of devices that do not belong any more.
#[derive(Clone)]
pub struct Disconnect {
    router: Arc<MessageRouter>,
    fleet: FleetId,
}

impl std::fmt::Debug for Disconnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disconnect")
    }
}

impl Disconnect {
    /// Cuts a device's connection, if it has one.
    pub async fn device(&self, device: &DeviceId) {
        self.router.disconnect_client(&device_client(&self.fleet, device)).await;
    }
}

impl Broker {
    /// Takes the ports. With TLS, mqtt5 listens on a port of loopback alone, and devices come in by the front.
    ///
    /// # Errors
    /// When a port is taken, or the certificate cannot be used.
    pub async fn bind(parts: Parts<'_>) -> Result<Self, BrokerError> {
        let front = match parts.tls {
            Some(files) => Some(TlsFront::bind(parts.listen, files).await?),
            None => None,
        };
        let inner = if front.is_some() { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) } else { parts.listen };
        // mqtt5 tells a taken port only in prose.
        let listen = |source| BrokerError::Listen { address: inner, source };
        TcpListener::bind(inner).map(drop).map_err(listen)?;
        let login = Login::new().map_err(|source| BrokerError::Listen { address: inner, source: source.into() })?;
        let fleet = parts.fleet.trust().root().fleet.clone();
        let door = Door::new(parts.fleet, parts.clock, parts.topics, parts.metrics, login.clone());
        let config = config(inner, parts.max_clients);
        let broker = MqttBroker::with_config(config).await.map_err(BrokerError::Start)?;
        broker.resource_monitor().update_limits(ResourceLimits {
            max_connections: parts.max_clients,
            // Behind the front every device has the same address.
            max_connections_per_ip: parts.max_clients,
            max_message_rate_per_client: 0,
            max_bandwidth_per_client: 0,
            max_connection_rate: 2_000,
            rate_limit_window: Duration::from_secs(1),
        });
        let broker = broker.with_auth_provider(Arc::new(door) as Arc<dyn AuthProvider>);
        let inner = broker.local_addr().unwrap_or(inner);
        let public = front.as_ref().map_or(inner, TlsFront::address);
        Ok(Self { broker, front, login, fleet, public, inner })
    }

    /// Where devices connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.public
    }

    /// Where the controller itself connects, on loopback.
    #[must_use]
    pub fn inner_address(&self) -> SocketAddr {
        self.inner
    }

    /// How the controller itself logs in.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// What cuts connections.
    #[must_use]
    pub fn disconnect(&self) -> Disconnect {
        Disconnect { router: self.broker.router(), fleet: self.fleet.clone() }
    }

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// When mqtt5 stops by itself.
    pub async fn run(self, stop: CancellationToken) -> Result<(), BrokerError> {
        let Self { mut broker, front, inner, .. } = self;
        let (handle, mut ready) = (broker.shutdown_handle(), broker.ready_receiver());
        let serve = async {
            match broker.run().await {
                Ok(()) if stop.is_cancelled() => Ok(()),
                Ok(()) => Err(BrokerError::Ended),
                Err(error) => Err(BrokerError::Stopped(error)),
            }
        };
        let halt = async {
            match front {
                Some(front) => front.run(inner, stop.clone()).await,
                None => stop.cancelled().await,
            }
            // A signal before mqtt5 listens for it would be lost.
            drop(ready.wait_for(|ready| *ready).await);
            handle.shutdown();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = serve => ended,
            () = halt => Ok(()),
        }
    }
}

fn config(listen: SocketAddr, max_clients: usize) -> BrokerConfig {
    let mut config = BrokerConfig::new().with_bind_address(listen);
    config.max_clients = max_clients;
    config.session_expiry_interval = SESSION_EXPIRY;
    config.max_packet_size = MAX_PACKET_BYTES;
    config.topic_alias_maximum = 0;
    config.maximum_qos = 1;
    config.shared_subscription_available = false;
    config.subscription_identifier_available = false;
    config.max_subscriptions_per_client = MAX_SUBSCRIPTIONS;
    config.max_retained_messages = MAX_RETAINED;
    config.max_retained_message_size = MAX_PAYLOAD_BYTES;
    config.client_channel_capacity = 256;
    config.max_outbound_inflight = 64;
    config.server_receive_maximum = Some(64);
    config.sys_topics_enabled = false;
    // mqtt5 asks for a provider of its own at first; the door takes its place before the first connection is served.
    config.auth_config = AuthConfig {
        allow_anonymous: true,
        rate_limit: RateLimitConfig { enabled: false, ..RateLimitConfig::default() },
        ..AuthConfig::default()
    };
    config.storage_config = StorageConfig {
        backend: StorageBackend::Memory,
        enable_persistence: true,
        max_queued_messages_per_client: MAX_QUEUED,
        max_queued_bytes_per_client: MAX_QUEUED_BYTES,
        ..StorageConfig::default()
    };
    config
}

#[cfg(test)]
mod live_tests;
