//! What changes numbers one by one or row by row: `Scaler`, `Normalizer`, `Binarizer`, `Imputer`.

use super::attributes::Attributes;
use super::kernel::{Fact, FromNode, Kernel};
use super::linear::args_1_ref;
use super::real::Real;
use super::rows;
use super::scalars::{is_number, numbers};
use tract_onnx::tract_hir::internal::*;

/// One value for all columns, or one per column.
#[derive(Debug)]
struct PerColumn<T>(Vec<T>);

impl<T: Copy> PerColumn<T> {
    fn get(&self, column: usize) -> Option<T> {
        match self.0.as_slice() {
            [alone] => Some(*alone),
            all => all.get(column).copied(),
        }
    }

    /// `columns` is the size of the last axis.
    fn check(&self, name: &str, columns: usize) -> TractResult<()> {
        ensure!(
            self.0.len() == 1 || self.0.len() == columns,
            "attribute `{name}` has {} values, the input {columns} columns",
            self.0.len()
        );
        Ok(())
    }

    fn check_fact(&self, name: &str, fact: &Fact) -> TractResult<()> {
        match fact.shape.last().map(TDim::to_usize) {
            Some(Ok(columns)) => self.check(name, columns),
            _ => Ok(()),
        }
    }
}

fn only(inputs: &[Fact]) -> TractResult<&Fact> {
    match inputs {
        [input] if is_number(input.dtype) => Ok(input),
        [input] => bail!("numbers are expected, the input is {:?}", input.dtype),
        _ => bail!("one input is expected, there are {}", inputs.len()),
    }
}

fn last(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

/// (x - offset) * scale, in binary32.
#[derive(Debug)]
pub(super) struct Scaler {
    offset: PerColumn<f32>,
    scale: PerColumn<f32>,
}

impl FromNode for Scaler {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let mut offset = attributes.floats_or_empty("offset")?;
        let mut scale = attributes.floats_or_empty("scale")?;
        if offset.is_empty() {
            offset.push(0.0);
        }
        if scale.is_empty() {
            scale.push(1.0);
        }
        Ok(Self { offset: PerColumn(offset), scale: PerColumn(scale) })
    }
}

impl Kernel for Scaler {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let input = only(inputs)?;
        self.offset.check_fact("offset", input)?;
        self.scale.check_fact("scale", input)?;
        Ok(tvec![Fact::new(f32::datum_type(), input.shape.iter().cloned())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let columns = last(input.shape());
        self.offset.check("offset", columns)?;
        self.scale.check("scale", columns)?;
        let values = numbers::<f32>(input)?;
        let mut scaled = Vec::with_capacity(values.len());
        for row in rows::of(&values, columns) {
            let one = |(at, value): (usize, &f32)| {
                (value - self.offset.get(at).unwrap_or(0.0)) * self.scale.get(at).unwrap_or(1.0)
            };
            scaled.extend(row.iter().enumerate().map(one));
        }
        Ok(tvec![Tensor::from_shape(input.shape(), &scaled)?.into_tvalue()])
    }
}

#[derive(Debug, Clone, Copy)]
enum Norm {
    Max,
    L1,
    L2,
}

/// Rows divided by their norm; a row of norm 0 stays. `MAX` is the largest element, sign and all, as in ONNX Runtime.
#[derive(Debug)]
pub(super) struct Normalizer {
    norm: Norm,
}

impl FromNode for Normalizer {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let norm = match attributes.text("norm")?.as_deref() {
            None | Some("MAX" | "") => Norm::Max,
            Some("L1") => Norm::L1,
            Some("L2") => Norm::L2,
            Some(other) => return attributes.unexpected("norm", other),
        };
        Ok(Self { norm })
    }
}

impl Kernel for Normalizer {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let input = only(inputs)?;
        Ok(tvec![Fact::new(f32::datum_type(), input.shape.iter().cloned())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let values = numbers::<f32>(input)?;
        let mut normal = Vec::with_capacity(values.len());
        for row in rows::of(&values, last(input.shape())) {
            let norm = match self.norm {
                Norm::Max => row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                Norm::L1 => row.iter().map(|value| value.abs()).sum(),
                Norm::L2 => row.iter().map(|value| value * value).sum::<f32>().sqrt(),
            };
            normal.extend(row.iter().map(|value| if norm == 0.0 { *value } else { value / norm }));
        }
        Ok(tvec![Tensor::from_shape(input.shape(), &normal)?.into_tvalue()])
    }
}

/// 1 above the threshold, else 0 (NaN too), in the input's type.
#[derive(Debug)]
pub(super) struct Binarizer {
    threshold: f32,
}

impl FromNode for Binarizer {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self { threshold: attributes.float("threshold")?.unwrap_or(0.0) })
    }
}

impl Kernel for Binarizer {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        Ok(tvec![only(inputs)?.clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let threshold = f64::from(self.threshold);
        let above: Vec<f32> =
            numbers::<f64>(input)?.iter().map(|value| if *value > threshold { 1.0 } else { 0.0 }).collect();
        let tensor = Tensor::from_shape(input.shape(), &above)?;
        Ok(tvec![tensor.cast_to_dt(input.datum_type())?.into_owned().into_tvalue()])
    }
}

/// One value stands for "missing" and is replaced, by one value or by one per column.
#[derive(Debug)]
pub(super) struct Imputer {
    imputed: Imputed,
}

#[derive(Debug)]
enum Imputed {
    Floats(PerColumn<f32>, f32),
    Ints(PerColumn<i64>, i64),
}

impl FromNode for Imputer {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let ints: Option<Vec<i64>> = attributes.list("imputed_value_int64s")?;
        // NaN as the imputed value would be odd, but harms nobody else.
        let floats: Option<Vec<f32>> = attributes.list("imputed_value_floats")?;
        let imputed = match (floats, ints) {
            (Some(floats), None) => {
                Imputed::Floats(PerColumn(floats), attributes.float("replaced_value_float")?.unwrap_or(0.0))
            }
            (None, Some(ints)) => Imputed::Ints(PerColumn(ints), attributes.int("replaced_value_int64")?.unwrap_or(0)),
            (None, None) => return Err(attributes.missing("imputed_value_floats")),
            (Some(_), Some(_)) => bail!("both floats and integers are given to impute"),
        };
        Ok(Self { imputed })
    }
}

impl Kernel for Imputer {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let input = only(inputs)?;
        match &self.imputed {
            Imputed::Floats(values, _) => {
                ensure!(input.dtype.is_float(), "floats are imputed, the input is {:?}", input.dtype);
                values.check_fact("imputed_value_floats", input)?;
            }
            Imputed::Ints(values, _) => {
                ensure!(input.dtype.is_integer(), "integers are imputed, the input is {:?}", input.dtype);
                values.check_fact("imputed_value_int64s", input)?;
            }
        }
        Ok(tvec![input.clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let columns = last(input.shape());
        let tensor = match &self.imputed {
            Imputed::Floats(values, missing) if input.datum_type() == f64::datum_type() => {
                values.check("imputed_value_floats", columns)?;
                let at = |column| values.get(column).map_or(f64::NAN, f64::from);
                impute(
                    &numbers::<f64>(input)?,
                    columns,
                    input.shape(),
                    |value| is_missing(value, f64::from(*missing)),
                    at,
                )
            }
            Imputed::Floats(values, missing) => {
                values.check("imputed_value_floats", columns)?;
                let at = |column| values.get(column).unwrap_or(f32::NAN);
                impute(&numbers::<f32>(input)?, columns, input.shape(), |value| is_missing(value, *missing), at)
            }
            Imputed::Ints(values, missing) => {
                values.check("imputed_value_int64s", columns)?;
                let at = |column| values.get(column).unwrap_or(0);
                impute(&numbers::<i64>(input)?, columns, input.shape(), |value| value == *missing, at)
            }
        }?;
        Ok(tvec![tensor.cast_to_dt(input.datum_type())?.into_owned().into_tvalue()])
    }
}

fn is_missing<T: Real>(value: T, missing: T) -> bool {
    value == missing || value.nan() && missing.nan()
}

fn impute<T: Datum + Copy>(
    values: &[T],
    columns: usize,
    shape: &[usize],
    is_missing: impl Fn(T) -> bool,
    at: impl Fn(usize) -> T,
) -> TractResult<Tensor> {
    let mut whole = Vec::with_capacity(values.len());
    for row in rows::of(values, columns) {
        let one = |(column, value): (usize, &T)| if is_missing(*value) { at(column) } else { *value };
        whole.extend(row.iter().enumerate().map(one));
    }
    Tensor::from_shape(shape, &whole)
}
