//! The last look before users see a model: on this CPU, does it say what it said when it was packed, fast and small enough?

use super::error::InputError;
use super::model::LoadedModel;
use super::prepare::PredictInput;
use fieldpost_shared::bundle::manifest::{Preprocess, Tolerance};
use fieldpost_shared::bundle::{Dtype, GoldenSample, GoldenSet, Tensor};
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::time::Clock;
use fieldpost_shared::wire::v1::FailureKind;
use std::time::Duration;

/// Fewest timed runs: below that a 95th percentile is the maximum.
const MIN_RUNS: usize = 20;
/// Most timed runs.
const MAX_RUNS: usize = 200;
/// Once there are [`MIN_RUNS`], timing ends after this long.
const TIME: Duration = Duration::from_secs(2);
/// Timing ends after this long in any case, with at least one run.
const LONGEST: Duration = Duration::from_secs(60);
/// Runs before the clock counts.
const WARM_UP: usize = 3;

/// What a self-test found, when it found nothing wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTestReport {
    /// Golden samples answered as expected.
    pub samples: usize,
    /// Largest |found - expected| over all golden outputs.
    pub largest_error: f64,
    /// Timed runs.
    pub runs: usize,
    /// Median of one inference.
    pub p50: Duration,
    /// 95th percentile of one inference (nearest rank).
    pub p95: Duration,
    /// Growth of resident memory since before loading, MiB; `None` where the system does not say.
    pub rss_mib: Option<f64>,
}

/// Why a release must not serve here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SelfTestFailure {
    /// What failed: [`FailureKind::SelfTest`] or [`FailureKind::OverBudget`].
    pub kind: FailureKind,
    /// In words, with the sample, the tensor and the numbers.
    pub detail: String,
}

/// Golden samples within tolerance, pre-processing as when packed, no NaN, p95 and memory within the budgets.
/// Blocking; some seconds at most, and up to a minute for a model that takes seconds per inference.
///
/// # Errors
/// With the first thing that is wrong. No samples at all is wrong too: a release that nobody can check does not serve.
pub fn self_test(
    model: &LoadedModel,
    golden: &GoldenSet,
    clock: &dyn Clock,
) -> Result<SelfTestReport, SelfTestFailure> {
    if golden.samples.is_empty() {
        return Err(wrong("the bundle holds no golden samples".to_owned()));
    }
    let mut largest_error = 0.0_f64;
    for sample in &golden.samples {
        check_prepared(model, sample)?;
        largest_error = largest_error.max(check_outputs(model, sample)?);
    }
    let mut times = timed(model, golden, clock)?;
    times.sort_unstable();
    let (p50, p95) = (percentile(&times, 50), percentile(&times, 95));
    let budgets = &model.manifest().budgets;
    if let Some(budget) = budgets.p95_latency_ms {
        let found = p95.as_secs_f64() * 1e3;
        if found > budget {
            let runs = times.len();
            return Err(over(format!("p95 of {runs} inferences is {found:.2} ms, the budget {budget} ms")));
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "memory in MiB, for people and a coarse budget")]
    let rss_mib = model.resident_growth_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20));
    if let (Some(found), Some(budget)) = (rss_mib, budgets.rss_mib)
        && found > budget
    {
        return Err(over(format!("resident memory grew by {found:.1} MiB, the budget is {budget} MiB")));
    }
    Ok(SelfTestReport { samples: golden.samples.len(), largest_error, runs: times.len(), p50, p95, rss_mib })
}

fn wrong(detail: String) -> SelfTestFailure {
    SelfTestFailure { kind: FailureKind::SelfTest, detail }
}

fn over(detail: String) -> SelfTestFailure {
    SelfTestFailure { kind: FailureKind::OverBudget, detail }
}

/// The raw request once more through this machine's pre-processing.
fn check_prepared(model: &LoadedModel, sample: &GoldenSample) -> Result<(), SelfTestFailure> {
    let Some(request) = &sample.request else { return Ok(()) };
    let refused =
        |error: InputError| wrong(format!("golden sample `{}` cannot be prepared: {}", sample.name, Chain(&error)));
    let prepared = match &model.manifest().preprocess {
        Preprocess::Tensor => return Ok(()),
        Preprocess::Image(_) => model.prepare(&PredictInput::Image(request)).map_err(refused)?,
        Preprocess::Bytes(_) => model.prepare(&PredictInput::Bytes(request)).map_err(refused)?,
        Preprocess::Tabular(_) => {
            let json = serde_json::from_slice(request).map_err(|error| {
                wrong(format!("the request of golden sample `{}` is no JSON: {error}", sample.name))
            })?;
            model.prepare(&PredictInput::Json(&json)).map_err(refused)?
        }
    };
    let tolerance = prepared_tolerance(&model.manifest().preprocess);
    for ((spec, found), expected) in model.manifest().inputs.iter().zip(&prepared.tensors).zip(&sample.inputs) {
        distance(found, expected, tolerance).map_err(|difference| {
            wrong(format!(
                "pre-processing of golden sample `{}` gives another input `{}` here: {difference}",
                sample.name, spec.name
            ))
        })?;
    }
    Ok(())
}

/// How far a prepared input may differ from the packing machine's: nothing but the last bit of a number, and one of the
/// 256 levels of a pixel, as a resize on another CPU may round it.
fn prepared_tolerance(preprocess: &Preprocess) -> Tolerance {
    let level = match preprocess {
        Preprocess::Image(image) => {
            let smallest = image.std.iter().copied().map(f32::abs).reduce(f32::min).unwrap_or(1.0);
            f64::from(image.scale.abs() / smallest) * 1.01
        }
        Preprocess::Tensor | Preprocess::Tabular(_) | Preprocess::Bytes(_) => 0.0,
    };
    Tolerance { abs: level, rel: 1e-6 }
}

/// Runs a sample; the largest difference from what was expected.
fn check_outputs(model: &LoadedModel, sample: &GoldenSample) -> Result<f64, SelfTestFailure> {
    let outputs = model
        .infer(&sample.inputs)
        .map_err(|error| wrong(format!("golden sample `{}` fails: {}", sample.name, Chain(&error))))?;
    if outputs.len() != sample.outputs.len() {
        let (found, expected) = (outputs.len(), sample.outputs.len());
        return Err(wrong(format!("golden sample `{}` has {expected} outputs, the model {found}", sample.name)));
    }
    let mut largest = 0.0_f64;
    for ((spec, found), expected) in model.manifest().outputs.iter().zip(&outputs).zip(&sample.outputs) {
        let difference = distance(found, expected, model.manifest().tolerance);
        largest = largest.max(difference.map_err(|difference| {
            wrong(format!("golden sample `{}`, output `{}`: {difference}", sample.name, spec.name))
        })?);
    }
    Ok(largest)
}

/// Largest |found - expected|, or what is outside the tolerance: |found - expected| <= abs + rel * |expected|, NaN only
/// where NaN was expected, infinity only the same infinity; of texts, one that differs.
fn distance(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<f64, String> {
    if (found.dtype, &found.shape) != (expected.dtype, &expected.shape) {
        return Err(format!("{found:?} instead of {expected:?}"));
    }
    // Texts are the same or not; no tolerance makes one label another.
    if found.dtype == Dtype::Bytes {
        let differs = found.texts().zip(expected.texts()).position(|(found, expected)| found != expected);
        return match differs {
            None if found.data == expected.data => Ok(0.0),
            at => Err(format!("text {} is not the one expected", at.unwrap_or_default())),
        };
    }
    let mut largest = 0.0_f64;
    for (at, (found, expected)) in found.to_f64().into_iter().zip(expected.to_f64()).enumerate() {
        if found == expected || found.is_nan() && expected.is_nan() {
            continue;
        }
        let difference = (found - expected).abs();
        // Written so that NaN is outside.
        let within = difference <= tolerance.abs + tolerance.rel * expected.abs();
        if !within || !expected.is_finite() {
            let Tolerance { abs, rel } = tolerance;
            return Err(format!("element {at} is {found}, expected {expected} (tolerance {abs} + {rel} * |expected|)"));
        }
        largest = largest.max(difference);
    }
    Ok(largest)
}

/// Times of single inferences over the samples in turn.
fn timed(model: &LoadedModel, golden: &GoldenSet, clock: &dyn Clock) -> Result<Vec<Duration>, SelfTestFailure> {
    let mut samples = golden.samples.iter().cycle();
    let mut run = || -> Result<(), SelfTestFailure> {
        let Some(sample) = samples.next() else { return Ok(()) };
        // Its answer was checked already; an error now is one that comes and goes.
        let answer = model.infer(&sample.inputs);
        answer.map(drop).map_err(|error| wrong(format!("golden sample `{}` fails: {}", sample.name, Chain(&error))))
    };
    (0..WARM_UP).try_for_each(|_| run())?;
    let begin = clock.monotonic();
    let mut times = Vec::with_capacity(MAX_RUNS);
    while times.len() < MAX_RUNS {
        let before = clock.monotonic();
        run()?;
        let after = clock.monotonic();
        times.push(after.saturating_sub(before));
        let spent = after.saturating_sub(begin);
        if spent >= LONGEST || times.len() >= MIN_RUNS && spent >= TIME {
            break;
        }
    }
    Ok(times)
}

/// Nearest rank of sorted times; zero of none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "selftest_tests.rs"]
mod tests;
