//! Gates: what judges a release by its devices. Pure: evidence in, a verdict with its numbers out.
//!
//! The gates here are hard limits, for catastrophe. Statistical gates implement the same trait beside them.

pub mod arm;
pub mod drift;
pub mod errors;
pub mod health;
pub mod latency;
pub mod limit;
pub mod shadow;

pub use arm::{Arm, fits};

use super::strategy::Limits;
use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::FailureKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It has seen enough, and no harm.
    Pass,
    /// It has not seen enough. Never a reason to advance.
    Waiting,
    /// The limit is broken.
    Breach,
    /// There is nothing to hold the release against.
    Unbounded,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Waiting => "waiting",
            Self::Breach => "breach",
            Self::Unbounded => "unbounded",
        })
    }
}

/// A verdict with what it was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Which gate.
    pub gate: String,
    /// What it says.
    pub verdict: Verdict,
    /// In words, with the numbers that decided.
    pub sentence: String,
    /// Every input by name.
    pub numbers: BTreeMap<String, f64>,
}

impl GateReport {
    /// A report. A number that is none, or infinite, is left out: JSON cannot hold it.
    #[must_use]
    pub fn new(gate: &str, verdict: Verdict, sentence: String, numbers: &[(&str, f64)]) -> Self {
        let numbers = numbers
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        Self { gate: gate.to_owned(), verdict, sentence, numbers }
    }
}

/// In which way a device's health failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthFailure {
    /// It did not load, its golden outputs differed, or it cost more than its budget, before any user met it.
    SelfTest,
    /// In shadow it was not what its bundle says, before any user met it.
    Shadow,
    /// The agent died with it.
    Crash,
    /// The device took it back in probation, or somebody on the device did.
    LocalRollback,
    /// The device was there, got it, and fell silent.
    Silent,
}

impl HealthFailure {
    /// What a reported failure says about the release. That a box is full, or could not fetch, says nothing.
    #[must_use]
    pub const fn of(kind: FailureKind) -> Option<Self> {
        match kind {
            FailureKind::Disagreement => Some(Self::Shadow),
            FailureKind::Load | FailureKind::SelfTest | FailureKind::OverBudget => Some(Self::SelfTest),
            FailureKind::Crash => Some(Self::Crash),
            FailureKind::Errors | FailureKind::Latency | FailureKind::Memory | FailureKind::LocalRollback => {
                Some(Self::LocalRollback)
            }
            FailureKind::Untrusted | FailureKind::Unfit | FailureKind::Fetch | FailureKind::Disk => None,
        }
    }
}

impl fmt::Display for HealthFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SelfTest => "failed the self-test",
            Self::Shadow => "failed in shadow",
            Self::Crash => "crashed",
            Self::LocalRollback => "rolled back on the device",
            Self::Silent => "fell silent",
        })
    }
}

/// How one touched device fares: live and heard of, or failed in one of the ways that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Since when.
    pub at: Timestamp,
    /// Who.
    pub device: DeviceId,
    /// Whether it is of the current wave.
    pub of_wave: bool,
    /// How it failed, if it did.
    pub failure: Option<HealthFailure>,
}

/// Everything that a gate may look at.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The operator's limits.
    pub limits: &'a Limits,
    /// The bundle's budgets.
    pub budgets: &'a Budgets,
    /// How touched devices fare, oldest verdict first; those without one yet are absent.
    pub outcomes: Vec<Outcome>,
    /// Number of the current wave, from 1.
    pub wave: usize,
    /// Devices of the current wave that count.
    pub wave_size: usize,
    /// What devices served with the release since the wave began.
    pub treated: Arm<'a>,
    /// What devices without the release served in the same time.
    pub controls: Arm<'a>,
    /// What the devices with the release served before they got it.
    pub before: Arm<'a>,
}

/// Judges a release.
pub trait Gate: fmt::Debug + Send + Sync {
    /// Its name, constant.
    fn name(&self) -> &'static str;
    /// Looks at the evidence, and at nothing else.
    fn judge(&self, evidence: &Evidence<'_>) -> GateReport;
}

/// The hard limits, in the order in which they are asked.
#[must_use]
pub fn hard_limits() -> Vec<Box<dyn Gate>> {
    vec![
        Box::new(health::HealthRule),
        Box::new(health::WholeWave),
        Box::new(health::CountLimit(HealthFailure::SelfTest)),
        Box::new(health::CountLimit(HealthFailure::Crash)),
        Box::new(health::CountLimit(HealthFailure::LocalRollback)),
        Box::new(health::CountLimit(HealthFailure::Silent)),
        Box::new(errors::ErrorRate),
        Box::new(latency::Latency),
        Box::new(drift::OutputDrift),
    ]
}

/// Asks every gate.
#[must_use]
pub fn judge(gates: &[Box<dyn Gate>], evidence: &Evidence<'_>) -> Vec<GateReport> {
    gates.iter().map(|gate| gate.judge(evidence)).collect()
}
