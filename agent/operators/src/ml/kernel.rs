//! What an operator of this room must say, and how tract holds it: one operation for all of them.

use super::attributes::Attributes;
use std::fmt::Debug;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// Type and shape of one tensor while a graph is being read; sizes may be symbols.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) dtype: DatumType,
    pub(crate) shape: TVec<TDim>,
}

impl Fact {
    pub(crate) fn new(dtype: DatumType, shape: impl IntoIterator<Item = TDim>) -> Self {
        Self { dtype, shape: shape.into_iter().collect() }
    }
}

/// An operator with its attributes read and checked.
pub(crate) trait Kernel: Debug + Send + Sync + 'static {
    /// Types and shapes of all its outputs. An error refuses the graph, so whatever can be checked of the inputs is
    /// checked here; [`Kernel::run`] checks again what depends on sizes.
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>>;

    /// Computes all outputs. Inputs have the types and ranks that [`Kernel::outputs`] accepted.
    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>>;

    /// The form that runs on these types of inputs, where that is another one.
    fn for_inputs(&self, _types: &[DatumType]) -> TractResult<Option<Arc<dyn Kernel>>> {
        Ok(None)
    }
}

/// A kernel that is read from a node's attributes.
pub(crate) trait FromNode: Kernel + Sized {
    /// # Errors
    /// When attributes are missing, contradict each other, or could make a run fail or not end.
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self>;
}

/// The builder that tract's register takes: `register.insert("Scaler", build::<Scaler>)`.
pub(crate) fn build<K: FromNode>(
    _context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let attributes = Attributes::new(node);
    let kernel = K::from_node(&attributes).with_context(|| attributes.title())?;
    Ok((from_kernel(node, kernel), vec![]))
}

/// The operator of a node, by a kernel that needs more than its attributes.
pub(crate) fn from_kernel(node: &NodeProto, kernel: impl Kernel) -> Box<dyn InferenceOp> {
    let wanted = node.output.iter().zip(0..).filter(|(name, _)| !name.is_empty()).map(|(_, at)| at).collect();
    let inputs = node.input.iter().filter(|name| !name.is_empty()).count();
    expand(Operator { name: node.op_type.clone().into(), kernel: Arc::new(kernel), wanted, inputs })
}

/// An operator with one output for a typed model that is put together by hand.
pub(crate) fn operation(name: &'static str, kernel: impl Kernel, inputs: usize) -> impl TypedOp + Clone {
    operation_of(name, kernel, inputs, 1)
}

/// As [`operation`], with several outputs.
pub(crate) fn operation_of(
    name: &'static str,
    kernel: impl Kernel,
    inputs: usize,
    outputs: usize,
) -> impl TypedOp + Clone {
    Operator { name: name.into(), kernel: Arc::new(kernel), wanted: (0..outputs).collect(), inputs }
}

/// Any operator of this room, in tract's two stages: types still being inferred, and known.
#[derive(Debug, Clone)]
struct Operator {
    name: StaticName,
    kernel: Arc<dyn Kernel>,
    /// Which of the kernel's outputs the graph names: an optional one may be left out.
    wanted: TVec<usize>,
    inputs: usize,
}

impl PartialEq for Operator {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel) && self.wanted == other.wanted
    }
}

impl Eq for Operator {}

impl Operator {
    fn wanted<T: Clone>(&self, all: &[T]) -> TractResult<TVec<T>> {
        let one = |at: &usize| {
            let missing = || format_err!("{} has {} outputs, the graph names {}", self.name, all.len(), at + 1);
            all.get(*at).cloned().ok_or_else(missing)
        };
        self.wanted.iter().map(one).collect()
    }
}

impl Expansion for Operator {
    fn name(&self) -> StaticName {
        self.name.clone()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.wanted.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.inputs)?;
        check_output_arity(outputs, self.wanted.len())?;
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
                let facts: Vec<Fact> =
                    types.iter().zip(shapes).map(|(dtype, shape)| Fact { dtype: *dtype, shape }).collect();
                let found = self.wanted(&self.kernel.outputs(&facts)?)?;
                for (output, fact) in outputs.iter().zip(found) {
                    solver.equals(&output.datum_type, fact.dtype)?;
                    solver.equals(&output.rank, i64::try_from(fact.shape.len())?)?;
                    for (axis, dim) in fact.shape.into_iter().enumerate() {
                        solver.equals(&output.shape[axis], dim)?;
                    }
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let types: TractResult<Vec<DatumType>> =
            inputs.iter().map(|input| Ok(model.outlet_fact(*input)?.datum_type)).collect();
        let mut operator = self.clone();
        if let Some(kernel) = self.kernel.for_inputs(&types?)? {
            operator.kernel = kernel;
        }
        model.wire_node(prefix, operator, inputs)
    }
}

impl Op for Operator {
    fn name(&self) -> StaticName {
        self.name.clone()
    }

    op_as_typed_op!();
}

impl EvalOp for Operator {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.wanted(&self.kernel.run(&inputs)?)
    }
}

impl TypedOp for Operator {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let facts: Vec<Fact> =
            inputs.iter().map(|fact| Fact::new(fact.datum_type, fact.shape.iter().cloned())).collect();
        let outputs = self.wanted(&self.kernel.outputs(&facts)?)?;
        Ok(outputs.into_iter().map(|fact| fact.dtype.fact(fact.shape)).collect())
    }
}
