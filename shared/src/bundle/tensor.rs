//! A tensor as bytes: what golden samples hold and what travels between the serving and the runtime rooms.

use super::contract::Dtype;
use serde::{Deserialize, Serialize};

/// Why bytes are not a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The number of bytes is not the product of the shape times the element's size.
    #[error("tensor {shape:?} of {dtype} needs {expected} bytes, got {found}")]
    Size {
        /// The shape stated.
        shape: Vec<usize>,
        /// The element type stated.
        dtype: Dtype,
        /// Bytes needed.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The product of the axes does not fit memory.
    #[error("tensor shape {0:?} overflows")]
    Overflow(Vec<usize>),
    /// Texts that are not each a length and so many bytes.
    #[error(
        "tensor {shape:?} of BYTES needs {expected} texts with their lengths, got {found} whole ones in {bytes} bytes"
    )]
    Texts {
        /// The shape stated.
        shape: Vec<usize>,
        /// Texts needed.
        expected: usize,
        /// Texts found before the first that is torn, or before the end.
        found: usize,
        /// Bytes there.
        bytes: usize,
    },
}

/// A dense tensor, row-major, elements in little-endian order.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// The element type.
    pub dtype: Dtype,
    /// Sizes of the axes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// `product(shape) * dtype.size_bytes()` bytes; of [`Dtype::Bytes`] so many texts, each behind its length.
    pub data: Vec<u8>,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {:?})", self.dtype, self.shape)
    }
}

/// Product of the axes, checked.
///
/// # Errors
/// [`TensorError::Overflow`] when it exceeds the address space.
pub fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    shape
        .iter()
        .try_fold(1_usize, |product, axis| product.checked_mul(*axis))
        .ok_or_else(|| TensorError::Overflow(shape.to_vec()))
}

impl Tensor {
    /// A tensor of checked size.
    ///
    /// # Errors
    /// When the bytes do not fill the shape exactly.
    pub fn new(dtype: Dtype, shape: Vec<usize>, data: Vec<u8>) -> Result<Self, TensorError> {
        let tensor = Self { dtype, shape, data };
        tensor.check()?;
        Ok(tensor)
    }

    /// Checks what a decoder could not: that the bytes fill the shape.
    ///
    /// # Errors
    /// When they do not.
    pub fn check(&self) -> Result<(), TensorError> {
        if self.dtype == Dtype::Bytes {
            return self.check_texts();
        }
        let expected = element_count(&self.shape)?
            .checked_mul(self.dtype.size_bytes())
            .ok_or_else(|| TensorError::Overflow(self.shape.clone()))?;
        if expected == self.data.len() {
            Ok(())
        } else {
            Err(TensorError::Size { shape: self.shape.clone(), dtype: self.dtype, expected, found: self.data.len() })
        }
    }

    fn check_texts(&self) -> Result<(), TensorError> {
        let expected = element_count(&self.shape)?;
        let mut texts = self.texts();
        let found = texts.by_ref().count();
        if found == expected && texts.is_whole() {
            return Ok(());
        }
        Err(TensorError::Texts { shape: self.shape.clone(), expected, found, bytes: self.data.len() })
    }

    /// The elements of a [`Dtype::Bytes`] tensor; it ends at the first that is torn.
    #[must_use]
    pub fn texts(&self) -> Texts<'_> {
        Texts(&self.data)
    }

    /// A [`Dtype::Bytes`] tensor.
    ///
    /// # Errors
    /// When the texts do not fill the shape exactly, or one of them has 4 GiB.
    pub fn from_texts<T: AsRef<[u8]>>(
        shape: Vec<usize>,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Self, TensorError> {
        let mut data = Vec::new();
        for text in texts {
            push_text(&mut data, text.as_ref()).ok_or_else(|| TensorError::Overflow(shape.clone()))?;
        }
        Self::new(Dtype::Bytes, shape, data)
    }

    /// A binary32 tensor from values.
    ///
    /// # Errors
    /// When the values do not fill the shape exactly.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, TensorError> {
        Self::new(Dtype::Fp32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// The elements as binary64, whatever their type; integers above 2^53 round. BOOL is 0 or 1. Texts are no numbers:
    /// there are none of them.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        let data = &self.data;
        match self.dtype {
            Dtype::Bool => data.iter().map(|b| f64::from(u8::from(*b != 0))).collect(),
            Dtype::Uint8 => data.iter().map(|b| f64::from(*b)).collect(),
            Dtype::Int8 => data.iter().map(|b| f64::from(i8::from_le_bytes([*b]))).collect(),
            Dtype::Int16 => elements(data, |b| f64::from(i16::from_le_bytes(b))),
            Dtype::Int32 => elements(data, |b| f64::from(i32::from_le_bytes(b))),
            #[allow(clippy::cast_precision_loss, reason = "documented: integers above 2^53 round")]
            Dtype::Int64 => elements(data, |b| i64::from_le_bytes(b) as f64),
            Dtype::Fp32 => elements(data, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::Fp64 => elements(data, f64::from_le_bytes),
            Dtype::Uint16 => elements(data, |b| f64::from(u16::from_le_bytes(b))),
            Dtype::Uint32 => elements(data, |b| f64::from(u32::from_le_bytes(b))),
            #[allow(clippy::cast_precision_loss, reason = "documented: integers above 2^53 round")]
            Dtype::Uint64 => elements(data, |b| u64::from_le_bytes(b) as f64),
            Dtype::Fp16 => elements(data, |b| half::f16::from_le_bytes(b).to_f64()),
            Dtype::Bytes => Vec::new(),
        }
    }
}

/// Appends a text behind its length; `None` when it has 4 GiB or more.
pub fn push_text(data: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    data.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
    data.extend_from_slice(text);
    Some(())
}

/// The elements of a [`Dtype::Bytes`] tensor.
#[derive(Debug, Clone)]
pub struct Texts<'a>(&'a [u8]);

impl Texts<'_> {
    /// Whether nothing torn is left.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(text)
    }
}

fn elements<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    data.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok()).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_whose_product_overflows_is_refused() {
        assert_eq!(
            Tensor::new(Dtype::Uint8, vec![usize::MAX, 2], vec![]),
            Err(TensorError::Overflow(vec![usize::MAX, 2]))
        );
        assert!(Tensor::new(Dtype::Fp64, vec![usize::MAX / 4], vec![]).is_err());
    }

    #[test]
    fn texts_must_fill_the_shape_and_the_bytes() {
        let texts = Tensor::from_texts(vec![2], ["ab", ""]).unwrap();
        assert_eq!(texts.data, b"\x02\0\0\0ab\0\0\0\0");
        assert_eq!(texts.texts().collect::<Vec<_>>(), [&b"ab"[..], b""]);
        assert!(Tensor::from_texts(vec![3], ["ab", ""]).is_err());
        for torn in [&b"\x02\0\0\0a"[..], b"\x02\0\0", b"\x01\0\0\0ab", b"\xff\xff\xff\xffab"] {
            assert!(Tensor::new(Dtype::Bytes, vec![1], torn.to_vec()).is_err());
        }
    }

    #[test]
    fn half_precision_and_unsigned_numbers_are_numbers() {
        let f64s = |dtype, data: &[u8], n| Tensor::new(dtype, vec![n], data.to_vec()).unwrap().to_f64();
        assert_eq!(f64s(Dtype::Fp16, &[0x00, 0x3c, 0x00, 0xfc], 2), [1.0, f64::NEG_INFINITY]);
        assert_eq!(f64s(Dtype::Uint16, &[0xff; 2], 1), [65_535.0]);
        assert_eq!(f64s(Dtype::Uint64, &[0xff; 8], 1), [18_446_744_073_709_551_615.0]);
    }

    #[test]
    fn bytes_that_do_not_fill_the_shape_are_refused() {
        assert!(Tensor::new(Dtype::Fp32, vec![2, 2], vec![0; 15]).is_err());
        assert_eq!(Tensor::from_f32(vec![2], &[1.0, -2.5]).unwrap().to_f64(), [1.0, -2.5]);
    }
}
