//! From a request to the model's inputs, as the bundle declares.

mod bytes;
mod category;
mod image;
mod tabular;

use super::error::{InputError, LoadError, panic_message};
use fieldpost_shared::bundle::manifest::Preprocess;
use fieldpost_shared::bundle::{Manifest, Tensor, TensorSpec};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use image::Frame;

/// A request for people, before pre-processing.
#[derive(Debug, Clone, Copy)]
pub enum PredictInput<'a> {
    /// The bytes of a JPEG, PNG, WebP or BMP.
    Image(&'a [u8]),
    /// An object of features by name, or a list of such: one row each.
    Json(&'a serde_json::Value),
    /// Text or any other bytes.
    Bytes(&'a [u8]),
}

impl PredictInput<'_> {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "an image",
            Self::Json(_) => "JSON",
            Self::Bytes(_) => "bytes",
        }
    }
}

/// What a request became.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The model's inputs, in the manifest's order.
    pub tensors: Vec<Tensor>,
    /// Where the model's pixels lie in the picture, where it was one.
    pub frame: Option<Frame>,
}

impl From<Vec<Tensor>> for Prepared {
    fn from(tensors: Vec<Tensor>) -> Self {
        Self { tensors, frame: None }
    }
}

/// Pre-processing, checked against the model's inputs and with its tables made.
#[derive(Debug)]
pub(super) enum Preparing {
    Tensor,
    Image(Box<image::ImageToTensor>),
    Tabular(tabular::FeaturesToTensors),
    Bytes(bytes::BytesToTensor),
}

impl Preparing {
    pub(super) fn new(manifest: &Manifest) -> Result<Self, LoadError> {
        match &manifest.preprocess {
            Preprocess::Tensor => Ok(Self::Tensor),
            Preprocess::Image(image) => {
                let spec = only_input(manifest, &image.tensor)?;
                image::ImageToTensor::new(image, spec).map(Box::new).map(Self::Image)
            }
            Preprocess::Tabular(tabular) => tabular::FeaturesToTensors::new(tabular, manifest).map(Self::Tabular),
            Preprocess::Bytes(bytes) => {
                let spec = only_input(manifest, &bytes.tensor)?;
                bytes::BytesToTensor::new(bytes, spec).map(Self::Bytes)
            }
        }
    }

    pub(super) fn prepare(&self, input: &PredictInput<'_>) -> Result<Prepared, InputError> {
        let takes = match (self, input) {
            (Self::Image(image), PredictInput::Image(bytes)) => {
                // Decoders see bytes from anywhere.
                let prepared = catch_unwind(AssertUnwindSafe(|| image.prepare(bytes)))
                    .unwrap_or_else(|payload| Err(InputError::Panic(panic_message(payload.as_ref()))));
                return prepared.map(|(tensor, frame)| Prepared { tensors: vec![tensor], frame: Some(frame) });
            }
            (Self::Tabular(tabular), PredictInput::Json(json)) => return tabular.prepare(json).map(Prepared::from),
            (Self::Bytes(bytes), PredictInput::Bytes(body)) => {
                return bytes.prepare(body).map(|tensor| Prepared::from(vec![tensor]));
            }
            (Self::Image(_), _) => "a JPEG, PNG, WebP or BMP image",
            (Self::Tabular(_), _) => "a JSON object of features",
            (Self::Bytes(_), _) => "text or other bytes",
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
