//! The charts: arms above, their difference below, a row of ranks between.

use super::axis::{Scale, ticks, times};
use super::svg::{Anchor, Svg};
use super::{Interval, Mark, Picture, Point, Series};
use fieldpost_shared::time::Timestamp;
use std::time::Duration;

const WIDTH: f64 = 900.0;
/// Left and right of the charts: their axis, and room for the last label.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 36.0;
/// Above the first chart: title, subtitle, legend.
const HEAD: f64 = 84.0;
const ARMS: f64 = 190.0;
const RANKS: f64 = 46.0;
const DIFFERENCE: f64 = 120.0;
/// Above a chart: its name and the names of the marks. Below: the times.
const ABOVE: f64 = 52.0;
const BELOW: f64 = 58.0;
/// Labels closer than this would run into each other; whoever points at the dot still reads them.
const APART: f64 = 54.0;
/// Longest text of a line of the head, in characters.
const LONGEST: usize = 120;

pub(super) fn draw(picture: &Picture) -> String {
    let charts: f64 = picture.series.iter().map(height).sum();
    let mut svg = Svg::new(WIDTH, HEAD + charts, &format!("{}: {}", picture.title, picture.subtitle));
    svg.text((LEFT, 28.0), "ink title", Anchor::Start, &cut(&picture.title));
    svg.text((LEFT, 48.0), "soft", Anchor::Start, &cut(&picture.subtitle));
    legend(&mut svg);
    let mut top = HEAD;
    for series in &picture.series {
        Chart::new(picture, series, top).draw(&mut svg);
        top += height(series);
    }
    svg.end()
}

fn compares(series: &Series) -> bool {
    series.points.iter().any(|point| point.test.is_some() || point.difference.is_some())
}

fn height(series: &Series) -> f64 {
    let below = if compares(series) { RANKS + DIFFERENCE } else { 0.0 };
    ABOVE + ARMS + below + BELOW
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

fn legend(svg: &mut Svg) {
    let y = 70.0;
    let mut x = LEFT;
    let mut entry = |width: f64, label: &str, draw: &dyn Fn(&mut Svg, f64)| {
        draw(svg, x);
        svg.text((x + 26.0, y + 4.0), "ink", Anchor::Start, label);
        x += width;
    };
    entry(140.0, "with the release", &|svg, x| {
        svg.line((x, y), (x + 20.0, y), "treated");
        svg.dot((x + 10.0, y), 3.0, "treated-dot", "");
    });
    entry(100.0, "without it", &|svg, x| {
        svg.line((x, y), (x + 20.0, y), "controls");
        svg.dot((x + 10.0, y), 3.0, "controls-dot", "");
    });
    entry(280.0, "difference, confidence sequence", &|svg, x| {
        svg.polygon(&[(x, y - 6.0), (x + 20.0, y - 6.0), (x + 20.0, y + 6.0), (x, y + 6.0)], "band");
        svg.line((x, y), (x + 20.0, y), "middle");
    });
    entry(110.0, "what decided", &|svg, x| svg.dot((x + 10.0, y), 6.0, "ring", ""));
}

/// One metric.
struct Chart<'a> {
    picture: &'a Picture,
    series: &'a Series,
    top: f64,
    span: Duration,
    across: Scale,
}

impl<'a> Chart<'a> {
    fn new(picture: &'a Picture, series: &'a Series, top: f64) -> Self {
        let moments = picture.series.iter().flat_map(|series| &series.points).map(|point| point.at);
        let last = moments.chain(picture.marks.iter().map(|mark| mark.at)).max().unwrap_or(picture.began);
        let span = last.since(picture.began).max(Duration::from_secs(1));
        // A little room behind the last moment.
        let across = Scale::new((0.0, span.as_secs_f64() * 1.03), (LEFT, WIDTH - RIGHT));
        Self { picture, series, top, span, across }
    }

    fn x(&self, at: Timestamp) -> f64 {
        self.across.at(at.since(self.picture.began).as_secs_f64())
    }

    fn draw(&self, svg: &mut Svg) {
        let arms = (self.top + ABOVE, self.top + ABOVE + ARMS);
        // What is held against a limit alone has no ranks and no difference below it.
        let below = if self.compares() { (RANKS, RANKS + DIFFERENCE) } else { (0.0, 0.0) };
        let difference = (arms.1 + below.0, arms.1 + below.1);
        let name = format!("{}: {}", self.series.metric, self.series.what);
        svg.text((LEFT, self.top + 18.0), "ink", Anchor::Start, &cut(&name));
        self.times(svg, arms, difference);
        let arms_of = |point: &Point| [Some(point.treated), point.controls];
        let values = self.series.points.iter().flat_map(arms_of).chain([self.series.limit]).flatten();
        // Shares and distances begin at nothing: a chart that did not would make little look like much.
        let high = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let shares = self.values(svg, 0.0, if high > 0.0 { high } else { 0.01 }, arms, 4.0);
        let known = self.known();
        let ends = known.iter().fold((0.0, 0.0), |(low, high), (_, d)| (f64::min(low, d.low), f64::max(high, d.high)));
        let differences = (!known.is_empty()).then(|| self.values(svg, ends.0, ends.1, difference, 3.0));
        self.marks(svg, arms.0, difference.1);
        self.arms(svg, shares);
        self.ranks(svg, arms.1 + 22.0);
        match differences {
            Some(scale) => self.difference(svg, scale),
            None if !self.compares() => {}
            None => {
                let text = "no confidence sequence: it needs 30 devices with the release and 30 without";
                let middle = ((LEFT + WIDTH - RIGHT) / 2.0, (difference.0 + difference.1) / 2.0);
                svg.text(middle, "soft halo", Anchor::Middle, text);
            }
        }
    }

    /// The axis that both charts share.
    fn times(&self, svg: &mut Svg, arms: (f64, f64), difference: (f64, f64)) {
        for (since, label) in times(self.span) {
            let x = self.across.at(since.as_secs_f64());
            svg.line((x, arms.0), (x, arms.1), "grid");
            svg.line((x, difference.0), (x, difference.1), "grid");
            svg.text((x, difference.1 + 20.0), "soft small", Anchor::Middle, &label);
        }
        for foot in [arms.1, difference.1] {
            svg.line((LEFT, foot), (WIDTH - RIGHT, foot), "axis");
        }
        let began = self.picture.began.to_string();
        let began = began.split_once('.').map_or(began.as_str(), |(began, _)| began).replace('T', " ");
        let label = format!("time since the rollout began, {began} UTC");
        svg.text(((LEFT + WIDTH - RIGHT) / 2.0, difference.1 + 38.0), "soft", Anchor::Middle, &label);
    }

    /// Lines across both charts; the decision is named before a wave that began at the same place.
    fn marks(&self, svg: &mut Svg, top: f64, foot: f64) {
        let mut taken: Vec<f64> = Vec::new();
        let mut marks: Vec<&Mark> = self.picture.marks.iter().collect();
        marks.sort_by_key(|mark| (!mark.decision, mark.at));
        for mark in marks {
            let x = self.x(mark.at);
            let (line, ink) =
                if mark.decision { ("decision", "decision-ink small") } else { ("wave", "wave-ink small") };
            svg.line((x, top), (x, foot), line);
            if taken.iter().all(|other| (other - x).abs() > APART) {
                let anchor = if x > WIDTH - RIGHT - APART { Anchor::End } else { Anchor::Middle };
                svg.text((x, top - 8.0), ink, anchor, &mark.label);
                taken.push(x);
            }
        }
    }

    /// Lines across, with their values at the left.
    fn values(&self, svg: &mut Svg, low: f64, high: f64, page: (f64, f64), about: f64) -> Scale {
        let (ticks, step) = ticks(low, high, about);
        let ends = (ticks.first().copied().unwrap_or(low), ticks.last().copied().unwrap_or(high));
        let scale = Scale::new(ends, (page.1, page.0));
        for tick in ticks {
            let y = scale.at(tick);
            svg.line((LEFT, y), (WIDTH - RIGHT, y), "grid");
            svg.text((LEFT - 8.0, y + 4.0), "soft small", Anchor::End, &self.series.unit.text(tick, step));
        }
        scale
    }

    /// Whether the arms are compared, rather than one of them held against a limit.
    fn compares(&self) -> bool {
        compares(self.series)
    }

    /// Which wave a moment belongs to: scores begin anew with each, so no line leads from one to the next.
    fn wave(&self, at: Timestamp) -> usize {
        self.picture.marks.iter().filter(|mark| !mark.decision && mark.at <= at).count()
    }

    fn known(&self) -> Vec<(&Point, Interval)> {
        let all = self.series.points.iter().filter_map(|point| Some((point, point.difference?)));
        all.filter(|(_, d)| d.low.is_finite() && d.value.is_finite() && d.high.is_finite()).collect()
    }

    fn arms(&self, svg: &mut Svg, scale: Scale) {
        if let Some(limit) = self.series.limit.filter(|limit| limit.is_finite()) {
            let y = scale.at(limit);
            svg.line((LEFT, y), (WIDTH - RIGHT, y), "limit");
            svg.text((WIDTH - RIGHT, y - 5.0), "limit-ink small halo", Anchor::End, "limit");
        }
        let arm = |treated: bool| {
            move |point: &Point| if treated { point.treated } else { point.controls.unwrap_or(f64::NAN) }
        };
        let arms = [(arm(false), "controls", "controls-dot"), (arm(true), "treated", "treated-dot")];
        for (value, line, dot) in arms {
            let at = |point: &Point| (self.x(point.at), scale.at(value(point)));
            let points: Vec<&Point> = self.series.points.iter().filter(|point| value(point).is_finite()).collect();
            for wave in points.chunk_by(|a, b| self.wave(a.at) == self.wave(b.at)) {
                svg.polyline(&wave.iter().map(|point| at(point)).collect::<Vec<_>>(), line);
            }
            for point in points {
                svg.dot(at(point), 3.5, dot, &point.told);
            }
        }
        for point in self.series.points.iter().filter(|point| point.decides && point.treated.is_finite()) {
            svg.dot((self.x(point.at), scale.at(point.treated)), 8.0, "ring", &point.told);
        }
    }

    fn ranks(&self, svg: &mut Svg, y: f64) {
        if !self.compares() {
            return;
        }
        svg.text((LEFT - 8.0, y), "soft small", Anchor::End, "rank / needs");
        let mut last = f64::NEG_INFINITY;
        let deciding = self.series.points.iter().find(|point| point.decides).map(|point| self.x(point.at));
        for point in &self.series.points {
            let (x, Some((rank, budget))) = (self.x(point.at), point.test) else { continue };
            let crowds = deciding.is_some_and(|deciding| !point.decides && (deciding - x).abs() < APART);
            if x - last < APART && !point.decides || crowds {
                continue;
            }
            last = x;
            let ink = if point.decides { "decision-ink small halo" } else { "ink small halo" };
            svg.text((x, y), ink, Anchor::Middle, &format!("{rank} / {budget}"));
        }
    }

    fn difference(&self, svg: &mut Svg, scale: Scale) {
        svg.line((LEFT, scale.at(0.0)), (WIDTH - RIGHT, scale.at(0.0)), "zero");
        let known = self.known();
        for wave in known.chunk_by(|(a, _), (b, _)| self.wave(a.at) == self.wave(b.at)) {
            let line = |value: fn(&Interval) -> f64| {
                wave.iter().map(move |(point, d)| (self.x(point.at), scale.at(value(d)))).collect::<Vec<_>>()
            };
            let (mut band, lower) = (line(|d| d.high), line(|d| d.low));
            band.extend(lower.into_iter().rev());
            svg.polygon(&band, "band");
            svg.polyline(&line(|d| d.value), "middle");
        }
        for (point, d) in known {
            let text = |value| self.series.unit.text(value, 0.0001);
            let told = format!("difference {} ({} to {})", text(d.value), text(d.low), text(d.high));
            let x = self.x(point.at);
            // A single look has no band: its ends are drawn.
            svg.line((x, scale.at(d.low)), (x, scale.at(d.high)), "middle");
            svg.dot((x, scale.at(d.value)), 3.0, "middle-dot", &told);
        }
    }
}
