//! From an engine's error to the node that is to blame, and what its author can do.

use super::graph::NodeName;
use crate::runtime::error::{Cause, LoadError};
use std::path::Path;

/// For operators that are functions of the model itself.
pub(super) const FUNCTION: &str = "inline the model's functions first (onnx.inliner.inline_local_functions)";
const GENERIC: &str = "export with another opset (9 to 18 are run best), run a graph simplifier, or replace it by operators that are supported";

/// For a graph some of whose axes are open, when nothing better is known: many can be read only once their sizes are.
const OPEN: &str = "say the sizes of the model's open axes under `[shapes]` in bundle.toml, or export it with fixed ones; else export \
                    with another opset (9 to 18 are run best)";

/// What to do about an operator that is not there, or that refuses.
pub(super) fn for_operator(operator: &str, domain: &str) -> &'static str {
    match operator {
        "STFT" | "DFT" | "MelWeightMatrix" => {
            "compute the spectrum before the model, or write it as a Conv with a fixed basis"
        }
        "Loop" | "SequenceAt" | "SequenceConstruct" | "SequenceEmpty" | "SequenceInsert" | "SplitToSequence" => {
            "unroll the loop when exporting: PyTorch by tracing the model instead of scripting it, Keras by `unroll=True` of its layers"
        }
        "NonMaxSuppression" | "RoiAlign" => "end the graph before it and do this step on the raw outputs",
        "StringNormalizer" | "TfIdfVectorizer" | "StringSplit" | "StringConcat" | "RegexFullMatch" => {
            "strings are not served: tokenise before the model and feed numbers"
        }
        _ if domain.starts_with("com.microsoft") => {
            "it is ONNX Runtime's own: export without ONNX Runtime's graph optimisations, and quantise with `QuantFormat.QDQ`"
        }
        _ if domain.starts_with("ai.onnx.ml") => {
            "every operator of this domain is supported: correct what is said of it, or export the model again"
        }
        _ => GENERIC,
    }
}

/// Names the node in an engine's error, where the error speaks of one. `open` is whether axes other than the batch are.
pub(super) fn blame(path: &Path, nodes: &[NodeName], open: bool, source: Cause) -> LoadError {
    let hint_for = |operator: &str, domain: &str| match for_operator(operator, domain) {
        GENERIC if open => OPEN,
        hint => hint,
    };
    match culprit(nodes, source.as_ref()) {
        Some(name) => LoadError::Node {
            node: name.node.clone(),
            operator: name.operator.clone(),
            hint: name
                .operator
                .rsplit_once('.')
                .map_or_else(|| hint_for(&name.operator, ""), |(domain, operator)| hint_for(operator, domain)),
            source,
        },
        None => LoadError::Graph { path: path.to_path_buf(), source },
    }
}

/// The node whose name stands in quotes in the outermost message that has one. tract appends `.part` to the names of
/// what it makes of a node, so the longest name that the quoted text begins with is meant.
fn culprit<'a>(nodes: &'a [NodeName], error: &(dyn std::error::Error + 'static)) -> Option<&'a NodeName> {
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        let quoted = message.split('"').skip(1).step_by(2);
        let unquoted = message.strip_prefix("Building node ").and_then(|rest| rest.split(" (").next());
        for text in quoted.chain(unquoted) {
            let meant = |name: &&NodeName| {
                text.strip_prefix(name.node.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
            };
            let found =
                nodes.iter().filter(|name| !name.node.is_empty()).filter(meant).max_by_key(|name| name.node.len());
            if found.is_some() {
                return found;
            }
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: Option<&str>) {
        let names = ["conv", "conv.1", "relu", ""];
        let nodes: Vec<NodeName> =
            names.map(|node| NodeName { node: node.to_owned(), operator: "Op".to_owned() }).to_vec();
        let error: Cause = message.to_owned().into();
        assert_eq!(culprit(&nodes, error.as_ref()).map(|name| name.node.as_str()), expected);
    }

    #[test]
    fn a_quoted_node_is_found() {
        check("Failed analyse for node #3 \"relu\" Relu", Some("relu"));
    }

    #[test]
    fn the_longest_name_is_meant() {
        check("Wiring node \"conv.1.bias\", Add", Some("conv.1"));
    }

    #[test]
    fn a_name_is_not_its_neighbours_beginning() {
        check("Wiring node \"convolution\"", None);
    }

    #[test]
    fn a_builders_message_names_its_node_without_quotes() {
        check("Building node relu (Relu)", Some("relu"));
    }

    #[test]
    fn nobody_is_blamed_by_a_message_without_names() {
        check("out of memory", None);
    }
}
