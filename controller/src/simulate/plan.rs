//! What a person describes: the fleet in numbers, the releases to try, the strategy. A TOML file.

use super::effect::Effect;
use crate::rollout::duration;
use crate::rollout::strategy::{Strategy, StrategyError, StrategyFile};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A commented plan, with every default.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Most devices of a simulated fleet.
const MAX_DEVICES: usize = 100_000;
/// Longest time of a plan.
const LONGEST: Duration = Duration::from_secs(90 * 86_400);
/// Most times a day that anything happens to a device.
const MAX_PER_DAY: f64 = 1_000.0;

/// A plan that cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No TOML, or an unknown field.
    #[error("cannot read the plan")]
    Toml(#[source] Box<toml::de::Error>),
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
    /// The strategy cannot be used.
    #[error("cannot use the strategy of the plan")]
    Strategy(#[source] StrategyError),
}

impl PlanError {
    /// What to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Toml(_) => "`fieldpost simulate rollout --example` prints a plan with every field explained",
            Self::Range { .. } => "correct the field; `fieldpost simulate rollout --example` explains each",
            Self::Strategy(_) => "correct the table [strategy]: it has the fields of a strategy file",
        }
    }
}

/// What a person does when a rollout pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenPaused {
    /// Nothing: the rollout counts as paused.
    #[default]
    Stop,
    /// Goes on without the devices that failed or are away.
    Resume,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// What is rolled out.
    pub releases: Releases,
    /// What a person does when a rollout pauses.
    pub when_paused: WhenPaused,
    /// The fleet.
    pub fleet: FleetPlan,
    /// What goes wrong by itself.
    pub trouble: Trouble,
    /// The way between devices and controller.
    pub link: Link,
    /// How it is rolled out.
    pub strategy: StrategyFile,
}

/// The releases to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Releases(pub Vec<Effect>);

impl Default for Releases {
    fn default() -> Self {
        Self(vec![Effect::default(), Effect::errors(1.5), Effect::errors(2.0), Effect::errors(3.0)])
    }
}

/// The fleet in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FleetPlan {
    /// Devices.
    pub devices: usize,
    /// Sites that they are at.
    pub sites: usize,
    /// Hardware classes that they are of.
    pub hardware: usize,
    /// Mean requests of a device in an hour.
    pub requests_per_hour: f64,
    /// Coefficient of variation between devices.
    pub requests_spread: f64,
    /// Mean share of requests that the model fails.
    pub error_rate: f64,
    /// Coefficient of variation between devices; rates are Beta distributed.
    pub error_spread: f64,
    /// Median time of an inference, milliseconds.
    pub latency_ms: f64,
    /// Coefficient of variation between devices, roughly.
    pub latency_spread: f64,
    /// Share of requests whose true answer comes.
    pub labelled: f64,
    /// Share of right answers among them.
    pub accuracy: f64,
    /// Standard deviation of the logarithm of each class's weight on a device.
    pub classes_spread: f64,
    /// How often a device sends what it counted.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How often a device sends its report.
    #[serde(with = "duration")]
    pub report: Duration,
    /// How long the fleet had run before.
    #[serde(with = "duration")]
    pub history: Duration,
}

impl Default for FleetPlan {
    fn default() -> Self {
        Self {
            devices: 400,
            sites: 1,
            hardware: 1,
            requests_per_hour: 20.0,
            requests_spread: 0.0,
            error_rate: 0.03,
            error_spread: 1.0,
            latency_ms: 20.0,
            latency_spread: 0.3,
            labelled: 0.0,
            accuracy: 0.95,
            classes_spread: 0.2,
            window: HOUR,
            report: Duration::from_secs(60),
            history: HOUR.saturating_mul(24),
        }
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

/// What goes wrong by itself, per device where nothing else is said. Rates are per day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trouble {
    /// Bad hours of a device.
    pub bursts: f64,
    /// How long one lasts.
    #[serde(with = "duration")]
    pub burst_length: Duration,
    /// What it multiplies errors by.
    pub burst_factor: f64,
    /// Outages that all devices share.
    pub fleet_outages: f64,
    /// Outages that the devices of a site share.
    pub site_outages: f64,
    /// How long one lasts.
    #[serde(with = "duration")]
    pub outage_length: Duration,
    /// Share of requests that fail for it.
    pub outage_errors: f64,
    /// Times that a site is cut off.
    pub site_cuts: f64,
    /// For how long.
    #[serde(with = "duration")]
    pub site_cut_length: Duration,
    /// Share of the time that a device is away.
    pub away: f64,
    /// For how long.
    #[serde(with = "duration")]
    pub away_length: Duration,
    /// Restarts of the agent.
    pub restarts: f64,
    /// Share of devices that leave.
    pub leave: f64,
    /// Share of devices that join.
    pub join: f64,
    /// Share of devices whose clock is wrong.
    pub wrong_clocks: f64,
    /// Restarts of the controller.
    pub controller_restarts: f64,
}

impl Default for Trouble {
    fn default() -> Self {
        Self {
            bursts: 0.5,
            burst_length: HOUR,
            burst_factor: 5.0,
            fleet_outages: 0.4,
            site_outages: 0.0,
            outage_length: HOUR.saturating_mul(2),
            outage_errors: 0.2,
            site_cuts: 0.0,
            site_cut_length: HOUR,
            away: 0.02,
            away_length: Duration::from_secs(1_800),
            restarts: 0.1,
            leave: 0.0,
            join: 0.0,
            wrong_clocks: 0.05,
            controller_restarts: 0.0,
        }
    }
}

/// The way between devices and controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// Share of reports that are lost.
    pub lost: f64,
    /// Share of windows that are late.
    pub late: f64,
    /// By how much, on average.
    #[serde(with = "duration")]
    pub late_by: Duration,
    /// Median time to fetch and test a release.
    #[serde(with = "duration")]
    pub install: Duration,
    /// Share of attempts that fail for the device's own reasons.
    pub failures: f64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            lost: 0.01,
            late: 0.02,
            late_by: Duration::from_secs(1_800),
            install: Duration::from_secs(120),
            failures: 0.002,
        }
    }
}

impl Plan {
    /// Reads a plan and checks it.
    ///
    /// # Errors
    /// What cannot be simulated, by the field's name.
    pub fn read(text: &str) -> Result<Self, PlanError> {
        let plan: Self = toml::from_str(text).map_err(|error| PlanError::Toml(Box::new(error)))?;
        plan.check()?;
        Ok(plan)
    }

    /// Checks it.
    ///
    /// # Errors
    /// What cannot be simulated, by the field's name.
    pub fn check(&self) -> Result<Strategy, PlanError> {
        let Self { fleet, trouble, link, .. } = self;
        let out = |field, expected, found: String| Err(PlanError::Range { field, expected, found });
        if !(1..=MAX_DEVICES).contains(&fleet.devices) {
            return out("fleet.devices", "from 1 to 100000", fleet.devices.to_string());
        }
        for (field, count) in [("fleet.sites", fleet.sites), ("fleet.hardware", fleet.hardware)] {
            if !(1..=fleet.devices).contains(&count) {
                return out(field, "at least 1, and no more than there are devices", count.to_string());
            }
        }
        if self.releases.0.is_empty() {
            return out("releases", "at least one release", "none".to_owned());
        }
        for (field, value) in self.shares() {
            if !(0.0..=1.0).contains(&value) {
                return out(field, "a share from 0 to 1", value.to_string());
            }
        }
        for (field, value) in [
            ("trouble.bursts", trouble.bursts),
            ("trouble.fleet_outages", trouble.fleet_outages),
            ("trouble.site_outages", trouble.site_outages),
            ("trouble.site_cuts", trouble.site_cuts),
            ("trouble.restarts", trouble.restarts),
            ("trouble.controller_restarts", trouble.controller_restarts),
        ] {
            if !(0.0..=MAX_PER_DAY).contains(&value) {
                return out(field, "times a day, from 0 to 1000", value.to_string());
            }
        }
        for (field, value, most) in [
            ("fleet.requests_per_hour", fleet.requests_per_hour, 1e6),
            ("fleet.requests_spread", fleet.requests_spread, 5.0),
            ("fleet.error_spread", fleet.error_spread, 5.0),
            ("fleet.latency_ms", fleet.latency_ms, 1e6),
            ("fleet.latency_spread", fleet.latency_spread, 5.0),
            ("fleet.classes_spread", fleet.classes_spread, 5.0),
            ("trouble.burst_factor", trouble.burst_factor, 1e3),
        ] {
            if !(0.0..=most).contains(&value) {
                return out(field, "a number of at least 0, and not absurdly large", value.to_string());
            }
        }
        // Beyond this no Beta distribution has such a mean and spread.
        let widest = ((1.0 - fleet.error_rate) / fleet.error_rate).sqrt();
        if fleet.error_rate > 0.0 && fleet.error_spread >= widest {
            return out("fleet.error_spread", "smaller: rates between 0 and 1 cannot differ so much", {
                fleet.error_spread.to_string()
            });
        }
        for (field, value) in [
            ("fleet.window", fleet.window),
            ("fleet.report", fleet.report),
            ("fleet.history", fleet.history),
            ("trouble.burst_length", trouble.burst_length),
            ("trouble.outage_length", trouble.outage_length),
            ("trouble.site_cut_length", trouble.site_cut_length),
            ("trouble.away_length", trouble.away_length),
            ("link.late_by", link.late_by),
            ("link.install", link.install),
        ] {
            if value < Duration::from_secs(1) || value > LONGEST {
                return out(field, "from 1s to 90d", duration::text(value));
            }
        }
        Strategy::resolve(&self.strategy).map_err(PlanError::Strategy)
    }

    fn shares(&self) -> [(&'static str, f64); 11] {
        let Self { fleet, trouble, link, .. } = self;
        [
            ("fleet.error_rate", fleet.error_rate),
            ("fleet.labelled", fleet.labelled),
            ("fleet.accuracy", fleet.accuracy),
            ("trouble.outage_errors", trouble.outage_errors),
            ("trouble.away", trouble.away),
            ("trouble.leave", trouble.leave),
            ("trouble.join", trouble.join),
            ("trouble.wrong_clocks", trouble.wrong_clocks),
            ("link.lost", link.lost),
            ("link.late", link.late),
            ("link.failures", link.failures),
        ]
    }
}
