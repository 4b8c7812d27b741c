//! Completes what `bundle.toml` leaves open from the shapes of the model's tensors, and refuses what contradicts them.
//! Pure: the source and the discovered contract in, the manifest's statements out.

use super::source::{ClassificationSource, ImageSource, PostprocessSource, PreprocessSource, TabularSource};
use fieldpost_shared::bundle::manifest::{
    Activation, Channels, ClassificationOutput, ImageInput, Layout, Missing, Postprocess, Preprocess, ResizeFilter,
    TabularInput,
};
use fieldpost_shared::bundle::{Dim, Dtype, TensorSpec};

/// Classes answered when nobody says how many.
const DEFAULT_TOP_K: usize = 3;

/// A declaration that does not fit the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Several tensors and no word which.
    #[error("[{section}] must say which {side} it is about: the model has {known}")]
    Which {
        /// The section.
        section: &'static str,
        /// Input or output.
        side: &'static str,
        /// Their names.
        known: String,
    },
    /// A tensor that the model does not have.
    #[error("[{section}] names the {side} `{name}`: the model has {known}")]
    NoTensor {
        /// The section.
        section: &'static str,
        /// Input or output.
        side: &'static str,
        /// The name given.
        name: String,
        /// Their names.
        known: String,
    },
    /// A tensor of a rank that the section cannot speak of.
    #[error("[{section}] cannot be about `{tensor}` of shape {shape}: {expected}")]
    Shape {
        /// The section.
        section: &'static str,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: String,
        /// What it would have to be.
        expected: &'static str,
    },
    /// Something that neither the source nor the shape says.
    #[error("[{section}] must say `{key}`: the shape {shape} of `{tensor}` does not tell it")]
    Open {
        /// The section.
        section: &'static str,
        /// What is missing.
        key: &'static str,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: String,
    },
    /// The source says one thing, the shape another.
    #[error("[{section}] {key} is {said}, but `{tensor}` has the shape {shape}")]
    Conflict {
        /// The section.
        section: &'static str,
        /// The key, or what was counted.
        key: &'static str,
        /// What the source says.
        said: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: String,
    },
    /// No names for the columns.
    #[error("[preprocess] must list its `features`: there is no reference CSV whose header could name them")]
    NoFeatures,
    /// A name that occurs twice.
    #[error("{what} `{name}` occurs twice")]
    Twice {
        /// Feature or label.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// As many labels as classes are needed.
    #[error("{found} labels for the {expected} classes of `{tensor}`")]
    Labels {
        /// The output.
        tensor: String,
        /// Its classes.
        expected: usize,
        /// Labels given.
        found: usize,
    },
}

impl ResolveError {
    /// What to change in `bundle.toml`.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Which { .. } | Self::NoTensor { .. } => "set `tensor` to one of these names",
            Self::Shape { .. } => "leave the section out to serve plain tensors, or export the model with such a shape",
            Self::Open { .. } => "add the key to the section",
            Self::Conflict { .. } => "correct bundle.toml, or check that this is the right model file",
            Self::NoFeatures => "add `features = [...]` in column order",
            Self::Twice { .. } => "every name stands for one column or class",
            Self::Labels { .. } => "one label per class, in the order of the model's output",
        }
    }
}

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("`{}` {}", spec.name, spec.shape_text())).collect::<Vec<_>>().join(", ")
}

fn pick<'a>(
    section: &'static str,
    side: &'static str,
    name: Option<&str>,
    specs: &'a [TensorSpec],
) -> Result<&'a TensorSpec, ResolveError> {
    match (name, specs) {
        (None, [only]) => Ok(only),
        (None, _) => Err(ResolveError::Which { section, side, known: names(specs) }),
        (Some(name), _) => specs.iter().find(|spec| spec.name == name).ok_or_else(|| ResolveError::NoTensor {
            section,
            side,
            name: name.to_owned(),
            known: names(specs),
        }),
    }
}

fn once<'a>(what: &'static str, names: impl IntoIterator<Item = &'a String>) -> Result<(), ResolveError> {
    let mut seen = std::collections::HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(ResolveError::Twice { what, name: name.clone() }),
        None => Ok(()),
    }
}

/// From request to inputs. `header` names the columns of a reference CSV, where there is one.
///
/// # Errors
/// When the source leaves something open that the shapes do not tell, or contradicts them.
pub fn preprocess(
    source: Option<&PreprocessSource>,
    inputs: &[TensorSpec],
    header: Option<&[String]>,
) -> Result<Preprocess, ResolveError> {
    match source {
        None => Ok(Preprocess::Tensor),
        Some(PreprocessSource::Image(source)) => {
            let spec = pick("preprocess", "input", source.tensor.as_deref(), inputs)?;
            image(source, spec).map(Preprocess::Image)
        }
        Some(PreprocessSource::Tabular(source)) => {
            let spec = pick("preprocess", "input", source.tensor.as_deref(), inputs)?;
            tabular(source, spec, header).map(Preprocess::Tabular)
        }
    }
}

fn tabular(source: &TabularSource, spec: &TensorSpec, header: Option<&[String]>) -> Result<TabularInput, ResolveError> {
    let features = source.features.as_deref().or(header).ok_or(ResolveError::NoFeatures)?.to_vec();
    once("feature", &features)?;
    match spec.shape.as_slice() {
        [_, Dim::Symbol(_)] => {}
        [_, columns] if fixed(columns) == Some(features.len()) => {}
        [_, _] => return Err(conflict("preprocess", "the number of features", features.len(), spec)),
        _ => return Err(shape("preprocess", spec, "a tabular input is [N, features]")),
    }
    Ok(TabularInput { tensor: spec.name.clone(), features, missing: source.missing.unwrap_or(Missing::Refuse) })
}

fn image(source: &ImageSource, spec: &TensorSpec) -> Result<ImageInput, ResolveError> {
    const SECTION: &str = "preprocess";
    let open = |key| ResolveError::Open { section: SECTION, key, tensor: spec.name.clone(), shape: spec.shape_text() };
    let layout = match (source.layout, spec.shape.as_slice()) {
        (Some(Layout::Flat) | None, [_, _]) => Layout::Flat,
        (Some(layout @ (Layout::Nchw | Layout::Nhwc)), [_, _, _, _]) => layout,
        (None, [_, first, _, last]) => match (colours(first), colours(last)) {
            (false, true) => Layout::Nhwc,
            // Where both fit, or an axis is symbolic, ONNX's own convention holds.
            _ => Layout::Nchw,
        },
        _ => return Err(shape(SECTION, spec, "an image is [N,C,H,W], [N,H,W,C], or flat [N,pixels]")),
    };
    let (channel_axis, height_axis, width_axis) = match (layout, spec.shape.as_slice()) {
        (Layout::Nchw, [_, c, h, w]) | (Layout::Nhwc, [_, h, w, c]) => (fixed(c), fixed(h), fixed(w)),
        _ => (None, None, None),
    };
    let side = |key, said: Option<u32>, axis: Option<usize>| match (said, axis.map(u32::try_from)) {
        (Some(said), Some(Ok(axis))) if said != axis => Err(conflict(SECTION, key, said, spec)),
        (Some(said), _) => Ok(said),
        (None, Some(Ok(axis))) => Ok(axis),
        (None, _) => Err(open(key)),
    };
    let (width, height) = (side("width", source.width, width_axis)?, side("height", source.height, height_axis)?);
    let pixels = usize::try_from(u64::from(width) * u64::from(height)).ok();
    let flat = match (layout, spec.shape.as_slice()) {
        (Layout::Flat, [_, values]) => fixed(values),
        _ => None,
    };
    let counted = channel_axis.or_else(|| {
        let pixels = pixels.filter(|n| *n > 0)?;
        flat.filter(|values| values % pixels == 0).map(|values| values / pixels)
    });
    let channels = match (source.channels, counted) {
        (Some(said), Some(count)) if said.count() != count => {
            return Err(conflict(SECTION, "the number of channels", said.count(), spec));
        }
        (Some(said), _) => said,
        (None, Some(1)) => Channels::Gray,
        (None, Some(3)) => Channels::Rgb,
        (None, _) => return Err(open("channels")),
    };
    let values = pixels.and_then(|pixels| pixels.checked_mul(channels.count()));
    if flat.is_some() && flat != values {
        return Err(conflict(SECTION, "the number of values", values.unwrap_or(usize::MAX), spec));
    }
    let default_scale = if spec.dtype.is_float() { 1.0 / 255.0 } else { 1.0 };
    Ok(ImageInput {
        tensor: spec.name.clone(),
        width,
        height,
        channels,
        layout,
        resize: source.resize.unwrap_or(ResizeFilter::Bilinear),
        scale: source.scale.unwrap_or(default_scale),
        mean: source.mean.clone(),
        std: source.std.clone(),
    })
}

/// From outputs to answer; checks that there is one label per class.
///
/// # Errors
/// As [`preprocess`].
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
        Some(PostprocessSource::Regression(source)) => {
            let spec = pick("postprocess", "output", source.tensor.as_deref(), outputs)?;
            match spec.shape.as_slice() {
                [_] | [_, Dim::Fixed(1) | Dim::Symbol(_)] => Ok(Postprocess::Regression { tensor: spec.name.clone() }),
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
    })
}

fn fixed(dim: &Dim) -> Option<usize> {
    match dim {
        Dim::Fixed(size) => usize::try_from(*size).ok(),
        Dim::Symbol(_) => None,
    }
}

fn colours(dim: &Dim) -> bool {
    matches!(dim, Dim::Fixed(1 | 3))
}

fn shape(section: &'static str, spec: &TensorSpec, expected: &'static str) -> ResolveError {
    ResolveError::Shape { section, tensor: spec.name.clone(), shape: spec.shape_text(), expected }
}

fn conflict(section: &'static str, key: &'static str, said: impl ToString, spec: &TensorSpec) -> ResolveError {
    let (tensor, shape) = (spec.name.clone(), spec.shape_text());
    ResolveError::Conflict { section, key, said: said.to_string(), tensor, shape }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
