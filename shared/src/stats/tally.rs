//! What went wrong, by whose fault, and shares of trials.

use serde::{Deserialize, Serialize};

use super::error::StatsError;

/// Why a request got no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The runtime failed on the model.
    Inference,
    /// The model answered with NaN or infinity.
    NanOutput,
    /// The computation took longer than the bundle's budget.
    OverBudget,
    /// The process died with the model.
    Crash,
    /// The caller sent something that is no valid input.
    Malformed,
    /// The caller hung up.
    Closed,
    /// The queue was full.
    QueueFull,
    /// The caller's deadline passed while the request waited.
    Deadline,
}

impl ErrorKind {
    /// Every kind, model errors first.
    pub const ALL: [Self; 8] = [
        Self::Inference,
        Self::NanOutput,
        Self::OverBudget,
        Self::Crash,
        Self::Malformed,
        Self::Closed,
        Self::QueueFull,
        Self::Deadline,
    ];

    /// Whether the model did it. Callers, sensors and the queue are not held against a release.
    #[must_use]
    pub fn is_by_model(self) -> bool {
        matches!(self, Self::Inference | Self::NanOutput | Self::OverBudget | Self::Crash)
    }
}

/// Errors by kind. Counts saturate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Errors {
    /// See [`ErrorKind::Inference`].
    pub inference: u64,
    /// See [`ErrorKind::NanOutput`].
    pub nan_output: u64,
    /// See [`ErrorKind::OverBudget`].
    pub over_budget: u64,
    /// See [`ErrorKind::Crash`].
    pub crash: u64,
    /// See [`ErrorKind::Malformed`].
    pub malformed: u64,
    /// See [`ErrorKind::Closed`].
    pub closed: u64,
    /// See [`ErrorKind::QueueFull`].
    pub queue_full: u64,
    /// See [`ErrorKind::Deadline`].
    pub deadline: u64,
}

impl Errors {
    fn slot(&mut self, kind: ErrorKind) -> &mut u64 {
        match kind {
            ErrorKind::Inference => &mut self.inference,
            ErrorKind::NanOutput => &mut self.nan_output,
            ErrorKind::OverBudget => &mut self.over_budget,
            ErrorKind::Crash => &mut self.crash,
            ErrorKind::Malformed => &mut self.malformed,
            ErrorKind::Closed => &mut self.closed,
            ErrorKind::QueueFull => &mut self.queue_full,
            ErrorKind::Deadline => &mut self.deadline,
        }
    }

    /// Count of one kind.
    #[must_use]
    pub fn of(&self, kind: ErrorKind) -> u64 {
        *self.clone().slot(kind)
    }

    /// Counts one error.
    pub fn insert(&mut self, kind: ErrorKind) {
        let count = self.slot(kind);
        *count = count.saturating_add(1);
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for kind in ErrorKind::ALL {
            let count = self.slot(kind);
            *count = count.saturating_add(other.of(kind));
        }
    }

    /// What the model did.
    #[must_use]
    pub fn by_model(&self) -> u64 {
        self.sum(ErrorKind::is_by_model)
    }

    /// What callers and the queue did.
    #[must_use]
    pub fn by_caller(&self) -> u64 {
        self.sum(|kind| !kind.is_by_model())
    }

    fn sum(&self, wanted: impl Fn(ErrorKind) -> bool) -> u64 {
        ErrorKind::ALL
            .into_iter()
            .filter(|kind| wanted(*kind))
            .fold(0, |sum: u64, kind| sum.saturating_add(self.of(kind)))
    }
}

/// Hits among trials, for example correct answers among labelled ones. Counts saturate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Share {
    /// How many were so.
    pub hits: u64,
    /// How many could have been.
    pub n: u64,
}

impl Share {
    /// Counts one trial.
    pub fn insert(&mut self, hit: bool) {
        self.hits = self.hits.saturating_add(u64::from(hit));
        self.n = self.n.saturating_add(1);
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: Self) {
        self.hits = self.hits.saturating_add(other.hits);
        self.n = self.n.saturating_add(other.n);
    }

    /// Hits per trial; `None` without a trial.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        (self.n > 0).then(|| self.hits as f64 / self.n as f64)
    }

    pub(crate) fn validate(&self, what: &'static str) -> Result<(), StatsError> {
        if self.hits > self.n { Err(StatsError::Inconsistent { what }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_not_held_against_the_model() {
        let mut errors = Errors::default();
        ErrorKind::ALL.into_iter().for_each(|kind| errors.insert(kind));
        errors.insert(ErrorKind::Crash);
        assert_eq!((errors.by_model(), errors.by_caller()), (5, 4));
    }

    #[test]
    fn more_hits_than_trials_are_refused() {
        assert!(Share { hits: 2, n: 1 }.validate("labels").is_err());
    }

    #[test]
    fn no_trials_have_no_rate() {
        assert_eq!(Share::default().rate(), None);
    }
}
