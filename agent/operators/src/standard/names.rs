//! Names that [`rewrite`](super::rewrite()) gives are told from a graph's own by what stands in them.

use tract_onnx::pb::{GraphProto, ModelProto};
use tract_onnx::tract_hir::internal::*;

/// What stands in them.
pub(super) const OURS: &str = ".fieldpost.";

/// # Errors
/// When something in a graph, or in one inside of it, has such a name already: there would be two of it.
pub fn check_names(model: &ModelProto) -> TractResult<()> {
    match model.graph.as_ref().and_then(taken) {
        Some(name) => {
            bail!("the name `{name}` holds `{OURS}`, which is kept for what graphs are rewritten to: rename it")
        }
        None => Ok(()),
    }
}

fn taken(graph: &GraphProto) -> Option<&String> {
    let weights = graph.initializer.iter().map(|weight| &weight.name);
    let sparse = graph.sparse_initializer.iter().filter_map(|weight| Some(&weight.values.as_ref()?.name));
    let inputs = graph.input.iter().map(|input| &input.name);
    let made = graph.node.iter().flat_map(|node| node.output.iter().chain([&node.name]));
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let inner = || attributes().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let mut names = weights.chain(sparse).chain(inputs).chain(made);
    names.find(|name| name.contains(OURS)).or_else(|| inner().find_map(taken))
}
