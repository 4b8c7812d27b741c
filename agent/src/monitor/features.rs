//! Which numbers of a request are measured for drift, by name. Pure, and the same when a bundle is packed.
//!
//! | input of the model | measured per row |
//! |---|---|
//! | tabular (declared) | each feature, by its name |
//! | image (declared) | light, contrast, sharpness, colour on the 0..=255 scale, as `image.brightness` and so on |
//! | `[N]`, `[N, F]`, `[F]` with F at most [`MAX_COLUMNS`] | each column, as `input` or `input.3` |
//! | anything else | `input.mean`, `input.std`, `input.min`, `input.max` |
//!
//! The first axis counts rows when it is symbolic or 1. NaN is passed on; the histograms count it apart.

use super::image::ImageMeasures;
use fieldpost_shared::bundle::manifest::Preprocess;
use fieldpost_shared::bundle::{Dim, Manifest, Tensor, TensorSpec};

/// Columns of one undeclared input that are measured each by itself.
pub const MAX_COLUMNS: usize = 64;

/// The measured features of one release: names in the order that [`Features::measure`] numbers them.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    names: Vec<String>,
    sources: Vec<Source>,
}

/// How one input becomes features; `first` is the index of its first one.
#[derive(Debug, Clone, PartialEq)]
struct Source {
    input: usize,
    first: usize,
    batched: bool,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Columns(usize),
    Image(ImageMeasures),
    Summary,
}

impl Features {
    /// What is measured of a release.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let mut features = Self { names: Vec::new(), sources: Vec::new() };
        for (input, spec) in manifest.inputs.iter().enumerate() {
            let (kind, names) = kind_of(spec, &manifest.preprocess);
            let first = features.names.len();
            features.sources.push(Source { input, first, batched: is_batched(spec), kind });
            features.names.extend(names);
        }
        features
    }

    /// Names by index.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Every value of every row as (feature index, value), in no promised order of features.
    /// `inputs` are the model's, in the manifest's order; what does not fit the contract is passed over.
    pub fn measure(&self, inputs: &[Tensor], mut sink: impl FnMut(usize, f64)) {
        for source in &self.sources {
            let Some(tensor) = inputs.get(source.input) else { continue };
            let values = tensor.to_f64();
            let rows = if source.batched { tensor.shape.first().copied().unwrap_or(1) } else { 1 };
            let Some(width) = values.len().checked_div(rows).filter(|width| *width > 0) else { continue };
            let mut offer = |offset: usize, value: f64| sink(source.first.saturating_add(offset), value);
            for row in values.chunks_exact(width) {
                match &source.kind {
                    Kind::Columns(columns) => {
                        row.iter().take(*columns).enumerate().for_each(|(i, value)| offer(i, *value));
                    }
                    Kind::Image(measures) => {
                        measures.of_row(row).into_iter().enumerate().for_each(|(i, value)| offer(i, value));
                    }
                    Kind::Summary => summary(row).into_iter().enumerate().for_each(|(i, value)| offer(i, value)),
                }
            }
        }
    }

    /// All values of some requests by feature: what a baseline is made of.
    #[must_use]
    pub fn collect<'a>(&self, requests: impl IntoIterator<Item = &'a [Tensor]>) -> Vec<Vec<f64>> {
        let mut columns = vec![Vec::new(); self.names.len()];
        for inputs in requests {
            self.measure(inputs, |feature, value| {
                if let Some(column) = columns.get_mut(feature) {
                    column.push(value);
                }
            });
        }
        columns
    }
}

fn kind_of(spec: &TensorSpec, preprocess: &Preprocess) -> (Kind, Vec<String>) {
    match preprocess {
        Preprocess::Tabular(tabular) if tabular.tensor == spec.name => {
            let columns = tabular.columns();
            (Kind::Columns(columns.len()), columns)
        }
        Preprocess::Image(image) if image.tensor == spec.name => {
            let measures = ImageMeasures::new(image);
            let names = measures.names();
            (Kind::Image(measures), names)
        }
        _ => match columns_of(spec) {
            Some(1) => (Kind::Columns(1), vec![spec.name.clone()]),
            Some(columns) => (Kind::Columns(columns), (0..columns).map(|i| format!("{}.{i}", spec.name)).collect()),
            None => {
                (Kind::Summary, ["mean", "std", "min", "max"].map(|measure| format!("{}.{measure}", spec.name)).into())
            }
        },
    }
}

/// Numbers in one row, when each is measured by itself.
fn columns_of(spec: &TensorSpec) -> Option<usize> {
    let row = if is_batched(spec) { spec.shape.get(1..)? } else { &spec.shape };
    let columns = match row {
        [] => 1,
        [Dim::Fixed(size)] => usize::try_from(*size).ok()?,
        _ => return None,
    };
    (1..=MAX_COLUMNS).contains(&columns).then_some(columns)
}

fn is_batched(spec: &TensorSpec) -> bool {
    matches!(spec.shape.first(), Some(Dim::Symbol(_) | Dim::Fixed(1)))
}

/// Mean, standard deviation, least and greatest of a row; a NaN makes the first two NaN.
fn summary(row: &[f64]) -> [f64; 4] {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    let (min, max) = row.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    [mean, variance.sqrt(), min, max]
}

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
