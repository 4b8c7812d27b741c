//! What the driver tells the rest of the agent: the deployment part of reports and of `status`.

use crate::store::Hold;
use fieldpost_shared::wire::v1::{ModelReport, Quarantined};

/// The state of all slots at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeployStatus {
    /// One per slot, by name.
    pub models: Vec<ModelReport>,
    /// Releases that failed here and wait for a higher attempt.
    pub quarantine: Vec<Quarantined>,
    /// The desired sequence that was accepted last; 0 when none was.
    pub desired_sequence: u64,
    /// Why changes are refused, while they are.
    pub hold: Option<Hold>,
    /// The journal cannot be written: what, in words. Nothing changes on the box until it can.
    pub trouble: Option<String>,
    /// The live releases of all slots are loaded, or were given up: the agent is ready.
    pub restored: bool,
}
