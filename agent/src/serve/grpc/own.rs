//! One of a ModelInferRequest's `parameters`, looked up before anybody reads its tensors. What is malformed is told when it
//! is read.

use super::wire::{Fields, Malformed, Value};

/// The value of a parameter as text; of several the last, as a map has it.
pub(crate) fn parameter(message: &[u8], name: &str) -> Option<String> {
    let fields = Fields::of(message).map_while(Result::ok);
    let entries = fields.filter_map(|field| match field {
        (4, Value::Bytes(entry)) => entry_of(entry).ok(),
        _ => None,
    });
    entries.filter(|(key, _)| *key == name.as_bytes()).last().and_then(|(_, value)| text(value))
}

/// Key and value of a map's entry.
fn entry_of(entry: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::of(entry) {
        match field? {
            (1, Value::Bytes(bytes)) => key = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((key, value))
}

/// An InferParameter as JSON would write it.
fn text(parameter: &[u8]) -> Option<String> {
    Fields::of(parameter).map_while(Result::ok).filter_map(scalar).last()
}

fn scalar(field: (u64, Value<'_>)) -> Option<String> {
    match field {
        (1, Value::Varint(flag)) => Some((flag != 0).to_string()),
        (2, Value::Varint(number)) => Some(number.cast_signed().to_string()),
        (3, Value::Bytes(text)) => str::from_utf8(text).ok().map(str::to_owned),
        (4, Value::Fixed64(bytes)) => Some(format!("{:?}", f64::from_le_bytes(bytes))),
        (5, Value::Varint(number)) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::put_bytes;
    use super::*;

    /// A request with these entries, each a key and an InferParameter.
    fn message(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, b"digits");
        for (key, parameter) in entries {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            put_bytes(&mut entry, 2, parameter);
            put_bytes(&mut message, 4, &entry);
        }
        message
    }

    #[test]
    fn each_kind_of_parameter_is_read() {
        let kinds: [(&[u8], &str); 6] = [
            (b"\x08\x01", "true"),
            (b"\x10\x07", "7"),
            (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "-1"),
            (b"\x1a\x02hi", "hi"),
            (b"\x21\0\0\0\0\0\0\xf8\x3f", "1.5"),
            (b"\x28\x07", "7"),
        ];
        for (parameter, expected) in kinds {
            let message = message(&[("other", b"\x10\x09"), ("line", parameter)]);
            assert_eq!(super::parameter(&message, "line").as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_last_counts_and_what_is_no_value_is_none() {
        let of = |entries: &[(&str, &[u8])]| parameter(&message(entries), "line");
        assert_eq!(of(&[("line", b"\x10\x07"), ("line", b"\x10\x08")]).as_deref(), Some("8"));
        assert_eq!([of(&[]), of(&[("line", b"")]), of(&[("line", b"\x1a\x01\xff")])], [None, None, None]);
        assert_eq!(parameter(b"\x22\x05hi", "line"), None);
    }
}
