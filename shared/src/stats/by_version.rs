//! What was counted with other releases, each under its version.

use serde::{Deserialize, Serialize};

use super::error::{StatsError, at_most};

/// Other releases that one window may hold something of.
pub const MAX_RIVALS: usize = 16;

/// What is counted with one other release.
pub trait Rival {
    /// Nothing yet.
    fn with(version: &str) -> Self;
    /// Version of the other release.
    fn version(&self) -> &str;
    /// Adds what `other` counted.
    fn merge(&mut self, other: &Self);
    /// Checks what came from outside, but for the version.
    ///
    /// # Errors
    /// What is inconsistent in it.
    fn validate(&self) -> Result<(), StatsError>;
}

/// Counts by the other release's version, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByVersion<T>(Vec<T>);

impl<T> Default for ByVersion<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Rival> ByVersion<T> {
    /// The counts with a version; `None` when there are so many others that it has no place.
    pub fn with(&mut self, version: &str) -> Option<&mut T> {
        let at = match self.0.binary_search_by(|rival| rival.version().cmp(version)) {
            Ok(at) => at,
            Err(_full) if self.0.len() >= MAX_RIVALS => return None,
            Err(at) => {
                self.0.insert(at, T::with(version));
                at
            }
        };
        self.0.get_mut(at)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// Those with a version.
    #[must_use]
    pub fn of(&self, version: &str) -> Option<&T> {
        self.0.iter().find(|rival| rival.version() == version)
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what `other` counted.
    ///
    /// # Errors
    /// [`StatsError::TooMany`] when both together have too many versions.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        for theirs in &other.0 {
            let found = self.0.len() + 1;
            let full = StatsError::TooMany { what: "versions compared", found, limit: MAX_RIVALS };
            self.with(theirs.version()).ok_or(full)?.merge(theirs);
        }
        Ok(())
    }

    pub(crate) fn validate(&self, name_bytes: usize) -> Result<(), StatsError> {
        at_most("versions compared", self.0.len(), MAX_RIVALS)?;
        if !self.0.iter().is_sorted_by(|a, b| a.version() < b.version()) {
            return Err(StatsError::Inconsistent { what: "versions compared" });
        }
        self.0.iter().try_for_each(|rival| {
            at_most("bytes of a version", rival.version().len(), name_bytes)?;
            rival.validate()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::paired::{Paired, Pairs};
    use super::super::tally::Share;
    use super::*;

    #[test]
    fn pairs_are_kept_by_version_and_merged_by_it() {
        let mut one = Pairs::default();
        one.with("1.1.0").unwrap().row(true, 0.5);
        let mut other = Pairs::default();
        other.with("1.0.0").unwrap().row(false, 0.5);
        other.with("1.1.0").unwrap().row(false, 0.0);
        one.merge(&other).unwrap();
        let found: Vec<(&str, Share)> = one.iter().map(|p| (p.version.as_str(), p.agreed)).collect();
        assert_eq!(found, [("1.0.0", Share { hits: 0, n: 1 }), ("1.1.0", Share { hits: 1, n: 2 })]);
        assert_eq!(one.of("1.1.0").unwrap().agreed.n, 2);
        one.validate(128).unwrap();
    }

    #[test]
    fn there_is_an_end_to_the_versions() {
        let mut pairs = Pairs::default();
        (0..MAX_RIVALS).for_each(|n| assert!(pairs.with(&format!("1.{n}.0")).is_some()));
        assert!(pairs.with("2.0.0").is_none());
        assert!(pairs.with("1.0.0").is_some(), "a known one has its place");
        let mut other = Pairs::default();
        other.with("2.0.0");
        assert!(pairs.merge(&other).is_err());
    }

    #[test]
    fn pairs_out_of_order_are_refused() {
        let pairs = ByVersion(vec![Paired::with("b"), Paired::with("a")]);
        assert!(pairs.validate(128).is_err());
        assert!(ByVersion(vec![Paired::with("a"), Paired::with("a")]).validate(128).is_err());
    }
}
