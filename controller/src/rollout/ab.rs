//! A/B tests: two releases held side by side for a time, or a number of requests, that is stated before. How much they
//! differ is measured, with an interval; a person decides what follows.

use super::duration;
use super::plan::Share;
use super::trial::Metric;
use super::trial::contrast::{Contrast, Estimate, Says};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v2::{MAX_KEY_BYTES, Mode, SplitBy, WHOLE};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The `[ab]` table of a strategy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AbTest {
    /// How long both are held side by side; 0 leaves it to `requests`.
    #[serde(with = "duration")]
    pub lasts: Duration,
    /// Requests that each of the two must have answered; 0 leaves it to `lasts`. With both, both must be.
    pub requests: u64,
    /// Share of a device's requests that the new release answers, on every device; 0 gives the release to some of the
    /// devices instead, all of whose requests it answers.
    pub split: Share,
    /// What keeps a caller of one device with one release; none draws lots for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

impl Default for AbTest {
    fn default() -> Self {
        Self { lasts: Duration::ZERO, requests: 0, split: Share::NONE, sticky: None }
    }
}

impl AbTest {
    /// Whether a rollout is one.
    #[must_use]
    pub const fn asked(&self) -> bool {
        !self.lasts.is_zero() || self.requests > 0
    }

    /// What devices that answer with both releases are told; none where the devices are split.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        let Share::Parts(parts) = self.split else { return None };
        let portion = u16::try_from(parts).unwrap_or(WHOLE);
        let by = self.sticky.as_ref().map_or(SplitBy::Request, |sticky| sticky.0.clone());
        (self.asked() && portion > 0).then_some(Mode::Split { portion, by })
    }

    /// What it is, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let how = match (&self.mode(), &self.sticky) {
            (None, _) => "the devices of wave 1 answer with the release, the others without it".to_owned(),
            (Some(_), None) => format!("each device answers {} of its requests with the release", self.split),
            (Some(_), Some(key)) => {
                format!("each device answers {} of its callers, told apart by {key}, with the release", self.split)
            }
        };
        let until = match (self.lasts.is_zero(), self.requests) {
            (false, 0) => format!("for {}", duration::text(self.lasts)),
            (true, requests) => format!("until both have answered {requests} requests"),
            (false, requests) => {
                format!("for {}, and until both have answered {requests} requests", duration::text(self.lasts))
            }
        };
        format!("An A/B test: {how}, {until}; then it waits for a person.")
    }

    /// What cannot be: the field, what it may be, and what was given.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str, String)> {
        let splits = !matches!(self.split, Share::Count(0) | Share::Parts(0));
        if !self.asked() {
            return splits.then(|| ("ab.lasts", "longer than 0s, or ab.requests above 0", "neither".to_owned()));
        }
        match self.split {
            Share::Parts(parts) if parts < u64::from(WHOLE) => {}
            _ if !splits => {}
            split => return Some(("ab.split", "a share of the requests below 100%, or 0", split.to_string())),
        }
        match &self.sticky {
            Some(sticky) if !splits => {
                Some(("ab.split", "above 0 where ab.sticky is given", format!("0 with {sticky}")))
            }
            _ => None,
        }
    }
}

/// What keeps a caller with one release: `header:NAME` or `parameter:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sticky(SplitBy);

/// Not what keeps a caller with one release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not header:NAME or parameter:NAME, with a name of 1 to {MAX_KEY_BYTES} bytes")]
pub struct StickyError(String);

impl FromStr for Sticky {
    type Err = StickyError;
    fn from_str(text: &str) -> Result<Self, StickyError> {
        let refuse = || StickyError(text.chars().take(80).collect());
        let (kind, name) = text.split_once(':').ok_or_else(refuse)?;
        let by = match kind {
            "header" => SplitBy::Header(name.to_owned()),
            "parameter" => SplitBy::Parameter(name.to_owned()),
            _ => return Err(refuse()),
        };
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic());
        if plain && (Mode::Split { portion: 1, by: by.clone() }).bounded() { Ok(Self(by)) } else { Err(refuse()) }
    }
}

impl TryFrom<String> for Sticky {
    type Error = StickyError;
    fn try_from(text: String) -> Result<Self, StickyError> {
        text.parse()
    }
}

impl From<Sticky> for String {
    fn from(sticky: Sticky) -> Self {
        sticky.to_string()
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SplitBy::Request => f.write_str("request"),
            SplitBy::Header(name) => write!(f, "header:{name}"),
            SplitBy::Parameter(name) => write!(f, "parameter:{name}"),
        }
    }
}

/// What an A/B test measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Since when both counted.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Whether each device answered with both.
    pub split: bool,
    /// Each metric with data.
    pub metrics: Vec<Contrast>,
    /// Metrics without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_data: Vec<Metric>,
}

impl Measured {
    /// All of it in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let named = |says: Says| -> Vec<&str> {
            self.metrics.iter().filter(|found| found.says() == says).map(|found| found.metric.name()).collect()
        };
        let (worse, better) = (named(Says::Worse), named(Says::Better));
        let what = match (worse.is_empty(), better.is_empty()) {
            (true, true) => "no difference is shown".to_owned(),
            (false, true) => format!("the new release is worse in {}", worse.join(", ")),
            (true, false) => format!("the new release is better in {}", better.join(", ")),
            (false, false) => {
                format!("the new release is worse in {} and better in {}", worse.join(", "), better.join(", "))
            }
        };
        let whole = Duration::from_secs(self.until.since(self.since).as_secs());
        format!("after {} side by side {what}", duration::text(whole))
    }

    /// Each metric in a sentence.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        self.metrics.iter().map(|found| format!("{}: {}", found.metric, told(found))).collect()
    }
}

/// One metric in a sentence.
fn told(found: &Contrast) -> String {
    let value = |score| super::explain::look::shown(found.metric, score);
    let difference = match &found.difference {
        None => "fewer than two devices each, so how much chance is in it cannot be told".to_owned(),
        Some(Estimate { value: d, low, high }) => {
            let says = match found.says() {
                Says::Worse => "worse",
                Says::Better => "better",
                Says::Nothing => "no difference is shown",
            };
            format!("the difference is {} (95 % interval {} to {}): {says}", value(*d), value(*low), value(*high))
        }
    };
    format!(
        "{} is {} with the new release ({} devices, {} requests) and {} with the old ({} devices, {} requests); {difference}",
        found.metric.what(),
        value(found.new.mean),
        found.new.scored,
        found.new.requests,
        value(found.old.mean),
        found.old.scored,
        found.old.requests
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let day = Duration::from_secs(86_400);
        let check = |test: AbTest, field: Option<&str>| assert_eq!(test.fault().map(|(field, ..)| field), field);
        check(AbTest::default(), None);
        check(AbTest { lasts: day, ..AbTest::default() }, None);
        check(AbTest { requests: 1, split: Share::Parts(2_000), ..AbTest::default() }, None);
        check(AbTest { split: Share::Parts(2_000), ..AbTest::default() }, Some("ab.lasts"));
        check(AbTest { lasts: day, split: Share::ALL, ..AbTest::default() }, Some("ab.split"));
        check(AbTest { lasts: day, split: Share::Count(3), ..AbTest::default() }, Some("ab.split"));
        check(AbTest { lasts: day, sticky: "header:x".parse().ok(), ..AbTest::default() }, Some("ab.split"));
    }

    #[test]
    fn what_it_is_is_said_before_it_begins() {
        let check = |test: AbTest, said: &str| assert!(test.sentence().contains(said), "{}", test.sentence());
        let week = AbTest { lasts: Duration::from_secs(7 * 86_400), ..AbTest::default() };
        check(week.clone(), "the devices of wave 1 answer with the release, the others without it, for 7d;");
        let split = AbTest { split: Share::Parts(2_000), ..week };
        check(split.clone(), "answers 20% of its requests with the release, for 7d;");
        let sticky = AbTest { sticky: "header:x".parse().ok(), requests: 9, ..split };
        check(
            sticky,
            "20% of its callers, told apart by header:x, with the release, for 7d, and until both have answered 9 ",
        );
    }

    #[test]
    fn a_caller_is_kept_by_a_header_or_a_parameter() {
        for text in ["header:x-line", "parameter:line"] {
            assert_eq!(text.parse::<Sticky>().unwrap().to_string(), text);
        }
        let long = format!("header:{}", "x".repeat(MAX_KEY_BYTES + 1));
        for text in ["", "x-line", "header:", "cookie:x", "header:a b", "header:ü", &long] {
            assert!(text.parse::<Sticky>().is_err(), "{text}");
        }
    }
}
