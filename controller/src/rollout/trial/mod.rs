//! The randomised experiment that a rollout is: devices of the first waves against those whose turn has not come, in an
//! order that was drawn by lot. Pure: numbers in, a verdict with its numbers out; chance comes from the rollout's seed.
//!
//! ```text
//! score        what one device shows of one metric, in [0, 1]
//! cuped        less of what made devices differ before the rollout
//! permutation  is the new release worse? Exact, over the looks of the whole rollout
//! advance      is it no more than `margin` times worse? Exact, over the looks of one wave
//! confidence   what people see: a difference with its confidence sequence; decides nothing
//! past         where nobody is left to compare with: devices against their own past
//! contrast     two releases held side by side: the difference with an interval; decides nothing
//! schedule     when looks fall due, by the clock
//! design       everything that is settled at creation, and what it cannot decide
//! power        what harm a wave would find
//! look         one look: all of the above
//! ```
//! The unit is the device, never the request: requests of one device are not independent.

pub mod advance;
pub mod confidence;
pub mod contrast;
pub mod cuped;
pub mod design;
pub mod look;
pub mod metric;
pub mod past;
pub mod permutation;
pub mod power;
pub mod random;
pub mod schedule;
pub mod score;
pub mod settings;

#[cfg(test)]
mod calibration_tests;

pub use design::{Design, Facts, WaveDesign};
pub use look::{Look, LookVerdict, MetricLook, Standing, look};
pub use metric::Metric;
pub use permutation::Layout;
pub use score::{Reading, Score};
pub use settings::{Acceptable, Settings, Shares};
