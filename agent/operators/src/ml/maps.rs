//! Operators on maps: `ZipMap`, `DictVectorizer`, `CastMap`. tract has tensors alone, so a map is a row of its values in
//! the order of its known keys; a batch of maps is a matrix.
//!
//! `ZipMap` then has nothing to do: its output is the tensor of scores, one column per class. The graph's input that
//! `DictVectorizer` or `CastMap` reads, a map in the file, becomes a tensor by [`maps_as_rows`].

use super::attributes::Attributes;
use super::kernel::{Fact, FromNode, Kernel};
use super::linear::args_1_ref;
use super::scalars::{Scalars, is_number, labels, strings};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorShapeProto, TypeProto, type_proto};
use tract_onnx::tract_hir::internal::*;

/// The tensor of scores goes through; the names of the columns are checked against it.
#[derive(Debug)]
pub(super) struct ZipMap {
    classes: Scalars,
}

impl FromNode for ZipMap {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self { classes: labels(attributes.list("classlabels_int64s")?, attributes.list("classlabels_strings")?)? })
    }
}

/// The columns are the known keys.
fn check_columns(fact: &Fact, keys: usize) -> TractResult<()> {
    match fact.shape.last().map(TDim::to_usize) {
        Some(Ok(columns)) => ensure!(columns == keys, "the input has {columns} columns for {keys} keys"),
        Some(Err(_)) => {}
        None => bail!("a row of values is expected, the input is a scalar"),
    }
    Ok(())
}

impl Kernel for ZipMap {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        check_columns(input, self.classes.len())?;
        Ok(tvec![input.clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        Ok(tvec![args_1_ref(inputs)?.clone()])
    }
}

/// Values in the order of the vocabulary go through.
#[derive(Debug)]
pub(super) struct DictVectorizer {
    vocabulary: Scalars,
}

impl FromNode for DictVectorizer {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let vocabulary = labels(attributes.list("int64_vocabulary")?, attributes.list("string_vocabulary")?)?;
        Ok(Self { vocabulary })
    }
}

impl Kernel for DictVectorizer {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        check_columns(input, self.vocabulary.len())?;
        Ok(tvec![input.clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        Ok(tvec![args_1_ref(inputs)?.clone()])
    }
}

/// Values in the order of their keys, in another type. Keys are 0 to `max_map` - 1 under `SPARSE`.
#[derive(Debug)]
pub(super) struct CastMap {
    to: DatumType,
    max_map: Option<usize>,
}

const MAX_MAP: usize = 1 << 20;

impl CastMap {
    fn max_map(attributes: &Attributes<'_>) -> TractResult<Option<usize>> {
        match attributes.text("map_form")?.as_deref() {
            None | Some("DENSE" | "") => return Ok(None),
            Some("SPARSE") => {}
            Some(other) => return attributes.unexpected("map_form", other),
        }
        let stated = attributes.int("max_map")?.unwrap_or(1);
        match usize::try_from(stated) {
            Ok(columns @ 1..=MAX_MAP) => Ok(Some(columns)),
            _ => attributes.unexpected("max_map", stated),
        }
    }
}

impl FromNode for CastMap {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let to = match attributes.text("cast_to")?.as_deref() {
            None | Some("TO_FLOAT" | "") => f32::datum_type(),
            Some("TO_INT64") => i64::datum_type(),
            Some("TO_STRING") => String::datum_type(),
            Some(other) => return attributes.unexpected("cast_to", other),
        };
        Ok(Self { to, max_map: Self::max_map(attributes)? })
    }
}

impl Kernel for CastMap {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [input] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        ensure!(
            is_number(input.dtype) || input.dtype == String::datum_type(),
            "numbers or strings are expected, the input is {:?}",
            input.dtype
        );
        if let Some(columns) = self.max_map {
            check_columns(input, columns)?;
        }
        Ok(tvec![Fact::new(self.to, input.shape.iter().cloned())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        if input.datum_type() == self.to {
            return Ok(tvec![input.clone()]);
        }
        let tensor = if input.datum_type() == String::datum_type() {
            let texts = input.try_as_plain_ram()?.as_slice::<String>()?;
            let parsed: Result<Vec<f64>, _> = texts.iter().map(|text| text.trim().parse::<f64>()).collect();
            let parsed = parsed.context("a value is not a number")?;
            Tensor::from_shape(input.shape(), &parsed)?.cast_to_dt(self.to)?.into_owned()
        } else if self.to == String::datum_type() {
            let wide = input.cast_to::<f64>()?;
            let texts = wide.try_as_plain_ram()?.as_slice::<f64>()?.iter().map(ToString::to_string);
            strings(input.shape(), texts.collect())?
        } else {
            input.cast_to_dt(self.to)?.into_owned()
        };
        Ok(tvec![tensor.into_tvalue()])
    }
}

/// Declares inputs of the graph that are maps in the file as tensors `[N, keys]` of binary32: the order of columns is
/// that of the vocabulary of the `DictVectorizer` that reads them, or of the keys of a `CastMap`. An absent key is 0.
/// Other inputs stay as they are.
pub fn maps_as_rows(model: &mut ModelProto) {
    let Some(graph) = &mut model.graph else { return };
    let GraphProto { input, node, .. } = graph;
    for declared in input.iter_mut() {
        let is_map = declared.r#type.as_ref().is_some_and(|declared| declared.value.is_none());
        let reader = node.iter().find(|node| node.input.contains(&declared.name));
        let Some(columns) = reader.filter(|_| is_map).and_then(map_columns) else { continue };
        let dim = |value| Dimension { value: Some(value), ..Dimension::default() };
        let rows = dim(dimension::Value::DimParam("N".to_owned()));
        let columns = match columns {
            Some(columns) => dim(dimension::Value::DimValue(columns)),
            None => dim(dimension::Value::DimParam(format!("{}_keys", declared.name))),
        };
        let shape = Some(TensorShapeProto { dim: vec![rows, columns] });
        let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
        let value = Some(type_proto::Value::TensorType(tensor));
        declared.r#type = Some(TypeProto { value, ..TypeProto::default() });
    }
}

/// Whether the node reads maps, and how many keys it knows where it says.
fn map_columns(node: &NodeProto) -> Option<Option<i64>> {
    let attributes = Attributes::new(node);
    match node.op_type.as_str() {
        "DictVectorizer" => {
            let known = DictVectorizer::from_node(&attributes).ok()?.vocabulary.len();
            Some(i64::try_from(known).ok())
        }
        "CastMap" => Some(CastMap::max_map(&attributes).ok()?.and_then(|columns| i64::try_from(columns).ok())),
        _ => None,
    }
}
