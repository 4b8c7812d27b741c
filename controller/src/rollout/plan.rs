//! Waves: how many devices get the release, in which steps. Sizes are cumulative: `1,4,12` reaches one device, then
//! four, then twelve of them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// Most waves of one rollout.
pub const MAX_WAVES: usize = 64;
/// Parts of one that percentages are kept in.
const PARTS: u64 = 10_000;

/// Waves or a share that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not a number or a percentage.
    #[error("`{0}` is neither a number of devices (4) nor a share of them (25%)")]
    Size(String),
    /// None, or more than [`MAX_WAVES`].
    #[error("a rollout has 1 to {MAX_WAVES} waves, got {0}")]
    Count(usize),
    /// A wave that adds nobody.
    #[error("waves are cumulative, and wave {wave} ({size}) does not reach beyond wave {} ({before})", wave - 1)]
    NotGrowing {
        /// Its number, from 1.
        wave: usize,
        /// Its size, as given.
        size: Share,
        /// The size before it, as given.
        before: Share,
    },
    /// A wave larger than the fleet.
    #[error("wave {wave} is to reach {wanted} devices, but only {eligible} can take part")]
    TooLarge {
        /// Its number, from 1.
        wave: usize,
        /// Devices asked for.
        wanted: usize,
        /// Devices that there are, without the holdout.
        eligible: usize,
    },
    /// The last wave leaves devices behind.
    #[error("the waves end at {last} of {eligible} devices")]
    Short {
        /// Devices that the last wave reaches.
        last: usize,
        /// Devices that there are, without the holdout.
        eligible: usize,
    },
    /// Nobody is left beside the holdout.
    #[error("a holdout of {holdout} leaves none of {eligible} devices for the waves")]
    Holdout {
        /// Devices held out.
        holdout: usize,
        /// Devices that match.
        eligible: usize,
    },
}

impl PlanError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Size(_) | Self::Count(_) => "for example --waves 1,4,100% or --waves 10%,50%,100%",
            Self::NotGrowing { .. } => "give the devices reached so far, not those added: 1,4,12 rather than 1,3,8",
            Self::TooLarge { .. } => "end with 100%, or widen --selector",
            Self::Short { .. } => "end with 100%, or keep the others back with --holdout",
            Self::Holdout { .. } => "make the holdout smaller",
        }
    }
}

/// A number of devices, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Share {
    /// So many.
    Count(usize),
    /// So many ten-thousandths.
    Parts(u64),
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self::Parts(PARTS);
    /// None of them.
    pub const NONE: Self = Self::Count(0);

    /// How many of `total` these are at least: a share is rounded up.
    #[must_use]
    pub fn ceil(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Parts(parts) => Self::of(total, parts, PARTS - 1),
        }
    }

    /// How many of `total` these are at most: a share is rounded down.
    #[must_use]
    pub fn floor(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Parts(parts) => Self::of(total, parts, 0),
        }
    }

    fn of(total: usize, parts: u64, round: u64) -> usize {
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        usize::try_from(total.saturating_mul(parts).saturating_add(round) / PARTS).unwrap_or(usize::MAX)
    }
}

impl FromStr for Share {
    type Err = PlanError;
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let refuse = || PlanError::Size(text.chars().take(40).collect());
        match text.trim() {
            "all" => Ok(Self::ALL),
            text => match text.strip_suffix('%') {
                None => text.parse().map(Self::Count).map_err(|_not_a_number| refuse()),
                Some(percent) => {
                    let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
                    if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_digit()) {
                        return Err(refuse());
                    }
                    let whole: u64 = whole.parse().map_err(|_not_a_number| refuse())?;
                    let part: u64 = format!("{part:0<2}").parse().map_err(|_not_a_number| refuse())?;
                    let parts = whole.checked_mul(100).and_then(|w| w.checked_add(part)).ok_or_else(refuse)?;
                    if parts <= PARTS { Ok(Self::Parts(parts)) } else { Err(refuse()) }
                }
            },
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Parts(parts) if parts.is_multiple_of(100) => write!(f, "{}%", parts / 100),
            Self::Parts(parts) => write!(f, "{}.{:02}%", parts / 100, parts % 100),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    /// From text, or from a bare number in a TOML file.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Count(usize),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Count(count) => Ok(Self::Count(count)),
            Form::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// The sizes of the waves, as given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Vec<Share>")]
pub struct Waves(Vec<Share>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    List(Vec<Share>),
    Text(String),
}

impl TryFrom<Form> for Waves {
    type Error = PlanError;
    fn try_from(form: Form) -> Result<Self, PlanError> {
        match form {
            Form::List(sizes) => Self::new(sizes),
            Form::Text(text) => text.parse(),
        }
    }
}

impl From<Waves> for Vec<Share> {
    fn from(waves: Waves) -> Self {
        waves.0
    }
}

impl Waves {
    /// Checks what can be checked without knowing the fleet.
    ///
    /// # Errors
    /// When there are none or too many, or neighbours of one kind do not grow.
    pub fn new(sizes: Vec<Share>) -> Result<Self, PlanError> {
        if sizes.is_empty() || sizes.len() > MAX_WAVES {
            return Err(PlanError::Count(sizes.len()));
        }
        if sizes.first().is_some_and(|first| first.ceil(1) == 0) {
            return Err(PlanError::Size("0".to_owned()));
        }
        for (index, pair) in sizes.windows(2).enumerate() {
            let grows = match pair {
                [Share::Count(a), Share::Count(b)] => a < b,
                [Share::Parts(a), Share::Parts(b)] => a < b,
                _ => true,
            };
            if let ([before, size], false) = (pair, grows) {
                return Err(PlanError::NotGrowing { wave: index + 2, size: *size, before: *before });
            }
        }
        Ok(Self(sizes))
    }

    /// The sizes.
    #[must_use]
    pub fn sizes(&self) -> &[Share] {
        &self.0
    }

    /// How many devices each wave reaches, cumulative. Of `total` devices `holdout` are kept back; shares are of the
    /// others. Waves that add nobody because a share of a small fleet rounds to the same number are left out.
    ///
    /// # Errors
    /// When a wave asks for more than there are, does not grow, or the last one leaves devices behind.
    pub fn resolve(&self, total: usize, holdout: usize) -> Result<Vec<ResolvedWave>, PlanError> {
        let eligible = total.saturating_sub(holdout);
        if eligible == 0 {
            return Err(PlanError::Holdout { holdout, eligible: total });
        }
        let mut waves: Vec<ResolvedWave> = Vec::with_capacity(self.0.len());
        for (index, size) in self.0.iter().enumerate() {
            let (wave, reaches) = (index + 1, size.ceil(eligible));
            if reaches > eligible {
                return Err(PlanError::TooLarge { wave, wanted: reaches, eligible });
            }
            match waves.last() {
                Some(before) if reaches < before.reaches || (reaches == before.reaches && is_count(*size)) => {
                    return Err(PlanError::NotGrowing { wave, size: *size, before: before.size });
                }
                Some(before) if reaches == before.reaches => {}
                _ => waves.push(ResolvedWave { asked: wave, size: *size, reaches }),
            }
        }
        match waves.last().map_or(0, |wave| wave.reaches) {
            last if last < eligible => Err(PlanError::Short { last, eligible }),
            _ => Ok(waves),
        }
    }
}

const fn is_count(size: Share) -> bool {
    matches!(size, Share::Count(_))
}

impl FromStr for Waves {
    type Err = PlanError;
    fn from_str(text: &str) -> Result<Self, PlanError> {
        Self::new(text.split(',').map(Share::from_str).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, size) in self.0.iter().enumerate() {
            write!(f, "{}{size}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// A wave of a fleet whose size is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedWave {
    /// Its number, from 1, among the waves that were asked for.
    pub asked: usize,
    /// As it was asked for: it bounds how many late joiners the wave takes.
    pub size: Share,
    /// Devices reached when the wave is done, counted from the start of the order.
    pub reaches: usize,
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
