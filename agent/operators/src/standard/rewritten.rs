//! Operators that [`rewrite`](super::rewrite()) puts into graphs. A graph from outside that names one gets it: they check
//! their inputs as all others do.

use super::indices::OutOfRange;
use crate::ml::attributes::Attributes;
use crate::ml::kernel::{Fact, FromNode, Kernel};
use tract_onnx::tract_hir::internal::*;

/// Names of the operators.
pub(super) const ADDED: &str = "fieldpost.AddedMask";
pub(super) const FINITE: &str = "fieldpost.FiniteOrZero";
pub(super) const FROM_THE_FRONT: &str = "fieldpost.IndicesFromTheFront";
pub(super) const LIKE: &str = "fieldpost.Like";
pub(super) const LIST: &str = "fieldpost.List";
pub(super) const NUMBERS: &str = "fieldpost.Numbers";
pub(super) const REAL: &str = "fieldpost.Real";

/// Indices of `GatherND` and `ScatterND` (ONNX version 11 on), none of which is negative: inputs are the data and the indices.
#[derive(Debug)]
pub(super) struct FromTheFront {
    batch_dims: usize,
}

impl FromNode for FromTheFront {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let batch_dims = attributes.int("batch_dims")?.unwrap_or(0);
        Ok(Self { batch_dims: usize::try_from(batch_dims).context("attribute `batch_dims` is negative")? })
    }
}

impl Kernel for FromTheFront {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [_, indices] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        Ok(tvec![Fact::new(i64::datum_type(), indices.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [data, indices] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        let mut out = indices.cast_to::<i64>()?.into_owned();
        let columns = out.shape().last().copied().context("indices are at least a list")?;
        let axes = data.shape().get(self.batch_dims..).and_then(|axes| axes.get(..columns));
        let axes = axes.with_context(|| format!("{columns} indices at a time for data of {} axes", data.rank()))?;
        let mut plain = out.try_as_plain_ram_mut()?;
        for row in plain.as_slice_mut::<i64>()?.chunks_mut(columns.max(1)) {
            for (index, axis) in row.iter_mut().zip(axes) {
                let axis = i64::try_from(*axis)?;
                if !(-axis..axis).contains(index) {
                    let (node, least, most) = ("indices".to_owned(), -axis, axis - 1);
                    let error = OutOfRange { node, found: *index, least, most, of_request: false };
                    return Err(TractError::new(error));
                }
                if *index < 0 {
                    *index += axis;
                }
            }
        }
        Ok(tvec![out.into_tvalue()])
    }
}

/// A mask of `Attention` that is added to the scores: inputs are the mask and the queries.
#[derive(Debug)]
pub(super) struct Added;

impl FromNode for Added {
    fn from_node(_: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Added {
    /// Scores are worked out in float32 at least, and the mask of what lies in the future is of float32.
    fn dtype(mask: DatumType, queries: DatumType) -> DatumType {
        let dtype = if mask == bool::datum_type() { queries } else { mask };
        if dtype == f16::datum_type() { f32::datum_type() } else { dtype }
    }
}

impl Kernel for Added {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [mask, queries] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        Ok(tvec![Fact::new(Self::dtype(mask.dtype, queries.dtype), mask.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [mask, queries] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        let dtype = Self::dtype(mask.datum_type(), queries.datum_type());
        if mask.datum_type() != bool::datum_type() {
            return Ok(tvec![mask.cast_to_dt(dtype)?.into_owned().into_tvalue()]);
        }
        // No score comes near the least number; minus infinity makes NaN of all of a query that sees nothing.
        let least = f32::MIN;
        let yes = mask.try_as_plain_ram()?.as_slice::<bool>()?;
        let added: Vec<f32> = yes.iter().map(|yes| if *yes { 0.0 } else { least }).collect();
        let added = Tensor::from_shape(mask.shape(), &added)?;
        Ok(tvec![added.cast_to_dt(dtype)?.into_owned().into_tvalue()])
    }
}

/// A scalar as a list of one; a list as it is.
#[derive(Debug)]
pub(super) struct List;

impl FromNode for List {
    fn from_node(_: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Kernel for List {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let shape = if x.shape.is_empty() { tvec![1.to_dim()] } else { x.shape.clone() };
        Ok(tvec![Fact::new(x.dtype, shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let mut x = x.clone().into_tensor();
        if x.rank() == 0 {
            x.insert_axis(0)?;
        }
        Ok(tvec![x.into_tvalue()])
    }
}

/// Sizes, which tract keeps as expressions, as the integers that they are; everything else as it is.
#[derive(Debug)]
pub(super) struct Numbers;

impl FromNode for Numbers {
    fn from_node(_: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Kernel for Numbers {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let dtype = if x.dtype == TDim::datum_type() { i64::datum_type() } else { x.dtype };
        Ok(tvec![Fact::new(dtype, x.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        if x.datum_type() == TDim::datum_type() {
            return Ok(tvec![x.cast_to::<i64>()?.into_owned().into_tvalue()]);
        }
        Ok(tvec![x.clone()])
    }
}

/// Integers as real numbers of float64; real numbers as they are.
#[derive(Debug)]
pub(super) struct Real;

impl FromNode for Real {
    fn from_node(_: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Kernel for Real {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let dtype = if x.dtype.is_float() { x.dtype } else { f64::datum_type() };
        Ok(tvec![Fact::new(dtype, x.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        if x.datum_type().is_float() {
            return Ok(tvec![x.clone()]);
        }
        let whole = x.cast_to::<i64>()?;
        Ok(tvec![whole.cast_to::<f64>()?.into_owned().into_tvalue()])
    }
}

/// Numbers of the type of others, rounded towards zero for integers: inputs are the numbers and the others.
#[derive(Debug)]
pub(super) struct Like;

impl FromNode for Like {
    fn from_node(_: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Kernel for Like {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x, other] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        Ok(tvec![Fact::new(other.dtype, x.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x, other] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        if x.datum_type() == other.datum_type() {
            return Ok(tvec![x.clone()]);
        }
        Ok(tvec![x.cast_to_dt(other.datum_type())?.into_owned().into_tvalue()])
    }
}
