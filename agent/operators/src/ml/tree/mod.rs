//! Tree ensembles: `TreeEnsembleClassifier`, `TreeEnsembleRegressor` (versions 1 and 3), `TreeEnsemble` (version 5).
//!
//! ```text
//! attributes --lists|version5--> Declared --check--> Forest (flat nodes) --walk--> Scores --finish--> outputs
//! ```

mod declared;
mod finish;
mod forest;
mod lists;
mod version5;
mod walk;

use self::declared::Declared;
use self::finish::{Classification, Regression};
use self::forest::Forest;
use self::lists::Prefix;
use self::walk::Fold;
use super::attributes::Attributes;
use super::kernel::{Fact, FromNode, Kernel};
use super::linear::args_1_ref;
use super::post::Post;
use super::real::Real;
use super::rows::{self, Features};
use super::scalars::{Scalars, labels, numbers};
use tract_onnx::tract_hir::internal::*;

/// What becomes of the sums.
#[derive(Debug, Clone)]
enum Ending {
    Regression(Regression),
    Classification(Classification, Scalars),
}

/// What all forms of an ensemble share.
#[derive(Debug, Clone)]
struct Task {
    ending: Ending,
    fold: Fold,
    targets: usize,
    features: usize,
    /// Scores are of the input's type (version 5); else binary32.
    typed: bool,
}

impl Task {
    fn scores_type(&self, input: DatumType) -> DatumType {
        if self.typed { input } else { f32::datum_type() }
    }

    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = rows::expect(inputs, Features::AtLeast(self.features))?;
        let input = inputs.first().map_or(f32::datum_type(), |input| input.dtype);
        ensure!(!self.typed || input.is_float(), "floating-point numbers are expected, the input is {input:?}");
        let scores = Fact::new(self.scores_type(input), [rows.clone(), self.targets.to_dim()]);
        Ok(match &self.ending {
            Ending::Regression(_) => tvec![scores],
            Ending::Classification(_, labels) => tvec![Fact::new(labels.dtype(), [rows]), scores],
        })
    }
}

/// An ensemble before the type of its input is known.
#[derive(Debug)]
struct Pending {
    declared: Declared,
    task: Task,
}

impl Pending {
    fn new(declared: Declared, ending: Ending, fold: Fold, typed: bool) -> Self {
        let (targets, features) = (declared.targets, declared.features());
        Self { declared, task: Task { ending, fold, targets, features, typed } }
    }
}

impl Kernel for Pending {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        self.task.outputs(inputs)
    }

    fn run(&self, _inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        bail!("an ensemble runs once the type of its input is known")
    }

    /// In binary64 where the input or the thresholds are.
    fn for_inputs(&self, types: &[DatumType]) -> TractResult<Option<Arc<dyn Kernel>>> {
        let task = self.task.clone();
        Ok(Some(if self.declared.double || types.first() == Some(&f64::datum_type()) {
            Arc::new(Ensemble { forest: Forest::<f64>::new(&self.declared)?, task })
        } else {
            Arc::new(Ensemble { forest: Forest::<f32>::new(&self.declared)?, task })
        }))
    }
}

/// An ensemble that runs.
#[derive(Debug)]
struct Ensemble<T> {
    forest: Forest<T>,
    task: Task,
}

impl<T: Real> Kernel for Ensemble<T> {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        self.task.outputs(inputs)
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let (rows, width) = rows::sizes(input.shape(), Features::AtLeast(self.task.features))?;
        let features = numbers::<T>(input)?;
        let mut scores = self.forest.score(&features, width, rows, self.task.fold);
        let targets = self.task.targets;
        let mut outputs = tvec![];
        match &self.task.ending {
            Ending::Regression(regression) => regression.finish(&mut scores, targets),
            Ending::Classification(classification, labels) => {
                let best = classification.finish(&mut scores, targets);
                outputs.push(labels.take(&best, labels, &[rows])?.into_tvalue());
            }
        }
        let tensor = Tensor::from_shape(&[rows, targets], &scores.values)?;
        let wanted = self.task.scores_type(input.datum_type());
        let tensor = if wanted == T::datum_type() { tensor } else { tensor.cast_to_dt(wanted)?.into_owned() };
        outputs.push(tensor.into_tvalue());
        Ok(outputs)
    }
}

fn base_values(attributes: &Attributes<'_>) -> TractResult<(Vec<f64>, bool)> {
    Ok(attributes.reals("base_values")?.map(|base| (base.values, base.double)).unwrap_or_default())
}

macro_rules! ensemble {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name(Pending);

        impl Kernel for $name {
            fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
                self.0.outputs(inputs)
            }

            fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
                self.0.run(inputs)
            }

            fn for_inputs(&self, types: &[DatumType]) -> TractResult<Option<Arc<dyn Kernel>>> {
                self.0.for_inputs(types)
            }
        }
    };
}

ensemble!(
    /// Labels and scores, `[rows]` and `[rows, classes]`.
    TreeEnsembleClassifier
);
ensemble!(
    /// Scores, `[rows, targets]`.
    TreeEnsembleRegressor
);
ensemble!(
    /// Version 5: scores, `[rows, targets]`, of the input's type.
    TreeEnsemble
);

impl FromNode for TreeEnsembleClassifier {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let labels = labels(attributes.list("classlabels_int64s")?, attributes.list("classlabels_strings")?)?;
        let classes = declared::targets("classlabels", i64::try_from(labels.len())?)?;
        let mut declared = lists::read(attributes, Prefix::Class, classes)?;
        let (base, double) = base_values(attributes)?;
        declared.double |= double;
        let weights = declared.weights.all();
        let first = weights.first().map(|(target, _)| *target).filter(|_| classes == 2);
        let classification = Classification {
            base,
            post: Post::of(attributes)?,
            only: first.filter(|first| weights.iter().all(|(target, _)| target == first)).map(|first| first as usize),
            all_positive: weights.iter().all(|(_, weight)| *weight >= 0.0),
        };
        classification.check(classes)?;
        Ok(Self(Pending::new(declared, Ending::Classification(classification, labels), Fold::Sum, false)))
    }
}

impl FromNode for TreeEnsembleRegressor {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let targets = declared::targets("n_targets", attributes.int("n_targets")?.unwrap_or(1))?;
        let mut declared = lists::read(attributes, Prefix::Target, targets)?;
        let fold = match attributes.text("aggregate_function")?.as_deref() {
            None | Some("SUM" | "") => Fold::Sum,
            Some("AVERAGE") => Fold::Average,
            Some("MIN") => Fold::Min,
            Some("MAX") => Fold::Max,
            Some(other) => return attributes.unexpected("aggregate_function", other),
        };
        let (base, double) = base_values(attributes)?;
        declared.double |= double;
        let regression = Regression { base, fold, post: Post::of(attributes)?, trees: declared.roots.len() };
        regression.check(targets)?;
        Ok(Self(Pending::new(declared, Ending::Regression(regression), fold, false)))
    }
}

impl FromNode for TreeEnsemble {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let declared = version5::read(attributes)?;
        let fold = match attributes.int("aggregate_function")?.unwrap_or(1) {
            0 => Fold::Average,
            1 => Fold::Sum,
            2 => Fold::Min,
            3 => Fold::Max,
            other => return attributes.unexpected("aggregate_function", other),
        };
        let post = Post::numbered(attributes)?;
        let regression = Regression { base: Vec::new(), fold, post, trees: declared.roots.len() };
        Ok(Self(Pending::new(declared, Ending::Regression(regression), fold, true)))
    }
}
