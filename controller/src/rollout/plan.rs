//! Waves: how many devices get the release, in which steps. Sizes are cumulative: `1,4,12` reaches one device, then
//! four, then twelve of them. A wave may also be a group of devices, `site=lyon`, or grow by itself, `grow 1 x4`.

use crate::fleet::selector::{Selector, SelectorError};
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
    /// Not `grow 1 x4`.
    #[error("`{0}` does not say how waves grow")]
    Growth(String),
    /// Something comes after waves that grow until everybody is reached.
    #[error("`{0}` grows until everybody is reached; nothing can come after it")]
    AfterGrowth(String),
    /// Not a selector.
    #[error("a wave cannot be used as a group of devices")]
    Group(#[source] SelectorError),
    /// A group of devices that nobody belongs to.
    #[error("wave {wave} is for `{selector}`, which matches none of {eligible} devices that can take part")]
    NobodyInGroup {
        /// Its number, from 1.
        wave: usize,
        /// As it was given.
        selector: Selector,
        /// Devices that can take part.
        eligible: usize,
    },
    /// A group of devices whose members are all in earlier waves.
    #[error("wave {wave} is for `{selector}`, and all {matching} devices that match are in earlier waves or held out")]
    GroupUsedUp {
        /// Its number, from 1.
        wave: usize,
        /// As it was given.
        selector: Selector,
        /// Devices that match.
        matching: usize,
    },
    /// A wave that adds nobody.
    #[error("waves are cumulative, and wave {wave} ({size}) does not reach beyond wave {} ({before})", wave - 1)]
    NotGrowing {
        /// Its number, from 1.
        wave: usize,
        /// Its size, as given.
        size: Share,
        /// What the one before it is, as given.
        before: Wave,
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
            Self::Growth(_) => "write `grow FIRST xFACTOR`, such as `grow 1 x4` (1, 4, 16, ...) or `grow 1% x3`",
            Self::AfterGrowth(_) => "put it last: --waves 'site=lab,grow 10 x3'",
            Self::Group(_) => {
                "for example --waves 1,site=lyon,rest; a group of several terms: --waves '1; site=lyon,arch=aarch64; rest'"
            }
            Self::NobodyInGroup { .. } => "`fieldpost device list` shows labels and inventory",
            Self::GroupUsedUp { .. } => "leave the wave out, or put it before the waves that take its devices",
            Self::NotGrowing { .. } => "give the devices reached so far, not those added: 1,4,12 rather than 1,3,8",
            Self::TooLarge { .. } => "end with 100%, or widen --selector",
            Self::Short { .. } => "end with `rest` (or 100%), or keep the others back with --holdout",
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

/// One wave, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wave {
    /// It reaches so many devices, counted from the first wave on.
    Size(Share),
    /// It takes every device that matches and is in no wave before it.
    Group(Selector),
    /// Waves that grow by a factor from a size until everybody is reached.
    Grow {
        /// What the first of them reaches.
        from: Share,
        /// How many times more each next one reaches; at least 2.
        factor: u32,
    },
}

impl From<Share> for Wave {
    fn from(size: Share) -> Self {
        Self::Size(size)
    }
}

impl FromStr for Wave {
    type Err = PlanError;
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let text = text.trim();
        if text == "rest" {
            return Ok(Self::Size(Share::ALL));
        }
        if let Some(growth) = text.strip_prefix("grow ") {
            let refuse = || PlanError::Growth(text.chars().take(40).collect());
            let (from, factor) = growth.trim().split_once(' ').ok_or_else(refuse)?;
            let factor = factor.trim().strip_prefix('x').and_then(|factor| factor.parse().ok()).ok_or_else(refuse)?;
            let from: Share = from.parse().map_err(|_no_size| refuse())?;
            return if factor >= 2 && from.ceil(1) > 0 { Ok(Self::Grow { from, factor }) } else { Err(refuse()) };
        }
        if text.contains(['=', ':']) {
            return text.parse().map(Self::Group).map_err(PlanError::Group);
        }
        text.parse().map(Self::Size)
    }
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(f, "{size}"),
            Self::Group(selector) => write!(f, "{selector}"),
            Self::Grow { from, factor } => write!(f, "grow {from} x{factor}"),
        }
    }
}

impl Serialize for Wave {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wave {
    /// From text, or from a bare number in a TOML file.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Count(usize),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Count(count) => Ok(Self::Size(Share::Count(count))),
            Form::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// The waves, as given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Vec<Wave>")]
pub struct Waves(Vec<Wave>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    List(Vec<Wave>),
    Text(String),
}

impl TryFrom<Form> for Waves {
    type Error = PlanError;
    fn try_from(form: Form) -> Result<Self, PlanError> {
        match form {
            Form::List(waves) => Self::new(waves),
            Form::Text(text) => text.parse(),
        }
    }
}

impl From<Waves> for Vec<Wave> {
    fn from(waves: Waves) -> Self {
        waves.0
    }
}

/// Devices in waves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrangement {
    /// The waves, with what each reaches.
    pub waves: Vec<ResolvedWave>,
    /// Every device by its place in the order that was drawn, wave after wave; those held out come last.
    pub places: Vec<usize>,
}

impl Waves {
    /// Checks what can be checked without knowing the fleet.
    ///
    /// # Errors
    /// When there are none or too many, neighbours of one kind do not grow, or one comes after those that grow.
    pub fn new<W: Into<Wave>>(waves: impl IntoIterator<Item = W>) -> Result<Self, PlanError> {
        let waves: Vec<Wave> = waves.into_iter().map(Into::into).collect();
        if waves.is_empty() || waves.len() > MAX_WAVES {
            return Err(PlanError::Count(waves.len()));
        }
        if waves.first().is_some_and(|first| matches!(first, Wave::Size(size) if size.ceil(1) == 0)) {
            return Err(PlanError::Size("0".to_owned()));
        }
        for (index, pair) in waves.windows(2).enumerate() {
            let [before, wave] = pair else { continue };
            if matches!(before, Wave::Grow { .. }) {
                return Err(PlanError::AfterGrowth(before.to_string()));
            }
            match (before, wave) {
                (Wave::Size(Share::Count(a)), Wave::Size(size @ Share::Count(b))) if a >= b => {
                    return Err(PlanError::NotGrowing { wave: index + 2, size: *size, before: before.clone() });
                }
                (Wave::Size(Share::Parts(a)), Wave::Size(size @ Share::Parts(b))) if a >= b => {
                    return Err(PlanError::NotGrowing { wave: index + 2, size: *size, before: before.clone() });
                }
                _ => {}
            }
        }
        Ok(Self(waves))
    }

    /// The waves, as given.
    #[must_use]
    pub fn given(&self) -> &[Wave] {
        &self.0
    }

    /// The highest number that a wave can have; none while it depends on the fleet.
    #[must_use]
    pub fn last_number(&self) -> Option<usize> {
        let grows = self.0.iter().any(|wave| matches!(wave, Wave::Grow { .. }));
        (!grows).then_some(self.0.len())
    }

    /// The groups of devices that waves are for, with the waves' numbers. A device belongs to the first that it matches.
    pub fn groups(&self) -> impl Iterator<Item = (usize, &Selector)> {
        self.0.iter().enumerate().filter_map(|(index, wave)| match wave {
            Wave::Group(selector) => Some((index + 1, selector)),
            _ => None,
        })
    }

    /// Every wave as a size or a group: growth is written out for so many devices.
    fn written_out(&self, eligible: usize) -> Result<Vec<(Wave, bool)>, PlanError> {
        let mut waves = Vec::with_capacity(self.0.len());
        for wave in &self.0 {
            let Wave::Grow { from, factor } = wave else {
                waves.push((wave.clone(), false));
                continue;
            };
            let mut size = *from;
            while size.ceil(eligible) < eligible {
                waves.push((Wave::Size(size), true));
                size = match size {
                    Share::Count(count) => Share::Count(count.saturating_mul(usize::try_from(*factor).unwrap_or(2))),
                    Share::Parts(parts) => Share::Parts(parts.saturating_mul(u64::from(*factor)).min(PARTS)),
                };
            }
            waves.push((Wave::Size(Share::ALL), true));
        }
        if waves.len() > MAX_WAVES { Err(PlanError::Count(waves.len())) } else { Ok(waves) }
    }

    /// How many devices each wave reaches, cumulative, where no wave is for a group: [`Self::arrange`].
    ///
    /// # Errors
    /// When a wave asks for more than there are, does not grow, or the last one leaves devices behind.
    pub fn resolve(&self, total: usize, holdout: usize) -> Result<Vec<ResolvedWave>, PlanError> {
        Ok(self.arrange(total, holdout, |_, _| false)?.waves)
    }

    /// Puts devices into waves. Of `total` devices, named by their places in the order that was drawn, the last
    /// `holdout` are kept back; shares are of the others. A group takes its members wherever they stand, in their
    /// order; a size takes the first of those that are left. Waves that add nobody because a share of a small fleet
    /// rounds to the same number are left out.
    ///
    /// # Errors
    /// When a wave asks for more than there are, adds nobody, or the last one leaves devices behind.
    pub fn arrange(
        &self,
        total: usize,
        holdout: usize,
        is_in: impl Fn(&Selector, usize) -> bool,
    ) -> Result<Arrangement, PlanError> {
        let eligible = total.saturating_sub(holdout);
        if eligible == 0 {
            return Err(PlanError::Holdout { holdout, eligible: total });
        }
        let mut waves: Vec<ResolvedWave> = Vec::with_capacity(self.0.len());
        let (mut places, mut left): (Vec<usize>, Vec<usize>) = (Vec::with_capacity(total), (0..eligible).collect());
        let mut before = Wave::Size(Share::NONE);
        for (index, (step, grown)) in self.written_out(eligible)?.into_iter().enumerate() {
            let (wave, reached) = (index + 1, places.len());
            let (size, selector) = match &step {
                Wave::Group(selector) => {
                    let (taken, others): (Vec<usize>, _) = left.into_iter().partition(|place| is_in(selector, *place));
                    left = others;
                    if taken.is_empty() {
                        let matching = (0..total).filter(|place| is_in(selector, *place)).count();
                        let selector = selector.clone();
                        return Err(match matching {
                            0 => PlanError::NobodyInGroup { wave, selector, eligible: total },
                            _ => PlanError::GroupUsedUp { wave, selector, matching },
                        });
                    }
                    places.extend(taken);
                    (Share::Count(places.len()), Some(selector.to_string()))
                }
                Wave::Size(size) | Wave::Grow { from: size, .. } => {
                    let reaches = size.ceil(eligible);
                    if reaches > eligible {
                        return Err(PlanError::TooLarge { wave, wanted: reaches, eligible });
                    }
                    let rounds_alike = grown || (reaches == reached && !is_count(*size) && reached > 0);
                    if reaches <= reached && !rounds_alike {
                        return Err(PlanError::NotGrowing { wave, size: *size, before });
                    }
                    let rest = left.split_off(reaches.saturating_sub(reached).min(left.len()));
                    places.extend(std::mem::replace(&mut left, rest));
                    (*size, None)
                }
            };
            if places.len() > reached {
                waves.push(ResolvedWave { asked: wave, size, reaches: places.len(), selector });
            }
            before = step;
        }
        if places.len() < eligible {
            return Err(PlanError::Short { last: places.len(), eligible });
        }
        places.extend(eligible..total);
        Ok(Arrangement { waves, places })
    }
}

const fn is_count(size: Share) -> bool {
    matches!(size, Share::Count(_))
}

impl FromStr for Waves {
    type Err = PlanError;
    /// Waves are separated by commas; by semicolons, where a wave's selector has commas of its own.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let separator = if text.contains(';') { ';' } else { ',' };
        Self::new(text.split(separator).map(Wave::from_str).collect::<Result<Vec<_>, _>>()?)
    }
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        let separator = if all.iter().any(|wave| wave.contains(',')) { "; " } else { "," };
        f.write_str(&all.join(separator))
    }
}

/// A wave of a fleet whose size is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedWave {
    /// Its number, from 1, among the waves that were asked for.
    pub asked: usize,
    /// As it was asked for: it bounds how many late joiners the wave takes.
    pub size: Share,
    /// Devices reached when the wave is done, counted from the start of the order.
    pub reaches: usize,
    /// The group of devices that it is for, where it is for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
