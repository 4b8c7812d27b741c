//! Intra-op parallelism: one run on several processors, while these are idle. Matrix products, packing and element-wise operators of large graphs
//! are split among helpers. The answer is the same to the bit, for each number is still computed by one of them.
//!
//! Who has idle processors offers helpers for what runs on its thread. Each plan measures, in its first runs with an offer,
//! whether they make it quicker on this box, and by enough: they are taken from whoever comes next.

use super::caught;
use fieldpost_shared::time::Clock;
use rayon::ThreadPoolBuilder;
use std::cell::RefCell;
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tract_linalg::multithread::{Executor, multithread_tract_scope};

/// Helpers must take away this share of a run's time.
const GAIN: f64 = 0.2;
/// A shorter run is never split: waking helpers takes some ten microseconds for each operator.
const SHORTEST: Duration = Duration::from_micros(300);
/// Runs of each kind that are compared, by turns; the quickest of each counts.
const RUNS: u8 = 6;

thread_local! {
    static OFFERED: RefCell<Option<Helpers>> = const { RefCell::new(None) };
}

/// Threads that help with one run at a time.
#[derive(Clone)]
pub(crate) struct Helpers {
    executor: Executor,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers").finish_non_exhaustive()
    }
}

impl Helpers {
    /// So many threads, which sleep until they are needed. None where one processor is all that there is, or the system
    /// gives no threads: then every run is by itself.
    pub(crate) fn start(threads: NonZeroUsize, clock: Arc<dyn Clock>) -> Option<Self> {
        // What panics in a helper panics in the run that it helps, which is where it is caught.
        let pool = |name: &'static str| {
            let builder = ThreadPoolBuilder::new().num_threads(threads.get());
            builder.thread_name(move |index| format!("{name}-{index}")).start_handler(|_| caught::always())
        };
        // tract's attention spreads its heads over rayon's global pool, which has every processor of the box unless somebody
        // says otherwise first. Whoever did has said so: one process serves once.
        drop(pool("attention").build_global());
        if threads.get() == 1 {
            return None;
        }
        match pool("helper").build() {
            Ok(pool) => Some(Self { executor: Executor::MultiThread(Arc::new(pool)), clock }),
            Err(error) => {
                tracing::warn!(%error, "no threads to help large models: each request runs on one");
                None
            }
        }
    }

    /// Runs work on this thread which may be helped.
    pub(crate) fn offer<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = OFFERED.replace(Some(self.clone()));
        let done = work();
        OFFERED.set(before);
        done
    }
}

/// Whether helpers make one plan quicker.
#[derive(Debug, Default)]
pub(super) struct IntraOp {
    stage: AtomicU8,
    trial: Mutex<Trial>,
}

/// The other stage, 0, is that nothing is decided.
const NARROW: u8 = 1;
const WIDE: u8 = 2;

#[derive(Debug, Default)]
struct Trial {
    runs: u8,
    narrow: Option<Duration>,
    wide: Option<Duration>,
}

impl Trial {
    /// What follows from what was measured; none is that more runs are needed.
    fn verdict(&self) -> Option<u8> {
        let (narrow, wide) = (self.narrow?, self.wide);
        if self.runs >= 2 && narrow < SHORTEST {
            return Some(NARROW);
        }
        let gains = |wide: Duration| wide.as_secs_f64() <= narrow.as_secs_f64() * (1.0 - GAIN);
        (self.runs >= 2 * RUNS).then(|| if wide.is_some_and(gains) { WIDE } else { NARROW })
    }
}

impl IntraOp {
    /// Runs with the helpers that are offered, where that is quicker.
    pub(super) fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        let stage = self.stage.load(Ordering::Relaxed);
        let Some(helpers) = (if stage == NARROW { None } else { OFFERED.with_borrow(Clone::clone) }) else {
            return work();
        };
        match stage {
            WIDE => helped(helpers.executor, work),
            _ => self.tried(&helpers, work),
        }
    }

    fn tried<R>(&self, helpers: &Helpers, work: impl FnOnce() -> R) -> R {
        let wide = {
            let mut trial = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
            trial.runs = trial.runs.saturating_add(1);
            trial.runs.is_multiple_of(2)
        };
        let begun = helpers.clock.monotonic();
        let done = if wide { helped(helpers.executor.clone(), work) } else { work() };
        let took = helpers.clock.monotonic().saturating_sub(begun);
        let mut trial = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        let least = if wide { &mut trial.wide } else { &mut trial.narrow };
        *least = Some(least.map_or(took, |least| least.min(took)));
        if let Some(verdict) = trial.verdict() {
            self.stage.store(verdict, Ordering::Relaxed);
            let (alone, helped) = (trial.narrow, trial.wide);
            tracing::info!(?alone, ?helped, taken = verdict == WIDE, "measured whether other processors help one run");
        }
        done
    }
}

/// tract takes the helpers off this thread when a scope returns, and leaves them there when it unwinds: then every later run
/// would have them, whoever else wants the processors.
fn helped<R>(executor: Executor, work: impl FnOnce() -> R) -> R {
    match multithread_tract_scope(executor, || catch_unwind(AssertUnwindSafe(work))) {
        Ok(done) => done,
        Err(payload) => resume_unwind(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::engine::{Ends, open_engine};
    use crate::runtime::onnx_builder::{Onnx, data_type};
    use fieldpost_shared::bundle::{Dtype, Tensor};
    use fieldpost_shared::durable::write_atomic;
    use fieldpost_shared::time::{ManualClock, Timestamp};
    use std::collections::BTreeMap;
    use tract_linalg::multithread::current_tract_executor;

    fn is_wide() -> bool {
        matches!(current_tract_executor(), Executor::MultiThread(_))
    }

    /// How many of the last runs of a plan are helped that takes so long alone, and so long with help.
    fn helped_of_five(alone_us: u64, helped_us: u64) -> usize {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        let helpers = Helpers::start(NonZeroUsize::new(2).unwrap(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let width = IntraOp::default();
        let run = || {
            width.run(|| {
                clock.advance(Duration::from_micros(if is_wide() { helped_us } else { alone_us }));
                is_wide()
            })
        };
        for _ in 0..20 {
            helpers.offer(run);
        }
        assert!(!run(), "nobody offers");
        (0..5).filter(|_| helpers.offer(run)).count()
    }

    #[test]
    fn a_plan_takes_help_where_that_is_quicker_by_enough() {
        assert_eq!(helped_of_five(10_000, 6_000), 5);
        assert_eq!(helped_of_five(10_000, 9_000), 0);
        assert_eq!(helped_of_five(10_000, 12_000), 0);
        assert_eq!(helped_of_five(200, 100), 0, "too short");
    }

    #[test]
    fn the_answer_is_the_same_to_the_bit() {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        let helpers = Helpers::start(NonZeroUsize::new(3).unwrap(), clock).unwrap();
        let (rows, inner, columns) = (96_u16, 256_u16, 512_u16);
        let numbers = |count: usize| -> Vec<f32> {
            (0_u16..251).cycle().take(count).map(|n| f32::from(n) / 251.0 - 0.5).collect()
        };
        let count = |a: u16, b: u16| usize::from(a) * usize::from(b);
        let graph = Onnx::default()
            .node("product", "MatMul", &["x", "w"], &["a"])
            .node("bent", "Tanh", &["a"], &["y"])
            .weight("w", &[inner.into(), columns.into()], &numbers(count(inner, columns)))
            .input("x", data_type(Dtype::Fp32), &["96", "256"])
            .output("y", data_type(Dtype::Fp32), &["96", "512"]);
        let dir = tempfile::tempdir().unwrap();
        write_atomic(dir.path(), "model.onnx", &graph.bytes()).unwrap();
        let engine = open_engine(dir.path(), "model.onnx", None, Ends::Graph(&BTreeMap::new())).unwrap();
        let x = [Tensor::from_f32(vec![rows.into(), inner.into()], &numbers(count(rows, inner))).unwrap()];
        let alone = engine.run(&x).unwrap();
        let helped = multithread_tract_scope(helpers.executor, || engine.run(&x).unwrap());
        assert!(alone == helped && alone[0].to_f64().iter().any(|value| value.abs() > 0.01));
    }

    #[test]
    #[allow(clippy::panic, reason = "it is what is caught")]
    fn a_run_that_panics_leaves_no_helpers_behind() {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        let helpers = Helpers::start(NonZeroUsize::new(2).unwrap(), clock).unwrap();
        let broken = caught::caught(|| helped(helpers.executor, || panic!("inside tract"))).unwrap_err();
        assert_eq!((broken.downcast_ref::<&str>(), is_wide()), (Some(&"inside tract"), false));
    }

    #[test]
    fn one_processor_has_no_helpers() {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        assert!(Helpers::start(NonZeroUsize::MIN, clock).is_none());
    }
}
