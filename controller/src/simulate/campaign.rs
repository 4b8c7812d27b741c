//! Many simulated rollouts of each release, and what they come to.

use super::effect::Effect;
use super::naive::{self, Naive, NaiveError};
use super::plan::{Plan, PlanError};
use super::replica::{End, Outcome, Replica, ReplicaError};
use crate::rollout::strategy::Strategy;
use serde::Serialize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How much is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Campaign {
    /// Rollouts of each release.
    pub rollouts: usize,
    /// What everything follows from.
    pub seed: u64,
    /// Threads; 0 is as many as the machine has processors.
    pub threads: usize,
    /// Whether gates that others use are tried on the same fleets.
    pub compare: bool,
}

/// What cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// The plan cannot be used.
    #[error("cannot use the plan")]
    Plan(#[from] PlanError),
    /// A rollout failed.
    #[error("cannot simulate rollout {number} of the release `{release}`")]
    Replica {
        /// Which.
        number: usize,
        /// Of what.
        release: Effect,
        /// Why.
        #[source]
        source: Box<ReplicaError>,
    },
    /// Other gates cannot be tried.
    #[error("cannot try other gates on the same fleets")]
    Naive(#[from] NaiveError),
}

/// A count among all rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub count: usize,
    /// Their share.
    pub share: f64,
    /// 95 % interval of the true share (Wilson 1927).
    pub interval: [f64; 2],
}

impl Share {
    /// So many of `all`.
    #[must_use]
    pub fn of(count: usize, all: usize) -> Self {
        const Z: f64 = 1.959_963_984_540_054;
        let n = all.max(1) as f64;
        let p = count as f64 / n;
        let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        Self { count, share: p, interval: [(middle - half).clamp(0.0, p), (middle + half).clamp(p, 1.0)] }
    }
}

/// The middle and the upper end of some figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half are at most this.
    pub median: f64,
    /// Nine of ten are at most this.
    pub p90: f64,
}

impl Spread {
    /// None without any figures.
    #[must_use]
    pub fn of(mut all: Vec<f64>) -> Option<Self> {
        all.sort_by(f64::total_cmp);
        let at = |parts: usize| all.get((all.len() * parts).div_ceil(10).saturating_sub(1)).copied();
        Some(Self { median: at(5)?, p90: at(9)? })
    }
}

/// What another gate would have done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NaiveReport {
    /// Which.
    pub gate: &'static str,
    /// How often it takes the release back.
    pub rolled_back: Share,
    /// Requests that the release had served by then.
    pub requests: Option<Spread>,
}

/// What became of one release.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReleaseReport {
    /// What it does.
    pub release: Effect,
    /// Whether it does nothing.
    pub harmless: bool,
    /// How often it was taken back.
    pub rolled_back: Share,
    /// How often every wave passed.
    pub completed: Share,
    /// How often its first wave passed without a person.
    pub advanced: Share,
    /// How often a person had to decide.
    pub paused: Share,
    /// How often nothing of these.
    pub unfinished: Share,
    /// Hours until it was taken back.
    pub hours_to_rollback: Option<Spread>,
    /// Hours until it was complete.
    pub hours_to_completion: Option<Spread>,
    /// Requests that it had served when it was taken back.
    pub requests_exposed: Option<Spread>,
    /// Devices that had served any of them.
    pub devices_exposed: Option<Spread>,
    /// In which waves it was taken back, from the first on.
    pub rollbacks_by_wave: Vec<usize>,
    /// What other gates would have done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<NaiveReport>,
    /// One reason for a rollback or a pause, as an example.
    pub example: Option<String>,
}

/// What became of all of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Rollouts of each release.
    pub rollouts: usize,
    /// What everything followed from.
    pub seed: u64,
    /// Devices of the fleet.
    pub devices: usize,
    /// Each release of the plan.
    pub releases: Vec<ReleaseReport>,
}

type Naives = [Option<u64>; 4];

/// Simulates everything; `done` is called after each rollout, from any thread.
///
/// # Errors
/// When the plan cannot be used, or a rollout fails; the first failure ends it.
pub fn run(plan: &Plan, campaign: &Campaign, done: &(dyn Fn() + Sync)) -> Result<Report, CampaignError> {
    let strategy = plan.check()?;
    let mut releases = Vec::new();
    for effect in &plan.releases.0 {
        let results = spread_out(plan, &strategy, *effect, campaign, done)?;
        releases.push(summary(*effect, results));
    }
    Ok(Report { rollouts: campaign.rollouts, seed: campaign.seed, devices: plan.fleet.devices, releases })
}

/// All rollouts of one release, on all threads; in the order of their numbers, whoever ran them.
fn spread_out(
    plan: &Plan,
    strategy: &Strategy,
    effect: Effect,
    campaign: &Campaign,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<(Outcome, Naives)>, CampaignError> {
    let threads = match campaign.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        given => given,
    };
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, (Outcome, Naives))>> = Mutex::new(Vec::with_capacity(campaign.rollouts));
    let failure: Mutex<Option<CampaignError>> = Mutex::new(None);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= campaign.rollouts {
                return;
            }
            match one(plan, strategy, effect, campaign, number) {
                Ok(result) => results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result)),
                Err(error) => {
                    next.store(campaign.rollouts, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return;
                }
            }
            done();
        }
    };
    thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

fn one(
    plan: &Plan,
    strategy: &Strategy,
    effect: Effect,
    campaign: &Campaign,
    number: usize,
) -> Result<(Outcome, Naives), CampaignError> {
    let seed = campaign.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64);
    let outcome = Replica::new(plan, strategy, effect, seed)
        .and_then(|mut replica| replica.run())
        .map_err(|source| CampaignError::Replica { number, release: effect, source: Box::new(source) })?;
    let others = if campaign.compare { naive::walk(plan, strategy, effect, seed)? } else { [None; 4] };
    Ok((outcome, others))
}

fn summary(release: Effect, results: Vec<(Outcome, Naives)>) -> ReleaseReport {
    let all = results.len();
    let (outcomes, naives): (Vec<Outcome>, Vec<Naives>) = results.into_iter().unzip();
    let ended = |end: End| outcomes.iter().filter(move |outcome| outcome.end == end);
    let share = |end: End| Share::of(ended(end).count(), all);
    let figures = |end: End, figure: fn(&Outcome) -> f64| Spread::of(ended(end).map(figure).collect());
    let hours = |outcome: &Outcome| outcome.took.as_secs_f64() / 3_600.0;
    let waves = outcomes.iter().map(|outcome| outcome.wave).max().unwrap_or(0);
    let in_wave = |wave: usize| ended(End::RolledBack).filter(|outcome| outcome.wave == wave).count();
    let advanced = outcomes.iter().filter(|outcome| outcome.passed_alone > 0).count();
    let others = Naive::ALL.iter().enumerate().map(|(index, gate)| {
        let found: Vec<f64> =
            naives.iter().filter_map(|all| all.get(index).copied().flatten()).map(|requests| requests as f64).collect();
        NaiveReport { gate: gate.name(), rolled_back: Share::of(found.len(), all), requests: Spread::of(found) }
    });
    let others = if naives.iter().flatten().all(Option::is_none) { Vec::new() } else { others.collect() };
    ReleaseReport {
        release,
        harmless: release.is_harmless(),
        rolled_back: share(End::RolledBack),
        completed: share(End::Completed),
        advanced: Share::of(advanced, all),
        paused: share(End::Paused),
        unfinished: share(End::Unfinished),
        hours_to_rollback: figures(End::RolledBack, hours),
        hours_to_completion: figures(End::Completed, hours),
        requests_exposed: figures(End::RolledBack, |outcome| outcome.requests as f64),
        devices_exposed: figures(End::RolledBack, |outcome| outcome.devices as f64),
        rollbacks_by_wave: (1..=waves).map(in_wave).collect(),
        others,
        example: outcomes.iter().find_map(|outcome| outcome.reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_share_holds_it_and_stays_within_one() {
        let shares = [Share::of(0, 100), Share::of(5, 100), Share::of(100, 100), Share::of(0, 0)];
        for Share { share, interval: [low, high], .. } in shares {
            assert!(0.0 <= low && low <= share && share <= high && high <= 1.0, "{low} {share} {high}");
        }
        let [low, high] = Share::of(96, 2_000).interval;
        assert!((low - 0.0395).abs() < 0.0005 && (high - 0.0583).abs() < 0.0005, "{low} {high}");
    }

    #[test]
    fn the_middle_of_no_figures_is_none() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0]), Some(Spread { median: 3.0, p90: 3.0 }));
        let ten = Spread::of((1..=10).map(f64::from).collect());
        assert_eq!(ten, Some(Spread { median: 5.0, p90: 9.0 }));
    }
}
