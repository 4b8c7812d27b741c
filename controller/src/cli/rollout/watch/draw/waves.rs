//! The waves as bars: how many of each wave's devices stand how.

use super::super::model::Model;
use super::paint::{Paint, sign};
use crate::rollout::view::{Standing, Standings};
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// A wave of the picture.
struct Bar<'a> {
    name: String,
    current: bool,
    standings: &'a Standings,
}

fn bars(model: &Model) -> Vec<Bar<'_>> {
    let summary = &model.detail.summary;
    let named = |(index, standings)| {
        let held_out = index >= summary.waves.len();
        let name = if held_out { "held out".to_owned() } else { format!("wave {}", index + 1) };
        Bar { name, current: summary.wave == Some(index + 1), standings }
    };
    let bars = model.detail.standings.iter().enumerate().map(named);
    bars.filter(|bar| !bar.standings.is_empty() || bar.name != "held out").collect()
}

/// Lines for at most so many waves, the legend included.
pub(super) fn rows(model: &Model, most: u16) -> u16 {
    u16::try_from(bars(model).len()).unwrap_or(u16::MAX).min(most) + 1
}

/// A line for each wave around the current one, and the legend.
pub(super) fn lines(model: &Model, paint: &Paint, area: Rect) -> Vec<Line<'static>> {
    let bars = bars(model);
    let room = usize::from(area.height.saturating_sub(1));
    let current = bars.iter().position(|bar| bar.current).unwrap_or(0);
    // The wave before the current one stays in sight, and the last ones fill the end.
    let from = current.saturating_sub(1).min(bars.len().saturating_sub(room));
    let mut lines: Vec<Line<'static>> =
        bars.iter().skip(from).take(room).map(|bar| line(bar, paint, usize::from(area.width))).collect();
    lines.push(legend(model, paint));
    lines
}

fn line(bar: &Bar<'_>, paint: &Paint, width: usize) -> Line<'static> {
    let all: usize = bar.standings.values().sum();
    let live = bar.standings.get(&Standing::Live).copied().unwrap_or(0);
    let mark = if bar.current { '>' } else { ' ' };
    let counts = format!(" {live:>5} of {all:<5}");
    let room = width.saturating_sub(11 + counts.len());
    let name = Span::styled(format!("{mark}{:<9}", bar.name), if bar.current { paint.strong() } else { paint.faint() });
    let mut spans = vec![name, Span::raw(" ")];
    for (standing, cells) in cells(bar.standings, room) {
        spans.push(Span::styled(sign(standing).to_string().repeat(cells), paint.standing(standing)));
    }
    spans.push(Span::raw(counts));
    Line::from(spans)
}

/// Cells for each standing: in proportion, at least one for whoever is there, together as many as there is room.
fn cells(standings: &Standings, room: usize) -> Vec<(Standing, usize)> {
    let all: usize = standings.values().sum();
    let there: Vec<(Standing, usize)> =
        Standing::ALL.iter().filter_map(|s| Some((*s, *standings.get(s)?))).filter(|(_, count)| *count > 0).collect();
    if all == 0 || room < there.len() {
        return Vec::new();
    }
    // A bar is never longer than its wave has devices times four: two devices are no crowd.
    let room = room.min(all.saturating_mul(4)).max(there.len());
    let spare = room - there.len();
    let share = |count: usize| (count.saturating_mul(spare) / all, count.saturating_mul(spare) % all);
    let mut cells: Vec<(Standing, usize, usize)> =
        there.iter().map(|(standing, count)| (*standing, 1 + share(*count).0, share(*count).1)).collect();
    let missing = room - cells.iter().map(|(_, cells, _)| cells).sum::<usize>();
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(cells.get(*index).map_or(0, |cell| cell.2)));
    for index in order.into_iter().take(missing) {
        if let Some(cell) = cells.get_mut(index) {
            cell.1 += 1;
        }
    }
    cells.into_iter().map(|(standing, cells, _)| (standing, cells)).collect()
}

fn legend(model: &Model, paint: &Paint) -> Line<'static> {
    let mut spans = vec![Span::raw("  ")];
    for standing in Standing::ALL {
        let count: usize = model.detail.standings.iter().filter_map(|wave| wave.get(&standing)).sum();
        if count > 0 {
            spans.push(Span::styled(sign(standing).to_string(), paint.standing(standing)));
            spans.push(Span::raw(format!(" {count} {standing}   ")));
        }
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(counts: &[(Standing, usize)], room: usize, expected: &[usize]) {
        let standings: Standings = counts.iter().copied().collect();
        let cells = cells(&standings, room);
        assert_eq!(cells.iter().map(|(_, cells)| *cells).collect::<Vec<_>>(), expected);
        assert!(cells.iter().map(|(_, cells)| cells).sum::<usize>() <= room);
    }

    #[test]
    fn one_failed_device_of_thousands_is_seen() {
        check(&[(Standing::Live, 9_999), (Standing::Failed, 1)], 40, &[39, 1]);
    }

    #[test]
    fn bars_are_in_proportion_and_fill_their_room() {
        check(&[(Standing::Live, 50), (Standing::Waiting, 50)], 40, &[20, 20]);
        check(&[(Standing::Live, 1), (Standing::Changing, 1), (Standing::Waiting, 1)], 12, &[4, 4, 4]);
    }

    #[test]
    fn a_small_wave_has_a_short_bar() {
        check(&[(Standing::Live, 1)], 40, &[4]);
    }

    #[test]
    fn without_room_there_is_no_bar() {
        check(&[(Standing::Live, 1), (Standing::Failed, 1)], 1, &[]);
        check(&[], 10, &[]);
    }
}
