//! From outputs to answers for people: activation, best classes, labels, threshold.

use super::contract::spec_text;
use super::error::{InferError, LoadError};
use fieldpost_shared::bundle::manifest::{Activation, ClassificationOutput, Postprocess};
use fieldpost_shared::bundle::{Dim, Manifest, Tensor, TensorSpec};
use std::cmp::Ordering;

/// One class among the best.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Its index.
    pub class: usize,
    /// Its name, where the bundle has labels.
    pub label: Option<String>,
    /// Its probability.
    pub score: f32,
}

/// What one row of the outputs says.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One class of several.
    Classification {
        /// The best class's index.
        class: usize,
        /// Its name; `None` without labels, and when `score` is below the bundle's threshold.
        label: Option<String>,
        /// Its probability; NaN only when every class's is.
        score: f32,
        /// The best classes, best first; equal ones by index, NaN last.
        top: Vec<Ranked>,
        /// All probabilities by class index.
        probabilities: Vec<f32>,
    },
    /// A number.
    Regression {
        /// The number.
        value: f64,
    },
    /// The bundle declares nothing: the outputs are the answer.
    Raw,
}

/// Post-processing, checked against the model's outputs.
#[derive(Debug)]
pub(super) struct Answering {
    /// Which output is read.
    output: usize,
}

impl Answering {
    pub(super) fn new(manifest: &Manifest) -> Result<Self, LoadError> {
        let tensor = match &manifest.postprocess {
            Postprocess::Raw => return Ok(Self { output: 0 }),
            Postprocess::Classification(declared) => &declared.tensor,
            Postprocess::Regression { tensor } => tensor,
        };
        let refuse =
            |detail: String| Err(LoadError::Declaration { what: "post-processing", tensor: tensor.clone(), detail });
        let Some(output) = manifest.outputs.iter().position(|spec| spec.name == *tensor) else {
            let names: Vec<&str> = manifest.outputs.iter().map(|spec| spec.name.as_str()).collect();
            return refuse(format!("the model's outputs are [{}]", names.join(", ")));
        };
        let Some(spec) = manifest.outputs.get(output) else { return Ok(Self { output }) };
        match &manifest.postprocess {
            Postprocess::Classification(declared) => check_classes(declared, spec, manifest.labels.len()),
            _ if columns(spec).is_none_or(|columns| columns == 1) => Ok(()),
            _ => Err(format!("a regression has one column, the output is {}", spec_text(spec))),
        }
        .map_or_else(refuse, |()| Ok(Self { output }))
    }

    pub(super) fn answer(&self, manifest: &Manifest, outputs: &[Tensor]) -> Result<Vec<Answer>, InferError> {
        if manifest.postprocess == Postprocess::Raw {
            return Ok(vec![Answer::Raw]);
        }
        let (spec, tensor) = match (manifest.outputs.get(self.output), outputs.get(self.output)) {
            (Some(spec), Some(tensor)) if spec.dtype == tensor.dtype && spec.admits(&tensor.shape) => (spec, tensor),
            (spec, tensor) => {
                return Err(InferError::Output {
                    output: spec.map(|spec| spec.name.clone()).unwrap_or_default(),
                    expected: spec.map(spec_text).unwrap_or_default(),
                    found: tensor.map_or_else(|| "nothing".to_owned(), super::contract::tensor_text),
                });
            }
        };
        let values = tensor.to_f64();
        let columns = row_width(spec, &tensor.shape);
        if columns == 0 || values.len() % columns != 0 {
            let (expected, found) = (spec_text(spec), format!("{} values", values.len()));
            return Err(InferError::Output { output: spec.name.clone(), expected, found });
        }
        let rows = values.chunks_exact(columns);
        Ok(match &manifest.postprocess {
            Postprocess::Classification(declared) => {
                rows.map(|row| classify(declared, &manifest.labels, row)).collect()
            }
            _ => rows.flatten().map(|value| Answer::Regression { value: *value }).collect(),
        })
    }
}

/// Elements of one row: all axes but the first, which is the batch. An output of one axis is a batch of single values
/// where that axis is free, else one row.
fn row_width(spec: &TensorSpec, shape: &[usize]) -> usize {
    match (spec.shape.as_slice(), shape) {
        ([Dim::Symbol(_)], _) | (_, []) => 1,
        (_, [alone]) => *alone,
        (_, [_, row @ ..]) => row.iter().product(),
    }
}

/// The same from the contract, where it says.
fn columns(spec: &TensorSpec) -> Option<usize> {
    let shape: Vec<Option<usize>> = spec
        .shape
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => usize::try_from(*size).ok(),
            Dim::Symbol(_) => None,
        })
        .collect();
    match shape.as_slice() {
        [] | [None] => Some(1),
        [alone] => *alone,
        [_, row @ ..] => row.iter().copied().product(),
    }
}

fn check_classes(declared: &ClassificationOutput, spec: &TensorSpec, labels: usize) -> Result<(), String> {
    let Some(columns) = columns(spec) else { return Ok(()) };
    let classes = if columns == 1 { 2 } else { columns };
    if columns == 0 || columns == 1 && declared.activation == Activation::Softmax {
        return Err(format!("softmax over {}: one column is always 1", spec_text(spec)));
    }
    if labels != 0 && labels != classes {
        return Err(format!("{labels} labels for {classes} classes of {}", spec_text(spec)));
    }
    Ok(())
}

fn classify(declared: &ClassificationOutput, labels: &[String], row: &[f64]) -> Answer {
    let probabilities = probabilities(declared.activation, row);
    let label = |class: usize| labels.get(class).cloned();
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    let score = |class: usize| probabilities.get(class).copied().unwrap_or(f32::NAN);
    let better = |a: &usize, b: &usize| descending(score(*a), score(*b)).then(a.cmp(b));
    let wanted = declared.top_k.clamp(1, order.len().max(1));
    if wanted < order.len() {
        order.select_nth_unstable_by(wanted - 1, better);
        order.truncate(wanted);
    }
    order.sort_unstable_by(better);
    let top: Vec<Ranked> =
        order.into_iter().map(|class| Ranked { class, label: label(class), score: score(class) }).collect();
    let (class, best) = top.first().map_or((0, f32::NAN), |best| (best.class, best.score));
    let certain = declared.threshold.is_none_or(|threshold| best >= threshold);
    Answer::Classification { class, label: label(class).filter(|_| certain), score: best, top, probabilities }
}

/// Largest first, NaN last.
fn descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// In binary64 throughout, so that large rows sum to 1. One column is the probability of the second of two classes.
#[allow(clippy::cast_possible_truncation, reason = "a probability in binary32 is precise enough")]
fn probabilities(activation: Activation, row: &[f64]) -> Vec<f32> {
    let single = |second: f64| vec![(1.0 - second) as f32, second as f32];
    let sigmoid = |value: f64| 1.0 / (1.0 + (-value).exp());
    match (activation, row) {
        (Activation::None, [second]) => single(*second),
        (Activation::None, _) => row.iter().map(|value| *value as f32).collect(),
        (Activation::Sigmoid, [second]) => single(sigmoid(*second)),
        (Activation::Sigmoid, _) => row.iter().map(|value| sigmoid(*value) as f32).collect(),
        (Activation::Softmax, _) => {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = row.iter().map(|value| (value - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|power| (power / sum) as f32).collect()
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
