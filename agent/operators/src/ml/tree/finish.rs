//! From sums of weights to answers. Where the specification is silent (two classes above all) it is as in ONNX Runtime.

use super::walk::{Fold, Scores};
use crate::ml::post::{Post, logistic};
use crate::ml::real::Real;
use tract_onnx::tract_hir::internal::*;

/// What a regressor does with its sums.
#[derive(Debug, Clone)]
pub(super) struct Regression {
    pub(super) base: Vec<f64>,
    pub(super) fold: Fold,
    pub(super) post: Post,
    pub(super) trees: usize,
}

impl Regression {
    pub(super) fn check(&self, targets: usize) -> TractResult<()> {
        check_base(&self.base, targets, targets)
    }

    #[allow(clippy::cast_precision_loss, reason = "fewer trees than 2^53")]
    pub(super) fn finish<T: Real>(&self, scores: &mut Scores<T>, targets: usize) {
        let trees = T::of(self.trees as f64);
        for (at_row, row) in scores.values.chunks_exact_mut(targets).enumerate() {
            for (score, at) in row.iter_mut().zip(0..) {
                // A target that no leaf spoke of is 0, whatever its base value.
                if !scores.seen.get(at_row * targets + at).copied().unwrap_or(true) {
                    *score = T::default();
                    continue;
                }
                if self.fold == Fold::Average {
                    *score = *score / trees;
                }
                if let Some(base) = self.base.get(at) {
                    *score += T::of(*base);
                }
            }
            self.post.apply_to_targets(row);
        }
    }
}

/// No base values, or as many as there are targets (or 1).
fn check_base(base: &[f64], targets: usize, other: usize) -> TractResult<()> {
    ensure!(
        base.is_empty() || base.len() == targets || base.len() == other,
        "attribute `base_values` has {} values for {targets} targets",
        base.len()
    );
    ensure!(base.iter().all(|value| !value.is_nan()), "attribute `base_values` holds NaN");
    Ok(())
}

/// What a classifier does with its sums.
#[derive(Debug, Clone)]
pub(super) struct Classification {
    pub(super) base: Vec<f64>,
    pub(super) post: Post,
    /// There are two classes, and weights speak of this one alone.
    pub(super) only: Option<usize>,
    pub(super) all_positive: bool,
}

impl Classification {
    pub(super) fn check(&self, classes: usize) -> TractResult<()> {
        check_base(&self.base, classes, if classes == 2 { 1 } else { classes })
    }

    /// Turns sums into scores, and returns the class of each row.
    pub(super) fn finish<T: Real>(&self, scores: &mut Scores<T>, classes: usize) -> Vec<Option<usize>> {
        let Scores { values, seen } = scores;
        let mut best = Vec::with_capacity(values.len() / classes.max(1));
        let mut row_seen = vec![true; classes];
        for (at, row) in values.chunks_exact_mut(classes).enumerate() {
            if let Some(own) = seen.get(at * classes..(at + 1) * classes) {
                row_seen.copy_from_slice(own);
            }
            best.push(Some(match row {
                [first, second] => self.two(first, second),
                _ => self.several(row, &row_seen),
            }));
        }
        best
    }

    fn several<T: Real>(&self, row: &mut [T], seen: &[bool]) -> usize {
        for (score, base) in row.iter_mut().zip(&self.base) {
            *score += T::of(*base);
        }
        let mut best: Option<(usize, T)> = None;
        for ((at, score), seen) in row.iter().enumerate().zip(seen) {
            let counts = *seen || !self.base.is_empty();
            if counts && best.is_none_or(|(_, largest)| *score > largest) {
                best = Some((at, *score));
            }
        }
        self.post.apply(row);
        best.map_or(0, |(at, _)| at)
    }

    /// Above it, a single score speaks for the second class: weights that are never negative are probabilities.
    fn least<T: Real>(&self) -> T {
        if self.all_positive { T::of(0.5) } else { T::default() }
    }

    /// Two classes. Where both have weights, the larger score wins; ONNX Runtime has the second win whenever its score is
    /// above 0, and answers with 0 or 1 instead of the class's label. No exporter writes such models.
    fn two<T: Real>(&self, first: &mut T, second: &mut T) -> usize {
        let one = T::of(1.0);
        let base = |at: usize| T::of(self.base.get(at).copied().unwrap_or(0.0));
        let mut pair = [*first + base(0), *second + base(1)];
        let class = match self.only {
            None => {
                let [first, second] = pair;
                self.post.apply(&mut pair);
                usize::from(second > first)
            }
            // One score decides. With a base value for each class, no second score is made of it.
            Some(only) if only == 0 && self.base.len() == 2 => {
                let [score, _] = pair;
                pair = [score, T::default()];
                self.post.apply(&mut pair);
                usize::from(score > self.least())
            }
            Some(only) => {
                let score = if only == 0 { *first } else { *second } + base(self.base.len().saturating_sub(1));
                pair = match (self.post, self.all_positive) {
                    (Post::Logistic, _) => [logistic(-score), logistic(score)],
                    (_, true) => [one - score, score],
                    (_, false) => [-score, score],
                };
                usize::from(score > self.least())
            }
        };
        [*first, *second] = pair;
        class
    }
}
