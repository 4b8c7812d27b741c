//! Completes what `bundle.toml` leaves open from the shapes of the model's tensors, and refuses what contradicts them.
//! Pure: the source and the discovered contract in, the manifest's statements out.

mod input;
mod output;

pub use input::preprocess;
pub use output::postprocess;

use fieldpost_shared::bundle::{Dim, TensorSpec};

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
mod tests;
