//! From rows to scores: eight descents at a time, whose loads overlap.

use super::forest::{Forest, Leaves, NAN_YES, Node};
use crate::ml::real::Real;

/// Descents at a time.
const LANES: usize = 8;
/// Rows taken through one tree before the next: the tree stays in the nearest cache, and so do the rows.
const BLOCK: usize = 64;

/// How weights of several trees become one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    /// The sum divided by the number of trees, at the end.
    Average,
    Min,
    Max,
}

/// Scores of all rows, `[rows, targets]`.
#[derive(Debug)]
pub(super) struct Scores<T> {
    pub(super) values: Vec<T>,
    /// Whether any leaf spoke of the target. Empty where all do.
    pub(super) seen: Vec<bool>,
}

impl<T: Real> Forest<T> {
    /// Scores of `rows` rows of `width` features, which is at least as many as the branches read.
    pub(super) fn score(&self, features: &[T], width: usize, rows: usize, fold: Fold) -> Scores<T> {
        match fold {
            Fold::Sum | Fold::Average => self.collect(features, width, rows, T::default(), |sum, weight| sum + weight),
            // NaN is "none yet": no weight is.
            Fold::Min => self.collect(features, width, rows, T::NAN, |a, b| if a <= b { a } else { b }),
            Fold::Max => self.collect(features, width, rows, T::NAN, |a, b| if a >= b { a } else { b }),
        }
    }

    fn collect(
        &self,
        features: &[T],
        width: usize,
        rows: usize,
        start: T,
        fold: impl Fn(T, T) -> T + Copy,
    ) -> Scores<T> {
        let targets = self.targets;
        let mut values = vec![start; rows * targets];
        let mut seen = Vec::new();
        match &self.leaves {
            Leaves::One { target } => {
                self.visit(features, width, rows, |row, leaf| {
                    if let Some(score) = values.get_mut(row * targets + target) {
                        *score = fold(*score, leaf.threshold);
                    }
                });
                if targets > 1 {
                    seen.extend((0..rows * targets).map(|at| at % targets == *target));
                }
            }
            Leaves::Dense(weights) => self.visit(features, width, rows, |row, leaf| {
                let own = weights.get(leaf.yes as usize * targets..).unwrap_or_default();
                let scores = values.get_mut(row * targets..(row + 1) * targets).unwrap_or_default();
                scores.iter_mut().zip(own).for_each(|(score, weight)| *score = fold(*score, *weight));
            }),
            Leaves::Sparse { spans, weights } => {
                seen.resize(rows * targets, false);
                self.visit(features, width, rows, |row, leaf| {
                    let (start, end) = spans.get(leaf.yes as usize).copied().unwrap_or_default();
                    for (target, weight) in weights.get(start as usize..end as usize).unwrap_or_default() {
                        let at = row * targets + *target as usize;
                        if let (Some(score), Some(seen)) = (values.get_mut(at), seen.get_mut(at)) {
                            *score = fold(*score, *weight);
                            *seen = true;
                        }
                    }
                });
            }
        }
        Scores { values, seen }
    }

    /// Calls with every row's leaf in every tree; for one row in the order of trees.
    fn visit(&self, features: &[T], width: usize, rows: usize, each: impl FnMut(usize, &Node<T>)) {
        if self.tracks_nan {
            self.visit_all::<true>(features, width, rows, each);
        } else {
            self.visit_all::<false>(features, width, rows, each);
        }
    }

    fn visit_all<const NAN: bool>(
        &self,
        features: &[T],
        width: usize,
        rows: usize,
        mut each: impl FnMut(usize, &Node<T>),
    ) {
        let nodes = self.nodes.as_slice();
        let by_rows = rows - rows % LANES;
        for start in (0..by_rows).step_by(BLOCK) {
            let end = by_rows.min(start + BLOCK);
            for root in &self.roots {
                for first in (start..end).step_by(LANES) {
                    let offsets = std::array::from_fn(|lane| (first + lane) * width);
                    let ends = descend::<T, NAN>(nodes, features, offsets, [*root; LANES]);
                    for (row, at) in (first..).zip(ends) {
                        if let Some(leaf) = nodes.get(at as usize) {
                            each(row, leaf);
                        }
                    }
                }
            }
        }
        // Too few rows for a round: several trees at a time for one row.
        for row in by_rows..rows {
            let (rounds, rest) = self.roots.as_chunks::<LANES>();
            let mut padded = [rest.first().copied().unwrap_or(0); LANES];
            padded.iter_mut().zip(rest).for_each(|(slot, root)| *slot = *root);
            let last = (!rest.is_empty()).then_some((&padded, rest.len()));
            for (roots, count) in rounds.iter().map(|round| (round, LANES)).chain(last) {
                let ends = descend::<T, NAN>(nodes, features, [row * width; LANES], *roots);
                for at in ends.iter().take(count) {
                    if let Some(leaf) = nodes.get(*at as usize) {
                        each(row, leaf);
                    }
                }
            }
        }
    }
}

/// From each place to its leaf. Branches lead to leaves in the end (`Declared::check`), and leaves to themselves.
#[inline(always)]
fn descend<T: Real, const NAN: bool>(
    nodes: &[Node<T>],
    features: &[T],
    offsets: [usize; LANES],
    mut at: [u32; LANES],
) -> [u32; LANES] {
    loop {
        let mut moved = 0;
        for (place, offset) in at.iter_mut().zip(offsets) {
            let Some(node) = nodes.get(*place as usize) else { return [0; LANES] };
            let feature = if NAN { node.feature & !NAN_YES } else { node.feature };
            let Some(value) = features.get(offset + feature as usize).copied() else { return [0; LANES] };
            let yes = if NAN {
                (value <= node.threshold) | (value.nan() & (node.feature & NAN_YES != 0))
            } else {
                value <= node.threshold
            };
            let next = if yes { node.yes } else { node.no };
            moved |= next ^ *place;
            *place = next;
        }
        if moved == 0 {
            return at;
        }
    }
}
