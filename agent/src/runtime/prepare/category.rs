//! Texts that a model knows by number.

use fieldpost_shared::bundle::manifest::{Encoding, Feature, Unknown};
use serde_json::Value;
use std::collections::HashMap;

/// The categories of one feature.
#[derive(Debug)]
pub(super) struct Categories {
    places: HashMap<String, usize>,
    /// In order, for messages.
    names: Vec<String>,
    encoding: Encoding,
    unknown: Unknown,
}

/// Most categories that a message lists.
const LISTED: usize = 5;

impl Categories {
    /// None for a feature that is a number.
    pub(super) fn new(declared: &Feature) -> Option<Self> {
        let names = declared.categories.clone();
        let places = names.iter().cloned().zip(0..).collect();
        let (encoding, unknown) = (declared.encoding, declared.unknown);
        (!names.is_empty()).then_some(Self { places, names, encoding, unknown })
    }

    /// The place of a value: a text by its name, a number or a truth value by its JSON form.
    pub(super) fn find(&self, value: &Value) -> Option<usize> {
        match value {
            Value::String(text) => self.places.get(text),
            Value::Number(_) | Value::Bool(_) => self.places.get(&value.to_string()),
            _ => None,
        }
        .copied()
    }

    /// The numbers of a category.
    pub(super) fn columns(&self, place: usize) -> impl Iterator<Item = f64> {
        let (one_hot, width) = match self.encoding {
            Encoding::OneHot => (true, self.names.len()),
            Encoding::Index => (false, 1),
        };
        #[allow(clippy::cast_precision_loss, reason = "categories are far fewer than 2^53")]
        (0..width).map(move |column| if one_hot { f64::from(u8::from(column == place)) } else { place as f64 })
    }

    /// What stands for a text that is no category; `None` refuses it.
    pub(super) fn unknown(&self, missing: Option<f64>) -> Option<f64> {
        match self.unknown {
            Unknown::Refuse => None,
            Unknown::Missing => missing,
            Unknown::Value(value) => Some(f64::from(value)),
        }
    }

    /// The numbers that its tensor must be able to hold.
    pub(super) fn numbers(&self) -> impl Iterator<Item = f64> + '_ {
        let last = self.names.len().saturating_sub(1);
        let value = if let Unknown::Value(value) = self.unknown { Some(f64::from(value)) } else { None };
        self.columns(last).chain(value)
    }

    /// What may be sent, for people.
    pub(super) fn expected(&self) -> String {
        let some: Vec<&str> = self.names.iter().take(LISTED).map(String::as_str).collect();
        let rest = self.names.len().saturating_sub(LISTED);
        let more = if rest > 0 { format!(" or {rest} others") } else { String::new() };
        format!("one of {}{more}", some.join(", "))
    }
}
