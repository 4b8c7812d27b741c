//! The ONNX file before tract sees it: whether it is whole, has only known operators, and where its weights lie.

use super::hints;
use crate::runtime::error::LoadError;
use std::collections::BTreeSet;
use std::path::Path;
use tract_onnx::Onnx;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, type_proto};
use tract_onnx::prelude::Framework;

/// A node's name and operator, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeName {
    pub(super) node: String,
    pub(super) operator: String,
}

/// Domains whose operators tract knows: ONNX's own, its classical models, and ONNX Runtime's additions.
const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// Decodes the file; its bytes are mapped, not read into a buffer of their own.
pub(super) fn read(path: &Path) -> Result<ModelProto, LoadError> {
    // Opened here first for the sake of a plain message; tract says "Opening" for whatever goes wrong.
    drop(std::fs::File::open(path).map_err(|source| LoadError::Read { path: path.to_path_buf(), source })?);
    let malformed = |source: tract_onnx::prelude::TractError| LoadError::Malformed {
        path: path.to_path_buf(),
        source: source.into(),
    };
    let model = Onnx::default().proto_model_for_path(path).map_err(malformed)?;
    let reason = match &model.graph {
        // Protobuf has no magic number: text or a picture may decode to a model without a graph.
        None => "it holds no graph",
        Some(graph) if graph.output.is_empty() => "its graph has no outputs",
        Some(graph) if longest_axis_name(graph) > MAX_AXIS_NAME => "an axis has a name of more than 200 bytes",
        Some(_) => return Ok(model),
    };
    Err(malformed(tract_onnx::prelude::TractError::msg(reason)))
}

/// tract reads the names of axes as expressions, by recursion: 3,000 brackets overflow a stack of 2 MiB.
const MAX_AXIS_NAME: usize = 200;

fn longest_axis_name(graph: &GraphProto) -> usize {
    let name = |dim: &Dimension| match &dim.value {
        Some(dimension::Value::DimParam(name)) => name.len(),
        _ => 0,
    };
    let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
    let types = values.filter_map(|info| info.r#type.as_ref()?.value.as_ref());
    let shapes = types.filter_map(|type_proto::Value::TensorType(tensor)| tensor.shape.as_ref());
    let own = shapes.flat_map(|shape| &shape.dim).map(name);
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let inner = attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)).map(longest_axis_name);
    own.chain(inner).max().unwrap_or(0)
}

/// Refuses operators that tract does not have, by name. Returns all nodes, those of inner graphs too.
pub(super) fn check_operators(model: &ModelProto, onnx: &Onnx) -> Result<Vec<NodeName>, LoadError> {
    let mut names = Vec::new();
    let functions = model.functions.iter().map(|function| function.name.as_deref()).collect::<BTreeSet<_>>();
    let mut refused = None;
    visit_nodes(model, &mut |node| {
        let name = name_of(node);
        // tract goes by the operator's name alone: another domain's operator of a known name would run as something else.
        let known = DOMAINS.contains(&node.domain.as_str()) && onnx.op_register.0.contains_key(&node.op_type);
        if refused.is_none() && !known {
            let hint = if functions.contains(&Some(node.op_type.as_str())) {
                hints::FUNCTION
            } else {
                hints::for_operator(&node.op_type, &node.domain)
            };
            refused = Some(LoadError::Operator { node: name.node.clone(), operator: name.operator.clone(), hint });
        }
        names.push(name);
    });
    refused.map_or(Ok(names), Err)
}

/// Where the weights lie that are not in the graph itself: `file` is the graph's path, paths are from where it starts.
pub(super) fn external_files(model: &ModelProto, file: &str) -> Result<Vec<String>, LoadError> {
    let mut files = BTreeSet::new();
    let mut refused = None;
    visit_tensors(model, &mut |tensor| {
        if let Some(location) = location_of(tensor) {
            if is_plain(location) {
                files.insert(beside(file, location));
            } else if refused.is_none() {
                refused = Some(external(tensor, location, "which is not a plain relative path"));
            }
        }
    });
    refused.map_or_else(|| Ok(files.into_iter().collect()), Err)
}

/// Refuses weights outside the folder, outside the bundle, or not there.
pub(super) fn check_external(
    model: &ModelProto,
    dir: &Path,
    file: &str,
    allowed: Option<&[&str]>,
) -> Result<(), LoadError> {
    let mut refused = None;
    visit_tensors(model, &mut |tensor| {
        let Some(location) = location_of(tensor) else { return };
        let reason = if !is_plain(location) {
            "which is not a plain relative path"
        } else if allowed.is_some_and(|allowed| !allowed.contains(&beside(file, location).as_str())) {
            "which the manifest does not name as a file of the role `external`"
        } else if !dir.join(beside(file, location)).is_file() {
            "which is not beside the model"
        } else {
            return;
        };
        refused.get_or_insert_with(|| external(tensor, location, reason));
    });
    refused.map_or(Ok(()), Err)
}

fn external(tensor: &TensorProto, location: &str, reason: &'static str) -> LoadError {
    LoadError::External { tensor: tensor.name.clone(), location: location.chars().take(200).collect(), reason }
}

fn location_of(tensor: &TensorProto) -> Option<&str> {
    let external = tensor.data_location == Some(DataLocation::External as i32);
    // As tract reads it: data in the graph wins over a location.
    if !external || !tensor.raw_data.is_empty() {
        return None;
    }
    Some(tensor.external_data.iter().find(|entry| entry.key == "location").map_or("", |entry| entry.value.as_str()))
}

/// A location is relative to the graph's folder (ONNX §External Data).
fn beside(file: &str, location: &str) -> String {
    file.rsplit_once('/').map_or_else(|| location.to_owned(), |(folder, _)| format!("{folder}/{location}"))
}

/// The rule of the manifest's file paths (`fieldpost_shared::bundle::manifest`).
fn is_plain(location: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']);
    location.len() <= 200 && location.split('/').all(plain)
}

fn name_of(node: &NodeProto) -> NodeName {
    let first_output = || node.output.first().cloned().unwrap_or_default();
    let named = if node.name.is_empty() { first_output() } else { node.name.clone() };
    let own_domain = node.domain.is_empty() || node.domain == "ai.onnx";
    let operator = if own_domain { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) };
    NodeName { node: named, operator }
}

/// Every node, depth first. Nesting is bounded: the decoder refuses messages deeper than 100.
fn visit_nodes(model: &ModelProto, each: &mut dyn FnMut(&NodeProto)) {
    fn walk(graph: &GraphProto, each: &mut dyn FnMut(&NodeProto)) {
        for node in &graph.node {
            each(node);
            for attribute in &node.attribute {
                attribute.g.iter().chain(&attribute.graphs).for_each(|inner| walk(inner, each));
            }
        }
    }
    model.graph.iter().for_each(|graph| walk(graph, each));
}

fn visit_tensors(model: &ModelProto, each: &mut dyn FnMut(&TensorProto)) {
    fn walk(graph: &GraphProto, each: &mut dyn FnMut(&TensorProto)) {
        graph.initializer.iter().for_each(&mut *each);
        for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
            attribute.t.iter().chain(&attribute.tensors).for_each(&mut *each);
            attribute.g.iter().chain(&attribute.graphs).for_each(|inner| walk(inner, each));
        }
    }
    model.graph.iter().for_each(|graph| walk(graph, each));
}

#[cfg(test)]
mod tests {
    use super::{beside, is_plain};

    #[test]
    fn weights_lie_beside_the_model_or_below_it() {
        assert!(is_plain("model.onnx.data") && is_plain("weights/layer.0.bin"));
    }

    #[test]
    fn a_location_is_relative_to_the_graphs_folder() {
        assert_eq!(beside("model.onnx", "w.bin"), "w.bin");
        assert_eq!(beside("onnx/model.onnx", "w/0.bin"), "onnx/w/0.bin");
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for path in ["", "/etc/passwd", "../x", "a/../b", "./x", "a//b", "a\\b"] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
