//! The names of a classifier's classes, which a tensor of scores does not carry.

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

/// The classes of the model's scores, in the order of their columns: those of its `ZipMap`, else of a classifier whose
/// label is an output of the graph. Empty where nothing, or more than one thing, says it.
#[must_use]
pub fn classes(model: &ModelProto) -> Vec<String> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let named = |wanted: &dyn Fn(&NodeProto) -> bool| -> Vec<Vec<String>> {
        graph.node.iter().filter(|node| wanted(node)).filter_map(labels).collect()
    };
    let maps = named(&|node| node.op_type == "ZipMap");
    let mut found = if maps.is_empty() { named(&|node| is_answer(graph, node)) } else { maps };
    if found.len() == 1 { found.pop().unwrap_or_default() } else { Vec::new() }
}

fn is_answer(graph: &GraphProto, node: &NodeProto) -> bool {
    let classifier = matches!(node.op_type.as_str(), "TreeEnsembleClassifier" | "LinearClassifier" | "SVMClassifier");
    let label = node.output.first();
    classifier && graph.output.iter().any(|output| Some(&output.name) == label)
}

fn labels(node: &NodeProto) -> Option<Vec<String>> {
    let attribute = node.attribute.iter().find(|found| found.name.starts_with("classlabels_"))?;
    let texts = attribute.strings.iter().map(|text| String::from_utf8_lossy(text).into_owned());
    let ints = attribute.ints.iter().map(ToString::to_string);
    Some(texts.chain(ints).collect())
}
