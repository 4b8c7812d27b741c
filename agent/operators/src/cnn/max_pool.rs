//! The maximum over windows of a picture: over rows first, where values lie side by side, then over columns.

use super::windows::Windows;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{OptMaxPool, PoolSpec};

/// Puts this operator where tract has its own over two axes, channels first, of float32 and without places of the maxima.
pub(crate) fn replace(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let Some(pool) = node.op_as::<OptMaxPool>() else { continue };
        let spec = &pool.pool_spec;
        let float = model.node_input_facts(id)?.iter().all(|fact| fact.datum_type == f32::datum_type());
        if float && pool.with_index_outputs.is_none() && spec.rank() == 2 && !spec.data_format.c_is_last() {
            let ours = MaxPool(spec.clone());
            let patch = TypedModelPatch::replace_single_op(model, node, &node.inputs, ours)?;
            patch.apply(model)?;
        }
    }
    model.compact()
}

/// ONNX's `MaxPool` of pictures. A window with a NaN in it has no maximum but NaN; tract passes it over, and ONNX Runtime
/// passes some over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct MaxPool(PoolSpec);

impl Op for MaxPool {
    fn name(&self) -> StaticName {
        "MaxPoolByRows".into()
    }

    op_as_typed_op!();
}

impl EvalOp for MaxPool {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let shape = self.0.data_format.shape(TVec::from(input.shape()))?;
        let windows = Windows::of(&self.0, shape.hw_dims());
        let [rows, columns] = windows.as_slice() else { bail!("a picture has two axes") };
        let mut output = Tensor::zero::<f32>(&self.0.output_shape(input.shape())?.shape)?;
        let input = input.try_as_plain_ram()?.as_slice::<f32>()?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let to = plain.as_slice_mut::<f32>()?;
        let mut row = vec![0.0; columns.size];
        let planes = input.chunks_exact((rows.size * columns.size).max(1));
        for (plane, to) in planes.zip(to.chunks_exact_mut((rows.places * columns.places).max(1))) {
            // To look for NaN once costs less than to look at each comparison.
            let spoilt = plane.iter().fold(false, |spoilt, value| spoilt | value.is_nan());
            let maxima = if spoilt { maxima::<true> } else { maxima::<false> };
            maxima(plane, [rows, columns], &mut row, to);
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for MaxPool {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    as_op!();
}

fn maxima<const SPOILT: bool>(plane: &[f32], [rows, columns]: [&Windows; 2], row: &mut [f32], to: &mut [f32]) {
    for (place, to) in to.chunks_exact_mut(columns.places.max(1)).enumerate() {
        row.fill(f32::MIN);
        for cell in 0..rows.kernel {
            let Some(at) = rows.seen(place, cell) else { continue };
            let from = plane.get(at * columns.size..).unwrap_or_default();
            row.iter_mut().zip(from).for_each(|(most, value)| *most = greater::<SPOILT>(*most, *value));
        }
        to.fill(f32::MIN);
        (0..columns.kernel).for_each(|cell| columns.fold::<SPOILT>(cell, row, to));
    }
}

fn greater<const SPOILT: bool>(most: f32, value: f32) -> f32 {
    if most < value || (SPOILT && value.is_nan()) { value } else { most }
}

impl Windows {
    /// Takes one cell of each window into its maximum.
    fn fold<const SPOILT: bool>(&self, cell: usize, row: &[f32], to: &mut [f32]) {
        let shift = cell * self.dilation;
        // The first window that reaches the row with this cell.
        let first = self.before.saturating_sub(shift).div_ceil(self.stride);
        let from = row.get((first * self.stride + shift).saturating_sub(self.before)..).unwrap_or_default();
        let to = to.get_mut(first..).unwrap_or_default().iter_mut();
        match self.stride {
            1 => to.zip(from).for_each(|(most, value)| *most = greater::<SPOILT>(*most, *value)),
            2 => {
                let (pairs, last) = from.as_chunks::<2>();
                let values = pairs.iter().map(|[first, _]| first).chain(last);
                to.zip(values).for_each(|(most, value)| *most = greater::<SPOILT>(*most, *value));
            }
            stride => {
                to.zip(from.iter().step_by(stride)).for_each(|(most, value)| *most = greater::<SPOILT>(*most, *value));
            }
        }
    }
}
