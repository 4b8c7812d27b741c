//! Durations as people write them: `30s`, `10m`, `1h30m`, `250ms`.

use serde::{Deserialize, Deserializer, Serializer, de};
use std::time::Duration;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration such as 30s, 10m, 1h30m or 2d")]
pub struct DurationError(String);

/// Units in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads one or more numbers with units, without spaces; a bare `0` is zero.
///
/// # Errors
/// When the text is empty, has another form, or is longer than 2^64 milliseconds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let refuse = || DurationError(text.chars().take(40).collect());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let ms = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms).ok_or_else(refuse)?;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(ms)).ok_or_else(refuse)?;
        total = total.checked_add(part).ok_or_else(refuse)?;
        rest = tail;
    }
    if text.is_empty() { Err(refuse()) } else { Ok(Duration::from_millis(total)) }
}

/// Writes a duration so that [`parse`] reads it back: `1h30m`, whole milliseconds.
#[must_use]
pub fn text(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut out = String::new();
    for (name, unit) in UNITS {
        if ms >= unit {
            out.push_str(&format!("{}{name}", ms / unit));
            ms %= unit;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// `#[serde(with = "duration")]`
///
/// # Errors
/// What the serializer says.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*duration))
}

/// `#[serde(with = "duration")]`
///
/// # Errors
/// When the text is no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// The same for a field that may be absent.
pub mod optional {
    use super::{Deserialize, Deserializer, Duration, Serializer, de, parse, text};

    /// `#[serde(with = "duration::optional")]`
    ///
    /// # Errors
    /// What the serializer says.
    #[allow(clippy::ref_option, reason = "serde gives a field by reference")]
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&text(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// `#[serde(with = "duration::optional")]`
    ///
    /// # Errors
    /// When the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| parse(&text).map_err(de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(given: &str, ms: u64) {
        assert_eq!(parse(given), Ok(Duration::from_millis(ms)), "{given}");
    }

    #[test]
    fn people_write_durations_in_units() {
        check("30s", 30_000);
        check("250ms", 250);
        check("1h30m", 5_400_000);
        check("2d", 172_800_000);
        check("0", 0);
    }

    #[test]
    fn other_texts_are_refused() {
        for given in ["", "5", "s", "5 s", "-1s", "1.5h", "1w", "99999999999999999999s", "9999999999999999d", "5s3"] {
            assert!(parse(given).is_err(), "{given}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0..u64::MAX / 2) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&text(duration)), Ok(duration));
        }

        #[test]
        fn noise_never_panics(given in "\\PC{0,20}") {
            drop(parse(&given));
        }
    }
}
