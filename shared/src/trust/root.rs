//! Root metadata: which keys speak for which role, and the chain by which that changes (TUF 1.0.33 §5.3).

use super::envelope::{Kind, sign};
use super::keys::{PublicKey, SecretKey, Signature};
use super::verifier::{TrustError, verify_threshold};
use crate::id::{Digest, FleetId};
use crate::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The schema this program reads and writes.
pub const SCHEMA: &str = "fieldpost.root/1";
/// Most bytes of a signed root.
pub const MAX_ROOT_BYTES: usize = 100 * 1024;

/// The roles that root metadata names keys for. Device keys are enrolled, not listed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Signs root metadata; offline.
    Root,
    /// Signs manifests.
    Publisher,
    /// Signs desired states and acknowledgements; online.
    Controller,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Publisher => "publisher",
            Self::Controller => "controller",
        })
    }
}

/// The keys of a role and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleKeys {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many different ones must sign; at least 1.
    pub threshold: usize,
}

/// One version of the root of trust of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootMetadata {
    /// [`SCHEMA`].
    pub schema: String,
    /// The fleet it speaks for.
    pub fleet: FleetId,
    /// Counts up from 1 without gaps.
    pub version: u64,
    /// When it was made.
    pub created: Timestamp,
    /// After this it allows no changes.
    pub expires: Timestamp,
    /// Keys of the root role.
    pub root: RoleKeys,
    /// Keys of the publisher role.
    pub publisher: RoleKeys,
    /// Keys of the controller role.
    pub controller: RoleKeys,
    /// Manifests that must not run any more.
    #[serde(default)]
    pub revoked: Vec<Digest>,
}

/// Why root metadata is refused.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Larger than [`MAX_ROOT_BYTES`].
    #[error("the signed root has {0} bytes, at most {MAX_ROOT_BYTES} are allowed")]
    TooLarge(usize),
    /// Not a DSSE envelope.
    #[error("cannot read the signed root")]
    Envelope(#[source] serde_json::Error),
    /// An envelope of something else.
    #[error("the payload type is `{0}`, not that of root metadata")]
    PayloadType(String),
    /// The payload is not base64.
    #[error("cannot decode the root's payload")]
    Base64(#[source] base64::DecodeError),
    /// The payload is not root metadata.
    #[error("cannot read the root metadata")]
    Json(#[source] serde_json::Error),
    /// A schema this program does not know.
    #[error("the root's schema is `{0}`, this program reads `{SCHEMA}`")]
    Schema(String),
    /// A role without keys, a threshold of 0 or above the number of keys, or a key twice.
    #[error("the {0} role has no usable keys: the threshold must be 1 to the number of different keys")]
    Role(Role),
    /// Too few signatures.
    #[error("root version {version} is not believed")]
    Signatures {
        /// Its version.
        version: u64,
        /// What is missing.
        #[source]
        source: TrustError,
    },
    /// A version that is not the next one.
    #[error("root version {found} cannot follow version {current}")]
    Version {
        /// The version offered.
        found: u64,
        /// The version held.
        current: u64,
    },
    /// Metadata of another fleet.
    #[error("the root is of fleet `{found}`, this is fleet `{expected}`")]
    Fleet {
        /// The fleet offered.
        found: FleetId,
        /// The fleet held.
        expected: FleetId,
    },
}

impl RootMetadata {
    /// The keys of a role.
    #[must_use]
    pub fn role(&self, role: Role) -> &RoleKeys {
        match role {
            Role::Root => &self.root,
            Role::Publisher => &self.publisher,
            Role::Controller => &self.controller,
        }
    }

    /// Whether it still allows changes.
    ///
    /// # Errors
    /// [`TrustError::RootExpired`].
    pub fn check_fresh(&self, now: Timestamp) -> Result<(), TrustError> {
        if now > self.expires { Err(TrustError::RootExpired(self.expires)) } else { Ok(()) }
    }

    fn check(&self) -> Result<(), RootError> {
        if self.schema != SCHEMA {
            return Err(RootError::Schema(self.schema.chars().take(80).collect()));
        }
        for role in [Role::Root, Role::Publisher, Role::Controller] {
            let keys = self.role(role);
            let different: std::collections::HashSet<_> = keys.keys.iter().map(PublicKey::id).collect();
            let usable = different.len() == keys.keys.len() && (1..=different.len()).contains(&keys.threshold);
            if !usable {
                return Err(RootError::Role(role));
            }
        }
        Ok(())
    }
}

/// Root metadata with its signatures: a DSSE JSON envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoot {
    /// The metadata, parsed.
    pub metadata: RootMetadata,
    /// The metadata as the bytes that are signed.
    pub payload: Vec<u8>,
    /// The signatures.
    pub signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseJson {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

impl SignedRoot {
    /// Signs metadata with the given keys. What is returned is what a reader of the signed bytes sees.
    ///
    /// # Errors
    /// When the metadata is inconsistent, or cannot be read back.
    pub fn sign(metadata: RootMetadata, keys: &[&SecretKey]) -> Result<Self, RootError> {
        metadata.check()?;
        let payload = serde_json::to_vec(&metadata).map_err(RootError::Json)?;
        let metadata = serde_json::from_slice(&payload).map_err(RootError::Json)?;
        let signatures = keys.iter().map(|key| sign(Kind::Root, &payload, key)).collect();
        Ok(Self { metadata, payload, signatures })
    }

    /// Adds one more signature, for thresholds whose keys live in different places.
    pub fn add_signature(&mut self, key: &SecretKey) {
        let signature = sign(Kind::Root, &self.payload, key);
        self.signatures.retain(|known| known.keyid != signature.keyid);
        self.signatures.push(signature);
    }

    /// The envelope as JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let envelope = DsseJson {
            payload_type: Kind::Root.payload_type().to_owned(),
            payload: BASE64.encode(&self.payload),
            signatures: self.signatures.clone(),
        };
        // Strings and vectors always have a JSON form.
        serde_json::to_vec_pretty(&envelope).unwrap_or_default()
    }

    /// Reads an envelope without believing it.
    ///
    /// # Errors
    /// When it is malformed, too large, or inconsistent.
    pub fn parse(bytes: &[u8]) -> Result<Self, RootError> {
        if bytes.len() > MAX_ROOT_BYTES {
            return Err(RootError::TooLarge(bytes.len()));
        }
        let envelope: DsseJson = serde_json::from_slice(bytes).map_err(RootError::Envelope)?;
        if envelope.payload_type != Kind::Root.payload_type() {
            return Err(RootError::PayloadType(envelope.payload_type.chars().take(80).collect()));
        }
        let payload = BASE64.decode(&envelope.payload).map_err(RootError::Base64)?;
        let metadata: RootMetadata = serde_json::from_slice(&payload).map_err(RootError::Json)?;
        metadata.check()?;
        Ok(Self { metadata, payload, signatures: envelope.signatures })
    }

    /// Believes a first root: it must be signed by its own threshold. Whoever hands it over vouches for it.
    ///
    /// # Errors
    /// When its own keys did not sign it.
    pub fn verify_self(&self) -> Result<(), RootError> {
        self.signed_by(&self.metadata)
    }

    /// Believes the next root: version n+1, of the same fleet, signed by n's threshold and its own (TUF §5.3.4-5).
    ///
    /// # Errors
    /// When it is not the next version, of another fleet, or lacks signatures. Expiry of intermediate versions is
    /// deliberately not checked, as TUF asks: only the last one must be fresh.
    pub fn verify_after(&self, current: &RootMetadata) -> Result<(), RootError> {
        if self.metadata.fleet != current.fleet {
            return Err(RootError::Fleet { found: self.metadata.fleet.clone(), expected: current.fleet.clone() });
        }
        if Some(self.metadata.version) != current.version.checked_add(1) {
            return Err(RootError::Version { found: self.metadata.version, current: current.version });
        }
        self.signed_by(current)?;
        self.signed_by(&self.metadata)
    }

    fn signed_by(&self, root: &RootMetadata) -> Result<(), RootError> {
        verify_threshold(root, Role::Root, Kind::Root, &self.payload, &self.signatures)
            .map_err(|source| RootError::Signatures { version: self.metadata.version, source })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    /// Root key 1, publisher 2, controller 3, thresholds 1.
    pub(crate) fn root(version: u64) -> RootMetadata {
        let one = |seed| RoleKeys { keys: vec![key(seed).public()], threshold: 1 };
        RootMetadata {
            schema: SCHEMA.into(),
            fleet: "default".parse().unwrap(),
            version,
            created: Timestamp::EPOCH,
            expires: Timestamp::from_millis(1_000_000),
            root: one(1),
            publisher: one(2),
            controller: one(3),
            revoked: vec![],
        }
    }

    fn rotated(version: u64, new_root_key: u8, signers: &[u8]) -> SignedRoot {
        let mut next = root(version);
        next.root = RoleKeys { keys: vec![key(new_root_key).public()], threshold: 1 };
        let keys: Vec<_> = signers.iter().map(|seed| key(*seed)).collect();
        SignedRoot::sign(next, &keys.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_next_version_needs_both_thresholds() {
        assert!(rotated(2, 9, &[1, 9]).verify_after(&root(1)).is_ok());
        assert!(matches!(rotated(2, 9, &[9]).verify_after(&root(1)), Err(RootError::Signatures { .. })));
        assert!(matches!(rotated(2, 9, &[1]).verify_after(&root(1)), Err(RootError::Signatures { .. })));
    }

    #[test]
    fn old_equal_and_skipped_versions_are_refused() {
        for version in [0, 1, 2, 4] {
            let refused = rotated(version, 1, &[1]).verify_after(&root(2));
            assert!(matches!(refused, Err(RootError::Version { .. })), "{version}");
        }
    }

    #[test]
    fn a_root_of_another_fleet_is_refused() {
        let mut other = root(2);
        other.fleet = "other".parse().unwrap();
        let signed = SignedRoot::sign(other, &[&key(1)]).unwrap();
        assert!(matches!(signed.verify_after(&root(1)), Err(RootError::Fleet { .. })));
    }

    #[test]
    fn thresholds_of_zero_or_beyond_the_keys_are_refused() {
        for threshold in [0, 2] {
            let mut bad = root(1);
            bad.publisher.threshold = threshold;
            assert!(matches!(SignedRoot::sign(bad, &[&key(1)]), Err(RootError::Role(Role::Publisher))));
        }
        let mut twice = root(1);
        twice.controller = RoleKeys { keys: vec![key(3).public(), key(3).public()], threshold: 2 };
        assert!(matches!(SignedRoot::sign(twice, &[&key(1)]), Err(RootError::Role(Role::Controller))));
    }

    #[test]
    fn the_envelope_round_trips_and_a_changed_payload_is_refused() {
        let signed = SignedRoot::sign(root(1), &[&key(1)]).unwrap();
        let read = SignedRoot::parse(&signed.to_bytes()).unwrap();
        assert_eq!(read, signed);
        assert!(read.verify_self().is_ok());
        let mut forged = root(1);
        forged.publisher = RoleKeys { keys: vec![key(66).public()], threshold: 1 };
        let forged = SignedRoot { payload: serde_json::to_vec(&forged).unwrap(), metadata: forged, ..signed };
        assert!(SignedRoot::parse(&forged.to_bytes()).unwrap().verify_self().is_err());
    }

    #[test]
    fn what_was_signed_is_what_is_read() {
        let forever = RootMetadata { expires: Timestamp::from_millis(u64::MAX), ..root(1) };
        let signed = SignedRoot::sign(forever, &[&key(1)]).unwrap();
        assert_eq!(SignedRoot::parse(&signed.to_bytes()).unwrap(), signed);
    }

    #[test]
    fn an_expired_root_allows_no_changes() {
        assert!(root(1).check_fresh(Timestamp::from_millis(1_000_000)).is_ok());
        assert!(root(1).check_fresh(Timestamp::from_millis(1_000_001)).is_err());
    }
}
