//! What a message of a device changes, given what was known: pure decisions, taken after its signature was believed.

use fieldpost_shared::wire::v1::{Alive, Sequence, Window};

/// A session that a device began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub number: Sequence,
    /// Whether its death was heard.
    pub dead: bool,
}

/// Why a believed message changes nothing. The text is a label of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Older than what is known, or the same again.
    #[error("the message is older than what is known, or the same again")]
    Replayed,
    /// Windows between what is stored and what came are missing.
    #[error("windows before these are missing")]
    Gap,
    /// Windows that do not follow each other.
    #[error("the windows do not follow each other")]
    Disorder,
}

impl Refusal {
    /// A constant name, for counters.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Gap => "gap",
            Self::Disorder => "disorder",
        }
    }
}

/// A report counts when it is newer than the newest.
///
/// # Errors
/// [`Refusal::Replayed`].
pub fn report(known: Option<Sequence>, new: Sequence) -> Result<(), Refusal> {
    if known.is_none_or(|known| new > known) { Ok(()) } else { Err(Refusal::Replayed) }
}

/// What a birth or a death makes of the known session.
///
/// ```text
///             birth, newer   birth, same      death, newer   death, same   older
/// none        alive          -                dead           -             -
/// alive       alive          unchanged        dead           dead          refused
/// dead        alive          refused          dead           unchanged     refused
/// ```
/// A death that comes before its birth was heard ends that session all the same, and the birth, which is older news,
/// does not revive it.
///
/// # Errors
/// [`Refusal::Replayed`].
pub fn alive(known: Option<Session>, alive: &Alive) -> Result<Session, Refusal> {
    let new = Session { number: alive.session, dead: !alive.alive };
    match known {
        None => Ok(new),
        Some(known) if new.number > known.number => Ok(new),
        Some(known) if new.number == known.number && (new.dead || !known.dead) => Ok(new),
        Some(_) => Err(Refusal::Replayed),
    }
}

/// A gap that was offered, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GapSeen {
    at: Sequence,
    times: u32,
}

/// Offers of the same windows beyond a gap, after which the gap is taken for a loss.
const GAP_OFFERS: u32 = 3;

/// What to store of a message of statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The windows that are new.
    pub windows: Vec<&'a Window>,
    /// Highest window that is stored then.
    pub stored: Sequence,
    /// How many windows before them were lost for good.
    pub lost: u64,
}

/// Which windows of a message are new. What is stored already is passed over; what does not follow on it is refused,
/// since the agent sends again from the oldest that no ack covers.
///
/// Only one thing leaves a gap for ever: a controller whose store went back in time, since agents drop what was
/// acknowledged. So the third offer of the same first window beyond a gap is believed.
///
/// # Errors
/// [`Refusal::Replayed`] when all is stored, [`Refusal::Gap`], [`Refusal::Disorder`].
pub fn stats<'a>(
    stored: Sequence,
    gap: &mut GapSeen,
    epoch: u64,
    windows: &'a [Window],
) -> Result<Accepted<'a>, Refusal> {
    if epoch < stored.epoch {
        return Err(Refusal::Replayed);
    }
    let done = if epoch > stored.epoch { 0 } else { stored.number };
    let ordered = windows.iter().all(|window| (1..=window.last).contains(&window.first));
    let follow = windows.windows(2).all(|pair| match pair {
        [before, after] => before.last.checked_add(1) == Some(after.first),
        _ => true,
    });
    if !ordered || !follow {
        return Err(Refusal::Disorder);
    }
    let new: Vec<_> = windows.iter().filter(|window| window.last > done).collect();
    let (Some(first), Some(last)) = (new.first(), new.last()) else { return Err(Refusal::Replayed) };
    let last = last.last;
    let next = done.saturating_add(1);
    if first.first < next {
        // One window covers what is stored and what is not: a sent window was merged, which no agent does.
        return Err(Refusal::Disorder);
    }
    let lost = first.first.saturating_sub(next);
    if lost > 0 {
        let at = Sequence { epoch, number: first.first };
        let times = if gap.at == at { gap.times.saturating_add(1) } else { 1 };
        *gap = GapSeen { at, times };
        if times < GAP_OFFERS {
            return Err(Refusal::Gap);
        }
    }
    *gap = GapSeen::default();
    Ok(Accepted { windows: new, stored: Sequence { epoch, number: last }, lost })
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
