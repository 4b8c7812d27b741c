//! The statistics extension: what a release did since it went live, in Triton's shape. Durations are nanoseconds.

use super::messages::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};
use crate::monitor::collector::Timing;
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most sizes of batches that are told apart; further ones count in the totals alone.
const MAX_SIZES: usize = 64;

/// The counts of one live release. Read and written by all inference threads.
#[derive(Debug, Default)]
pub(crate) struct Statistics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Milliseconds since 1970.
    last_inference: u64,
    rows: u64,
    success: Sum,
    fail: Sum,
    queue: Sum,
    parts: [Sum; 3],
    by_size: BTreeMap<usize, [Sum; 3]>,
}

/// How often, and how long together.
#[derive(Debug, Default, Clone, Copy)]
struct Sum(StatisticDuration);

impl Sum {
    fn add(&mut self, took: Duration) {
        self.0.count = self.0.count.saturating_add(1);
        self.0.ns = self.0.ns.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Statistics {
    /// A request that was answered.
    pub(crate) fn answered(&self, timing: Timing, now: Timestamp) {
        let parts = [timing.input, timing.infer, timing.output];
        let mut counts = self.lock();
        counts.last_inference = now.as_millis();
        counts.rows = counts.rows.saturating_add(u64::try_from(timing.rows).unwrap_or(u64::MAX));
        counts.success.add(timing.queue + parts.iter().sum::<Duration>());
        counts.queue.add(timing.queue);
        counts.parts.iter_mut().zip(parts).for_each(|(sum, part)| sum.add(part));
        if counts.by_size.len() < MAX_SIZES || counts.by_size.contains_key(&timing.rows) {
            let sums = counts.by_size.entry(timing.rows).or_default();
            sums.iter_mut().zip(parts).for_each(|(sum, part)| sum.add(part));
        }
    }

    /// A request that was not, so long after it was queued.
    pub(crate) fn failed(&self, took: Duration) {
        self.lock().fail.add(took);
    }

    /// As the protocol has it.
    pub(crate) fn of(&self, release: &ReleaseRef, executions: u64) -> ModelStatistics {
        let counts = self.lock();
        let [compute_input, compute_infer, compute_output] = counts.parts.map(|sum| Some(sum.0));
        let batch = |(size, sums): (&usize, &[Sum; 3])| {
            let [compute_input, compute_infer, compute_output] = sums.map(|sum| Some(sum.0));
            let batch_size = u64::try_from(*size).unwrap_or(u64::MAX);
            InferBatchStatistics { batch_size, compute_input, compute_infer, compute_output }
        };
        ModelStatistics {
            name: release.model.to_string(),
            version: release.version.to_string(),
            last_inference: counts.last_inference,
            inference_count: counts.rows,
            execution_count: executions,
            inference_stats: Some(InferStatistics {
                success: Some(counts.success.0),
                fail: Some(counts.fail.0),
                queue: Some(counts.queue.0),
                compute_input,
                compute_infer,
                compute_output,
                // Nothing is cached.
                cache_hit: Some(StatisticDuration::default()),
                cache_miss: Some(StatisticDuration::default()),
            }),
            batch_stats: counts.by_size.iter().map(batch).collect(),
        }
    }

    /// A panic while it was held left plain counters, which are usable.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;

    fn timing(rows: usize) -> Timing {
        let [queue, input, infer, output] = [1, 2, 3, 4].map(Duration::from_nanos);
        Timing { queue, input, infer, output, rows, ..Timing::default() }
    }

    #[test]
    fn parts_and_sizes_of_batches_are_summed() {
        let statistics = Statistics::default();
        for rows in [1, 8, 8] {
            statistics.answered(timing(rows), Timestamp::from_millis(1_700));
        }
        statistics.failed(Duration::from_nanos(9));
        let said = statistics.of(&testing::release("1.0.0"), 3);
        assert_eq!((said.last_inference, said.inference_count, said.execution_count), (1_700, 17, 3));
        let parts = said.inference_stats.unwrap();
        let sum = |count, ns| Some(StatisticDuration { count, ns });
        assert_eq!((parts.success, parts.fail, parts.queue), (sum(3, 30), sum(1, 9), sum(3, 3)));
        assert_eq!(
            (parts.compute_input, parts.compute_infer, parts.compute_output),
            (sum(3, 6), sum(3, 9), sum(3, 12))
        );
        let sizes: Vec<_> = said.batch_stats.iter().map(|batch| (batch.batch_size, batch.compute_infer)).collect();
        assert_eq!(sizes, [(1, sum(1, 3)), (8, sum(2, 6))]);
    }

    #[test]
    fn sizes_are_bounded() {
        let statistics = Statistics::default();
        (1..=999).for_each(|rows| statistics.answered(timing(rows), Timestamp::from_millis(0)));
        let said = statistics.of(&testing::release("1.0.0"), 0);
        assert_eq!((said.batch_stats.len(), said.inference_stats.unwrap().success.unwrap().count), (MAX_SIZES, 999));
    }
}
