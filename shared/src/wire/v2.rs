//! Version 2 of a body: what version 1 says, and more. It is sent only to agents that say they understand it, and only when
//! there is something to say that version 1 cannot (docs/adr, "What stands beside the live release").
//!
//! Field order is the wire form: it is frozen by golden bytes in `golden/v2`.

use super::v1::{self, Body, MAX_ASSIGNMENTS};
use crate::id::{DeviceId, FleetId, ModelName};
use crate::trust::Kind;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ops::Deref;

/// All requests, in hundredths of a percent.
pub const WHOLE: u16 = 10_000;
/// Longest name of a header or parameter that keeps callers with one release, bytes.
pub const MAX_KEY_BYTES: usize = 100;
/// What an agent that understands [`Desired`] adds to its version, as semantic versioning's build metadata.
pub const CAPABILITY: &str = "beside";

/// What one device should run, and which of it only beside what is live. Reads as the version 1 that it extends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// What version 1 says.
    pub state: v1::Desired,
    /// Releases that stand beside the live one, and do not take its place while they are listed here.
    pub beside: Vec<Beside>,
}

/// One assigned release that stands beside the live one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The model; its assignment names the release.
    pub model: ModelName,
    /// What for.
    pub mode: Mode,
}

/// What a release beside the live one is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It sees requests too; its answers are compared and thrown away.
    Shadow {
        /// Share of the requests, hundredths of a percent.
        portion: u16,
    },
    /// It answers some of the requests.
    Split {
        /// Share of the requests, hundredths of a percent.
        portion: u16,
        /// What keeps a caller with one release.
        by: SplitBy,
    },
}

/// What keeps a caller with one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// Nothing: each request for itself.
    Request,
    /// The value of this header.
    Header(String),
    /// The value of this parameter of the URL.
    Parameter(String),
}

impl Mode {
    /// Whether its numbers and names are within bounds.
    #[must_use]
    pub fn bounded(&self) -> bool {
        let (portion, key) = match self {
            Self::Shadow { portion } | Self::Split { portion, by: SplitBy::Request } => (*portion, None),
            Self::Split { portion, by: SplitBy::Header(key) | SplitBy::Parameter(key) } => (*portion, Some(key)),
        };
        portion <= WHOLE && key.is_none_or(|key| (1..=MAX_KEY_BYTES).contains(&key.len()))
    }
}

impl Desired {
    /// What is asked of a model's release beside the live one; none is that it takes its place.
    #[must_use]
    pub fn mode(&self, model: &ModelName) -> Option<&Mode> {
        self.beside.iter().find(|beside| beside.model == *model).map(|beside| &beside.mode)
    }
}

impl From<v1::Desired> for Desired {
    fn from(state: v1::Desired) -> Self {
        Self { state, beside: Vec::new() }
    }
}

impl Deref for Desired {
    type Target = v1::Desired;
    fn deref(&self) -> &v1::Desired {
        &self.state
    }
}

impl Body for Desired {
    const KIND: Kind = Kind::DesiredBeside;
    fn fleet(&self) -> &FleetId {
        &self.state.fleet
    }
    fn device(&self) -> &DeviceId {
        &self.state.device
    }
    fn bounded(&self) -> bool {
        let mut seen = HashSet::new();
        let assigned = |model: &ModelName| self.state.assignments.iter().any(|a| a.release.model == *model);
        self.state.bounded()
            && self.beside.len() <= MAX_ASSIGNMENTS
            && self.beside.iter().all(|one| one.mode.bounded() && assigned(&one.model) && seen.insert(&one.model))
    }
}

/// Whether an agent of this version understands [`Desired`].
#[must_use]
pub fn understood_by(agent_version: &str) -> bool {
    let metadata = agent_version.split_once('+').map(|(_, metadata)| metadata);
    metadata.is_some_and(|metadata| metadata.split('.').any(|part| part == CAPABILITY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_says_that_it_understands_by_its_version() {
        for (version, understands) in [
            ("0.1.0", false),
            ("0.1.0+beside", true),
            ("0.1.0-rc.1+x.beside", true),
            ("0.1.0+besides", false),
            ("0.1.0-beside", false),
            ("", false),
        ] {
            assert_eq!(understood_by(version), understands, "{version}");
        }
    }

    #[test]
    fn modes_are_within_their_bounds() {
        let header = |key: &str| Mode::Split { portion: 1, by: SplitBy::Header(key.to_owned()) };
        assert!(Mode::Shadow { portion: WHOLE }.bounded() && header("x-line").bounded());
        assert!(!Mode::Shadow { portion: WHOLE + 1 }.bounded());
        assert!(!header("").bounded() && !header(&"x".repeat(MAX_KEY_BYTES + 1)).bounded());
    }
}
