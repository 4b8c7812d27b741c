//! What picks and joins columns: `ArrayFeatureExtractor`, `FeatureVectorizer`.

use super::attributes::Attributes;
use super::kernel::{Fact, FromNode, Kernel};
use super::rows;
use super::scalars::{is_number, numbers};
use tract_onnx::tract_hir::internal::*;

/// Elements of the last axis, by their places. A single axis becomes one row.
#[derive(Debug)]
pub(super) struct ArrayFeatureExtractor;

impl FromNode for ArrayFeatureExtractor {
    fn from_node(_attributes: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Kernel for ArrayFeatureExtractor {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [data, places] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        ensure!(
            is_number(data.dtype) || data.dtype == String::datum_type(),
            "numbers or strings are expected, the input is {:?}",
            data.dtype
        );
        ensure!(is_number(places.dtype), "places must be integers, they are {:?}", places.dtype);
        let Some((_, outer)) = data.shape.split_last() else { bail!("at least one axis is expected") };
        let picked: TDim = places.shape.iter().product();
        let outer: TVec<TDim> = if outer.is_empty() { tvec![1.into()] } else { outer.iter().cloned().collect() };
        Ok(tvec![Fact::new(data.dtype, outer.into_iter().chain([picked]))])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [data, places] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        let Some((width, outer)) = data.shape().split_last() else { bail!("at least one axis is expected") };
        let mut columns = Vec::new();
        for place in numbers::<i64>(places)?.iter() {
            let column = usize::try_from(*place).ok().filter(|column| column < width);
            columns.push(column.ok_or_else(|| format_err!("column {place} is asked for, there are {width}"))?);
        }
        let mut shape = if outer.is_empty() { vec![1] } else { outer.to_vec() };
        shape.push(columns.len());
        let picked = match data.datum_type() {
            DatumType::F32 => pick::<f32>(data, *width, &columns, &shape),
            DatumType::F64 => pick::<f64>(data, *width, &columns, &shape),
            DatumType::I32 => pick::<i32>(data, *width, &columns, &shape),
            DatumType::I64 => pick::<i64>(data, *width, &columns, &shape),
            DatumType::String => pick::<String>(data, *width, &columns, &shape),
            // Every other type of number fits one of them.
            other => {
                let wide = if other.is_float() { f64::datum_type() } else { i64::datum_type() };
                let cast = data.cast_to_dt(wide)?;
                let picked = if other.is_float() {
                    pick::<f64>(&cast, *width, &columns, &shape)
                } else {
                    pick::<i64>(&cast, *width, &columns, &shape)
                };
                Ok(picked?.cast_to_dt(other)?.into_owned())
            }
        };
        Ok(tvec![picked?.into_tvalue()])
    }
}

fn pick<T: Datum + Clone>(data: &Tensor, width: usize, columns: &[usize], shape: &[usize]) -> TractResult<Tensor> {
    let values = data.try_as_plain_ram()?.as_slice::<T>()?;
    let picked: Vec<T> =
        rows::of(values, width).flat_map(|row| columns.iter().filter_map(|column| row.get(*column))).cloned().collect();
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, picked)?.into_tensor())
}

/// Rows of several inputs side by side, in binary32. An input of fewer columns than stated is filled up with zeros, one
/// of more is cut.
#[derive(Debug)]
pub(super) struct FeatureVectorizer {
    widths: Vec<usize>,
}

/// Most columns that an attribute may ask for: it is a number in the file that memory is taken by.
const MAX_COLUMNS: usize = 1 << 20;

impl FromNode for FeatureVectorizer {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let stated: Vec<i64> =
            attributes.list("inputdimensions")?.ok_or_else(|| attributes.missing("inputdimensions"))?;
        let widths: Result<Vec<usize>, _> = stated.into_iter().map(usize::try_from).collect();
        let widths = widths.context("attribute `inputdimensions` holds a negative size")?;
        let sum = widths.iter().try_fold(0_usize, |sum, width| sum.checked_add(*width));
        ensure!(
            sum.is_some_and(|sum| sum <= MAX_COLUMNS),
            "attribute `inputdimensions` asks for more than {MAX_COLUMNS} columns"
        );
        Ok(Self { widths })
    }
}

impl Kernel for FeatureVectorizer {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        ensure!(
            inputs.len() == self.widths.len() && !inputs.is_empty(),
            "{} inputs for {} `inputdimensions`",
            inputs.len(),
            self.widths.len()
        );
        let mut first = None;
        for input in inputs {
            first.get_or_insert(rows::facts(std::slice::from_ref(input))?.0);
        }
        let columns: usize = self.widths.iter().sum();
        Ok(tvec![Fact::new(f32::datum_type(), [first.unwrap_or_else(|| 1.into()), columns.to_dim()])])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let columns: usize = self.widths.iter().sum();
        let mut count = None;
        let mut parts = Vec::with_capacity(inputs.len());
        for input in inputs {
            let (rows, features) = rows::sizes(input.shape(), rows::Features::AtLeast(0))?;
            let rows = *count.get_or_insert(rows);
            ensure!(rows * features == input.len(), "the inputs have different numbers of rows");
            parts.push((features, numbers::<f32>(input)?));
        }
        let count = count.unwrap_or(0);
        let mut joined = vec![0_f32; count.saturating_mul(columns)];
        for (at, row) in joined.chunks_exact_mut(columns.max(1)).enumerate() {
            let mut rest = row;
            for ((features, values), width) in parts.iter().zip(&self.widths) {
                let Some((own, after)) = rest.split_at_mut_checked(*width) else { break };
                let from = values.get(at * features..).unwrap_or_default();
                own.iter_mut().zip(from.iter().take(*features)).for_each(|(cell, value)| *cell = *value);
                rest = after;
            }
        }
        Ok(tvec![Tensor::from_shape(&[count, columns], &joined)?.into_tvalue()])
    }
}
