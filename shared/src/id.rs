//! Names that travel in topics, paths and URLs, validated once at the door. A clone is a pointer: a controller of a large fleet
//! holds each in many tables.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty or longer than the limit.
    #[error("{what} must have 1 to {max} characters, got {len}")]
    Length {
        /// Which name was being read.
        what: &'static str,
        /// The largest length allowed.
        max: usize,
        /// The length found.
        len: usize,
    },
    /// A character that topics, paths or URLs would misread.
    #[error("{what} `{text}` may hold only a-z, 0-9, `.`, `_` and `-`, and starts with a letter or digit")]
    Character {
        /// Which name was being read.
        what: &'static str,
        /// The text found.
        text: String,
    },
    /// A digest that is not 64 hexadecimal characters.
    #[error("a sha256 digest is 64 lower-case hexadecimal characters, got `{0}`")]
    Digest(String),
}

fn check_name(what: &'static str, max: usize, text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > max {
        return Err(IdError::Length { what, max, len: text.len() });
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let starts_plain = text.chars().next().is_some_and(plain);
    if starts_plain && text.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-')) {
        Ok(())
    } else {
        Err(IdError::Character { what, text: text.chars().take(80).collect() })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check_name($what, $max, text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

name!(
    /// A device: unique in its fleet, part of topic names.
    DeviceId, "a device id", 64
);
name!(
    /// A fleet: the scope of keys, tokens and sequence numbers.
    FleetId, "a fleet name", 64
);
name!(
    /// A model: what a slot on a device holds, whatever its version.
    ModelName, "a model name", 64
);
name!(
    /// A rollout: made by the controller, `r-` and twelve hexadecimal characters.
    RolloutId, "a rollout id", 64
);

/// A sha256 digest; 64 lower-case hexadecimal characters in text, 32 bytes in postcard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve hexadecimal characters, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError::Digest(text.chars().take(80).collect());
        let hex = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let mut out = [0_u8; 32];
        if text.len() != 64 {
            return Err(refuse());
        }
        for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return Err(refuse()) };
            *byte = hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l).ok_or_else(refuse)?;
        }
        Ok(Self(out))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// One release of a model: its name, its semantic version, and the digest of its manifest, which is its identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// The model this is a release of.
    pub model: ModelName,
    /// For people; the digest decides.
    pub version: semver::Version,
    /// sha256 of the manifest's bytes.
    pub manifest: Digest,
}

impl fmt::Display for ReleaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.model, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_topics_would_misread_are_refused() {
        for text in ["", "a/b", "a+b", "#", "A", "-a", ".a", "a b", "ü"] {
            assert!(text.parse::<DeviceId>().is_err(), "{text}");
        }
        assert!("a".repeat(65).parse::<DeviceId>().is_err());
        assert!("box-1.site_a".parse::<DeviceId>().is_ok());
    }

    #[test]
    fn digest_text_round_trips_and_refuses_upper_case() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
    }
}
