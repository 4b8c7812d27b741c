//! Reading a node's attributes: typed, and refused with a message that says which and why.

use super::scalars::Scalars;
use std::fmt::Display;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::pb_helpers::AttrTVecType;
use tract_onnx::tract_hir::internal::*;

/// A node whose attributes are being read.
pub(crate) struct Attributes<'a> {
    node: &'a NodeProto,
}

impl<'a> Attributes<'a> {
    pub(crate) const fn new(node: &'a NodeProto) -> Self {
        Self { node }
    }

    /// The node and its operator, for messages. A node without a name goes by its first output, as in tract.
    pub(crate) fn title(&self) -> String {
        let first_output = || self.node.output.first().map_or("", String::as_str);
        let name = if self.node.name.is_empty() { first_output() } else { self.node.name.as_str() };
        format!("node \"{name}\" ({})", self.node.op_type)
    }

    pub(super) fn list<T: AttrTVecType<'a>>(&self, name: &str) -> TractResult<Option<Vec<T>>> {
        Ok(self.node.get_attr_opt_vec(name)?.filter(|list: &Vec<T>| !list.is_empty()))
    }

    /// A list that may be left out: empty then.
    pub(crate) fn list_or_empty<T: AttrTVecType<'a>>(&self, name: &str) -> TractResult<Vec<T>> {
        Ok(self.list(name)?.unwrap_or_default())
    }

    /// Numbers that must be there, none of which is NaN.
    pub(super) fn floats(&self, name: &str) -> TractResult<Vec<f32>> {
        let list = self.list::<f32>(name)?.ok_or_else(|| self.missing(name))?;
        self.no_nan(name, list.iter().map(|value| f64::from(*value)))?;
        Ok(list)
    }

    /// As [`Self::floats`], but may be left out.
    pub(super) fn floats_or_empty(&self, name: &str) -> TractResult<Vec<f32>> {
        if self.list::<f32>(name)?.is_none() { Ok(Vec::new()) } else { self.floats(name) }
    }

    pub(crate) fn int(&self, name: &str) -> TractResult<Option<i64>> {
        self.node.get_attr_opt(name)
    }

    pub(crate) fn float(&self, name: &str) -> TractResult<Option<f32>> {
        self.node.get_attr_opt(name)
    }

    pub(crate) fn text(&self, name: &str) -> TractResult<Option<String>> {
        self.node.get_attr_opt(name)
    }

    /// A tensor's values, flat, in row-major order.
    pub(super) fn tensor(&self, name: &str) -> TractResult<Option<Scalars>> {
        let tensor: Option<&TensorProto> = self.node.get_attr_opt(name)?;
        tensor.map(values).transpose().with_context(|| format!("attribute `{name}`"))
    }

    /// Numbers stated as a list of binary32 or, from version 3 of the tree operators on, as a tensor of binary64.
    pub(super) fn reals(&self, name: &str) -> TractResult<Option<Reals>> {
        let long = format!("{name}_as_tensor");
        let tensor = self.tensor(&long)?.filter(|scalars| scalars.len() > 0);
        let list = self.list::<f32>(name)?;
        match (list, tensor) {
            (None, None) => Ok(None),
            (Some(list), None) => Ok(Some(Reals { values: list.into_iter().map(f64::from).collect(), double: false })),
            (None, Some(tensor)) => {
                let double = tensor.dtype() == DatumType::F64;
                Ok(Some(Reals { values: tensor.reals(&long)?, double }))
            }
            (Some(_), Some(_)) => bail!("both `{name}` and `{long}` are given"),
        }
    }

    pub(super) fn missing(&self, name: &str) -> TractError {
        format_err!("attribute `{name}` is missing or empty")
    }

    /// Refuses a list of another length.
    pub(super) fn check_len(&self, name: &str, found: usize, expected: usize) -> TractResult<()> {
        ensure!(found == expected, "attribute `{name}` has {found} values instead of {expected}");
        Ok(())
    }

    /// Refuses NaN: a coefficient that is none would make every answer none.
    pub(super) fn no_nan(&self, name: &str, mut values: impl Iterator<Item = f64>) -> TractResult<()> {
        match values.position(f64::is_nan) {
            Some(at) => bail!("attribute `{name}` is NaN at {at}"),
            None => Ok(()),
        }
    }

    pub(crate) fn unexpected<T>(&self, name: &str, found: impl Display) -> TractResult<T> {
        bail!("attribute `{name}` has the unexpected value {found}")
    }
}

/// Real numbers, and whether they were stated in binary64.
#[derive(Debug, Clone, Default)]
pub(super) struct Reals {
    pub(super) values: Vec<f64>,
    pub(super) double: bool,
}

/// The values of a tensor in an attribute. tract's own reader panics on some malformed ones.
fn values(tensor: &TensorProto) -> TractResult<Scalars> {
    ensure!(
        tensor.data_location != Some(DataLocation::External as i32),
        "a tensor in an attribute must hold its data itself"
    );
    let axes: TractResult<Vec<usize>> = tensor.dims.iter().map(|dim| Ok(usize::try_from(*dim)?)).collect();
    let expected = axes?
        .into_iter()
        .try_fold(1_usize, usize::checked_mul)
        .ok_or_else(|| format_err!("the tensor's shape overflows"))?;
    let dtype = DataType::try_from(tensor.data_type).map_err(|_| format_err!("unknown type {}", tensor.data_type))?;
    let raw = &tensor.raw_data;
    let scalars = match dtype {
        DataType::Float => {
            let list = || tensor.float_data.iter().map(|value| f64::from(*value)).collect();
            Scalars::Reals(
                fixed(raw, |bytes| f64::from(f32::from_le_bytes(bytes)))?.unwrap_or_else(list),
                f32::datum_type(),
            )
        }
        DataType::Double => Scalars::Reals(
            fixed(raw, f64::from_le_bytes)?.unwrap_or_else(|| tensor.double_data.clone()),
            f64::datum_type(),
        ),
        DataType::Float16 => {
            let half = |bits: u16| f64::from(f32::from(f16::from_bits(bits)));
            let list =
                || tensor.int32_data.iter().map(|bits| half(u16::try_from(bits & 0xffff).unwrap_or(0))).collect();
            Scalars::Reals(fixed(raw, |bytes| half(u16::from_le_bytes(bytes)))?.unwrap_or_else(list), f16::datum_type())
        }
        DataType::Int64 => Scalars::Ints(
            fixed(raw, i64::from_le_bytes)?.unwrap_or_else(|| tensor.int64_data.clone()),
            i64::datum_type(),
        ),
        DataType::Int32 => Scalars::Ints(
            fixed(raw, |bytes| i64::from(i32::from_le_bytes(bytes)))?.unwrap_or_else(|| ints(tensor)),
            i32::datum_type(),
        ),
        DataType::Int16 => Scalars::Ints(
            fixed(raw, |bytes| i64::from(i16::from_le_bytes(bytes)))?.unwrap_or_else(|| ints(tensor)),
            i16::datum_type(),
        ),
        DataType::Uint8 => Scalars::Ints(
            fixed(raw, |[byte]: [u8; 1]| i64::from(byte))?.unwrap_or_else(|| ints(tensor)),
            u8::datum_type(),
        ),
        DataType::String => {
            let texts: Result<Vec<String>, _> = tensor.string_data.iter().cloned().map(String::from_utf8).collect();
            Scalars::Strings(texts.context("a string that is not UTF-8")?)
        }
        other => bail!("a tensor of {other:?} is not expected here"),
    };
    ensure!(scalars.len() == expected, "the tensor's shape holds {expected} values, its data {}", scalars.len());
    Ok(scalars)
}

fn ints(tensor: &TensorProto) -> Vec<i64> {
    tensor.int32_data.iter().map(|value| i64::from(*value)).collect()
}

/// Little-endian elements, where there are any bytes.
fn fixed<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> TractResult<Option<Vec<T>>> {
    let (chunks, rest) = raw.as_chunks::<N>();
    ensure!(rest.is_empty(), "the tensor's data breaks off");
    Ok((!chunks.is_empty()).then(|| chunks.iter().map(|bytes| read(*bytes)).collect()))
}
