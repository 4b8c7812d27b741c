//! The picture. On a narrow terminal one panel at a time, on a large one all of them.

mod head;
mod metrics;
mod paint;
mod panels;
mod waves;

use super::model::{Mode, Model, Panel};
use paint::Paint;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

/// The smallest terminal that shows something useful.
const LEAST: (u16, u16) = (50, 12);
/// From this size on all panels are shown at once.
const LARGE: (u16, u16) = (110, 30);

/// Where everything is.
#[derive(Debug, Clone)]
pub(super) struct Areas {
    head: Rect,
    waves: Rect,
    tabs: Option<Rect>,
    panels: [Rect; Panel::ALL.len()],
    foot: Rect,
}

impl Areas {
    fn panel(&self, panel: Panel) -> Rect {
        self.panels.get(panel.index()).copied().unwrap_or_default()
    }

    /// The inside of a panel: a title above it, and borders where all are shown.
    fn inside(&self, panel: Panel) -> Rect {
        let area = self.panel(panel);
        if self.tabs.is_some() { area } else { block().inner(area) }
    }

    /// Lines that a panel shows at once; the devices have a header above theirs.
    pub(super) fn height(&self, panel: Panel) -> usize {
        let height = usize::from(self.inside(panel).height);
        if panel == Panel::Devices { height.saturating_sub(1) } else { height }
    }
}

fn block() -> Block<'static> {
    Block::new().borders(Borders::ALL)
}

/// Where everything is on the terminal that the model knows.
pub(super) fn areas(model: &Model) -> Areas {
    let (width, height) = model.size;
    let all = Rect::new(0, 0, width, height);
    let large = width >= LARGE.0 && height >= LARGE.1;
    let rows = waves::rows(model, if large { 8 } else { 4 });
    let [head, waves, tabs, body, foot] = Layout::vertical([
        Constraint::Length(head::rows(model)),
        Constraint::Length(rows),
        Constraint::Length(u16::from(!large)),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(all);
    if !large {
        return Areas { head, waves, tabs: Some(tabs), panels: [body; Panel::ALL.len()], foot };
    }
    let [left, right] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(body);
    let halves = || Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]);
    let ([devices, metrics], [gates, events]) = (halves().areas(left), halves().areas(right));
    Areas { head, waves, tabs: None, panels: [devices, gates, metrics, events], foot }
}

/// Lines that a panel has in all.
pub(super) fn length(model: &Model, panel: Panel, areas: &Areas) -> usize {
    let width = usize::from(areas.inside(panel).width);
    match panel {
        Panel::Devices => model.shown().len(),
        Panel::Gates => panels::gates(model, width).len(),
        Panel::Metrics => metrics::lines(model, &Paint::new(false), width).len(),
        Panel::Events => panels::events(model, width, usize::MAX).len(),
    }
}

/// Draws the model.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let paint = Paint::new(model.color);
    let all = frame.area();
    if all.width < LEAST.0 || all.height < LEAST.1 {
        let text = format!("{}\nneeds {} x {}", model.detail.summary.state, LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text), all);
        return;
    }
    let areas = areas(model);
    frame.render_widget(Paragraph::new(head::lines(model, &paint, areas.head.width)), areas.head);
    frame.render_widget(Paragraph::new(waves::lines(model, &paint, areas.waves)), areas.waves);
    match areas.tabs {
        Some(tabs) => {
            frame.render_widget(Paragraph::new(head::tabs(model, &paint)), tabs);
            panels::draw(frame, model, &paint, model.panel, areas.inside(model.panel));
        }
        None => {
            for panel in Panel::ALL {
                let style = if panel == model.panel { paint.focus() } else { paint.faint() };
                let title = format!(" {} ", panels::title(model, panel));
                frame.render_widget(block().border_style(style).title(title), areas.panel(panel));
                panels::draw(frame, model, &paint, panel, areas.inside(panel));
            }
        }
    }
    frame.render_widget(Paragraph::new(head::foot(model, &paint)), areas.foot);
    if model.mode == Mode::Help {
        help(frame, all);
    }
}

const HELP: [&str; 14] = [
    "tab, left, right   next or previous panel",
    "up, down, j, k     scroll a line",
    "page up, page down scroll a page",
    "home, end          first or last",
    "/                  search devices: name, state, failure",
    "f                  devices of one state; esc shows all",
    "",
    "p                  pause: nothing more changes",
    "r                  resume",
    "a                  approve the wave that waits",
    "b                  roll back every touched device",
    "                   each asks whether it is meant",
    "",
    "q                  leave; the rollout goes on",
];

fn help(frame: &mut Frame<'_>, all: Rect) {
    let wide = HELP.iter().map(|line| line.len()).max().unwrap_or(0) + 4;
    let (width, height) = (u16::try_from(wide).unwrap_or(60).min(all.width), 16.min(all.height));
    let area = Rect::new((all.width - width) / 2, (all.height - height) / 2, width, height);
    frame.render_widget(Clear, area);
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Paragraph::new(lines).block(block().title(" Keys ")), area);
}

#[cfg(test)]
mod tests;
