//! Bin edges made once, from the values that a model was trained or validated on.
//!
//! `k + 1` edges cut the line into `k + 2` cells: cell 0 is the underflow (`v < edge[0]`), cell `i` is `[edge[i-1], edge[i])`, the
//! last one is the overflow. Interior cells are quantile bins of about equal mass; a value of mass above `1/bins` is an atom and has
//! a narrow cell of its own.
//!
//! Edges lie *between* the values they were made from, and an atom's cell is `2^-20` of the value wide on either side (less where a
//! neighbour is nearer). So neither the rounding of a value through f32 nor a last-bit difference between two JSON parsers moves it to
//! another cell.

use super::error::{StatsError, at_most};

/// Bins of a numeric baseline where nothing else is said (statistics.md section 5).
pub const DEFAULT_BINS: usize = 32;
/// Most bins that can be asked for.
pub const MAX_BINS: usize = 64;
/// Most cells that a histogram from outside may have; [`MAX_BINS`] atoms with gaps between them stay below it.
pub const MAX_CELLS: usize = 256;

/// Cuts one interior cell is divided in, for the mean within a cell.
const INNER_STEPS: f64 = 256.0;
/// Steps per baseline range outside of it.
const OUTER_STEPS: f64 = 65_536.0;
/// Offsets outside are clamped to 65,536 baseline ranges, infinities among them.
const OUTER_CAP: u64 = 1 << 32;
/// Larger magnitudes take no part in making edges, so that every difference of edges is finite.
const LARGEST: f64 = 1e300;

/// Where the cells of a histogram begin and end: finite and strictly increasing. In JSON a plain array of numbers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Edges {
    edges: Box<[f64]>,
    /// Per cell: where offsets start, how many steps a unit is, and the largest offset.
    rulers: Box<[Ruler]>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Ruler {
    origin: f64,
    steps_per_unit: f64,
    cap: u64,
}

impl Edges {
    /// Quantile edges of `values` with about `bins` cells (2 to [`MAX_BINS`], clamped; atoms and the gaps beside them come on top).
    /// NaN, infinities and magnitudes above 1e300 are ignored.
    ///
    /// # Errors
    /// [`StatsError::NoValues`] when nothing finite is left.
    pub fn from_values(values: &[f64], bins: usize) -> Result<Self, StatsError> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.abs() <= LARGEST).map(|v| v + 0.0).collect();
        if sorted.is_empty() {
            return Err(StatsError::NoValues { found: values.len() });
        }
        sorted.sort_by(f64::total_cmp);
        let runs: Vec<(f64, usize)> =
            sorted.chunk_by(|a, b| a == b).filter_map(|run| run.first().map(|v| (*v, run.len()))).collect();
        Self::try_from(cut(&runs, sorted.len(), bins.clamp(2, MAX_BINS)))
    }

    /// Number of cells, underflow and overflow among them.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.rulers.len()
    }

    /// The edges themselves.
    #[must_use]
    pub fn as_slice(&self) -> &[f64] {
        &self.edges
    }

    /// Distance from the first edge to the last.
    #[must_use]
    pub fn range(&self) -> f64 {
        self.edges.last().zip(self.edges.first()).map_or(0.0, |(last, first)| last - first)
    }

    /// The cell of `value` and its offset in that cell's steps; `None` for NaN.
    pub(crate) fn locate(&self, value: f64) -> Option<(usize, u64)> {
        if value.is_nan() {
            return None;
        }
        let cell = self.edges.partition_point(|edge| *edge <= value);
        let ruler = self.rulers.get(cell)?;
        Some((cell, whole((value - ruler.origin) * ruler.steps_per_unit).min(ruler.cap)))
    }

    /// Mean of `count` values whose offsets in `cell` sum up to `offsets`; `None` when there are none.
    pub(crate) fn mean(&self, cell: usize, count: u64, offsets: u64) -> Option<f64> {
        let ruler = self.rulers.get(cell).filter(|_| count > 0)?;
        if ruler.steps_per_unit == 0.0 || !ruler.steps_per_unit.is_finite() {
            return Some(ruler.origin);
        }
        // An offset was rounded down, so half a step is what it lacks on average.
        Some(ruler.origin + (offsets as f64 / count as f64 + 0.5) / ruler.steps_per_unit)
    }
}

/// Towards zero; NaN and negative become 0, too large becomes `u64::MAX`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the saturating cast is what is wanted")]
fn whole(x: f64) -> u64 {
    x as u64
}

impl TryFrom<Vec<f64>> for Edges {
    type Error = StatsError;

    fn try_from(edges: Vec<f64>) -> Result<Self, StatsError> {
        at_most("bin edges", edges.len(), MAX_CELLS - 1)?;
        let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return Err(StatsError::Edges) };
        if edges.len() < 2 || !edges.iter().all(|e| e.is_finite()) || !edges.is_sorted_by(|a, b| a < b) {
            return Err(StatsError::Edges);
        }
        let outer = OUTER_STEPS / (last - first);
        let mut rulers = Vec::with_capacity(edges.len() + 1);
        rulers.push(Ruler { origin: *first, steps_per_unit: -outer, cap: OUTER_CAP });
        for pair in edges.windows(2) {
            if let [low, high] = pair {
                rulers.push(Ruler { origin: *low, steps_per_unit: INNER_STEPS / (high - low), cap: 255 });
            }
        }
        rulers.push(Ruler { origin: *last, steps_per_unit: outer, cap: OUTER_CAP });
        Ok(Self { edges: edges.into_boxed_slice(), rulers: rulers.into_boxed_slice() })
    }
}

impl From<Edges> for Vec<f64> {
    fn from(edges: Edges) -> Self {
        edges.edges.into_vec()
    }
}

/// Edges for sorted `runs` of equal values with their multiplicities.
fn cut(runs: &[(f64, usize)], total: usize, bins: usize) -> Vec<f64> {
    let is_atom = |count: usize| count * bins > total;
    let atoms = runs.iter().filter(|(_, n)| is_atom(*n)).count();
    let loose: usize = runs.iter().map(|(_, n)| *n).filter(|n| !is_atom(*n)).sum();
    let per_bin = (loose as f64 / bins.saturating_sub(atoms).max(1) as f64).max(1.0);
    let range = runs.last().zip(runs.first()).map_or(0.0, |(last, first)| last.0 - first.0);
    let margin = |v: f64| match (v.abs(), range) {
        (0.0, 0.0) => 2f64.powi(-40),
        (0.0, range) => (range * 2f64.powi(-40)).max(f64::MIN_POSITIVE),
        (magnitude, _) => (magnitude * 2f64.powi(-20)).max(f64::MIN_POSITIVE),
    };
    let mut edges = Vec::new();
    let mut i = 0;
    let mut below: Option<f64> = None;
    while let Some(&(value, count)) = runs.get(i) {
        let low = value - margin(value);
        if is_atom(count) || below.is_none() {
            edges.push(below.map_or(low, |b| between(b, value).max(low)));
        }
        if is_atom(count) {
            let high = value + margin(value);
            edges.push(runs.get(i + 1).map_or(high, |next| between(value, next.0).min(high)));
            below = Some(value);
            i += 1;
            continue;
        }
        // A stretch of loose values up to the next atom, cut where its cumulative mass passes each of `parts` equal shares.
        let stretch = runs.iter().skip(i).take_while(|(_, n)| !is_atom(*n)).count();
        let mass: usize = runs.iter().skip(i).take(stretch).map(|(_, n)| *n).sum();
        let parts = (mass as f64 / per_bin).round().max(1.0);
        let (mut seen, mut done) = (0usize, 1.0);
        for pair in runs.iter().skip(i).take(stretch).zip(runs.iter().skip(i + 1).take(stretch - 1)) {
            let ((here, n), (next, _)) = pair;
            seen += n;
            if seen as f64 * parts >= done * mass as f64 && done < parts {
                edges.push(between(*here, *next));
                done = (seen as f64 * parts / mass as f64).floor() + 1.0;
            }
        }
        i += stretch;
        below = runs.get(i - 1).map(|(v, _)| *v);
        if i == runs.len() {
            edges.extend(below.map(|v| v + margin(v)));
        }
    }
    // Closer than this and another JSON parser could read two edges as one.
    edges.dedup_by(|b, a| *b - *a <= a.abs() * 2f64.powi(-48));
    edges
}

/// An edge above `a` and not above `b`, midway where there is room.
fn between(a: f64, b: f64) -> f64 {
    let middle = a / 2.0 + b / 2.0;
    if middle <= a || middle > b { b } else { middle }
}

#[cfg(test)]
#[path = "edges_tests.rs"]
mod tests;
