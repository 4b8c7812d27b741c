//! Labels: what the operator calls a device. Checked once at the door, since they end in selectors, tables and logs.

use crate::api::types::{LabelChange, Labels};

/// Names that a selector takes for facts about the box; no label may have them.
pub const RESERVED: [&str; 6] = ["id", "arch", "os", "cpu", "hostname", "agent"];
/// Most labels of a device.
pub const MAX_LABELS: usize = 64;
const MAX_KEY_BYTES: usize = 63;
const MAX_VALUE_BYTES: usize = 128;

/// A label that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A key of other characters.
    #[error("label `{0}` must be 1 to {MAX_KEY_BYTES} of a-z, 0-9, `.`, `_`, `-`, starting with a letter")]
    Key(String),
    /// A key that means a fact about the box.
    #[error("`{0}` is what the box itself says it is, and cannot be a label")]
    Reserved(String),
    /// A value that would be misread.
    #[error(
        "label value `{0}` must be at most {MAX_VALUE_BYTES} bytes without commas, equal signs, or control characters"
    )]
    Value(String),
    /// Too many.
    #[error("a device has at most {MAX_LABELS} labels")]
    TooMany,
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Whether a text can be the key of a label, reserved names aside.
///
/// # Errors
/// When it cannot.
pub fn check_key(key: &str) -> Result<(), LabelError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let starts = key.starts_with(|c: char| c.is_ascii_lowercase());
    if starts && key.len() <= MAX_KEY_BYTES && key.chars().all(plain) {
        Ok(())
    } else {
        Err(LabelError::Key(shown(key)))
    }
}

/// Whether a text can be the value of a label.
///
/// # Errors
/// When it cannot.
pub fn check_value(value: &str) -> Result<(), LabelError> {
    let fits = value.len() <= MAX_VALUE_BYTES && value.trim() == value;
    if fits && !value.contains(|c: char| c.is_control() || matches!(c, ',' | '=')) {
        Ok(())
    } else {
        Err(LabelError::Value(shown(value)))
    }
}

/// Whether all labels can be a device's.
///
/// # Errors
/// The first that cannot.
pub fn check(labels: &Labels) -> Result<(), LabelError> {
    if labels.len() > MAX_LABELS {
        return Err(LabelError::TooMany);
    }
    labels.iter().try_for_each(|(key, value)| {
        if RESERVED.contains(&key.as_str()) {
            return Err(LabelError::Reserved(key.clone()));
        }
        check_key(key).and_then(|()| check_value(value))
    })
}

/// The labels after a change: first what is taken away, then what is set.
///
/// # Errors
/// When the result cannot be a device's labels.
pub fn change(labels: &Labels, change: &LabelChange) -> Result<Labels, LabelError> {
    let mut after = labels.clone();
    change.remove.iter().for_each(|key| drop(after.remove(key)));
    after.extend(change.set.clone());
    check(&after).map(|()| after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Labels {
        [(key.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn labels_that_would_be_misread_are_refused() {
        assert_eq!(check(&one("site", "lyon")), Ok(()));
        assert!(matches!(check(&one("arch", "x")), Err(LabelError::Reserved(_))));
        for key in ["", "Site", "1a", "a b", "has:x", "ü"] {
            assert!(matches!(check(&one(key, "x")), Err(LabelError::Key(_))), "{key}");
        }
        for value in ["a,b", "a=b", "a\nb", " a"] {
            assert!(matches!(check(&one("k", value)), Err(LabelError::Value(_))), "{value}");
        }
    }

    #[test]
    fn a_change_takes_away_and_sets() {
        let before: Labels = [("a".into(), "1".into()), ("b".into(), "2".into())].into();
        let changed = change(&before, &LabelChange { set: one("c", "3"), remove: vec!["a".into()] }).unwrap();
        assert_eq!(changed, [("b".into(), "2".into()), ("c".into(), "3".into())].into());
    }

    #[test]
    fn too_many_labels_are_refused() {
        let many = (0..=MAX_LABELS).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(check(&many), Err(LabelError::TooMany));
    }
}
