//! perm-GSD: a group-sequential permutation test of the rollout's order (statistics.md section 2).
//!
//! Under the hypothesis of no effect, a device serves the same whatever its place in the order. Within a stratum every
//! order was equally likely, so the sum of the scores over the first `n` places is one draw among the sums that other
//! orders would have given. `B` such orders are drawn from the rollout's seed, once for the whole rollout: a path is one
//! of them, and shows a sum at each look. The observed order is a path as well.
//!
//! **At a look** `floor(alpha spend (B + 1))` paths may have been retired in all. Of those alive, a path is extreme when
//! no more than what is left of this budget, itself included, have a sum as large. If the observed path is extreme, the
//! release is worse; else the extreme ones are retired. The rule treats all `B + 1` paths alike, and it never retires more
//! than `alpha (B + 1)` of them, so the observed one is among them with probability at most alpha, over all looks, however
//! devices differ. That is exact where looks come by the clock alone; a wave that passes early has fewer of them, and a person who resumes
//! makes more, which depends on the observed path: simulated rollouts keep alpha with both (docs/rollouts.md). Paths that tie beyond the budget stay alive, and what they would have taken is left for later looks.
//!
//! **Paths** are not kept. Each is drawn anew at each look from its own stream, as a Fisher-Yates shuffle of each
//! stratum that stops behind the last treated place; so waves see prefixes of the same order. Sums are kept in whole
//! numbers of 2^-36, so that equal sets have equal sums.

use super::random::Stream;
use fieldpost_shared::id::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most devices that take part in the comparison; of a larger fleet the first of each wave do.
pub const MOST: usize = 8_192;
/// Scores are kept in whole numbers of one part in so many.
const UNIT: f64 = (1_u64 << 36) as f64;

/// The places of the order that take part, and in which strata they are.
///
/// A fleet of more than [`MOST`] devices is compared by a part of it: of each wave, and of the devices behind the last
/// one, the first so many in order that all together are at most [`MOST`]. Which places these are depends on the order's length and the
/// waves alone. Given who stands on them, each arrangement within strata is equally likely, so the test stays exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Places in the order.
    places: Vec<usize>,
    /// Stratum of each, as a number.
    strata: Vec<usize>,
    /// Places among these that each wave reaches.
    reaches: Vec<usize>,
}

impl Layout {
    /// The layout of an order, given by its strata, and of waves, given by what they reach.
    #[must_use]
    pub fn new<'a>(strata: impl IntoIterator<Item = &'a str>, reaches: &[usize]) -> Self {
        let all: Vec<&str> = strata.into_iter().collect();
        let segments = reaches.len() + 1;
        let cap = if all.len() <= MOST { MOST } else { (MOST / segments).max(1) };
        let mut layout = Self { places: Vec::new(), strata: Vec::new(), reaches: Vec::new() };
        let mut from = 0;
        for reach in reaches.iter().copied().chain([all.len()]) {
            let reach = reach.clamp(from, all.len());
            layout.places.extend((from..reach).take(cap));
            layout.reaches.push(layout.places.len());
            from = reach;
        }
        layout.reaches.pop();
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for place in &layout.places {
            let next = numbers.len();
            let stratum = all.get(*place).copied().unwrap_or_default();
            layout.strata.push(*numbers.entry(stratum).or_insert(next));
        }
        layout
    }

    /// Places in the order that take part, first to last.
    #[must_use]
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// Devices that take part.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody takes part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Treated devices of a wave: so many of the first.
    #[must_use]
    pub fn treated(&self, wave: usize) -> usize {
        self.reaches.get(wave).copied().unwrap_or(self.len())
    }

    /// Devices and treated devices of each stratum when so many of the first are treated.
    #[must_use]
    pub fn by_stratum(&self, treated: usize) -> Vec<(usize, usize)> {
        let count = self.strata.iter().max().map_or(0, |last| last + 1);
        let mut found = vec![(0, 0); count];
        for (place, stratum) in self.strata.iter().enumerate() {
            if let Some((all, chosen)) = found.get_mut(*stratum) {
                *all += 1;
                *chosen += usize::from(place < treated);
            }
        }
        found
    }

    /// The smallest p-value that any result can have: one in all the ways to choose the treated devices within strata.
    #[must_use]
    pub fn smallest_p(&self, treated: usize) -> f64 {
        let ln_ways = |(all, chosen): (usize, usize)| -> f64 {
            let chosen = chosen.min(all - chosen.min(all));
            (0..chosen).map(|i| ((all - i) as f64 / (chosen - i) as f64).ln()).sum()
        };
        (-self.by_stratum(treated).into_iter().map(ln_ways).sum::<f64>()).exp()
    }

    /// Sums over the first `treated` places of each path, one row per column of scores.
    #[must_use]
    pub fn sums(&self, seed: &Digest, paths: u32, treated: usize, columns: &[Vec<i64>]) -> Vec<Vec<i64>> {
        let mut starts: Vec<usize> = Vec::new();
        let mut pool: Vec<usize> = Vec::with_capacity(self.len());
        for stratum in 0..self.by_stratum(0).len() {
            starts.push(pool.len());
            pool.extend(self.strata.iter().enumerate().filter(|(_, s)| **s == stratum).map(|(index, _)| index));
        }
        let mut ends: Vec<usize> = starts.iter().skip(1).copied().collect();
        ends.push(pool.len());
        // A device's scores side by side: a path touches devices at random.
        let width = columns.len();
        let mut scores = vec![0_i64; width * self.len()];
        for (column, values) in columns.iter().enumerate() {
            for (device, value) in values.iter().enumerate().take(self.len()) {
                if let Some(cell) = scores.get_mut(device * width + column) {
                    *cell = *value;
                }
            }
        }
        let head = self.strata.get(..treated.min(self.len())).unwrap_or(&self.strata);
        let mut sums = vec![Vec::with_capacity(paths as usize); width];
        let (mut devices, mut cursors, mut totals) = (pool.clone(), starts.clone(), vec![0_i64; width]);
        for path in 0..paths {
            devices.copy_from_slice(&pool);
            cursors.copy_from_slice(&starts);
            totals.fill(0);
            let mut stream = Stream::new(seed, "path", u64::from(path));
            for stratum in head {
                let (Some(cursor), Some(end)) = (cursors.get_mut(*stratum), ends.get(*stratum)) else { continue };
                devices.swap(*cursor, *cursor + stream.below(end.saturating_sub(*cursor)));
                let device = devices.get(*cursor).copied().unwrap_or(0);
                *cursor += 1;
                let row = scores.get(device * width..(device + 1) * width).unwrap_or_default();
                totals.iter_mut().zip(row).for_each(|(total, score)| *total += score);
            }
            sums.iter_mut().zip(&totals).for_each(|(sums, total)| sums.push(*total));
        }
        sums
    }
}

/// A score in whole units.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "clamped to a thousand units, and a cast of a float saturates")]
pub fn fixed(score: f64) -> i64 {
    if score.is_nan() { 0 } else { (score.clamp(-1_000.0, 1_000.0) * UNIT).round() as i64 }
}

/// A sum of scores as a number.
#[must_use]
pub fn float(sum: i64) -> f64 {
    sum as f64 / UNIT
}

/// What one test has spent: small, and all that the next look needs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Paths retired at earlier looks.
    pub retired: BTreeSet<u32>,
}

/// What a test makes of one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Alive paths with a sum as extreme as the observed one, which is counted too: 1 is the most extreme.
    pub rank: usize,
    /// Paths alive before this look, the observed one among them.
    pub alive: usize,
    /// Paths that may be retired at this look.
    pub budget: usize,
    /// Paths that are.
    pub retired: BTreeSet<u32>,
    /// The sum that the observed one would have had to exceed; none when nothing would have been enough.
    pub critical: Option<i64>,
    /// Whether the observed path is extreme.
    pub extreme: bool,
}

/// Judges the upper tail: `observed` against the paths' sums, when `allowed` paths may be retired in all looks so far.
#[must_use]
pub fn judge(observed: i64, sums: &[i64], spent: &Spent, allowed: usize) -> Judged {
    let budget = allowed.saturating_sub(spent.retired.len());
    let mut alive: Vec<(i64, u32)> =
        sums.iter().zip(0_u32..).filter(|(_, path)| !spent.retired.contains(path)).map(|(sum, p)| (*sum, p)).collect();
    alive.sort_unstable_by(|a, b| b.cmp(a));
    let rank = 1 + alive.iter().take_while(|(sum, _)| *sum >= observed).count();
    let critical = budget.checked_sub(1).and_then(|last| alive.get(last)).map(|(sum, _)| *sum);
    let extreme = rank <= budget;
    let mut retired = BTreeSet::new();
    if !extreme {
        // From the largest on, as long as a whole group of equal sums (the observed one counts) fits into the budget.
        let mut reached = 0;
        while let Some((sum, _)) = alive.get(reached) {
            let group = alive.iter().skip(reached).take_while(|(other, _)| other == sum).count();
            let with_observed = reached + group + usize::from(observed >= *sum);
            if with_observed > budget {
                break;
            }
            retired.extend(alive.iter().skip(reached).take(group).map(|(_, path)| *path));
            reached += group;
        }
    }
    Judged { rank, alive: alive.len() + 1, budget, retired, critical, extreme }
}

/// Paths that may have been retired after look `k` of `all` at a level.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a 32-bit number, not negative")]
pub fn allowed(level: f64, look: u32, all: u32, paths: u32) -> usize {
    let spend = f64::from(look.min(all)) / f64::from(all.max(1));
    // Rounded down, but not below a whole number that floating point missed by a hair.
    (level * spend * (f64::from(paths) + 1.0) + 1e-9).floor().max(0.0) as usize
}

#[cfg(test)]
#[path = "permutation_tests.rs"]
mod tests;
