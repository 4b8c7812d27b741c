//! `QuantizeLinear` and `DequantizeLinear` (ONNX versions 10 to 25), for a whole tensor or along an axis, the latter for blocks
//! along an axis, too.
//!
//! `q = saturate(round_half_even(x / scale) + zero_point)`, `x = (q - zero_point) * scale`, in binary32. NaN becomes the
//! least of nothing: 0. Scales and zero points are read at each run, so those that a graph computes serve as well.

use crate::ml::attributes::Attributes;
use crate::ml::kernel::{Fact, FromNode, Kernel};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::tract_hir::internal::*;

/// From real numbers to integers.
#[derive(Debug)]
pub(super) struct QuantizeLinear {
    axis: i64,
    /// Stated type of the output; else the zero point's.
    to: Option<DatumType>,
}

/// From integers to real numbers.
#[derive(Debug)]
pub(super) struct DequantizeLinear {
    axis: i64,
    /// How many values along the axis have a scale in common; 0 is all of one place.
    block: usize,
}

fn axis(attributes: &Attributes<'_>) -> TractResult<i64> {
    Ok(attributes.int("axis")?.unwrap_or(1))
}

fn block(attributes: &Attributes<'_>) -> TractResult<usize> {
    usize::try_from(attributes.int("block_size")?.unwrap_or(0)).context("attribute `block_size` is negative")
}

impl FromNode for QuantizeLinear {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let to = match attributes.int("output_dtype")?.filter(|code| *code != 0) {
            None => None,
            Some(code) => match i32::try_from(code).map(DataType::try_from) {
                Ok(Ok(DataType::Uint8)) => Some(u8::datum_type()),
                Ok(Ok(DataType::Int8)) => Some(i8::datum_type()),
                Ok(Ok(DataType::Uint16)) => Some(u16::datum_type()),
                Ok(Ok(DataType::Int16)) => Some(i16::datum_type()),
                _ => return attributes.unexpected("output_dtype", code),
            },
        };
        ensure!(
            block(attributes)? == 0,
            "scales of blocks are not supported: quantise with one scale a tensor or a channel"
        );
        Ok(Self { axis: axis(attributes)?, to })
    }
}

impl FromNode for DequantizeLinear {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self { axis: axis(attributes)?, block: block(attributes)? })
    }
}

/// Input, scale, and the zero point where there is one.
fn operands<T>(inputs: &[T]) -> TractResult<(&T, &T, Option<&T>)> {
    match inputs {
        [x, scale] => Ok((x, scale, None)),
        [x, scale, zero_point] => Ok((x, scale, Some(zero_point))),
        _ => bail!("two or three inputs are expected, there are {}", inputs.len()),
    }
}

fn real(what: &str, found: DatumType) -> TractResult<()> {
    ensure!(found == f32::datum_type(), "the {what} must be float32, it is {found:?}: insert a Cast");
    Ok(())
}

impl Kernel for QuantizeLinear {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (x, scale, zero_point) = operands(inputs)?;
        real("input", x.dtype)?;
        real("scale", scale.dtype)?;
        let to = zero_point.map(|fact| fact.dtype).or(self.to).unwrap_or(u8::datum_type());
        ensure!(
            [u8::datum_type(), i8::datum_type(), u16::datum_type(), i16::datum_type()].contains(&to),
            "the output is {to:?}; it can be of 8 or 16 bits"
        );
        Ok(tvec![Fact::new(to, x.shape.iter().cloned())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (_, _, zero_point) = operands(inputs)?;
        match zero_point.map(|value| value.datum_type()).or(self.to).unwrap_or(u8::datum_type()) {
            DatumType::U8 => self.quantize::<u8>(inputs),
            DatumType::I8 => self.quantize::<i8>(inputs),
            DatumType::U16 => self.quantize::<u16>(inputs),
            DatumType::I16 => self.quantize::<i16>(inputs),
            other => bail!("no output of the type {other:?}"),
        }
    }
}

impl QuantizeLinear {
    fn quantize<T: Level>(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (x, scale, zero_point) = operands(inputs)?;
        let steps = Steps::<T>::new(x.shape(), self.axis, scale, zero_point)?;
        let mut out = Tensor::zero_dt(T::datum_type(), x.shape())?;
        let (from, mut to) = (x.try_as_plain_ram()?, out.try_as_plain_ram_mut()?);
        let (from, to) = (from.as_slice::<f32>()?, to.as_slice_mut::<T>()?);
        for (run, (from, to)) in from.chunks(steps.run).zip(to.chunks_mut(steps.run)).enumerate() {
            let (scale, zero_point) = steps.of(run);
            let zero_point = zero_point.real();
            from.iter().zip(to).for_each(|(x, q)| *q = T::saturate((x / scale).round_ties_even() + zero_point));
        }
        Ok(tvec![out.into_tvalue()])
    }
}

impl Kernel for DequantizeLinear {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (x, scale, zero_point) = operands(inputs)?;
        real("scale", scale.dtype)?;
        let known = [u8::datum_type(), i8::datum_type(), u16::datum_type(), i16::datum_type(), i32::datum_type()]
            .contains(&x.dtype);
        ensure!(known, "the input is {:?}; it can be an integer of 8, 16 or (signed) 32 bits", x.dtype);
        if let Some(zero_point) = zero_point {
            ensure!(zero_point.dtype == x.dtype, "the zero point is {:?}, the input {:?}", zero_point.dtype, x.dtype);
        }
        Ok(tvec![Fact::new(f32::datum_type(), x.shape.iter().cloned())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (x, ..) = operands(inputs)?;
        match x.datum_type() {
            DatumType::U8 => self.dequantize::<u8>(inputs),
            DatumType::I8 => self.dequantize::<i8>(inputs),
            DatumType::U16 => self.dequantize::<u16>(inputs),
            DatumType::I16 => self.dequantize::<i16>(inputs),
            DatumType::I32 => self.dequantize::<i32>(inputs),
            other => bail!("no input of the type {other:?}"),
        }
    }
}

impl DequantizeLinear {
    fn dequantize<T: Level>(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (x, scale, zero_point) = operands(inputs)?;
        if self.block > 0 {
            return self.dequantize_blocks::<T>(x, scale, zero_point);
        }
        let steps = Steps::<T>::new(x.shape(), self.axis, scale, zero_point)?;
        let mut out = Tensor::zero::<f32>(x.shape())?;
        let (from, mut to) = (x.try_as_plain_ram()?, out.try_as_plain_ram_mut()?);
        let (from, to) = (from.as_slice::<T>()?, to.as_slice_mut::<f32>()?);
        for (run, (from, to)) in from.chunks(steps.run).zip(to.chunks_mut(steps.run)).enumerate() {
            let (scale, zero_point) = steps.of(run);
            from.iter().zip(to).for_each(|(q, x)| *x = q.minus(zero_point) * scale);
        }
        Ok(tvec![out.into_tvalue()])
    }
}

impl DequantizeLinear {
    /// Scales and zero points have the input's shape, but for the axis, along which each is of a block.
    fn dequantize_blocks<T: Level>(
        &self,
        x: &Tensor,
        scale: &Tensor,
        zero_point: Option<&TValue>,
    ) -> TractResult<TVec<TValue>> {
        let at = place(x.shape(), self.axis)?;
        let mut shape: TVec<usize> = x.shape().into();
        let size = shape.get_mut(at).map_or(1, |size| std::mem::replace(size, size.div_ceil(self.block)));
        ensure!(scale.shape() == &*shape, "scales of the shape {:?} instead of {shape:?}", scale.shape());
        let run = shape.iter().skip(at + 1).product::<usize>().max(1);
        let scales = scale.try_as_plain_ram()?.as_slice::<f32>()?;
        let zero_points = match zero_point {
            Some(value) => value.try_as_plain_ram()?.as_slice::<T>()?.to_vec(),
            None => vec![T::default(); scales.len()],
        };
        ensure!(scales.len() == zero_points.len(), "{} scales, {} zero points", scales.len(), zero_points.len());
        let mut out = Tensor::zero::<f32>(x.shape())?;
        let (from, mut to) = (x.try_as_plain_ram()?, out.try_as_plain_ram_mut()?);
        let (from, to) = (from.as_slice::<T>()?, to.as_slice_mut::<f32>()?);
        for (row, (from, to)) in from.chunks(run).zip(to.chunks_mut(run)).enumerate() {
            let first = (row / size * size.div_ceil(self.block) + row % size / self.block) * run;
            let of = scales.iter().zip(&zero_points).skip(first);
            from.iter().zip(to).zip(of).for_each(|((q, x), (scale, zero_point))| *x = q.minus(*zero_point) * scale);
        }
        Ok(tvec![out.into_tvalue()])
    }
}

fn place(shape: &[usize], axis: i64) -> TractResult<usize> {
    let rank = i64::try_from(shape.len())?;
    let at = usize::try_from(if axis < 0 { axis + rank } else { axis })?;
    ensure!(at < shape.len(), "no axis {axis} in a tensor of {rank}");
    Ok(at)
}

/// Which scale and zero point are whose: a tensor is runs of equal length, and run `i` has those of place `i` modulo their
/// number.
struct Steps<T> {
    scales: Vec<f32>,
    zero_points: Vec<T>,
    run: usize,
}

impl<T: Level> Steps<T> {
    fn new(shape: &[usize], axis: i64, scale: &Tensor, zero_point: Option<&TValue>) -> TractResult<Self> {
        let scales = scale.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        let zero_points = match zero_point {
            Some(value) => value.try_as_plain_ram()?.as_slice::<T>()?.to_vec(),
            None => vec![T::default(); scales.len()],
        };
        ensure!(scales.len() == zero_points.len(), "{} scales, {} zero points", scales.len(), zero_points.len());
        let run = if scales.len() == 1 {
            shape.iter().product()
        } else {
            let at = place(shape, axis)?;
            let size = shape.get(at).with_context(|| format!("no axis {axis}"))?;
            ensure!(*size == scales.len(), "{} scales for an axis of {size}", scales.len());
            shape.iter().skip(at + 1).product()
        };
        Ok(Self { scales, zero_points, run: usize::max(run, 1) })
    }

    fn of(&self, run: usize) -> (f32, T) {
        let at = run % self.scales.len().max(1);
        (self.scales.get(at).copied().unwrap_or(1.0), self.zero_points.get(at).copied().unwrap_or_default())
    }
}

/// An integer that stands for a real number.
trait Level: Datum + Copy + Default {
    fn real(self) -> f32;
    fn minus(self, other: Self) -> f32;
    /// The nearest value of this type; NaN is 0.
    fn saturate(value: f32) -> Self;
}

macro_rules! level {
    ($($type:ty)*) => {$(
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is what is asked for")]
        #[allow(clippy::cast_precision_loss, reason = "a difference of 32 bits is rounded to binary32, as specified")]
        impl Level for $type {
            #[inline]
            fn real(self) -> f32 {
                self as f32
            }

            #[inline]
            fn minus(self, other: Self) -> f32 {
                i32::from(self).wrapping_sub(i32::from(other)) as f32
            }

            #[inline]
            fn saturate(value: f32) -> Self {
                value as Self
            }
        }
    )*};
}

level! { u8 i8 u16 i16 i32 }
