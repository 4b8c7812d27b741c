//! `[postprocess]`.

use super::super::source::{ClassificationSource, DetectionSource, MultiLabelSource, PostprocessSource};
use super::{ResolveError, conflict, fixed, once, pick, shape};
use fieldpost_shared::bundle::manifest::{
    Activation, ClassificationOutput, DetectionOutput, MultiLabelOutput, Postprocess,
};
use fieldpost_shared::bundle::{Dim, Dtype, TensorSpec};

/// Classes answered when nobody says how many.
const DEFAULT_TOP_K: usize = 3;

/// From outputs to answer; checks that there is one label per class.
///
/// # Errors
/// As [`preprocess`](super::preprocess).
pub fn postprocess(
    source: Option<&PostprocessSource>,
    outputs: &[TensorSpec],
    labels: &[String],
) -> Result<Postprocess, ResolveError> {
    once("label", labels)?;
    match source {
        None => Ok(Postprocess::Raw),
        Some(PostprocessSource::Classification(source)) => {
            let name = source.tensor.as_deref().or_else(|| scores(outputs));
            let spec = pick("postprocess", "output", name, outputs)?;
            classification(source, spec, labels).map(Postprocess::Classification)
        }
        Some(PostprocessSource::MultiLabel(source)) => {
            let spec = pick("postprocess", "output", source.tensor.as_deref(), outputs)?;
            multi_label(source, spec, labels).map(Postprocess::MultiLabel)
        }
        Some(PostprocessSource::Detection(source)) => detection(source, outputs).map(Postprocess::Detection),
        Some(PostprocessSource::Regression(source)) => {
            let spec = pick("postprocess", "output", source.tensor.as_deref(), outputs)?;
            match spec.shape.as_slice() {
                [_] | [_, Dim::Fixed(1) | Dim::Symbol(_)] => {
                    Ok(Postprocess::Regression { tensor: spec.name.clone(), unit: source.unit.clone() })
                }
                _ => Err(shape("postprocess", spec, "a regression is [N] or [N,1]")),
            }
        }
    }
}

/// Classical models answer with a label and with scores: the one output that holds real numbers by class is meant.
fn scores(outputs: &[TensorSpec]) -> Option<&str> {
    let real = |spec: &&TensorSpec| matches!(spec.dtype, Dtype::Fp32 | Dtype::Fp64) && spec.shape.len() == 2;
    let mut found = outputs.iter().filter(real);
    match (found.next(), found.next()) {
        (Some(only), None) => Some(&only.name),
        _ => None,
    }
}

fn classification(
    source: &ClassificationSource,
    spec: &TensorSpec,
    labels: &[String],
) -> Result<ClassificationOutput, ResolveError> {
    let columns = match spec.shape.as_slice() {
        [_, columns] => fixed(columns),
        // One probability per row, of the second of two classes.
        [_] if source.activation == Some(Activation::Sigmoid) => Some(1),
        _ => return Err(shape("postprocess", spec, "a classification is [N, classes]")),
    };
    let classes = match columns {
        Some(1) if source.activation == Some(Activation::Sigmoid) => Some(2),
        other => other,
    };
    if let Some(expected) = classes.filter(|classes| !labels.is_empty() && labels.len() != *classes) {
        return Err(ResolveError::Labels { tensor: spec.name.clone(), expected, found: labels.len() });
    }
    let most = classes.or(Some(labels.len())).filter(|count| *count > 0).unwrap_or(usize::MAX);
    let top_k = source.top_k.unwrap_or_else(|| DEFAULT_TOP_K.min(most));
    if top_k == 0 || top_k > most {
        return Err(conflict("postprocess", "top_k", top_k, spec));
    }
    Ok(ClassificationOutput {
        tensor: spec.name.clone(),
        activation: source.activation.unwrap_or(Activation::None),
        top_k,
        threshold: source.threshold,
        thresholds: source.thresholds.clone(),
    })
}

fn multi_label(
    source: &MultiLabelSource,
    spec: &TensorSpec,
    labels: &[String],
) -> Result<MultiLabelOutput, ResolveError> {
    let [_, columns] = spec.shape.as_slice() else {
        return Err(shape("postprocess", spec, "several labels are [N, labels]"));
    };
    if let Some(expected) = fixed(columns).filter(|count| !labels.is_empty() && labels.len() != *count) {
        return Err(ResolveError::Labels { tensor: spec.name.clone(), expected, found: labels.len() });
    }
    Ok(MultiLabelOutput {
        tensor: spec.name.clone(),
        activation: source.activation,
        threshold: source.threshold.unwrap_or(0.5),
        thresholds: source.thresholds.clone(),
    })
}

/// How many numbers an anchor has is checked with the model's own post-processing.
fn detection(source: &DetectionSource, outputs: &[TensorSpec]) -> Result<DetectionOutput, ResolveError> {
    let boxes = pick("postprocess", "output", source.boxes.as_deref(), outputs)?.name.clone();
    let named = |name: &Option<String>| match name {
        Some(name) => pick("postprocess", "output", Some(name), outputs).map(|spec| Some(spec.name.clone())),
        None => Ok(None),
    };
    Ok(DetectionOutput {
        layout: source.layout,
        boxes,
        scores: named(&source.scores)?,
        classes: named(&source.classes)?,
        format: source.format,
        unit: source.unit,
        objectness: source.objectness,
        background: source.background,
        activation: source.activation,
        threshold: source.threshold.unwrap_or(0.25),
        thresholds: source.thresholds.clone(),
        iou: source.iou.unwrap_or(0.45),
        class_agnostic: source.class_agnostic,
        most: source.most.unwrap_or(100),
    })
}
