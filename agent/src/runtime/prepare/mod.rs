//! From a request to the model's inputs, as the bundle declares.

mod image;
mod tabular;

use super::error::{InputError, LoadError, panic_message};
use fieldpost_shared::bundle::manifest::Preprocess;
use fieldpost_shared::bundle::{Manifest, Tensor, TensorSpec};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A request for people, before pre-processing.
#[derive(Debug, Clone, Copy)]
pub enum PredictInput<'a> {
    /// The bytes of a PNG or JPEG.
    Image(&'a [u8]),
    /// An object of features by name, or a list of such: one row each.
    Json(&'a serde_json::Value),
}

impl PredictInput<'_> {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "an image",
            Self::Json(_) => "JSON",
        }
    }
}

/// Pre-processing, checked against the model's inputs and with its tables made.
#[derive(Debug)]
pub(super) enum Preparing {
    Tensor,
    Image(image::ImageToTensor),
    Tabular(tabular::FeaturesToTensor),
}

impl Preparing {
    pub(super) fn new(manifest: &Manifest) -> Result<Self, LoadError> {
        match &manifest.preprocess {
            Preprocess::Tensor => Ok(Self::Tensor),
            Preprocess::Image(image) => {
                let spec = only_input(manifest, &image.tensor)?;
                image::ImageToTensor::new(image, spec).map(Self::Image)
            }
            Preprocess::Tabular(tabular) => {
                let spec = only_input(manifest, &tabular.tensor)?;
                tabular::FeaturesToTensor::new(tabular, spec).map(Self::Tabular)
            }
        }
    }

    pub(super) fn prepare(&self, input: &PredictInput<'_>) -> Result<Vec<Tensor>, InputError> {
        let takes = match (self, input) {
            (Self::Image(image), PredictInput::Image(bytes)) => {
                // Decoders see bytes from anywhere.
                let tensor = catch_unwind(AssertUnwindSafe(|| image.prepare(bytes)))
                    .unwrap_or_else(|payload| Err(InputError::Panic(panic_message(payload.as_ref()))));
                return tensor.map(|tensor| vec![tensor]);
            }
            (Self::Tabular(tabular), PredictInput::Json(json)) => {
                return tabular.prepare(json).map(|tensor| vec![tensor]);
            }
            (Self::Image(_), PredictInput::Json(_)) => "a PNG or JPEG image",
            (Self::Tabular(_), PredictInput::Image(_)) => "a JSON object of features",
            (Self::Tensor, _) => "tensors (Open Inference Protocol)",
        };
        Err(InputError::Kind { takes, found: input.kind() })
    }
}

/// The one input that pre-processing fills. A second would stay empty.
fn only_input<'a>(manifest: &'a Manifest, tensor: &str) -> Result<&'a TensorSpec, LoadError> {
    let declaration =
        |detail: String| LoadError::Declaration { what: "pre-processing", tensor: tensor.to_owned(), detail };
    match manifest.inputs.as_slice() {
        [spec] if spec.name == tensor => Ok(spec),
        [spec] => Err(declaration(format!("the model's input is `{}`", spec.name))),
        inputs => Err(declaration(format!("it fills one input, the model has {}", inputs.len()))),
    }
}
