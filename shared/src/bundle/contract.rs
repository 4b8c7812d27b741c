//! The tensor contract of a model: names, element types, shapes with symbols.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// Element types that the runtime serves; the text form is the Open Inference Protocol's (OIP v2 §Tensor Data Types).
///
/// Golden samples hold the place of a type in this list: new ones go to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 1 byte.
    Uint8,
    /// Signed, 1 byte.
    Int8,
    /// Signed, 2 bytes.
    Int16,
    /// Signed, 4 bytes.
    Int32,
    /// Signed, 8 bytes.
    Int64,
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary64.
    Fp64,
    /// Unsigned, 2 bytes.
    Uint16,
    /// Unsigned, 4 bytes.
    Uint32,
    /// Unsigned, 8 bytes.
    Uint64,
    /// IEEE 754 binary16.
    Fp16,
    /// Texts: each its length as an unsigned 4-byte number, then so many bytes.
    Bytes,
}

impl Dtype {
    /// All of them, in the order of the protocol's table.
    pub const ALL: [Self; 13] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Bytes per element; of [`Dtype::Bytes`] the fewest, which is its length alone.
    #[must_use]
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => 1,
            Self::Int16 | Self::Uint16 | Self::Fp16 => 2,
            Self::Int32 | Self::Uint32 | Self::Fp32 | Self::Bytes => 4,
            Self::Int64 | Self::Uint64 | Self::Fp64 => 8,
        }
    }

    /// Whether elements are floating-point numbers, which NaN and infinity are among.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Fp32 | Self::Fp64)
    }

    /// The protocol's name, such as `FP32`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Fp16 => "FP16",
            Self::Bytes => "BYTES",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A datatype name that the runtime does not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("datatype `{0}` is not one of BOOL UINT8-64 INT8-64 FP16 FP32 FP64 BYTES")]
pub struct UnknownDtype(pub String);

impl FromStr for Dtype {
    type Err = UnknownDtype;
    fn from_str(text: &str) -> Result<Self, UnknownDtype> {
        Self::ALL
            .into_iter()
            .find(|dtype| dtype.as_str() == text)
            .ok_or_else(|| UnknownDtype(text.chars().take(40).collect()))
    }
}

/// One axis: a fixed size, or a symbol such as `N`. In JSON a number or a string.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Always this many.
    Fixed(u64),
    /// Any size; equal symbols are equal sizes.
    Symbol(String),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Symbol(name) => f.write_str(name),
        }
    }
}

impl Serialize for Dim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(size) => serializer.serialize_u64(*size),
            Self::Symbol(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Dim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Dim;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an axis: a size or a symbol")
            }
            fn visit_u64<E: de::Error>(self, size: u64) -> Result<Dim, E> {
                Ok(Dim::Fixed(size))
            }
            fn visit_i64<E: de::Error>(self, size: i64) -> Result<Dim, E> {
                u64::try_from(size).map(Dim::Fixed).map_err(|_negative| E::custom("an axis cannot be negative"))
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Dim, E> {
                Ok(Dim::Symbol(name.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The name in the ONNX graph.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// Row-major axes, outermost first.
    pub shape: Vec<Dim>,
}

impl TensorSpec {
    /// Whether a concrete shape fits: same rank, and equal wherever an axis is fixed. Symbols are not tied together here.
    #[must_use]
    pub fn admits(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(dim, size)| match dim {
                Dim::Fixed(fixed) => u64::try_from(*size) == Ok(*fixed),
                Dim::Symbol(_) => true,
            })
    }

    /// The shape for people, such as `[N,1,8,8]`.
    #[must_use]
    pub fn shape_text(&self) -> String {
        let axes: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
        format!("[{}]", axes.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_by_its_name() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.as_str().parse(), Ok(dtype));
            assert_eq!(serde_json::to_string(&dtype).unwrap(), format!("\"{dtype}\""));
        }
        assert!("BF16".parse::<Dtype>().is_err());
    }

    #[test]
    fn golden_files_of_the_first_release_name_their_types_by_these_numbers() {
        use Dtype::{Bool, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8};
        for (dtype, number) in [Bool, Uint8, Int8, Int16, Int32, Int64, Fp32, Fp64].into_iter().zip(0_u8..) {
            assert_eq!(postcard::to_stdvec(&dtype).unwrap(), [number]);
        }
    }

    #[test]
    fn axes_are_numbers_or_symbols_in_json() {
        let dims: Vec<Dim> = serde_json::from_str(r#"["N", 3, 8]"#).unwrap();
        assert_eq!(dims, [Dim::Symbol("N".into()), Dim::Fixed(3), Dim::Fixed(8)]);
        assert_eq!(serde_json::to_string(&dims).unwrap(), r#"["N",3,8]"#);
        assert!(serde_json::from_str::<Dim>("-1").is_err());
    }

    #[test]
    fn a_fixed_axis_must_match_and_a_symbol_may_be_anything() {
        let spec =
            TensorSpec { name: "x".into(), dtype: Dtype::Fp32, shape: vec![Dim::Symbol("N".into()), Dim::Fixed(4)] };
        assert!(spec.admits(&[1, 4]) && spec.admits(&[9, 4]));
        assert!(!spec.admits(&[1, 5]) && !spec.admits(&[4]) && !spec.admits(&[1, 1, 4]));
    }
}
