//! `LinearClassifier` and `LinearRegressor`. In binary32, as ONNX has it.

use super::attributes::Attributes;
use super::kernel::{Fact, FromNode, Kernel};
use super::post::{Post, logistic};
use super::real::dot;
use super::rows::{self, Features};
use super::scalars::{Scalars, labels, numbers};
use tract_onnx::tract_hir::internal::*;

/// `rows x features` times `targets x features`, and an intercept.
#[derive(Debug, Clone)]
struct Affine {
    /// `[targets, features]`
    coefficients: Vec<f32>,
    /// One per target.
    intercepts: Vec<f32>,
    features: usize,
}

impl Affine {
    fn new(coefficients: Vec<f32>, intercepts: Vec<f32>, targets: usize) -> TractResult<Self> {
        ensure!(
            targets > 0 && targets <= coefficients.len(),
            "{targets} targets for {} coefficients",
            coefficients.len()
        );
        ensure!(
            coefficients.len().is_multiple_of(targets),
            "{} coefficients are no multiple of {targets} targets",
            coefficients.len()
        );
        ensure!(intercepts.len() == targets, "{} intercepts for {targets} targets", intercepts.len());
        let features = coefficients.len() / targets;
        Ok(Self { coefficients, intercepts, features })
    }

    fn run(&self, row: &[f32]) -> impl Iterator<Item = f32> {
        rows::of(&self.coefficients, self.features)
            .zip(&self.intercepts)
            .map(move |(weights, bias)| dot(row, weights) + bias)
    }
}

#[derive(Debug)]
pub(super) struct LinearClassifier {
    affine: Affine,
    labels: Scalars,
    post: Post,
}

impl LinearClassifier {
    /// One function alone decides between two classes.
    fn is_single(&self) -> bool {
        self.affine.intercepts.len() == 1 && self.labels.len() == 2
    }

    fn columns(&self) -> usize {
        self.labels.len()
    }
}

impl FromNode for LinearClassifier {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let labels = labels(attributes.list("classlabels_ints")?, attributes.list("classlabels_strings")?)?;
        let coefficients = attributes.floats("coefficients")?;
        let mut intercepts = attributes.floats_or_empty("intercepts")?;
        if intercepts.is_empty() {
            intercepts = vec![0.0; labels.len()];
        }
        let targets = intercepts.len();
        ensure!(
            targets == labels.len() || targets == 1 && labels.len() == 2,
            "{targets} intercepts for {} classes",
            labels.len()
        );
        Ok(Self { affine: Affine::new(coefficients, intercepts, targets)?, labels, post: Post::of(attributes)? })
    }
}

impl Kernel for LinearClassifier {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = rows::expect(inputs, Features::Exactly(self.affine.features))?;
        let scores = Fact::new(f32::datum_type(), [rows.clone(), self.columns().to_dim()]);
        Ok(tvec![Fact::new(self.labels.dtype(), [rows]), scores])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let (rows, features) = rows::sizes(input.shape(), Features::Exactly(self.affine.features))?;
        let values = numbers::<f32>(input)?;
        let mut scores: Vec<f32> = Vec::with_capacity(rows * self.columns());
        let mut best = Vec::with_capacity(rows);
        for row in rows::of(&values, features) {
            let start = scores.len();
            scores.extend(self.affine.run(row));
            let own = scores.split_at_mut(start).1;
            if self.is_single() {
                let score = own.first().copied().unwrap_or(0.0);
                best.push(Some(usize::from(score > 0.0)));
                scores.truncate(start);
                scores.extend(single(score, self.post));
            } else {
                best.push(Some(argmax(own)));
                self.post.apply(own);
            }
        }
        let labels = self.labels.take(&best, &self.labels, &[rows])?;
        Ok(tvec![labels.into_tvalue(), Tensor::from_shape(&[rows, self.columns()], &scores)?.into_tvalue()])
    }
}

/// The scores of both classes from the second's. Transforms but LOGISTIC are not applied to a single score, as in ONNX
/// Runtime.
fn single(score: f32, post: Post) -> [f32; 2] {
    if post == Post::Logistic { [logistic(-score), logistic(score)] } else { [1.0 - score, score] }
}

/// The first of the largest; NaN never wins but when it is the first.
pub(super) fn argmax(scores: &[f32]) -> usize {
    let mut best = (0, scores.first().copied().unwrap_or(f32::NAN));
    for (at, score) in scores.iter().enumerate().skip(1) {
        if *score > best.1 {
            best = (at, *score);
        }
    }
    best.0
}

pub(super) fn args_1_ref(inputs: &[TValue]) -> TractResult<&TValue> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("one input is expected, there are {}", inputs.len()),
    }
}

#[derive(Debug)]
pub(super) struct LinearRegressor {
    affine: Affine,
    post: Post,
}

impl FromNode for LinearRegressor {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let targets = attributes.int("targets")?.unwrap_or(1);
        let Ok(targets) = usize::try_from(targets) else { return attributes.unexpected("targets", targets) };
        let coefficients = attributes.floats("coefficients")?;
        let mut intercepts = attributes.floats_or_empty("intercepts")?;
        if intercepts.is_empty() {
            ensure!(targets <= coefficients.len(), "{targets} targets for {} coefficients", coefficients.len());
            intercepts = vec![0.0; targets];
        }
        Ok(Self { affine: Affine::new(coefficients, intercepts, targets)?, post: Post::of(attributes)? })
    }
}

impl Kernel for LinearRegressor {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = rows::expect(inputs, Features::Exactly(self.affine.features))?;
        Ok(tvec![Fact::new(f32::datum_type(), [rows, self.affine.intercepts.len().to_dim()])])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let (rows, features) = rows::sizes(input.shape(), Features::Exactly(self.affine.features))?;
        let values = numbers::<f32>(input)?;
        let targets = self.affine.intercepts.len();
        let mut scores: Vec<f32> = Vec::with_capacity(rows * targets);
        for row in rows::of(&values, features) {
            let start = scores.len();
            scores.extend(self.affine.run(row));
            self.post.apply_to_targets(scores.split_at_mut(start).1);
        }
        Ok(tvec![Tensor::from_shape(&[rows, targets], &scores)?.into_tvalue()])
    }
}
