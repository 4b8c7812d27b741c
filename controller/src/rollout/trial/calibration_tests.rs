//! What the experiment promises, held against many rollouts of which the truth is known: 400 devices in four waves,
//! devices that differ (rates from a Gamma distribution with a coefficient of variation of 1), bursts, and an outage
//! that everybody shares. An effect multiplies whatever errors there are, the outage's too: where an outage adds as many
//! errors to both arms, they *are* less than so many times apart while it lasts, and the margin is a ratio. Built without optimisation it makes fewer rollouts, and the bounds are as much wider as the
//! binomial distribution asks for.

use super::design::{Facts, Pace};
use super::look::{At, LookVerdict, Standing, look};
use super::random::Stream;
use super::{Design, Layout, Metric, Reading, Score, Settings};
use fieldpost_shared::id::Digest;
use std::collections::BTreeMap;
use std::time::Duration;

const DEVICES: usize = 400;
const WAVES: [usize; 4] = [8, 20, 100, 200];
const ROLLOUTS: u32 = if cfg!(debug_assertions) { 200 } else { 2_000 };
/// Requests of a device in the time of one first look.
const REQUESTS: u64 = 40;
const RATE: f64 = 0.02;

#[derive(Debug, Default)]
struct Tally {
    rolled_back: u32,
    advanced_first: u32,
    advances: u32,
    waves: u32,
}

struct World {
    stream: Stream,
    rates: Vec<f64>,
    outage: (usize, u32),
}

impl World {
    fn new(number: u32) -> Self {
        let mut stream = Stream::new(&Digest::from_bytes([17; 32]), "world", u64::from(number));
        let rates = (0..DEVICES).map(|_| (-RATE * (1.0 - stream.unit()).ln()).min(0.5)).collect();
        let outage = (stream.below(WAVES.len()), 1 + u32::try_from(stream.below(3)).unwrap());
        Self { stream, rates, outage }
    }

    /// Errors and requests of one device in so many units of time.
    fn serve(&mut self, device: usize, units: u32, factor: f64, outage: bool) -> (u64, u64) {
        let trials = REQUESTS * u64::from(units);
        let burst = if self.stream.unit() < 0.05 { 5.0 } else { 1.0 };
        let rate = ((self.rates[device] * burst + if outage { 0.1 } else { 0.0 }) * factor).min(1.0);
        (self.stream.thin(trials, rate), trials)
    }
}

fn settings(margin: f64) -> Settings {
    let mut settings = Settings { margin, looks: 3, ..Settings::default() };
    settings.acceptable.errors = Some(0.0);
    settings
}

/// One rollout to its end; `effect` multiplies the errors of treated devices.
fn rollout(number: u32, effect: f64, margin: f64, stop_when_passed: bool, tally: &mut Tally) {
    let layout = Layout::new(std::iter::repeat_n("x", DEVICES), &WAVES);
    let pace = Pace {
        soak: Duration::from_secs(60),
        max_dwell: None,
        history: Duration::from_secs(600),
        all_by_choice: false,
    };
    let absent = [Metric::Latency, Metric::Drift, Metric::Accuracy];
    let lacking = absent.map(|metric| (metric, "not here".to_owned())).into_iter().collect();
    let facts = Facts { comparable: true, lacking, ..Facts::default() };
    let design = Design::new(&settings(margin), pace, &layout, WAVES.len(), &facts);
    let seed = Digest::of(&number.to_be_bytes());
    let mut world = World::new(number);
    let past: Vec<f64> = (0..DEVICES)
        .map(|device| {
            let (events, trials) = world.serve(device, 10, 1.0, false);
            events as f64 / trials as f64
        })
        .collect();
    let mut standing = Standing::default();
    for (wave, reaches) in WAVES.into_iter().enumerate() {
        standing.begin_wave();
        let mut served = vec![(0, 0); DEVICES];
        let mut passed = false;
        for number in 1..=design.looks {
            let units = if number == 1 { 1 } else { 1 << (number - 2) };
            let outage = world.outage == (wave, number);
            for (device, sum) in served.iter_mut().enumerate() {
                let factor = if device < reaches { effect } else { 1.0 };
                let (events, trials) = world.serve(device, units, factor, outage);
                *sum = (sum.0 + events, sum.1 + trials);
            }
            let readings = served
                .iter()
                .zip(&past)
                .map(|((events, trials), before)| Reading {
                    now: Score::Count { events: *events, trials: *trials },
                    before: Some(*before),
                })
                .collect();
            let readings = BTreeMap::from([(Metric::Errors, readings)]);
            let at = At { wave, look: number };
            let look = look(&design, &layout, &seed, &standing, at, &readings).unwrap();
            standing.take(&look);
            if look.verdict == LookVerdict::Harm {
                tally.rolled_back += 1;
                return;
            }
            passed |= look.verdict == LookVerdict::Proven;
            if passed && stop_when_passed {
                break;
            }
        }
        tally.waves += 1;
        tally.advances += u32::from(passed);
        tally.advanced_first += u32::from(passed && wave == 0);
        if stop_when_passed && !passed {
            return;
        }
    }
}

fn rollouts(effect: f64, margin: f64, stop_when_passed: bool) -> (Tally, f64) {
    let mut tally = Tally::default();
    (0..ROLLOUTS).for_each(|number| rollout(number, effect, margin, stop_when_passed, &mut tally));
    eprintln!("x{effect}, margin {margin}, {ROLLOUTS} rollouts: {tally:?}");
    let rate = f64::from(tally.rolled_back) / f64::from(ROLLOUTS);
    (tally, rate)
}

/// Three standard errors of a share of `p` that fewer than 2,000 rollouts add.
fn slack(p: f64) -> f64 {
    if ROLLOUTS >= 2_000 { 0.0 } else { 3.0 * (p * (1.0 - p) / f64::from(ROLLOUTS)).sqrt() }
}

/// Every look of every wave is made, so that all of alpha is spent.
#[test]
fn a_harmless_release_is_rolled_back_about_as_often_as_alpha_says() {
    let (_, rate) = rollouts(1.0, 1.5, false);
    assert!((0.03 - slack(0.03)..=0.065 + slack(0.065)).contains(&rate), "{rate}");
}

#[test]
fn a_release_with_three_times_the_errors_is_rolled_back() {
    let (_, rate) = rollouts(3.0, 1.5, false);
    assert!(rate >= 0.95 - slack(0.95), "{rate}");
}

/// Each wave by itself, with the rollback test left aside: what is exactly `margin` times worse passes with at most beta.
#[test]
fn a_release_as_bad_as_the_margin_seldom_passes_a_wave() {
    let (tally, _) = rollouts(2.0, 2.0, true);
    let rate = f64::from(tally.advanced_first) / f64::from(ROLLOUTS);
    assert!(rate <= 0.065 + slack(0.065), "{rate}");
}
