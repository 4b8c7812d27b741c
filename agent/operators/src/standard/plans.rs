//! `If` in a graph whose sizes are known: both branches are optimised once, where tract makes the taken one anew at each run.

use crate::ml::kernel::{Fact, Kernel, operation_of};
use tract_onnx::prelude::{IntoRunnable as _, TypedRunnableModel};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::logic::IfThenElse;

/// Makes the plans.
pub(crate) fn of_branches(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let Some(op) = node.op_as::<IfThenElse>() else { continue };
        let open = |body: &TypedModel| {
            body.outputs
                .iter()
                .chain(&body.inputs)
                .any(|outlet| body.outlet_fact(*outlet).is_ok_and(|fact| fact.shape.as_concrete().is_none()))
        };
        if open(&op.then_body) || open(&op.else_body) {
            continue;
        }
        let way = |body: &TypedModel, reads: &[usize]| -> TractResult<Way> {
            Ok(Way { plan: crate::optimized(body.clone())?.into_runnable()?, reads: reads.into() })
        };
        let then = way(&op.then_body, &op.then_input_mapping)?;
        let otherwise = way(&op.else_body, &op.else_input_mapping)?;
        let facts = node.outputs.iter().map(|output| &output.fact);
        let facts = facts.map(|fact| Fact::new(fact.datum_type, fact.shape.iter().cloned())).collect();
        let count = node.outputs.len();
        let ours = operation_of("IfByPlans", ByPlans { then, otherwise, facts }, node.inputs.len(), count);
        TypedModelPatch::replace_single_op(model, node, &node.inputs, ours)?.apply(model)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Way {
    plan: Arc<TypedRunnableModel>,
    reads: TVec<usize>,
}

/// `If` whose branches are ready to run.
#[derive(Debug)]
struct ByPlans {
    then: Way,
    otherwise: Way,
    facts: TVec<Fact>,
}

impl Kernel for ByPlans {
    fn outputs(&self, _inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        Ok(self.facts.clone())
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let condition = inputs.first().context("no condition")?.cast_to_scalar::<bool>()?;
        let way = if condition { &self.then } else { &self.otherwise };
        let read = |at: &usize| inputs.get(*at).cloned().context("an input of the branch is not there");
        way.plan.run(way.reads.iter().map(read).collect::<TractResult<_>>()?)
    }
}
