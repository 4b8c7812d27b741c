//! From an ONNX file to a [`TractEngine`]: its contract, and the first plan.

use super::diagnose::{Fault, blame_panic, guarded};
use super::ends::{self, Output};
use super::graph::{self, NodeName};
use super::hints::blame;
use super::plans::{Base, BySizes, Plan, Plans, bytes};
use super::tract::{Free, TractEngine};
use super::{Ends, convert};
use crate::runtime::error::{LoadError, Side};
use fieldpost_operators::{ml, optimized, standard};
use fieldpost_shared::bundle::TensorSpec;
use std::path::Path;
use tract_onnx::prelude::{InferenceFact, InferenceModel, InferenceModelExt, Symbol, TractError, TypedNode};
use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_hir::infer::Factoid as _;

pub(super) fn open(
    dir: &Path,
    file: &str,
    allowed: Option<&[&str]>,
    wanted: Ends<'_>,
) -> Result<TractEngine, LoadError> {
    let path = dir.join(file);
    let path = path.as_path();
    // The shapes that files state for what is inside and what comes out are often wrong or at odds with a concrete
    // input; tract infers them (of 24 real models, 4 load only so).
    let mut onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    ml::register(&mut onnx.op_register);
    standard::register(&mut onnx.op_register);
    let mut proto = graph::read(path)?;
    ml::maps_as_rows(&mut proto);
    let graph_error = |source: TractError| LoadError::Graph { path: path.to_path_buf(), source: source.into() };
    standard::check_names(&proto).map_err(graph_error)?;
    standard::rewrite(&mut proto);
    let nodes = graph::check_operators(&proto, &onnx)?;
    graph::check_external(&proto, dir, file, allowed)?;
    let fail = |source: TractError| blame(path, &nodes, false, source.into());

    let parsed = onnx.parse(&proto, path.parent().and_then(Path::to_str)).map_err(fail)?;
    if let Some(missing) = parsed.unresolved_inputs.first() {
        return Err(fail(TractError::msg(format!("a node reads `{missing}`, which nothing makes"))));
    }
    let mut model = parsed.model;
    let mut outputs = ends::declared_outputs(&proto);
    // The weights are in `model` now; the decoded file is a second copy of them.
    drop(proto);

    let mut inputs = ends::declared_inputs(&model)?;
    match wanted {
        Ends::Graph(shapes) => ends::fix(&mut inputs, shapes)?,
        Ends::Manifest(order) => {
            ends::reorder(Side::Input, &mut model.inputs, &mut inputs, |input| &input.name, order.inputs)?;
            ends::reorder(Side::Output, &mut model.outputs, &mut outputs, |output| &output.name, order.outputs)?;
            ends::narrow(&mut inputs, order.inputs).map_err(fail)?;
        }
    }
    let (free, derived) = ends::settle(&model, &mut inputs);
    for (at, input) in inputs.iter().enumerate() {
        let fact = InferenceFact::dt_shape(convert::datum_type(input.dtype), input.dims.iter().cloned());
        model.set_input_fact(at, fact).map_err(fail)?;
    }
    let (plans, outputs) = build(model, path, &nodes, &free, &outputs)?;
    Ok(TractEngine { inputs: inputs.into_iter().map(ends::spec).collect(), outputs, free, derived, plans })
}

/// Sizes of axes other than the batch by which a graph is tried that can be read only with sizes: one step of a sequence, what
/// pictures that are halved again and again still have something of.
const TRIED: [usize; 3] = [1, 64, 256];
/// The same for an axis of samples, of which a graph for sound takes no fewer: a second of it. A graph that makes constants
/// of its sizes would make them as large.
const SECOND: usize = 16_384;
/// Weights of graphs that are kept as they were read, too, for sizes by which what was tidied up cannot be optimised: of
/// larger ones a second copy could be what the box has no memory for.
const SPARE_BYTES: usize = 64 << 20;

fn build(
    model: InferenceModel,
    path: &Path,
    nodes: &[NodeName],
    free: &[Free],
    declared: &[Output],
) -> Result<(Plans, Vec<TensorSpec>), LoadError> {
    let is_batch = |free: &Free| free.at.iter().all(|(_, axis)| *axis == 0);
    let batch_alone = free.iter().all(is_batch);
    let refuse = |fault: Fault| match fault {
        Fault::Error(source) => blame(path, nodes, !batch_alone, source.into()),
        Fault::Panic(message) => blame_panic(path, nodes, &model, message),
    };
    let symbols: Vec<Symbol> = free.iter().map(|free| free.symbol.clone()).collect();
    let ones = vec![1; symbols.len()];
    // A batch of one is nearly always asked for: its plan is made now, and shows now whether the graph can be optimised.
    // A picture of 1x1 or a text of one token may be more than a sound graph can take.
    let by_sizes = |plans: BySizes| Plans::BySizes(Box::new(plans));
    let typed = guarded(|| model.clone().into_typed()?.into_decluttered());
    let fault = match typed {
        Ok(typed) => {
            let outputs = ends::output_specs(&typed, declared)?;
            if free.is_empty() {
                let plan = guarded(|| Plan::new(optimized(typed)?)).map_err(refuse)?;
                return Ok((Plans::One(plan), outputs));
            }
            let recurrent = typed.nodes().iter().any(TypedNode::op_is::<Scan>);
            let spare = recurrent
                || (!batch_alone && bytes(model.nodes().iter().filter_map(|node| node.op_as())) <= SPARE_BYTES);
            let base = Base::Typed(typed, spare.then(|| model.clone()));
            if !batch_alone {
                return Ok((by_sizes(BySizes::new(base, symbols)), outputs));
            }
            match guarded(|| base.plan(&symbols, &ones)) {
                Ok(plan) => return Ok((by_sizes(BySizes::new(base, symbols).with(&ones, plan)), outputs)),
                Err(fault) => fault,
            }
        }
        Err(fault) if free.is_empty() => return Err(refuse(fault)),
        Err(fault) => fault,
    };
    // Some graphs can be understood only once every size is known: recurrent ones with an open batch, for example.
    let base = Base::Inference(model.clone());
    let sizes = |other: usize| free.iter().map(move |free| if is_batch(free) { 1 } else { other }).collect::<Vec<_>>();
    let others = free.iter().filter(|free| !is_batch(free)).count();
    let second = (others == 1 && hears(&model)).then_some(SECOND);
    let tried = TRIED.into_iter().chain(second).take(if batch_alone { 1 } else { usize::MAX });
    let mut plans = tried.map(sizes);
    let made = plans.find_map(|sizes| Some((guarded(|| base.plan(&symbols, &sizes)).ok()?, sizes)));
    let Some((plan, sizes)) = made else { return Err(refuse(fault)) };
    let outputs = ends::believe(ends::output_specs(plan.model(), declared)?, declared);
    Ok((by_sizes(BySizes::new(base, symbols).with(&sizes, plan)), outputs))
}

/// Whether a graph may be one for sound: it has a convolution over one axis.
fn hears(model: &InferenceModel) -> bool {
    let convolutions = model.nodes().iter().filter(|node| node.op.name() == "ConvHir");
    let mut kernels = convolutions.filter_map(|node| model.outlet_fact(*node.inputs.get(1)?).ok());
    kernels.any(|kernel| kernel.shape.rank().concretize() == Some(3))
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
