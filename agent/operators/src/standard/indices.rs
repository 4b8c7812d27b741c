//! Indices that a run brings are looked at before an operator takes them: tract's operators panic on one outside of its axis,
//! or wrap around and answer with another place's values, and `TopK` asks for as much memory as it is told to.
//!
//! Indices that are known when a plan is made are looked at then, once. Others go through a node of their own, which
//! passes them on as they are.

use super::origin::is_requests;
use super::rewritten::FROM_THE_FRONT;
use crate::ml::kernel::{Fact, Kernel, operation};
use std::fmt;
use tract_onnx::tract_core::ops::array::{Gather, GatherElements, GatherNd, ScatterElements, ScatterNd, Topk};
use tract_onnx::tract_hir::internal::*;

/// An index outside of its axis, or a number of places (`TopK`) that an axis does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfRange {
    /// The node that was to take it.
    pub node: String,
    /// What came.
    pub found: i64,
    /// The least that it takes.
    pub least: i64,
    /// The most that it takes; less than `least` for an axis of no places.
    pub most: i64,
    /// Whether it is a request's, and not the model's: its integers reached the node with no other arithmetic than that of
    /// integers, or its real numbers with none at all but a cast. What a model works out of real numbers is its own, and
    /// so is whatever a branch or a loop does inside.
    pub of_request: bool,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, found, least, most, .. } = self;
        if least > most {
            return write!(f, "`{node}` takes no index here, for the axis has no places; found {found}");
        }
        write!(f, "`{node}` takes {least} to {most} here, found {found}")
    }
}

impl std::error::Error for OutOfRange {}

/// What may come, by column: indices come as many at a time as there are.
#[derive(Debug, Clone)]
enum Ranges {
    Known(Vec<(i64, i64)>),
    /// Of indices into this axis of a second input, whose size is known at the run only.
    OfAxis(usize),
    /// As many places as this axis has.
    UpToAxis(usize),
}

fn of_axis(size: usize) -> TractResult<(i64, i64)> {
    let size = i64::try_from(size)?;
    Ok((-size, size - 1))
}

fn up_to_axis(size: usize) -> TractResult<(i64, i64)> {
    Ok((0, i64::try_from(size)?))
}

/// Passes on what is in range, and fails on anything else.
#[derive(Debug)]
struct InRange {
    node: String,
    ranges: Ranges,
    of_request: bool,
    /// Whether those that count from the back are counted from the front.
    to_front: bool,
}

impl InRange {
    fn check(&self, indices: &[i64], ranges: &[(i64, i64)]) -> TractResult<()> {
        let outside = |(index, (least, most)): &(&i64, &(i64, i64))| *index < least || *index > most;
        let Some((found, (least, most))) = indices.iter().zip(ranges.iter().cycle()).find(outside) else {
            return Ok(());
        };
        let (node, of_request) = (self.node.clone(), self.of_request);
        Err(TractError::new(OutOfRange { node, found: *found, least: *least, most: *most, of_request }))
    }

    fn ranges(&self, data: Option<&TValue>) -> TractResult<Vec<(i64, i64)>> {
        let size = |axis: &usize| data.and_then(|data| data.shape().get(*axis)).copied().context("no such axis");
        Ok(match &self.ranges {
            Ranges::Known(ranges) => ranges.clone(),
            Ranges::OfAxis(axis) => vec![of_axis(size(axis)?)?],
            Ranges::UpToAxis(axis) => vec![up_to_axis(size(axis)?)?],
        })
    }

    fn passed(&self, indices: &Tensor, data: Option<&TValue>) -> TractResult<Option<Tensor>> {
        let ranges = self.ranges(data)?;
        let wide = indices.cast_to::<i64>()?;
        self.check(wide.try_as_plain_ram()?.as_slice::<i64>()?, &ranges)?;
        if !self.to_front {
            return Ok(None);
        }
        let mut front = wide.into_owned();
        for (index, (least, _)) in
            front.try_as_plain_ram_mut()?.as_slice_mut::<i64>()?.iter_mut().zip(ranges.iter().cycle())
        {
            if *index < 0 {
                *index -= least;
            }
        }
        Ok(Some(front))
    }
}

impl Kernel for InRange {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let indices = inputs.first().context("no indices")?;
        let dtype = if self.to_front { i64::datum_type() } else { indices.dtype };
        Ok(tvec![Fact::new(dtype, indices.shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let indices = inputs.first().context("no indices")?;
        let front = self.passed(indices, inputs.get(1))?;
        Ok(tvec![front.map_or_else(|| indices.clone(), Tensor::into_tvalue)])
    }
}

/// Puts a check before a node that needs one; sizes are known as far as they do not depend on values. `outer` is whether it is in
/// the graph itself: in a branch a constant that is out of range may never be reached.
pub(super) fn check(model: &mut TypedModel, id: usize, outer: bool) -> TractResult<()> {
    match of_node(model, id, outer)? {
        Some((indices, check)) => guard(model, id, indices, check, outer),
        None => Ok(()),
    }
}

/// The check that a node needs, and where its indices come from.
fn of_node(model: &TypedModel, id: usize, outer: bool) -> TractResult<Option<(OutletId, InRange)>> {
    let node = model.node(id);
    let [data, indices, ..] = *node.inputs.as_slice() else { return Ok(None) };
    let shape = &model.outlet_fact(data)?.shape;
    let size = |axis: usize| shape.get(axis).and_then(|size| size.to_usize().ok());
    let axis = node.op_as::<Gather>().map(|op| op.axis);
    let axis = axis.or_else(|| node.op_as::<GatherElements>().map(|op| op.axis));
    let axis = axis.or_else(|| node.op_as::<ScatterElements>().map(|op| op.axis));
    let (from, ranges, to_front) = if let Some(axis) = axis {
        let known = size(axis).map(|size| Ok::<_, TractError>(Ranges::Known(vec![of_axis(size)?])));
        (indices, known.transpose()?.unwrap_or(Ranges::OfAxis(axis)), false)
    } else if let Some(op) = node.op_as::<Topk>() {
        let known = size(op.axis).map(|size| Ok::<_, TractError>(Ranges::Known(vec![up_to_axis(size)?])));
        (indices, known.transpose()?.unwrap_or(Ranges::UpToAxis(op.axis)), false)
    } else if let Some(batch) =
        node.op_as::<GatherNd>().map(|op| op.batch_dims).or_else(|| node.op_is::<ScatterNd>().then_some(0))
    {
        // Where sizes are not known the node that counts from the front stays, and looks itself.
        let counts = model.node(indices.node);
        let [_, raw] = *counts.inputs.as_slice() else { return Ok(None) };
        let columns = model.outlet_fact(raw)?.shape.last().and_then(|columns| columns.to_usize().ok());
        let Some(columns) = columns.filter(|_| counts.op.name() == FROM_THE_FRONT) else { return Ok(None) };
        let sizes: Option<Vec<usize>> = (batch..batch.saturating_add(columns)).map(size).collect();
        let Some(sizes) = sizes.filter(|sizes| !sizes.is_empty()) else { return Ok(None) };
        (raw, Ranges::Known(sizes.into_iter().map(of_axis).collect::<TractResult<_>>()?), true)
    } else {
        return Ok(None);
    };
    let of_request = outer && is_requests(model, from)?;
    Ok(Some((from, InRange { node: node.name.clone(), ranges, of_request, to_front })))
}

fn guard(model: &mut TypedModel, id: usize, from: OutletId, check: InRange, outer: bool) -> TractResult<()> {
    let fact = model.outlet_fact(from)?;
    let inlet = InletId::new(id, 1);
    let name = format!("{}.in_range", check.node);
    let name = model.unique_name(&name).into_owned();
    match (fact.konst.clone(), &check.ranges) {
        (Some(indices), Ranges::Known(_)) if outer => {
            let front = check.passed(&indices, None).with_context(|| format!("Checking \"{}\"", check.node))?;
            // With batches before its indices tract takes constants for indices of the first axes.
            let batches = model.node(id).op_as::<GatherNd>().is_some_and(|op| op.batch_dims > 0);
            if let Some(front) = front.filter(|_| !batches) {
                let front = model.add_const(name, front)?;
                model.add_edge(front, inlet)?;
            }
            Ok(())
        }
        (Some(_), _) => Ok(()),
        (None, ranges) => {
            let data = model.node(id).inputs.first().copied().context("no data")?;
            let inputs = if matches!(ranges, Ranges::Known(_)) { vec![from] } else { vec![from, data] };
            let checked = model.wire_node(name, operation("InRange", check, inputs.len()), &inputs)?;
            model.add_edge(*checked.first().context("a node without an output")?, inlet)
        }
    }
}
