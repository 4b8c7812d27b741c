//! Records on disk: one byte with the form's number, then postcard. A newer form is refused and left as it is.

use super::error::RecordError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a record of a form.
pub(crate) fn encode<T: Serialize>(what: &'static str, form: u8, value: &T) -> Result<Vec<u8>, RecordError> {
    postcard::to_extend(value, vec![form]).map_err(|source| RecordError::Malformed { what, source })
}

/// Reads a record of exactly this form; bytes after it are malformed too.
pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, form: u8, bytes: &[u8]) -> Result<T, RecordError> {
    let malformed = |source| RecordError::Malformed { what, source };
    match bytes.split_first() {
        Some((found, body)) if *found == form => match postcard::take_from_bytes(body).map_err(malformed)? {
            (value, []) => Ok(value),
            _ => Err(malformed(postcard::Error::DeserializeBadEncoding)),
        },
        Some((found, _)) if *found > form => Err(RecordError::Newer { what, found: *found, known: form }),
        _ => Err(malformed(postcard::Error::DeserializeUnexpectedEnd)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_form_is_refused_and_named() {
        let bytes = encode("x", 2, &7_u32).unwrap();
        assert!(matches!(decode::<u32>("x", 1, &bytes), Err(RecordError::Newer { found: 2, known: 1, .. })));
        assert_eq!(decode::<u32>("x", 2, &bytes).unwrap(), 7);
    }

    #[test]
    fn trailing_and_missing_bytes_are_malformed() {
        let mut bytes = encode("x", 1, &7_u32).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<u32>("x", 1, &bytes), Err(RecordError::Malformed { .. })));
        assert!(matches!(decode::<u32>("x", 1, &[1]), Err(RecordError::Malformed { .. })));
        assert!(matches!(decode::<u32>("x", 1, &[]), Err(RecordError::Malformed { .. })));
    }
}
