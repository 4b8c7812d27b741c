//! Colours and signs. Every sign differs from every other without its colour.

use crate::rollout::gates::Verdict;
use crate::rollout::view::Standing;
use ratatui::style::{Color, Modifier, Style};

/// How things are painted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    color: bool,
}

impl Paint {
    pub(super) const fn new(color: bool) -> Self {
        Self { color }
    }

    fn colored(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Without colours, dim text would be as loud as the rest.
    pub(super) fn faint(self) -> Style {
        if self.color { Style::new().fg(Color::DarkGray) } else { Style::new().add_modifier(Modifier::DIM) }
    }

    pub(super) fn focus(self) -> Style {
        self.colored(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) fn alarm(self) -> Style {
        self.colored(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn notice(self) -> Style {
        self.colored(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// The state of a rollout, by its name.
    pub(super) fn state(self, state: &str) -> Style {
        let color = match state {
            "completed" => Color::Green,
            "rolling-back" | "rolled-back" | "aborted-reverted" => Color::Red,
            "paused" | "awaiting-approval" | "aborted-kept" => Color::Yellow,
            _ => Color::Cyan,
        };
        self.colored(color).add_modifier(Modifier::REVERSED | Modifier::BOLD)
    }

    pub(super) fn standing(self, standing: Standing) -> Style {
        self.colored(match standing {
            Standing::Live => Color::Green,
            Standing::Changing => Color::Yellow,
            Standing::Failed => Color::Red,
            Standing::Silent => Color::Magenta,
            Standing::Away => Color::Blue,
            Standing::Reverting | Standing::Reverted => Color::Cyan,
            Standing::Lost | Standing::Waiting => Color::DarkGray,
        })
    }

    /// An arm of the comparison.
    pub(super) fn arm(self, treated: bool) -> Style {
        self.colored(if treated { Color::Magenta } else { Color::Blue })
    }

    pub(super) fn verdict(self, verdict: Verdict) -> Style {
        self.colored(match verdict {
            Verdict::Pass => Color::Green,
            Verdict::Waiting => Color::Yellow,
            Verdict::Breach => Color::Red,
            Verdict::Unbounded => Color::DarkGray,
        })
    }
}

/// A device in a bar.
pub(super) const fn sign(standing: Standing) -> char {
    match standing {
        Standing::Live => '█',
        Standing::Changing => '▒',
        Standing::Failed => 'x',
        Standing::Silent => '?',
        Standing::Away => 'o',
        Standing::Reverting => '<',
        Standing::Reverted => '«',
        Standing::Lost => '-',
        Standing::Waiting => '·',
    }
}
