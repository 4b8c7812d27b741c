//! `If`. Exporters write it where a shape decides ("squeeze when the axis is 1"): the condition is known once sizes are,
//! and the other branch is often impossible then. So a known condition makes the node its branch; the other one is not
//! looked at. With a condition that stays unknown both must agree in type and shape. One that makes no sense with the sizes of
//! a request is an error of the request that asks for it: a detector of speech has one for each rate of samples, and a
//! piece of sound has the length of one of them.

use super::Built;
use crate::ml::kernel::{Fact, Kernel, operation};
use tract_onnx::model::{ParseResult, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::logic::IfThenElse;

/// The node, and the names of what its branches read from outside.
pub(super) fn build(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let branch = |name: &str| context.parse_graph(node.get_attr(name)?);
    let ParseResult { model: then, unresolved_inputs: then_reads, .. } = branch("then_branch")?;
    let ParseResult { model: otherwise, unresolved_inputs: otherwise_reads, .. } = branch("else_branch")?;
    ensure!(
        then.outputs.len() == otherwise.outputs.len(),
        "its branches have {} and {} outputs",
        then.outputs.len(),
        otherwise.outputs.len()
    );
    let mut reads: Vec<String> = then_reads.iter().chain(&otherwise_reads).cloned().collect();
    reads.sort();
    reads.dedup();
    // The condition is input 0.
    let places = |names: &[String]| -> TractResult<Vec<usize>> {
        let place = |name: &String| reads.binary_search(name).map(|at| at + 1);
        names.iter().map(|name| place(name).map_err(|_| format_err!("`{name}` is read by no branch"))).collect()
    };
    let then = Branch { reads: places(&then_reads)?, model: then };
    let otherwise = Branch { reads: places(&otherwise_reads)?, model: otherwise };
    Ok((Box::new(If { then, otherwise }), reads))
}

#[derive(Debug, Clone)]
struct Branch {
    model: InferenceModel,
    /// By input of the model, the node's input.
    reads: Vec<usize>,
}

#[derive(Debug, Clone)]
struct If {
    then: Branch,
    otherwise: Branch,
}

impl PartialEq for If {
    fn eq(&self, _other: &Self) -> bool {
        false
    }
}

impl Eq for If {}

impl Branch {
    /// Brings what is known outside in, and what follows from it out. Returns whether anything was learnt.
    fn learn(&mut self, inputs: &mut [InferenceFact], outputs: &mut [InferenceFact]) -> TractResult<bool> {
        let mut changed = false;
        for (inner, outer) in self.reads.iter().enumerate() {
            let outer = inputs.get_mut(*outer).context("an input of the branch is not there")?;
            changed |= self.model.input_fact_mut(inner)?.unify_with_mut(outer)?;
        }
        changed |= self.model.analyse(false)?;
        for (at, output) in outputs.iter_mut().enumerate() {
            changed |= self.model.output_fact_mut(at)?.unify_with_mut(output)?;
        }
        Ok(changed)
    }

    fn typed(&self) -> TractResult<TypedModel> {
        self.model.clone().into_typed()
    }

    /// Puts the branch into the graph around it.
    fn inline(
        &self,
        prefix: &str,
        body: &TypedModel,
        target: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut mapping: HashMap<OutletId, OutletId> = HashMap::default();
        for (inner, outer) in body.input_outlets()?.iter().zip(&self.reads) {
            mapping.insert(*inner, *inputs.get(*outer).context("an input of the branch is not there")?);
        }
        let find = |mapping: &HashMap<OutletId, OutletId>, outlet: &OutletId| {
            mapping.get(outlet).copied().context("a node of the branch was not translated")
        };
        for id in body.eval_order()? {
            let node = body.node(id);
            if TypedModel::is_source(&node.op) {
                continue;
            }
            let inputs = node.inputs.iter().map(|input| find(&mapping, input)).collect::<TractResult<TVec<_>>>()?;
            let taken = target.nodes().iter().any(|other| other.name == node.name);
            let name = if taken { format!("{prefix}.{}", node.name) } else { node.name.clone() };
            let outputs = target.wire_node(name, node.op.clone(), &inputs)?;
            mapping.extend(outputs.into_iter().enumerate().map(|(at, outlet)| (OutletId::new(id, at), outlet)));
        }
        body.outputs.iter().map(|output| find(&mapping, output)).collect()
    }
}

/// The second input, when the first is `taken`.
#[derive(Debug)]
struct Only {
    taken: bool,
}

impl Kernel for Only {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [_, value] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        Ok(tvec![value.clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [condition, value] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        let asked = condition.cast_to_scalar::<bool>()?;
        ensure!(asked == self.taken, "the branch for \"{asked}\" makes no sense with these sizes");
        Ok(tvec![value.clone()])
    }
}

fn known(condition: &InferenceFact) -> TractResult<Option<bool>> {
    condition.value.concretize().map(|value| value.cast_to_scalar::<bool>()).transpose()
}

impl Op for If {
    fn name(&self) -> StaticName {
        "If".into()
    }

    not_a_typed_op!();
}

impl EvalOp for If {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let condition = inputs.first().context("no condition")?.cast_to_scalar::<bool>()?;
        let branch = if condition { &self.then } else { &self.otherwise };
        let read = |at: &usize| inputs.get(*at).cloned().context("an input of the branch is not there");
        branch.model.clone().into_runnable()?.run(branch.reads.iter().map(read).collect::<TractResult<_>>()?)
    }
}

impl InferenceOp for If {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let mut inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        let mut outputs: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
        let condition = inputs.first_mut().context("no condition")?;
        condition.datum_type.unify_with(&bool::datum_type().into())?;
        match known(condition)? {
            Some(true) => while self.then.learn(&mut inputs, &mut outputs)? {},
            Some(false) => while self.otherwise.learn(&mut inputs, &mut outputs)? {},
            None => {
                // Values differ between the branches; types and shapes must not.
                let mut other = outputs.clone();
                let both = |from: &[InferenceFact], to: &mut [InferenceFact]| -> TractResult<bool> {
                    let mut changed = false;
                    for (from, to) in from.iter().zip(to) {
                        changed |= to.shape.unify_with(&from.shape)?;
                        changed |= to.datum_type.unify_with(&from.datum_type)?;
                    }
                    Ok(changed)
                };
                loop {
                    // A branch that makes no sense may be the one that is not taken: the condition is often learnt later.
                    let mut changed = self.then.learn(&mut inputs, &mut outputs).unwrap_or(false);
                    changed |= both(&outputs, &mut other)?;
                    changed |= self.otherwise.learn(&mut inputs, &mut other).unwrap_or(false);
                    changed |= both(&other, &mut outputs)?;
                    if !changed {
                        break;
                    }
                }
                for output in &mut outputs {
                    output.value = GenericFactoid::Any;
                }
            }
        }
        Ok((inputs, outputs, observed.into_iter().cloned().collect()))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.then.model.outputs.len())
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let condition = node.inputs.first().context("no condition")?;
        // tract puts the branch in the node's place when it tidies up; the other one is then the same.
        let learnt = match known(source.outlet_fact(*condition)?)? {
            Some(value) => Some(value),
            // Translating what the condition is made of may have worked it out.
            None => {
                let translated = mapping.get(condition).context("the condition was not translated")?;
                let constant = target.outlet_fact(*translated)?.konst.clone();
                constant.map(|value| value.cast_to_scalar::<bool>()).transpose()?
            }
        };
        let input = |outlet: &OutletId| mapping.get(outlet).copied().context("an input was not translated");
        let inputs = node.inputs.iter().map(input).collect::<TractResult<TVec<_>>>()?;
        let (then, otherwise) = match learnt {
            Some(true) => return self.then.inline(&node.name, &self.then.typed()?, target, &inputs),
            Some(false) => return self.otherwise.inline(&node.name, &self.otherwise.typed()?, target, &inputs),
            None => (self.then.typed(), self.otherwise.typed()),
        };
        // With open sizes either may make sense for some of them.
        let sized = |input: &OutletId| target.outlet_fact(*input).is_ok_and(|fact| fact.shape.as_concrete().is_some());
        let known = inputs.iter().all(sized);
        let (taken, branch, body) = match (then, otherwise) {
            (Ok(then), Ok(otherwise)) => {
                let operator = IfThenElse {
                    then_body: then,
                    then_input_mapping: self.then.reads.clone(),
                    else_body: otherwise,
                    else_input_mapping: self.otherwise.reads.clone(),
                };
                return target.wire_node(&node.name, operator, &inputs);
            }
            (Ok(body), Err(_)) if known => (true, &self.then, body),
            (Err(_), Ok(body)) if known => (false, &self.otherwise, body),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let outputs = branch.inline(&node.name, &body, target, &inputs)?;
        let condition = *inputs.first().context("no condition")?;
        let only = |(at, output): (usize, OutletId)| {
            let only = operation("OnlyIf", Only { taken }, 2);
            let outlets = target.wire_node(format!("{}.only.{at}", node.name), only, &[condition, output])?;
            outlets.first().copied().context("a node without an output")
        };
        outputs.into_iter().enumerate().map(only).collect()
    }

    as_op!();
}
