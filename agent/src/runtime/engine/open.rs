//! From an ONNX file to a [`TractEngine`]: its contract, and the first plan.

use super::graph::{self, NodeName};
use super::hints::blame;
use super::plans::{Base, BySizes, Plan, Plans};
use super::tract::{Derived, Free, TractEngine};
use super::{Order, convert};
use crate::runtime::error::{LoadError, Side};
use fieldpost_shared::bundle::{Dim, Dtype, TensorSpec};
use std::collections::HashMap;
use std::path::Path;
use tract_onnx::pb::{ModelProto, tensor_shape_proto::dimension, type_proto};
use tract_onnx::prelude::{
    DatumType, InferenceFact, InferenceModel, InferenceModelExt, Symbol, TDim, TractError, TractResult, TypedModel,
};
use tract_onnx::tract_hir::infer::Factoid;

/// One input as the graph declares it; open axes have got a symbol of their own.
struct Input {
    name: String,
    dtype: Dtype,
    dims: Vec<TDim>,
}

/// One output as the graph declares it: a name and, where stated, a shape.
struct Output {
    name: String,
    shape: Option<Vec<Dim>>,
}

pub(super) fn open(
    dir: &Path,
    file: &str,
    allowed: Option<&[&str]>,
    order: Option<Order<'_>>,
) -> Result<TractEngine, LoadError> {
    let path = dir.join(file);
    let path = path.as_path();
    // The shapes that files state for what is inside and what comes out are often wrong or at odds with a concrete
    // input; tract infers them (`dependencies` tried both on 24 real models).
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let proto = graph::read(path)?;
    let nodes = graph::check_operators(&proto, &onnx)?;
    graph::check_external(&proto, dir, file, allowed)?;
    let fail = |source: TractError| blame(path, &nodes, source.into());

    let parsed = onnx.parse(&proto, path.parent().and_then(Path::to_str)).map_err(fail)?;
    if let Some(missing) = parsed.unresolved_inputs.first() {
        return Err(fail(TractError::msg(format!("a node reads `{missing}`, which nothing makes"))));
    }
    let mut model = parsed.model;
    let mut outputs = declared_outputs(&proto);
    // The weights are in `model` now; the decoded file is a second copy of them.
    drop(proto);

    let mut inputs = declared_inputs(&model)?;
    if let Some(order) = order {
        reorder(Side::Input, &mut model.inputs, &mut inputs, |input| &input.name, order.inputs)?;
        reorder(Side::Output, &mut model.outputs, &mut outputs, |output| &output.name, order.outputs)?;
        narrow(&mut inputs, order.inputs).map_err(fail)?;
    }
    let (free, derived) = settle(&model, &mut inputs);
    for (at, input) in inputs.iter().enumerate() {
        let fact = InferenceFact::dt_shape(convert::datum_type(input.dtype), input.dims.iter().cloned());
        model.set_input_fact(at, fact).map_err(fail)?;
    }
    let (plans, outputs) = build(model, path, &nodes, &free, &outputs)?;
    Ok(TractEngine { inputs: inputs.into_iter().map(spec).collect(), outputs, free, derived, plans })
}

fn declared_outputs(proto: &ModelProto) -> Vec<Output> {
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

fn declared_inputs(model: &InferenceModel) -> Result<Vec<Input>, LoadError> {
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

const SERVED: &str = "one of BOOL UINT8 INT8 INT16 INT32 INT64 FP32 FP64 (a Cast in the graph can make it so)";

fn type_text(datum_type: Option<DatumType>) -> String {
    datum_type.map_or_else(|| "no element type".to_owned(), |datum_type| format!("{datum_type:?}"))
}

/// Brings the graph's ends into the order of the manifest, so that no call has to.
fn reorder<O: Copy, T>(
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
fn narrow(inputs: &mut [Input], wanted: &[TensorSpec]) -> TractResult<()> {
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

/// Finds the axes that the caller chooses. An expression of symbols that no axis states alone becomes a symbol itself.
fn settle(model: &InferenceModel, inputs: &mut [Input]) -> (Vec<Free>, Vec<Derived>) {
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

fn build(
    model: InferenceModel,
    path: &Path,
    nodes: &[NodeName],
    free: &[Free],
    declared: &[Output],
) -> Result<(Plans, Vec<TensorSpec>), LoadError> {
    let fail = |source: TractError| blame(path, nodes, source.into());
    if free.is_empty() {
        let typed = model.into_typed().map_err(fail)?;
        let outputs = output_specs(&typed, declared)?;
        let plan = typed.into_optimized().and_then(Plan::new).map_err(fail)?;
        return Ok((Plans::One(plan), outputs));
    }
    let symbols: Vec<Symbol> = free.iter().map(|free| free.symbol.clone()).collect();
    let ones = vec![1; symbols.len()];
    let by_sizes = |plans: BySizes| Plans::BySizes(Box::new(plans));
    // A batch of one is nearly always asked for: its plan is made now, and shows now whether the graph can be optimised.
    // A picture of 1x1 or a text of one token may be more than a sound graph can take.
    let batch_alone = free.iter().all(|free| free.at.iter().all(|(_, axis)| *axis == 0));
    let symbolic = match model.clone().into_typed().and_then(TypedModel::into_decluttered) {
        Ok(typed) => {
            let outputs = output_specs(&typed, declared)?;
            let base = Base::Typed(typed);
            if !batch_alone {
                return Ok((by_sizes(BySizes::new(base, symbols)), outputs));
            }
            base.plan(&symbols, &ones).map(|plan| (base, plan, outputs))
        }
        Err(error) => Err(error),
    };
    match symbolic {
        Ok((base, plan, outputs)) => Ok((by_sizes(BySizes::new(base, symbols).with(&ones, plan)), outputs)),
        // Some graphs can be understood only once every size is known.
        Err(error) => {
            let base = Base::Inference(model);
            let Ok(plan) = base.plan(&symbols, &ones) else { return Err(fail(error)) };
            let outputs = believe(output_specs(plan.model(), declared)?, declared);
            Ok((by_sizes(BySizes::new(base, symbols).with(&ones, plan)), outputs))
        }
    }
}

/// Types and shapes as tract infers them.
fn output_specs(model: &TypedModel, declared: &[Output]) -> Result<Vec<TensorSpec>, LoadError> {
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
fn believe(mut specs: Vec<TensorSpec>, declared: &[Output]) -> Vec<TensorSpec> {
    for (spec, output) in specs.iter_mut().zip(declared) {
        let unknown = || (0..spec.shape.len()).map(|axis| Dim::Symbol(format!("{}.{axis}", spec.name))).collect();
        spec.shape = output.shape.clone().filter(|shape| shape.len() == spec.shape.len()).unwrap_or_else(unknown);
    }
    specs
}

fn dim(size: &TDim) -> Dim {
    size.as_i64().and_then(|size| u64::try_from(size).ok()).map_or_else(|| Dim::Symbol(size.to_string()), Dim::Fixed)
}

fn spec(input: Input) -> TensorSpec {
    TensorSpec { name: input.name, dtype: input.dtype, shape: input.dims.iter().map(dim).collect() }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
