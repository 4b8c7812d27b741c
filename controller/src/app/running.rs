//! What the API asks of a running controller beyond its books.

use crate::api::Running;
use crate::api::types::{Device, DeviceStats, MqttEndpoint, Take};
use crate::config::{Broker, BrokerAddress, Config};
use crate::fleet::devices::{DeviceError, DeviceRecord};
use crate::fleet::{Fleet, FleetError};
use crate::store::StoreError;
use fieldpost_shared::id::{DeviceId, Digest, ModelName};
use fieldpost_shared::time::Timestamp;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// Where devices are sent for MQTT.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Advertised {
    /// A fixed address.
    Fixed(BrokerAddress),
    /// The host at which the device reached the API, and the broker's port.
    SameHost { port: u16, tls: bool },
}

/// The running controller.
#[derive(Debug)]
pub(super) struct Controller {
    fleet: Arc<Fleet>,
    connected: watch::Receiver<bool>,
    advertised: Advertised,
}

impl Controller {
    pub(super) fn new(
        fleet: Arc<Fleet>,
        connected: watch::Receiver<bool>,
        config: &Config,
        mqtt: Option<SocketAddr>,
    ) -> Self {
        Self { fleet, connected, advertised: advertised(config, mqtt) }
    }
}

fn advertised(config: &Config, mqtt: Option<SocketAddr>) -> Advertised {
    match &config.broker {
        Broker::External(external) => Advertised::Fixed(external.advertise.clone()),
        Broker::Embedded { listen, advertise_host, .. } => {
            let (address, tls) = (mqtt.unwrap_or(*listen), config.tls.is_some());
            match advertise_host {
                Some(host) => Advertised::Fixed(BrokerAddress { host: host.clone(), port: address.port(), tls }),
                None if address.ip().is_unspecified() => Advertised::SameHost { port: address.port(), tls },
                // A certificate is for a name, not for an address.
                None if tls => Advertised::SameHost { port: address.port(), tls },
                None => Advertised::Fixed(BrokerAddress { host: address.ip().to_string(), port: address.port(), tls }),
            }
        }
    }
}

impl Running for Controller {
    fn device(&self, record: &DeviceRecord) -> Device {
        self.fleet.device(record)
    }

    fn revoke(&self, actor: &str, device: &DeviceId) -> Result<Arc<DeviceRecord>, DeviceError> {
        self.fleet.revoke(actor, device)
    }

    fn may_accept(&self, device: &DeviceId, take: Take) -> Result<(), FleetError> {
        self.fleet.may_accept(device, take)
    }

    fn accept(&self, actor: &str, device: &DeviceId, take: Take) -> Result<(), FleetError> {
        self.fleet.accept(actor, device, take)
    }

    fn counts(&self, manifest: &Digest) -> (usize, usize) {
        self.fleet.counts(manifest)
    }

    fn stats(
        &self,
        device: Option<&DeviceId>,
        model: Option<&ModelName>,
        since: Timestamp,
    ) -> Result<Vec<DeviceStats>, StoreError> {
        self.fleet.stats(device, model, since)
    }

    fn broker_connected(&self) -> bool {
        *self.connected.borrow()
    }

    fn endpoint(&self, host: Option<&str>) -> MqttEndpoint {
        match &self.advertised {
            Advertised::Fixed(BrokerAddress { host, port, tls }) => {
                MqttEndpoint { host: host.clone(), port: *port, tls: *tls }
            }
            Advertised::SameHost { port, tls } => {
                MqttEndpoint { host: host.unwrap_or("localhost").to_owned(), port: *port, tls: *tls }
            }
        }
    }
}
