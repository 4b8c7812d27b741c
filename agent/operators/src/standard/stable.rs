//! Exponentials that do not overflow on the way, where the answer itself does not: with tract's a logit that lies 104 below the
//! largest has the logarithm of nothing, minus infinity, and a sum of exponentials ends at 88.

use super::Built;
use crate::ml::attributes::Attributes;
use crate::ml::kernel::{Fact, Kernel, from_kernel};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// From here on the axis is one axis; before, all axes from it on were taken together.
const ONE_AXIS: i64 = 13;

/// `x - max - log(sum(exp(x - max)))` along an axis (ONNX `LogSoftmax`), in binary32 or wider.
#[derive(Debug)]
struct LogSoftmax {
    axis: i64,
    to_the_last: bool,
}

pub(super) fn log_softmax(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let axis = Attributes::new(node).int("axis")?;
    let to_the_last = context.onnx_operator_set_version < ONE_AXIS;
    let kernel = LogSoftmax { axis: axis.unwrap_or(if to_the_last { 1 } else { -1 }), to_the_last };
    Ok((from_kernel(node, kernel), vec![]))
}

impl LogSoftmax {
    fn axis(&self, rank: usize) -> TractResult<usize> {
        let axis = if self.axis < 0 { self.axis + i64::try_from(rank)? } else { self.axis };
        // As many axes as there are take nothing together: a row of one number each.
        let most = if self.to_the_last { rank } else { rank.saturating_sub(1) };
        usize::try_from(axis)
            .ok()
            .filter(|axis| *axis <= most)
            .with_context(|| format!("attribute `axis` is {}, the input has {rank} axes", self.axis))
    }

    /// Length of what is taken together, and how far apart its numbers lie.
    fn lane(&self, shape: &[usize]) -> TractResult<(usize, usize)> {
        let axis = self.axis(shape.len())?;
        let (_, from) = shape.split_at(axis);
        Ok(match from.split_first() {
            Some((len, inner)) if !self.to_the_last => (*len, inner.iter().product()),
            _ => (from.iter().product(), 1),
        })
    }
}

impl Kernel for LogSoftmax {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        ensure!(x.dtype.is_float(), "the input is {:?}; it must be of real numbers", x.dtype);
        self.axis(x.shape.len())?;
        Ok(tvec![x.clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let (len, apart) = self.lane(x.shape())?;
        let dtype = x.datum_type();
        let wide = if dtype == f64::datum_type() { dtype } else { f32::datum_type() };
        let mut out = x.cast_to_dt(wide)?.into_owned();
        let mut values = out.try_as_plain_ram_mut()?;
        if wide == f64::datum_type() {
            lanes(values.as_slice_mut::<f64>()?, (len, apart));
        } else {
            lanes(values.as_slice_mut::<f32>()?, (len, apart));
        }
        Ok(tvec![out.cast_to_dt(dtype)?.into_owned().into_tvalue()])
    }
}

/// Sums are of binary64: of many numbers one of binary32 loses the tail.
fn lanes<T: Real>(values: &mut [T], (len, apart): (usize, usize)) {
    for block in values.chunks_mut((len * apart).max(1)) {
        for first in 0..apart {
            let lane = || block.iter().skip(first).step_by(apart);
            let most = lane().fold(T::LEAST, |most, value| if *value > most { *value } else { most });
            let shift = most.finite_or_zero();
            let below = shift.wide() + lane().map(|value| value.exp_less(shift)).sum::<f64>().ln();
            block.iter_mut().skip(first).step_by(apart).for_each(|value| *value = value.less(below));
        }
    }
}

trait Real: Copy + PartialOrd {
    const LEAST: Self;
    fn wide(self) -> f64;
    fn finite_or_zero(self) -> Self;
    /// `exp(self - shift)`.
    fn exp_less(self, shift: Self) -> f64;
    fn less(self, below: f64) -> Self;
}

impl Real for f32 {
    const LEAST: Self = Self::NEG_INFINITY;

    fn wide(self) -> f64 {
        self.into()
    }

    fn finite_or_zero(self) -> Self {
        if self.is_finite() { self } else { 0.0 }
    }

    fn exp_less(self, shift: Self) -> f64 {
        (self - shift).exp().into()
    }

    #[allow(clippy::cast_possible_truncation, reason = "rounded to the type of the input")]
    fn less(self, below: f64) -> Self {
        (self.wide() - below) as Self
    }
}

impl Real for f64 {
    const LEAST: Self = Self::NEG_INFINITY;

    fn wide(self) -> f64 {
        self
    }

    fn finite_or_zero(self) -> Self {
        if self.is_finite() { self } else { 0.0 }
    }

    fn exp_less(self, shift: Self) -> f64 {
        (self - shift).exp()
    }

    fn less(self, below: f64) -> Self {
        self - below
    }
}
