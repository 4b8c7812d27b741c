//! Binary32 and binary64 alike.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};
use tract_onnx::tract_hir::internal::Datum;

/// A floating-point type that models are computed in.
pub(super) trait Real:
    Datum
    + Copy
    + Debug
    + Default
    + PartialOrd
    + AddAssign
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    const NAN: Self;
    const LOWEST: Self;
    /// Nearest, ties to even.
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    fn nan(self) -> bool;
    fn exp(self) -> Self;
    fn abs(self) -> Self;
    /// The next number towards minus infinity; of the least one itself.
    fn below(self) -> Self;
}

macro_rules! real {
    ($real:ident) => {
        impl Real for $real {
            const NAN: Self = $real::NAN;
            const LOWEST: Self = $real::MIN;

            #[allow(clippy::cast_possible_truncation, reason = "documented: rounds to nearest")]
            #[allow(trivial_numeric_casts, reason = "the macro serves both types")]
            fn of(value: f64) -> Self {
                value as Self
            }

            fn wide(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            fn nan(self) -> bool {
                self.is_nan()
            }

            fn exp(self) -> Self {
                $real::exp(self)
            }

            fn abs(self) -> Self {
                $real::abs(self)
            }

            fn below(self) -> Self {
                self.next_down()
            }
        }
    };
}

real!(f32);
real!(f64);

/// The inner product, in eight partial sums.
pub(super) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [T::default(); 8];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += *a * *b;
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(T::default(), |sum, (a, b)| sum + *a * *b);
    sums.into_iter().fold(rest, Add::add)
}

/// The squared Euclidean distance, in eight partial sums.
pub(super) fn squared_distance<T: Real>(a: &[T], b: &[T]) -> T {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [T::default(); 8];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            let difference = *a - *b;
            *sum += difference * difference;
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(T::default(), |sum, (a, b)| sum + (*a - *b) * (*a - *b));
    sums.into_iter().fold(rest, Add::add)
}
