//! The head: what it is, where it is, what comes next. The foot: what the keys do.

use super::super::model::{Ask, Link, Mode, Model, Panel};
use super::paint::Paint;
use super::panels;
use crate::cli::output;
use crate::rollout::upcoming::Upcoming;
use fieldpost_shared::time::Timestamp;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use std::time::Duration;

/// Lines of a reason; all of it is among the events.
const MOST_LINES: usize = 3;

/// Lines of the head.
pub(super) fn rows(model: &Model) -> u16 {
    u16::try_from(2 + third(model, &Paint::new(false), usize::from(model.size.0)).len()).unwrap_or(3)
}

/// What it is, where it is, and what comes next or why it stands still.
pub(super) fn lines(model: &Model, paint: &Paint, width: u16) -> Vec<Line<'static>> {
    let summary = &model.detail.summary;
    let left = format!("{} for {}", summary.release, summary.selector);
    let id = summary.id.to_string();
    let room = usize::from(width).saturating_sub(id.chars().count() + 3);
    let left = cut(&left, room);
    let gap = usize::from(width).saturating_sub(left.chars().count() + id.chars().count() + 2);
    let wave = summary.wave.map(|wave| format!("  wave {wave} of {}", summary.waves.len())).unwrap_or_default();
    let until = if summary.active { model.now } else { summary.updated };
    let counts = summary.counts;
    let elapsed = format!(
        "{wave}  {} of {} live  {} {} by {}",
        counts.live,
        counts.devices,
        if summary.active { "for" } else { "took" },
        span(until.since(summary.created)),
        summary.by
    );
    let mut lines = vec![
        Line::from(vec![
            Span::styled(format!(" {left}"), paint.strong()),
            Span::raw(" ".repeat(gap)),
            Span::styled(format!("{id} "), paint.faint()),
        ]),
        Line::from(vec![
            Span::raw(" "),
            Span::styled(format!(" {} ", summary.state), paint.state(&summary.state)),
            Span::raw(elapsed),
        ]),
    ];
    lines.extend(third(model, paint, usize::from(width)));
    lines
}

/// That the controller is away, else why it stands still, else what comes next.
fn third(model: &Model, paint: &Paint, width: usize) -> Vec<Line<'static>> {
    let summary = &model.detail.summary;
    let styled = |text: &str, style| {
        let lines = panels::wrap(&output::plain(text), " ", " ", width).into_iter();
        lines.take(MOST_LINES).map(|line| Line::styled(line, style)).collect()
    };
    if let Link::Away { since, why } = &model.link {
        let text = format!("! away for {}, trying again: {why}", span(model.now.since(*since)));
        return styled(&text, paint.alarm());
    }
    if let Some(reason) = &summary.reason {
        return styled(reason, paint.notice());
    }
    // A time that has passed is not what comes next; the rest is said by what it waits for.
    let next = model.detail.upcoming.iter().find(|next| next.at.is_none_or(|at| at > model.now));
    match next {
        Some(next) => styled(&coming(next, model.now), Style::new()),
        None if !summary.active => styled("it has ended; q leaves", Style::new()),
        None => vec![Line::from("")],
    }
}

fn coming(next: &Upcoming, now: Timestamp) -> String {
    let Some(at) = next.at else { return format!("next: {}", next.what) };
    format!("next in {} (at {} UTC): {}", span(at.since(now)), output::time_of_day(at), next.what)
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`: a duration that is watched.
fn span(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

pub(super) fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(room.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// The names of the panels, where one is shown at a time.
pub(super) fn tabs(model: &Model, paint: &Paint) -> Line<'static> {
    let mut spans = vec![Span::raw(" ")];
    for panel in Panel::ALL {
        let title = panels::title(model, panel);
        if panel == model.panel {
            spans.push(Span::styled(format!("[{title}]"), paint.focus()));
        } else {
            spans.push(Span::styled(format!(" {title} "), paint.faint()));
        }
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

/// One line: a question, an answer, or the keys.
pub(super) fn foot(model: &Model, paint: &Paint) -> Line<'static> {
    match model.mode {
        Mode::Search => Line::from(format!(" search: {}_  (enter keeps it, esc drops it)", model.search)),
        Mode::Confirm(ask) => Line::styled(format!(" {}", question(model, ask)), paint.notice()),
        Mode::Look | Mode::Help => match &model.said {
            Some(said) => Line::styled(format!(" {}", output::plain(said)), paint.notice()),
            None => Line::styled(format!(" {}", keys(model)), paint.faint()),
        },
    }
}

fn question(model: &Model, ask: Ask) -> String {
    let counts = model.detail.summary.counts;
    match ask {
        Ask::Pause => "Pause, so that nothing more changes? y pauses, any other key does not".to_owned(),
        Ask::Resume { .. } => "Resume? y resumes, s also skips failed and absent devices, other keys do not".to_owned(),
        Ask::Approve => {
            let wave = model.detail.summary.wave.map_or_else(String::new, |wave| format!(" wave {wave}"));
            format!("Approve{wave}? y approves, any other key does not")
        }
        Ask::Rollback => {
            let touched = counts.live + counts.changing + counts.failed;
            format!("Take the release back from {touched} devices? y does, any other key does not")
        }
    }
}

fn keys(model: &Model) -> String {
    let mut keys = vec!["q leave", "? help", "tab panel", "/ search", "f filter"];
    match model.detail.summary.state.as_str() {
        "paused" => keys.push("r resume"),
        "awaiting-approval" => keys.extend(["a approve", "p pause"]),
        _ if model.detail.summary.active => keys.push("p pause"),
        _ => {}
    }
    if !matches!(model.detail.summary.state.as_str(), "rolling-back" | "rolled-back" | "aborted-reverted") {
        keys.push("b back");
    }
    keys.join("  ")
}
