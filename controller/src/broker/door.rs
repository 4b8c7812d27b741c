//! Who may connect to the embedded broker, and which topics each may touch.
//!
//! A device's password is a [`BrokerToken`]: a statement that its key made a short while ago, for its client id. It
//! publishes its own report, statistics and births; it hears its own desired state and acknowledgement, and what is
//! for all. The controller logs in with 32 random bytes that never leave the process.

use crate::fleet::Fleet;
use crate::metrics::{KindLabel, Metrics};
use crate::tokens::{same, secret};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::wire::names::{device_at, device_client};
use fieldpost_shared::wire::v1::BrokerToken;
use fieldpost_shared::wire::{Topic, Topics, open_device};
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The controller's user name; no device can have it.
pub const CONTROLLER: &str = "$controller";
/// How far a device's clock may run ahead.
const SKEW: Duration = Duration::from_secs(5 * 60);
/// Longest time a token may open the door.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Largest death notice.
const MAX_WILL_BYTES: usize = 4 * 1024;
/// Longest password that is looked at.
const MAX_PASSWORD_BYTES: usize = 4 * 1024;

/// How the controller logs in. Never printed.
#[derive(Clone)]
pub struct Login {
    password: String,
    client: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Login {
    /// A new one, unguessable.
    ///
    /// # Errors
    /// When the machine gives no random numbers.
    pub fn new() -> Result<Self, getrandom::Error> {
        let password = secret()?;
        // Upper case: no device's client id can displace this session.
        let client = format!("Controller-{}", Digest::of(secret()?.as_bytes()).short());
        Ok(Self { password, client })
    }

    /// User name and password.
    #[must_use]
    pub fn credentials(&self) -> (&str, &str) {
        (CONTROLLER, &self.password)
    }

    /// Client id.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }
}

/// Decides logins and topics.
#[derive(Debug)]
pub struct Door {
    fleet: Arc<Fleet>,
    clock: Arc<dyn Clock>,
    topics: Topics,
    metrics: Arc<Metrics>,
    login: Login,
}

/// Why a login is refused; the reason is a label of counters.
type Refused = &'static str;

impl Door {
    /// A door to a fleet.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, clock: Arc<dyn Clock>, topics: Topics, metrics: Arc<Metrics>, login: Login) -> Self {
        Self { fleet, clock, topics, metrics, login }
    }

    fn admit(&self, user: &str, password: &[u8], connect: &ConnectPacket) -> Result<(), Refused> {
        if user == CONTROLLER {
            let right = same(&Digest::of(password), &Digest::of(self.login.password.as_bytes()));
            return if right { Ok(()) } else { Err("password") };
        }
        let device = device_at(user).map_err(|_not_a_name| "name")?;
        let fleet = &self.fleet.trust().root().fleet;
        if connect.client_id != device_client(fleet, &device) {
            return Err("client-id");
        }
        let key = self.fleet.devices().active_key(&device).ok_or("unknown-device")?;
        if password.len() > MAX_PASSWORD_BYTES {
            return Err("token");
        }
        let sealed = URL_SAFE_NO_PAD.decode(password).map_err(|_not_base64| "token")?;
        let token: BrokerToken = open_device(&sealed, fleet, &device, &key).map_err(|_refused| "token")?;
        check_token(&token, &connect.client_id, self.clock.now())?;
        if let Some(will) = &connect.will {
            let own = self.topics.parse(&will.topic) == Ok(Topic::Alive(device));
            if !own || will.payload.len() > MAX_WILL_BYTES {
                return Err("will");
            }
        }
        Ok(())
    }

    fn may_publish(&self, user: &str, topic: &str) -> bool {
        if user == CONTROLLER {
            return true;
        }
        let Ok(device) = device_at(user) else { return false };
        let own = matches!(
            self.topics.parse(topic),
            Ok(Topic::Report(of) | Topic::Stats(of) | Topic::Alive(of)) if of == device
        );
        own && self.fleet.devices().active_key(&device).is_some()
    }

    fn may_subscribe(&self, user: &str, filter: &str) -> bool {
        if user == CONTROLLER {
            return true;
        }
        let Ok(device) = device_at(user) else { return false };
        let for_all = [self.topics.all("blob"), self.topics.all("trust")].iter().any(|all| all == filter);
        let meant = match self.topics.parse(filter) {
            Ok(Topic::Desired(of) | Topic::Ack(of)) => of == device,
            Ok(Topic::Blob(_) | Topic::Trust(_)) => true,
            Ok(Topic::Report(_) | Topic::Stats(_) | Topic::Alive(_)) | Err(_) => false,
        };
        (for_all || meant) && self.fleet.devices().active_key(&device).is_some()
    }
}

/// Whether a believed token opens the door now.
fn check_token(token: &BrokerToken, connected_as: &str, now: Timestamp) -> Result<(), Refused> {
    if token.client_id != connected_as {
        return Err("client-id");
    }
    if token.expires.since(token.issued) > MAX_TOKEN_LIFETIME || token.expires < token.issued {
        return Err("lifetime");
    }
    if token.issued > now.plus(SKEW) {
        return Err("not-yet");
    }
    if token.expires < now { Err("expired") } else { Ok(()) }
}

impl AuthProvider for Door {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        address: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = mqtt5::Result<AuthResult>> + Send + 'a>> {
        // One signature, some 50 microseconds per connection: not worth a thread of its own.
        let user = connect.username.as_deref().unwrap_or_default();
        let password = connect.password.as_deref().unwrap_or_default();
        let result = match self.admit(user, password, connect) {
            Ok(()) => AuthResult::success_with_user(user),
            Err(reason) => {
                self.metrics.refuse_login(reason);
                let user: String = user.chars().take(80).collect();
                tracing::info!(%address, user, reason, "a login at the broker is refused");
                AuthResult::fail(ReasonCode::BadUsernameOrPassword)
            }
        };
        Box::pin(ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        user_id: Option<&'a str>,
        topic: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        let allowed = user_id.is_some_and(|user| self.may_publish(user, topic));
        if !allowed {
            self.metrics.topics_refused.get_or_create(&KindLabel { kind: "publish" }).inc();
        }
        Box::pin(ready(allowed))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        user_id: Option<&'a str>,
        filter: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        let allowed = user_id.is_some_and(|user| self.may_subscribe(user, filter));
        if !allowed {
            self.metrics.topics_refused.get_or_create(&KindLabel { kind: "subscribe" }).inc();
        }
        Box::pin(ready(allowed))
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
