//! The two ends of a graph: what it declares, brought into the order of the manifest.

use super::convert;
use super::tract::{Derived, Free};
use crate::runtime::error::{LoadError, Side};
use fieldpost_shared::bundle::{Dim, Dtype, TensorSpec};
use std::collections::{BTreeMap, HashMap};
use tract_onnx::pb::{ModelProto, tensor_shape_proto::dimension, type_proto};
use tract_onnx::prelude::{DatumType, InferenceModel, Symbol, TDim, TractResult, TypedModel};
use tract_onnx::tract_hir::infer::Factoid;

/// One input as the graph declares it; open axes have got a symbol of their own.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) dims: Vec<TDim>,
}

/// One output as the graph declares it: a name and, where stated, a shape.
pub(super) struct Output {
    pub(super) name: String,
    pub(super) shape: Option<Vec<Dim>>,
}

pub(super) fn declared_outputs(proto: &ModelProto) -> Vec<Output> {
    let dim = |dim: &tract_onnx::pb::tensor_shape_proto::Dimension| match &dim.value {
        Some(dimension::Value::DimValue(size)) => u64::try_from(*size).map_or(Dim::Symbol("?".to_owned()), Dim::Fixed),
        Some(dimension::Value::DimParam(name)) => Dim::Symbol(name.clone()),
        None => Dim::Symbol("?".to_owned()),
    };
    let declared = |info: &tract_onnx::pb::ValueInfoProto| {
        let type_proto::Value::TensorType(tensor) = info.r#type.as_ref()?.value.as_ref()?;
        Some(tensor.shape.as_ref()?.dim.iter().map(dim).collect())
    };
    let outputs = proto.graph.iter().flat_map(|graph| &graph.output);
    outputs.map(|info| Output { name: info.name.clone(), shape: declared(info) }).collect()
}

pub(super) fn declared_inputs(model: &InferenceModel) -> Result<Vec<Input>, LoadError> {
    let contract = |tensor: &str, expected: &str, found: String| LoadError::Contract {
        side: Side::Input,
        tensor: tensor.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let mut inputs = Vec::with_capacity(model.inputs.len());
    for outlet in &model.inputs {
        let node = model.node(outlet.node);
        let name = node.name.clone();
        let fact =
            model.outlet_fact(*outlet).map_err(|error| contract(&name, "a declared tensor", error.to_string()))?;
        let declared = fact.datum_type.concretize();
        let dtype = declared.and_then(convert::dtype).ok_or_else(|| contract(&name, SERVED, type_text(declared)))?;
        if fact.shape.is_open() {
            return Err(contract(&name, "a declared rank", "none; export it with its shape".to_owned()));
        }
        let dims = fact.shape.dims().enumerate().map(|(axis, dim)| {
            dim.concretize().unwrap_or_else(|| TDim::Sym(model.symbols.sym(&format!("{name}.{axis}"))))
        });
        inputs.push(Input { dims: dims.collect(), dtype, name });
    }
    Ok(inputs)
}

const SERVED: &str = "one of BOOL UINT8-64 INT8-64 FP16 FP32 FP64 BYTES (a Cast in the graph can make it so)";

fn type_text(datum_type: Option<DatumType>) -> String {
    datum_type.map_or_else(|| "no element type".to_owned(), |datum_type| format!("{datum_type:?}"))
}

/// Brings the graph's ends into the order of the manifest, so that no call has to.
pub(super) fn reorder<O: Copy, T>(
    side: Side,
    outlets: &mut Vec<O>,
    items: &mut Vec<T>,
    name: impl Fn(&T) -> &String,
    wanted: &[TensorSpec],
) -> Result<(), LoadError> {
    let contract = |tensor: &str, expected: &str, found: String| LoadError::Contract {
        side,
        tensor: tensor.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let mut pairs: Vec<Option<(O, T)>> = outlets.drain(..).zip(items.drain(..)).map(Some).collect();
    for spec in wanted {
        let found = pairs.iter_mut().find(|pair| pair.as_ref().is_some_and(|(_, item)| *name(item) == spec.name));
        let Some((outlet, item)) = found.and_then(Option::take) else {
            let left: Vec<&str> = pairs.iter().flatten().map(|(_, item)| name(item).as_str()).collect();
            return Err(contract(&spec.name, "it in the graph", format!("[{}] left", left.join(", "))));
        };
        outlets.push(outlet);
        items.push(item);
    }
    match pairs.iter().flatten().next() {
        Some((_, unnamed)) => Err(contract(name(unnamed), "it in the manifest", "it in the graph alone".to_owned())),
        None => Ok(()),
    }
}

/// Fixes the symbols for which the manifest states a size.
pub(super) fn narrow(inputs: &mut [Input], wanted: &[TensorSpec]) -> TractResult<()> {
    let mut fixed: HashMap<Symbol, TDim> = HashMap::new();
    for (input, spec) in inputs.iter().zip(wanted) {
        for (dim, wanted) in input.dims.iter().zip(&spec.shape) {
            if let (TDim::Sym(symbol), Dim::Fixed(size)) = (dim, wanted) {
                fixed.insert(symbol.clone(), TDim::Val(i64::try_from(*size)?));
            }
        }
    }
    for dim in inputs.iter_mut().flat_map(|input| &mut input.dims) {
        *dim = dim.substitute_all(&fixed)?;
    }
    Ok(())
}

/// Fixes the sizes that the bundle's author states for open axes; a symbol is the same size wherever it stands.
pub(super) fn fix(inputs: &mut [Input], stated: &BTreeMap<String, Vec<u64>>) -> Result<(), LoadError> {
    let refuse = |tensor: &str, expected: String, found: String| LoadError::Contract {
        side: Side::Input,
        tensor: tensor.to_owned(),
        expected,
        found,
    };
    for (name, sizes) in stated {
        let names = || inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
        let Some(input) = inputs.iter().find(|input| input.name == *name) else {
            return Err(refuse(name, format!("one of [{}] in [shapes]", names()), "no such input".to_owned()));
        };
        if input.dims.len() != sizes.len() || sizes.contains(&0) {
            let expected = format!("{} sizes of at least 1 in [shapes]", input.dims.len());
            return Err(refuse(name, expected, format!("{sizes:?}")));
        }
        let mut known: HashMap<Symbol, TDim> = HashMap::new();
        for (dim, size) in input.dims.iter().zip(sizes) {
            if let (TDim::Sym(symbol), Ok(size)) = (dim, i64::try_from(*size)) {
                known.insert(symbol.clone(), TDim::Val(size));
            }
        }
        for dim in inputs.iter_mut().flat_map(|input| &mut input.dims) {
            *dim = dim.substitute_all(&known).map_err(|error| refuse(name, "sizes".to_owned(), error.to_string()))?;
        }
    }
    for input in inputs.iter() {
        let Some(sizes) = stated.get(&input.name) else { continue };
        let agree = input.dims.iter().zip(sizes).all(|(dim, size)| dim.to_i64().ok() == i64::try_from(*size).ok());
        if !agree {
            let dims: Vec<String> = input.dims.iter().map(ToString::to_string).collect();
            let expected = format!("sizes in [shapes] that fit [{}] of the graph", dims.join(","));
            return Err(refuse(&input.name, expected, format!("{sizes:?}")));
        }
    }
    Ok(())
}

/// Finds the axes that the caller chooses. An expression of symbols that no axis states alone becomes a symbol itself.
pub(super) fn settle(model: &InferenceModel, inputs: &mut [Input]) -> (Vec<Free>, Vec<Derived>) {
    let mut free: Vec<Free> = Vec::new();
    let mut state = |symbol: Symbol, at: (usize, usize)| match free.iter_mut().find(|free| free.symbol == symbol) {
        Some(known) => known.at.push(at),
        None => free.push(Free { name: symbol.to_string(), symbol, at: vec![at] }),
    };
    for (at, input) in inputs.iter().enumerate() {
        for (axis, dim) in input.dims.iter().enumerate() {
            if let TDim::Sym(symbol) = dim {
                state(symbol.clone(), (at, axis));
            }
        }
    }
    let mut derived = Vec::new();
    for (at, input) in inputs.iter_mut().enumerate() {
        for (axis, dim) in input.dims.iter_mut().enumerate() {
            if matches!(dim, TDim::Sym(_) | TDim::Val(_)) {
                continue;
            }
            if dim.symbols().iter().all(|symbol| free.iter().any(|free| free.symbol == *symbol)) {
                derived.push(Derived { input: at, axis, size: dim.clone() });
            } else {
                let symbol = model.symbols.sym(&format!("{}.{axis}", input.name));
                *dim = TDim::Sym(symbol.clone());
                free.push(Free { name: symbol.to_string(), symbol, at: vec![(at, axis)] });
            }
        }
    }
    (free, derived)
}

/// Types and shapes as tract infers them.
pub(super) fn output_specs(model: &TypedModel, declared: &[Output]) -> Result<Vec<TensorSpec>, LoadError> {
    let specs = declared.iter().enumerate().map(|(at, output)| {
        let fact = model.output_fact(at).ok();
        let datum_type = fact.map(|fact| fact.datum_type);
        let dtype = datum_type.and_then(convert::dtype).ok_or_else(|| LoadError::Contract {
            side: Side::Output,
            tensor: output.name.clone(),
            expected: SERVED.to_owned(),
            found: type_text(datum_type),
        })?;
        let inferred: Vec<Dim> = fact.iter().flat_map(|fact| fact.shape.iter()).map(dim).collect();
        Ok(TensorSpec { name: output.name.clone(), dtype, shape: inferred })
    });
    specs.collect()
}

/// Where sizes had to be made up to infer anything, shapes are as the file states them, or unknown but for their rank.
pub(super) fn believe(mut specs: Vec<TensorSpec>, declared: &[Output]) -> Vec<TensorSpec> {
    for (spec, output) in specs.iter_mut().zip(declared) {
        let unknown = || (0..spec.shape.len()).map(|axis| Dim::Symbol(format!("{}.{axis}", spec.name))).collect();
        spec.shape = output.shape.clone().filter(|shape| shape.len() == spec.shape.len()).unwrap_or_else(unknown);
    }
    specs
}

fn dim(size: &TDim) -> Dim {
    size.as_i64().and_then(|size| u64::try_from(size).ok()).map_or_else(|| Dim::Symbol(size.to_string()), Dim::Fixed)
}

pub(super) fn spec(input: Input) -> TensorSpec {
    TensorSpec { name: input.name, dtype: input.dtype, shape: input.dims.iter().map(dim).collect() }
}
