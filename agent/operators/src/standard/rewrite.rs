//! Graphs in other words, before tract reads them: the same by the standard, and right in tract.
//!
//! - `Pad` that does not pad with a constant has no constant: tract pads with it all the same.
//! - `ReduceLogSumExp` of numbers that are shifted by their largest, which is added again.
//! - `GatherND`, `ScatterND`: indices that count from the back are counted from the front.
//! - `Attention`: a mask that says yes or no becomes one that is added; tract adds 1 for yes.
//! - `SkipLayerNormalization` without `epsilon` has ONNX Runtime's, 1e-12; tract's is 1e-5.

use crate::ml::attributes::Attributes;
use crate::ml::kernel::{Fact, FromNode, Kernel};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};
use tract_onnx::tract_hir::internal::*;

/// Operators that graphs get here; no graph from outside says them.
pub(super) const ADDED: &str = "fieldpost.AddedMask";
pub(super) const FINITE: &str = "fieldpost.FiniteOrZero";
pub(super) const FROM_THE_FRONT: &str = "fieldpost.IndicesFromTheFront";

/// Says a graph and those inside of it in the other words.
pub fn rewrite(model: &mut ModelProto) {
    if let Some(graph) = &mut model.graph {
        of_graph(graph);
    }
}

fn of_graph(graph: &mut GraphProto) {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(of_graph);
        }
        of_node(node, &mut nodes);
    }
    graph.node = nodes;
}

fn of_node(mut node: NodeProto, nodes: &mut Vec<NodeProto>) {
    let there = |node: &NodeProto, at: usize| node.input.get(at).is_some_and(|name| !name.is_empty());
    match node.op_type.as_str() {
        "Pad" => {
            let mode = Attributes::new(&node).text("mode");
            if mode.is_ok_and(|mode| mode.is_some_and(|mode| mode != "constant"))
                && let Some(value) = node.input.get_mut(2)
            {
                value.clear();
            }
        }
        "GatherND" | "ScatterND" if there(&node, 1) => {
            let mut indices = before(&node, FROM_THE_FRONT, &[0, 1], "indices");
            indices.attribute.extend(node.attribute.iter().filter(|attribute| attribute.name == "batch_dims").cloned());
            read(&mut node, 1, indices, nodes);
        }
        "Attention" if there(&node, 3) => {
            let mask = before(&node, ADDED, &[3, 0], "mask");
            read(&mut node, 3, mask, nodes);
        }
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization"
            if node.attribute.iter().all(|attribute| attribute.name != "epsilon") =>
        {
            node.attribute.push(AttributeProto {
                name: "epsilon".to_owned(),
                r#type: AttributeType::Float.into(),
                f: 1e-12,
                ..AttributeProto::default()
            });
        }
        "ReduceLogSumExp" if there(&node, 0) => return log_sum_exp(node, nodes),
        _ => {}
    }
    nodes.push(node);
}

/// A node that reads inputs of another and comes before it.
fn before(node: &NodeProto, operator: &str, inputs: &[usize], what: &str) -> NodeProto {
    // A name of a graph of its own would have to be looked for in all graphs; outputs are told apart already.
    let name = format!("{}.fieldpost.{what}", node.output.iter().find(|name| !name.is_empty()).unwrap_or(&node.name));
    let input = inputs.iter().filter_map(|at| node.input.get(*at)).cloned().collect();
    NodeProto { op_type: operator.to_owned(), input, output: vec![name.clone()], name, ..NodeProto::default() }
}

fn read(node: &mut NodeProto, at: usize, from: NodeProto, nodes: &mut Vec<NodeProto>) {
    if let (Some(input), Some(output)) = (node.input.get_mut(at), from.output.first()) {
        input.clone_from(output);
    }
    nodes.push(from);
}

/// `m + log(sum(exp(x - m)))`, `m` the largest, or zero where that is infinite.
fn log_sum_exp(mut node: NodeProto, nodes: &mut Vec<NodeProto>) {
    let axes: Vec<usize> = (0..node.input.len()).collect();
    let keeps = node.attribute.iter().any(|attribute| attribute.name == "keepdims" && attribute.i == 0);
    let largest = |keep: bool, what: &str| {
        let mut largest = before(&node, "ReduceMax", &axes, what);
        largest.attribute = node.attribute.clone();
        if keep {
            largest.attribute.retain(|attribute| attribute.name != "keepdims");
        }
        let mut finite = before(&node, FINITE, &[], &format!("{what}.finite"));
        finite.input.clone_from(&largest.output);
        (largest, finite)
    };
    let (kept, shift) = largest(true, "largest");
    let (dropped, back) = largest(false, "largest.dropped");
    let mut shifted = before(&node, "Sub", &[0], "shifted");
    shifted.input.extend(shift.output.iter().cloned());
    let mut sum = before(&node, "Add", &[], "sum");
    sum.input.clone_from(&sum.output);
    sum.input.extend(if keeps { back.output.clone() } else { shift.output.clone() });
    // The last node is the one that messages name.
    std::mem::swap(&mut node.output, &mut sum.output);
    std::mem::swap(&mut node.name, &mut sum.name);
    nodes.extend([kept, shift]);
    if keeps {
        nodes.extend([dropped, back]);
    }
    read(&mut node, 0, shifted, nodes);
    nodes.extend([node, sum]);
}

/// Indices of `GatherND` and `ScatterND` (ONNX version 11 on), none of which is negative: inputs are the data and the indices.
#[derive(Debug)]
pub(super) struct FromTheFront {
    batch_dims: usize,
}

impl FromNode for FromTheFront {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let batch_dims = attributes.int("batch_dims")?.unwrap_or(0);
        Ok(Self { batch_dims: usize::try_from(batch_dims).context("attribute `batch_dims` is negative")? })
    }
}

impl Kernel for FromTheFront {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [_, indices] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        Ok(tvec![Fact::new(i64::datum_type(), indices.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [data, indices] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        let mut out = indices.cast_to::<i64>()?.into_owned();
        let columns = out.shape().last().copied().context("indices are at least a list")?;
        let axes = data.shape().get(self.batch_dims..).and_then(|axes| axes.get(..columns));
        let axes = axes.with_context(|| format!("{columns} indices at a time for data of {} axes", data.rank()))?;
        let mut plain = out.try_as_plain_ram_mut()?;
        for row in plain.as_slice_mut::<i64>()?.chunks_mut(columns.max(1)) {
            for (index, axis) in row.iter_mut().zip(axes) {
                let axis = i64::try_from(*axis)?;
                ensure!((-axis..axis).contains(index), "index {index} is outside of an axis of {axis}");
                if *index < 0 {
                    *index += axis;
                }
            }
        }
        Ok(tvec![out.into_tvalue()])
    }
}

/// A mask of `Attention` that is added to the scores: inputs are the mask and the queries, whose type it has.
#[derive(Debug)]
pub(super) struct Added;

impl FromNode for Added {
    fn from_node(_: &Attributes<'_>) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Kernel for Added {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [mask, queries] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        let dtype = if mask.dtype == bool::datum_type() { queries.dtype } else { mask.dtype };
        Ok(tvec![Fact::new(dtype, mask.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [mask, queries] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        if mask.datum_type() != bool::datum_type() {
            return Ok(tvec![mask.clone()]);
        }
        // No score comes near the least number; minus infinity makes NaN of a row that sees nothing.
        let least = if queries.datum_type() == f16::datum_type() { f32::from(f16::MIN) } else { f32::MIN };
        let yes = mask.try_as_plain_ram()?.as_slice::<bool>()?;
        let added: Vec<f32> = yes.iter().map(|yes| if *yes { 0.0 } else { least }).collect();
        let added = Tensor::from_shape(mask.shape(), &added)?;
        Ok(tvec![added.cast_to_dt(queries.datum_type())?.into_owned().into_tvalue()])
    }
}
