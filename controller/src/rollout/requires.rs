//! What else must be live on a device before it is told: `detector>=2.1`.

use super::fleet::DeviceView;
use fieldpost_shared::id::ModelName;
use semver::VersionReq;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A model and the versions of it that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The other model.
    pub model: ModelName,
    /// Its versions.
    pub versions: VersionReq,
}

/// A text that is no requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a model and its versions, such as detector>=2.1 or detector^2")]
pub struct RequirementError(String);

impl FromStr for Requirement {
    type Err = RequirementError;
    fn from_str(text: &str) -> Result<Self, RequirementError> {
        let refuse = || RequirementError(text.chars().take(80).collect());
        let at = text.find(['<', '>', '=', '^', '~']).ok_or_else(refuse)?;
        let (model, versions) = text.split_at(at);
        let model = model.trim().parse().map_err(|_no_name| refuse())?;
        let versions = versions.parse().map_err(|_no_versions| refuse())?;
        Ok(Self { model, versions })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.model, self.versions)
    }
}

impl Serialize for Requirement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Requirement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Requirement {
    /// What a device lacks; none when what it says is live will do.
    #[must_use]
    pub fn lacks(&self, view: &DeviceView) -> Option<String> {
        match view.live(&self.model) {
            Some(live) if self.versions.matches(&live.version) => None,
            Some(live) => Some(format!("needs {self} live, and runs {}", live.version)),
            None => Some(format!("needs {self} live, and has none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_a_model_and_versions() {
        for text in ["detector>=2.1", "detector^2", "detector=2.1.0", "detector>=2.1, <3"] {
            let requirement: Requirement = text.parse().unwrap();
            assert_eq!((requirement.model.as_str(), requirement.to_string().as_str()), ("detector", text));
        }
        for text in ["", "detector", ">=2.1", "detector>=", "detector>=x", "Detector>=1", "detector@2"] {
            assert!(text.parse::<Requirement>().is_err(), "{text}");
        }
    }
}
