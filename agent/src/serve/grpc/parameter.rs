//! One entry of `parameters` (OIP v2 §GRPC InferParameter): a name, and a value of one of several types.

use super::super::error::ApiError;
use super::super::oip::tensors;
use super::wire::{Fields, Malformed, Value};

/// An entry, borrowed from its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameter<'a> {
    pub(crate) key: &'a [u8],
    /// Which type the value says it has, and the value; none was sent where it is missing.
    value: Option<(u64, Value<'a>)>,
}

impl<'a> Parameter<'a> {
    /// Reads an entry of the map.
    ///
    /// # Errors
    /// When its bytes are no message.
    pub(crate) fn of(entry: &'a [u8]) -> Result<Self, Malformed> {
        let mut parameter = Self { key: b"", value: None };
        for field in Fields::of(entry) {
            match field? {
                (1, Value::Bytes(key)) => parameter.key = key,
                (2, Value::Bytes(message)) => {
                    for value in Fields::of(message) {
                        parameter.value = Some(value?);
                    }
                }
                (1 | 2, _) => return Err(Malformed),
                _ => {}
            }
        }
        Ok(parameter)
    }

    /// Whether it says anything: true, a number other than 0, a text that is not empty.
    pub(crate) fn is_set(&self) -> bool {
        match self.value {
            Some((1 | 2 | 5, Value::Varint(number))) => number != 0,
            Some((3, Value::Bytes(text))) => !text.is_empty(),
            Some(_) => true,
            None => false,
        }
    }

    /// The value as a whole number of 0 or more (`int64_param`, `uint64_param`).
    ///
    /// # Errors
    /// 400 when it is something else.
    pub(crate) fn whole(&self) -> Result<u64, ApiError> {
        match self.value {
            Some((2, Value::Varint(number))) if number.cast_signed() >= 0 => Ok(number),
            Some((5, Value::Varint(number))) => Ok(number),
            _ => {
                let key = String::from_utf8_lossy(self.key);
                let key = tensors::short(&key);
                Err(ApiError::bad_request(format!("parameter `{key}` must be a whole number of 0 or more")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::put_bytes;
    use super::*;

    fn whole(value: &[u8]) -> Result<u64, u16> {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, b"key");
        put_bytes(&mut entry, 2, value);
        let parameter = Parameter::of(&entry).unwrap();
        assert_eq!(parameter.key, b"key");
        parameter.whole().map_err(|error| error.status.as_u16())
    }

    #[test]
    fn whole_numbers_come_signed_or_not() {
        assert_eq!((whole(&[0x10, 7]), whole(&[0x28, 7])), (Ok(7), Ok(7)));
        let minus_one = [0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(
            (whole(&minus_one), whole(b"\x1a\x017"), whole(b""), whole(&[0x08, 1])),
            (Err(400), Err(400), Err(400), Err(400))
        );
        assert_eq!(Parameter::of(b"\x0a\x09"), Err(Malformed));
        assert_eq!(Parameter::of(b"\x08\x09"), Err(Malformed));
    }
}
