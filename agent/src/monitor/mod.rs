//! What the box sees of its models: one window of statistics per live release, filled by requests and closed by a timer.
//!
//! [`features`] says which numbers of a request are measured (packing a bundle measures its reference data the same way),
//! [`collector`] counts them (both pure), [`resources`] reads the box, [`timer`] drives the closing.

pub mod collector;
pub mod features;
mod image;
pub mod resources;
#[cfg(test)]
pub(crate) mod testing;
pub mod timer;

use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::stats::WindowStats;
use std::time::Duration;

/// How windows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorSettings {
    /// A window closes when it is so old, even when nothing came: silence is news.
    pub window: Duration,
    /// How often the timer looks for windows to close, and reads the box.
    pub tick: Duration,
    /// How often open windows are put on the disk, so that a death loses no more than this.
    pub checkpoint: Duration,
    /// An inference that takes longer is given up, and held against its model.
    pub hang: Duration,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(3_600),
            tick: Duration::from_secs(1),
            checkpoint: Duration::from_secs(10),
            hang: Duration::from_secs(60),
        }
    }
}

/// A window that is complete, on its way to the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedWindow {
    /// The release that served.
    pub release: ReleaseRef,
    /// What was seen.
    pub content: WindowStats,
}
