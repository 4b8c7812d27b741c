//! Probabilities of several classes from those of pairs: Platt's sigmoid, then the second method of Wu, Lin and Weng,
//! "Probability Estimates for Multi-class Classification by Pairwise Coupling" (JMLR 5, 2004, algorithm 2), as libsvm
//! and ONNX Runtime do.

use super::post::logistic;

/// A square table, row-major.
pub(super) struct Square {
    cells: Vec<f32>,
    side: usize,
}

impl Square {
    fn new(side: usize) -> Self {
        Self { cells: vec![0.0; side * side], side }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.cells.get(row * self.side + column).copied().unwrap_or(0.0)
    }

    fn set(&mut self, row: usize, column: usize, value: f32) {
        if let Some(cell) = self.cells.get_mut(row * self.side + column) {
            *cell = value;
        }
    }
}

/// `[i, j]` is the probability of class i where only i and j can be; kept off 0 and 1.
pub(super) fn pairwise(decisions: &[f32], platt: &[(f32, f32)], classes: usize) -> Square {
    const MARGIN: f32 = 1e-7;
    let mut table = Square::new(classes);
    let pairs = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j)));
    for ((i, j), (decision, (a, b))) in pairs.zip(decisions.iter().zip(platt)) {
        let first = (1.0 - logistic(decision * a + b)).clamp(MARGIN, 1.0 - MARGIN);
        table.set(i, j, first);
        table.set(j, i, 1.0 - first);
    }
    table
}

/// Probabilities that fit the pairs best. Ends after 100 rounds at the latest.
#[allow(clippy::cast_precision_loss, reason = "a few thousand classes at most")]
pub(super) fn couple(pairs: &Square, classes: usize) -> Vec<f32> {
    let mut q = Square::new(classes);
    for i in 0..classes {
        let mut own = 0.0;
        for j in (0..classes).filter(|j| *j != i) {
            own += pairs.at(j, i) * pairs.at(j, i);
            q.set(i, j, -pairs.at(j, i) * pairs.at(i, j));
        }
        q.set(i, i, own);
    }
    let mut p = vec![1.0 / classes as f32; classes];
    let enough = 0.005 / classes as f32;
    for _ in 0..100 {
        let mut qp: Vec<f32> = (0..classes).map(|i| p.iter().enumerate().map(|(j, p)| q.at(i, j) * p).sum()).collect();
        let mut pqp: f32 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        let worst = qp.iter().map(|qp| (qp - pqp).abs()).fold(0.0, f32::max);
        if worst < enough {
            break;
        }
        for i in 0..classes {
            let own = q.at(i, i);
            let before = qp.get(i).copied().unwrap_or(0.0);
            let step = (pqp - before) / own;
            if let Some(p) = p.get_mut(i) {
                *p += step;
            }
            let scale = 1.0 + step;
            pqp = (pqp + step * (step * own + 2.0 * before)) / scale / scale;
            for (j, (qp, p)) in qp.iter_mut().zip(&mut p).enumerate() {
                *qp = (*qp + step * q.at(i, j)) / scale;
                *p /= scale;
            }
        }
    }
    p
}
