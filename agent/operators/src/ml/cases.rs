//! The cases of `tests/models`: models with inputs, and the outputs that ONNX Runtime, or the `onnx` package's own tests,
//! have for them.

use super::{maps_as_rows, register};
use base64::Engine as _;
use serde_json::Value;
use std::path::Path;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid as _;
use tract_onnx::tract_hir::internal::{f16, tract_ndarray};

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: Vec<u8>,
    pub(super) inputs: Vec<Tensor>,
    outputs: Vec<(String, Tensor)>,
    abs: f64,
    rel: f64,
}

fn texts(tensor: &Tensor) -> Vec<String> {
    tensor.try_as_plain_ram().unwrap().as_slice::<String>().unwrap().to_vec()
}

/// All cases of a group, `folder/file`.
pub(crate) fn read(group: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/models/{group}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    let cases: Vec<Case> = text.lines().map(|line| case(&serde_json::from_str(line).unwrap())).collect();
    assert!(!cases.is_empty());
    cases
}

fn case(json: &Value) -> Case {
    let named = |one: &Value| (one["name"].as_str().unwrap().to_owned(), tensor(one));
    let list = |name: &str| json[name].as_array().unwrap().iter().map(named).collect::<Vec<_>>();
    Case {
        name: json["name"].as_str().unwrap().to_owned(),
        model: base64::engine::general_purpose::STANDARD.decode(json["model"].as_str().unwrap()).unwrap(),
        inputs: list("inputs").into_iter().map(|(_, tensor)| tensor).collect(),
        outputs: list("outputs"),
        abs: json["tolerance"]["abs"].as_f64().unwrap(),
        rel: json["tolerance"]["rel"].as_f64().unwrap(),
    }
}

fn number(json: &Value) -> f64 {
    json.as_f64().or_else(|| json.as_bool().map(f64::from)).unwrap_or_else(|| json.as_str().unwrap().parse().unwrap())
}

fn tensor(json: &Value) -> Tensor {
    let array = |name: &str| json[name].as_array().unwrap();
    let shape: Vec<usize> =
        array("shape").iter().map(|size| usize::try_from(size.as_u64().unwrap()).unwrap()).collect();
    let floats = || Tensor::from_shape(&shape, &array("data").iter().map(number).collect::<Vec<f64>>()).unwrap();
    let ints = || array("data").iter().map(|value| value.as_i64().unwrap()).collect::<Vec<i64>>();
    let cast = |tensor: Tensor, to| tensor.cast_to_dt(to).unwrap().into_owned();
    match json["type"].as_str().unwrap() {
        "float32" => cast(floats(), f32::datum_type()),
        "float64" => floats(),
        "bool" => cast(floats(), bool::datum_type()),
        "float16" => cast(floats(), f16::datum_type()),
        "uint8" => cast(Tensor::from_shape(&shape, &ints()).unwrap(), u8::datum_type()),
        "int8" => cast(Tensor::from_shape(&shape, &ints()).unwrap(), i8::datum_type()),
        "int64" => Tensor::from_shape(&shape, &ints()).unwrap(),
        "int32" => cast(Tensor::from_shape(&shape, &ints()).unwrap(), i32::datum_type()),
        "int16" => cast(Tensor::from_shape(&shape, &ints()).unwrap(), i16::datum_type()),
        "string" => {
            let texts = array("data").iter().map(|value| value.as_str().unwrap().to_owned()).collect();
            tract_ndarray::ArrayD::<String>::from_shape_vec(shape, texts).unwrap().into()
        }
        other => panic!("{other}"),
    }
}

/// Opens with the operators of this room alone replaced; shapes are inferred with the symbols of the file.
pub(super) fn open(model: &[u8]) -> TractResult<TypedModel> {
    open_proto(onnx().proto_model_for_read(&mut &*model)?)
}

/// As [`open`].
pub(super) fn open_proto(mut proto: ModelProto) -> TractResult<TypedModel> {
    let mut onnx = onnx();
    register(&mut onnx.op_register);
    maps_as_rows(&mut proto);
    typed(onnx, &proto)
}

/// Reads a graph with the operators that are registered.
pub(crate) fn typed(onnx: tract_onnx::Onnx, proto: &ModelProto) -> TractResult<TypedModel> {
    let onnx = onnx.with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut model = onnx.parse(proto, None)?.model;
    for at in 0..model.inputs.len() {
        // An axis without a name is as open as one with; the first is the batch.
        let fact = model.input_fact(at)?.clone();
        let named = |axis: usize| match axis {
            0 => TDim::Sym(model.symbols.sym("N")),
            _ => TDim::Sym(model.symbols.sym(&format!("axis_{at}_{axis}"))),
        };
        let dims = fact.shape.dims().enumerate().map(|(axis, dim)| dim.concretize().unwrap_or_else(|| named(axis)));
        let dims: TVec<TDim> = dims.collect();
        let dtype = fact.datum_type.concretize().unwrap();
        model.set_input_fact(at, InferenceFact::dt_shape(dtype, dims))?;
    }
    model.into_typed()?.into_decluttered()
}

/// What of the outputs of this model is not as expected.
pub(crate) fn differences(case: &Case, model: TypedModel) -> TractResult<Vec<String>> {
    let model = model.into_runnable()?;
    let outputs = model.run(case.inputs.iter().map(|input| input.clone().into_tvalue()).collect())?;
    assert_eq!(outputs.len(), case.outputs.len(), "{}", case.name);
    let mut found = Vec::new();
    for ((name, expected), output) in case.outputs.iter().zip(outputs) {
        if let Some(difference) = difference(&output, expected, case) {
            found.push(format!("{}: `{name}`: {difference}", case.name));
        }
    }
    Ok(found)
}

fn difference(found: &Tensor, expected: &Tensor, case: &Case) -> Option<String> {
    // Sizes and places are tract's own type until somebody casts them.
    let dtype = if found.datum_type() == DatumType::TDim { i64::datum_type() } else { found.datum_type() };
    if dtype != expected.datum_type() || found.shape() != expected.shape() {
        return Some(format!("{found:?} instead of {expected:?}"));
    }
    if found.datum_type() == String::datum_type() {
        return (texts(found) != texts(expected))
            .then(|| format!("{:?} instead of {:?}", texts(found), texts(expected)));
    }
    let numbers = |tensor: &Tensor| {
        let wide = tensor.cast_to::<f64>().unwrap();
        wide.try_as_plain_ram().unwrap().as_slice::<f64>().unwrap().to_vec()
    };
    let near = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= case.abs + case.rel * b.abs();
    let (found, expected) = (numbers(found), numbers(expected));
    let at = found.iter().zip(&expected).position(|(a, b)| !near(*a, *b))?;
    Some(format!("{} instead of {} at {at} of {}", found[at], expected[at], found.len()))
}
