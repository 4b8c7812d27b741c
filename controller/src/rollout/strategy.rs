//! How a rollout goes on and when it stops: the strategy file that people write, and what it means.
//!
//! [`StrategyFile`] has optional fields and is what travels (TOML file, flags, HTTP); [`Strategy`] is complete and
//! checked, and is stored with the rollout. `docs/strategy.md` is the reference for people.

use super::ab::AbTest;
use super::approval::Approval;
use super::duration;
use super::fleet::DeviceView;
use super::maintenance::{MAX_WINDOWS, Window, Zone};
use super::plan::{MAX_WAVES, PlanError, Share, Waves};
use super::requires::Requirement;
use super::trial::Settings;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v2::WHOLE;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Longest duration that a strategy may name: 90 days.
const LONGEST: Duration = Duration::from_secs(90 * 86_400);
/// Longest selector.
const MAX_SELECTOR_BYTES: usize = 1_000;
/// Most other models that must be live.
const MAX_REQUIRES: usize = 50;

/// A strategy that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StrategyError {
    /// Waves that cannot be.
    #[error("cannot use the waves")]
    Waves(#[source] PlanError),
    /// A number outside of what it may be.
    #[error("`{field}` must be {expected}, got {found}")]
    Range {
        /// Which field.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// Not `label:count`.
    #[error("`{0}` is not a label and a count such as site:1")]
    Per(String),
}

/// What happens when a limit is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Every touched device returns to its own previous release.
    #[default]
    Rollback,
    /// The rollout pauses and a person decides.
    Pause,
}

/// What becomes of the devices held out when the last soak has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holdout {
    /// They get the release too, as a last step without a soak.
    #[default]
    Release,
    /// They keep what they have.
    Keep,
}

/// What a wave must have shown before the next one begins, beside `min_requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Demand {
    /// The experiment: every metric has proven that the release is no more than `trial.margin` times worse. Waves that
    /// it cannot decide are left to the gates, see [`SmallFleet`].
    #[default]
    Trial,
    /// Every gate that has a bound has seen enough to judge.
    Gates,
    /// Requests alone.
    Requests,
}

/// What a wave needs that is too small for the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SmallFleet {
    /// Gates, and then a person's approval before the next wave begins.
    #[default]
    Ask,
    /// Gates alone.
    Limits,
}

/// At most so many devices at once for each value of a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PerLabel {
    /// The label, such as `site`.
    pub label: String,
    /// Devices of one value that change at the same time.
    pub max: usize,
}

impl FromStr for PerLabel {
    type Err = StrategyError;
    fn from_str(text: &str) -> Result<Self, StrategyError> {
        let refuse = || StrategyError::Per(text.chars().take(80).collect());
        let (label, max) = text.rsplit_once(':').ok_or_else(refuse)?;
        let max = max.parse().ok().filter(|max| *max > 0).ok_or_else(refuse)?;
        if label.is_empty() { Err(refuse()) } else { Ok(Self { label: label.to_owned(), max }) }
    }
}

impl TryFrom<String> for PerLabel {
    type Error = StrategyError;
    fn try_from(text: String) -> Result<Self, StrategyError> {
        text.parse()
    }
}

impl From<PerLabel> for String {
    fn from(per: PerLabel) -> Self {
        per.to_string()
    }
}

impl fmt::Display for PerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.label, self.max)
    }
}

/// Hard limits: for catastrophe, and on metrics never absolute alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Share of requests that the model fails; none takes the bundle's budget, else 5 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    /// 95th percentile of an inference, milliseconds; none takes the bundle's budget, else there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_latency_ms: Option<f64>,
    /// Adjusted PSI of the outputs; none takes the bundle's budget, else 0.25.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_psi: Option<f64>,
    /// How many times worse than the devices without the release, and than the same devices before, it must be.
    pub factor: f64,
    /// Largest p-value at which an excess counts.
    pub alpha: f64,
    /// More devices than this that fail the self-test are too many; none leaves it to the health rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_self_tests: Option<usize>,
    /// The same for devices that die with the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crashes: Option<usize>,
    /// The same for devices that took the release back by themselves, or on which somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_rollbacks: Option<usize>,
    /// The same for devices that were there, got the release, and fell silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            error_rate: None,
            p95_latency_ms: None,
            max_psi: None,
            factor: 3.0,
            alpha: 0.001,
            failed_self_tests: None,
            crashes: None,
            local_rollbacks: None,
            silent: None,
        }
    }
}

/// Declares the file form and the complete form together, so that neither can lack a field of the other.
macro_rules! strategy {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr $(, with $with:literal $optional:literal)? $(, skip $skip:literal)?;)+) => {
        /// A strategy as people write it: what is absent has its default. Durations are texts such as `30s`.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct StrategyFile {
            /// What to roll out, `MODEL@VERSION`; the command line may name it instead.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub release: Option<String>,
            /// Which devices; the command line may name them instead.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub selector: Option<String>,
            /// One line for people.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub note: Option<String>,
            /// Longest that a wave holds for evidence, beyond which the rollout pauses; default: the soak and 70
            /// minutes, or four soaks if that is longer, so that an hourly window can arrive.
            #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
            pub max_dwell: Option<Duration>,
            /// Probation on the device after the swap; default: the soak, at most a minute.
            #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
            pub probation: Option<Duration>,
            $($(#[doc = $doc])+
            #[serde(default, skip_serializing_if = "Option::is_none" $(, with = $optional)?)]
            pub $field: Option<$type>,)+
        }

        impl StrategyFile {
            /// Takes from `over` what it has, and from this what it lacks.
            #[must_use]
            pub fn overridden_by(self, over: Self) -> Self {
                Self {
                    release: over.release.or(self.release),
                    selector: over.selector.or(self.selector),
                    note: over.note.or(self.note),
                    max_dwell: over.max_dwell.or(self.max_dwell),
                    probation: over.probation.or(self.probation),
                    $($field: over.$field.or(self.$field),)+
                }
            }
        }

        /// A complete strategy. A field that a later version adds has its default when an older rollout is read.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Strategy {
            /// Longest that a wave holds for evidence.
            #[serde(with = "duration")]
            pub max_dwell: Duration,
            /// Whether somebody chose that; else the experiment makes all its looks.
            pub dwell_chosen: bool,
            /// Probation on the device after the swap.
            #[serde(with = "duration")]
            pub probation: Duration,
            $($(#[doc = $doc])+
            $(#[serde(with = $with)])?
            $(#[serde(skip_serializing_if = $skip)])?
            pub $field: $type,)+
        }

        impl Default for Strategy {
            fn default() -> Self {
                Self::complete(&StrategyFile::default())
            }
        }

        impl From<&Strategy> for StrategyFile {
            /// A file that says all of it; release, selector and note are not part of a strategy.
            fn from(strategy: &Strategy) -> Self {
                Self {
                    release: None,
                    selector: None,
                    note: None,
                    max_dwell: strategy.dwell_chosen.then_some(strategy.max_dwell),
                    probation: Some(strategy.probation),
                    $($field: Some(strategy.$field.clone()),)+
                }
            }
        }

        impl Strategy {
            fn complete(file: &StrategyFile) -> Self {
                let soak = file.soak.unwrap_or(SOAK);
                let dwell = soak.saturating_add(Duration::from_secs(70 * 60)).max(soak.saturating_mul(4));
                Self {
                    max_dwell: file.max_dwell.unwrap_or(dwell),
                    dwell_chosen: file.max_dwell.is_some(),
                    probation: file.probation.unwrap_or(soak.min(Duration::from_secs(60))),
                    $($field: file.$field.clone().unwrap_or_else(|| $default),)+
                }
            }
        }
    };
}

const SOAK: Duration = Duration::from_secs(600);

strategy! {
    /// Waves, cumulative: `1,4,12`, `10%,50%,100%`; groups: `1,site=lyon,rest`; or growing: `grow 1 x4`.
    waves: Waves = default_waves();
    /// Devices that are kept without the release until the last soak has passed. Where nobody says: 5 %, or one of each
    /// stratum, when the experiment can decide anything with them; else none.
    holdout: Share = Share::NONE;
    /// What becomes of them then.
    holdout_then: Holdout = Holdout::default();
    /// How long a whole wave runs the release in shadow before its devices swap; 0 is not at all.
    shadow: Duration = Duration::ZERO, with "duration" "duration::optional";
    /// Share of the requests that the release sees in shadow.
    shadow_portion: Share = Share::ALL;
    /// Waves that begin in shadow, from the first; 0 is all of them.
    shadow_waves: usize = 0;
    /// Requests that a device must have answered with both releases.
    shadow_pairs: u64 = 100;
    /// How long a whole wave runs the release before the next one begins.
    soak: Duration = SOAK, with "duration" "duration::optional";
    /// How long after a device's swap its statistics are left out.
    warm_up: Duration = Duration::ZERO, with "duration" "duration::optional";
    /// How long a device that is there may take to become live, and how long a wave waits for one that is not.
    device_timeout: Duration = Duration::from_secs(900), with "duration" "duration::optional";
    /// How long a wave may take to become live before the rollout pauses.
    wave_timeout: Duration = Duration::from_secs(7_200), with "duration" "duration::optional";
    /// A device that the controller has not heard of for so long is silent. An idle one reports every five minutes.
    silence_after: Duration = Duration::from_secs(600), with "duration" "duration::optional";
    /// Devices that change at the same time; 0 is as many as the wave has.
    max_concurrent: usize = 0;
    /// The same for each value of a label: `site:1`.
    per: Vec<PerLabel> = Vec::new();
    /// Waves, by their number from 1 in `waves`, that begin only when a person approves, and who may: `2:admin+other`.
    approve_before: Vec<Approval> = Vec::new();
    /// Devices of the waves so far that may have failed when the next wave begins.
    max_failed: Share = Share::NONE;
    /// Devices of the waves so far that may be offline or silent when the next wave begins; rounded down.
    max_offline: Share = Share::Parts(2_500);
    /// Requests that a device must have answered, in windows that arrived within the wave, to count as evidence.
    min_requests: u64 = 1;
    /// Share of the wave's live devices that must have answered so many; rounded up, at least one.
    min_traffic: Share = Share::ALL;
    /// What else a wave must have shown.
    evidence: Demand = Demand::default();
    /// What a wave needs that is too small for the experiment.
    small_fleet: SmallFleet = SmallFleet::default();
    /// How the experiment is made.
    trial: Settings = Settings::default();
    /// Holds the release and the one before side by side, measures how they differ, and leaves the rest to a person.
    ab: AbTest = AbTest::default();
    /// How often a device that failed before its swap gets another attempt.
    retries: u32 = 2;
    /// How long until the first other attempt; doubles with each.
    retry_after: Duration = Duration::from_secs(10), with "duration" "duration::optional";
    /// What happens when a limit is broken.
    on_failure: OnFailure = OnFailure::default();
    /// Hard limits.
    limits: Limits = Limits::default();
    /// Labels that, beside the hardware class, set strata of the random order.
    stratify: Vec<String> = vec!["site".to_owned()];
    /// How far back a device's own statistics before the rollout are compared.
    history: Duration = Duration::from_secs(86_400), with "duration" "duration::optional";
    /// No device is told before.
    not_before: Option<Timestamp> = None, skip "Option::is_none";
    /// No device is told after it: what has not begun by then waits for a person.
    until: Option<Timestamp> = None, skip "Option::is_none";
    /// When a device may be told, by its own clock on the wall; none is always.
    maintenance: Vec<Window> = Vec::new(), skip "Vec::is_empty";
    /// The time zone of devices without the label `timezone`.
    timezone: Zone = Zone::default(), skip "is_default";
    /// Of rollouts of different models that want the same device, the one with the higher number goes first.
    priority: i32 = 0, skip "is_default";
    /// Whether a device is told only while no other model changes on it.
    one_at_a_time: bool = true, skip "is_true";
    /// What must be live on a device before it is told: `detector>=2.1`.
    requires: Vec<Requirement> = Vec::new(), skip "Vec::is_empty";
    /// Matching devices that cannot run the release and are left out; with more of them nothing begins. Rounded down.
    max_unfit: Share = MAX_UNFIT, skip "is_max_unfit";
}

/// Fewer than half of the devices that match.
const MAX_UNFIT: Share = Share::Parts(4_999);

// What a later version added is not written while it has its default: older rollouts and new ones then look alike. So
// these defaults are part of the stored form, and cannot change.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_true(value: &bool) -> bool {
    *value
}

fn is_max_unfit(share: &Share) -> bool {
    *share == MAX_UNFIT
}

fn default_waves() -> Waves {
    Waves::new([Share::Parts(1_000), Share::Parts(5_000), Share::ALL]).expect("10 %, 50 %, 100 % grow")
}

/// An A/B test as people ask for one: what they leave open is one wave, and, where devices are split, half of them.
fn side_by_side(file: &StrategyFile) -> StrategyFile {
    let splits = file.ab.as_ref().is_some_and(|ab| ab.mode().is_some());
    let half = if splits { Share::NONE } else { Share::Parts(5_000) };
    let whole = Waves::new([Share::ALL]).ok();
    StrategyFile {
        waves: file.waves.clone().or(whole),
        holdout: file.holdout.or(Some(half)),
        holdout_then: file.holdout_then.or(Some(Holdout::Keep)),
        evidence: file.evidence.or(Some(Demand::Requests)),
        ..file.clone()
    }
}

impl Strategy {
    /// Completes a file with defaults and checks it.
    ///
    /// # Errors
    /// When a value is outside of what it may be.
    pub fn resolve(file: &StrategyFile) -> Result<Self, StrategyError> {
        let file = &if file.ab.as_ref().is_some_and(AbTest::asked) { side_by_side(file) } else { file.clone() };
        let strategy = Self::complete(file);
        let out = |field, expected, found: String| Err(StrategyError::Range { field, expected, found });
        for (field, duration) in strategy.durations() {
            if duration > LONGEST {
                return out(field, "at most 90d", duration::text(duration));
            }
        }
        let positive = [
            ("device_timeout", strategy.device_timeout),
            ("wave_timeout", strategy.wave_timeout),
            ("silence_after", strategy.silence_after),
        ];
        if let Some((field, duration)) = positive.into_iter().find(|(_, duration)| duration.is_zero()) {
            return out(field, "longer than 0s", duration::text(duration));
        }
        if let Some((field, expected, found)) = strategy.trial.fault().or_else(|| strategy.ab.fault()) {
            return out(field, expected, found);
        }
        if strategy.ab.asked() {
            if strategy.waves.last_number() != Some(1) {
                return out("waves", "a single one in an A/B test", strategy.waves.to_string());
            }
            if strategy.evidence == Demand::Trial {
                return out("evidence", "gates or requests in an A/B test: it decides nothing", "trial".to_owned());
            }
            if strategy.holdout_then == Holdout::Release {
                return out(
                    "holdout_then",
                    "keep in an A/B test: who is held out is the other arm",
                    "release".to_owned(),
                );
            }
            if !strategy.shadow.is_zero() {
                return out("shadow", "0s in an A/B test", duration::text(strategy.shadow));
            }
        }
        let waves = strategy.waves.last_number().unwrap_or(MAX_WAVES);
        if let Some(approval) = strategy.approve_before.iter().find(|approval| !(1..=waves).contains(&approval.wave)) {
            return out("approve_before", "the number of a wave, from 1", approval.wave.to_string());
        }
        if strategy.shadow_waves > waves {
            return out("shadow_waves", "at most as many as there are waves", strategy.shadow_waves.to_string());
        }
        if let (Some(from), Some(until)) = (strategy.not_before, strategy.until)
            && from >= until
        {
            return out("until", "later than not_before", until.to_string());
        }
        if strategy.maintenance.len() > MAX_WINDOWS {
            return out("maintenance", "at most 50 windows", strategy.maintenance.len().to_string());
        }
        if strategy.requires.len() > MAX_REQUIRES {
            return out("requires", "at most 50 models", strategy.requires.len().to_string());
        }
        if !matches!(strategy.shadow_portion, Share::Parts(1..=10_000)) {
            return out("shadow_portion", "a share above 0 % and at most 100 %", strategy.shadow_portion.to_string());
        }
        if strategy.retries > 20 {
            return out("retries", "at most 20", strategy.retries.to_string());
        }
        let limits = &strategy.limits;
        let bounds = [
            ("limits.error_rate", limits.error_rate.unwrap_or(0.0), 1.0),
            ("limits.p95_latency_ms", limits.p95_latency_ms.unwrap_or(0.0), f64::MAX),
            ("limits.max_psi", limits.max_psi.unwrap_or(0.0), f64::MAX),
            ("limits.alpha", limits.alpha, 0.5),
        ];
        if let Some((field, value, _)) = bounds.into_iter().find(|(_, value, max)| !(0.0..=*max).contains(value)) {
            return out(field, "a finite number within its range, at least 0", value.to_string());
        }
        if limits.alpha == 0.0 {
            // Nothing would ever be significant: all limits but the count of failures would be off without a word.
            return out("limits.alpha", "above 0", limits.alpha.to_string());
        }
        if !(limits.factor >= 1.0 && limits.factor.is_finite()) {
            return out("limits.factor", "a finite number of at least 1", limits.factor.to_string());
        }
        if file.selector.as_ref().is_some_and(|selector| selector.len() > MAX_SELECTOR_BYTES) {
            return out("selector", "at most 1000 bytes", "more".to_owned());
        }
        Ok(strategy)
    }

    fn durations(&self) -> [(&'static str, Duration); 11] {
        [
            ("soak", self.soak),
            ("shadow", self.shadow),
            ("max_dwell", self.max_dwell),
            ("probation", self.probation),
            ("warm_up", self.warm_up),
            ("device_timeout", self.device_timeout),
            ("wave_timeout", self.wave_timeout),
            ("silence_after", self.silence_after),
            ("retry_after", self.retry_after),
            ("history", self.history),
            ("ab.lasts", self.ab.lasts),
        ]
    }

    /// The stratum of the random order that a device is drawn in: its hardware class and labels, and the group that a
    /// wave is for, where it belongs to one. So nothing but chance decides within a stratum.
    #[must_use]
    pub fn stratum(&self, view: &DeviceView) -> String {
        let stratum = view.stratum(&self.stratify);
        match self.waves.groups().find(|(_, selector)| selector.matches(view.subject())) {
            Some((_, selector)) => format!("{selector}: {stratum}"),
            None => stratum,
        }
    }

    /// The share of requests in shadow, in hundredths of a percent.
    #[must_use]
    pub fn shadow_portion(&self) -> u16 {
        match self.shadow_portion {
            Share::Parts(parts) => u16::try_from(parts).unwrap_or(WHOLE).min(WHOLE),
            Share::Count(_) => WHOLE,
        }
    }

    /// Whether only so many devices may change at the same time.
    #[must_use]
    pub fn is_capped(&self) -> bool {
        self.max_concurrent > 0 || !self.per.is_empty()
    }

    /// How long to wait before another attempt when so many have been made.
    #[must_use]
    pub fn retry_delay(&self, tries: u32) -> Duration {
        self.retry_after.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(LONGEST)
    }
}

#[cfg(test)]
#[path = "strategy_tests.rs"]
mod tests;
