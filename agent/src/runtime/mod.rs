//! Runs a release's model on this box: from the files of a bundle to answers.
//!
//! ```text
//! PredictInput --prepare--> Tensors --infer--> Tensors --answer--> Answer
//! ```
//!
//! Everything here blocks: load, self-test, image decoding and inference belong on threads that are not the reactor's.
//! [`engine`] is the one place that knows tract. What the caller did wrong is an [`InputError`], what the model did
//! wrong an [`InferError`], why a release cannot be used at all a [`LoadError`].

mod answer;
mod contract;
pub mod engine;
mod error;
mod example;
pub(crate) mod memory;
mod model;
mod prepare;
pub mod selftest;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
pub(crate) mod onnx_builder;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod unload_tests;

pub use answer::{Answer, Found, Ranked};
pub(crate) use answer::{best, row_width};
pub(crate) use engine::Helpers;
pub use engine::{classes, external_files, inspect};
pub use error::{InferError, InputError, LoadError, Side};
pub use example::example;
pub use model::{LoadedModel, golden_set};
pub use prepare::{Frame, PredictInput, Prepared};
pub use selftest::{SelfTestFailure, SelfTestReport, self_test};

/// For the fuzz targets: pre-processing without a model to load. None where nothing can be prepared for the manifest,
/// which is refused when a release is loaded.
#[cfg(feature = "fuzzing")]
pub(crate) fn prepare_for_fuzzing(
    manifest: &fieldpost_shared::bundle::Manifest,
    input: &PredictInput<'_>,
) -> Option<Result<Prepared, InputError>> {
    Some(prepare::Preparing::new(manifest).ok()?.prepare(input))
}
