//! Maintenance windows: when a device may be told to change, by the clock on the wall where it stands.
//!
//! `Mon-Fri 01:00-05:00`, `Sat,Sun 00:00-24:00`, `22:00-04:00`: days (none is every day) and the time from the first
//! minute to the one before the last. A window past midnight belongs to the day on which it begins. What the wall clock
//! shows is what counts: where it jumps over a whole window, that window does not open that night; where it is put back
//! and shows an hour twice, the window is open both times.
//!
//! Time zones are those of the IANA database, which this program carries with it: a machine without one works alike.

use fieldpost_shared::time::Timestamp;
use jiff::ToSpan as _;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// The label that names a device's time zone.
pub const LABEL: &str = "timezone";
/// Most windows of one strategy.
pub const MAX_WINDOWS: usize = 50;
/// How far ahead and back an opening is looked for: a weekly window can be jumped over once, not three times in a row.
const HORIZON_DAYS: i64 = 24;
/// Minutes of a day.
const DAY: u16 = 24 * 60;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A window or a zone that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaintenanceError {
    /// Not a window.
    #[error("`{0}` is not a maintenance window such as `Mon-Fri 01:00-05:00` or `22:00-04:00`")]
    Window(String),
    /// A window without time in it.
    #[error("the maintenance window `{0}` begins when it ends; a whole day is 00:00-24:00")]
    Empty(String),
    /// Not a zone of the database.
    #[error("there is no time zone `{name}`; {hint}")]
    Zone {
        /// As it was given.
        name: String,
        /// What to write instead.
        hint: String,
    },
}

/// Days and times at which a device may be told to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// By bits, Monday first.
    days: u8,
    /// First minute of the day.
    from: u16,
    /// The minute after the last; not after `from` means the next day.
    to: u16,
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const EVERY_DAY: u8 = 0b111_1111;

fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // From Saturday to Monday goes over the end of the week.
        let count = (last + 7 - first) % 7;
        (0..=count).for_each(|step| days |= 1 << ((first + step) % 7));
    }
    Some(days)
}

fn parse_minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let two = |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    let (hours, minutes): (u16, u16) = (two(hours)?, two(minutes)?);
    (minutes < 60 && (hours < 24 || (hours == 24 && minutes == 0))).then_some(hours * 60 + minutes)
}

impl FromStr for Window {
    type Err = MaintenanceError;
    fn from_str(text: &str) -> Result<Self, MaintenanceError> {
        let shown = || text.chars().take(60).collect::<String>();
        let refuse = || MaintenanceError::Window(shown());
        let (days, time) = match text.trim().rsplit_once(' ') {
            Some((days, time)) => (parse_days(days).ok_or_else(refuse)?, time),
            None => (EVERY_DAY, text.trim()),
        };
        let (from, to) = time.split_once('-').ok_or_else(refuse)?;
        let (from, to) = (parse_minute(from).ok_or_else(refuse)?, parse_minute(to).ok_or_else(refuse)?);
        if from == to || from == DAY {
            return Err(MaintenanceError::Empty(shown()));
        }
        Ok(Self { days, from, to })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != EVERY_DAY {
            let days: Vec<&str> =
                DAYS.iter().enumerate().filter(|(i, _)| self.days >> i & 1 == 1).map(|(_, day)| *day).collect();
            write!(f, "{} ", days.join(","))?;
        }
        let Self { from, to, .. } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Window {
    fn begins_on(&self, day: Weekday) -> bool {
        self.days >> day.to_monday_zero_offset() & 1 == 1
    }

    /// Whether a clock on the wall that shows this is within the window.
    fn contains(&self, wall: DateTime) -> bool {
        let minute = u16::from(wall.hour().unsigned_abs()) * 60 + u16::from(wall.minute().unsigned_abs());
        let today = wall.date().weekday();
        if self.from < self.to {
            return self.begins_on(today) && (self.from..self.to).contains(&minute);
        }
        (self.begins_on(today) && minute >= self.from) || (self.begins_on(today.previous()) && minute < self.to)
    }
}

/// A time zone of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl FromStr for Zone {
    type Err = MaintenanceError;
    fn from_str(text: &str) -> Result<Self, MaintenanceError> {
        let found = ZONES.get(text).ok().filter(|zone| !zone.is_unknown());
        found
            .map(Self)
            .ok_or_else(|| MaintenanceError::Zone { name: text.chars().take(60).collect(), hint: near(text) })
    }
}

/// What somebody may have meant: a zone whose city was written, or one that begins alike.
fn near(text: &str) -> String {
    let city = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase().replace(' ', "_");
    let wanted = city(text);
    let names: Vec<String> = ZONES.available().map(|name| name.to_string()).collect();
    let alike = |name: &&String| {
        let other = city(name);
        let common = other.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
        other == wanted || (common >= 4 && other.len().abs_diff(wanted.len()) <= 2)
    };
    let exact = names.iter().find(|name| city(name) == wanted && name.contains('/'));
    match exact.or_else(|| names.iter().find(|name| name.contains('/') && alike(name))) {
        Some(name) => format!("perhaps `{name}` is meant"),
        None => "names are those of the IANA database, such as Europe/Paris or Asia/Kathmandu".to_owned(),
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The instant in the library's form; the last it knows for one that is later.
fn instant(at: Timestamp) -> jiff::Timestamp {
    let ms = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
}

fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

impl Zone {
    /// What a clock on the wall shows, `Fri 01:30`.
    #[must_use]
    pub fn wall(&self, at: Timestamp) -> String {
        let wall = self.0.to_datetime(instant(at));
        let day = usize::try_from(wall.date().weekday().to_monday_zero_offset()).unwrap_or(0);
        format!("{} {:02}:{:02}", DAYS.get(day).unwrap_or(&""), wall.hour(), wall.minute())
    }

    /// Every instant around one at which something may begin or end: a window, or another offset from UTC.
    fn edges(&self, windows: &[Window], around: Timestamp) -> Vec<Timestamp> {
        let middle = instant(around);
        let reach = (HORIZON_DAYS * 24).hours();
        let (first, last) = (middle.saturating_sub(reach), middle.saturating_add(reach));
        let (Ok(first), Ok(last)) = (first, last) else { return Vec::new() };
        let mut edges: Vec<jiff::Timestamp> =
            self.0.following(first).map(|change| change.timestamp()).take_while(|at| *at <= last).take(100).collect();
        let mut day = self.0.to_datetime(first).date();
        let last_day = self.0.to_datetime(last).date();
        while day <= last_day {
            for window in windows.iter().filter(|window| window.begins_on(day.weekday())) {
                let wall =
                    day.to_datetime(jiff::civil::Time::midnight()).saturating_add(i64::from(window.from).minutes());
                let offsets = match self.0.to_ambiguous_timestamp(wall).offset() {
                    AmbiguousOffset::Unambiguous { offset } => [offset, offset],
                    AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => [before, after],
                };
                edges.extend(offsets.into_iter().filter_map(|offset| offset.to_timestamp(wall).ok()));
            }
            let Ok(next) = day.tomorrow() else { break };
            day = next;
        }
        edges.into_iter().map(timestamp).collect()
    }
}

/// Whether a device in this zone may be told now. Without windows, always.
#[must_use]
pub fn is_open(windows: &[Window], zone: &Zone, at: Timestamp) -> bool {
    let wall = zone.0.to_datetime(instant(at));
    windows.is_empty() || windows.iter().any(|window| window.contains(wall))
}

/// When a window that is closed opens next; none within the next three weeks.
#[must_use]
pub fn opens(windows: &[Window], zone: &Zone, after: Timestamp) -> Option<Timestamp> {
    let edges = zone.edges(windows, after).into_iter();
    edges.filter(|edge| *edge > after && is_open(windows, zone, *edge)).min()
}

/// Since when a window that is open has been; none is for longer than three weeks.
#[must_use]
pub fn opened(windows: &[Window], zone: &Zone, now: Timestamp) -> Option<Timestamp> {
    let before = |at: Timestamp| at.minus(std::time::Duration::from_millis(1));
    let edges = zone.edges(windows, now).into_iter();
    edges.filter(|e| *e <= now && is_open(windows, zone, *e) && !is_open(windows, zone, before(*e))).max()
}

/// Whether a device's window is open.
#[derive(Debug, Clone, PartialEq)]
pub enum Opening {
    /// It is.
    Open {
        /// Since when; none where there are no windows, or it has always been.
        since: Option<Timestamp>,
    },
    /// It is not.
    Closed {
        /// When it opens; none is not within weeks.
        opens: Option<Timestamp>,
        /// In which zone.
        zone: Zone,
    },
    /// The device's label names no time zone, so nobody knows.
    Unknown {
        /// What it says, and what may be meant.
        why: MaintenanceError,
    },
}

/// The windows of a strategy at one moment. What was found for a zone is kept: a fleet has few.
#[derive(Debug)]
pub struct Calendar<'a> {
    windows: &'a [Window],
    zone: &'a Zone,
    now: Timestamp,
    known: RefCell<BTreeMap<String, Opening>>,
}

impl<'a> Calendar<'a> {
    /// Of these windows, in this zone where a device has no label.
    #[must_use]
    pub const fn new(windows: &'a [Window], zone: &'a Zone, now: Timestamp) -> Self {
        Self { windows, zone, now, known: RefCell::new(BTreeMap::new()) }
    }

    /// Whether there are any windows.
    #[must_use]
    pub const fn has_windows(&self) -> bool {
        !self.windows.is_empty()
    }

    /// Whether a device with these labels may be told.
    #[must_use]
    pub fn of(&self, labels: &BTreeMap<String, String>) -> Opening {
        if self.windows.is_empty() {
            return Opening::Open { since: None };
        }
        let label = labels.get(LABEL).map_or("", String::as_str);
        if let Some(known) = self.known.borrow().get(label) {
            return known.clone();
        }
        let zone = if label.is_empty() { Ok(self.zone.clone()) } else { label.parse() };
        let opening = match zone {
            Err(why) => Opening::Unknown { why },
            Ok(zone) if is_open(self.windows, &zone, self.now) => {
                Opening::Open { since: opened(self.windows, &zone, self.now) }
            }
            Ok(zone) => Opening::Closed { opens: opens(self.windows, &zone, self.now), zone },
        };
        self.known.borrow_mut().insert(label.to_owned(), opening.clone());
        opening
    }
}

#[cfg(test)]
#[path = "maintenance_tests.rs"]
mod tests;
