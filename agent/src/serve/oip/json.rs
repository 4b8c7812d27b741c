//! Tensors in JSON (OIP v2 §Tensor Data): `data` flat or nested in row-major order.
//!
//! NaN and infinity are `null` in both directions, floating-point types alone: JSON has no word for them. What comes in as
//! `null` is NaN; which of the three went out as `null`, an answer does not say.

use fieldpost_shared::bundle::{Dtype, Manifest, Tensor};
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserializer, Serialize, Serializer};
use std::fmt;

/// One output as the protocol writes it.
#[derive(Serialize)]
pub(crate) struct TensorJson<'a> {
    name: &'a str,
    shape: &'a [usize],
    datatype: Dtype,
    data: Elements<'a>,
}

impl<'a> TensorJson<'a> {
    /// The outputs, in the manifest's order; only `wanted`, in its order, when there is such a list.
    pub(crate) fn all(manifest: &'a Manifest, wanted: Option<&[String]>, outputs: &'a [Tensor]) -> Vec<Self> {
        let named: Vec<(&str, &Tensor)> = manifest.outputs.iter().map(|spec| spec.name.as_str()).zip(outputs).collect();
        let write = |(name, tensor): &(&'a str, &'a Tensor)| Self {
            name,
            shape: &tensor.shape,
            datatype: tensor.dtype,
            data: Elements(tensor),
        };
        match wanted {
            None => named.iter().map(write).collect(),
            Some(names) => names.iter().filter_map(|n| named.iter().find(|(name, _)| name == n)).map(write).collect(),
        }
    }
}

/// All elements, flat.
struct Elements<'a>(&'a Tensor);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Tensor { dtype, data, .. } = self.0;
        match dtype {
            Dtype::Bool => serializer.collect_seq(data.iter().map(|byte| *byte != 0)),
            Dtype::Uint8 => serializer.collect_seq(data),
            Dtype::Int8 => each(serializer, data, i8::from_le_bytes),
            Dtype::Int16 => each(serializer, data, i16::from_le_bytes),
            Dtype::Int32 => each(serializer, data, i32::from_le_bytes),
            Dtype::Int64 => each(serializer, data, i64::from_le_bytes),
            Dtype::Fp32 => each(serializer, data, f32::from_le_bytes),
            Dtype::Fp64 => each(serializer, data, f64::from_le_bytes),
        }
    }
}

fn each<S: Serializer, T: Serialize, const N: usize>(
    serializer: S,
    data: &[u8],
    read: fn([u8; N]) -> T,
) -> Result<S::Ok, S::Error> {
    let mut seq = serializer.serialize_seq(Some(data.len() / N))?;
    for element in data.as_chunks::<N>().0 {
        seq.serialize_element(&read(*element))?;
    }
    seq.end()
}

/// Reads `data` into little-endian bytes of a type. More than `most` elements are refused as they come.
pub(crate) struct Elementwise<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) most: usize,
    pub(crate) out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Elementwise<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Elementwise<'_> {
    fn push<E: de::Error>(self, bytes: &[u8]) -> Result<(), E> {
        if self.out.len() / self.dtype.size_bytes() >= self.most {
            return Err(E::custom(format!("more than {} elements, which the shape has", self.most)));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn integer<E: de::Error>(self, value: i128) -> Result<(), E> {
        let dtype = self.dtype;
        let range = |_out_of_range| E::custom(format!("{value} does not fit {dtype}"));
        match dtype {
            Dtype::Bool if value == 0 || value == 1 => self.push(&[u8::from(value == 1)]),
            Dtype::Bool => Err(E::custom(format!("{value} is neither true nor false"))),
            Dtype::Uint8 => self.push(&u8::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Int8 => self.push(&i8::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Int16 => self.push(&i16::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Int32 => self.push(&i32::try_from(value).map_err(range)?.to_le_bytes()),
            Dtype::Int64 => self.push(&i64::try_from(value).map_err(range)?.to_le_bytes()),
            // An integer of JSON rounds to the nearest number of the type, as any decimal does.
            Dtype::Fp32 | Dtype::Fp64 => self.float(value as f64),
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "rounding to binary32 is meant; what overflows is refused")]
    fn float<E: de::Error>(self, value: f64) -> Result<(), E> {
        match self.dtype {
            Dtype::Fp64 => self.push(&value.to_le_bytes()),
            Dtype::Fp32 if value.is_finite() && !(value as f32).is_finite() => {
                Err(E::custom(format!("{value} does not fit FP32")))
            }
            Dtype::Fp32 => self.push(&(value as f32).to_le_bytes()),
            dtype => Err(E::custom(format!("{value} is not of type {dtype}"))),
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

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        match self.dtype {
            Dtype::Fp32 | Dtype::Fp64 => self.float(f64::NAN),
            dtype => Err(E::custom(format!("null is not of type {dtype}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: Dtype, most: usize, json: &str) -> Result<Vec<f64>, String> {
        let mut out = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_str(json);
        Elementwise { dtype, most, out: &mut out }.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        let shape = vec![out.len() / dtype.size_bytes()];
        Ok(Tensor::new(dtype, shape, out).unwrap().to_f64())
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
    }

    #[test]
    fn null_is_nan() {
        assert!(read(Dtype::Fp32, 1, "[null]").unwrap()[0].is_nan());
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
    fn elements_are_written_shortest_and_without_nan() {
        let json = |tensor: &Tensor| serde_json::to_string(&Elements(tensor)).unwrap();
        let floats = Tensor::from_f32(vec![4], &[0.1, f32::NAN, f32::NEG_INFINITY, 1e-20]).unwrap();
        assert_eq!(json(&floats), "[0.1,null,null,1e-20]");
        assert_eq!(json(&Tensor::new(Dtype::Bool, vec![2], vec![0, 1]).unwrap()), "[false,true]");
        assert_eq!(json(&Tensor::new(Dtype::Int16, vec![1], vec![0xff, 0xff]).unwrap()), "[-1]");
        assert_eq!(json(&Tensor::new(Dtype::Int64, vec![], vec![0xfe; 8]).unwrap()), "[-72340172838076674]");
    }
}
