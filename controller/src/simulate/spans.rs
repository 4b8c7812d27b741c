//! Stretches of time in which something is so: sorted, apart, in milliseconds.

use super::random::{Stream, exponential};

/// Stretches `[from, to)`, sorted, none touching the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<(u64, u64)>);

impl Spans {
    /// Of any stretches: those that touch become one.
    pub(super) fn of(mut all: Vec<(u64, u64)>) -> Self {
        all.retain(|(from, to)| from < to);
        all.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match merged.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    /// Stretches of `length` ms on average that begin `per_day` times a day on average between two moments.
    pub(super) fn random(stream: &mut Stream, (from, to): (u64, u64), per_day: f64, length: f64) -> Vec<(u64, u64)> {
        let mut spans = Vec::new();
        if per_day <= 0.0 {
            return spans;
        }
        let mut at = from;
        loop {
            at = at.saturating_add(exponential(stream, DAY_MS / per_day));
            if at >= to {
                return spans;
            }
            spans.push((at, at.saturating_add(exponential(stream, length))));
        }
    }

    /// The stretch that a moment lies in.
    pub(super) fn at(&self, moment: u64) -> Option<(u64, u64)> {
        let next = self.0.partition_point(|(from, _)| *from <= moment);
        next.checked_sub(1).and_then(|i| self.0.get(i)).filter(|(_, to)| moment < *to).copied()
    }

    /// When a stretch that was over at `moment` last ended.
    pub(super) fn last_end(&self, moment: u64) -> Option<u64> {
        let next = self.0.partition_point(|(_, to)| *to <= moment);
        next.checked_sub(1).and_then(|i| self.0.get(i)).map(|(_, to)| *to)
    }

    /// `moment`, or the end of the stretch that it lies in.
    pub(super) fn after(&self, moment: u64) -> u64 {
        self.at(moment).map_or(moment, |(_, to)| to)
    }

    /// Share of the time from `from` to `to` that lies in a stretch.
    pub(super) fn share(&self, from: u64, to: u64) -> f64 {
        let first = self.0.partition_point(|(_, end)| *end <= from);
        let within = self.0.iter().skip(first).take_while(|(start, _)| *start < to);
        let overlap: u64 = within.map(|(start, end)| to.min(*end).saturating_sub(from.max(*start))).sum();
        if to > from { overlap as f64 / (to - from) as f64 } else { 0.0 }
    }
}

/// Milliseconds of a day.
pub(super) const DAY_MS: f64 = 86_400_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_that_touch_become_one() {
        let spans = Spans::of(vec![(5, 9), (0, 2), (2, 3), (8, 12), (20, 20)]);
        assert_eq!(spans, Spans(vec![(0, 3), (5, 12)]));
        assert_eq!((spans.at(2), spans.at(3), spans.at(5)), (Some((0, 3)), None, Some((5, 12))));
        assert_eq!((spans.after(6), spans.after(4)), (12, 4));
        assert_eq!((spans.last_end(4), spans.last_end(2)), (Some(3), None));
    }

    #[test]
    fn the_share_of_a_time_is_what_overlaps_it() {
        let spans = Spans::of(vec![(0, 10), (20, 30)]);
        assert_eq!(
            [spans.share(5, 25), spans.share(10, 20), spans.share(0, 10), spans.share(7, 7)],
            [0.5, 0.0, 1.0, 0.0]
        );
    }
}
