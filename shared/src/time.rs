//! Time as a value: a timestamp, and the clock that tests drive.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// The last time of which RFC 3339 has a form here: 9999-12-30 22:00 UTC, and a little less than a second.
const LAST_WRITABLE: Timestamp = Timestamp(253_402_207_200_999);

/// Milliseconds since 1970-01-01 UTC; RFC 3339 in JSON, a varint in postcard.
///
/// A time past year 9999 becomes its last day in JSON: a device or a person may name any time, and what is written
/// must be readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01 UTC.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time and a duration later, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This time and a duration earlier, saturating at the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds; a time past year 9999 prints as milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
            Some(time) => write!(f, "{time:.3}"),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self.min(&LAST_WRITABLE))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        // Stores of earlier versions hold this form for times past the calendar.
        if let Some(ms) = text.strip_suffix("ms").and_then(|ms| ms.parse().ok()) {
            return Ok(Self(ms));
        }
        let time: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        u64::try_from(time.as_millisecond()).map(Self).map_err(|_before| de::Error::custom("a time before 1970"))
    }
}

/// Where time comes from. Decisions take a [`Timestamp`]; only drivers hold a clock.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock. It may jump, and may be in 1970 on a box without a battery.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place where the machine's clock is read")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place where the machine's clock is read")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Timestamp, Duration)>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new((now, Duration::ZERO)))
    }

    /// Lets both wall and monotonic time pass.
    pub fn advance(&self, by: Duration) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = (state.0.plus(by), state.1.saturating_add(by));
    }

    /// Makes the wall clock jump; monotonic time stays.
    pub fn jump_to(&self, now: Timestamp) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0 = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_rfc_3339_in_utc() {
        assert_eq!(Timestamp::from_millis(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(
            serde_json::from_str::<Timestamp>("\"2023-11-14T22:13:20.123Z\"").unwrap().as_millis(),
            1_700_000_000_123
        );
    }

    #[test]
    fn a_time_past_the_calendar_still_prints() {
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), format!("{}ms", u64::MAX));
    }

    #[test]
    fn whatever_is_written_as_json_can_be_read() {
        for ms in [0, 1_700_000_000_123, LAST_WRITABLE.0, LAST_WRITABLE.0 + 1, 261_000_000_000_000, u64::MAX] {
            let written = serde_json::to_string(&Timestamp::from_millis(ms)).unwrap();
            let read: Timestamp = serde_json::from_str(&written).unwrap();
            assert_eq!(read, Timestamp::from_millis(ms).min(LAST_WRITABLE), "{written}");
        }
    }

    #[test]
    fn what_an_earlier_version_wrote_for_a_time_past_the_calendar_is_read() {
        let read: Timestamp = serde_json::from_str("\"261000000000000ms\"").unwrap();
        assert_eq!(read.as_millis(), 261_000_000_000_000);
        assert!(serde_json::from_str::<Timestamp>("\"ms\"").is_err());
    }
}
