//! What a device serves: drawn window by window, and kept as running sums by the time at which each window arrived.

use super::effect::Effect;
use super::random::{self, Stream, scatter};
use super::spans::Spans;
use fieldpost_shared::stats::WindowStats;

/// Classes of the simulated classifier.
pub(super) const CLASSES: usize = 10;
/// Cells of latency: each is [`STEP`] times as slow as the one before.
const CELLS: usize = 20;
const STEP: f64 = 1.25;
/// How many times as slow as the first cell each is.
const STEPS: [f64; CELLS] = steps();

#[allow(clippy::indexing_slicing, reason = "worked out by the compiler, which checks the index")]
const fn steps() -> [f64; CELLS] {
    let mut steps = [1.0; CELLS];
    let (mut cell, mut step) = (0, 1.0);
    while cell < CELLS {
        steps[cell] = step;
        step *= STEP;
        cell += 1;
    }
    steps
}

/// The cell of the device's own median.
const MIDDLE: f64 = 6.5;
/// Spread of a device's latencies: standard deviation of the logarithm.
const SIGMA: f64 = 0.35;
/// The class that a drifting release answers.
const DRIFT_TO: usize = 3;
/// A bad hour makes a device slower by so many cells.
const BURST_CELLS: usize = 2;

/// Sums over requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests.
    pub requests: u32,
    /// Those that the model failed.
    pub errors: u32,
    labelled: u32,
    correct: u32,
    windows: u32,
    latency: [u32; CELLS],
    classes: [u32; CLASSES],
}

impl Tally {
    fn zip(&self, other: &Self, each: impl Fn(u32, u32) -> u32) -> Self {
        let mut out = Self {
            requests: each(self.requests, other.requests),
            errors: each(self.errors, other.errors),
            labelled: each(self.labelled, other.labelled),
            correct: each(self.correct, other.correct),
            windows: each(self.windows, other.windows),
            ..*self
        };
        out.latency.iter_mut().zip(other.latency).for_each(|(mine, theirs)| *mine = each(*mine, theirs));
        out.classes.iter_mut().zip(other.classes).for_each(|(mine, theirs)| *mine = each(*mine, theirs));
        out
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        self.zip(other, u32::saturating_add)
    }

    fn minus(&self, other: &Self) -> Self {
        self.zip(other, u32::saturating_sub)
    }
}

/// What holds for every device of a fleet.
#[derive(Debug)]
pub(super) struct Climate {
    /// How often a window closes, ms.
    pub(super) window: u64,
    /// Outages upstream, of the whole fleet and by site.
    pub(super) outages: Vec<Spans>,
    /// Share of requests that fail in one.
    pub(super) outage_errors: f64,
    /// What a bad hour multiplies errors by.
    pub(super) burst_factor: f64,
    /// Share of requests whose answer comes.
    pub(super) labelled: f64,
    /// Share of windows that are late, and by how many ms.
    pub(super) late: (f64, f64),
    /// Cumulative shares of latency's cells.
    pub(super) latency: [f64; CELLS],
    /// The same in a bad hour.
    pub(super) burst_latency: [f64; CELLS],
}

impl Climate {
    pub(super) fn new(window: u64) -> Self {
        Self {
            window,
            outages: Vec::new(),
            outage_errors: 0.0,
            burst_factor: 1.0,
            labelled: 0.0,
            late: (0.0, 0.0),
            latency: latencies(0),
            burst_latency: latencies(BURST_CELLS),
        }
    }
}

/// Cumulative probabilities of the cells, for a device that is slower by so many.
fn latencies(slower: usize) -> [f64; CELLS] {
    let mut cumulative = [1.0; CELLS];
    let edges = (1..CELLS).map(|cell| (cell as f64 - MIDDLE - slower as f64) * STEP.ln() / SIGMA);
    cumulative.iter_mut().zip(edges).for_each(|(p, z)| *p = below(z));
    cumulative
}

/// Standard normal distribution function, by the logistic approximation of Bowling et al. 2009: within 2e-4, which no
/// simulated latency needs better.
fn below(z: f64) -> f64 {
    1.0 / (1.0 + (-(0.07056 * z.powi(3) + 1.5976 * z)).exp())
}

/// What a device is like.
#[derive(Debug)]
pub(super) struct Nature {
    /// Requests in an hour.
    pub(super) requests: f64,
    /// Share of requests that the model fails.
    pub(super) error_rate: f64,
    /// Median latency, microseconds.
    pub(super) latency_us: f64,
    /// Share of wrong answers.
    pub(super) wrong: f64,
    /// Cumulative shares of the classes.
    pub(super) classes: [f64; CLASSES],
    /// Bad hours.
    pub(super) bursts: Spans,
    /// When it is away from the network.
    pub(super) away: Spans,
    /// Index among the climate's outages of its site's.
    pub(super) site: usize,
    /// When its windows close, within [`Climate::window`].
    pub(super) phase: u64,
    /// By how much its clock is wrong, ms.
    pub(super) clock_error: i64,
}

/// What a device has served.
#[derive(Debug)]
pub(super) struct Traffic {
    stream: Stream,
    /// Which release served from when on; none is no model at all. Times grow.
    served: Vec<(u64, Option<usize>)>,
    /// Up to when everything is drawn.
    drawn: u64,
    /// On their way: when they arrive, of which release.
    under_way: Vec<(u64, usize, Tally)>,
    /// Running sums by arrival, for each release.
    arrived: Vec<Vec<(u64, Tally)>>,
    /// Requests served, arrived or not, for each release.
    total: Vec<u64>,
}

impl Traffic {
    pub(super) fn new(stream: Stream, releases: usize) -> Self {
        Self {
            stream,
            served: Vec::new(),
            drawn: 0,
            under_way: Vec::new(),
            arrived: vec![Vec::new(); releases],
            total: vec![0; releases],
        }
    }

    /// From now on another release serves, or none.
    pub(super) fn switch(&mut self, at: u64, release: Option<usize>) {
        if self.served.is_empty() {
            self.drawn = at;
        }
        self.served.push((at, release));
    }

    /// Requests served with a release so far as they are drawn.
    pub(super) fn total(&self, release: usize) -> u64 {
        self.total.get(release).copied().unwrap_or(0)
    }

    /// What arrived from `since` on, and before `until`.
    pub(super) fn between(&self, release: usize, since: u64, until: u64) -> Option<Tally> {
        let sums = self.arrived.get(release)?;
        let before = |moment: u64| {
            let next = sums.partition_point(|(at, _)| *at < moment);
            next.checked_sub(1).and_then(|last| sums.get(last)).map(|(_, sum)| *sum)
        };
        let all = before(until)?;
        let found = before(since).map_or(all, |earlier| all.minus(&earlier));
        (found.windows > 0).then_some(found)
    }

    /// Draws what was served until now, and takes in what has arrived.
    pub(super) fn draw(&mut self, nature: &Nature, climate: &Climate, effects: &[Effect], now: u64) {
        let mut turn = self.served.partition_point(|(at, _)| *at <= self.drawn).saturating_sub(1);
        while self.drawn < now {
            let Some((_, release)) = self.served.get(turn).copied() else { break };
            let ends = self.served.get(turn + 1).map_or(u64::MAX, |(at, _)| *at);
            let since_close = (self.drawn + climate.window - nature.phase % climate.window) % climate.window;
            let close = self.drawn + climate.window - since_close;
            let until = close.min(ends);
            if until > now {
                break;
            }
            if let Some(index) = release {
                self.window(nature, climate, index, effects.get(index).copied().unwrap_or_default(), until);
            }
            self.drawn = until;
            if until == ends {
                turn += 1;
            }
        }
        self.take_in(now);
    }

    fn window(&mut self, nature: &Nature, climate: &Climate, release: usize, effect: Effect, until: u64) {
        let from = self.drawn;
        let hours = (until - from) as f64 / 3_600_000.0;
        let stream = &mut self.stream;
        let requests = random::poisson(stream, nature.requests * hours);
        let bad = nature.bursts.share(from, until);
        let out = |index: usize| climate.outages.get(index).map_or(0.0, |spans| spans.share(from, until));
        let outage = (out(0).max(out(nature.site))) * climate.outage_errors;
        let own = (nature.error_rate * (1.0 + bad * (climate.burst_factor - 1.0))).min(1.0);
        let errors = random::binomial(stream, requests, ((own + (1.0 - own) * outage) * effect.errors).min(1.0));
        let answered = requests - errors;
        let slow = random::binomial(stream, answered, bad);
        let mut latency = scatter(stream, answered - slow, &climate.latency);
        let burst = scatter(stream, slow, &climate.burst_latency);
        latency.iter_mut().zip(burst).for_each(|(all, burst)| *all += burst);
        let drifted = random::binomial(stream, answered, effect.drift);
        let mut classes = scatter(stream, answered - drifted, &nature.classes);
        if let Some(count) = classes.get_mut(DRIFT_TO) {
            *count += drifted;
        }
        let labelled = random::binomial(stream, answered, climate.labelled);
        let wrong = random::binomial(stream, labelled, (nature.wrong * effect.wrong).min(1.0));
        let tally = Tally { requests, errors, labelled, correct: labelled - wrong, windows: 1, latency, classes };
        if let Some(total) = self.total.get_mut(release) {
            *total += u64::from(requests);
        }
        let mut arrives = until + random::below(stream, 5_000);
        if random::happens(stream, climate.late.0) {
            arrives += random::exponential(stream, climate.late.1);
        }
        self.under_way.push((nature.away.after(arrives), release, tally));
    }

    fn take_in(&mut self, now: u64) {
        if self.under_way.iter().all(|(at, ..)| *at > now) {
            return;
        }
        self.under_way.sort_by_key(|(at, ..)| *at);
        let here = self.under_way.partition_point(|(at, ..)| *at <= now);
        for (at, release, tally) in self.under_way.drain(..here) {
            let Some(sums) = self.arrived.get_mut(release) else { continue };
            let sum = sums.last().map_or(tally, |(_, sum)| sum.plus(&tally));
            sums.push((at, sum));
        }
    }
}

/// What the device sent, as the controller keeps it.
pub(super) fn window_of(empty: &WindowStats, nature: &Nature, effect: &Effect, tally: &Tally, now: u64) -> WindowStats {
    let mut window = empty.clone();
    window.windows = tally.windows;
    window.closed_ms = now.saturating_add_signed(nature.clock_error);
    window.opened_ms = window.closed_ms;
    window.requests = u64::from(tally.requests);
    window.errors.inference = u64::from(tally.errors);
    // Slowest first: the sketch grows once.
    let first = nature.latency_us * effect.slower * STEP.powf(0.5 - MIDDLE);
    let cells = tally.latency.iter().zip(&STEPS).rev().filter(|(count, _)| **count > 0);
    for (count, step) in cells {
        let us = first * step;
        window.latency.insert_us_times(random::whole(us), u64::from(*count));
    }
    if let Some(classes) = &mut window.classes {
        tally.classes.iter().enumerate().for_each(|(class, count)| classes.insert_times(class, u64::from(*count)));
    }
    window.labelled_correct.hits = u64::from(tally.correct);
    window.labelled_correct.n = u64::from(tally.labelled);
    window
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn nature() -> Nature {
        let mut classes = [0.0; CLASSES];
        classes.iter_mut().enumerate().for_each(|(i, p)| *p = (i + 1) as f64 / CLASSES as f64);
        Nature {
            requests: 60.0,
            error_rate: 0.05,
            latency_us: 20_000.0,
            wrong: 0.1,
            classes,
            bursts: Spans::default(),
            away: Spans::default(),
            site: 1,
            phase: HOUR / 3,
            clock_error: 0,
        }
    }

    /// A device that served release 0 for a thousand hours.
    fn served(nature: &Nature, effect: Effect, climate: &Climate) -> Tally {
        let mut traffic = Traffic::new(random::stream(1, b"test    ", 0), 1);
        traffic.switch(0, Some(0));
        traffic.draw(nature, climate, &[effect], 1_000 * HOUR + HOUR / 2);
        let tally = traffic.between(0, 0, u64::MAX).unwrap();
        assert_eq!(u64::from(tally.requests), traffic.total(0));
        tally
    }

    fn rate(nature: &Nature, effect: Effect, climate: &Climate) -> f64 {
        let tally = served(nature, effect, climate);
        f64::from(tally.errors) / f64::from(tally.requests)
    }

    #[test]
    fn a_release_has_the_errors_that_its_effect_says() {
        let climate = Climate::new(HOUR);
        let near = |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 0.06, "{found} {wanted}");
        near(f64::from(served(&nature(), Effect::default(), &climate).requests), 60_000.0);
        near(rate(&nature(), Effect::default(), &climate), 0.05);
        near(rate(&nature(), Effect::errors(3.0), &climate), 0.15);
        let bursts = Nature { bursts: Spans::of(vec![(0, 250 * HOUR)]), ..nature() };
        near(rate(&bursts, Effect::default(), &Climate { burst_factor: 5.0, ..Climate::new(HOUR) }), 0.1);
        let outages = vec![Spans::default(), Spans::of(vec![(0, 500 * HOUR)])];
        near(rate(&nature(), Effect::default(), &Climate { outages, outage_errors: 0.2, ..Climate::new(HOUR) }), 0.145);
    }

    #[test]
    fn what_is_late_arrives_later_and_whole() {
        let climate = Climate { late: (0.5, 10.0 * HOUR as f64), ..Climate::new(HOUR) };
        let mut traffic = Traffic::new(random::stream(1, b"test    ", 0), 1);
        traffic.switch(0, Some(0));
        traffic.draw(&nature(), &climate, &[Effect::default()], 50 * HOUR);
        assert!(u64::from(traffic.between(0, 0, u64::MAX).unwrap().requests) < traffic.total(0));
        traffic.switch(50 * HOUR, None);
        traffic.draw(&nature(), &climate, &[Effect::default()], 500 * HOUR);
        assert_eq!(u64::from(traffic.between(0, 0, u64::MAX).unwrap().requests), traffic.total(0));
        assert_eq!(traffic.between(0, 501 * HOUR, u64::MAX), None, "nothing came since");
        let [early, late] =
            [(0, 20 * HOUR), (20 * HOUR, u64::MAX)].map(|(from, to)| traffic.between(0, from, to).unwrap());
        assert_eq!(u64::from(early.requests + late.requests), traffic.total(0));
    }

    #[test]
    fn a_swap_closes_the_window_of_the_release_before() {
        let climate = Climate::new(HOUR);
        let mut traffic = Traffic::new(random::stream(1, b"test    ", 0), 2);
        traffic.switch(0, Some(0));
        traffic.switch(10 * HOUR + HOUR / 2, Some(1));
        traffic.draw(&nature(), &climate, &[Effect::default(), Effect::errors(0.0)], 20 * HOUR);
        let (before, after) = (traffic.between(0, 0, u64::MAX).unwrap(), traffic.between(1, 0, u64::MAX).unwrap());
        assert_eq!((before.windows, after.windows), (12, 9));
        assert_eq!(after.errors, 0);
        assert!(before.errors > 0);
    }

    #[test]
    fn the_controller_keeps_what_was_drawn() {
        let effect = Effect { slower: 2.0, drift: 0.5, wrong: 3.0, ..Effect::default() };
        let tally = served(&nature(), effect, &Climate { labelled: 0.2, ..Climate::new(HOUR) });
        let baseline = crate::simulate::fleet::baseline();
        let empty = WindowStats::open("digits", "1.0.0", &baseline, 0);
        let window = window_of(&empty, &nature(), &effect, &tally, 5);
        window.validate(&fieldpost_shared::stats::Limits::default()).unwrap();
        window.fits(&baseline).unwrap();
        assert_eq!(window.latency.n() + window.errors.by_model(), window.requests);
        let median = window.latency.quantile(0.5).unwrap().as_secs_f64();
        assert!((0.035..0.05).contains(&median), "{median}");
        let wrong = 1.0 - window.labelled_correct.rate().unwrap();
        assert!((wrong - 0.3).abs() < 0.03, "{wrong}");
        let classes = window.classes.as_ref().unwrap();
        let share = classes.counts()[DRIFT_TO] as f64 / classes.total() as f64;
        assert!((share - 0.55).abs() < 0.02, "{share}");
    }
}
