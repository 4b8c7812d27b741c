//! From request to inputs.

use super::{DeclarationError, ImageInput, MAX_BYTES_INPUT, MAX_CATEGORIES, is_default, refuse};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a request becomes the model's input tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Preprocess {
    /// The client sends the model's tensors.
    #[default]
    Tensor,
    /// A JPEG, PNG, WebP or BMP becomes one tensor.
    Image(ImageInput),
    /// A JSON object of features becomes one row.
    Tabular(TabularInput),
    /// The body's bytes become one row of numbers.
    Bytes(BytesInput),
}

impl Preprocess {
    /// Refuses what contradicts itself, whatever the model.
    ///
    /// # Errors
    /// With the key.
    pub fn check(&self) -> Result<(), DeclarationError> {
        match self {
            Self::Tensor => Ok(()),
            Self::Image(image) => image.check(),
            Self::Tabular(tabular) => tabular.check(),
            Self::Bytes(bytes) => bytes.check(),
        }
    }
}

/// Rows of named values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct TabularInput {
    /// The model input it fills, of shape `[N, columns]`; empty with `per_feature`.
    pub tensor: String,
    /// Names in column order.
    pub features: Vec<String>,
    /// What an absent or null feature becomes, where `details` do not say otherwise.
    pub missing: Missing,
    /// Each feature fills the model input of its own name, of shape `[N, 1]`, `[N]` or `[N, categories]`: what skl2onnx
    /// makes of a `DataFrame`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_feature: bool,
    /// Features that are more than a number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub details: BTreeMap<String, Feature>,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Feature {
    /// What it becomes when it is absent; none is the table's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missing: Option<Missing>,
    /// The texts it may be, in the order that the model knows them; empty is a number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub categories: Vec<String>,
    /// What a category becomes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoding: Encoding,
    /// What a text that is no category becomes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unknown: Unknown,
}

/// What a category becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Its place in the list, from 0: one column.
    #[default]
    Index,
    /// A column for each category, 1 in its own and 0 in the others.
    OneHot,
}

/// What a text that is no category becomes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// The request is refused.
    #[default]
    Refuse,
    /// The same as when it were absent.
    Missing,
    /// This number, in each of its columns; 0 with one-hot is "none of them".
    Value(f32),
}

/// What an absent feature becomes. With one-hot, in each of its columns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// The request is refused.
    #[default]
    Refuse,
    /// Not-a-number; of a text the empty one.
    Nan,
    /// This value.
    Value(f32),
}

impl TabularInput {
    /// What is known of a feature.
    #[must_use]
    pub fn detail(&self, feature: &str) -> Option<&Feature> {
        self.details.get(feature)
    }

    /// Columns that a feature takes.
    #[must_use]
    pub fn width(&self, feature: &str) -> usize {
        match self.detail(feature) {
            Some(detail) if detail.encoding == Encoding::OneHot => detail.categories.len().max(1),
            _ => 1,
        }
    }

    /// Names of all columns in order: the feature's, or `feature=category` for each of a one-hot one.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let columns = |feature: &String| match self.detail(feature) {
            Some(detail) if detail.encoding == Encoding::OneHot => {
                detail.categories.iter().map(|category| format!("{feature}={category}")).collect()
            }
            _ => vec![feature.clone()],
        };
        self.features.iter().flat_map(columns).collect()
    }

    fn check(&self) -> Result<(), DeclarationError> {
        for (feature, detail) in &self.details {
            let of = |key: &str| format!("feature.{feature}.{key}");
            if !self.features.contains(feature) {
                return refuse(format!("feature.{feature} describes none of the features"));
            }
            if detail.categories.len() > MAX_CATEGORIES {
                let found = detail.categories.len();
                return refuse(format!("{} has {found} texts, at most {MAX_CATEGORIES} are allowed", of("categories")));
            }
            let mut seen = std::collections::HashSet::new();
            if let Some(twice) = detail.categories.iter().find(|category| !seen.insert(*category)) {
                return refuse(format!("{} names `{twice}` twice", of("categories")));
            }
            let categorical = !detail.categories.is_empty();
            if !categorical && detail.encoding == Encoding::OneHot {
                return refuse(format!("{} is one-hot, but there are no categories", of("encoding")));
            }
            if !categorical && detail.unknown != Unknown::Refuse {
                return refuse(format!("{} has a meaning with categories alone", of("unknown")));
            }
        }
        Ok(())
    }
}

/// The body's bytes as numbers, row-major: the first `head` and the last `tail` of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesInput {
    /// The model input it fills, of shape `[1, head + tail]` or `[head + tail]`.
    pub tensor: String,
    /// Bytes taken from the start; a shorter body is padded behind.
    pub head: u32,
    /// Bytes taken from the end; a shorter body is padded before. 0 is none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tail: u32,
    /// What stands where there is no byte.
    pub pad: i32,
    /// Added to each byte, for models that keep the first numbers for themselves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub offset: i32,
    /// Whether white space (ASCII, vertical tab included) at both ends is left out first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strip: bool,
    /// Whether the body must be UTF-8.
    #[serde(default, skip_serializing_if = "is_default")]
    pub utf8: bool,
}

impl BytesInput {
    /// Numbers in a row.
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.head.saturating_add(self.tail)
    }

    fn check(&self) -> Result<(), DeclarationError> {
        match self.length() {
            1..=MAX_BYTES_INPUT => Ok(()),
            length => refuse(format!("head and tail are {length} bytes together, not within 1..={MAX_BYTES_INPUT}")),
        }
    }
}
