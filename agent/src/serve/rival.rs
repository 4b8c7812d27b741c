//! A release beside the live one, on the same box: as a shadow, whose answers are compared and thrown away, or as the other
//! arm of a split, whose answers go to callers.
//!
//! Who goes where is a hash of the rival's digest and a key: the request's id, or what a header or parameter of it says, so
//! that one customer, line or camera always meets the same release. Raising the share moves nobody back.

use super::registry::Live;
use fieldpost_shared::id::{ModelName, ReleaseRef};
use std::sync::Arc;

/// A share of requests, in steps of a hundredth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Portion(u16);

impl Portion {
    /// All requests.
    pub const ALL: Self = Self(10_000);

    /// None of them.
    pub const NONE: Self = Self(0);

    /// From hundredths of a percent; more than all is all.
    #[must_use]
    pub const fn of_hundredths(hundredths: u16) -> Self {
        if hundredths > Self::ALL.0 { Self::ALL } else { Self(hundredths) }
    }

    /// From percent, 0 to 100, rounded to a hundredth; `None` for what is none.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..=10000")]
    pub fn percent(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 100.0).round() as u16))
    }

    /// Whether a key falls in it; what is drawn with another salt is independent of it.
    pub(crate) fn holds(self, salt: &[u8], key: &[u8]) -> bool {
        hash(salt, key) % 10_000 < u64::from(self.0)
    }
}

/// FNV-1a with `SplitMix64`'s finisher, so that neighbouring keys spread. Not for secrets: who chooses his key chooses his
/// arm.
fn hash(salt: &[u8], key: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut mixed = salt.iter().chain(&[0xff]).chain(key).fold(0xcbf2_9ce4_8422_2325, fold);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What keeps a caller with one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// Nothing: each request for itself, by its id.
    Request,
    /// The value of this header; requests without it go by their id.
    Header(String),
    /// The value of this parameter of the URL, or of the request itself (OIP v2 §`parameters`); requests without it go by
    /// their id.
    Parameter(String),
}

impl Sticky {
    /// The parameter that it names.
    pub(crate) fn parameter(&self) -> Option<&str> {
        match self {
            Self::Parameter(name) => Some(name),
            Self::Request | Self::Header(_) => None,
        }
    }
}

/// Why a release cannot stand beside the live one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RivalError {
    /// There is none to stand beside.
    #[error("no release of `{0}` is live")]
    NotLive(ModelName),
    /// It is the live one.
    #[error("{0} is live itself")]
    Live(ReleaseRef),
}

/// What the rival is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    Shadow { portion: Portion },
    Split { portion: Portion, by: Sticky },
}

/// A release beside the live one.
#[derive(Debug, Clone)]
pub(crate) struct Rival {
    pub(crate) live: Arc<Live>,
    pub(crate) role: Role,
}

impl Rival {
    /// The release that answers requests with this key instead of the live one.
    pub(crate) fn answers(&self, key: &str) -> Option<&Arc<Live>> {
        let Role::Split { portion, .. } = &self.role else { return None };
        portion.holds(self.salt(), key.as_bytes()).then_some(&self.live)
    }

    /// What requests are split by, if they are.
    pub(crate) fn split_by(&self) -> Option<&Sticky> {
        match &self.role {
            Role::Split { by, .. } => Some(by),
            Role::Shadow { .. } => None,
        }
    }

    /// The release that sees this request too.
    pub(crate) fn watches(&self, id: &str) -> Option<&Arc<Live>> {
        let Role::Shadow { portion } = &self.role else { return None };
        portion.holds(self.salt(), id.as_bytes()).then_some(&self.live)
    }

    fn salt(&self) -> &[u8] {
        self.live.release().manifest.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(percent: f64, salt: &str) -> usize {
        let portion = Portion::percent(percent).unwrap();
        (0..10_000).filter(|n| portion.holds(salt.as_bytes(), format!("camera-{n}").as_bytes())).count()
    }

    #[test]
    fn a_portion_is_as_large_as_it_says() {
        assert_eq!((share(0.0, "a"), share(100.0, "a")), (0, 10_000));
        for percent in [1.0_f64, 10.0, 50.0] {
            let expected: f64 = percent * 100.0;
            // Five standard deviations of a fair draw.
            let spread = 5.0 * (expected * (1.0 - percent / 100.0)).sqrt();
            let found = share(percent, "salt") as f64;
            assert!((found - expected).abs() < spread, "{percent} %: {found}");
        }
    }

    #[test]
    fn a_key_always_meets_the_same_release_and_a_larger_share_moves_nobody_back() {
        let (small, large) = (Portion::percent(10.0).unwrap(), Portion::percent(30.0).unwrap());
        for n in 0..2_000 {
            let key = format!("line-{n}");
            let was = small.holds(b"salt", key.as_bytes());
            assert_eq!(was, small.holds(b"salt", key.as_bytes()));
            assert!(!was || large.holds(b"salt", key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn the_hash_is_what_it_was() {
        assert_eq!(hash(b"salt", b"camera-1"), hash(b"salt", b"camera-1"));
        assert_ne!(hash(b"salt", b"camera-1"), hash(b"other", b"camera-1"), "experiments are independent");
        assert_ne!(hash(b"ab", b"c"), hash(b"a", b"bc"));
    }

    #[test]
    fn percents_are_within_their_bounds() {
        assert!(
            Portion::percent(-1.0).is_none()
                && Portion::percent(100.1).is_none()
                && Portion::percent(f64::NAN).is_none()
        );
        assert_eq!(Portion::percent(0.01), Some(Portion(1)));
    }
}
