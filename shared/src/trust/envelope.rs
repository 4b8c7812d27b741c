//! Signed statements: DSSE's pre-authentication encoding, in a compact binary envelope for the wire.

use super::keys::{PublicKey, SecretKey, Signature};
use serde::{Deserialize, Serialize};

/// What a statement is. The payload type that is signed tells kinds and protocol versions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Root metadata, JSON.
    Root,
    /// A bundle's manifest, JSON.
    Manifest,
    /// What a device should run.
    Desired,
    /// What a device should run, and what beside it.
    DesiredBeside,
    /// Which statistics are on the controller's disk.
    Ack,
    /// What a device does run.
    Report,
    /// Closed windows of statistics.
    Stats,
    /// Birth and death of a session.
    Alive,
    /// A device's password at the broker.
    BrokerToken,
    /// The order in which a rollout takes its devices.
    Order,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Root,
        Self::Manifest,
        Self::Desired,
        Self::DesiredBeside,
        Self::Ack,
        Self::Report,
        Self::Stats,
        Self::Alive,
        Self::BrokerToken,
        Self::Order,
    ];

    /// The payload type that goes under the signature.
    #[must_use]
    pub const fn payload_type(self) -> &'static str {
        match self {
            Self::Root => "application/vnd.fieldpost.root.v1+json",
            Self::Manifest => "application/vnd.fieldpost.manifest.v1+json",
            Self::Desired => "application/vnd.fieldpost.desired.v1+postcard",
            Self::DesiredBeside => "application/vnd.fieldpost.desired.v2+postcard",
            Self::Ack => "application/vnd.fieldpost.ack.v1+postcard",
            Self::Report => "application/vnd.fieldpost.report.v1+postcard",
            Self::Stats => "application/vnd.fieldpost.stats.v1+postcard",
            Self::Alive => "application/vnd.fieldpost.alive.v1+postcard",
            Self::BrokerToken => "application/vnd.fieldpost.broker-token.v1+postcard",
            Self::Order => "application/vnd.fieldpost.order.v1+json",
        }
    }
}

/// DSSE v1 §PAE: `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`, lengths in decimal ASCII.
#[must_use]
pub fn pae(kind: Kind, body: &[u8]) -> Vec<u8> {
    let kind = kind.payload_type();
    let mut out = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

/// Signs a body as a kind of statement.
#[must_use]
pub fn sign(kind: Kind, body: &[u8], key: &SecretKey) -> Signature {
    key.sign(&pae(kind, body))
}

/// Whether `key` signed this body as this kind.
#[must_use]
pub fn verifies(kind: Kind, body: &[u8], signature: &Signature, key: &PublicKey) -> bool {
    signature.keyid == key.id() && key.verifies(&pae(kind, body), signature)
}

/// The wire form's version byte.
const VERSION: u8 = 1;
/// Most signatures on one statement.
const MAX_SIGNATURES: usize = 16;

/// An envelope that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Nothing, or another version.
    #[error("the envelope has version {found:?}, this program reads {VERSION}")]
    Version {
        /// The first byte, if any.
        found: Option<u8>,
    },
    /// Larger than a message may be.
    #[error("the envelope has {found} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not an envelope.
    #[error("cannot decode the envelope")]
    Decode(#[source] postcard::Error),
    /// Bytes after the end.
    #[error("{0} bytes follow the envelope")]
    Trailing(usize),
    /// More signatures than allowed, or none.
    #[error("the envelope has {0} signatures, 1 to {MAX_SIGNATURES} are allowed")]
    Signatures(usize),
}

/// A body with signatures, as it travels over MQTT. The kind is not part of it: it follows from the topic, so an
/// envelope on the wrong topic does not verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who signed.
    pub signatures: Vec<Signature>,
    /// What was signed.
    pub body: Vec<u8>,
}

impl Envelope {
    /// Signs a body.
    #[must_use]
    pub fn seal(kind: Kind, body: Vec<u8>, key: &SecretKey) -> Self {
        Self { signatures: vec![sign(kind, &body, key)], body }
    }

    /// Version byte and postcard.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Encoding plain vectors into memory has no way to fail.
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// Opens an envelope without believing it.
    ///
    /// # Errors
    /// When it is malformed, too large or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let limit = crate::bundle::chunk::MAX_PAYLOAD_BYTES;
        if bytes.len() > limit {
            return Err(EnvelopeError::TooLarge { found: bytes.len(), limit });
        }
        let Some((&VERSION, rest)) = bytes.split_first() else {
            return Err(EnvelopeError::Version { found: bytes.first().copied() });
        };
        let (envelope, trailing): (Self, _) = postcard::take_from_bytes(rest).map_err(EnvelopeError::Decode)?;
        if !trailing.is_empty() {
            return Err(EnvelopeError::Trailing(trailing.len()));
        }
        if envelope.signatures.is_empty() || envelope.signatures.len() > MAX_SIGNATURES {
            return Err(EnvelopeError::Signatures(envelope.signatures.len()));
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encoding_is_dsse_v1() {
        let expected = b"DSSEv1 38 application/vnd.fieldpost.root.v1+json 2 {}";
        assert_eq!(pae(Kind::Root, b"{}"), expected);
    }

    #[test]
    fn a_signature_of_one_kind_is_valid_for_no_other() {
        let key = SecretKey::from_seed(&[1; 32]);
        for made in Kind::ALL {
            let signature = sign(made, b"body", &key);
            for read in Kind::ALL {
                assert_eq!(verifies(read, b"body", &signature, &key.public()), made == read, "{made:?} as {read:?}");
            }
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_refused() {
        let key = SecretKey::from_seed(&[1; 32]);
        let whole = Envelope::seal(Kind::Report, b"some body".to_vec(), &key).to_bytes();
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0x20;
            let valid = Envelope::from_bytes(&bytes).is_ok_and(|envelope| {
                envelope.signatures.iter().any(|s| verifies(Kind::Report, &envelope.body, s, &key.public()))
            });
            assert!(!valid, "byte {index}");
        }
    }

    #[test]
    fn truncated_and_extended_envelopes_are_refused() {
        let whole = Envelope::seal(Kind::Report, b"body".to_vec(), &SecretKey::from_seed(&[1; 32])).to_bytes();
        for len in 0..whole.len() {
            assert!(Envelope::from_bytes(&whole[..len]).is_err(), "{len}");
        }
        let longer = [whole.as_slice(), b"x"].concat();
        assert!(matches!(Envelope::from_bytes(&longer), Err(EnvelopeError::Trailing(1))));
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Envelope::from_bytes(&bytes));
        }
    }
}
