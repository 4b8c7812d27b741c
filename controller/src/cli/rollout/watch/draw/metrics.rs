//! What the looks showed: both arms of each metric as little charts, with the newest look in words.

use super::super::model::Model;
use super::paint::Paint;
use super::panels::wrap;
use crate::rollout::plot::{Point, Series};
use ratatui::text::{Line, Span};

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Before the little charts.
const NAME: usize = 11;

/// Five lines or so for each metric.
pub(super) fn lines(model: &Model, paint: &Paint, width: usize) -> Vec<Line<'static>> {
    if model.series.is_empty() {
        return vec![Line::from(" nothing has been decided by a metric yet; the gates say what they see")];
    }
    model.series.iter().flat_map(|series| metric(series, paint, width)).collect()
}

fn metric(series: &Series, paint: &Paint, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled(format!(" {}: {}", series.metric, series.what), paint.strong())];
    let room = width.saturating_sub(NAME + 14).max(4);
    let newest = series.points.len().saturating_sub(room);
    let points: Vec<&Point> = series.points.iter().skip(newest).collect();
    let values = points.iter().flat_map(|point| [Some(point.treated), point.controls]).flatten();
    let high = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    for (name, treated) in [("with", true), ("without", false)] {
        let value = |point: &&Point| if treated { Some(point.treated) } else { point.controls };
        let chart: String = points.iter().map(|point| level(value(point).unwrap_or(f64::NAN), high)).collect();
        let last = points.last().and_then(value).map(|last| series.unit.text(last, high / 100.0));
        lines.push(Line::from(vec![
            Span::raw(format!("   {name:<8}")),
            Span::styled(format!("{chart} "), paint.arm(treated)),
            Span::raw(last.unwrap_or_else(|| "nobody".to_owned())),
        ]));
    }
    if let Some(point) = points.last() {
        let style = if point.decides { paint.alarm() } else { paint.faint() };
        let text = newest_look(series, point, high);
        lines.extend(wrap(&text, "   ", "   ", width).into_iter().map(|line| Line::styled(line, style)));
    }
    lines
}

/// Nothing is the lowest level, the greatest of both arms the highest.
fn level(value: f64, high: f64) -> char {
    if !value.is_finite() {
        return ' ';
    }
    let share = if high > 0.0 { (value / high).clamp(0.0, 1.0) } else { 0.0 };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
    let place = (share * 7.0).round() as usize;
    LEVELS.get(place).copied().unwrap_or(' ')
}

fn newest_look(series: &Series, point: &Point, high: f64) -> String {
    let value = |value| series.unit.text(value, high / 100.0);
    let difference = point.difference.map_or_else(String::new, |d| {
        format!("difference {}, confidence sequence {} to {}; ", value(d.value), value(d.low), value(d.high))
    });
    let limit = series.limit.map_or_else(String::new, |limit| format!("limit {}; ", value(limit)));
    let test = point.test.map_or_else(String::new, |(rank, budget)| format!("rank {rank}, up to {budget} decides: "));
    let verdict = if point.decides { "worse" } else { "not found worse" };
    format!("{difference}{limit}{test}{verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_reach_from_nothing_to_the_greatest() {
        assert_eq!([level(0.0, 2.0), level(1.0, 2.0), level(2.0, 2.0)], ['▁', '▅', '█']);
        assert_eq!([level(0.0, 0.0), level(f64::NAN, 1.0), level(9.0, 1.0)], ['▁', ' ', '█']);
    }
}
