//! The input histograms of a window, by feature index.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{StatsError, at_most};
use super::histogram::Histogram;

/// Most input histograms that a window from outside may have; bounds what a message of 120 KiB can make a reader allocate to 4 MiB.
pub const MAX_INPUTS: usize = 1024;

/// Histograms by feature index (the position in the baseline), strictly ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inputs(Vec<(u16, Histogram)>);

impl Inputs {
    /// Histograms for the features 0, 1, 2 and so on; what is beyond [`MAX_INPUTS`] is left out.
    #[must_use]
    pub fn new(histograms: impl IntoIterator<Item = Histogram>) -> Self {
        Self((0..).zip(histograms).take(MAX_INPUTS).collect())
    }

    /// The histogram of one feature.
    #[must_use]
    pub fn get(&self, feature: usize) -> Option<&Histogram> {
        self.find(feature).and_then(|at| self.0.get(at)).map(|(_, h)| h)
    }

    pub(crate) fn get_mut(&mut self, feature: usize) -> Option<&mut Histogram> {
        self.find(feature).and_then(|at| self.0.get_mut(at)).map(|(_, h)| h)
    }

    /// Where a feature is: at its own index when none before it is left out, which is the rule.
    fn find(&self, feature: usize) -> Option<usize> {
        match self.0.get(feature) {
            Some((index, _)) if usize::from(*index) == feature => Some(feature),
            _ => self.0.binary_search_by_key(&feature, |(index, _)| usize::from(*index)).ok(),
        }
    }

    /// Features with their histograms, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (usize, &Histogram)> {
        self.0.iter().map(|(index, h)| (usize::from(*index), h))
    }

    /// Number of features.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what `other` counted; a feature that only one has is taken over.
    ///
    /// # Errors
    /// [`StatsError::Shape`] when a feature's histograms differ in cells; some others may have been merged then.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        for (index, theirs) in &other.0 {
            match self.0.binary_search_by_key(index, |(i, _)| *i) {
                Ok(at) => self.0.get_mut(at).map_or(Ok(()), |(_, mine)| mine.merge(theirs))?,
                Err(at) => self.0.insert(at, (*index, theirs.clone())),
            }
        }
        at_most("input histograms", self.0.len(), MAX_INPUTS)
    }
}

impl Serialize for Inputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_INPUTS} input histograms by ascending feature index")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inputs, A::Error> {
                let mut inputs: Vec<(u16, Histogram)> = Vec::new();
                while let Some((index, histogram)) = seq.next_element::<(u16, Histogram)>()? {
                    at_most("input histograms", inputs.len() + 1, MAX_INPUTS).map_err(A::Error::custom)?;
                    if inputs.last().is_some_and(|(last, _)| *last >= index) {
                        return Err(A::Error::custom("feature indices do not ascend"));
                    }
                    inputs.push((index, histogram));
                }
                Ok(Inputs(inputs))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::edges::Edges;

    fn histogram() -> Histogram {
        Histogram::of(&Edges::from_values(&[1.0, 2.0], 2).unwrap(), &[1.0])
    }

    fn read(pairs: &[(u16, Histogram)]) -> Result<Inputs, postcard::Error> {
        postcard::from_bytes(&postcard::to_allocvec(pairs).unwrap())
    }

    #[test]
    fn a_feature_that_comes_twice_is_refused() {
        assert!(read(&[(3, histogram()), (3, histogram())]).is_err());
    }

    #[test]
    fn more_features_than_allowed_are_refused() {
        let pairs = |n: u16| (0..n).map(|i| (i, Histogram::default())).collect::<Vec<_>>();
        assert_eq!(read(&pairs(1024)).unwrap().len(), MAX_INPUTS);
        assert!(read(&pairs(1025)).is_err());
    }

    #[test]
    fn a_feature_left_out_by_one_is_taken_over_from_the_other() {
        let mut sparse = read(&[(1, histogram()), (7, histogram())]).unwrap();
        sparse.merge(&Inputs::new([histogram(), histogram()])).unwrap();
        let counts: Vec<_> = sparse.iter().map(|(i, h)| (i, h.total())).collect();
        assert_eq!(counts, [(0, 1), (1, 2), (7, 1)]);
        assert_eq!((sparse.get(7).is_some(), sparse.get(2).is_some()), (true, false));
    }
}
