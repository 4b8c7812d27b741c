//! What a row costs in company, measured on this box.

use super::Inputs;
use super::stack::{split, stack};
use crate::serve::model::Model;
use fieldpost_shared::bundle::Tensor;
use fieldpost_shared::time::Clock;
use std::time::Duration;

/// Sizes that are tried. Only these are run: each has its own plan.
pub(crate) const SIZES: [usize; 4] = [1, 2, 4, 8];
/// A larger batch must make a row cheaper by this share than the best smaller one: it makes the first in it wait longer.
pub(crate) const GAIN: f64 = 0.1;
/// A batch that takes longer than this is not made: who came first would wait for the others.
const LONGEST: Duration = Duration::from_millis(100);
/// Time spent on one size, beyond the first runs.
const EFFORT: Duration = Duration::from_millis(20);
const LEAST_RUNS: usize = 3;
const MOST_RUNS: usize = 50;

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// The size to run.
    pub(crate) best: usize,
    /// Time per row of the sizes that were tried, the quickest run of each.
    pub(crate) per_row: Vec<(usize, Duration)>,
}

/// The best size for a model, with two requests as examples; 1 when it fails, or when rows are not independent.
pub(crate) fn best(model: &dyn Model, samples: &[Inputs; 2], clock: &dyn Clock) -> Found {
    let mut found = Found { best: 1, per_row: Vec::new() };
    let [first, second] = samples;
    let Some(alone) = together(model, &[first]).zip(together(model, &[second])).map(|(a, b)| [a, b].concat()) else {
        return found;
    };
    let mut cheapest = Duration::MAX;
    for size in SIZES {
        let rows: Vec<&[Tensor]> = [first, second].into_iter().cycle().take(size).map(Vec::as_slice).collect();
        // The first run makes the plan, which is not what a run costs.
        let Some(answers) = together(model, &rows) else { break };
        if !answers.iter().zip(alone.iter().cycle()).all(|(found, alone)| same(found, alone)) {
            break;
        }
        let Some(took) = quickest(model, &rows, clock) else { break };
        let per_row = took / u32::try_from(size).unwrap_or(u32::MAX);
        found.per_row.push((size, per_row));
        if took > LONGEST {
            break;
        }
        if cheapest == Duration::MAX || per_row.as_secs_f64() <= cheapest.as_secs_f64() * (1.0 - GAIN) {
            (cheapest, found.best) = (per_row, size);
        }
    }
    found
}

/// One batch, as requests run it: with the copying.
pub(crate) fn together(model: &dyn Model, requests: &[&[Tensor]]) -> Option<Vec<Vec<Tensor>>> {
    split(&model.infer(&stack(requests)).ok()?, requests.len())
}

fn quickest(model: &dyn Model, rows: &[&[Tensor]], clock: &dyn Clock) -> Option<Duration> {
    let (begun, mut least) = (clock.monotonic(), Duration::MAX);
    for run in 0..MOST_RUNS {
        let start = clock.monotonic();
        if run >= LEAST_RUNS && start.saturating_sub(begun) > EFFORT {
            break;
        }
        together(model, rows)?;
        least = least.min(clock.monotonic().saturating_sub(start));
    }
    Some(least)
}

/// Equal, but for the rounding of sums in another order.
fn same(found: &[Tensor], alone: &[Tensor]) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 + 1e-3 * b.abs() || a.is_nan() && b.is_nan() || a == b;
    let equal = |(a, b): (&Tensor, &Tensor)| {
        let floats = || a.to_f64().iter().zip(b.to_f64()).all(|(a, b)| near(*a, b));
        if a.dtype.is_float() { floats() } else { a.data == b.data }
    };
    found.len() == alone.len() && found.iter().zip(alone).all(|pair| pair.0.shape == pair.1.shape && equal(pair))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::InferError;
    use crate::serve::testing::FakeModel;
    use fieldpost_shared::time::{ManualClock, Timestamp};
    use std::sync::Arc;

    fn image(value: f32) -> Inputs {
        vec![Tensor::from_f32(vec![1, 1, 8, 8], &[value; 64]).unwrap()]
    }

    /// The size that is found for a model which takes so many microseconds for so many rows, and answers a row by
    /// `answer` of the row's first pixel and the number of rows.
    fn found(us: impl Fn(u64) -> u64 + Send + Sync + 'static, answer: fn(f32, usize) -> f32) -> Found {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        let hand = Arc::clone(&clock);
        #[allow(clippy::cast_possible_truncation, reason = "a pixel")]
        let model = FakeModel::with("1.0.0", move |inputs| {
            let rows = inputs[0].shape[0];
            hand.advance(Duration::from_micros(us(rows as u64)));
            let first = inputs[0].to_f64().into_iter().step_by(64);
            let values: Vec<f32> = first.flat_map(|pixel| [answer(pixel as f32, rows); 10]).collect();
            Ok(vec![Tensor::from_f32(vec![rows, 10], &values).unwrap()])
        });
        best(model.as_ref(), &[image(0.25), image(0.75)], clock.as_ref())
    }

    #[test]
    fn a_model_with_a_fixed_cost_is_batched() {
        let found = found(|rows| 1_000 + 10 * rows, |pixel, _| pixel);
        assert_eq!((found.best, found.per_row[3]), (8, (8, Duration::from_micros(135))));
    }

    #[test]
    fn a_model_that_gains_nothing_is_not() {
        assert_eq!(found(|rows| 1_000 * rows, |pixel, _| pixel).best, 1);
        assert_eq!(found(|rows| 1_000 * rows - 50 * (rows - 1), |pixel, _| pixel).best, 1, "5 % is too little");
    }

    #[test]
    fn the_gain_ends_where_it_ends() {
        assert_eq!(found(|rows| if rows <= 4 { 1_000 } else { 400 * rows }, |pixel, _| pixel).best, 4);
    }

    #[test]
    fn rows_that_know_of_one_another_are_never_batched() {
        assert_eq!(found(|_| 1_000, |pixel, rows| pixel * rows as f32).best, 1);
    }

    #[test]
    fn a_batch_never_takes_a_tenth_of_a_second() {
        assert_eq!(found(|rows| 60_000 + 20_000 * rows, |pixel, _| pixel).best, 2);
    }

    #[test]
    fn a_model_that_fails_in_company_is_left_alone() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let model = FakeModel::with("1.0.0", |inputs| match inputs[0].shape[0] {
            1 => Ok(vec![Tensor::from_f32(vec![1, 10], &[0.0; 10]).unwrap()]),
            _ => Err(InferError::Run("no batches".into())),
        });
        assert_eq!(best(model.as_ref(), &[image(0.0), image(1.0)], &clock).best, 1);
    }
}
