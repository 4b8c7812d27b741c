//! Which classes were taken for which, where somebody told afterwards.

use serde::{Deserialize, Serialize};

use super::error::{StatsError, at_most};

/// Pairs of classes that a window counts apart; a model with more confuses the rest into one count.
pub const MAX_CONFUSED: usize = 256;
/// Pairs in a merged window.
const MAX_MERGED: usize = 4_096;

/// Answers of which the truth is known, by (true class, predicted class): `n` of each pair that was seen, in order, and in
/// `rest` those of pairs that had no place. Counts saturate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confusion {
    cells: Vec<Confused>,
    rest: u64,
}

/// One pair of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confused {
    /// The true class.
    pub actual: u32,
    /// What the model said.
    pub predicted: u32,
    /// How often.
    pub n: u64,
}

impl Confused {
    const fn key(&self) -> (u32, u32) {
        (self.actual, self.predicted)
    }
}

impl Confusion {
    /// Counts one answer.
    pub fn insert(&mut self, actual: usize, predicted: usize) {
        let class = |class: usize| u32::try_from(class).unwrap_or(u32::MAX);
        self.add(Confused { actual: class(actual), predicted: class(predicted), n: 1 }, MAX_CONFUSED);
    }

    fn add(&mut self, cell: Confused, limit: usize) {
        match self.cells.binary_search_by_key(&cell.key(), Confused::key) {
            Ok(at) => self.cells.iter_mut().skip(at).take(1).for_each(|found| found.n = found.n.saturating_add(cell.n)),
            Err(_full) if self.cells.len() >= limit => self.rest = self.rest.saturating_add(cell.n),
            Err(at) => self.cells.insert(at, cell),
        }
    }

    /// How often a class was taken for another, or for itself.
    #[must_use]
    pub fn of(&self, actual: u32, predicted: u32) -> u64 {
        let found = self.cells.iter().find(|cell| cell.key() == (actual, predicted));
        found.map_or(0, |cell| cell.n)
    }

    /// Pairs that were seen, by true class, then by predicted class.
    #[must_use]
    pub fn cells(&self) -> &[Confused] {
        &self.cells
    }

    /// Answers whose pair had no place.
    #[must_use]
    pub fn rest(&self) -> u64 {
        self.rest
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.rest == 0
    }

    /// Adds what `other` counted. Pairs beyond 4,096 have no place: a model of a thousand classes must not cost a window.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.cells.iter().for_each(|cell| self.add(*cell, MAX_MERGED));
        self.rest = self.rest.saturating_add(other.rest);
    }

    pub(crate) fn validate(&self) -> Result<(), StatsError> {
        at_most("confused pairs", self.cells.len(), MAX_MERGED)?;
        let in_order = self.cells.iter().is_sorted_by(|a, b| a.key() < b.key());
        if in_order { Ok(()) } else { Err(StatsError::Inconsistent { what: "confused pairs" }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_and_merged() {
        let mut one = Confusion::default();
        [(7, 7), (7, 1), (7, 7)].into_iter().for_each(|(a, p)| one.insert(a, p));
        let mut other = Confusion::default();
        [(1, 1), (7, 1)].into_iter().for_each(|(a, p)| other.insert(a, p));
        one.merge(&other);
        assert_eq!((one.of(7, 7), one.of(7, 1), one.of(1, 1), one.of(1, 7)), (2, 2, 1, 0));
        one.validate().unwrap();
    }

    #[test]
    fn many_classes_end_in_the_rest() {
        let mut confusion = Confusion::default();
        (0..MAX_CONFUSED + 10).for_each(|class| confusion.insert(class, class));
        confusion.insert(0, 0);
        assert_eq!((confusion.cells().len(), confusion.rest(), confusion.of(0, 0)), (MAX_CONFUSED, 10, 2));
    }

    #[test]
    fn what_does_not_fit_when_merged_is_counted_in_the_rest() {
        let mut all = Confusion::default();
        for device in 0..20 {
            let mut one = Confusion::default();
            (0..MAX_CONFUSED).for_each(|class| one.insert(device * MAX_CONFUSED + class, 0));
            all.merge(&one);
        }
        assert_eq!((all.cells().len(), all.rest()), (MAX_MERGED, 1_024));
        all.validate().unwrap();
    }

    #[test]
    fn pairs_out_of_order_are_refused() {
        let cell = Confused { actual: 1, predicted: 1, n: 1 };
        assert!(Confusion { cells: vec![cell, cell], rest: 0 }.validate().is_err());
    }
}
