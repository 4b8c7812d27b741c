//! Inputs as rows of features: `[rows, features]`, or `[features]` for one row.

use super::kernel::Fact;
use super::scalars::is_number;
use tract_onnx::tract_hir::internal::*;

/// Rows and features of an input while the graph is read.
pub(super) fn facts(inputs: &[Fact]) -> TractResult<(TDim, TDim)> {
    let [input] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
    ensure!(is_number(input.dtype), "numbers are expected, the input is {:?}", input.dtype);
    match input.shape.as_slice() {
        [features] => Ok((1.into(), features.clone())),
        [rows, features] => Ok((rows.clone(), features.clone())),
        other => bail!("[rows, features] are expected, the input has {} axes", other.len()),
    }
}

/// As [`facts`], with at least or exactly so many features.
pub(super) fn expect(inputs: &[Fact], features: Features) -> TractResult<TDim> {
    let (rows, found) = facts(inputs)?;
    if let Ok(found) = found.to_usize() {
        features.check(found)?;
    }
    Ok(rows)
}

/// How many features a model takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Features {
    Exactly(usize),
    AtLeast(usize),
}

impl Features {
    pub(super) fn check(self, found: usize) -> TractResult<()> {
        match self {
            Self::Exactly(wanted) => ensure!(found == wanted, "the input has {found} features, the model {wanted}"),
            Self::AtLeast(wanted) => {
                ensure!(found >= wanted, "the input has {found} features, the model reads the {wanted}th");
            }
        }
        Ok(())
    }
}

/// Rows and features of an input.
pub(super) fn sizes(shape: &[usize], features: Features) -> TractResult<(usize, usize)> {
    let (rows, found) = match shape {
        [found] => (1, *found),
        [rows, found] => (*rows, *found),
        other => bail!("[rows, features] are expected, the input has {} axes", other.len()),
    };
    features.check(found)?;
    Ok((rows, found))
}

/// Rows of a slice; none of a slice without columns.
pub(super) fn of<T>(values: &[T], width: usize) -> impl Iterator<Item = &[T]> {
    values.chunks_exact(width.max(1))
}
