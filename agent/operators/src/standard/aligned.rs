//! `Resize` with aligned corners: the first and the last place of an axis lie on the first and the last before. It goes by
//! whole sizes, as ONNX Runtime and PyTorch do: 10 times 1.75 is 17, and the last of these 17 places lies on the last of the
//! 10; tract goes by 17.5.

use crate::ml::kernel::{Fact, Kernel, operation};
use tract_onnx::tract_core::ops::nn::resize::{self, CoordTransformer, Interpolator};
use tract_onnx::tract_hir::internal::*;
use tract_onnx_opl::resize::{CoordTransform, Nearest, Resize};

/// Puts ours into the place of tract's, where sizes are known.
pub(crate) fn replace(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        if let Some(aligned) = Aligned::of(model, model.node(id))? {
            let node = model.node(id);
            let inputs: TVec<OutletId> = node.inputs.iter().take(1).copied().collect();
            let operator = operation("AlignedResize", aligned, 1);
            TypedModelPatch::replace_single_op(model, node, &inputs, operator)?.apply(model)?;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Aligned {
    interpolator: Interpolator,
    nearest: Nearest,
    /// The coefficient of cubic interpolation.
    coefficient: f32,
    exclude_outside: bool,
    antialias: bool,
    /// By axis.
    sizes: Vec<usize>,
}

impl Aligned {
    fn of(model: &TypedModel, node: &TypedNode) -> TractResult<Option<Self>> {
        // tract takes its own operator where that is enough, and that of ONNX else.
        let (transformer, aligned) = if let Some(op) = node.op_as::<resize::Resize>() {
            let nearest = match op.nearest {
                resize::Nearest::Floor => Nearest::Floor,
                resize::Nearest::RoundPreferCeil => Nearest::RoundPreferCeil,
            };
            let interpolator = op.interpolator.clone();
            let aligned = Self {
                interpolator,
                nearest,
                coefficient: -0.75,
                exclude_outside: false,
                antialias: false,
                sizes: Vec::new(),
            };
            (op.coord_transformer.clone(), aligned)
        } else if let Some(op) = node.op_as::<Resize>() {
            let CoordTransform::Plain(transformer) = &op.coord_transformer else { return Ok(None) };
            let aligned = Self {
                interpolator: op.interpolator.clone(),
                nearest: op.nearest,
                coefficient: op.cubic_coeff_a(),
                exclude_outside: op.exclude_outside,
                antialias: op.antialias,
                sizes: Vec::new(),
            };
            (transformer.clone(), aligned)
        } else {
            return Ok(None);
        };
        let input = node.inputs.first().context("no input")?;
        let before = model.outlet_fact(*input)?.shape.as_concrete();
        let after = node.outputs.first().and_then(|output| output.fact.shape.as_concrete());
        Ok(match (transformer, before, after) {
            (CoordTransformer::AlignCorners, Some(_), Some(sizes)) => Some(Self { sizes: sizes.to_vec(), ..aligned }),
            _ => None,
        })
    }

    /// What each place along an axis is made of.
    fn plan(&self, before: usize, after: usize) -> resize::AxisPlan {
        #[allow(clippy::cast_precision_loss, reason = "rounded to binary32, as in ONNX Runtime")]
        let real = |size: usize| size as f32;
        let scale = real(after) / real(before.max(1));
        let place = |at: usize| {
            let last = after.saturating_sub(1);
            Some(if last == 0 { 0.0 } else { real(at) * real(before.saturating_sub(1)) / real(last) })
        };
        let window = resize::window_size(&self.interpolator, self.antialias, scale);
        let (antialias, exclude) = (self.antialias, self.exclude_outside);
        match self.interpolator {
            Interpolator::Linear => resize::plan_axis(before, after, window, exclude, place, |right, weights| {
                resize::linear_weights(right, scale, antialias, weights);
            }),
            Interpolator::Cubic => resize::plan_axis(before, after, window, exclude, place, |right, weights| {
                resize::cubic_weights(right, scale, self.coefficient, antialias, weights);
            }),
            Interpolator::Nearest => resize::plan_axis(before, after, window, exclude, place, |right, weights| {
                let right = if self.takes_right(right) { [0.0, 1.0] } else { [1.0, 0.0] };
                weights.iter_mut().zip(right).for_each(|(weight, right)| *weight = right);
            }),
        }
    }

    /// Whether the nearest of two places is the right one, which lies so far from the left one; a whole place is a right one.
    fn takes_right(&self, right: f32) -> bool {
        right >= 1.0
            || match self.nearest {
                Nearest::Floor => false,
                Nearest::Ceil => true,
                Nearest::RoundPreferFloor => right > 0.5,
                Nearest::RoundPreferCeil => right >= 0.5,
            }
    }
}

impl Kernel for Aligned {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        ensure!(x.shape.len() == self.sizes.len(), "{} axes, {} sizes", x.shape.len(), self.sizes.len());
        Ok(tvec![Fact::new(x.dtype, self.sizes.iter().map(ToDim::to_dim))])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let wide = x.cast_to::<f32>()?;
        let mut shape = wide.shape().to_vec();
        let mut values = wide.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        for (axis, after) in self.sizes.iter().enumerate() {
            let before = *shape.get(axis).context("no such axis")?;
            if before == *after {
                continue;
            }
            let plan = self.plan(before, *after);
            let mut resampled = vec![0.0; values.len() / before.max(1) * after];
            resize::resample_axis(&values, &shape, axis, &plan, 0.0, &mut resampled);
            values = resampled;
            if let Some(size) = shape.get_mut(axis) {
                *size = *after;
            }
        }
        let out = Tensor::from_shape(&shape, &values)?;
        Ok(tvec![out.cast_to_dt(x.datum_type())?.into_owned().into_tvalue()])
    }
}
