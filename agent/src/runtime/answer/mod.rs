//! From outputs to answers for people: activation, best classes, labels, thresholds, objects.

mod boxes;
mod classes;

use super::contract::{spec_text, tensor_text};
use super::error::{InferError, LoadError};
use super::prepare::Frame;
use boxes::Boxes;
pub(crate) use classes::best;
use fieldpost_shared::bundle::manifest::Postprocess;
use fieldpost_shared::bundle::{Dim, Manifest, Tensor, TensorSpec};
use std::collections::BTreeMap;

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

/// One object in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its class's index.
    pub class: usize,
    /// Its name, where the bundle has labels.
    pub label: Option<String>,
    /// Its probability.
    pub score: f32,
    /// Left, top, right, bottom: pixels of the picture that was sent, or of the model's input where tensors were sent.
    pub bounds: [f32; 4],
}

impl Found {
    /// How much of their union two boxes share, 0 to 1; 0 for boxes without area.
    pub(crate) fn overlap(&self, other: &Self) -> f64 {
        boxes::overlap(self.bounds.map(f64::from), other.bounds.map(f64::from))
    }
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
    /// Any number of labels.
    MultiLabel {
        /// Those that hold, best first; equal ones by index.
        labels: Vec<Ranked>,
        /// All probabilities by index.
        probabilities: Vec<f32>,
    },
    /// A number.
    Regression {
        /// The number.
        value: f64,
    },
    /// Any number of objects.
    Detection {
        /// Best first; equal ones by anchor.
        objects: Vec<Found>,
    },
    /// The bundle declares nothing: the outputs are the answer.
    Raw,
}

/// Post-processing, checked against the model's outputs.
#[derive(Debug)]
pub(super) struct Answering(Way);

#[derive(Debug)]
enum Way {
    Raw,
    /// Of one output, row by row; which it is, and the threshold of each class, where they differ.
    Rows {
        output: usize,
        thresholds: Vec<f32>,
    },
    Boxes(Box<Boxes>),
}

impl Answering {
    pub(super) fn new(manifest: &Manifest) -> Result<Self, LoadError> {
        let of_labels = |thresholds: &BTreeMap<String, f32>, default: f32| -> Vec<f32> {
            let own = |label: &String| thresholds.get(label).copied().unwrap_or(default);
            if thresholds.is_empty() { Vec::new() } else { manifest.labels.iter().map(own).collect() }
        };
        let way = match &manifest.postprocess {
            Postprocess::Raw => Way::Raw,
            Postprocess::Classification(declared) => {
                let (output, spec) = find(manifest, &declared.tensor)?;
                classes::check(declared.activation, spec, manifest.labels.len())
                    .map_err(|detail| refusal(&declared.tensor, detail))?;
                let default = declared.threshold.unwrap_or(f32::NEG_INFINITY);
                Way::Rows { output, thresholds: of_labels(&declared.thresholds, default) }
            }
            Postprocess::MultiLabel(declared) => {
                let (output, spec) = find(manifest, &declared.tensor)?;
                classes::check_labels(declared.activation, spec, manifest.labels.len())
                    .map_err(|detail| refusal(&declared.tensor, detail))?;
                Way::Rows { output, thresholds: of_labels(&declared.thresholds, declared.threshold) }
            }
            Postprocess::Regression { tensor, .. } => {
                let (output, spec) = find(manifest, tensor)?;
                if columns(spec).is_some_and(|columns| columns != 1) {
                    return Err(refusal(
                        tensor,
                        format!("a regression has one column, the output is {}", spec_text(spec)),
                    ));
                }
                Way::Rows { output, thresholds: Vec::new() }
            }
            Postprocess::Detection(declared) => Way::Boxes(Box::new(Boxes::new(
                declared,
                manifest,
                of_labels(&declared.thresholds, declared.threshold),
            )?)),
        };
        Ok(Self(way))
    }

    pub(super) fn answer(
        &self,
        manifest: &Manifest,
        outputs: &[Tensor],
        frame: Option<&Frame>,
    ) -> Result<Vec<Answer>, InferError> {
        let (output, thresholds) = match &self.0 {
            Way::Raw => return Ok(vec![Answer::Raw]),
            Way::Rows { output, thresholds } => (*output, thresholds),
            Way::Boxes(boxes) => return boxes.answer(manifest, outputs, frame),
        };
        let (spec, tensor) = output_of(manifest, outputs, output)?;
        let values = tensor.to_f64();
        let columns = row_width(spec, &tensor.shape);
        if columns == 0 || values.len() % columns != 0 {
            let (expected, found) = (spec_text(spec), format!("{} values", values.len()));
            return Err(InferError::Output { output: spec.name.clone(), expected, found });
        }
        let rows = values.chunks_exact(columns);
        Ok(match &manifest.postprocess {
            Postprocess::Classification(declared) => {
                rows.map(|row| classes::classify(declared, thresholds, &manifest.labels, row)).collect()
            }
            Postprocess::MultiLabel(declared) => {
                rows.map(|row| classes::hold(declared, thresholds, &manifest.labels, row)).collect()
            }
            _ => rows.flatten().map(|value| Answer::Regression { value: *value }).collect(),
        })
    }
}

fn refusal(tensor: &str, detail: String) -> LoadError {
    LoadError::Declaration { what: "post-processing", tensor: tensor.to_owned(), detail }
}

/// The output of a name, and where it stands.
fn find<'a>(manifest: &'a Manifest, tensor: &str) -> Result<(usize, &'a TensorSpec), LoadError> {
    manifest.outputs.iter().enumerate().find(|(_, spec)| spec.name == tensor).ok_or_else(|| {
        let names: Vec<&str> = manifest.outputs.iter().map(|spec| spec.name.as_str()).collect();
        refusal(tensor, format!("the model's outputs are [{}]", names.join(", ")))
    })
}

/// An output that is what the contract says.
fn output_of<'a>(
    manifest: &'a Manifest,
    outputs: &'a [Tensor],
    output: usize,
) -> Result<(&'a TensorSpec, &'a Tensor), InferError> {
    match (manifest.outputs.get(output), outputs.get(output)) {
        (Some(spec), Some(tensor)) if spec.dtype == tensor.dtype && spec.admits(&tensor.shape) => Ok((spec, tensor)),
        (spec, tensor) => Err(InferError::Output {
            output: spec.map(|spec| spec.name.clone()).unwrap_or_default(),
            expected: spec.map(spec_text).unwrap_or_default(),
            found: tensor.map_or_else(|| "nothing".to_owned(), tensor_text),
        }),
    }
}

/// Elements of one row: all axes but the first, which is the batch. An output of one axis is a batch of single values
/// where that axis is free, else one row.
pub(crate) fn row_width(spec: &TensorSpec, shape: &[usize]) -> usize {
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

#[cfg(test)]
mod tests;
