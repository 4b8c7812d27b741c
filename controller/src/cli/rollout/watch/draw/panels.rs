//! The panels of text: devices, gates, events; metrics have a file of their own.

use super::super::model::{Model, Panel};
use super::head::cut;
use super::metrics;
use super::paint::{Paint, sign};
use crate::cli::output;
use crate::rollout::gates::{GateReport, Verdict};
use crate::rollout::view::{MemberView, Standing};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use textwrap::{Options, WordSplitter};

/// The name of a panel, with what narrows it.
pub(super) fn title(model: &Model, panel: Panel) -> String {
    let name = panel.name();
    if panel != Panel::Devices || (model.filter.is_none() && model.search.is_empty()) {
        return name.to_owned();
    }
    let mut by = model.filter.map(|filter| filter.to_string()).into_iter().collect::<Vec<_>>();
    if !model.search.is_empty() {
        by.push(format!("/{}", model.search));
    }
    format!("{name}: {} of {}, {}", model.shown().len(), model.devices.len(), by.join(" "))
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, paint: &Paint, panel: Panel, area: Rect) {
    let scrolled = model.scrolled.get(panel.index()).copied().unwrap_or(0);
    let height = usize::from(area.height);
    match panel {
        Panel::Devices => devices(frame, model, paint, area, scrolled),
        Panel::Gates => {
            let lines: Vec<Line<'_>> = gates(model, usize::from(area.width))
                .into_iter()
                .skip(scrolled)
                .take(height)
                .map(|(verdict, line)| Line::styled(line, verdict.map_or_else(Default::default, |v| paint.verdict(v))))
                .collect();
            frame.render_widget(Paragraph::new(lines), area);
        }
        Panel::Metrics => {
            let lines = metrics::lines(model, paint, usize::from(area.width));
            let lines: Vec<Line<'_>> = lines.into_iter().skip(scrolled).take(height).collect();
            frame.render_widget(Paragraph::new(lines), area);
        }
        Panel::Events => {
            // Of thousands of events the last ones are wrapped, not all of them at each redraw.
            let mut lines = events(model, usize::from(area.width), height.saturating_add(scrolled));
            lines.truncate(lines.len().saturating_sub(scrolled));
            let from = lines.len().saturating_sub(height);
            let lines: Vec<Line<'_>> = lines.split_off(from).into_iter().map(Line::from).collect();
            frame.render_widget(Paragraph::new(lines), area);
        }
    }
}

fn devices(frame: &mut Frame<'_>, model: &Model, paint: &Paint, area: Rect, scrolled: usize) {
    let shown = model.shown();
    if shown.is_empty() {
        let text = match (model.devices.is_empty(), model.detail.summary.counts.devices) {
            (true, 0) => " no devices",
            (true, _) => " reading the devices",
            (false, _) => " no device is like that; esc shows all",
        };
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let height = usize::from(area.height.saturating_sub(1));
    let longest = shown.iter().map(|view| view.device.as_str().len()).max().unwrap_or(6);
    let name = u16::try_from(longest).unwrap_or(u16::MAX).clamp(6, 24.min(area.width / 3));
    let rows = shown.iter().skip(scrolled).take(height).map(|view| row(view, model, paint, name));
    let widths = [
        Constraint::Length(2),
        Constraint::Length(name),
        Constraint::Length(5),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let header = Row::new(["", "device", "wave", "state", "since", "last failure"]).style(paint.strong());
    frame.render_widget(Table::new(rows, widths).header(header).column_spacing(1), area);
}

fn row(view: &MemberView, model: &Model, paint: &Paint, name: u16) -> Row<'static> {
    let standing = Standing::of(&view.member);
    let style = paint.standing(standing);
    let wave = view.wave_number.map_or_else(|| "held".to_owned(), |wave| wave.to_string());
    let failure = view.member.failure.as_ref().map_or_else(String::new, |failure| {
        let tries = if failure.attempt > 1 { format!("try {}: ", failure.attempt) } else { String::new() };
        output::plain(&format!("{tries}{}", failure.detail))
    });
    Row::new([
        Cell::new(Span::styled(format!(" {}", sign(standing)), style)),
        Cell::new(cut(view.device.as_str(), usize::from(name))),
        Cell::new(wave),
        Cell::new(Span::styled(standing.name(), style)),
        Cell::new(output::span(model.now.since(view.member.since))),
        Cell::new(failure),
    ])
}

pub(super) fn wrap(text: &str, first: &str, below: &str, width: usize) -> Vec<String> {
    let options = Options::new(width.max(20)).initial_indent(first).subsequent_indent(below);
    // A time or an id that is cut at its hyphens would be read wrongly.
    let options = options.word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

/// What the gates say, the loudest first, and what the wave waits for. A line has the verdict that colours it.
pub(super) fn gates(model: &Model, width: usize) -> Vec<(Option<Verdict>, String)> {
    let mut lines = Vec::new();
    let assessment = &model.detail.assessment;
    for waiting in &assessment.waiting {
        let waiting = output::plain(waiting);
        lines.extend(wrap(&waiting, " waits: ", "        ", width).into_iter().map(|line| (None, line)));
    }
    let order = [Verdict::Breach, Verdict::Waiting, Verdict::Pass, Verdict::Unbounded];
    for verdict in order {
        for report in assessment.gates.iter().filter(|report| report.verdict == verdict) {
            lines.extend(gate(report, width).into_iter().map(|line| (Some(verdict), line)));
        }
    }
    if lines.is_empty() {
        lines.push((None, " no gate has anything to judge now".to_owned()));
    }
    lines
}

fn gate(report: &GateReport, width: usize) -> Vec<String> {
    let mark = match report.verdict {
        Verdict::Pass => "ok",
        Verdict::Waiting => "..",
        Verdict::Breach => "!!",
        Verdict::Unbounded => "--",
    };
    let text = format!("{}: {}", report.gate, output::plain(&report.sentence));
    wrap(&text, &format!(" {mark} "), "    ", width)
}

/// Events, newest last: as many lines of the newest as `wanted`, or a few more.
pub(super) fn events(model: &Model, width: usize, wanted: usize) -> Vec<String> {
    let mut newest_first: Vec<Vec<String>> = Vec::new();
    let mut count = 0_usize;
    for told in model.events.iter().rev() {
        let time = output::time_of_day(told.at);
        let mut lines = wrap(&output::plain(&told.sentence), &format!(" {time}  "), "           ", width);
        for because in &told.because {
            lines.extend(wrap(&output::plain(because), "           - ", "             ", width));
        }
        count = count.saturating_add(lines.len());
        newest_first.push(lines);
        if count >= wanted {
            break;
        }
    }
    newest_first.into_iter().rev().flatten().collect()
}
