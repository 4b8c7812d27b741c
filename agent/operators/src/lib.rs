//! Operators for [tract](https://github.com/sonos/tract), by which it runs more models, and runs them better.
//!
//! The crate knows tract and nothing else of fieldpost, so that each part can be offered upstream as it is; and it is built for
//! speed, where the agent around it is built for size.

mod cnn;
pub mod ml;
pub mod standard;

use cnn::Convolutions;
use tract_onnx::tract_core::internal::*;

/// What tract makes of a graph whose sizes are known, with the operators of this crate where they answer better or sooner.
///
/// # Errors
/// When tract cannot optimise it.
pub fn optimized(model: TypedModel) -> TractResult<TypedModel> {
    let mut model = model.into_decluttered()?;
    standard::aligned::replace(&mut model)?;
    standard::replaced::in_graph(&mut model)?;
    let convolutions = Convolutions::of(&model)?;
    model.optimize()?;
    convolutions.replace(&mut model)?;
    cnn::replace_pools(&mut model)?;
    standard::square::of_integers(&mut model)?;
    standard::kinds::compare_booleans(&mut model)?;
    standard::largest::keep_nan(&mut model)?;
    standard::plans::of_branches(&mut model)?;
    Ok(model)
}
