//! The form of a record: one byte with the form's number, then JSON. The number stands outside, so that a newer form
//! is recognised before anything is read of it.

use super::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Encodes a record of the given form.
///
/// # Errors
/// When the value has no JSON form, such as a map with keys that are no text.
pub fn encode<T: Serialize>(form: u8, value: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![form];
    serde_json::to_writer(&mut bytes, value).map_err(StoreError::Record)?;
    Ok(bytes)
}

/// Reads a record of a form up to `known`.
///
/// # Errors
/// When it is of a newer form, or damaged.
pub fn decode<T: DeserializeOwned>(known: u8, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((form, json)) if *form <= known => serde_json::from_slice(json).map_err(StoreError::Record),
        Some((form, _)) => Err(StoreError::Form { found: *form, known }),
        None => Err(StoreError::Empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_form_is_refused_and_an_older_one_is_read() {
        let bytes = encode(2, &7_u32).unwrap();
        assert_eq!(bytes, b"\x027");
        assert_eq!(decode::<u32>(3, &bytes).unwrap(), 7);
        assert!(matches!(decode::<u32>(1, &bytes), Err(StoreError::Form { found: 2, known: 1 })));
        assert!(matches!(decode::<u32>(1, b""), Err(StoreError::Empty)));
        assert!(matches!(decode::<u32>(1, b"\x01{"), Err(StoreError::Record(_))));
    }
}
