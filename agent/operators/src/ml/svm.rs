//! `SVMClassifier` and `SVMRegressor`: libsvm's models, and linear ones. In binary32, as ONNX Runtime has them.

use super::attributes::Attributes;
use super::coupling::{couple, pairwise};
use super::kernel::{Fact, FromNode, Kernel};
use super::linear::{argmax, args_1_ref};
use super::post::Post;
use super::real::{dot, squared_distance};
use super::rows::{self, Features};
use super::scalars::{Scalars, labels, numbers};
use tract_onnx::tract_hir::internal::*;

#[derive(Debug, Clone, Copy)]
enum Shape {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

/// A function of two vectors.
#[derive(Debug, Clone, Copy)]
struct Similarity {
    shape: Shape,
    gamma: f32,
    coef0: f32,
    degree: f32,
}

impl Similarity {
    fn of(attributes: &Attributes<'_>) -> TractResult<Self> {
        let shape = match attributes.text("kernel_type")?.as_deref() {
            None | Some("LINEAR" | "") => Shape::Linear,
            Some("POLY") => Shape::Poly,
            Some("RBF") => Shape::Rbf,
            Some("SIGMOID") => Shape::Sigmoid,
            Some(other) => return attributes.unexpected("kernel_type", other),
        };
        let (gamma, coef0, degree) = match attributes.floats_or_empty("kernel_params")?.as_slice() {
            [] => (0.0, 0.0, 0.0),
            [gamma, coef0, degree] => (*gamma, *coef0, *degree),
            other => bail!("attribute `kernel_params` has {} values instead of gamma, coef0, degree", other.len()),
        };
        Ok(Self { shape, gamma, coef0, degree })
    }

    fn between(self, a: &[f32], b: &[f32]) -> f32 {
        match self.shape {
            Shape::Linear => dot(a, b),
            Shape::Poly => self.gamma.mul_add(dot(a, b), self.coef0).powf(self.degree),
            Shape::Sigmoid => self.gamma.mul_add(dot(a, b), self.coef0).tanh(),
            Shape::Rbf => (-self.gamma * squared_distance(a, b)).exp(),
        }
    }
}

/// Support vectors, `[count, features]`.
#[derive(Debug)]
struct Vectors {
    values: Vec<f32>,
    features: usize,
    similarity: Similarity,
}

impl Vectors {
    fn new(values: Vec<f32>, count: usize, similarity: Similarity) -> TractResult<Self> {
        ensure!(
            count > 0 && !values.is_empty() && values.len().is_multiple_of(count),
            "{} values in `support_vectors` for {count} vectors",
            values.len()
        );
        let features = values.len() / count;
        Ok(Self { values, features, similarity })
    }

    fn similar(&self, row: &[f32], into: &mut Vec<f32>) {
        into.clear();
        into.extend(rows::of(&self.values, self.features).map(|vector| self.similarity.between(row, vector)));
    }
}

#[derive(Debug)]
pub(super) struct SvmClassifier {
    labels: Scalars,
    machine: Machine,
    post: Post,
    all_positive: bool,
}

#[derive(Debug)]
enum Machine {
    /// One function per class, `[classes, features]`, with one offset for all.
    Linear { weights: Vec<f32>, features: usize, rho: f32 },
    /// One function per pair of classes.
    Pairs {
        vectors: Vectors,
        /// Where each class's vectors begin, and how many there are.
        spans: Vec<(usize, usize)>,
        /// `[classes - 1, vectors]`
        coefficients: Vec<f32>,
        /// By pair: (0,1), (0,2), ..., (1,2), ...
        rho: Vec<f32>,
        /// Platt's (a, b) by pair, where probabilities were fitted.
        platt: Option<Vec<(f32, f32)>>,
    },
}

/// Most classes: pairs of them are counted.
const MAX_CLASSES: usize = 4096;

impl FromNode for SvmClassifier {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let labels = labels(attributes.list("classlabels_ints")?, attributes.list("classlabels_strings")?)?;
        let classes = labels.len();
        ensure!((2..=MAX_CLASSES).contains(&classes), "{classes} classes; 2 to {MAX_CLASSES} are supported");
        let coefficients = attributes.floats("coefficients")?;
        let rho = attributes.floats("rho")?;
        let all_positive = coefficients.iter().all(|value| *value >= 0.0);
        let post = Post::of(attributes)?;
        let counts: Vec<i64> = attributes.list_or_empty("vectors_per_class")?;
        let mut spans = Vec::with_capacity(counts.len());
        let mut total = 0_usize;
        for count in counts {
            let Ok(count) = usize::try_from(count) else { return attributes.unexpected("vectors_per_class", count) };
            spans.push((total, count));
            total = total.checked_add(count).ok_or_else(|| format_err!("attribute `vectors_per_class` overflows"))?;
        }
        if total == 0 {
            ensure!(
                coefficients.len().is_multiple_of(classes),
                "{} coefficients are no multiple of {classes} classes",
                coefficients.len()
            );
            let features = coefficients.len() / classes;
            let machine = Machine::Linear { weights: coefficients, features, rho: rho.first().copied().unwrap_or(0.0) };
            return Ok(Self { labels, machine, post, all_positive });
        }
        attributes.check_len("vectors_per_class", spans.len(), classes)?;
        let pairs = classes * (classes - 1) / 2;
        let expected = (classes - 1).checked_mul(total).ok_or_else(|| format_err!("too many support vectors"))?;
        attributes.check_len("coefficients", coefficients.len(), expected)?;
        attributes.check_len("rho", rho.len(), pairs)?;
        let (a, b) = (attributes.floats_or_empty("prob_a")?, attributes.floats_or_empty("prob_b")?);
        let platt = if a.is_empty() && b.is_empty() {
            None
        } else {
            attributes.check_len("prob_a", a.len(), pairs)?;
            attributes.check_len("prob_b", b.len(), pairs)?;
            Some(a.into_iter().zip(b).collect())
        };
        let vectors = Vectors::new(attributes.floats("support_vectors")?, total, Similarity::of(attributes)?)?;
        let machine = Machine::Pairs { vectors, spans, coefficients, rho, platt };
        Ok(Self { labels, machine, post, all_positive })
    }
}

impl SvmClassifier {
    fn features(&self) -> usize {
        match &self.machine {
            Machine::Linear { features, .. } => *features,
            Machine::Pairs { vectors, .. } => vectors.features,
        }
    }

    /// Scores are by class, or by pair of classes where there are no probabilities and more than two classes.
    fn columns(&self) -> usize {
        let classes = self.labels.len();
        match &self.machine {
            Machine::Pairs { platt: None, .. } if classes > 2 => classes * (classes - 1) / 2,
            _ => classes,
        }
    }

    /// Appends one row of scores and returns the class.
    fn score(&self, row: &[f32], scratch: &mut Vec<f32>, scores: &mut Vec<f32>) -> usize {
        let start = scores.len();
        match &self.machine {
            Machine::Linear { weights, features, rho } => {
                scores.extend(rows::of(weights, *features).map(|weights| dot(row, weights) + rho));
                let own = scores.split_at_mut(start).1;
                let best = argmax(own);
                let largest = own.get(best).copied().unwrap_or(0.0);
                self.post.apply(own);
                let positive = if self.all_positive { largest >= 0.5 } else { largest > 0.0 };
                if self.labels.len() == 2 && positive { 1 } else { best }
            }
            Machine::Pairs { vectors, spans, coefficients, rho, platt } => {
                vectors.similar(row, scratch);
                let count = scratch.len();
                let decisions = decisions(scratch, spans, |class| {
                    coefficients.get(class * count..).and_then(|rest| rest.get(..count)).unwrap_or_default()
                });
                let decisions: Vec<f32> = decisions.zip(rho).map(|(sum, rho)| single(sum + f64::from(*rho))).collect();
                let winner = winner(&decisions, spans.len());
                match platt {
                    Some(platt) => {
                        scores.extend(couple(&pairwise(&decisions, platt, spans.len()), spans.len()));
                        self.post.apply(scores.split_at_mut(start).1);
                    }
                    None => self.push_decisions(&decisions, start, scores),
                }
                winner
            }
        }
    }

    /// Two classes have one decision, of which two scores are made.
    fn push_decisions(&self, decisions: &[f32], start: usize, scores: &mut Vec<f32>) {
        match decisions {
            [alone] => scores.extend(match self.post {
                Post::None => [-alone, *alone],
                Post::Logistic => [super::post::logistic(-alone), super::post::logistic(*alone)],
                _ => [1.0 - alone, *alone],
            }),
            several => {
                scores.extend(several);
                self.post.apply(scores.split_at_mut(start).1);
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to binary32 is meant")]
fn single(value: f64) -> f32 {
    value as f32
}

/// The sum for each pair of classes, without offset: the vectors of the one weighed against the other, and the reverse.
fn decisions<'a>(
    similar: &'a [f32],
    spans: &'a [(usize, usize)],
    coefficients: impl Fn(usize) -> &'a [f32] + Copy + 'a,
) -> impl Iterator<Item = f64> + 'a {
    let weigh = move |(start, count): (usize, usize), against: usize| -> f64 {
        let part = |all: &'a [f32]| all.get(start..start + count).unwrap_or_default();
        let products = part(coefficients(against)).iter().zip(part(similar)).map(|(a, b)| f64::from(a * b));
        products.sum()
    };
    spans.iter().enumerate().flat_map(move |(i, first)| {
        // A class has no row against itself, so rows of later classes begin one earlier.
        let others = spans.iter().enumerate().skip(i + 1);
        others.map(move |(j, second)| weigh(*first, j - 1) + weigh(*second, i))
    })
}

/// The class with the most pairs won; the first of equals.
fn winner(decisions: &[f32], classes: usize) -> usize {
    let mut votes = vec![0_u32; classes];
    let pairs = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j)));
    for ((i, j), decision) in pairs.zip(decisions) {
        if let Some(votes) = votes.get_mut(if *decision > 0.0 { i } else { j }) {
            *votes += 1;
        }
    }
    let most = votes.iter().copied().max().unwrap_or(0);
    votes.iter().position(|votes| *votes == most).unwrap_or(0)
}

impl Kernel for SvmClassifier {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = rows::expect(inputs, Features::Exactly(self.features()))?;
        let scores = Fact::new(f32::datum_type(), [rows.clone(), self.columns().to_dim()]);
        Ok(tvec![Fact::new(self.labels.dtype(), [rows]), scores])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let (rows, features) = rows::sizes(input.shape(), Features::Exactly(self.features()))?;
        let values = numbers::<f32>(input)?;
        let mut scores = Vec::with_capacity(rows * self.columns());
        let mut scratch = Vec::new();
        let best: Vec<Option<usize>> =
            rows::of(&values, features).map(|row| Some(self.score(row, &mut scratch, &mut scores))).collect();
        let labels = self.labels.take(&best, &self.labels, &[rows])?;
        Ok(tvec![labels.into_tvalue(), Tensor::from_shape(&[rows, self.columns()], &scores)?.into_tvalue()])
    }
}

#[derive(Debug)]
pub(super) struct SvmRegressor {
    /// Without support vectors, the weights are the one vector.
    vectors: Vectors,
    coefficients: Vec<f32>,
    rho: f32,
    one_class: bool,
    post: Post,
}

impl FromNode for SvmRegressor {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let coefficients = attributes.floats("coefficients")?;
        let rho = attributes.floats("rho")?.first().copied().unwrap_or(0.0);
        let one_class = attributes.int("one_class")?.unwrap_or(0) != 0;
        let post = Post::of(attributes)?;
        let count = attributes.int("n_supports")?.unwrap_or(0);
        let similarity = Similarity::of(attributes)?;
        let (vectors, coefficients) = match usize::try_from(count) {
            Ok(0) => (Vectors::new(coefficients, 1, Similarity { shape: Shape::Linear, ..similarity })?, vec![1.0]),
            Ok(count) => {
                attributes.check_len("coefficients", coefficients.len(), count)?;
                (Vectors::new(attributes.floats("support_vectors")?, count, similarity)?, coefficients)
            }
            Err(_) => return attributes.unexpected("n_supports", count),
        };
        Ok(Self { vectors, coefficients, rho, one_class, post })
    }
}

impl Kernel for SvmRegressor {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = rows::expect(inputs, Features::Exactly(self.vectors.features))?;
        Ok(tvec![Fact::new(f32::datum_type(), [rows, 1.into()])])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let (rows, features) = rows::sizes(input.shape(), Features::Exactly(self.vectors.features))?;
        let values = numbers::<f32>(input)?;
        let mut similar = Vec::new();
        let mut scores = Vec::with_capacity(rows);
        for row in rows::of(&values, features) {
            self.vectors.similar(row, &mut similar);
            let mut score = [dot(&similar, &self.coefficients) + self.rho];
            self.post.apply_to_targets(&mut score);
            let [score] = score;
            scores.push(if !self.one_class {
                score
            } else if score > 0.0 {
                1.0
            } else {
                -1.0
            });
        }
        Ok(tvec![Tensor::from_shape(&[rows, 1], &scores)?.into_tvalue()])
    }
}
