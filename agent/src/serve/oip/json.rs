//! Tensors in JSON (OIP v2 §Tensor Data): `data` flat or nested in row-major order.
//!
//! JSON has no word for NaN and infinity. They go out as Protocol Buffers' JSON form has them, `"NaN"`, `"Infinity"` and
//! `"-Infinity"`, which NumPy reads as what they are; they come in so too, as the bare words of Python's `json`
//! ([`super::words`]), and NaN as `null`. Texts (BYTES) are strings.

use super::super::error::ApiError;
use fieldpost_shared::bundle::tensor::push_text;
use fieldpost_shared::bundle::{Dtype, Tensor};
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserializer, Serialize, Serializer};
use std::fmt;

/// The words for what JSON has none for.
const WORDS: [(&str, f64); 3] = [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)];

/// All elements, flat. Texts must be UTF-8: see [`Elements::of`].
#[derive(Debug)]
pub(crate) struct Elements<'a>(&'a Tensor);

impl<'a> Elements<'a> {
    /// The elements of the output `name`.
    ///
    /// # Errors
    /// 400 when it holds bytes that are no text: JSON cannot carry them.
    pub(crate) fn of(name: &str, tensor: &'a Tensor) -> Result<Self, ApiError> {
        if tensor.dtype == Dtype::Bytes && tensor.texts().any(|text| str::from_utf8(text).is_err()) {
            let message = format!("output `{name}` holds bytes that are no UTF-8: ask for it with `binary_data`");
            return Err(ApiError::bad_request(message));
        }
        Ok(Self(tensor))
    }
}

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Tensor { dtype, data, .. } = self.0;
        match dtype {
            Dtype::Bool => serializer.collect_seq(data.iter().map(|byte| *byte != 0)),
            Dtype::Uint8 => serializer.collect_seq(data),
            Dtype::Uint16 => each(serializer, data, u16::from_le_bytes),
            Dtype::Uint32 => each(serializer, data, u32::from_le_bytes),
            Dtype::Uint64 => each(serializer, data, u64::from_le_bytes),
            Dtype::Int8 => each(serializer, data, i8::from_le_bytes),
            Dtype::Int16 => each(serializer, data, i16::from_le_bytes),
            Dtype::Int32 => each(serializer, data, i32::from_le_bytes),
            Dtype::Int64 => each(serializer, data, i64::from_le_bytes),
            Dtype::Fp16 => each(serializer, data, |bytes| Float(half::f16::from_le_bytes(bytes).to_f32())),
            Dtype::Fp32 => each(serializer, data, |bytes| Float(f32::from_le_bytes(bytes))),
            Dtype::Fp64 => each(serializer, data, |bytes| Float(f64::from_le_bytes(bytes))),
            Dtype::Bytes => serializer.collect_seq(self.0.texts().map(|text| str::from_utf8(text).unwrap_or_default())),
        }
    }
}

fn each<S: Serializer, T: Serialize, const N: usize>(
    serializer: S,
    data: &[u8],
    read: impl Fn([u8; N]) -> T,
) -> Result<S::Ok, S::Error> {
    let mut seq = serializer.serialize_seq(Some(data.len() / N))?;
    for element in data.as_chunks::<N>().0 {
        seq.serialize_element(&read(*element))?;
    }
    seq.end()
}

/// A floating-point number, or the word for what is none.
struct Float<T>(T);

impl<T: Serialize + Copy + Into<f64>> Serialize for Float<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: f64 = self.0.into();
        if value.is_finite() {
            return self.0.serialize(serializer);
        }
        let word = WORDS.iter().find(|(_, other)| *other == value).map_or("NaN", |(word, _)| word);
        serializer.serialize_str(word)
    }
}

/// Reads `data` into little-endian bytes of a type. More than `most` elements are refused as they come.
pub(crate) struct Elementwise<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) most: usize,
    pub(crate) out: &'a mut Elementals,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Elementals {
    pub(crate) data: Vec<u8>,
    pub(crate) count: usize,
}

impl<'de> DeserializeSeed<'de> for Elementwise<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Elementwise<'_> {
    fn count<E: de::Error>(&mut self) -> Result<(), E> {
        if self.out.count >= self.most {
            return Err(E::custom(format!("more than {} elements, which the shape has", self.most)));
        }
        self.out.count += 1;
        Ok(())
    }

    fn push<E: de::Error>(mut self, bytes: &[u8]) -> Result<(), E> {
        self.count()?;
        self.out.data.extend_from_slice(bytes);
        Ok(())
    }

    fn integer<E: de::Error>(self, value: i128) -> Result<(), E> {
        let dtype = self.dtype;
        let range = |_out_of_range| E::custom(format!("{value} does not fit {dtype}"));
        match dtype {
            Dtype::Bool if value == 0 || value == 1 => self.push(&[u8::from(value == 1)]),
            Dtype::Bool => Err(E::custom(format!("{value} is neither true nor false"))),
            Dtype::Uint8 => self.push(&u8::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Uint16 => self.push(&u16::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Uint32 => self.push(&u32::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Uint64 => self.push(&u64::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Int8 => self.push(&i8::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Int16 => self.push(&i16::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Int32 => self.push(&i32::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Int64 => self.push(&i64::try_from(value).map_err(range)?.to_le_bytes()),
            // An integer of JSON rounds to the nearest number of the type, as any decimal does.
            Dtype::Fp16 | Dtype::Fp32 | Dtype::Fp64 => self.float(value as f64),
            Dtype::Bytes => Err(E::custom(format!("{value} is not of type {dtype}"))),
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "rounding to binary32 is meant; what overflows is refused")]
    fn float<E: de::Error>(self, value: f64) -> Result<(), E> {
        let dtype = self.dtype;
        let holds = match dtype {
            Dtype::Fp16 => half::f16::from_f64(value).is_finite(),
            Dtype::Fp32 => (value as f32).is_finite(),
            Dtype::Fp64 => true,
            _ => return Err(E::custom(format!("{value} is not of type {dtype}"))),
        };
        if value.is_finite() && !holds {
            return Err(E::custom(format!("{value} does not fit {dtype}")));
        }
        match dtype {
            Dtype::Fp16 => self.push(&half::f16::from_f64(value).to_le_bytes()),
            Dtype::Fp32 => self.push(&(value as f32).to_le_bytes()),
            _ => self.push(&value.to_le_bytes()),
        }
    }
}

impl<'de> Visitor<'de> for Elementwise<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "elements of type {}, flat or nested", self.dtype)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        // The decoder bounds how deep this nests.
        while seq.next_element_seed(Elementwise { dtype: self.dtype, most: self.most, out: &mut *self.out })?.is_some()
        {
        }
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        match self.dtype {
            Dtype::Bool => self.push(&[u8::from(value)]),
            dtype => Err(E::custom(format!("{value} is not of type {dtype}"))),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.float(value)
    }

    fn visit_str<E: de::Error>(mut self, text: &str) -> Result<(), E> {
        if self.dtype == Dtype::Bytes {
            self.count()?;
            return push_text(&mut self.out.data, text.as_bytes()).ok_or_else(|| E::custom("a text of 4 GiB"));
        }
        match WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, value)) if self.dtype.is_float() => self.float(*value),
            _ => Err(E::invalid_type(de::Unexpected::Str(&text.chars().take(40).collect::<String>()), &self)),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        if self.dtype.is_float() {
            self.float(f64::NAN)
        } else {
            Err(E::custom(format!("null is not of type {}", self.dtype)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: Dtype, most: usize, json: &str) -> Result<Vec<f64>, String> {
        tensor(dtype, most, json).map(|tensor| tensor.to_f64())
    }

    fn tensor(dtype: Dtype, most: usize, json: &str) -> Result<Tensor, String> {
        let mut out = Elementals::default();
        let mut deserializer = serde_json::Deserializer::from_str(json);
        Elementwise { dtype, most, out: &mut out }.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        Ok(Tensor::new(dtype, vec![out.count], out.data).unwrap())
    }

    #[track_caller]
    fn reads(dtype: Dtype, json: &str, expected: &[f64]) {
        assert_eq!(read(dtype, 99, json).as_deref(), Ok(expected));
    }

    #[track_caller]
    fn refused(dtype: Dtype, json: &str, part: &str) {
        let error = read(dtype, 99, json).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn nested_and_flat_data_are_the_same() {
        reads(Dtype::Fp32, "[[1, 2.5], [-3e0, 4]]", &[1.0, 2.5, -3.0, 4.0]);
        reads(Dtype::Fp32, "[1, 2.5, -3, 4]", &[1.0, 2.5, -3.0, 4.0]);
        reads(Dtype::Fp64, "7", &[7.0]);
    }

    #[test]
    fn every_type_is_read_in_its_range() {
        reads(Dtype::Uint8, "[0, 255]", &[0.0, 255.0]);
        reads(Dtype::Int8, "[-128, 127]", &[-128.0, 127.0]);
        reads(Dtype::Int16, "[-32768]", &[-32768.0]);
        reads(Dtype::Int32, "[2147483647]", &[2_147_483_647.0]);
        reads(Dtype::Int64, "[-9007199254740993]", &[-9_007_199_254_740_992.0]);
        reads(Dtype::Bool, "[true, false, 1, 0]", &[1.0, 0.0, 1.0, 0.0]);
        reads(Dtype::Uint16, "[65535]", &[65_535.0]);
        reads(Dtype::Uint32, "[4294967295]", &[4_294_967_295.0]);
        reads(Dtype::Uint64, "[18446744073709551615]", &[18_446_744_073_709_551_615.0]);
        reads(Dtype::Fp16, "[0.1, 65504]", &[0.099_975_585_937_5, 65_504.0]);
        let texts = tensor(Dtype::Bytes, 9, r#"[["a", ""], ["\u00f6"]]"#).unwrap();
        assert_eq!(texts, Tensor::from_texts(vec![3], ["a", "", "\u{f6}"]).unwrap());
    }

    #[test]
    fn words_stand_for_what_json_has_no_number_for() {
        for dtype in [Dtype::Fp16, Dtype::Fp32, Dtype::Fp64] {
            let values = read(dtype, 9, r#"["NaN", "Infinity", "-Infinity", null]"#).unwrap();
            assert_eq!(values[1..3], [f64::INFINITY, f64::NEG_INFINITY]);
            assert!(values[0].is_nan() && values[3].is_nan());
        }
        refused(Dtype::Int32, r#"["NaN"]"#, "elements of type INT32");
    }

    #[test]
    fn what_a_type_cannot_hold_is_refused() {
        refused(Dtype::Uint8, "[256]", "256 does not fit UINT8");
        refused(Dtype::Uint8, "[-1]", "-1 does not fit UINT8");
        refused(Dtype::Int64, "[9223372036854775808]", "does not fit INT64");
        refused(Dtype::Int32, "[1.5]", "1.5 is not of type INT32");
        refused(Dtype::Int32, "[null]", "null is not of type INT32");
        refused(Dtype::Int32, "[true]", "true is not of type INT32");
        refused(Dtype::Fp32, "[true]", "true is not of type FP32");
        refused(Dtype::Fp32, "[1e39]", "does not fit FP32");
        refused(Dtype::Bool, "[2]", "2 is neither true nor false");
        refused(Dtype::Fp32, r#"["1"]"#, "elements of type FP32");
        refused(Dtype::Fp32, r#"[{"a": 1}]"#, "elements of type FP32");
        refused(Dtype::Fp16, "[65520]", "65520 does not fit FP16");
        refused(Dtype::Uint64, "[-1]", "-1 does not fit UINT64");
        refused(Dtype::Bytes, "[1]", "1 is not of type BYTES");
        refused(Dtype::Bytes, "[null]", "null is not of type BYTES");
    }

    #[test]
    fn more_elements_than_the_shape_has_are_refused_as_they_come() {
        assert!(read(Dtype::Fp32, 2, "[1, 2]").is_ok());
        assert!(read(Dtype::Fp32, 2, "[[1], [2], [3]]").unwrap_err().contains("more than 2 elements"));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let json = "[".repeat(100_000);
        assert!(read(Dtype::Fp32, 2, &json).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn elements_are_written_shortest_and_what_is_no_number_as_a_word() {
        let json = |tensor: &Tensor| serde_json::to_string(&Elements::of("y", tensor).unwrap()).unwrap();
        let floats = Tensor::from_f32(vec![5], &[0.1, f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 1e-20]).unwrap();
        assert_eq!(json(&floats), r#"[0.1,"NaN","-Infinity","Infinity",1e-20]"#);
        assert_eq!(json(&Tensor::new(Dtype::Bool, vec![2], vec![0, 1]).unwrap()), "[false,true]");
        assert_eq!(json(&Tensor::new(Dtype::Int16, vec![1], vec![0xff, 0xff]).unwrap()), "[-1]");
        assert_eq!(json(&Tensor::new(Dtype::Int64, vec![], vec![0xfe; 8]).unwrap()), "[-72340172838076674]");
        assert_eq!(json(&Tensor::new(Dtype::Uint64, vec![], vec![0xff; 8]).unwrap()), "[18446744073709551615]");
        assert_eq!(json(&Tensor::new(Dtype::Fp16, vec![1], vec![0, 0x3c]).unwrap()), "[1.0]");
        assert_eq!(json(&Tensor::from_texts(vec![2], ["a\"", ""]).unwrap()), r#"["a\"",""]"#);
        assert!(Elements::of("y", &Tensor::from_texts(vec![1], [&[0xff][..]]).unwrap()).is_err());
    }
}
