//! Devices held against their own past: for waves after which nobody is left without the release, and for no others.
//!
//! Devices are watched in a few groups, drawn by the rollout's random order, so that what one device shows by chance counts
//! little; time is cut into slices by the clock. A group's score in a slice is the mean of its devices' without the worst of
//! them. A slice is *above* when its score exceeds all of the group's before the rollout. Of a slice like those n, the chance
//! is at most `1 - 0.05^(1/n)` with 95 % confidence (Wilks 1941), and that is what the group's e-SR detector tolerates: a
//! slice is one trial, so that bursts and outages within it count once. `j/K` times the j-th largest of K groups' evidence is
//! at most their mean, whatever they have in common (Vovk and Wang 2021, "E-values: calibration, combination and
//! applications"), so that the detector's promise holds for all together, and that fewer than j groups are worse rolls
//! nothing back. Over [`MOST_SLICES`] slices a harmless release reaches `MOST_SLICES / level` with probability `level` at
//! most.
//!
//! This is weaker than a comparison: what happens to all devices at once for many hours looks like harm.

use super::metric::Metric;
use super::score::Score;
use crate::rollout::duration;
use fieldpost_shared::stats::RateDetector;
use fieldpost_shared::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Slices after which a wave is watched no longer.
pub const MOST_SLICES: u16 = 32;
/// Slices of a device's past that are looked at.
const MOST_PAST: u16 = 32;
/// Scored slices of its past without which a group, or a device, is not watched.
const LEAST_PAST: u16 = 8;
/// How likely a past is not to show what it should.
const DOUBT: f64 = 0.05;
/// Most groups.
const MOST_GROUPS: usize = 10;
/// Devices of a group, where there are enough.
const OF_GROUP: usize = 5;
/// Groups that have to be worse, where there are as many.
const RANK: usize = 2;

/// How a wave is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// How long a slice is.
    #[serde(with = "duration")]
    pub every: Duration,
    /// Slices of the past.
    pub past: u16,
    /// Slices that harm takes to be found, if all of them are above.
    pub needed: u16,
}

impl Watch {
    /// How so many devices can be watched at a level, with slices that leave windows the time to arrive; none when the
    /// history is too short, or no evidence would be enough.
    #[must_use]
    pub fn new(window: Duration, soak: Duration, history: Duration, devices: usize, level: f64) -> Option<Self> {
        (1..=MOST_SLICES).find_map(|needed| {
            let every = window.max(soak / u32::from(needed)).max(Duration::from_millis(1));
            let past = u16::try_from(history.as_millis() / every.as_millis()).unwrap_or(MOST_PAST).min(MOST_PAST);
            let enough = past >= LEAST_PAST && slices(past, devices, level).is_some_and(|slices| slices <= needed);
            let every = Duration::from_millis(u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
            enough.then_some(Self { every, past, needed })
        })
    }

    /// How long it takes at least.
    #[must_use]
    pub fn least(&self) -> Duration {
        self.every.saturating_mul(u32::from(self.needed))
    }

    /// Slices that have ended, of a wave whose devices count since then.
    #[must_use]
    pub fn ended(&self, starts: Timestamp, now: Timestamp) -> u16 {
        let ended = now.since(starts).as_millis() / self.every.as_millis().max(1);
        u16::try_from(ended).unwrap_or(MOST_SLICES).min(MOST_SLICES)
    }

    /// Beginning and end of a slice, from 0, after a moment.
    #[must_use]
    pub fn after(&self, starts: Timestamp, slice: u16) -> (Timestamp, Timestamp) {
        let at = |slice: u16| starts.plus(self.every.saturating_mul(u32::from(slice)));
        (at(slice), at(slice.saturating_add(1)))
    }

    /// The same before a moment, the nearest first.
    #[must_use]
    pub fn before(&self, ends: Timestamp, slice: u16) -> (Timestamp, Timestamp) {
        let at = |slice: u16| ends.minus(self.every.saturating_mul(u32::from(slice)));
        (at(slice.saturating_add(1)), at(slice))
    }
}

/// What a group tolerates: the chance that a slice like its past ones is above all of them.
fn tolerated(past: u16) -> f64 {
    1.0 - DOUBT.powf(1.0 / f64::from(past.max(1)))
}

/// How many groups so many devices make.
fn groups(devices: usize) -> usize {
    (devices / OF_GROUP).clamp(RANK.min(devices), MOST_GROUPS)
}

/// What so many groups' evidence counts, whose detector's is the `RANK`-th largest.
fn share(groups: usize) -> f64 {
    RANK.min(groups) as f64 / groups.max(1) as f64
}

fn bound(level: f64) -> f64 {
    f64::from(MOST_SLICES) / level
}

/// Slices that it takes when all of them are above, in all groups.
fn slices(past: u16, devices: usize, level: f64) -> Option<u16> {
    let mut detector = RateDetector::new(tolerated(past), level);
    let share = share(groups(devices));
    (1..=MOST_SLICES).find(|_| {
        detector.insert(true);
        share * detector.evidence() >= bound(level)
    })
}

/// One device's scores in its slices.
#[derive(Debug, Clone, Default)]
pub struct Course {
    /// Before the rollout.
    pub before: Vec<Score>,
    /// Since the wave's devices count, oldest first.
    pub since: Vec<Score>,
}

impl Course {
    fn scored(scores: &[Score]) -> usize {
        scores.iter().filter(|score| score.value().is_some()).count()
    }
}

/// What one metric shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastLook {
    /// Which.
    pub metric: Metric,
    /// Devices with enough of a past.
    pub devices: usize,
    /// Of these, with the slices that it takes.
    pub told: usize,
    /// Groups that they are watched in.
    pub groups: usize,
    /// Of these, above all of their past in their last slice.
    pub above: usize,
    /// Mean of their scores before.
    pub before: f64,
    /// Mean of their scores since.
    pub since: f64,
    /// Evidence of the groups together.
    pub evidence: f64,
    /// Evidence that rolls back.
    pub bound: f64,
    /// Whether it does.
    pub harm: bool,
}

fn mean(scores: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = scores.into_iter().fold((0.0, 0_u32), |(sum, count), score| (sum + score, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// A group's score in each of its slices, where at least half of its devices have one.
fn of_group(courses: &[&Course], scores: fn(&Course) -> &[Score]) -> Vec<f64> {
    let slices = courses.iter().map(|course| scores(course).len()).max().unwrap_or_default();
    let of_slice = |slice: usize| {
        let values = courses.iter().filter_map(|course| scores(course).get(slice)?.value());
        let mut values: Vec<f64> = values.collect();
        if values.len() * 2 < courses.len() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        // One device's trouble is its own.
        values.truncate(if values.len() > 2 { values.len() - 1 } else { values.len() });
        mean(values)
    };
    (0..slices).filter_map(of_slice).collect()
}

/// Holds devices, in the order's order, against their past; none when nobody has one.
#[must_use]
pub fn look(metric: Metric, courses: &[Course], needed: u16, level: f64) -> Option<PastLook> {
    let with_past = |course: &&Course| Course::scored(&course.before) >= usize::from(LEAST_PAST);
    let watched: Vec<&Course> = courses.iter().filter(with_past).collect();
    let groups = groups(watched.len());
    let (mut evidence, mut above, mut before, mut since) = (Vec::new(), 0, Vec::new(), Vec::new());
    for first in 0..groups {
        let group: Vec<&Course> = watched.iter().skip(first).step_by(groups).copied().collect();
        let past = of_group(&group, |course| &course.before);
        let count = u16::try_from(past.len()).unwrap_or(MOST_PAST);
        if count < LEAST_PAST {
            continue;
        }
        let most = past.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let now = of_group(&group, |course| &course.since);
        let mut detector = RateDetector::new(tolerated(count), level);
        for value in &now {
            detector.insert(*value > most);
        }
        evidence.push(detector.evidence());
        above += usize::from(now.last().is_some_and(|last| *last > most));
        before.extend(past);
        since.extend(now);
    }
    evidence.sort_by(|a, b| b.total_cmp(a));
    let groups = evidence.len();
    let evidence = share(groups) * evidence.get(RANK.min(groups).checked_sub(1)?)?;
    let told = watched.iter().filter(|course| Course::scored(&course.since) >= usize::from(needed)).count();
    let [before, since] = [before, since].map(|scores| mean(scores).unwrap_or_default());
    let (devices, bound) = (watched.len(), bound(level));
    Some(PastLook { metric, devices, told, groups, above, before, since, evidence, bound, harm: evidence >= bound })
}

#[cfg(test)]
#[path = "past_tests.rs"]
mod tests;
