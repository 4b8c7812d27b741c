//! From what happened to a picture of it: every look of the experiment, what gates saw when they decided, and where waves
//! began.

use super::{Interval, Mark, Picture, Point, Series, Unit};
use crate::rollout::events::{Ending, Event};
use crate::rollout::explain::look;
use crate::rollout::gates::{GateReport, Verdict};
use crate::rollout::trial::{Look, Metric, MetricLook};
use crate::rollout::view::RolloutSummary;
use fieldpost_shared::time::Timestamp;
use std::collections::BTreeMap;

/// Gates with a metric: name of the gate, of its series, what is measured, and how it is written.
const GATES: [(&str, &str, &str, Unit); 3] = [
    ("error-rate", "error-rate", "requests that the model failed, held against the hard limit", Unit::Share),
    ("latency", "p95-latency", "95th percentile of an inference, held against the hard limit", Unit::Milliseconds),
    ("output-drift", "output-drift", "PSI of the outputs, held against the hard limit", Unit::Number),
];

/// Whether an event has a place in a picture.
#[must_use]
pub const fn drawn(event: &Event) -> bool {
    matches!(
        event,
        Event::WaveStarted { .. }
            | Event::Looked { .. }
            | Event::WavePassed { .. }
            | Event::Paused { .. }
            | Event::RollbackStarted { .. }
            | Event::AbortedKeeping { .. }
            | Event::Completed { .. }
    )
}

/// The picture of a rollout, of one metric or of all.
#[must_use]
pub fn picture(
    summary: &RolloutSummary,
    headline: &str,
    events: &[(Timestamp, Event)],
    metric: Option<&str>,
) -> Picture {
    let mut series = series(events.iter().map(|(at, event)| (*at, event)));
    series.retain(|series| metric.is_none_or(|metric| series.metric == metric));
    Picture {
        title: format!("{} for {} ({})", summary.release, summary.selector, summary.id),
        subtitle: headline.to_owned(),
        began: summary.created,
        series,
        marks: events.iter().filter_map(|(at, event)| mark(*at, event)).collect(),
    }
}

/// What every metric showed whenever it was decided by, oldest first: first what the experiment compares, then limits.
#[must_use]
pub fn series<'a>(events: impl Iterator<Item = (Timestamp, &'a Event)>) -> Vec<Series> {
    let (mut compared, mut gates): (BTreeMap<Metric, Series>, BTreeMap<usize, Series>) = Default::default();
    for (at, event) in events {
        let evidence = match event {
            Event::Looked { look, .. } => {
                for found in &look.metrics {
                    let unit = if found.metric == Metric::Drift { Unit::Number } else { Unit::Share };
                    let empty = || empty(found.metric.name(), found.metric.what(), unit);
                    compared.entry(found.metric).or_insert_with(empty).points.push(seen(at, look, found));
                }
                continue;
            }
            Event::WavePassed { evidence, .. }
            | Event::Paused { evidence, .. }
            | Event::RollbackStarted { evidence, .. } => evidence,
            _ => continue,
        };
        let goes_back = !matches!(event, Event::WavePassed { .. });
        for report in evidence {
            let Some((place, gate)) = GATES.iter().enumerate().find(|(_, gate)| gate.0 == report.gate) else {
                continue;
            };
            let Some(point) = held(at, report, goes_back) else { continue };
            let (_, metric, what, unit) = *gate;
            let series = gates.entry(place).or_insert_with(|| empty(metric, what, unit));
            series.limit = report.numbers.get("bound").copied().or(series.limit);
            series.points.push(point);
        }
    }
    compared.into_values().chain(gates.into_values()).collect()
}

fn empty(metric: &str, what: &str, unit: Unit) -> Series {
    Series { metric: metric.to_owned(), what: what.to_owned(), unit, limit: None, points: Vec::new() }
}

/// A metric at a look of the experiment.
fn seen(at: Timestamp, look: &Look, found: &MetricLook) -> Point {
    Point {
        at,
        treated: found.treated.mean,
        controls: (found.controls.scored > 0).then_some(found.controls.mean),
        difference: found.difference.map(|d| Interval { low: d.low, value: d.value, high: d.high }),
        test: Some((found.harm.rank, found.harm.budget)),
        decides: found.harm.decides,
        told: look::metric(look, found),
    }
}

fn held(at: Timestamp, report: &GateReport, goes_back: bool) -> Option<Point> {
    let number = |name: &str| report.numbers.get(name).copied();
    Some(Point {
        at,
        treated: number("value")?,
        controls: number("controls_value"),
        difference: None,
        test: None,
        decides: goes_back && report.verdict == Verdict::Breach,
        told: report.sentence.clone(),
    })
}

fn mark(at: Timestamp, event: &Event) -> Option<Mark> {
    let (label, decision) = match event {
        Event::WaveStarted { wave } => (format!("wave {}", wave + 1), false),
        Event::Paused { .. } => ("paused".to_owned(), true),
        Event::RollbackStarted { ending: Ending::RolledBack, .. } => ("rolled back".to_owned(), true),
        Event::RollbackStarted { ending: Ending::Aborted, .. } | Event::AbortedKeeping { .. } => {
            ("aborted".to_owned(), true)
        }
        Event::Completed { .. } => ("complete".to_owned(), true),
        _ => return None,
    };
    Some(Mark { at, label, decision })
}
