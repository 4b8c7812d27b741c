//! Windows of a convolution or a pool along one axis of a picture.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::PoolSpec;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Windows {
    /// Of the picture.
    pub(super) size: usize,
    /// Of the output.
    pub(super) places: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    /// Zeros, or nothing, before the picture.
    pub(super) before: usize,
}

impl Windows {
    /// An axis that there is not.
    pub(super) const ONE: Self = Self { size: 1, places: 1, kernel: 1, stride: 1, dilation: 1, before: 0 };

    /// Those of each axis of a picture of these sizes.
    pub(super) fn of(spec: &PoolSpec, sizes: &[usize]) -> Vec<Self> {
        let axes = spec.computed_padding(sizes).into_iter().zip(sizes).zip(&spec.kernel_shape).enumerate();
        let windows = axes.map(|(axis, ((padded, size), kernel))| Self {
            size: *size,
            places: padded.convoluted,
            kernel: *kernel,
            stride: spec.stride(axis),
            dilation: spec.dilation(axis),
            before: padded.pad_before,
        });
        windows.collect()
    }

    /// What a window sees through one of its cells, if there is anything.
    pub(super) fn seen(&self, place: usize, cell: usize) -> Option<usize> {
        let at = (place * self.stride + cell * self.dilation).checked_sub(self.before)?;
        (at < self.size).then_some(at)
    }
}
