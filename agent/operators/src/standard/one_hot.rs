//! `OneHot` (ONNX versions 9 and 11): an index outside of [-depth, depth - 1] marks no place. tract takes 32 bits of an index,
//! and panics on one that is outside.

use crate::ml::kernel::{Fact, Kernel, operation};
use tract_onnx::tract_core::ops::array;
use tract_onnx::tract_hir::internal::*;

/// Puts ours in the place of tract's, where a node is one; the depth and both values are constants.
pub(super) fn replace(model: &mut TypedModel, id: usize) -> TractResult<bool> {
    let node = model.node_mut(id);
    let Some(array::OneHot { axis, dim, off, on }) = node.op_as::<array::OneHot>().cloned() else { return Ok(false) };
    node.op = Box::new(operation("OneHot", OneHot { axis, depth: dim, off, on }, 1));
    Ok(true)
}

#[derive(Debug)]
struct OneHot {
    axis: usize,
    depth: usize,
    off: Arc<Tensor>,
    on: Arc<Tensor>,
}

impl Kernel for OneHot {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [indices] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        ensure!(self.axis <= indices.shape.len(), "no axis {} beside {}", self.axis, indices.shape.len());
        let mut shape = indices.shape.clone();
        shape.insert(self.axis, self.depth.to_dim());
        Ok(tvec![Fact::new(self.off.datum_type(), shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [indices] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let mut shape: TVec<usize> = indices.shape().into();
        ensure!(self.axis <= shape.len(), "no axis {} beside {}", self.axis, shape.len());
        let apart: usize = shape.iter().skip(self.axis).product();
        shape.insert(self.axis, self.depth);
        let mut out = self.off.broadcast_scalar_to_shape(&shape)?;
        let indices = indices.cast_to::<i64>()?;
        let places = self.places(indices.try_as_plain_ram()?.as_slice::<i64>()?, apart);
        dispatch_datum!(mark(self.on.datum_type())(&mut out, &self.on, places))?;
        Ok(tvec![out.into_tvalue()])
    }
}

impl OneHot {
    /// The marked places in the output; `apart` is how far places of one index lie apart.
    fn places(&self, indices: &[i64], apart: usize) -> impl Iterator<Item = usize> {
        let place = move |(at, index): (usize, &i64)| {
            let back = usize::try_from(index.unsigned_abs()).ok()?;
            let place = if *index < 0 { self.depth.checked_sub(back)? } else { back };
            let (block, within) = (at / apart, at % apart);
            (place < self.depth).then_some((block * self.depth + place) * apart + within)
        };
        indices.iter().enumerate().filter_map(place)
    }
}

fn mark<T: Datum>(out: &mut Tensor, on: &Tensor, places: impl Iterator<Item = usize>) -> TractResult<()> {
    let on = on.try_as_plain_ram()?;
    let on = on.to_scalar::<T>()?;
    let mut out = out.try_as_plain_ram_mut()?;
    let out = out.as_slice_mut::<T>()?;
    places.for_each(|place| {
        if let Some(out) = out.get_mut(place) {
            out.clone_from(on);
        }
    });
    Ok(())
}
