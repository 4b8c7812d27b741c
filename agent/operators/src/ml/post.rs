//! What turns scores into answers: the attribute `post_transform`.

use super::attributes::Attributes;
use super::real::Real;
use tract_onnx::tract_hir::internal::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Post {
    /// The attribute as a text, `NONE` when left out.
    pub(super) fn of(attributes: &Attributes<'_>) -> TractResult<Self> {
        Ok(match attributes.text("post_transform")?.as_deref() {
            None | Some("NONE" | "") => Self::None,
            Some("SOFTMAX") => Self::Softmax,
            Some("LOGISTIC") => Self::Logistic,
            Some("SOFTMAX_ZERO") => Self::SoftmaxZero,
            Some("PROBIT") => Self::Probit,
            Some(other) => return attributes.unexpected("post_transform", other),
        })
    }

    /// The attribute as a number, as version 5 of the tree operators has it.
    pub(super) fn numbered(attributes: &Attributes<'_>) -> TractResult<Self> {
        Ok(match attributes.int("post_transform")? {
            None | Some(0) => Self::None,
            Some(1) => Self::Softmax,
            Some(2) => Self::Logistic,
            Some(3) => Self::SoftmaxZero,
            Some(4) => Self::Probit,
            Some(other) => return attributes.unexpected("post_transform", other),
        })
    }

    /// Transforms one row of a regression: a single score by PROBIT alone, as ONNX Runtime does.
    pub(super) fn apply_to_targets<T: Real>(self, scores: &mut [T]) {
        if scores.len() > 1 || self == Self::Probit {
            self.apply(scores);
        }
    }

    /// Transforms one row.
    pub(super) fn apply<T: Real>(self, scores: &mut [T]) {
        match self {
            Self::None => {}
            Self::Softmax => softmax(scores, |_| true),
            // Scores of nothing stay nothing (exp(0) is not).
            Self::SoftmaxZero => softmax(scores, |score: T| score.abs() > T::of(1e-7)),
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }
}

fn softmax<T: Real>(scores: &mut [T], counts: impl Fn(T) -> bool) {
    let largest =
        scores.iter().copied().fold(T::LOWEST, |largest, score| if score > largest { score } else { largest });
    let mut sum = T::default();
    for score in scores.iter_mut() {
        *score = if counts(*score) { (*score - largest).exp() } else { T::default() };
        sum += *score;
    }
    // Nothing but zeros, under SOFTMAX_ZERO: they stay.
    if sum != T::default() {
        scores.iter_mut().for_each(|score| *score = *score / sum);
    }
}

/// 1 / (1 + exp(-x)), without overflow.
pub(super) fn logistic<T: Real>(value: T) -> T {
    let one = T::of(1.0);
    let positive = one / (one + (-value.abs()).exp());
    if value < T::default() { one - positive } else { positive }
}

/// The quantile of the normal distribution by Winitzki's approximation (a = 0.147) of the inverse error function. It is
/// what ONNX Runtime computes, in binary32 too; it is off by up to 2e-3 relatively. Outside of (0, 1) NaN or infinite.
fn probit<T: Real>(value: T) -> T {
    let x = narrow(value) * 2.0 - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / (std::f32::consts::PI * 0.147) + 0.5 * log;
    let root = ((half * half - log / 0.147).sqrt() - half).sqrt();
    T::of(f64::from(std::f32::consts::SQRT_2 * if x < 0.0 { -root } else { root }))
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to binary32 is meant")]
fn narrow<T: Real>(value: T) -> f32 {
    value.wide() as f32
}
