//! Running waiting requests of one model in one go, where this box has shown that it pays.
//!
//! A model is measured once, off the path of any request, with the inputs of its first two single-row requests: 1, 2, 4
//! and 8 rows together. It is only measured when all its sizes are fixed but the batch, the first axis of every input and
//! output; only batched when a row's answer is the same in company as alone; and only as far as each doubling makes a row
//! cheaper by [`measure::GAIN`]. Nothing ever waits for company: only what is queued already runs together.

pub(crate) mod measure;
pub(crate) mod stack;

use super::model::Model;
use fieldpost_shared::bundle::{Dim, Dtype, Manifest, Tensor, TensorSpec};
use fieldpost_shared::time::Clock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Inputs of one request.
type Inputs = Vec<Tensor>;

/// How far one live release's requests run together.
#[derive(Debug)]
pub(crate) struct Batching {
    most: AtomicUsize,
    stage: AtomicU8,
    sample: Mutex<Option<Inputs>>,
    found: OnceLock<measure::Found>,
}

/// Waits for a request to keep.
const FIRST: u8 = 0;
/// Waits for another to go with it.
const SECOND: u8 = 1;
/// Measures, has measured, or never will.
const SETTLED: u8 = 2;

impl Batching {
    /// For a model with room for so many plans.
    pub(crate) fn of(manifest: &Manifest, plan_room: usize) -> Self {
        let possible = is_stackable(manifest) && plan_room > measure::SIZES.len();
        let stage = if possible { FIRST } else { SETTLED };
        Self {
            most: AtomicUsize::new(1),
            stage: AtomicU8::new(stage),
            sample: Mutex::default(),
            found: OnceLock::new(),
        }
    }

    /// Most requests that run together.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// As if it had been measured.
    #[cfg(test)]
    pub(crate) fn assume(&self, most: usize) {
        self.stage.store(SETTLED, Ordering::Relaxed);
        self.most.store(most, Ordering::Relaxed);
    }

    /// Offers the inputs of a request; two that are alike but for their values when it is time to measure.
    pub(crate) fn offer(&self, inputs: &[Tensor]) -> Option<[Inputs; 2]> {
        // Nearly always settled: one relaxed load.
        if self.stage.load(Ordering::Relaxed) == SETTLED || !stack::is_single(inputs) {
            return None;
        }
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        match self.stage.load(Ordering::Relaxed) {
            FIRST => {
                *sample = Some(inputs.to_vec());
                self.stage.store(SECOND, Ordering::Relaxed);
                None
            }
            SECOND => {
                let first = sample.take_if(|first| stack::are_alike(first, inputs))?;
                self.stage.store(SETTLED, Ordering::Relaxed);
                Some([first, inputs.to_vec()])
            }
            _ => None,
        }
    }

    /// Measures, and remembers. Blocking, some runs of the model long.
    pub(crate) fn measure(&self, model: &dyn Model, samples: &[Inputs; 2], clock: &dyn Clock) {
        let found = measure::best(model, samples, clock);
        // The plans that lost are memory.
        model.keep_batches(found.best);
        self.most.store(found.best, Ordering::Relaxed);
        let (release, per_row) = (model.release(), &found.per_row);
        tracing::info!(%release, most = found.best, ?per_row, "measured how many requests run together");
        // Measured once.
        drop(self.found.set(found));
    }

    /// What was measured, when it was.
    #[cfg(test)]
    pub(crate) fn measured(&self) -> Option<&measure::Found> {
        self.found.get()
    }
}

/// Whether the first axis of every input and output is the one thing that varies.
fn is_stackable(manifest: &Manifest) -> bool {
    let specs = || manifest.inputs.iter().chain(&manifest.outputs);
    let batch = |spec: &TensorSpec| match spec.shape.split_first() {
        Some((Dim::Symbol(name), rest)) => rest.iter().all(|dim| matches!(dim, Dim::Fixed(_))).then(|| name.clone()),
        _ => None,
    };
    let first = specs().next().and_then(batch);
    // Texts have no fixed size, so that rows of them could not be told apart by counting bytes.
    let countable = manifest.outputs.iter().all(|spec| spec.dtype != Dtype::Bytes);
    countable && !manifest.inputs.is_empty() && first.is_some() && specs().all(|spec| batch(spec) == first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;

    fn stackable(change: impl FnOnce(&mut Manifest)) -> bool {
        let mut manifest = testing::manifest();
        change(&mut manifest);
        is_stackable(&manifest)
    }

    #[test]
    fn only_a_free_first_axis_common_to_all_is_a_batch() {
        let symbol = |name: &str| Dim::Symbol(name.to_owned());
        assert!(stackable(|_| ()));
        assert!(!stackable(|m| m.inputs[0].shape[0] = Dim::Fixed(1)));
        assert!(!stackable(|m| m.outputs[0].shape[0] = symbol("M")));
        assert!(!stackable(|m| m.inputs[0].shape[2] = symbol("H")), "plans by two sizes would be too many");
        assert!(!stackable(|m| m.outputs[0].shape[1] = symbol("N")), "rows know of one another");
        assert!(!stackable(|m| m.outputs[0].shape.clear()));
        assert!(!stackable(|m| m.inputs.clear()));
        assert!(!stackable(|m| m.outputs[0].dtype = Dtype::Bytes));
    }

    fn image(rows: usize, value: f32) -> Inputs {
        vec![Tensor::from_f32(vec![rows, 1, 8, 8], &vec![value; rows * 64]).unwrap()]
    }

    #[test]
    fn the_first_two_single_rows_are_measured_and_no_more() {
        let batching = Batching::of(&testing::manifest(), 8);
        assert!(batching.offer(&image(3, 0.0)).is_none());
        assert!(batching.offer(&image(1, 0.0)).is_none());
        assert!(batching.offer(&image(2, 0.0)).is_none());
        assert_eq!(batching.offer(&image(1, 1.0)), Some([image(1, 0.0), image(1, 1.0)]));
        assert!(batching.offer(&image(1, 1.0)).is_none());
        assert_eq!(batching.most(), 1);
    }

    #[test]
    fn a_model_without_room_for_plans_is_never_measured() {
        let batching = Batching::of(&testing::manifest(), 2);
        assert!(batching.offer(&image(1, 0.0)).is_none() && batching.offer(&image(1, 0.0)).is_none());
    }
}
