//! A row of reference data or a sample file as the request that a box would get, so that packing walks the very path of
//! a prediction: pixels become a PNG, named numbers a JSON object, bare rows the model's tensors.

use super::reference::ReferenceError;
use fieldpost_shared::bundle::manifest::{Preprocess, TabularInput};
use fieldpost_shared::bundle::{Dtype, Manifest, Tensor, TensorSpec};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::{Map, Value};

/// What a box would be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// A picture.
    Image(Vec<u8>),
    /// Named values.
    Json(Value),
    /// Text or other bytes.
    Bytes(Vec<u8>),
    /// The model's inputs.
    Tensors(Vec<Tensor>),
}

impl Request {
    /// The bytes that a client would send; plain tensors have no form of their own.
    #[must_use]
    pub fn body(&self) -> Option<Vec<u8>> {
        match self {
            Self::Image(bytes) | Self::Bytes(bytes) => Some(bytes.clone()),
            Self::Json(value) => Some(value.to_string().into_bytes()),
            Self::Tensors(_) => None,
        }
    }
}

/// One request with a name for people: a file's, or `row 7`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name.
    pub name: String,
    /// The request.
    pub request: Request,
}

/// What requests have to fit.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Pre-processing and inputs.
    pub manifest: &'a Manifest,
}

/// A row of numbers of one type, with the axes that it has in its file.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its element type.
    pub dtype: Dtype,
    /// Its axes, without the one that counts rows.
    pub shape: &'a [usize],
    /// Its elements, little-endian.
    pub data: &'a [u8],
}

/// The request of a row of a NumPy file.
pub(super) fn of_row(target: Target<'_>, row: Row<'_>) -> Result<Request, ReferenceError> {
    match &target.manifest.preprocess {
        Preprocess::Image(_) => png(row).map(Request::Image),
        Preprocess::Bytes(_) if row.dtype == Dtype::Uint8 && row.shape.len() == 1 => {
            Ok(Request::Bytes(row.data.to_vec()))
        }
        Preprocess::Bytes(_) => Err(misfit("its rows are not [bytes] of uint8, and the model takes bytes".to_owned())),
        Preprocess::Tabular(tabular) => {
            let values = elements(row)?.to_f64();
            if row.shape != [tabular.features.len()] {
                let shape = row.shape;
                return Err(misfit(format!(
                    "its rows have the shape {shape:?}, not one number for each of the {} features",
                    tabular.features.len()
                )));
            }
            let cells = values.iter().map(|value| number(*value));
            if let Some(feature) = tabular.features.iter().find(|feature| categorical(tabular, feature)) {
                return Err(misfit(format!(
                    "feature `{feature}` is a text: use a .csv file, or a folder of .json files"
                )));
            }
            Ok(object(tabular, cells))
        }
        Preprocess::Tensor => {
            let spec = only_input(target)?;
            let (shape, fits) = batched(spec, row.shape);
            if !fits {
                let (tensor, wanted) = (&spec.name, spec.shape_text());
                return Err(misfit(format!(
                    "its rows have the shape {:?}, the input `{tensor}` is {wanted}",
                    row.shape
                )));
            }
            let tensor = if row.dtype == spec.dtype {
                Tensor::new(row.dtype, shape, row.data.to_vec()).map_err(|error| misfit(error.to_string()))?
            } else {
                cast(spec.dtype, shape, &elements(row)?.to_f64())?
            };
            Ok(Request::Tensors(vec![tensor]))
        }
    }
}

/// A cell of a CSV record.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Missing,
    /// A number.
    Number(f64),
    /// A text, in the column of a feature with categories.
    Text(String),
}

/// Whether a feature is a text.
pub(super) fn categorical(tabular: &TabularInput, feature: &str) -> bool {
    tabular.detail(feature).is_some_and(|detail| !detail.categories.is_empty())
}

/// The request of a CSV record.
pub(super) fn of_record(target: Target<'_>, header: &[String], record: &[Cell]) -> Result<Request, ReferenceError> {
    match &target.manifest.preprocess {
        Preprocess::Image(_) => Err(misfit("images cannot come from a CSV file".to_owned())),
        Preprocess::Bytes(_) => Err(misfit("text and bytes come from a folder, one file each".to_owned())),
        Preprocess::Tabular(tabular) => {
            let column = |feature: &String| {
                let index = header.iter().position(|name| name == feature);
                index.ok_or_else(|| misfit(format!("it has no column `{feature}`")))
            };
            let columns = tabular.features.iter().map(column).collect::<Result<Vec<_>, _>>()?;
            let cells = columns.into_iter().map(|index| match record.get(index) {
                Some(Cell::Number(value)) => number(*value),
                Some(Cell::Text(text)) => Some(Value::from(text.as_str())),
                Some(Cell::Missing) | None => None,
            });
            Ok(object(tabular, cells))
        }
        Preprocess::Tensor => {
            let spec = only_input(target)?;
            let (shape, fits) = batched(spec, &[record.len()]);
            if !fits {
                let (tensor, wanted, found) = (&spec.name, spec.shape_text(), record.len());
                return Err(misfit(format!("it has {found} columns, the input `{tensor}` is {wanted}")));
            }
            let values: Vec<f64> =
                record.iter().map(|cell| if let Cell::Number(value) = cell { *value } else { f64::NAN }).collect();
            Ok(Request::Tensors(vec![cast(spec.dtype, shape, &values)?]))
        }
    }
}

fn misfit(reason: String) -> ReferenceError {
    ReferenceError::Misfit { reason }
}

fn only_input<'a>(target: Target<'a>) -> Result<&'a TensorSpec, ReferenceError> {
    match target.manifest.inputs.as_slice() {
        [only] => Ok(only),
        several => Err(misfit(format!(
            "the model has {} inputs and one table cannot fill them: use a folder of JSON inference requests",
            several.len()
        ))),
    }
}

/// A row's axes with the batch axis of the model before them, where the model has one; and whether they fit.
fn batched(spec: &TensorSpec, row: &[usize]) -> (Vec<usize>, bool) {
    let with_batch: Vec<usize> = std::iter::once(1).chain(row.iter().copied()).collect();
    if spec.admits(&with_batch) { (with_batch, true) } else { (row.to_vec(), spec.admits(row)) }
}

fn elements(row: Row<'_>) -> Result<Tensor, ReferenceError> {
    Tensor::new(row.dtype, row.shape.to_vec(), row.data.to_vec()).map_err(|error| misfit(error.to_string()))
}

/// Whole numbers stay whole in JSON, so that integer inputs take them; NaN and infinities have no JSON form.
fn number(value: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT && !(value == 0.0 && value.is_sign_negative()) {
        #[allow(clippy::cast_possible_truncation, reason = "a whole number within 2^53 either way")]
        return Some(Value::from(value as i64));
    }
    serde_json::Number::from_f64(value).map(Value::Number)
}

/// An absent cell is an absent key: the bundle says what becomes of it.
fn object(tabular: &TabularInput, cells: impl Iterator<Item = Option<Value>>) -> Request {
    let named = tabular.features.iter().zip(cells);
    let map: Map<String, Value> = named.filter_map(|(name, cell)| Some((name.clone(), cell?))).collect();
    Request::Json(Value::Object(map))
}

/// Numbers as another element type; a number that it cannot hold is refused.
fn cast(dtype: Dtype, shape: Vec<usize>, values: &[f64]) -> Result<Tensor, ReferenceError> {
    let refuse = |value: &f64| misfit(format!("it holds {value}, which {dtype} cannot"));
    let mut data = Vec::with_capacity(values.len().saturating_mul(dtype.size_bytes()));
    for value in values {
        let whole = (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0)
            .then_some(
                #[allow(clippy::cast_possible_truncation, reason = "a whole number within 2^53 either way")]
                {
                    *value as i64
                },
            )
            .ok_or_else(|| refuse(value));
        let narrow = |_too_large: std::num::TryFromIntError| refuse(value);
        match dtype {
            #[allow(clippy::cast_possible_truncation, reason = "rounding to binary32 is what the model's input means")]
            Dtype::Fp32 => data.extend((*value as f32).to_le_bytes()),
            Dtype::Fp64 => data.extend(value.to_le_bytes()),
            Dtype::Int64 => data.extend(whole?.to_le_bytes()),
            Dtype::Int32 => data.extend(i32::try_from(whole?).map_err(narrow)?.to_le_bytes()),
            Dtype::Int16 => data.extend(i16::try_from(whole?).map_err(narrow)?.to_le_bytes()),
            Dtype::Int8 => data.extend(i8::try_from(whole?).map_err(narrow)?.to_le_bytes()),
            Dtype::Uint8 => data.extend(u8::try_from(whole?).map_err(narrow)?.to_le_bytes()),
            Dtype::Uint16 => data.extend(u16::try_from(whole?).map_err(narrow)?.to_le_bytes()),
            Dtype::Uint32 => data.extend(u32::try_from(whole?).map_err(narrow)?.to_le_bytes()),
            Dtype::Uint64 => data.extend(u64::try_from(whole?).map_err(narrow)?.to_le_bytes()),
            Dtype::Fp16 => data.extend(half::f16::from_f64(*value).to_le_bytes()),
            Dtype::Bytes => return Err(misfit("it holds numbers, the model takes text".to_owned())),
            Dtype::Bool => match whole? {
                bit @ 0..=1 => data.push(u8::from(bit == 1)),
                _ => return Err(refuse(value)),
            },
        }
    }
    Tensor::new(dtype, shape, data).map_err(|error| misfit(error.to_string()))
}

/// Pixels as a PNG: `[height, width]`, or `[height, width, channels]` with 1 or 3 channels in the order red, green, blue.
fn png(row: Row<'_>) -> Result<Vec<u8>, ReferenceError> {
    let (height, width, colour) = match row.shape {
        [height, width] | [height, width, 1] => (*height, *width, ExtendedColorType::L8),
        [height, width, 3] => (*height, *width, ExtendedColorType::Rgb8),
        shape => {
            return Err(misfit(format!(
                "its rows have the shape {shape:?}, not [height, width] or [height, width, 1 or 3]"
            )));
        }
    };
    let pixels = if row.dtype == Dtype::Uint8 { row.data.to_vec() } else { bytes_of(&elements(row)?.to_f64())? };
    let side = |size: usize| u32::try_from(size).map_err(|_too_large| misfit(format!("{size} pixels are too many")));
    let mut out = Vec::new();
    PngEncoder::new(&mut out)
        .write_image(&pixels, side(width)?, side(height)?, colour)
        .map_err(|error| misfit(error.to_string()))?;
    Ok(out)
}

fn bytes_of(values: &[f64]) -> Result<Vec<u8>, ReferenceError> {
    let pixel = |value: &f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number in 0..=255")]
        (value.fract() == 0.0 && (0.0..=255.0).contains(value)).then_some(*value as u8).ok_or_else(|| {
            misfit(format!(
                "it holds {value}: pixels are whole numbers in 0..=255, as decoded and before normalisation"
            ))
        })
    };
    values.iter().map(pixel).collect()
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
