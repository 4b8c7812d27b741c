//! What a bundle declares of the way from a request to the model's tensors, and from them to an answer. Data only: the
//! agent's `runtime` does it.
//!
//! A field that was added later has a default that means "as before", and is left out where it says just that: an old
//! manifest reads, and one that uses nothing new has the bytes it always had.

mod image;
mod input;
mod output;

pub use image::{Align, Channels, Fit, ImageInput, Layout, Luma, ResizeFilter};
pub use input::{BytesInput, Encoding, Feature, Missing, Preprocess, TabularInput, Unknown};
pub use output::{
    Activation, BoxFormat, BoxLayout, BoxUnit, ClassificationOutput, DetectionOutput, MultiLabelOutput, Postprocess,
};

/// Most bytes, and most elements of a tensor, that a declaration may ask for per request.
pub const MAX_BYTES_INPUT: u32 = 1 << 20;
/// Most boxes that may be answered.
pub const MAX_BOXES: usize = 1_000;
/// Most categories of one feature.
pub const MAX_CATEGORIES: usize = 10_000;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A declaration that contradicts itself; names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeclarationError(String);

fn refuse<T>(text: impl Into<String>) -> Result<T, DeclarationError> {
    Err(DeclarationError(text.into()))
}

/// Whether a share is one: 0..=1, not NaN.
fn share(key: &str, value: f32) -> Result<(), DeclarationError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { refuse(format!("{key} is {value}, not a number in 0..=1")) }
}

#[cfg(test)]
mod tests;
