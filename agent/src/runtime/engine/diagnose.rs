//! Finds the node on which tract panics: a panic, unlike an error, carries no name.

use super::caught::caught;
use super::graph::NodeName;
use super::hints::for_operator;
use crate::runtime::error::{Cause, LoadError, panic_message};
use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use tract_onnx::prelude::{
    InferenceFact, InferenceModel, InferenceModelExt, OutletId, TVec, TractError, TractResult, TypedFact, TypedModel,
};
use tract_onnx::tract_core::model::translator::Translate;
use tract_onnx::tract_core::model::{SpecialOps, TypedOp};
use tract_onnx::tract_hir::infer::{Factoid, InferenceOp};
use tract_onnx::tract_hir::internal::InferenceNode;

/// What made tract stop.
pub(super) enum Fault {
    Error(TractError),
    Panic(String),
}

/// Runs a step of tract that may panic.
pub(super) fn guarded<T>(step: impl FnOnce() -> TractResult<T>) -> Result<T, Fault> {
    let message = |payload: Box<dyn Any + Send>| Fault::Panic(panic_message(payload.as_ref()));
    caught(step).map_err(message)?.map_err(Fault::Error)
}

/// A panic as a refusal, with the node where it can be found by trying again.
pub(super) fn blame_panic(path: &Path, nodes: &[NodeName], model: &InferenceModel, message: String) -> LoadError {
    let last = last_translated(model);
    match last.and_then(|last| nodes.iter().find(|name| name.node == last)) {
        Some(name) => LoadError::Node {
            node: name.node.clone(),
            operator: name.operator.clone(),
            hint: for_operator(&name.operator, ""),
            source: Cause::from(format!("the engine panicked: {message}")),
        },
        None => LoadError::Panic { path: path.to_path_buf(), message },
    }
}

/// The node at which translation to a typed graph ends by a panic.
fn last_translated(model: &InferenceModel) -> Option<String> {
    let model = model.clone();
    let last = Tracking(RefCell::default());
    let try_again = || -> TractResult<TypedModel> {
        let mut model = model;
        model.analyse(false)?;
        last.translate_model(&model.incorporate()?)
    };
    match guarded(try_again) {
        Err(Fault::Panic(_)) => last.0.take(),
        Ok(_) | Err(Fault::Error(_)) => None,
    }
}

/// As tract's own translation, but it remembers where it is.
#[derive(Debug)]
struct Tracking(RefCell<Option<String>>);

impl Translate<InferenceFact, Box<dyn InferenceOp>, TypedFact, Box<dyn TypedOp>> for Tracking {
    fn translate_node(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        self.0.replace(Some(node.name.clone()));
        let values: Option<Vec<_>> = node.outputs.iter().map(|output| output.fact.value.concretize()).collect();
        match values {
            Some(values) if !InferenceModel::is_source(&node.op) => values
                .into_iter()
                .zip(0..)
                .map(|(value, at)| target.add_const(format!("{}.{at}", node.name), value))
                .collect(),
            _ => node.op.to_typed(source, node, target, mapping),
        }
    }
}
