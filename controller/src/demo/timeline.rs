//! The story as it happens, one line an event.

use fieldpost_shared::time::{Clock as _, SystemClock};
use std::io::Write as _;
use std::sync::Arc;

/// Prints with the seconds since the start. Silent when the output is for programs.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    clock: Arc<SystemClock>,
    loud: bool,
}

impl Timeline {
    pub(super) fn new(loud: bool) -> Self {
        Self { clock: Arc::new(SystemClock::new()), loud }
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.clock.monotonic().as_secs_f64()
    }

    /// A line of its own.
    pub(super) fn title(&self, text: &str) {
        self.line(&format!("{text}\n"));
    }

    /// Something that happened.
    pub(super) fn event(&self, who: &str, what: &str) {
        self.line(&format!("{:6.1} s  {who:<12} {what}\n", self.seconds()));
    }

    fn line(&self, text: &str) {
        if self.loud {
            // A closed pipe must not end the demo halfway: its verdict is in the exit code.
            drop(std::io::stdout().lock().write_all(text.as_bytes()));
        }
    }
}
