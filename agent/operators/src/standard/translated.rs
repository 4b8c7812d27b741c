//! tract's operators that become other ones, or more than one, when a typed model is made of the graph: what all of these have
//! in common. Until then they are inferred as tract infers its own.

use std::fmt::Debug;
use tract_onnx::tract_hir::internal::*;

/// What an operator becomes.
pub(super) trait Translate: Clone + Debug + Send + Sync + 'static {
    /// Its name in messages.
    fn name(&self) -> StaticName {
        self.operator().name()
    }

    /// tract's operator, by which types and shapes are inferred.
    fn operator(&self) -> &dyn InferenceOp;

    /// The same.
    fn operator_mut(&mut self) -> &mut dyn InferenceOp;

    /// Puts it into the typed model: as [`InferenceOp::to_typed`].
    fn translate(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>>;
}

/// An operator that [`Translate`] says.
#[derive(Debug, Clone)]
pub(super) struct Translated<T>(pub(super) T);

impl<T> PartialEq for Translated<T> {
    fn eq(&self, _other: &Self) -> bool {
        false
    }
}

impl<T> Eq for Translated<T> {}

impl<T: Translate> Op for Translated<T> {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    not_a_typed_op!();
}

impl<T: Translate> EvalOp for Translated<T> {
    not_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, _inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        bail!("it runs in a typed model alone")
    }
}

impl<T: Translate> InferenceOp for Translated<T> {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.0.operator_mut().infer_facts(inputs, outputs, observed)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.0.operator().nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        self.0.translate(source, node, target, mapping)
    }

    as_op!();
}
