//! One look: what every metric shows, whether the release is worse, and whether it is proven not to be.

use super::advance::{lessened, leveled, upper_mean, upper_value};
use super::confidence::{Difference, Summary, difference};
use super::cuped::adjust;
use super::design::Design;
use super::metric::Metric;
use super::permutation::{Layout, Spent, allowed, fixed, float, judge};
use super::score::{Reading, Score};
use fieldpost_shared::id::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One arm at a look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmLook {
    /// Devices in it.
    pub devices: usize,
    /// Of those, with something to score.
    pub scored: usize,
    /// Of those, that stopped reporting.
    pub silent: usize,
    /// Requests that the scores are made of.
    pub requests: u64,
    /// Bad ones, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// Mean of the scores.
    pub mean: f64,
}

impl ArmLook {
    pub(super) fn of(readings: &[Reading]) -> Self {
        let scores: Vec<f64> = readings.iter().filter_map(|reading| reading.now.value()).collect();
        let events: Vec<u64> = readings.iter().filter_map(|reading| reading.now.events()).collect();
        Self {
            devices: readings.len(),
            scored: scores.len(),
            silent: readings.iter().filter(|reading| reading.now == Score::Silent).count(),
            requests: readings.iter().map(|reading| reading.now.trials()).fold(0, u64::saturating_add),
            events: (!events.is_empty()).then(|| events.iter().copied().fold(0, u64::saturating_add)),
            mean: if scores.is_empty() { 0.0 } else { rounded(scores.iter().sum::<f64>() / scores.len() as f64) },
        }
    }
}

/// One test at a look: of harm, or of its absence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestLook {
    /// Slope of the scores on the devices' past.
    pub theta: f64,
    /// Difference of the arms' adjusted means, treated less controls.
    pub observed: f64,
    /// What the difference would have had to exceed (for harm) or fall below (for its absence); none when nothing would have been enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
    /// The observed order's rank among those alive: 1 is the most extreme.
    pub rank: usize,
    /// Orders alive, the observed one among them.
    pub alive: usize,
    /// Largest rank that decides at this look.
    pub budget: usize,
    /// The level that may have been spent by now.
    pub level: f64,
    /// Orders that this look retires, by number.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub retired: BTreeSet<u32>,
    /// Whether it decides.
    pub decides: bool,
}

/// On what grounds a metric is proven not to be worse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Ground {
    /// By the comparison.
    Ranks,
    /// By a bound below what nobody minds.
    Acceptable {
        /// Upper bound of the treated devices' mean.
        bound: f64,
        /// What is acceptable.
        level: f64,
    },
    /// At an earlier look of this wave.
    Earlier,
}

/// One metric at a look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricLook {
    /// Which.
    pub metric: Metric,
    /// Devices with the release.
    pub treated: ArmLook,
    /// Devices without it.
    pub controls: ArmLook,
    /// Whether the release is worse.
    pub harm: TestLook,
    /// Whether it is proven not to be `margin` times worse, by ranks.
    pub advance: TestLook,
    /// On what grounds it is proven; none is not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<Ground>,
    /// The upper bound that was held against what is acceptable, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// With which probability the truth is above the bound.
    #[serde(default = "of_before", skip_serializing_if = "is_of_before")]
    pub bound_level: f64,
    /// The difference with its confidence sequence: shown, never decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// What a look comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookVerdict {
    /// The release is worse in some metric.
    Harm,
    /// It is proven not to be in any.
    Proven,
    /// Neither.
    Inconclusive,
}

/// One look with everything that it was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Which look of the wave, from 1.
    pub look: u32,
    /// Looks of the wave.
    pub of: u32,
    /// Which look of the rollout, from 1.
    pub number: u32,
    /// Looks of the rollout.
    pub of_all: u32,
    /// What each metric shows.
    pub metrics: Vec<MetricLook>,
    /// Metrics without any data, which are not asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_data: Vec<Metric>,
    /// What it comes to.
    pub verdict: LookVerdict,
}

/// What the tests have spent: the fold of the looks so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// Orders retired in tests of harm, over the whole rollout.
    pub harm: BTreeMap<Metric, Spent>,
    /// Orders retired in tests of its absence, in this wave.
    pub advance: BTreeMap<Metric, Spent>,
    /// Metrics proven in this wave.
    pub proven: BTreeSet<Metric>,
    /// Looks made in this wave.
    pub looks: u32,
    /// What the last look of this wave came to.
    pub verdict: Option<LookVerdict>,
}

impl Standing {
    /// Takes in a look.
    pub fn take(&mut self, look: &Look) {
        for shown in &look.metrics {
            self.harm.entry(shown.metric).or_default().retired.extend(&shown.harm.retired);
            self.advance.entry(shown.metric).or_default().retired.extend(&shown.advance.retired);
            if shown.proven.is_some() {
                self.proven.insert(shown.metric);
            }
        }
        (self.looks, self.verdict) = (look.look, Some(look.verdict));
    }

    /// Another wave, or this one anew.
    pub fn begin_wave(&mut self) {
        *self = Self { harm: std::mem::take(&mut self.harm), ..Self::default() };
    }
}

/// The place of a look: index of the wave, and which of its looks, from 1.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Index of the wave.
    pub wave: usize,
    /// Which of its looks.
    pub look: u32,
}

/// Makes a look. `readings` hold, for each metric, one reading per place of the layout; none for a wave that the
/// experiment does not decide.
#[must_use]
pub fn look(
    design: &Design,
    layout: &Layout,
    seed: &Digest,
    standing: &Standing,
    at: At,
    readings: &BTreeMap<Metric, Vec<Reading>>,
) -> Option<Look> {
    let wave = design.deciding(at.wave)?;
    let number = wave.looks_before + at.look.min(design.looks);
    let treated = layout.treated(at.wave);
    let mut columns = Columns::default();
    let mut without_data = Vec::new();
    for metric in design.shares.keys() {
        let found =
            readings.get(metric).filter(|r| r.len() == layout.len() && r.iter().any(|r| r.now.value().is_some()));
        match found {
            Some(readings) => columns.add(*metric, readings, treated, design.margin, seed, number),
            None => without_data.push(*metric),
        }
    }
    let sums = layout.sums(seed, design.permutations, treated, &columns.fixed);
    let test = |index: usize, spent: &Spent, level: f64, (look, all): (u32, u32), upper: bool| {
        let (Some(column), Some(sums)) = (columns.fixed.get(index), sums.get(index)) else { return TestLook::none() };
        let sign = if upper { 1 } else { -1 };
        let observed: i64 = column.iter().take(treated).sum();
        let total: i64 = column.iter().sum();
        let sums: Vec<i64> = sums.iter().map(|sum| sign * sum).collect();
        let judged = judge(sign * observed, &sums, spent, allowed(level, look, all, design.permutations));
        let (n_t, n_c) = (treated.max(1) as f64, (layout.len() - treated).max(1) as f64);
        let difference = |sum: i64| rounded(float(sum) / n_t - float(total - sum) / n_c);
        TestLook {
            theta: rounded(columns.thetas.get(index).copied().unwrap_or(0.0)),
            observed: difference(observed),
            critical: judged.critical.map(|sum| difference(sign * sum)),
            rank: judged.rank,
            alive: judged.alive,
            budget: judged.budget,
            level: rounded(level * f64::from(look) / f64::from(all.max(1))),
            retired: judged.retired,
            decides: judged.extreme,
        }
    };
    let (harm_spent, advance_spent) = (|m| standing.harm.get(m), |m| standing.advance.get(m));
    let nothing = Spent::default();
    let mut metrics = Vec::new();
    for (index, metric) in columns.metrics.iter().enumerate() {
        let Some(all) = readings.get(metric) else { continue };
        let (with, without) = all.split_at(treated.min(all.len()));
        let share = design.shares.get(metric).copied().unwrap_or(0.0);
        let spent = (harm_spent(metric).unwrap_or(&nothing), advance_spent(metric).unwrap_or(&nothing));
        let harm = test(2 * index, spent.0, design.alpha * share, (number, design.all_looks), true);
        let advance = test(2 * index + 1, spent.1, design.beta, (at.look, design.looks), false);
        let (treated, controls) = (ArmLook::of(with), ArmLook::of(without));
        let level = design.acceptable.get(metric).copied();
        // In equal parts to the looks of the wave (Bonferroni): all of them together are wrong with `beta` at most.
        let bound_level = design.beta / f64::from(design.looks.max(1));
        let bound = level.and_then(|_| bound(with, bound_level)).map(rounded);
        let proven = match (bound, level) {
            _ if treated.scored == 0 => None,
            _ if standing.proven.contains(metric) => Some(Ground::Earlier),
            _ if advance.decides => Some(Ground::Ranks),
            (Some(bound), Some(level)) if bound <= level => Some(Ground::Acceptable { bound, level }),
            _ => None,
        };
        let tau = (controls.mean * (design.margin - 1.0)).max(1e-4);
        let difference =
            difference(&summary(with), &summary(without), tau, design.alpha * share).map(Difference::rounded);
        metrics.push(MetricLook {
            metric: *metric,
            treated,
            controls,
            harm,
            advance,
            proven,
            bound,
            bound_level,
            difference,
        });
    }
    let verdict = if metrics.iter().any(|shown| shown.harm.decides) {
        LookVerdict::Harm
    } else if !metrics.is_empty()
        && metrics.iter().all(|shown| shown.proven.is_some())
        && !without_data.contains(&Metric::Errors)
    {
        LookVerdict::Proven
    } else {
        LookVerdict::Inconclusive
    };
    let (look, of, of_all) = (at.look, design.looks, design.all_looks);
    Some(Look { look, of, number, of_all, metrics, without_data, verdict })
}

/// Looks stored before each had its level were all held against this.
const fn of_before() -> f64 {
    0.05
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_of_before(level: &f64) -> bool {
    level.total_cmp(&of_before()).is_eq()
}

/// A number as it is stored and shown: nine places, which JSON holds exactly.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

impl TestLook {
    fn none() -> Self {
        let retired = BTreeSet::new();
        let (theta, observed, level, critical) = (0.0, 0.0, 0.0, None);
        Self { theta, observed, critical, rank: 1, alive: 1, budget: 0, level, retired, decides: false }
    }
}

/// The upper bound of the treated devices' mean, where nobody is silent.
fn bound(treated: &[Reading], level: f64) -> Option<f64> {
    let values: Vec<f64> = treated
        .iter()
        .filter_map(|reading| if let Score::Value { value, .. } = reading.now { Some(value) } else { None })
        .collect();
    if !values.is_empty() {
        return upper_value(&values, level);
    }
    let mut counts = Vec::with_capacity(treated.len());
    for reading in treated {
        match reading.now {
            Score::Count { events, trials } => counts.push((events, trials)),
            Score::Missing => {}
            Score::Silent | Score::Value { .. } => return None,
        }
    }
    let (events, requests) = leveled(&counts);
    (!requests.is_empty()).then(|| upper_mean(events, &requests, level))
}

fn summary(readings: &[Reading]) -> Summary {
    let scores: Vec<f64> = readings.iter().filter_map(|reading| reading.now.value()).collect();
    Summary::of(&scores, readings.iter().map(|reading| reading.now.trials()).fold(0, u64::saturating_add))
}

/// Adjusted scores: for each metric one column for the test of harm, and one for the test of its absence.
#[derive(Default)]
struct Columns {
    metrics: Vec<Metric>,
    fixed: Vec<Vec<i64>>,
    thetas: Vec<f64>,
}

impl Columns {
    fn add(&mut self, metric: Metric, readings: &[Reading], treated: usize, margin: f64, seed: &Digest, number: u32) {
        let plain: Vec<Option<f64>> = readings.iter().map(|reading| reading.now.value()).collect();
        let purpose = format!("thin {metric} {number}");
        let less = readings.iter().zip(0_u64..).map(|(reading, place)| {
            let is_treated = usize::try_from(place).is_ok_and(|place| place < treated);
            if is_treated { lessened(&reading.now, margin, seed, &purpose, place) } else { reading.now.value() }
        });
        let less: Vec<Option<f64>> = less.collect();
        let past: Vec<Option<f64>> = readings.iter().map(|reading| reading.before).collect();
        self.metrics.push(metric);
        for column in [plain, less] {
            let adjusted = adjust(&filled(&column), &past);
            self.fixed.push(adjusted.scores.iter().map(|score| fixed(*score)).collect());
            self.thetas.push(adjusted.theta);
        }
    }
}

/// A device without a score has the mean of all that have one, of both arms alike.
fn filled(scores: &[Option<f64>]) -> Vec<f64> {
    let known: Vec<f64> = scores.iter().copied().flatten().collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    scores.iter().map(|score| score.unwrap_or(mean)).collect()
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
