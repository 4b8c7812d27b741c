//! What runs a graph. `Engine` is all that the rest of the agent sees of it; tract is the one behind it today.

mod caught;
mod convert;
mod diagnose;
mod ends;
mod graph;
mod hints;
mod intra_op;
mod open;
mod plans;
mod tract;

#[cfg(test)]
mod attention_tests;
#[cfg(test)]
mod indices_tests;
#[cfg(test)]
mod resize_tests;
#[cfg(test)]
mod rewritten_tests;
#[cfg(test)]
mod standard_tests;

pub(crate) use intra_op::Helpers;

use super::error::{InferError, LoadError};
use fieldpost_shared::bundle::{Tensor, TensorSpec};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// A graph that is ready to run.
pub(crate) trait Engine: Send + Sync + fmt::Debug {
    /// The inputs that the graph declares, in the order in which [`Engine::run`] takes them.
    fn inputs(&self) -> &[TensorSpec];

    /// The outputs, in the order in which [`Engine::run`] gives them. Axes that the graph leaves open are symbols.
    fn outputs(&self) -> &[TensorSpec];

    /// Runs the graph once. `inputs` have the types, ranks and fixed sizes of [`Engine::inputs`] and are whole.
    /// A panic underneath is an error of this call only.
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError>;

    /// For how many different sizes an optimised plan is kept.
    fn plan_room(&self) -> usize;

    /// Lets go of plans for more than so many rows, of a graph whose one free size is its batch. They are made again
    /// when they are asked for.
    fn keep_batches(&self, most: usize);
}

/// Names of inputs and outputs in the order in which the caller wants them; it must be a permutation of the graph's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) inputs: &'a [TensorSpec],
    pub(crate) outputs: &'a [TensorSpec],
}

/// Whose statement it is which inputs there are, in what order and of which sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ends<'a> {
    /// The graph's own, but for the sizes that the author of a bundle states, by input.
    Graph(&'a BTreeMap<String, Vec<u64>>),
    /// A manifest's.
    Manifest(Order<'a>),
}

/// Opens `dir/file`. `allowed` are the files, by their paths in `dir`, that may hold its weights; `None` is any of them.
pub(crate) fn open_engine(
    dir: &Path,
    file: &str,
    allowed: Option<&[&str]>,
    ends: Ends<'_>,
) -> Result<Box<dyn Engine>, LoadError> {
    Ok(Box::new(tract::TractEngine::open(dir, file, allowed, ends)?))
}

/// The inputs and outputs of an ONNX file, in its own order, for who packs a bundle. Weights in files beside it are read from `dir`.
/// `shapes` are sizes for axes that the graph leaves open, by input. Blocking.
///
/// # Errors
/// When the runtime cannot run the file: the node and the operator are named where one is to blame.
pub fn inspect(
    dir: &Path,
    file: &str,
    shapes: &BTreeMap<String, Vec<u64>>,
) -> Result<(Vec<TensorSpec>, Vec<TensorSpec>), LoadError> {
    let engine = open_engine(dir, file, None, Ends::Graph(shapes))?;
    Ok((engine.inputs().to_vec(), engine.outputs().to_vec()))
}

/// The files beside `dir/file` that hold its weights (ONNX external data), by their paths in `dir`, each once, sorted.
/// They belong into the bundle with the role `external`. Blocking.
///
/// # Errors
/// When the file is not a whole ONNX model, or states a path that is not a plain relative one.
pub fn external_files(dir: &Path, file: &str) -> Result<Vec<String>, LoadError> {
    graph::external_files(&graph::read(&dir.join(file))?, file)
}

/// The names of the classes that an ONNX file's scores are of, in order, where a classical model's graph says them; else
/// empty. Blocking.
///
/// # Errors
/// When the file is not a whole ONNX model.
pub fn classes(dir: &Path, file: &str) -> Result<Vec<String>, LoadError> {
    Ok(fieldpost_operators::ml::classes(&graph::read(&dir.join(file))?))
}
