//! What devices are compared by.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A metric; more is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Requests that the model failed; a device that stopped reporting counts as failing all of them.
    Errors,
    /// Requests slower than the device's own 95th percentile before the rollout.
    Latency,
    /// Distance of the answers from the release's baseline.
    Drift,
    /// Wrong answers among those of which the truth came.
    Accuracy,
}

impl Metric {
    /// Every metric, in the order in which they are told.
    pub const ALL: [Self; 4] = [Self::Errors, Self::Latency, Self::Drift, Self::Accuracy];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Drift => "drift",
            Self::Accuracy => "accuracy",
        }
    }

    /// What a score of it is, in words.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Errors => "the share of failed requests",
            Self::Latency => "the share of requests slower than the device's own p95 before",
            Self::Drift => "the distance of the outputs from the baseline",
            Self::Accuracy => "the share of wrong answers",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
