//! The body's bytes as one row of numbers.

use crate::runtime::contract::spec_text;
use crate::runtime::error::{InputError, LoadError};
use fieldpost_shared::bundle::manifest::BytesInput;
use fieldpost_shared::bundle::{Dtype, Tensor, TensorSpec};

/// [`BytesInput`], checked, with its elements made into a table.
#[derive(Debug)]
pub(in crate::runtime) struct BytesToTensor {
    declared: BytesInput,
    dtype: Dtype,
    shape: Vec<usize>,
    head: usize,
    tail: usize,
    /// The element of each byte, and of none; its first `dtype.size_bytes()` bytes count.
    table: Vec<[u8; 8]>,
    pad: [u8; 8],
}

impl BytesToTensor {
    pub(super) fn new(declared: &BytesInput, spec: &TensorSpec) -> Result<Self, LoadError> {
        let refuse =
            |detail: String| LoadError::Declaration { what: "pre-processing", tensor: spec.name.clone(), detail };
        let side = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (head, tail) = (side(declared.head), side(declared.tail));
        let length = side(declared.length());
        let shape = [vec![1, length], vec![length]].into_iter().find(|shape| spec.admits(shape));
        let shape = shape.ok_or_else(|| refuse(format!("{length} bytes do not fill {}", spec_text(spec))))?;
        let holds = |number: i64| {
            element(spec.dtype, number).ok_or_else(|| refuse(format!("{} cannot hold {number}", spec.dtype)))
        };
        let offset = i64::from(declared.offset);
        let table = (0_i64..=255).map(|byte| holds(byte + offset)).collect::<Result<_, _>>()?;
        let pad = holds(i64::from(declared.pad))?;
        Ok(Self { declared: declared.clone(), dtype: spec.dtype, shape, head, tail, table, pad })
    }

    pub(super) fn prepare(&self, body: &[u8]) -> Result<Tensor, InputError> {
        if self.declared.utf8
            && let Err(error) = std::str::from_utf8(body)
        {
            return Err(InputError::Text { at: error.valid_up_to() });
        }
        let body = if self.declared.strip { stripped(body) } else { body };
        let size = self.dtype.size_bytes();
        let mut data = Vec::with_capacity((self.head + self.tail) * size);
        let mut push = |element: &[u8; 8]| data.extend(element.iter().take(size));
        let element = |byte: &u8| self.table.get(usize::from(*byte)).unwrap_or(&self.pad);
        let head = body.get(..self.head.min(body.len())).unwrap_or_default();
        head.iter().for_each(|byte| push(element(byte)));
        (head.len()..self.head).for_each(|_| push(&self.pad));
        let tail = body.get(body.len().saturating_sub(self.tail)..).unwrap_or_default();
        (tail.len()..self.tail).for_each(|_| push(&self.pad));
        tail.iter().for_each(|byte| push(element(byte)));
        Tensor::new(self.dtype, self.shape.clone(), data)
            .map_err(|source| InputError::Damaged { input: self.declared.tensor.clone(), source })
    }
}

/// Without the white space at both ends, as Python's `bytes.strip` sees it: vertical tab too.
fn stripped(body: &[u8]) -> &[u8] {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let start = body.iter().position(|byte| !blank(byte)).unwrap_or(body.len());
    let end = body.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    body.get(start..end).unwrap_or_default()
}

/// A whole number in a type; `None` where it does not fit.
fn element(dtype: Dtype, number: i64) -> Option<[u8; 8]> {
    let mut bytes = [0; 8];
    let mut write = |from: &[u8]| bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    match dtype {
        Dtype::Bool | Dtype::Bytes => return None,
        Dtype::Uint16 => write(&u16::try_from(number).ok()?.to_le_bytes()),
        Dtype::Uint32 => write(&u32::try_from(number).ok()?.to_le_bytes()),
        Dtype::Uint64 => write(&u64::try_from(number).ok()?.to_le_bytes()),
        // Whole numbers beyond 2^11 round, and a pad or offset that large is no id of a byte.
        Dtype::Fp16 if number.abs() <= 2_048 => {
            write(&half::f16::from_f64(i32::try_from(number).ok()?.into()).to_le_bytes());
        }
        Dtype::Fp16 => return None,
        Dtype::Uint8 => write(&[u8::try_from(number).ok()?]),
        Dtype::Int8 => write(&i8::try_from(number).ok()?.to_le_bytes()),
        Dtype::Int16 => write(&i16::try_from(number).ok()?.to_le_bytes()),
        Dtype::Int32 => write(&i32::try_from(number).ok()?.to_le_bytes()),
        Dtype::Int64 => write(&number.to_le_bytes()),
        // Within 2^31 + 255 either way: exact in binary64, and rounded in binary32 only above 2^24.
        #[allow(clippy::cast_precision_loss, reason = "ids of bytes are small")]
        Dtype::Fp32 => write(&(number as f32).to_le_bytes()),
        #[allow(clippy::cast_precision_loss, reason = "exact, as said")]
        Dtype::Fp64 => write(&(number as f64).to_le_bytes()),
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::bundle::Dim;

    fn made(declared: &BytesInput, dtype: Dtype, shape: &[u64]) -> Result<BytesToTensor, LoadError> {
        let shape = shape.iter().copied().map(Dim::Fixed).collect();
        BytesToTensor::new(declared, &TensorSpec { name: "bytes".into(), dtype, shape })
    }

    const fn declared(head: u32, tail: u32) -> BytesInput {
        BytesInput { tensor: String::new(), head, tail, pad: 256, offset: 0, strip: false, utf8: false }
    }

    fn check(declared: &BytesInput, body: &[u8], expected: &[f64]) {
        let length = u64::from(declared.length());
        assert_eq!(made(declared, Dtype::Int32, &[1, length]).unwrap().prepare(body).unwrap().to_f64(), expected);
    }

    #[test]
    fn the_start_is_padded_behind_and_the_end_before() {
        check(&declared(3, 3), b"AB", &[65., 66., 256., 256., 65., 66.]);
        check(&declared(3, 3), b"ABCDE", &[65., 66., 67., 67., 68., 69.]);
        check(&declared(3, 0), b"", &[256.; 3]);
        check(&declared(0, 2), b"ABC", &[66., 67.]);
    }

    #[test]
    fn white_space_and_offset_are_applied_where_they_are_said() {
        check(&BytesInput { strip: true, ..declared(3, 0) }, b" \n\x0bA B\t", &[65., 32., 66.]);
        check(&BytesInput { strip: true, ..declared(1, 1) }, b" \n", &[256., 256.]);
        check(&BytesInput { offset: 3, pad: 0, ..declared(2, 0) }, b"A", &[68., 0.]);
    }

    #[test]
    fn text_must_be_utf_8_where_it_is_said() {
        let text = made(&BytesInput { utf8: true, ..declared(4, 0) }, Dtype::Int64, &[4]).unwrap();
        assert_eq!(text.prepare("é".as_bytes()).unwrap().to_f64(), [195., 169., 256., 256.]);
        assert!(matches!(text.prepare(b"ab\xff"), Err(InputError::Text { at: 2 })));
    }

    #[test]
    fn a_type_that_does_not_hold_the_numbers_is_refused() {
        let refused = |dtype| made(&declared(2, 0), dtype, &[1, 2]).unwrap_err().to_string();
        assert!(refused(Dtype::Uint8).contains("UINT8 cannot hold 256"));
        assert!(refused(Dtype::Int8).contains("INT8 cannot hold 128"));
        assert!(made(&declared(2, 0), Dtype::Fp32, &[1, 3]).unwrap_err().to_string().contains("2 bytes do not fill"));
    }
}
