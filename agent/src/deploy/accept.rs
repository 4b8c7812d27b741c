//! Whether a desired state, whose signature and addressee hold, may change anything. Pure.

use fieldpost_shared::id::ModelName;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::Desired;
use std::collections::HashSet;

/// What the device believes already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Believed {
    /// The desired sequence that was accepted last; 0 when none was.
    pub sequence: u64,
    /// The latest time in any signed statement of the controller.
    pub latest_signed: Timestamp,
    /// Version of the newest root.
    pub root_version: u64,
    /// When that root expires.
    pub root_expires: Timestamp,
}

impl Believed {
    /// The time that freshness is judged by: a clock that went back (or stands in 1970) makes nothing fresh again.
    #[must_use]
    pub fn trusted_now(&self, now: Timestamp) -> Timestamp {
        now.max(self.latest_signed)
    }
}

/// Why a desired state changes nothing. [`Refusal::reason`] names it for counters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The one that was accepted last, delivered again: as every reconnection does. Nothing to do, nothing wrong.
    #[error("desired state {0} is known already")]
    Known(u64),
    /// Older than what was accepted.
    #[error("desired state {found} is older than {accepted}, which was accepted")]
    Stale {
        /// Its sequence.
        found: u64,
        /// The sequence accepted last.
        accepted: u64,
    },
    /// Its time has passed.
    #[error("the desired state expired at {expires}, and it is {now}")]
    Expired {
        /// When it expired.
        expires: Timestamp,
        /// The time it was judged by.
        now: Timestamp,
    },
    /// The root has expired: nothing changes until a newer one is there.
    #[error("the root metadata expired at {expires}, and it is {now}")]
    RootExpired {
        /// When it expired.
        expires: Timestamp,
        /// The time it was judged by.
        now: Timestamp,
    },
    /// The controller knows a newer root. Fetch up to it, then present this again.
    #[error("the desired state needs root version {needed}, this device has {have}")]
    RootBehind {
        /// The version needed.
        needed: u64,
        /// The version held.
        have: u64,
    },
    /// One model twice.
    #[error("the desired state names model `{0}` twice")]
    Duplicate(ModelName),
    /// It could not be kept, so it was not accepted. Present it again.
    #[error("the desired state could not be stored: {0}")]
    NotStored(String),
    /// The driver has ended.
    #[error("the agent is stopping")]
    Stopping,
}

impl Refusal {
    /// A constant name, for counters and logs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Known(_) => "desired-known",
            Self::Stale { .. } => "desired-stale",
            Self::Expired { .. } => "desired-expired",
            Self::RootExpired { .. } => "root-expired",
            Self::RootBehind { .. } => "root-behind",
            Self::Duplicate(_) => "desired-duplicate",
            Self::NotStored(_) => "desired-not-stored",
            Self::Stopping => "stopping",
        }
    }

    /// Whether the same message can be accepted later, so that it is worth presenting again. What looks expired may do so
    /// only because this box's clock is ahead, until somebody puts it right.
    #[must_use]
    pub const fn again(&self) -> bool {
        matches!(self, Self::RootBehind { .. } | Self::RootExpired { .. } | Self::Expired { .. } | Self::NotStored(_))
    }
}

/// Decides. Order matters for who reads the reason: replay first, then freshness, then content.
///
/// # Errors
/// Why not.
pub fn accept(desired: &Desired, believed: &Believed, now: Timestamp) -> Result<(), Refusal> {
    let now = believed.trusted_now(now);
    if desired.sequence == believed.sequence {
        return Err(Refusal::Known(desired.sequence));
    }
    if desired.sequence < believed.sequence {
        return Err(Refusal::Stale { found: desired.sequence, accepted: believed.sequence });
    }
    if desired.root_version > believed.root_version {
        return Err(Refusal::RootBehind { needed: desired.root_version, have: believed.root_version });
    }
    if now > believed.root_expires {
        return Err(Refusal::RootExpired { expires: believed.root_expires, now });
    }
    // Its word would carry this box's time past the end of the keys that sign it, and nothing were believed after it.
    if desired.issued > believed.root_expires {
        return Err(Refusal::RootExpired { expires: believed.root_expires, now: desired.issued });
    }
    if now > desired.expires {
        return Err(Refusal::Expired { expires: desired.expires, now });
    }
    let mut seen = HashSet::new();
    match desired.assignments.iter().map(|a| &a.release.model).find(|model| !seen.insert(*model)) {
        Some(model) => Err(Refusal::Duplicate(model.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::testing::{assignment, desired};

    const BELIEVED: Believed = Believed {
        sequence: 5,
        latest_signed: Timestamp::from_millis(1_000),
        root_version: 2,
        root_expires: Timestamp::from_millis(9_000),
    };

    /// The reason, for a desired state that is acceptable (sequence 6, expires 5,000) but for one change.
    fn check(change: impl Fn(&mut Desired), now: u64) -> &'static str {
        let mut desired = desired(6, 5_000, &[assignment("m", 1, 1)]);
        desired.root_version = 2;
        change(&mut desired);
        accept(&desired, &BELIEVED, Timestamp::from_millis(now))
            .map_or_else(|refusal| refusal.reason(), |()| "accepted")
    }

    #[test]
    fn what_was_signed_after_the_root_expired_does_not_carry_the_time_there() {
        assert_eq!(check(|desired| desired.issued = BELIEVED.root_expires, 2_000), "accepted");
        let after = Timestamp::from_millis(9_001);
        assert_eq!(check(|desired| desired.issued = after, 2_000), "root-expired");
    }

    #[test]
    fn a_newer_fresh_one_is_accepted() {
        assert_eq!(check(|_| (), 2_000), "accepted");
        assert_eq!(check(|d| d.sequence = u64::MAX, 5_000), "accepted");
    }

    #[test]
    fn stale_and_known_ones_are_told_apart() {
        assert_eq!(check(|d| d.sequence = 5, 2_000), "desired-known");
        assert_eq!(check(|d| d.sequence = 4, 2_000), "desired-stale");
        assert_eq!(check(|d| d.sequence = 0, 2_000), "desired-stale");
    }

    #[test]
    fn an_expired_one_is_refused_one_millisecond_late() {
        assert_eq!(check(|_| (), 5_001), "desired-expired");
    }

    #[test]
    fn a_clock_in_1970_makes_nothing_fresh_again() {
        assert_eq!(check(|d| d.expires = Timestamp::from_millis(999), 0), "desired-expired");
        assert_eq!(check(|d| d.expires = Timestamp::from_millis(1_000), 0), "accepted");
    }

    #[test]
    fn an_expired_root_allows_no_changes() {
        assert_eq!(check(|d| d.expires = Timestamp::from_millis(99_000), 9_001), "root-expired");
    }

    #[test]
    fn a_newer_root_is_fetched_first() {
        assert_eq!(check(|d| d.root_version = 3, 2_000), "root-behind");
    }

    #[test]
    fn one_model_twice_is_refused() {
        assert_eq!(check(|d| d.assignments.push(assignment("m", 2, 1)), 2_000), "desired-duplicate");
    }
}
