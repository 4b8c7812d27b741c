//! Named values become rows of tensors: numbers as they are, texts by their categories.

use super::category::Categories;
use crate::runtime::contract::spec_text;
use crate::runtime::error::{InputError, LoadError};
use fieldpost_shared::bundle::manifest::{Missing, TabularInput};
use fieldpost_shared::bundle::tensor::push_text;
use fieldpost_shared::bundle::{Dim, Dtype, Manifest, Tensor, TensorSpec};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// [`TabularInput`], checked.
#[derive(Debug)]
pub(in crate::runtime) struct FeaturesToTensors {
    /// In column order.
    features: Vec<Feature>,
    places: HashMap<String, usize>,
    /// The model's inputs, in the manifest's order.
    tensors: Vec<Target>,
}

/// A tensor and how many of its elements a row fills.
#[derive(Debug)]
struct Target {
    spec: TensorSpec,
    width: usize,
    /// Whether its one axis counts rows, and not features.
    counts_rows: bool,
}

#[derive(Debug)]
struct Feature {
    name: String,
    /// Which tensor it fills.
    target: usize,
    /// Its columns there.
    width: usize,
    /// What it is when it is absent; `None` refuses the request.
    missing: Option<f64>,
    /// None for a number.
    categories: Option<Categories>,
}

impl FeaturesToTensors {
    pub(super) fn new(declared: &TabularInput, manifest: &Manifest) -> Result<Self, LoadError> {
        let refuse = |tensor: &str, detail: String| LoadError::Declaration {
            what: "pre-processing",
            tensor: tensor.to_owned(),
            detail,
        };
        let mut tensors = Vec::new();
        for spec in &manifest.inputs {
            let named = declared.features.contains(&spec.name);
            if declared.per_feature && !named || !declared.per_feature && declared.tensor != spec.name {
                let known = if declared.per_feature {
                    "no feature has its name".to_owned()
                } else {
                    format!("only `{}` is filled", declared.tensor)
                };
                return Err(refuse(&spec.name, known));
            }
            let width = if declared.per_feature {
                declared.width(&spec.name)
            } else {
                declared.features.iter().map(|feature| declared.width(feature)).sum()
            };
            tensors.push(target(declared, spec, width).ok_or_else(|| {
                refuse(&spec.name, format!("{width} features are named, the input is {}", spec_text(spec)))
            })?);
        }
        let features = declared.features.iter().map(|name| {
            let position = tensors.iter().position(|target| !declared.per_feature || target.spec.name == *name);
            let target = position.ok_or_else(|| refuse(name, "the model has no input of this name".to_owned()))?;
            let detail = declared.detail(name);
            let missing = match detail.and_then(|detail| detail.missing).unwrap_or(declared.missing) {
                Missing::Refuse => None,
                Missing::Nan => Some(f64::NAN),
                Missing::Value(value) => Some(f64::from(value)),
            };
            let categories = detail.and_then(Categories::new);
            let dtype = tensors.get(target).map_or(Dtype::Fp32, |target| target.spec.dtype);
            let becomes = missing.into_iter().chain(categories.iter().flat_map(Categories::numbers));
            let text = dtype == Dtype::Bytes;
            if text && (declared.width(name) > 1 || missing.is_some_and(|number| !number.is_nan())) {
                return Err(refuse(name, "a text is not one-hot, and no number when it is missing".to_owned()));
            }
            if let Some(number) = becomes.into_iter().find(|number| !text && !holds(dtype, *number)) {
                let what = format!("{dtype} cannot hold {number}, which feature `{name}` may become");
                return Err(refuse(name, what));
            }
            Ok(Feature { name: name.clone(), target, width: declared.width(name), missing, categories })
        });
        let features: Vec<Feature> = features.collect::<Result<_, _>>()?;
        let places: HashMap<String, usize> = declared.features.iter().cloned().zip(0..).collect();
        if places.len() != features.len() {
            return Err(refuse(&declared.tensor, "a feature is named twice".to_owned()));
        }
        Ok(Self { features, places, tensors })
    }

    pub(super) fn prepare(&self, json: &Value) -> Result<Vec<Tensor>, InputError> {
        let rows: &[Value] = match json {
            Value::Object(_) => std::slice::from_ref(json),
            Value::Array(rows) if !rows.is_empty() => rows,
            Value::Array(_) => return Err(InputError::NotFeatures { found: "an empty list" }),
            other => return Err(InputError::NotFeatures { found: kind(other) }),
        };
        let empty = |target: &Target| {
            Ok(Tensor {
                dtype: target.spec.dtype,
                shape: target.shape(rows.len())?,
                data: Vec::with_capacity(rows.len() * target.width * target.spec.dtype.size_bytes()),
            })
        };
        let mut tensors: Vec<Tensor> = self.tensors.iter().map(empty).collect::<Result<_, InputError>>()?;
        for (at, row) in rows.iter().enumerate() {
            let Value::Object(row) = row else { return Err(InputError::NotFeatures { found: kind(row) }) };
            self.push_row(&mut tensors, row, (rows.len() > 1).then_some(at))?;
        }
        Ok(tensors)
    }

    fn push_row(&self, tensors: &mut [Tensor], row: &Map<String, Value>, at: Option<usize>) -> Result<(), InputError> {
        let mut known = 0;
        for feature in &self.features {
            let value = row.get(&feature.name);
            known += usize::from(value.is_some());
            let Some(tensor) = tensors.get_mut(feature.target) else { continue };
            feature.push(tensor, value.filter(|value| !value.is_null()), at)?;
        }
        // A name that nobody reads is a slip that would otherwise turn into a missing value without a word.
        match row.keys().find(|key| known != row.len() && !self.places.contains_key(*key)) {
            Some(unknown) => Err(InputError::Unknown {
                feature: unknown.chars().take(80).collect(),
                row: at,
                nearest: nearest(unknown, self.features.iter().map(|feature| feature.name.as_str())),
            }),
            None => Ok(()),
        }
    }
}

impl Target {
    fn shape(&self, rows: usize) -> Result<Vec<usize>, InputError> {
        let shape = match self.spec.shape.len() {
            1 if self.counts_rows => vec![rows],
            1 => vec![self.width],
            _ => vec![rows, self.width],
        };
        let one_row_alone = self.spec.shape.len() == 1 && !self.counts_rows && rows != 1;
        if one_row_alone || !self.spec.admits(&shape) {
            return Err(InputError::Tensor {
                input: self.spec.name.clone(),
                expected: spec_text(&self.spec),
                found: format!("{rows} rows of {} features", self.width),
            });
        }
        Ok(shape)
    }
}

/// None where the columns do not fill the input.
fn target(declared: &TabularInput, spec: &TensorSpec, width: usize) -> Option<Target> {
    let columns = u64::try_from(width).ok()?;
    let fits = match spec.shape.as_slice() {
        [_] if declared.per_feature => width == 1,
        [Dim::Fixed(there)] | [_, Dim::Fixed(there)] => *there == columns,
        [Dim::Symbol(_)] | [_, Dim::Symbol(_)] => true,
        _ => false,
    };
    (width > 0 && fits).then(|| Target { spec: spec.clone(), width, counts_rows: declared.per_feature })
}

impl Feature {
    fn push(&self, tensor: &mut Tensor, value: Option<&Value>, at: Option<usize>) -> Result<(), InputError> {
        let Tensor { dtype, data, .. } = tensor;
        let absent = || InputError::Missing { feature: self.name.clone(), row: at };
        let wrong = |expected: String, value: &Value| InputError::Feature {
            feature: self.name.clone(),
            row: at,
            expected,
            found: value.to_string().chars().take(40).collect(),
        };
        if *dtype == Dtype::Bytes {
            let text = self.text(value, at)?;
            return push_text(data, text.as_bytes()).ok_or_else(absent);
        }
        let Some(value) = value else {
            return self.fill(data, *dtype, self.missing.ok_or_else(absent)?).ok_or_else(absent);
        };
        let Some(categories) = &self.categories else {
            return number(value)
                .and_then(|number| push(data, *dtype, number))
                .ok_or_else(|| wrong(expected(*dtype).to_owned(), value));
        };
        match categories.find(value) {
            Some(place) => categories.columns(place).try_for_each(|number| push(data, *dtype, number)),
            None => match categories.unknown(self.missing) {
                Some(number) => self.fill(data, *dtype, number),
                None => None,
            },
        }
        .ok_or_else(|| wrong(categories.expected(), value))
    }

    /// What a text tensor holds: the text that was sent, or that of a number. A missing one is empty, where the bundle
    /// allows it to be missing; one that is no category likewise.
    fn text(&self, value: Option<&Value>, at: Option<usize>) -> Result<String, InputError> {
        let wrong = |expected: String, value: &Value| InputError::Feature {
            feature: self.name.clone(),
            row: at,
            expected,
            found: value.to_string().chars().take(40).collect(),
        };
        let empty = || self.missing.map(|_| String::new());
        let Some(value) = value else {
            return empty().ok_or_else(|| InputError::Missing { feature: self.name.clone(), row: at });
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return Err(wrong("a text".to_owned(), value)),
        };
        match &self.categories {
            Some(categories) if categories.find(value).is_none() => categories
                .unknown(self.missing)
                .and_then(|_| empty())
                .ok_or_else(|| wrong(categories.expected(), value)),
            _ => Ok(text),
        }
    }

    /// The same number in each of its columns.
    fn fill(&self, data: &mut Vec<u8>, dtype: Dtype, number: f64) -> Option<()> {
        (0..self.width).try_for_each(|_| push(data, dtype, number))
    }
}

/// Whether a type holds a number; not-a-number in floating point alone.
fn holds(dtype: Dtype, number: f64) -> bool {
    push(&mut Vec::new(), dtype, number).is_some()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

const fn expected(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "true, false, 0 or 1",
        Dtype::Uint8 => "a whole number from 0 to 255",
        Dtype::Int8 => "a whole number from -128 to 127",
        Dtype::Int16 => "a whole number of 16 bits",
        Dtype::Int32 => "a whole number of 32 bits",
        Dtype::Int64 => "a whole number of at most 2^53",
        Dtype::Uint16 => "a whole number from 0 to 65535",
        Dtype::Uint32 => "a whole number of 32 bits, not negative",
        Dtype::Uint64 => "a whole number of at most 2^53, not negative",
        Dtype::Fp16 | Dtype::Fp32 | Dtype::Fp64 => "a number in range",
        Dtype::Bytes => "no number: the input takes text",
    }
}

/// Appends a number in a type that holds it exactly, or nearly for floating point; `None` when it does not fit.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole and in range, as checked just before"
)]
fn push(data: &mut Vec<u8>, dtype: Dtype, value: f64) -> Option<()> {
    let whole = |low: f64, high: f64| (value.fract() == 0.0 && (low..=high).contains(&value)).then_some(value);
    match dtype {
        Dtype::Bool => data.push(whole(0.0, 1.0)? as u8),
        Dtype::Uint8 => data.push(whole(0.0, 255.0)? as u8),
        Dtype::Int8 => data.extend((whole(-128.0, 127.0)? as i8).to_le_bytes()),
        Dtype::Int16 => data.extend((whole(f64::from(i16::MIN), f64::from(i16::MAX))? as i16).to_le_bytes()),
        Dtype::Int32 => data.extend((whole(f64::from(i32::MIN), f64::from(i32::MAX))? as i32).to_le_bytes()),
        Dtype::Int64 => data.extend((whole(-9_007_199_254_740_992.0, 9_007_199_254_740_992.0)? as i64).to_le_bytes()),
        Dtype::Fp32 => {
            let narrow = value as f32;
            if value.is_finite() && !narrow.is_finite() {
                return None;
            }
            data.extend(narrow.to_le_bytes());
        }
        Dtype::Fp64 => data.extend(value.to_le_bytes()),
        Dtype::Uint16 => data.extend((whole(0.0, f64::from(u16::MAX))? as u16).to_le_bytes()),
        Dtype::Uint32 => data.extend((whole(0.0, f64::from(u32::MAX))? as u32).to_le_bytes()),
        Dtype::Uint64 => data.extend((whole(0.0, 9_007_199_254_740_992.0)? as u64).to_le_bytes()),
        Dtype::Fp16 => {
            let narrow = half::f16::from_f64(value);
            if value.is_finite() && !narrow.is_finite() {
                return None;
            }
            data.extend(narrow.to_le_bytes());
        }
        Dtype::Bytes => return None,
    }
    Some(())
}

/// The known name with the fewest single-character edits, where at most a third of the name differs.
fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    if unknown.len() > 80 {
        return None;
    }
    let (edits, name) = known.map(|name| (edits(unknown, name), name)).min_by_key(|(edits, _)| *edits)?;
    (edits * 3 <= name.chars().count()).then(|| name.to_owned())
}

/// Levenshtein distance, in characters, ignoring case.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, b) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX);
            let cost = (diagonal + usize::from(a != *b)).min(left + 1).min(above.saturating_add(1));
            if let Some(cell) = row.get_mut(j) {
                *cell = left;
            }
            diagonal = above;
            left = cost;
        }
        if let Some(last) = row.last_mut() {
            *last = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
#[path = "tabular_tests.rs"]
mod tests;
