//! The flags of `rollout start`: a strategy file, flag by flag.

use crate::cli::Failure;
use crate::rollout::ab::{AbTest, Sticky};
use crate::rollout::approval::Approval;
use crate::rollout::duration;
use crate::rollout::maintenance::{Window, Zone};
use crate::rollout::plan::{Share, Waves};
use crate::rollout::requires::Requirement;
use crate::rollout::strategy::{Demand, Holdout, Limits, OnFailure, PerLabel, SmallFleet, StrategyFile};
use crate::rollout::trial::Settings;
use clap::Args;
use fieldpost_shared::id::ModelName;
use fieldpost_shared::time::Timestamp;
use semver::Version;
use std::path::Path;
use std::time::Duration;

/// Flags that say how a rollout goes on and when it stops.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Strategy")]
pub struct StrategyFlags {
    /// Which devices, by labels and inventory: `site=lyon,arch=aarch64,tier!=lab,has:gpu` [default: *]
    #[arg(long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Waves, cumulative: `1,4,12`; by group: `1,site=lyon,rest`; growing: `grow 1 x4` [default: 10%,50%,100%]
    #[arg(long, value_name = "WAVES")]
    pub waves: Option<Waves>,
    /// Devices kept without the release until the last soak has passed: `5%`, `2` [default: 5 %, or one of each stratum, where
    /// they can be compared with]
    #[arg(long, value_name = "SHARE")]
    pub holdout: Option<Share>,
    /// What becomes of them then [default: release]
    #[arg(long, value_name = "WHAT", value_parser = ["release", "keep"])]
    pub holdout_then: Option<String>,
    /// How long a wave runs the release in shadow before its devices swap [default: not at all]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub shadow: Option<Duration>,
    /// Share of the requests that the release sees in shadow [default: 100%]
    #[arg(long, value_name = "SHARE")]
    pub shadow_portion: Option<Share>,
    /// Waves that begin in shadow, from the first [default: all]
    #[arg(long, value_name = "COUNT")]
    pub shadow_waves: Option<usize>,
    /// Requests that a device must have answered with both releases [default: 100]
    #[arg(long, value_name = "COUNT")]
    pub shadow_pairs: Option<u64>,
    /// How long a whole wave runs the release before the next begins [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub soak: Option<Duration>,
    /// Longest that a wave holds for evidence; then the rollout pauses [default: the soak and 70m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub max_dwell: Option<Duration>,
    /// How long after a device's swap its statistics are left out [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub warm_up: Option<Duration>,
    /// Probation on the device after the swap [default: the soak, at most 1m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub probation: Option<Duration>,
    /// How long a device that is there may take, and a wave waits for one that is not [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub device_timeout: Option<Duration>,
    /// How long a wave may take to become live before the rollout pauses [default: 2h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub wave_timeout: Option<Duration>,
    /// A device not heard of for so long is silent [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub silence_after: Option<Duration>,
    /// Devices that change at the same time [default: the whole wave]
    #[arg(long, value_name = "COUNT", value_parser = at_least_one)]
    pub max_concurrent: Option<usize>,
    /// The same for each value of a label: `site:1`; may be repeated
    #[arg(long, value_name = "LABEL:COUNT")]
    pub per: Vec<PerLabel>,
    /// Waves, by number, that begin only when somebody approves, and who may: `2,3:admin,4:admin+other`
    #[arg(long, value_name = "WAVE[:WHO]", value_delimiter = ',')]
    pub approve_before: Vec<Approval>,
    /// Devices that may have failed when the next wave begins [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub max_failed: Option<Share>,
    /// Devices that may be offline or silent when the next wave begins [default: 25%]
    #[arg(long, value_name = "SHARE")]
    pub max_offline: Option<Share>,
    /// Requests that a device must have answered within the wave [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub min_requests: Option<u64>,
    /// Share of the wave's live devices that must have [default: 100%]
    #[arg(long, value_name = "SHARE")]
    pub min_traffic: Option<Share>,
    /// What else a wave must show: the comparison's proof, every gate judged, or requests alone [default: trial]
    #[arg(long, value_name = "WHAT", value_parser = ["trial", "gates", "requests"])]
    pub evidence: Option<String>,
    /// What a wave needs that is too small to compare: a person's approval after it, or the limits alone [default: ask]
    #[arg(long, value_name = "WHAT", value_parser = ["ask", "limits"])]
    pub small_fleet: Option<String>,
    /// Probability of rolling back a harmless release [default: 0.05]
    #[arg(long, value_name = "SHARE", value_parser = number)]
    pub alpha: Option<f64>,
    /// How many times worse is too much [default: 1.5]
    #[arg(long, value_name = "FACTOR", value_parser = number)]
    pub margin: Option<f64>,
    /// Time until a wave's first look; the others come at 2, 4, 8, 16 times it [default: the soak]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub look_every: Option<Duration>,
    /// How far back a device's own past is compared [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub history: Option<Duration>,
    /// A/B test: hold the release and the one before side by side for so long, measure, and wait for a person
    #[arg(long, value_name = "DURATION", value_parser = lasting)]
    pub ab: Option<Duration>,
    /// A/B test: until both have answered so many requests
    #[arg(long, value_name = "COUNT")]
    pub ab_requests: Option<u64>,
    /// A/B test: let each device answer this share of its requests with the release [default: half of the devices answer
    /// all of theirs with it]
    #[arg(long, value_name = "SHARE")]
    pub ab_split: Option<Share>,
    /// A/B test: keep a caller with one release by `header:NAME` or `parameter:NAME`
    #[arg(long, value_name = "KEY", requires = "ab_split")]
    pub ab_sticky: Option<Sticky>,
    /// How often a device that failed before its swap tries again [default: 2]
    #[arg(long, value_name = "COUNT")]
    pub retries: Option<u32>,
    /// How long until the first other try; doubles [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub retry_after: Option<Duration>,
    /// What happens when a limit is broken [default: rollback]
    #[arg(long, value_name = "WHAT", value_parser = ["rollback", "pause"])]
    pub on_failure: Option<String>,
    /// Limit of the model's error rate, 0 to 1 [default: the bundle's budget, else 0.05]
    #[arg(long, value_name = "SHARE", value_parser = number)]
    pub max_error_rate: Option<f64>,
    /// Limit of p95 latency, milliseconds [default: the bundle's budget, else none]
    #[arg(long, value_name = "MS", value_parser = number)]
    pub max_p95_ms: Option<f64>,
    /// Limit of the outputs' drift, adjusted PSI [default: the bundle's budget, else 0.25]
    #[arg(long, value_name = "PSI", value_parser = number)]
    pub max_psi: Option<f64>,
    /// Tell no device before this instant: `2026-11-30T01:00:00Z`
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    pub not_before: Option<Timestamp>,
    /// Tell no device after this instant; what has not begun then waits for a person
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    pub until: Option<Timestamp>,
    /// Tell a device only then, by its own clock: `Mon-Fri 01:00-05:00`; may be repeated
    #[arg(long, value_name = "WINDOW")]
    pub maintenance: Vec<Window>,
    /// Time zone of devices without the label `timezone` [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<Zone>,
    /// Of rollouts of different models on one device, the higher goes first [default: 0]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub priority: Option<i32>,
    /// Tell a device also while another model changes on it
    #[arg(long)]
    pub many_at_a_time: bool,
    /// What must be live on a device before it is told: `detector>=2.1`; may be repeated
    #[arg(long, value_name = "REQUIREMENT")]
    pub requires: Vec<Requirement>,
    /// Matching devices that cannot run the release and may be left out [default: fewer than half]
    #[arg(long, value_name = "SHARE", conflicts_with = "allow_unfit")]
    pub max_unfit: Option<Share>,
    /// Leave out whoever cannot run the release, however many
    #[arg(long)]
    pub allow_unfit: bool,
    /// One line for people
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// JSON has neither NaN nor infinity: what is sent for them is nothing, and a limit that is asked for would be gone.
fn number(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if number.is_finite() { Ok(number) } else { Err("it must be a finite number".to_owned()) }
}

/// An A/B test of no length is none, and the release would go to everybody.
fn lasting(text: &str) -> Result<Duration, String> {
    let lasts = duration::parse(text).map_err(|error| error.to_string())?;
    if lasts.is_zero() { Err("it must last".to_owned()) } else { Ok(lasts) }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    if count == 0 { Err("at least 1; leave it out for the whole wave".to_owned()) } else { Ok(count) }
}

fn instant(text: &str) -> Result<Timestamp, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|error| format!("{error}; write it as 2026-11-30T01:00:00Z or ...T01:00:00+01:00"))?;
    let ms = u64::try_from(time.as_millisecond()).map_err(|_before| "it is before 1970".to_owned())?;
    Ok(Timestamp::from_millis(ms))
}

impl StrategyFlags {
    /// The strategy file that says the same, limits left out.
    fn to_file(&self) -> StrategyFile {
        StrategyFile {
            release: None,
            selector: self.selector.clone(),
            note: self.note.clone(),
            max_dwell: self.max_dwell,
            probation: self.probation,
            waves: self.waves.clone(),
            holdout: self.holdout,
            holdout_then: match self.holdout_then.as_deref() {
                Some("keep") => Some(Holdout::Keep),
                Some(_) => Some(Holdout::Release),
                None => None,
            },
            soak: self.soak,
            shadow: self.shadow,
            shadow_portion: self.shadow_portion,
            shadow_waves: self.shadow_waves,
            shadow_pairs: self.shadow_pairs,
            warm_up: self.warm_up,
            device_timeout: self.device_timeout,
            wave_timeout: self.wave_timeout,
            silence_after: self.silence_after,
            max_concurrent: self.max_concurrent,
            per: (!self.per.is_empty()).then(|| self.per.clone()),
            approve_before: (!self.approve_before.is_empty()).then(|| self.approve_before.clone()),
            max_failed: self.max_failed,
            max_offline: self.max_offline,
            min_requests: self.min_requests,
            min_traffic: self.min_traffic,
            evidence: match self.evidence.as_deref() {
                Some("requests") => Some(Demand::Requests),
                Some("gates") => Some(Demand::Gates),
                Some(_) => Some(Demand::Trial),
                None => None,
            },
            small_fleet: self.small_fleet.as_deref().map(|what| match what {
                "limits" => SmallFleet::Limits,
                _ => SmallFleet::Ask,
            }),
            trial: None,
            ab: None,
            retries: self.retries,
            retry_after: self.retry_after,
            on_failure: match self.on_failure.as_deref() {
                Some("pause") => Some(OnFailure::Pause),
                Some(_) => Some(OnFailure::Rollback),
                None => None,
            },
            limits: None,
            stratify: None,
            history: self.history,
            not_before: self.not_before.map(Some),
            until: self.until.map(Some),
            maintenance: (!self.maintenance.is_empty()).then(|| self.maintenance.clone()),
            timezone: self.timezone.clone(),
            priority: self.priority,
            one_at_a_time: self.many_at_a_time.then_some(false),
            requires: (!self.requires.is_empty()).then(|| self.requires.clone()),
            max_unfit: self.max_unfit.or(self.allow_unfit.then_some(Share::ALL)),
        }
    }
}

impl StrategyFlags {
    /// What the flags say over what the file says. Limits are taken one by one: naming one keeps the file's others.
    pub(super) fn over(&self, file: StrategyFile) -> StrategyFile {
        let limits = file.limits.clone();
        let mut merged = file.overridden_by(self.to_file());
        if self.max_error_rate.is_some() || self.max_p95_ms.is_some() || self.max_psi.is_some() {
            let limits = limits.unwrap_or_default();
            merged.limits = Some(Limits {
                error_rate: self.max_error_rate.or(limits.error_rate),
                p95_latency_ms: self.max_p95_ms.or(limits.p95_latency_ms),
                max_psi: self.max_psi.or(limits.max_psi),
                ..limits
            });
        }
        if self.ab.is_some() || self.ab_requests.is_some() || self.ab_split.is_some() || self.ab_sticky.is_some() {
            let ab = merged.ab.take().unwrap_or_default();
            merged.ab = Some(AbTest {
                lasts: self.ab.unwrap_or(ab.lasts),
                requests: self.ab_requests.unwrap_or(ab.requests),
                split: self.ab_split.unwrap_or(ab.split),
                sticky: self.ab_sticky.clone().or(ab.sticky),
            });
        }
        if self.alpha.is_some() || self.margin.is_some() || self.look_every.is_some() {
            let trial = merged.trial.take().unwrap_or_default();
            merged.trial = Some(Settings {
                alpha: self.alpha.unwrap_or(trial.alpha),
                margin: self.margin.unwrap_or(trial.margin),
                look_every: self.look_every.or(trial.look_every),
                ..trial
            });
        }
        merged
    }
}

/// Reads a strategy file.
pub(super) fn read(path: &Path) -> Result<StrategyFile, Failure> {
    let refuse = || Failure::usage(format!("cannot use the strategy in `{}`", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refuse().because(&error))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| refuse().because_text(error.to_string()))?;
    if let Some(field) = not_finite(&table) {
        return Err(refuse().because_text(format!("`{field}` must be a finite number")));
    }
    toml::from_str(&text).map_err(|error| refuse().because_text(error.to_string()))
}

/// The first field that is NaN or infinite; see [`number`].
fn not_finite(table: &toml::Table) -> Option<String> {
    table.iter().find_map(|(name, value)| match value {
        toml::Value::Float(number) if !number.is_finite() => Some(name.clone()),
        toml::Value::Table(inner) => Some(format!("{name}.{}", not_finite(inner)?)),
        _ => None,
    })
}

/// Reads `MODEL@VERSION`.
pub(super) fn release(text: &str) -> Result<(ModelName, Version), Failure> {
    let refuse =
        || Failure::usage(format!("`{text}` is not a release")).hint("write it as MODEL@VERSION, such as digits@1.1.0");
    let (model, version) = text.split_once('@').ok_or_else(refuse)?;
    let model = model.parse::<ModelName>().map_err(|error| refuse().because(&error))?;
    let version = version.parse::<Version>().map_err(|error| refuse().because(&error))?;
    Ok((model, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_have_are_refused_by_the_name_of_their_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("strategy.toml");
        for (text, field) in [
            ("[limits]\nerror_rate = nan", "limits.error_rate"),
            ("[limits]\nmax_psi = -inf", "limits.max_psi"),
            ("[trial]\nmargin = inf", "trial.margin"),
        ] {
            fieldpost_shared::durable::write_atomic(folder.path(), "strategy.toml", text.as_bytes()).unwrap();
            let refused = format!("{:?}", read(&path).unwrap_err());
            assert!(refused.contains(&format!("`{field}` must be a finite number")), "{refused}");
        }
        fieldpost_shared::durable::write_atomic(folder.path(), "strategy.toml", b"[limits]\nerror_rate = 0.5").unwrap();
        assert_eq!(read(&path).unwrap().limits.unwrap().error_rate, Some(0.5));
    }
}
