//! Bodies of the HTTP API, shared by the server and by [`crate::client`]. JSON; times are RFC 3339, digests and keys as
//! in the bundle. Rollouts have their own in `api::rollouts`.

use fieldpost_shared::id::{DeviceId, Digest, FleetId, ModelName, ReleaseRef, RolloutId};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::{PublicKey, Signature};
use fieldpost_shared::wire::v1::{Inventory, OutboxReport, Phase, Quarantined};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Name -> value pairs that the operator gives a device.
pub type Labels = BTreeMap<String, String>;

/// Why a request failed, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed, on what, and why.
    pub error: String,
    /// What to do next, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What a token of the API may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads everything.
    Viewer,
    /// Reads, labels devices, and drives rollouts.
    Operator,
    /// Reads, and pushes releases.
    Publisher,
    /// Everything.
    Admin,
}

impl Role {
    /// Whether this role includes another: viewer < operator < admin, and viewer < publisher < admin.
    #[must_use]
    pub const fn includes(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Admin, _)
                | (_, Self::Viewer)
                | (Self::Operator, Self::Operator)
                | (Self::Publisher, Self::Publisher)
        )
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        })
    }
}

/// `GET /v1/health`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, or `degraded` while the broker is away.
    pub status: String,
    /// The controller's version.
    pub version: String,
    /// The fleet it controls.
    pub fleet: FleetId,
    /// Whether it is connected to the broker.
    pub broker_connected: bool,
    /// Newest root metadata version it knows.
    pub root_version: u64,
}

/// `GET /v1/time`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeNow {
    /// The controller's clock.
    pub now: Timestamp,
}

/// `POST /v1/enroll`: the agent's own definitions, so that both sides mean the same.
pub use fieldpost_agent::identity::Broker as MqttEndpoint;
pub use fieldpost_agent::identity::enroll::{DeviceStatus, EnrollRequest, EnrollResponse};

/// `DATA/endpoints.json`: where a running controller listens, for scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Base URL of the API.
    pub http: String,
    /// URL of the broker.
    pub mqtt: String,
    /// The process that listens.
    pub pid: u32,
}

/// One device, as `GET /v1/devices` and `GET /v1/devices/{id}` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub id: DeviceId,
    /// Whether it belongs to the fleet.
    pub status: DeviceStatus,
    /// Whether its session is up.
    pub alive: bool,
    /// When the controller last heard of it.
    pub last_seen: Option<Timestamp>,
    /// When it was enrolled, or asked to be.
    pub enrolled: Timestamp,
    /// sha256 of its key.
    pub fingerprint: Digest,
    /// Its key.
    pub public_key: PublicKey,
    /// What the operator calls it.
    pub labels: Labels,
    /// What the box is.
    pub inventory: Inventory,
    /// What it runs.
    pub models: Vec<ModelState>,
    /// What it should run.
    pub desired: Vec<DesiredModel>,
    /// Sequence of the newest desired state that was signed for it.
    pub desired_sequence: u64,
    /// Sequence of the newest desired state that it accepted.
    pub accepted_sequence: u64,
    /// Root metadata version that it believes.
    pub root_version: u64,
    /// Releases it will not try again by itself.
    pub quarantine: Vec<Quarantined>,
    /// Statistics that wait on the box.
    pub outbox: OutboxReport,
    /// Windows of statistics that it had numbered and that never came, ever.
    #[serde(default)]
    pub windows_lost: u64,
    /// When another box under this name was heard last, if there is one.
    #[serde(default)]
    pub rival_seen: Option<Timestamp>,
    /// Why the box refuses changes at the moment.
    pub hold: Option<String>,
    /// Whether it has accepted orders that this controller does not know, so that it is told nothing until somebody has
    /// decided: `POST /v1/devices/{id}/accept`.
    #[serde(default)]
    pub ahead: bool,
    /// Messages it refused, by reason.
    pub refused: Vec<(String, u64)>,
    /// Chunk bytes it received.
    pub fetched_bytes: u64,
    /// Its own clock, when it reported.
    pub reported_at: Option<Timestamp>,
}

/// One model slot of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelState {
    /// The model.
    pub model: ModelName,
    /// What answers requests.
    pub live: Option<ReleaseRef>,
    /// What a rollback returns to.
    pub previous: Option<ReleaseRef>,
    /// What is being brought in.
    pub candidate: Option<ReleaseRef>,
    /// How far the candidate is.
    pub phase: Option<Phase>,
    /// Times that the live release changed.
    pub swaps: u64,
}

/// One model that a device should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredModel {
    /// What should be live.
    pub release: ReleaseRef,
    /// The rollout that asks for it.
    pub rollout: Option<RolloutId>,
    /// Counts the tries of this release on this device.
    pub attempt: u32,
    /// Seconds of probation after the swap.
    pub probation_s: u32,
}

/// What becomes of a device that has accepted orders which the controller does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    /// It goes on with what it runs, and the controller takes that over.
    Keep,
    /// It runs what the controller says that it should.
    Restore,
}

/// `POST /v1/devices/{id}/accept`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// Whose word counts.
    pub take: Take,
}

/// `POST /v1/devices/{id}/labels`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelChange {
    /// Labels to set.
    #[serde(default)]
    pub set: Labels,
    /// Labels to take away.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// `POST /v1/tokens`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRequest {
    /// What it opens.
    #[serde(flatten)]
    pub kind: TokenKind,
    /// For people.
    #[serde(default)]
    pub note: String,
    /// Seconds until it opens nothing; none is never (not allowed for enrolment: one day).
    #[serde(default)]
    pub expires_s: Option<u64>,
}

/// What a token opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TokenKind {
    /// Lets devices in.
    Enroll {
        /// How many devices; default 1.
        #[serde(default = "one")]
        uses: u32,
        /// Labels that every device enrolled with it gets.
        #[serde(default)]
        labels: Labels,
    },
    /// Opens the API.
    Api {
        /// As whom.
        role: Role,
    },
}

const fn one() -> u32 {
    1
}

/// A new token. The only time that its secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    /// The secret.
    pub token: String,
    /// What `GET /v1/tokens` shows of it.
    #[serde(flatten)]
    pub info: TokenInfo,
}

impl fmt::Debug for TokenCreated {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCreated").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What the controller knows of a token: everything but the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Its name: first characters of its hash.
    pub id: String,
    /// What it opens.
    #[serde(flatten)]
    pub kind: TokenKind,
    /// For people.
    pub note: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops opening anything.
    pub expires: Option<Timestamp>,
    /// Devices enrolled with it.
    pub used: u32,
}

/// `POST /v1/blobs/missing`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingRequest {
    /// Chunks that a release needs.
    pub digests: Vec<Digest>,
}

/// Which of the asked chunks the controller lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingResponse {
    /// In the order asked.
    pub missing: Vec<Digest>,
}

/// `POST /v1/releases`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// The manifest's bytes, base64.
    pub manifest: String,
    /// Publisher signatures over them.
    pub signatures: Vec<Signature>,
}

/// A release, in lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Model, version and digest.
    #[serde(flatten)]
    pub release: ReleaseRef,
    /// When it was packed.
    pub created: Timestamp,
    /// When it was pushed.
    pub pushed: Timestamp,
    /// One line for people.
    pub note: String,
    /// Bytes of its files, unpacked.
    pub total_bytes: u64,
    /// Who signed it, by key id.
    pub signed_by: Vec<Digest>,
    /// Whether root metadata revokes it.
    pub revoked: bool,
    /// Devices that should run it.
    pub desired_on: usize,
    /// Devices that say they run it.
    pub live_on: usize,
}

/// A release with everything: `GET /v1/releases/{model}/{version}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseDetail {
    /// As in lists.
    #[serde(flatten)]
    pub summary: Release,
    /// The manifest; `manifest` is its digest, as in lists.
    pub document: serde_json::Value,
    /// The manifest's bytes, base64: these are signed.
    pub manifest_bytes: String,
    /// Publisher signatures over them.
    pub signatures: Vec<Signature>,
}

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counts up from 1 without gaps.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who: a token's id and role, a rollout, or `controller`.
    pub actor: String,
    /// What was done, such as `device.revoke`.
    pub action: String,
    /// On what.
    pub subject: String,
    /// With which particulars.
    pub detail: String,
    /// Hash of the entry before; zeros for the first.
    pub previous: Digest,
    /// sha256 over `previous` and this entry.
    pub hash: Digest,
}

/// Statistics of one release on one device since a time: `GET /v1/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceStats {
    /// The device.
    pub device: DeviceId,
    /// The release that served.
    pub release: ReleaseRef,
    /// Closed windows in it.
    pub windows: u32,
    /// When the first opened, by the device's clock.
    pub opened: Timestamp,
    /// When the last closed, by the device's clock.
    pub closed: Timestamp,
    /// Requests that came.
    pub requests: u64,
    /// Requests that the model failed.
    pub model_errors: u64,
    /// Requests without a good answer, whatever the reason.
    pub errors: u64,
    /// Median time of an answer, milliseconds.
    pub p50_ms: Option<f64>,
    /// 95th percentile, milliseconds.
    pub p95_ms: Option<f64>,
    /// Answers by predicted class, in the order of the labels.
    pub classes: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_what_they_should() {
        let all = [Role::Viewer, Role::Operator, Role::Publisher, Role::Admin];
        let included = |role: Role| all.into_iter().filter(|other| role.includes(*other)).collect::<Vec<_>>();
        assert_eq!(included(Role::Viewer), [Role::Viewer]);
        assert_eq!(included(Role::Operator), [Role::Viewer, Role::Operator]);
        assert_eq!(included(Role::Publisher), [Role::Viewer, Role::Publisher]);
        assert_eq!(included(Role::Admin), all);
    }

    #[test]
    fn a_token_request_reads_as_the_interface_says() {
        let enroll: TokenRequest = serde_json::from_str(r#"{"kind":"enroll","labels":{"site":"lyon"}}"#).unwrap();
        assert_eq!(enroll.kind, TokenKind::Enroll { uses: 1, labels: [("site".into(), "lyon".into())].into() });
        let api: TokenRequest = serde_json::from_str(r#"{"kind":"api","role":"operator","expires_s":60}"#).unwrap();
        assert_eq!((api.kind, api.expires_s), (TokenKind::Api { role: Role::Operator }, Some(60)));
    }

    #[test]
    fn secrets_are_not_printed() {
        let request: EnrollRequest = serde_json::from_value(serde_json::json!({
            "token": "s3cret",
            "public_key": fieldpost_shared::trust::SecretKey::from_seed(&[1; 32]).public(),
        }))
        .unwrap();
        assert!(!format!("{request:?}").contains("s3cret"));
    }
}
