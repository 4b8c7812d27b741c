//! What convolutional networks spend their time in beside the products themselves, done faster than tract does it.
//!
//! - `im2col`: the columns of a convolution are copied in runs, not gathered one by one, and padding is made on the way.
//! - `max_pool`: rows first, then columns.
//!
//! Both take the place of tract's operators in a graph that it has optimised. The answers are the same to the bit: columns are
//! compared with tract's own before they replace them, and a maximum is a maximum.

mod im2col;
mod max_pool;
mod windows;

#[cfg(test)]
mod tests;

use crate::standard::resize::align_whole_sizes;
use crate::standard::square;
use im2col::Convolutions;
use tract_onnx::tract_core::internal::*;

/// What tract makes of a graph whose sizes are known, with these operators in it.
///
/// # Errors
/// When tract cannot optimise it.
pub fn optimized(model: TypedModel) -> TractResult<TypedModel> {
    let mut model = model.into_decluttered()?;
    align_whole_sizes(&mut model)?;
    let convolutions = Convolutions::of(&model)?;
    model.optimize()?;
    convolutions.replace(&mut model)?;
    max_pool::replace(&mut model)?;
    square::of_integers(&mut model)?;
    Ok(model)
}
