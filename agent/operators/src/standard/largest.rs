//! The larger and the smaller of numbers, NaN among them: where one is NaN so is the answer, as in numpy and ONNX Runtime.
//! tract takes the other one, and what a model spoils within itself looked like an answer after its next `Relu`.
//!
//! - Element by element, over more than a few numbers: tract looks its routines up in a register, and finds these.
//! - What is left of `Max`, `Min` (so also `Relu` and `Clip`), `ReduceMax`, `ReduceMin` and `GlobalMaxPool` is replaced in the
//!   graph. Of nothing the largest is minus infinity, and the smallest infinity, unless tract worked it out while it read.
//!   Bodies of loops keep what they have of few numbers.
//!
//! What tract joins with a product of matrices keeps NaN already: `vmaxps` gives its last operand, the sum, where one of the
//! two is NaN, and ARM's `fmax` gives NaN.

use crate::ml::kernel::{Fact, Kernel, operation};
use std::fmt::Debug;
use std::marker::PhantomData;
use tract_linalg::isa::IsaReq;
use tract_linalg::routines::{Routine, RoutineFactory};
use tract_linalg::{BinFn, BinOp, Func};
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::math::{Max, Min};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_hir::internal::*;

macro_rules! routine {
    ($factory:ident, $type:ty, $op:ident, $order:ty) => {
        inventory::submit! {
            Routine {
                func: Func::BinByScalar(BinOp::$op),
                arch: None,
                isa: IsaReq::ANY,
                boost: 1,
                round_trip: false,
                factory: RoutineFactory::$factory {
                    name: || concat!(stringify!($op), "OrNanByScalar"),
                    make: by_scalar::<$type, $order>,
                },
            }
        }
        inventory::submit! {
            Routine {
                func: Func::BinUnicast(BinOp::$op),
                arch: None,
                isa: IsaReq::ANY,
                boost: 1,
                round_trip: false,
                factory: RoutineFactory::$factory {
                    name: || concat!(stringify!($op), "OrNanUnicast"),
                    make: unicast::<$type, $order>,
                },
            }
        }
    };
}

routine! { BinF32, f32, Max, Largest }
routine! { BinF32, f32, Min, Smallest }
routine! { BinF16, f16, Max, Largest }
routine! { BinF16, f16, Min, Smallest }

fn by_scalar<T: Real, O: Order>() -> Box<BinFn> {
    Box::new(|a, b| {
        let b = *b.as_slice::<T>()?.first().context("a number is needed")?;
        let a = a.as_slice_mut::<T>()?;
        if b.is_none() {
            a.fill(b);
        } else {
            // One comparison: what is NaN comes before nothing, and stays.
            a.iter_mut().for_each(|a| *a = if O::before(b, *a) { b } else { *a });
        }
        Ok(())
    })
}

fn unicast<T: Real, O: Order>() -> Box<BinFn> {
    Box::new(|a, b| {
        let (a, b) = (a.as_slice_mut::<T>()?, b.as_slice::<T>()?);
        a.iter_mut().zip(b).for_each(|(a, b)| *a = first::<T, O>(*a, *b));
        Ok(())
    })
}

/// Which of two numbers is asked for.
trait Order: Debug + Send + Sync + 'static {
    fn before<T: Real>(one: T, other: T) -> bool;
    /// What is asked for last of all.
    fn last<T: Real>() -> T;
}

#[derive(Debug)]
struct Largest;

#[derive(Debug)]
struct Smallest;

impl Order for Largest {
    #[inline]
    fn before<T: Real>(one: T, other: T) -> bool {
        one > other
    }

    fn last<T: Real>() -> T {
        T::LEAST
    }
}

impl Order for Smallest {
    #[inline]
    fn before<T: Real>(one: T, other: T) -> bool {
        one < other
    }

    fn last<T: Real>() -> T {
        T::MOST
    }
}

trait Real: Datum + Copy + PartialOrd {
    const LEAST: Self;
    const MOST: Self;
    fn is_none(self) -> bool;
}

macro_rules! real {
    ($($type:ty)*) => {$(
        impl Real for $type {
            const LEAST: Self = Self::NEG_INFINITY;
            const MOST: Self = Self::INFINITY;

            #[inline]
            fn is_none(self) -> bool {
                self.is_nan()
            }
        }
    )*};
}

real! { f16 f32 f64 }

/// The one of two that is asked for, NaN where there is one.
#[inline]
fn first<T: Real, O: Order>(kept: T, other: T) -> T {
    if O::before(other, kept) || other.is_none() { other } else { kept }
}

/// Puts these operators where tract has left its own.
pub(crate) fn keep_nan(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        if !model.node_input_facts(id)?.iter().all(|fact| fact.datum_type.is_float()) {
            continue;
        }
        let (pair, fold) = (node.op_as::<TypedBinOp>(), node.op_as::<Reduce>());
        let ours: Box<dyn TypedOp> = match (pair, fold) {
            (Some(pair), _) if pair.0.is::<Max>() => Box::new(operation("MaxOrNan", Pair::<Largest>(PhantomData), 2)),
            (Some(pair), _) if pair.0.is::<Min>() => Box::new(operation("MinOrNan", Pair::<Smallest>(PhantomData), 2)),
            (_, Some(fold)) if fold.reducer == Reducer::Max => Box::new(folding::<Largest>("ReduceMaxOrNan", fold)),
            (_, Some(fold)) if fold.reducer == Reducer::Min => Box::new(folding::<Smallest>("ReduceMinOrNan", fold)),
            _ => continue,
        };
        TypedModelPatch::replace_single_op(model, node, &node.inputs, ours)?.apply(model)?;
    }
    Ok(())
}

fn folding<O: Order>(name: &'static str, fold: &Reduce) -> impl TypedOp + Clone + use<O> {
    operation(name, Fold::<O> { axes: fold.axes.clone(), order: PhantomData }, 1)
}

/// Two tensors of the same rank, with sizes of 1 where one is repeated.
#[derive(Debug)]
struct Pair<O>(PhantomData<O>);

impl<O: Order> Kernel for Pair<O> {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [a, b] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        ensure!(a.dtype == b.dtype, "the inputs are {:?} and {:?}", a.dtype, b.dtype);
        let shape = multi_broadcast(&[&a.shape, &b.shape])?;
        Ok(tvec![Fact::new(a.dtype, shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [a, b] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        match a.datum_type() {
            DatumType::F16 => pair::<f16, O>(a, b),
            DatumType::F32 => pair::<f32, O>(a, b),
            DatumType::F64 => pair::<f64, O>(a, b),
            other => bail!("the input is {other:?}; it must be of real numbers"),
        }
    }
}

fn pair<T: Real, O: Order>(a: &Tensor, b: &Tensor) -> TractResult<TVec<TValue>> {
    let shape = multi_broadcast(&[a.shape(), b.shape()])?;
    let mut out = a.broadcast_to_shape(&shape)?;
    let b = b.to_plain_array_view::<T>()?;
    let mut plain = out.try_as_plain_ram_mut()?;
    let mut values = plain.to_array_view_mut::<T>()?;
    let b = b.broadcast(values.raw_dim()).context("shapes that do not go together")?;
    values.zip_mut_with(&b, |a, b| *a = first::<T, O>(*a, *b));
    Ok(tvec![out.into_tvalue()])
}

/// Over axes, each of which is kept with a size of 1.
#[derive(Debug)]
struct Fold<O> {
    axes: TVec<usize>,
    order: PhantomData<O>,
}

impl<O: Order> Kernel for Fold<O> {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        let mut out = x.clone();
        for axis in &self.axes {
            *out.shape.get_mut(*axis).with_context(|| format!("no axis {axis}"))? = 1.to_dim();
        }
        Ok(tvec![out])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x] = inputs else { bail!("one input is expected, there are {}", inputs.len()) };
        match x.datum_type() {
            DatumType::F16 => self.fold::<f16>(x),
            DatumType::F32 => self.fold::<f32>(x),
            DatumType::F64 => self.fold::<f64>(x),
            other => bail!("the input is {other:?}; it must be of real numbers"),
        }
    }
}

impl<O: Order> Fold<O> {
    fn fold<T: Real>(&self, x: &Tensor) -> TractResult<TVec<TValue>> {
        let mut shape: TVec<usize> = x.shape().into();
        let mut values: Cow<'_, [T]> = Cow::Borrowed(x.try_as_plain_ram()?.as_slice::<T>()?);
        for axis in self.axes.iter().rev() {
            let behind = shape.iter().skip(axis + 1).product();
            let size = shape.get_mut(*axis).with_context(|| format!("no axis {axis}"))?;
            let folded = std::mem::replace(size, 1);
            values = Cow::Owned(over_axis::<T, O>(&values, folded, behind, shape.iter().product()));
        }
        Ok(tvec![Tensor::from_shape(&shape, &values)?.into_tvalue()])
    }
}

/// How many numbers are folded side by side.
const LANES: usize = 16;

fn over_axis<T: Real, O: Order>(values: &[T], size: usize, behind: usize, count: usize) -> Vec<T> {
    let mut out = vec![O::last::<T>(); count];
    if size == 0 || behind == 0 {
        return out;
    }
    if behind == 1 {
        for (out, row) in out.iter_mut().zip(values.chunks_exact(size)) {
            let (chunks, rest) = row.as_chunks::<LANES>();
            let mut lanes = [*out; LANES];
            for chunk in chunks {
                lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane = first::<T, O>(*lane, *value));
            }
            *out = lanes.iter().chain(rest).fold(*out, |kept, value| first::<T, O>(kept, *value));
        }
        return out;
    }
    for (out, block) in out.chunks_exact_mut(behind).zip(values.chunks_exact(size * behind)) {
        for row in block.chunks_exact(behind) {
            out.iter_mut().zip(row).for_each(|(kept, value)| *kept = first::<T, O>(*kept, *value));
        }
    }
    out
}
