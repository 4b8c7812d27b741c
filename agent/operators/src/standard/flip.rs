//! A tensor backwards along one axis.

use crate::ml::kernel::{Fact, Kernel};
use tract_onnx::tract_hir::internal::*;

/// The last of an axis first.
#[derive(Debug)]
pub(super) struct Flip {
    pub(super) axis: usize,
}

impl Kernel for Flip {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        ensure!(self.axis < x.shape.len(), "no axis {} in a tensor of {}", self.axis, x.shape.len());
        Ok(tvec![x.clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let size = *x.shape().get(self.axis).with_context(|| format!("no axis {}", self.axis))?;
        if size < 2 {
            return Ok(tvec![x.clone()]);
        }
        let backwards: TractResult<Vec<Tensor>> = (0..size).rev().map(|at| x.slice(self.axis, at, at + 1)).collect();
        Ok(tvec![Tensor::stack_tensors(self.axis, &backwards?)?.into_tvalue()])
    }
}
