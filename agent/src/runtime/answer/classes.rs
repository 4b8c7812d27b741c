//! Scores of classes: activation, the best of them, those that hold.

use super::{Answer, Ranked, columns};
use crate::runtime::contract::spec_text;
use fieldpost_shared::bundle::TensorSpec;
use fieldpost_shared::bundle::manifest::{Activation, ClassificationOutput, MultiLabelOutput};
use std::cmp::Ordering;

pub(super) fn check(activation: Activation, spec: &TensorSpec, labels: usize) -> Result<(), String> {
    let Some(columns) = columns(spec) else { return Ok(()) };
    let classes = if columns == 1 { 2 } else { columns };
    if columns == 0 || columns == 1 && activation == Activation::Softmax {
        return Err(format!("softmax over {}: one column is always 1", spec_text(spec)));
    }
    if labels != 0 && labels != classes {
        return Err(format!("{labels} labels for {classes} classes of {}", spec_text(spec)));
    }
    Ok(())
}

/// Every label is a column, and softmax would let but one hold.
pub(super) fn check_labels(activation: Activation, spec: &TensorSpec, labels: usize) -> Result<(), String> {
    if activation == Activation::Softmax {
        return Err("softmax makes labels exclude each other: use sigmoid, or kind = \"classification\"".to_owned());
    }
    match columns(spec) {
        Some(columns) if labels != 0 && labels != columns => {
            Err(format!("{labels} labels for {columns} columns of {}", spec_text(spec)))
        }
        _ => Ok(()),
    }
}

/// All labels whose score is at least their threshold. NaN holds nothing.
pub(super) fn hold(declared: &MultiLabelOutput, thresholds: &[f32], labels: &[String], row: &[f64]) -> Answer {
    #[allow(clippy::cast_possible_truncation, reason = "a probability in binary32 is precise enough")]
    let probability = |value: &f64| match declared.activation {
        Activation::Sigmoid => sigmoid(*value) as f32,
        Activation::None | Activation::Softmax => *value as f32,
    };
    let probabilities: Vec<f32> = row.iter().map(probability).collect();
    let threshold = |class: usize| thresholds.get(class).copied().unwrap_or(declared.threshold);
    let holding = probabilities.iter().enumerate().filter(|(class, score)| **score >= threshold(*class));
    let mut holding: Vec<Ranked> =
        holding.map(|(class, score)| Ranked { class, label: labels.get(class).cloned(), score: *score }).collect();
    holding.sort_by(|a, b| descending(a.score, b.score).then(a.class.cmp(&b.class)));
    Answer::MultiLabel { labels: holding, probabilities }
}

/// The best classes of a row, and the best one's label where it is certain enough.
pub(super) fn classify(declared: &ClassificationOutput, thresholds: &[f32], labels: &[String], row: &[f64]) -> Answer {
    let probabilities = probabilities(declared.activation, row);
    let label = |class: usize| labels.get(class).cloned();
    let score = |class: usize| probabilities.get(class).copied().unwrap_or(f32::NAN);
    let ranked = |class| Ranked { class, label: label(class), score: score(class) };
    let top: Vec<Ranked> = best(&probabilities, declared.top_k.max(1)).into_iter().map(ranked).collect();
    let (class, best) = top.first().map_or((0, f32::NAN), |best| (best.class, best.score));
    let certain = match thresholds.get(class) {
        Some(threshold) => best >= *threshold,
        None => declared.threshold.is_none_or(|threshold| best >= threshold),
    };
    Answer::Classification { class, label: label(class).filter(|_| certain), score: best, top, probabilities }
}

/// The places of the `count` largest, largest first; equal ones by place, NaN last.
pub(crate) fn best<T: PartialOrd>(row: &[T], count: usize) -> Vec<usize> {
    let better = |a: &usize, b: &usize| match (row.get(*a), row.get(*b)) {
        (Some(one), Some(other)) => descending(one, other).then(a.cmp(b)),
        _ => a.cmp(b),
    };
    let mut order: Vec<usize> = (0..row.len()).collect();
    if count < order.len() {
        order.select_nth_unstable_by(count, better);
        order.truncate(count);
    }
    order.sort_unstable_by(better);
    order
}

/// Largest first, NaN (which is not even like itself) last.
pub(super) fn descending<T: PartialOrd>(a: T, b: T) -> Ordering {
    let is_nan = |value: &T| value.partial_cmp(value).is_none();
    b.partial_cmp(&a).unwrap_or_else(|| is_nan(&a).cmp(&is_nan(&b)))
}

/// In binary64 throughout, so that large rows sum to 1. One column is the probability of the second of two classes.
#[allow(clippy::cast_possible_truncation, reason = "a probability in binary32 is precise enough")]
fn probabilities(activation: Activation, row: &[f64]) -> Vec<f32> {
    let single = |second: f64| vec![(1.0 - second) as f32, second as f32];
    match (activation, row) {
        (Activation::None, [second]) => single(*second),
        (Activation::None, _) => row.iter().map(|value| *value as f32).collect(),
        (Activation::Sigmoid, [second]) => single(sigmoid(*second)),
        (Activation::Sigmoid, _) => row.iter().map(|value| sigmoid(*value) as f32).collect(),
        (Activation::Softmax, _) => softmax(row).into_iter().map(|share| share as f32).collect(),
    }
}

/// 1 / (1 + exp(-x)).
pub(super) fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// exp(x - max) / sum.
pub(super) fn softmax(row: &[f64]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|value| (value - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}
