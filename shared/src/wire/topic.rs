//! Topic names under a configurable prefix (docs/protocol.md §Topics).

use crate::id::{DeviceId, Digest, IdError};
use crate::wire::names::{device_at, device_level};
use std::fmt;

/// The default prefix.
pub const DEFAULT_PREFIX: &str = "fp/1";

/// A topic of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// What a device should run; retained; controller to agent.
    Desired(DeviceId),
    /// What a device does run; retained; agent to controller.
    Report(DeviceId),
    /// Closed windows; agent to controller.
    Stats(DeviceId),
    /// Which windows are on disk; retained; controller to agent.
    Ack(DeviceId),
    /// Birth and death; retained, and the will; agent to controller.
    Alive(DeviceId),
    /// A chunk or a manifest; retained; controller to all.
    Blob(Digest),
    /// A version of the root metadata; retained; controller to all.
    Trust(u64),
}

/// A topic that is not of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It does not start with the prefix.
    #[error("the topic is not under the prefix")]
    Prefix,
    /// It is no topic of this protocol.
    #[error("the topic is unknown")]
    Unknown,
    /// It names no valid device or digest.
    #[error("the topic names nothing valid")]
    Name(#[from] IdError),
}

/// A prefix that MQTT would misread.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic prefix `{0}` must be 1 to 100 characters without `+`, `#`, spaces, or `/` at its ends")]
pub struct PrefixError(pub String);

/// Writes and reads topics under one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self { prefix: DEFAULT_PREFIX.to_owned() }
    }
}

impl Topics {
    /// Topics under a prefix.
    ///
    /// # Errors
    /// When MQTT would misread the prefix.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        let plain =
            !prefix.is_empty() && prefix.len() <= 100 && !prefix.starts_with(['/', '$']) && !prefix.ends_with('/');
        if plain && !prefix.contains(|c: char| matches!(c, '+' | '#') || c.is_control() || c.is_whitespace()) {
            Ok(Self { prefix: prefix.to_owned() })
        } else {
            Err(PrefixError(prefix.chars().take(120).collect()))
        }
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The full name of a topic.
    #[must_use]
    pub fn name(&self, topic: &Topic) -> String {
        let prefix = &self.prefix;
        let of = |device: &DeviceId, kind: &str| format!("{prefix}/dev/{}/{kind}", device_level(device));
        match topic {
            Topic::Desired(device) => of(device, "desired"),
            Topic::Report(device) => of(device, "report"),
            Topic::Stats(device) => of(device, "stats"),
            Topic::Ack(device) => of(device, "ack"),
            Topic::Alive(device) => of(device, "alive"),
            Topic::Blob(digest) => format!("{prefix}/blob/{digest}"),
            Topic::Trust(version) => format!("{prefix}/trust/{version}"),
        }
    }

    /// A subscription to one kind of message of all devices, such as `stats`.
    #[must_use]
    pub fn of_all_devices(&self, kind: &str) -> String {
        format!("{}/dev/+/{kind}", self.prefix)
    }

    /// A subscription to everything that stands under `kind` (`blob`, `trust`).
    #[must_use]
    pub fn all(&self, kind: &str) -> String {
        format!("{}/{kind}/+", self.prefix)
    }

    /// Reads a full topic name.
    ///
    /// # Errors
    /// When it is not of this protocol.
    pub fn parse(&self, name: &str) -> Result<Topic, TopicError> {
        let rest = name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('/')).ok_or(TopicError::Prefix)?;
        let mut parts = rest.split('/');
        let topic = match (parts.next(), parts.next(), parts.next()) {
            (Some("dev"), Some(level), Some("desired")) => Topic::Desired(device_at(level)?),
            (Some("dev"), Some(level), Some("report")) => Topic::Report(device_at(level)?),
            (Some("dev"), Some(level), Some("stats")) => Topic::Stats(device_at(level)?),
            (Some("dev"), Some(level), Some("ack")) => Topic::Ack(device_at(level)?),
            (Some("dev"), Some(level), Some("alive")) => Topic::Alive(device_at(level)?),
            (Some("blob"), Some(name), None) => Topic::Blob(name.parse::<Digest>()?),
            (Some("trust"), Some(version), None) => {
                let number = version.parse().map(Topic::Trust).map_err(|_not_a_number| TopicError::Unknown)?;
                // `06` and `+6` would be other names of 6; a topic has one.
                if self.name(&number) != name {
                    return Err(TopicError::Unknown);
                }
                number
            }
            _ => return Err(TopicError::Unknown),
        };
        if parts.next().is_some() { Err(TopicError::Unknown) } else { Ok(topic) }
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_read_as_it_was_written() {
        let topics = Topics::default();
        let device: DeviceId = "box-1".parse().unwrap();
        for topic in [
            Topic::Desired(device.clone()),
            Topic::Report(device.clone()),
            Topic::Stats(device.clone()),
            Topic::Ack(device.clone()),
            Topic::Alive(device),
            Topic::Blob(Digest::of(b"x")),
            Topic::Trust(7),
        ] {
            assert_eq!(topics.parse(&topics.name(&topic)), Ok(topic));
        }
    }

    #[test]
    fn a_topic_has_no_dot_and_one_name() {
        let topics = Topics::default();
        let topic = Topic::Desired("box-1.lyon.example".parse().unwrap());
        assert_eq!(topics.name(&topic), "fp/1/dev/box-1~lyon~example/desired");
        assert_eq!(topics.parse("fp/1/dev/box-1~lyon~example/desired"), Ok(topic));
        assert!(topics.parse("fp/1/dev/box-1.lyon.example/desired").is_err());
    }

    #[test]
    fn foreign_topics_are_refused() {
        for name in [
            "",
            "fp/1",
            "fp/1/dev/a",
            "fp/1/dev/a/desired/x",
            "fp/2/dev/a/desired",
            "fp/1/blob/zz",
            "fp/1/trust/-1",
            "fp/1/trust/06",
            "fp/1/trust/+6",
        ] {
            assert!(Topics::default().parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn prefixes_that_mqtt_would_misread_are_refused() {
        for prefix in ["", "/a", "a/", "a/+", "#", "$SYS", "a b"] {
            assert!(Topics::new(prefix).is_err(), "{prefix}");
        }
        assert_eq!(Topics::new("site/fp").unwrap().name(&Topic::Trust(1)), "site/fp/trust/1");
    }
}
