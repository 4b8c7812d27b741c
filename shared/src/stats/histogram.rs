//! Counts over the cells of [`Edges`], with the mean within each cell, mergeable to the last bit.

use super::compact::{Reader, compact_serde, put, put_runs};
use super::edges::{Edges, MAX_CELLS};
use super::error::{StatsError, at_most, same_size};

/// A histogram over [`Edges`], which it does not carry: the bundle's manifest does.
///
/// Everything is a `u64`: the count per cell, NaN and missing values counted apart, and instead of a floating-point sum per cell the
/// sum of *offsets* from the cell's edge, each rounded down to a step: 1/256 of an interior cell's width, 1/65,536 of the baseline's
/// range outside of it (clamped at 65,536 ranges, so an infinity is far away and not poison). Integer addition is associative and so is
/// its saturation at `u64::MAX`, therefore `merge(a, b) == sketch(a ++ b)` bit for bit, in any order and on any processor.
///
/// Compact form v1: cell count, then per cell its count and, where that is not zero, its offsets (empty cells run-length coded), then
/// NaN and missing. A window of 500 values over 32 bins is about 100 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    cells: Vec<Cell>,
    nan: u64,
    missing: u64,
}

/// One cell: how many values, and the sum of their offsets from the cell's edge in the cell's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cell {
    count: u64,
    offsets: u64,
}

impl Histogram {
    /// An empty histogram over `edges`.
    #[must_use]
    pub fn new(edges: &Edges) -> Self {
        Self { cells: vec![Cell::default(); edges.cells()], nan: 0, missing: 0 }
    }

    /// A histogram of `values` over `edges`.
    #[must_use]
    pub fn of(edges: &Edges, values: &[f64]) -> Self {
        let mut histogram = Self::new(edges);
        for value in values {
            histogram.insert(edges, *value);
        }
        histogram
    }

    /// Counts one value. `edges` are those that the histogram was made with; with others the value may be lost.
    pub fn insert(&mut self, edges: &Edges, value: f64) {
        let Some((index, offset)) = edges.locate(value) else {
            self.nan = self.nan.saturating_add(1);
            return;
        };
        debug_assert_eq!(self.cells.len(), edges.cells(), "a histogram is filled with the edges it was made with");
        if let Some(cell) = self.cells.get_mut(index) {
            cell.count = cell.count.saturating_add(1);
            cell.offsets = cell.offsets.saturating_add(offset);
        }
    }

    /// Counts a value that was not there.
    pub fn insert_missing(&mut self) {
        self.add_missing(1);
    }

    /// Counts `n` values that were not there.
    pub fn add_missing(&mut self, n: u64) {
        self.missing = self.missing.saturating_add(n);
    }

    /// Adds what `other` counted over the same edges.
    ///
    /// # Errors
    /// [`StatsError::Shape`] when the number of cells differs; nothing has changed then.
    pub fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        same_size("histogram cells", self.cells.len(), other.cells.len())?;
        for (mine, theirs) in self.cells.iter_mut().zip(&other.cells) {
            mine.count = mine.count.saturating_add(theirs.count);
            mine.offsets = mine.offsets.saturating_add(theirs.offsets);
        }
        self.nan = self.nan.saturating_add(other.nan);
        self.missing = self.missing.saturating_add(other.missing);
        Ok(())
    }

    /// Number of cells, underflow and overflow among them.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Count per cell, underflow first, overflow last.
    pub fn counts(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.cells.iter().map(|c| c.count)
    }

    /// Counts of all that a value can be: the cells, then NaN, then missing. This is what distances compare.
    #[must_use]
    pub fn categories(&self) -> Vec<u64> {
        self.counts().chain([self.nan, self.missing]).collect()
    }

    /// Number of values that have a place on the line (infinities have, NaN has none).
    #[must_use]
    pub fn values(&self) -> u64 {
        self.counts().fold(0, u64::saturating_add)
    }

    /// Number of NaN values.
    #[must_use]
    pub fn nan(&self) -> u64 {
        self.nan
    }

    /// Number of missing values.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Number of all insertions.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.values().saturating_add(self.nan).saturating_add(self.missing)
    }

    /// The non-empty cells as (mean of its values, count), ascending. The mean is right to 1/256 of the cell's width.
    pub fn means<'a>(&'a self, edges: &'a Edges) -> impl Iterator<Item = (f64, u64)> + 'a {
        self.cells.iter().enumerate().filter_map(|(i, c)| edges.mean(i, c.count, c.offsets).map(|mean| (mean, c.count)))
    }

    /// Whether this was counted over edges of as many cells.
    ///
    /// # Errors
    /// [`StatsError::Shape`] when not.
    pub fn fits(&self, edges: &Edges) -> Result<(), StatsError> {
        same_size("histogram cells", self.cells.len(), edges.cells())
    }

    /// The compact form v1.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 3 * self.cells.len());
        put_runs(&mut out, &self.cells, |c| c.count, |out, c| put(out, c.offsets));
        put(&mut out, self.nan);
        put(&mut out, self.missing);
        out
    }

    /// Reads the compact form v1.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StatsError> {
        let mut reader = Reader::new("histogram cells", bytes);
        let cells = reader.take_runs(MAX_CELLS, |count, r| Ok(Cell { count, offsets: r.take()? }))?;
        let (nan, missing) = (reader.take()?, reader.take()?);
        reader.end()?;
        Ok(Self { cells, nan, missing })
    }
}

/// The form that people read.
#[derive(serde::Serialize, serde::Deserialize)]
struct Readable {
    counts: Vec<u64>,
    offsets: Vec<u64>,
    #[serde(default)]
    nan: u64,
    #[serde(default)]
    missing: u64,
}

impl From<&Histogram> for Readable {
    fn from(h: &Histogram) -> Self {
        Self {
            counts: h.counts().collect(),
            offsets: h.cells.iter().map(|c| c.offsets).collect(),
            nan: h.nan,
            missing: h.missing,
        }
    }
}

impl TryFrom<Readable> for Histogram {
    type Error = StatsError;

    fn try_from(r: Readable) -> Result<Self, StatsError> {
        at_most("histogram cells", r.counts.len(), MAX_CELLS)?;
        same_size("histogram counts and offsets", r.counts.len(), r.offsets.len())?;
        if r.counts.iter().zip(&r.offsets).any(|(count, offset)| *count == 0 && *offset != 0) {
            return Err(StatsError::Inconsistent { what: "offsets of an empty cell" });
        }
        let cells = r.counts.into_iter().zip(r.offsets).map(|(count, offsets)| Cell { count, offsets }).collect();
        Ok(Self { cells, nan: r.nan, missing: r.missing })
    }
}

compact_serde!(Histogram, Readable);

#[cfg(test)]
#[path = "histogram_tests.rs"]
mod tests;
