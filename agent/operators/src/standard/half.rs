//! Operators that add numbers up, of float16: a sum of them soon is more than float16 holds, 65504, or so large that what is
//! added to it no longer counts. ONNX Runtime widens to float32, and so they do here; tract adds in float16.
//!
//! So do convolutions where the processor has no arithmetic of float16, which tract then runs number by number: in float32
//! they are exact and far quicker, and their weights take twice the memory. Products of matrices tract widens by itself.

use super::{Built, tracts, unread};
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::*;

const ADDING: [&str; 17] = [
    "AveragePool",
    "CumSum",
    "GlobalAveragePool",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LpNormalization",
    "RMSNormalization",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
    "Softmax",
];

/// As `ADDING`, where the processor knows no float16.
const CONVOLVING: [&str; 2] = ["Conv", "ConvTranspose"];

pub(super) fn register(operators: &mut OnnxOpRegister) {
    let convolving = if has_half() { &[][..] } else { &CONVOLVING };
    for name in ADDING.iter().chain(convolving) {
        operators.insert(name, build);
    }
}

#[cfg(target_arch = "aarch64")]
fn has_half() -> bool {
    tract_linalg::has_fp16()
}

#[cfg(not(target_arch = "aarch64"))]
const fn has_half() -> bool {
    false
}

fn build(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let builder = if node.op_type == "ConvTranspose" { unread::build } else { tracts_own };
    let (operator, reads) = builder(context, node)?;
    Ok((Box::new(Wide { operator }), reads))
}

fn tracts_own(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    tracts(&node.op_type, context, node)
}

/// An operator whose inputs of float16 are widened, and its outputs narrowed again.
#[derive(Debug, Clone)]
struct Wide {
    operator: Box<dyn InferenceOp>,
}

impl PartialEq for Wide {
    fn eq(&self, _other: &Self) -> bool {
        false
    }
}

impl Eq for Wide {}

impl Op for Wide {
    fn name(&self) -> StaticName {
        self.operator.name()
    }

    not_a_typed_op!();
}

impl EvalOp for Wide {
    op_out_of_plan!();

    fn eval(&self, context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.operator.eval(context, inputs)
    }
}

impl InferenceOp for Wide {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.operator.infer_facts(inputs, outputs, observed)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.operator.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let half = f16::datum_type();
        let mut wide = mapping.clone();
        for (at, input) in node.inputs.iter().enumerate() {
            let outlet = *mapping.get(input).context("an input was not translated")?;
            if target.outlet_fact(outlet)?.datum_type == half {
                wide.insert(*input, casted(target, format!("{}.wide.{at}", node.name), f32::datum_type(), outlet)?);
            }
        }
        // What was inferred of the outputs is what they must be.
        let mut inner = node.clone();
        for fact in inner.outputs.iter_mut().map(|output| &mut output.fact) {
            if fact.datum_type.concretize() == Some(half) {
                *fact = InferenceFact::dt_shape(f32::datum_type(), fact.shape.clone());
            }
        }
        let outputs = self.operator.to_typed(source, &inner, target, &wide)?;
        let narrow = |(at, (outlet, stated)): (usize, (OutletId, &Outlet<InferenceFact>))| {
            let wider = target.outlet_fact(outlet)?.datum_type == f32::datum_type();
            if wider && stated.fact.datum_type.concretize() == Some(half) {
                casted(target, format!("{}.narrow.{at}", node.name), half, outlet)
            } else {
                Ok(outlet)
            }
        };
        outputs.into_iter().zip(&node.outputs).enumerate().map(narrow).collect()
    }

    as_op!();
}

fn casted(target: &mut TypedModel, name: String, to: DatumType, outlet: OutletId) -> TractResult<OutletId> {
    target.wire_node(name, cast(to), &[outlet])?.first().copied().context("a node without an output")
}
