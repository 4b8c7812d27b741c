//! ed25519 keys and signatures (RFC 8032; `verify_strict`), their names and their text forms.

use crate::id::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// Why a key or a signature cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not base64.
    #[error("a {what} is base64 of {bytes} bytes")]
    Base64 {
        /// Key or signature.
        what: &'static str,
        /// Bytes expected.
        bytes: usize,
        /// What the decoder said.
        #[source]
        source: base64::DecodeError,
    },
    /// The wrong number of bytes.
    #[error("a {what} has {expected} bytes, got {found}")]
    Length {
        /// Key or signature.
        what: &'static str,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// 32 bytes that are no point on the curve, or a weak one.
    #[error("the public key is not a valid ed25519 key")]
    Point,
    /// The machine gives no random numbers.
    #[error("cannot get random bytes for a new key")]
    Random(#[source] getrandom::Error),
    /// A key file that is not one.
    #[error("not a key file: {0}")]
    File(String),
}

/// The name of a key: sha256 of its 32 public bytes.
pub type KeyId = Digest;

/// A public key: base64 in JSON, 32 bytes in postcard. Always a valid, non-weak point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From its 32 bytes.
    ///
    /// # Errors
    /// When they are no point on the curve, or a weak one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_invalid| KeyError::Point)?;
        if key.is_weak() { Err(KeyError::Point) } else { Ok(Self(key)) }
    }

    /// From base64.
    ///
    /// # Errors
    /// When the text is not a key.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&decode("public key", text)?)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Base64 of the 32 bytes.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.as_bytes())
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        Digest::of(self.as_bytes())
    }

    /// Whether this key made this signature over this message (`verify_strict`: no malleable or small-order forms).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.sig.0)).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", self.to_base64())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.to_base64())
        } else {
            self.as_bytes().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Self::from_base64(&String::deserialize(deserializer)?).map_err(de::Error::custom)
        } else {
            Self::from_bytes(&<[u8; 32]>::deserialize(deserializer)?).map_err(de::Error::custom)
        }
    }
}

/// The 64 bytes of a signature: base64 in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignatureBytes(pub [u8; 64]);

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl Serialize for SignatureBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&BASE64.encode(self.0))
        } else {
            // serde knows arrays up to 32 elements.
            let (low, high) = halves(&self.0);
            (low, high).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for SignatureBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            decode("signature", &String::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
        } else {
            let (low, high) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
            let mut bytes = [0; 64];
            bytes.iter_mut().zip(low.iter().chain(&high)).for_each(|(to, from)| *to = *from);
            Ok(Self(bytes))
        }
    }
}

fn halves(bytes: &[u8; 64]) -> ([u8; 32], [u8; 32]) {
    let (mut low, mut high) = ([0; 32], [0; 32]);
    low.iter_mut().chain(&mut high).zip(bytes).for_each(|(to, from)| *to = *from);
    (low, high)
}

/// A signature and the name of the key that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key.
    pub keyid: KeyId,
    /// The signature.
    pub sig: SignatureBytes,
}

/// A secret key. Never printed, never serialised but into its own file.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new key from the machine's random source.
    ///
    /// # Errors
    /// When there is none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(KeyError::Random)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of a seed (RFC 8032 §5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a message; use [`super::Envelope`] or [`super::pae`] so that the message states its kind.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature { keyid: self.public().id(), sig: SignatureBytes(self.0.sign(message).to_bytes()) }
    }

    /// The content of a key file: one JSON object. Write it with mode 0600.
    #[must_use]
    pub fn to_file(&self, role: &str) -> String {
        let file = serde_json::json!({
            "schema": "fieldpost.key/1",
            "role": role,
            "keyid": self.public().id(),
            "public": self.public().to_base64(),
            "secret": BASE64.encode(self.0.to_bytes()),
        });
        format!("{file:#}\n")
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// When it is not one, or its halves do not belong together. The text is never part of the error.
    pub fn from_file(text: &str) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct File {
            schema: String,
            public: PublicKey,
            secret: String,
        }
        let file: File = serde_json::from_str(text).map_err(|error| {
            KeyError::File(format!("line {} column {} is not as expected", error.line(), error.column()))
        })?;
        if file.schema != "fieldpost.key/1" {
            return Err(KeyError::File("its schema is not `fieldpost.key/1`".to_owned()));
        }
        let key = Self::from_seed(&decode("secret key", &file.secret)?);
        if key.public() == file.public {
            Ok(key)
        } else {
            Err(KeyError::File("its public and secret halves do not belong together".to_owned()))
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().id().short())
    }
}

fn decode<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], KeyError> {
    let bytes = BASE64.decode(text.trim()).map_err(|source| KeyError::Base64 { what, bytes: N, source })?;
    let found = bytes.len();
    bytes.try_into().map_err(|_wrong_length| KeyError::Length { what, expected: N, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1 test 1.
    #[test]
    fn agrees_with_rfc_8032() {
        let seed: Digest = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60".parse().unwrap();
        let key = SecretKey::from_seed(seed.as_bytes());
        let public: Digest = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".parse().unwrap();
        assert_eq!(key.public().as_bytes(), public.as_bytes());
        let sig = key.sign(b"");
        assert!(key.public().verifies(b"", &sig));
        assert_eq!(sig.sig.0[..4], [0xe5, 0x56, 0x43, 0x00]);
    }

    #[test]
    fn small_order_points_are_no_keys() {
        assert!(PublicKey::from_bytes(&[0; 32]).is_err());
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(PublicKey::from_bytes(&identity).is_err());
    }

    #[test]
    fn a_key_file_round_trips_and_a_mixed_one_is_refused() {
        let (one, two) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let file = one.to_file("publisher");
        assert_eq!(SecretKey::from_file(&file).unwrap().public(), one.public());
        let mixed = file.replace(&one.public().to_base64(), &two.public().to_base64());
        assert!(SecretKey::from_file(&mixed).unwrap_err().to_string().contains("do not belong together"));
    }

    #[test]
    fn a_signature_round_trips_in_both_forms() {
        let sig = SecretKey::from_seed(&[3; 32]).sign(b"m");
        assert_eq!(postcard::from_bytes::<Signature>(&postcard::to_stdvec(&sig).unwrap()).unwrap(), sig);
        assert_eq!(serde_json::from_str::<Signature>(&serde_json::to_string(&sig).unwrap()).unwrap(), sig);
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SecretKey::from_seed(&[7; 32]);
        assert!(!format!("{key:?}").contains(&BASE64.encode([7; 32])));
    }
}
