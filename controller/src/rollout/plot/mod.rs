//! A rollout as a picture: both arms of each metric over time, with their limit or the confidence sequence of their
//! difference, rank and budget of each look, where waves began, and what was decided. Pure: values in, SVG 1.1 text out.

mod axis;
mod chart;
mod read;
mod svg;

pub use read::{drawn, picture, series};

use fieldpost_shared::time::Timestamp;

/// How the values of a metric are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share, shown in per cent.
    Share,
    /// A number without a unit.
    Number,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// A value, with as many decimals as a step between two of them needs.
    #[must_use]
    pub fn text(self, value: f64, step: f64) -> String {
        let decimals = |step: f64| if step > 0.0 { (-step.log10().floor()).clamp(0.0, 6.0) } else { 0.0 };
        match self {
            Self::Share => format!("{:.*} %", digits(decimals(step * 100.0)), value * 100.0),
            Self::Milliseconds => format!("{value:.*} ms", digits(decimals(step))),
            Self::Number => format!("{value:.*}", digits(decimals(step))),
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 and 6")]
fn digits(decimals: f64) -> usize {
    decimals as usize
}

/// The difference of the arms with its confidence sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// The difference itself.
    pub value: f64,
    /// Upper end.
    pub high: f64,
}

/// One look at one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// Mean over the devices with the release.
    pub treated: f64,
    /// Mean over the devices without it; none when there were none.
    pub controls: Option<f64>,
    /// Their difference; none with too few devices.
    pub difference: Option<Interval>,
    /// Rank of the observed order, and the largest rank that would have decided; none for a limit.
    pub test: Option<(usize, usize)>,
    /// Whether it decided.
    pub decides: bool,
    /// All of it in words.
    pub told: String,
}

/// One metric over the rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub metric: String,
    /// What is measured, in words.
    pub what: String,
    /// How its values are written.
    pub unit: Unit,
    /// The limit that the devices with the release are held to.
    pub limit: Option<f64>,
    /// The looks, oldest first.
    pub points: Vec<Point>,
}

/// Something that happened, as a line across the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// In a word or two.
    pub label: String,
    /// Whether it is the decision, rather than a wave that began.
    pub decision: bool,
}

/// Everything that is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// What the picture is of.
    pub title: String,
    /// What became of it.
    pub subtitle: String,
    /// When the rollout began: the axis counts from then.
    pub began: Timestamp,
    /// One chart each, below each other.
    pub series: Vec<Series>,
    /// Lines across all charts.
    pub marks: Vec<Mark>,
}

impl Picture {
    /// As SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        chart::draw(self)
    }
}

#[cfg(test)]
pub(crate) mod tests;
