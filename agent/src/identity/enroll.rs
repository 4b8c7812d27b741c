//! Enrolment: a token and the device's public key go to the controller, the fleet's root of trust comes back.

use super::{Broker, Identity};
use fieldpost_shared::id::{DeviceId, Digest, FleetId};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::{PublicKey, RootError, SignedRoot};
use fieldpost_shared::wire::v1::Inventory;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// What the device sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// An enrolment token; empty asks an operator for approval.
    #[serde(default)]
    pub token: String,
    /// The device's public key, base64.
    pub public_key: PublicKey,
    /// The name the device wishes for; without it the controller makes one of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Labels the device proposes; those of the token win.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the box is.
    #[serde(default)]
    pub inventory: Option<Inventory>,
}

impl fmt::Debug for EnrollRequest {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollRequest")
            .field("device", &self.device)
            .field("public_key", &self.public_key)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// Whether a device belongs to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceStatus {
    /// It asked; nobody has approved it.
    Pending,
    /// It belongs.
    Active,
    /// It belonged; its key opens nothing any more.
    Revoked,
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Revoked => "revoked",
        })
    }
}

/// What the controller answers: 200 with everything, or 202 and no roots while the device waits for approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// Whether the device is in, or waits for an operator.
    pub status: DeviceStatus,
    /// The device's name.
    pub device: DeviceId,
    /// The fleet.
    pub fleet: FleetId,
    /// Signed root metadata from version 1 to the newest, each a DSSE envelope. Empty while pending.
    #[serde(default)]
    pub roots: Vec<Value>,
    /// Where the broker is.
    pub mqtt: Broker,
    /// Prefix of all topics.
    pub topic_prefix: String,
    /// The controller's clock.
    pub time: Timestamp,
    /// sha256 of the device's key, for an operator to compare.
    pub fingerprint: Digest,
}

/// Enrolment failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The controller cannot be reached.
    #[error("cannot reach the controller at {url}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The controller's address is none.
    #[error("`{url}` is not the address of a controller")]
    Address {
        /// What was given.
        url: String,
    },
    /// What anybody on the way could read and change.
    #[error(
        "enrolment over plain HTTP at {url} would show the token, and let anybody on the way pose as the fleet\nnext: use https://, or, without a token, pin the fleet's root with --root-digest"
    )]
    Plain {
        /// Where the controller should be.
        url: String,
    },
    /// The controller said no.
    #[error("the controller refused the enrolment ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The answer is not what it should be.
    #[error("the controller's answer cannot be read")]
    Answer(#[source] serde_json::Error),
    /// The answer is larger than any enrolment.
    #[error("the controller's answer has more than {0} bytes")]
    TooLarge(usize),
    /// The root of trust does not hold.
    #[error("the fleet's root of trust does not hold")]
    Root(#[source] RootError),
    /// Nobody has approved the device yet.
    #[error(
        "device `{device}` waits for approval: compare fingerprint {fingerprint}, approve it with `fieldpost device approve {device}`, then run this again"
    )]
    Waiting {
        /// Its name.
        device: DeviceId,
        /// sha256 of its key.
        fingerprint: Digest,
    },
    /// No root came.
    #[error("the controller sent no root of trust")]
    NoRoot,
    /// Another root than the one that was pinned.
    #[error("the fleet's root is {found}, expected {expected}: not the fleet you meant, or its root was replaced")]
    Pinned {
        /// What the flag says.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A root of another fleet than the answer's.
    #[error("the answer is of fleet `{answer}`, its root of fleet `{root}`")]
    Fleet {
        /// From the answer.
        answer: FleetId,
        /// From the root.
        root: FleetId,
    },
    /// The HTTP client cannot be made, for instance of a wrong CA file.
    #[error("cannot set up HTTPS")]
    Client(#[source] reqwest::Error),
}

const MAX_ANSWER_BYTES: usize = 8 << 20;

/// An HTTP client that trusts a private CA where one is given, and that alone. It follows no redirect: the answer of
/// another host, perhaps over plain HTTP, is not the controller's.
///
/// # Errors
/// When the CA cannot be read.
pub fn http_client(ca_pem: Option<&[u8]>) -> Result<reqwest::Client, EnrollError> {
    let mut builder = reqwest::Client::builder()
        .timeout(std::time::Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(std::time::Duration::from_secs(10));
    if let Some(pem) = ca_pem {
        let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(EnrollError::Client)?;
        builder = builder.tls_certs_only(roots);
    }
    builder.build().map_err(EnrollError::Client)
}

/// Whether a host is this machine, by name or address.
#[must_use]
pub fn is_loopback(server: &Url) -> bool {
    match server.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// Over plain HTTP to another machine a token can be stolen and a root replaced. Where no token is sent and the root is
/// pinned there is nothing to steal or replace: whom to let in is then decided by the key's fingerprint.
fn check_transport(controller: &str, token: &str, pinned: Option<Digest>) -> Result<(), EnrollError> {
    let server = Url::parse(controller).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let server = server.ok_or_else(|| EnrollError::Address { url: controller.to_owned() })?;
    let harmless = token.is_empty() && pinned.is_some();
    if server.scheme() == "https" || is_loopback(&server) || harmless {
        Ok(())
    } else {
        Err(EnrollError::Plain { url: controller.to_owned() })
    }
}

/// Enrols at a controller; returns the identity and the chain of roots, checked.
///
/// # Errors
/// When the controller is away, would be asked in the clear, refuses, or sends a root that does not hold.
pub async fn enroll(
    client: &reqwest::Client,
    controller: &str,
    request: &EnrollRequest,
    pinned: Option<Digest>,
) -> Result<(Identity, Vec<SignedRoot>, Timestamp), EnrollError> {
    check_transport(controller, &request.token, pinned)?;
    let url = format!("{}/v1/enroll", controller.trim_end_matches('/'));
    let unreachable = |source| EnrollError::Unreachable { url: url.clone(), source };
    let mut response = client.post(&url).json(request).send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&part);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(EnrollError::TooLarge(MAX_ANSWER_BYTES));
        }
    }
    if !status.is_success() {
        return Err(EnrollError::Refused { status: status.as_u16(), message: refusal(&body) });
    }
    let answer: EnrollResponse = serde_json::from_slice(&body).map_err(EnrollError::Answer)?;
    if answer.status != DeviceStatus::Active {
        return Err(EnrollError::Waiting { device: answer.device, fingerprint: request.public_key.id() });
    }
    let roots = check_roots(&answer, pinned)?;
    let identity = Identity {
        device: answer.device,
        fleet: answer.fleet,
        broker: answer.mqtt,
        topic_prefix: answer.topic_prefix,
        controller: controller.trim_end_matches('/').to_owned(),
    };
    Ok((identity, roots, answer.time))
}

fn refusal(body: &[u8]) -> String {
    let error = serde_json::from_slice::<Value>(body).ok();
    let text = |key: &str| error.as_ref().and_then(|error| error.get(key)).and_then(|text| text.as_str());
    match (text("error"), text("hint")) {
        (Some(error), Some(hint)) => format!("{error}; {hint}"),
        (Some(error), None) => error.to_owned(),
        _ => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}

fn check_roots(answer: &EnrollResponse, pinned: Option<Digest>) -> Result<Vec<SignedRoot>, EnrollError> {
    let parse = |root: &Value| SignedRoot::parse(root.to_string().as_bytes()).map_err(EnrollError::Root);
    let roots = answer.roots.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let first = roots.first().ok_or(EnrollError::NoRoot)?;
    first.verify_self().map_err(EnrollError::Root)?;
    let found = Digest::of(&first.payload);
    if let Some(expected) = pinned.filter(|expected| *expected != found) {
        return Err(EnrollError::Pinned { expected, found });
    }
    if first.metadata.fleet != answer.fleet {
        return Err(EnrollError::Fleet { answer: answer.fleet.clone(), root: first.metadata.fleet.clone() });
    }
    for (before, after) in roots.iter().zip(roots.iter().skip(1)) {
        after.verify_after(&before.metadata).map_err(EnrollError::Root)?;
    }
    Ok(roots)
}

#[cfg(test)]
#[path = "enroll_tests.rs"]
mod tests;
