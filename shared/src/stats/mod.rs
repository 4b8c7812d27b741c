//! Sketches, distances and detectors: the mathematics of what a model in the field does.
//!
//! Everything here is pure: no clock, no input or output, no randomness. The agent fills a [`Recorder`] per live release and sends the
//! [`WindowStats`] that it closes; the controller merges windows over time and devices and compares them to the release's [`Baseline`].
//! All that travels is made of integers, so that merging is exact in any order and on any processor.

mod baseline;
pub mod binomial;
mod by_version;
mod categorical;
mod change;
mod compact;
mod confusion;
mod distance;
mod drift;
mod edges;
mod eprocess;
mod error;
mod histogram;
mod inputs;
mod latency;
mod moments;
mod paired;
mod recorder;
#[cfg(test)]
mod reference;
mod resources;
mod special;
mod sprt;
mod tally;
#[cfg(test)]
mod testing;
mod window;

pub use baseline::{Baseline, NumericBaseline, OutputBaseline};
pub use by_version::{ByVersion, MAX_RIVALS, Rival};
pub use categorical::{CONFIDENCE_BINS, ClassCounts, Confidence, MAX_CLASSES};
pub use change::{Change, Changes, DELTA_BINS, RATIO_BINS, Row};
pub use confusion::{Confused, Confusion, MAX_CONFUSED};
pub use distance::{Pair, Test, wasserstein};
pub use drift::{Drift, DriftRule, DriftState, Level, Subject, assess, ranked};
pub use edges::{DEFAULT_BINS, Edges, MAX_BINS, MAX_CELLS};
pub use eprocess::{HistogramDetector, RateDetector};
pub use error::StatsError;
pub use histogram::Histogram;
pub use inputs::{Inputs, MAX_INPUTS};
pub use latency::{ALPHA as LATENCY_ALPHA, LatencySketch};
pub use moments::Moments;
pub use paired::{Paired, Pairs, ScoreDelta};
pub use recorder::Recorder;
pub use resources::{Gauge, Reading, Resources};
pub use sprt::{Health, HealthTest};
pub use tally::{ErrorKind, Errors, Share};
pub use window::{FULL_AT, FULL_PER_BIN, Limits, WindowStats, should_close};
