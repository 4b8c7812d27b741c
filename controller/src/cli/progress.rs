//! Progress on a terminal; silence in a pipe.

use super::output;
use crate::pack::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// Bars on stderr for a person who watches, nothing for others; notes go to both.
#[derive(Debug)]
pub struct Bars {
    watched: bool,
    bar: Option<ProgressBar>,
}

impl Bars {
    /// Bars, if somebody watches.
    #[must_use]
    pub fn new(watched: bool) -> Self {
        Self { watched, bar: None }
    }

    /// Takes the last bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A bar that counts bytes, hidden where nobody watches.
#[must_use]
pub fn bytes_bar(watched: bool, name: &'static str, total: u64) -> ProgressBar {
    if !watched {
        return ProgressBar::hidden();
    }
    styled(
        ProgressBar::new(total),
        "{msg:>24} {bar:30} {bytes:>10} of {total_bytes}, {bytes_per_sec}, {eta} left",
        name,
    )
}

/// A bar that counts steps, hidden where nobody watches.
#[must_use]
pub fn steps_bar(watched: bool, name: &'static str, total: u64) -> ProgressBar {
    if watched { styled(ProgressBar::new(total), STEPS, name) } else { ProgressBar::hidden() }
}

fn styled(bar: ProgressBar, template: &'static str, name: &'static str) -> ProgressBar {
    // The templates are constants of this file and tried by its test.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(name);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

const STEPS: &str = "{msg:>24} {bar:30} {pos} of {len}, {eta} left";
const ONE: &str = "{msg:>24} {spinner}";

impl Progress for Bars {
    fn stage(&mut self, name: &'static str, total: usize) {
        self.clear();
        if self.watched {
            let bar = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX));
            self.bar = Some(styled(bar, if total > 1 { STEPS } else { ONE }, name));
        }
    }

    fn step(&mut self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    fn note(&mut self, text: String) {
        let line = format!("note: {text}");
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(&line)),
            None => output::note(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_understood() {
        for template in [STEPS, ONE, "{msg:>24} {bar:30} {bytes:>10} of {total_bytes}, {bytes_per_sec}, {eta} left"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
