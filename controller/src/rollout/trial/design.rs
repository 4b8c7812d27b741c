//! What is settled when a rollout is created, and what it can decide. Nothing of it changes afterwards.

use super::metric::Metric;
use super::past::Watch;
use super::permutation::{Layout, allowed};
use super::power::{Base, Detects, detects};
use super::schedule::{Looks, multiple};
use super::settings::{ACCEPTABLE_DRIFT, ACCEPTABLE_ERRORS, SLOW, Settings};
use crate::rollout::duration;
use fieldpost_shared::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Times that the first look comes after what the fleet's windows take, so that one of each device can arrive.
const WINDOWS_TO_LOOK: f64 = 1.5;

/// What the fleet has shown before the rollout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Whether any device runs another release of the model: without one there is nothing to compare with.
    pub comparable: bool,
    /// Longest that a device's windows take to close, as a mean over its windows.
    pub window: Option<Duration>,
    /// Metrics that this rollout cannot have, and why.
    pub lacking: BTreeMap<Metric, String>,
    /// What devices show of a metric.
    pub bases: BTreeMap<Metric, Base>,
    /// The bundle's own error budget.
    pub error_budget: Option<f64>,
    /// When the history ends: the rollout's creation.
    pub until: Timestamp,
}

/// One metric in one wave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reach {
    /// Alpha that is spent on it by the wave's last look.
    pub level: f64,
    /// Whether any result at all could roll the release back.
    pub possible: bool,
    /// What it detects; none when the fleet has shown nothing of the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detects: Option<Detects>,
}

/// What the experiment is for one wave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaveDesign {
    /// Devices with the release.
    pub treated: usize,
    /// Devices without it.
    pub controls: usize,
    /// The smallest p-value that any result can have.
    pub smallest_p: f64,
    /// Looks of the whole rollout before this wave's first.
    pub looks_before: u32,
    /// Why the wave cannot be decided by the experiment; none when it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided: Option<String>,
    /// How its devices are held against their own past, where nobody is left to compare them with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// The metrics; empty where the wave is not decided.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<Metric, Reach>,
}

impl WaveDesign {
    /// Whether the experiment decides it.
    #[must_use]
    pub const fn decides(&self) -> bool {
        self.undecided.is_none()
    }
}

/// The experiment of one rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Design {
    /// Probability of a false rollback.
    pub alpha: f64,
    /// Probability of a false advance of one wave.
    pub beta: f64,
    /// How many times worse is too much.
    pub margin: f64,
    /// Orders that the observed one is compared with.
    pub permutations: u32,
    /// Each metric's share of alpha; they sum to 1.
    pub shares: BTreeMap<Metric, f64>,
    /// Metrics that are left out, and why.
    pub left_out: BTreeMap<Metric, String>,
    /// Levels of harm that nobody minds.
    pub acceptable: BTreeMap<Metric, f64>,
    /// Time until a wave's first look.
    #[serde(with = "duration")]
    pub look_every: Duration,
    /// How long nothing counts yet when a soak has begun.
    #[serde(with = "duration")]
    pub warm_up: Duration,
    /// Looks of a wave.
    pub looks: u32,
    /// Looks of the whole rollout.
    pub all_looks: u32,
    /// When the devices' history begins.
    pub history_from: Timestamp,
    /// When it ends.
    pub history_until: Timestamp,
    /// The waves that have a soak.
    pub waves: Vec<WaveDesign>,
}

/// What of a strategy the design depends on, beside the settings.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long a wave soaks at least.
    pub soak: Duration,
    /// How long it may hold, where somebody chose that.
    pub max_dwell: Option<Duration>,
    /// How far back a device's history reaches.
    pub history: Duration,
    /// Whether somebody chose that nobody is held out: then the last wave is watched also where no other is decided.
    pub all_by_choice: bool,
}

/// `look_every` and the warm-up of a wave with such a soak, of devices whose windows take so long.
#[must_use]
pub fn rhythm(settings: &Settings, soak: Duration, window: Option<Duration>) -> (Duration, Duration) {
    let windows = |times: f64| window.map_or(Duration::ZERO, |window| window.mul_f64(times));
    let whole = |duration: Duration| Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    let look_every = settings.look_every.unwrap_or_else(|| soak.max(windows(WINDOWS_TO_LOOK)));
    let warm_up = settings.warm_up.unwrap_or_else(|| windows(2.0));
    (whole(look_every).max(Duration::from_millis(1)), whole(warm_up))
}

impl Design {
    /// The experiment for an order and what the fleet has shown.
    #[must_use]
    pub fn new(settings: &Settings, pace: Pace, layout: &Layout, waves: usize, facts: &Facts) -> Self {
        let windows = |times: f64| facts.window.map_or(Duration::ZERO, |window| window.mul_f64(times));
        let (look_every, warm_up) = rhythm(settings, pace.soak, facts.window);
        let fits = |look: u32| {
            let dwell = pace.max_dwell.unwrap_or(Duration::MAX);
            warm_up.saturating_add(look_every.saturating_mul(multiple(look))) <= dwell
        };
        let looks = (1..=settings.looks).rev().find(|look| fits(*look)).unwrap_or(1);
        let present = Metric::ALL.into_iter().filter(|metric| !facts.lacking.contains_key(metric));
        let shares = settings.shares.among(present);
        let mut acceptable = BTreeMap::new();
        let errors = settings.acceptable.errors.or(facts.error_budget).unwrap_or(ACCEPTABLE_ERRORS);
        let latency = settings.acceptable.latency.unwrap_or(SLOW * settings.margin).min(0.5);
        let drift = settings.acceptable.drift.unwrap_or(ACCEPTABLE_DRIFT);
        acceptable.extend([(Metric::Errors, errors), (Metric::Latency, latency), (Metric::Drift, drift)]);
        acceptable.extend(settings.acceptable.accuracy.map(|level| (Metric::Accuracy, level)));
        acceptable.retain(|metric, level| *level > 0.0 && shares.contains_key(metric));
        let mut design = Self {
            alpha: settings.alpha,
            beta: settings.beta,
            margin: settings.margin,
            permutations: settings.permutations,
            shares,
            left_out: facts.lacking.clone(),
            acceptable,
            look_every,
            warm_up,
            looks,
            all_looks: 0,
            history_from: facts.until.minus(pace.history),
            history_until: facts.until,
            waves: (0..waves).map(|wave| WaveDesign::of(layout, wave)).collect(),
        };
        design.settle(facts);
        design.foresee(facts);
        design.watch(pace, windows(WINDOWS_TO_LOOK));
        design
    }

    /// Finds the waves that can be decided. Looks are counted over these alone, and fewer looks leave more to each, so
    /// this is done until nothing changes.
    fn settle(&mut self, facts: &Facts) {
        let never = !facts.comparable;
        for wave in &mut self.waves {
            wave.undecided = if never {
                Some("no device runs another release to compare with".to_owned())
            } else if wave.controls == 0 {
                Some("no device is left without the release".to_owned())
            } else {
                None
            };
        }
        // The observed path is as extreme as its equals, of which there are so many on average.
        let needs = |p: f64, paths: u32| 1.0 + f64::from(paths) * p;
        loop {
            let mut before = 0;
            for wave in &mut self.waves {
                wave.looks_before = before;
                let watched = wave.controls == 0 && facts.comparable && facts.window.is_some();
                before += if wave.decides() || watched { self.looks } else { 0 };
            }
            self.all_looks = before.max(1);
            let (paths, looks, all) = (self.permutations, self.looks, self.all_looks);
            let (alpha, beta) = (self.alpha, self.beta);
            let mut changed = false;
            for wave in self.waves.iter_mut().filter(|wave| wave.decides()) {
                let p = wave.smallest_p;
                let need = needs(p, paths);
                let reaches = |level: f64, look, all| allowed(level, look, all, paths) as f64 >= need;
                let last = wave.looks_before + looks;
                let proves = reaches(beta, looks, looks);
                let finds = self.shares.values().any(|share| reaches(alpha * share, last, all));
                if !(proves && finds) {
                    let (treated, controls) = (wave.treated, wave.controls);
                    wave.undecided = Some(format!(
                        "{treated} against {controls} devices: no result has a p-value below {p:.2}, which is too much"
                    ));
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn foresee(&mut self, facts: &Facts) {
        let (looks, all, paths, alpha) = (self.looks, self.all_looks, self.permutations, self.alpha);
        let time = self.look_every.saturating_mul(multiple(looks));
        for wave in self.waves.iter_mut().filter(|wave| wave.decides()) {
            let last = wave.looks_before + looks;
            for (metric, share) in &self.shares {
                let level = alpha * share * f64::from(last) / f64::from(all);
                let need = 1.0 + f64::from(paths) * wave.smallest_p;
                let possible = allowed(alpha * share, last, all, paths) as f64 >= need;
                let base = facts.bases.get(metric);
                let detects = base.map(|base| detects(base, wave.treated, wave.controls, level, time, self.margin));
                wave.metrics.insert(*metric, Reach { level, possible, detects });
            }
        }
    }

    /// Has the waves watched that nobody is left to be compared with.
    fn watch(&mut self, pace: Pace, window: Duration) {
        let history = self.history_until.since(self.history_from);
        let level =
            Metric::ALL.into_iter().filter(|metric| self.shares.contains_key(metric)).map(|m| self.watch_level(m));
        let level = level.fold(1.0, f64::min);
        if window.is_zero() || !(pace.all_by_choice || self.decides_anything()) {
            return;
        }
        let dwell = pace.max_dwell.unwrap_or(Duration::MAX);
        let warm_up = self.warm_up;
        let fits = |watch: &Watch| warm_up.saturating_add(watch.least()) <= dwell;
        for wave in self.waves.iter_mut().filter(|wave| wave.controls == 0) {
            wave.watch = Watch::new(window, pace.soak, history, wave.treated, level).filter(fits);
        }
    }

    /// What a watched wave may spend on a metric: as much as the looks of another wave.
    #[must_use]
    pub fn watch_level(&self, metric: Metric) -> f64 {
        let share = self.shares.get(&metric).copied().unwrap_or_default();
        self.alpha * share * f64::from(self.looks) / f64::from(self.all_looks.max(self.looks))
    }

    /// Whether any wave is decided by the experiment.
    #[must_use]
    pub fn decides_anything(&self) -> bool {
        self.waves.iter().any(WaveDesign::decides)
    }

    /// The design of a wave that it decides.
    #[must_use]
    pub fn deciding(&self, wave: usize) -> Option<&WaveDesign> {
        self.waves.get(wave).filter(|wave| wave.decides())
    }

    /// The looks of a wave whose soak began then.
    #[must_use]
    pub fn looks_from(&self, soak_began: Timestamp) -> Looks {
        Looks { starts: soak_began.plus(self.warm_up), every: self.look_every, count: self.looks }
    }

    /// How long a wave takes at most, from the beginning of its soak to its last look.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.warm_up.saturating_add(self.look_every.saturating_mul(multiple(self.looks)))
    }
}

impl WaveDesign {
    fn of(layout: &Layout, wave: usize) -> Self {
        let treated = layout.treated(wave);
        Self {
            treated,
            controls: layout.len().saturating_sub(treated),
            smallest_p: layout.smallest_p(treated),
            looks_before: 0,
            undecided: None,
            watch: None,
            metrics: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
#[path = "design_tests.rs"]
mod tests;
