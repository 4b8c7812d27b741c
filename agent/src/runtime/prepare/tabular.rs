//! Named numbers become rows of a tensor.

use crate::runtime::contract::spec_text;
use crate::runtime::error::{InputError, LoadError};
use fieldpost_shared::bundle::manifest::{Missing, TabularInput};
use fieldpost_shared::bundle::{Dim, Dtype, Tensor, TensorSpec};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// [`TabularInput`], checked.
#[derive(Debug)]
pub(in crate::runtime) struct FeaturesToTensor {
    /// Names in column order.
    features: Vec<String>,
    columns: HashMap<String, usize>,
    /// What an absent feature is; `None` refuses the request.
    missing: Option<f64>,
    spec: TensorSpec,
}

impl FeaturesToTensor {
    pub(super) fn new(declared: &TabularInput, spec: &TensorSpec) -> Result<Self, LoadError> {
        let refuse =
            |detail: String| Err(LoadError::Declaration { what: "pre-processing", tensor: spec.name.clone(), detail });
        let width = u64::try_from(declared.features.len()).unwrap_or(u64::MAX);
        let fits = match spec.shape.as_slice() {
            [Dim::Fixed(columns)] | [_, Dim::Fixed(columns)] => *columns == width,
            [Dim::Symbol(_)] | [_, Dim::Symbol(_)] => true,
            _ => false,
        };
        if width == 0 || !fits {
            return refuse(format!("{width} features are named, the input is {}", spec_text(spec)));
        }
        let columns: HashMap<String, usize> = declared.features.iter().cloned().zip(0..).collect();
        if columns.len() != declared.features.len() {
            return refuse("a feature is named twice".to_owned());
        }
        let missing = match declared.missing {
            Missing::Refuse => None,
            Missing::Nan => Some(f64::NAN),
            Missing::Value(value) => Some(f64::from(value)),
        };
        if missing.is_some_and(|value| !value.is_nan() && push(&mut Vec::new(), spec.dtype, value).is_none())
            || missing.is_some_and(f64::is_nan) && !spec.dtype.is_float()
        {
            return refuse(format!("{} cannot hold what a missing feature becomes", spec.dtype));
        }
        Ok(Self { features: declared.features.clone(), columns, missing, spec: spec.clone() })
    }

    pub(super) fn prepare(&self, json: &Value) -> Result<Tensor, InputError> {
        let rows: &[Value] = match json {
            Value::Object(_) => std::slice::from_ref(json),
            Value::Array(rows) if !rows.is_empty() => rows,
            Value::Array(_) => return Err(InputError::NotFeatures { found: "an empty list" }),
            other => return Err(InputError::NotFeatures { found: kind(other) }),
        };
        let width = self.features.len();
        let shape = if self.spec.shape.len() == 1 { vec![width] } else { vec![rows.len(), width] };
        let one_row_alone = self.spec.shape.len() == 1 && rows.len() != 1;
        if one_row_alone || !self.spec.admits(&shape) {
            return Err(InputError::Tensor {
                input: self.spec.name.clone(),
                expected: spec_text(&self.spec),
                found: format!("{} rows of {width} features", rows.len()),
            });
        }
        let mut data = Vec::with_capacity(rows.len() * width * self.spec.dtype.size_bytes());
        for (at, row) in rows.iter().enumerate() {
            let Value::Object(row) = row else { return Err(InputError::NotFeatures { found: kind(row) }) };
            self.push_row(&mut data, row, (rows.len() > 1).then_some(at))?;
        }
        Ok(Tensor { dtype: self.spec.dtype, shape, data })
    }

    fn push_row(&self, data: &mut Vec<u8>, row: &Map<String, Value>, at: Option<usize>) -> Result<(), InputError> {
        let mut known = 0;
        for feature in &self.features {
            let value = match row.get(feature) {
                found @ Some(value) => {
                    known += 1;
                    if value.is_null() { None } else { found }
                }
                None => None,
            };
            let pushed = match value {
                Some(value) => number(value).and_then(|number| push(data, self.spec.dtype, number)),
                None => match self.missing {
                    Some(value) => push(data, self.spec.dtype, value),
                    None => return Err(InputError::Missing { feature: feature.clone(), row: at }),
                },
            };
            if pushed.is_none() {
                return Err(InputError::Feature {
                    feature: feature.clone(),
                    row: at,
                    expected: expected(self.spec.dtype),
                    found: value.map(ToString::to_string).unwrap_or_default().chars().take(40).collect(),
                });
            }
        }
        // A name that nobody reads is a slip that would otherwise turn into a missing value without a word.
        match row.keys().find(|key| known != row.len() && !self.columns.contains_key(*key)) {
            Some(unknown) => Err(InputError::Unknown {
                feature: unknown.chars().take(80).collect(),
                row: at,
                nearest: nearest(unknown, &self.features),
            }),
            None => Ok(()),
        }
    }
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
fn nearest(unknown: &str, known: &[String]) -> Option<String> {
    if unknown.len() > 80 {
        return None;
    }
    let scored = known.iter().map(|name| (edits(unknown, name), name));
    let (edits, name) = scored.min_by_key(|(edits, _)| *edits)?;
    (edits * 3 <= name.chars().count()).then(|| name.clone())
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
