//! What the rollout engine's verdicts are worth: `cargo bench -p fieldpost-tests --bench calibration [ROLLOUTS]`.
//!
//! Two thousand rollouts each of a harmless release and of harmful ones on simulated fleets whose devices differ, with
//! bursts and an outage that all share, through the engine that runs real rollouts, with `evidence = "trial"`; and the
//! gates that others use, on the same fleets. Fails when a figure leaves the bounds that docs/rollouts.md promises, by more than chance explains
//! where fewer rollouts are asked for.

use anyhow::{Context as _, bail};
use fieldpost::simulate::campaign::{ReleaseReport, Share};
use fieldpost::simulate::{Campaign, Effect, Plan, run};
use std::time::Instant;

const PLAN: &str = include_str!("calibration.toml");
const ROLLOUTS: usize = 2_000;
const SEED: u64 = 1;

/// A figure, and where it must lie.
struct Bound {
    what: &'static str,
    release: Effect,
    figure: fn(&ReleaseReport) -> Share,
    least: f64,
    most: f64,
}

fn bounds() -> [Bound; 3] {
    let of = |what, factor, figure, least, most| Bound { what, release: Effect::errors(factor), figure, least, most };
    [
        of("a harmless release is rolled back", 1.0, |release| release.rolled_back, 0.03, 0.065),
        of("a release with twice the errors passes the first wave", 2.0, |release| release.advanced, 0.0, 0.065),
        of("a release with three times the errors is rolled back", 3.0, |release| release.rolled_back, 0.95, 1.0),
    ]
}

fn line(name: &str, release: &str, share: &Share, requests: Option<f64>) {
    let [low, high] = share.interval.map(|edge| edge * 100.0);
    let requests = requests.map_or_else(|| "-".to_owned(), |median| format!("{median:.0}"));
    println!("{name:<26} {release:<12} {:6.1} % ({low:.1}-{high:.1}) {requests:>10}", share.share * 100.0);
}

fn main() -> anyhow::Result<()> {
    // cargo adds flags of its own.
    let asked = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let rollouts = asked.map_or(Ok(ROLLOUTS), |word| word.parse()).context("the number of rollouts")?;
    let plan = Plan::read(PLAN)?;
    let campaign = Campaign { rollouts, seed: SEED, threads: 0, compare: true };
    let began = Instant::now();
    let report = run(&plan, &campaign, &|| ())?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{rollouts} rollouts of {} releases on {} devices: {seconds:.0} s\n",
        report.releases.len(),
        report.devices
    );
    println!("{:<26} {:<12} {:>24} {:>10}", "gate", "release", "rolled back", "exposed");
    for release in &report.releases {
        let name = release.release.to_string();
        line("fieldpost", &name, &release.rolled_back, release.requests_exposed.map(|spread| spread.median));
        for other in &release.others {
            line(other.gate, &name, &other.rolled_back, other.requests.map(|spread| spread.median));
        }
    }
    println!();
    for release in &report.releases {
        let name = release.release.to_string();
        line("passed the first wave", &name, &release.advanced, None);
        line("completed", &name, &release.completed, None);
        line("paused for a person", &name, &release.paused, None);
    }
    let mut missed = Vec::new();
    for bound in bounds() {
        let release = report.releases.iter().find(|found| found.release == bound.release);
        let share = (bound.figure)(release.with_context(|| format!("the plan lacks `{}`", bound.release))?);
        // With all rollouts the figure itself must lie there; with fewer, its interval must reach there.
        let [low, high] = if rollouts >= ROLLOUTS { [share.share; 2] } else { share.interval };
        if high < bound.least || low > bound.most {
            missed.push(format!("{}: {:.2} %", bound.what, share.share * 100.0));
        }
    }
    if missed.is_empty() { Ok(()) } else { bail!("outside of what is promised: {}", missed.join("; ")) }
}
