//! What this box says, signed with its own key.

use crate::identity::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::SecretKey;
use fieldpost_shared::wire::names::device_client;
use fieldpost_shared::wire::seal;
use fieldpost_shared::wire::v1::{Alive, BrokerToken, Report, Sequence, Stats, Window};
use std::time::Duration;

/// How long a broker password is valid. Short, since a broker that is overheard gives it away.
const TOKEN_LIFE: Duration = Duration::from_secs(600);
/// How far the clocks of box and controller may be apart.
const TOKEN_SKEW: Duration = Duration::from_secs(300);

/// Signs the statements of one device.
#[derive(Debug, Clone)]
pub struct Speaker {
    identity: Identity,
    key: SecretKey,
}

impl Speaker {
    /// A speaker for an identity.
    #[must_use]
    pub fn new(identity: Identity, key: SecretKey) -> Self {
        Self { identity, key }
    }

    /// Who speaks.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The MQTT client id: a second agent with the same identity takes the line over, as MQTT has it.
    #[must_use]
    pub fn client_id(&self) -> String {
        device_client(&self.identity.fleet, &self.identity.device)
    }

    /// The password at the broker.
    #[must_use]
    pub fn password(&self, now: Timestamp) -> String {
        let token = BrokerToken {
            fleet: self.identity.fleet.clone(),
            device: self.identity.device.clone(),
            client_id: self.client_id(),
            issued: now.minus(TOKEN_SKEW),
            expires: now.plus(TOKEN_LIFE),
        };
        URL_SAFE_NO_PAD.encode(sealed(seal(&token, &self.key)))
    }

    /// Birth or death of a session.
    #[must_use]
    pub fn alive(&self, session: Sequence, alive: bool, since: Timestamp) -> Vec<u8> {
        let (fleet, device) = (self.identity.fleet.clone(), self.identity.device.clone());
        sealed(seal(&Alive { fleet, device, session, alive, since }, &self.key))
    }

    /// A report.
    #[must_use]
    pub fn report(&self, report: &Report) -> Vec<u8> {
        sealed(seal(report, &self.key))
    }

    /// Closed windows.
    #[must_use]
    pub fn stats(&self, epoch: u64, windows: Vec<Window>) -> Vec<u8> {
        let (fleet, device) = (self.identity.fleet.clone(), self.identity.device.clone());
        sealed(seal(&Stats { fleet, device, epoch, windows }, &self.key))
    }
}

fn sealed<E>(result: Result<Vec<u8>, E>) -> Vec<u8> {
    // The bodies are plain data of known length: postcard has no way to fail on them. An empty payload would clear a
    // retained message, which verifies as nothing.
    result.unwrap_or_default()
}
