//! `fieldpost simulate`: what a strategy would do, before it meets a fleet.

use super::output::table;
use super::progress::steps_bar;
use super::{Context, Exit, Failure};
use crate::simulate::campaign::{CampaignError, Report, Share, Spread};
use crate::simulate::{Campaign, EXAMPLE, Plan, PlanError};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `fieldpost simulate`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  fieldpost simulate rollout --plan plan.toml    how often would this strategy take back a harmless release?")]
pub struct SimulateArgs {
    #[command(subcommand)]
    command: SimulateCommand,
}

#[derive(Debug, Subcommand)]
enum SimulateCommand {
    /// Roll releases out on a simulated fleet, many times: how often is a harmless one taken back, a harmful one not?
    #[command(after_help = "Examples:
  fieldpost simulate rollout --example > plan.toml        a plan with every field explained
  fieldpost simulate rollout --plan plan.toml             what the strategy in it comes to
  fieldpost simulate rollout --plan plan.toml --rollouts 2000 --seed 7 --compare --output json

The engine is the one that runs rollouts; the fleet is made of random numbers, all from --seed. No controller is needed.")]
    Rollout(RolloutArgs),
}

#[derive(Debug, Args)]
struct RolloutArgs {
    /// The fleet, the releases and the strategy (TOML); `--example` prints one
    #[arg(long, value_name = "FILE", required_unless_present = "example")]
    plan: Option<PathBuf>,
    /// Print a commented plan and stop
    #[arg(long, conflicts_with = "plan")]
    example: bool,
    /// Rollouts of each release
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rollouts: u32,
    /// What everything follows from: the same seed gives the same answer
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Threads [default: as many as there are processors]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Try gates that others use on the same fleets, beside the engine's own
    #[arg(long)]
    compare: bool,
}

pub(super) fn run(args: SimulateArgs, context: &Context) -> Result<Exit, Failure> {
    let SimulateCommand::Rollout(args) = args.command;
    let Some(path) = args.plan.filter(|_| !args.example) else { return context.print(EXAMPLE.trim_end()) };
    let refuse = || Failure::usage(format!("cannot simulate the plan `{}`", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| {
        refuse().because(&error).hint("`fieldpost simulate rollout --example` prints a plan to begin with")
    })?;
    let invalid = |error: &PlanError| refuse().because(error).hint(error.hint());
    let plan = Plan::read(&text).map_err(|error| invalid(&error))?;
    let rollouts = usize::try_from(args.rollouts).unwrap_or(usize::MAX);
    let campaign = Campaign { rollouts, seed: args.seed, threads: args.threads, compare: args.compare };
    let total = u64::from(args.rollouts).saturating_mul(plan.releases.0.len() as u64);
    let bar = steps_bar(context.watched(), "simulating rollouts", total);
    let report = crate::simulate::run(&plan, &campaign, &|| bar.inc(1));
    bar.finish_and_clear();
    let report = report.map_err(|error| match &error {
        CampaignError::Plan(error) => invalid(error),
        _ => refuse().because(&error).hint("correct the strategy or the fleet of the plan"),
    })?;
    context.show(&report, text_of)
}

fn percent(share: &Share) -> String {
    let [low, high] = share.interval;
    format!("{:.1} % ({:.1}-{:.1})", share.share * 100.0, low * 100.0, high * 100.0)
}

fn spread(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(|| "-".to_owned(), |s| format!("{:.*} ({:.*})", digits, s.median, digits, s.p90))
}

fn text_of(report: &Report) -> String {
    let Report { rollouts, seed, devices, releases } = report;
    let mut text = format!("{rollouts} rollouts of each release on {devices} devices, seed {seed}\n\n");
    let rows = releases.iter().map(|release| {
        vec![
            release.release.to_string(),
            percent(&release.rolled_back),
            percent(&release.advanced),
            percent(&release.completed),
            percent(&release.paused),
            spread(release.hours_to_rollback, 1),
            spread(release.hours_to_completion, 1),
            spread(release.requests_exposed, 0),
            spread(release.devices_exposed, 0),
        ]
    });
    let header = [
        "release",
        "rolled back",
        "passed wave 1",
        "completed",
        "paused",
        "hours to rollback",
        "hours to completion",
        "requests exposed",
        "devices exposed",
    ];
    text.push_str(&table(&header, rows));
    let others: Vec<Vec<String>> = releases
        .iter()
        .flat_map(|release| {
            let name = release.release.to_string();
            release.others.iter().map(move |other| {
                vec![other.gate.to_owned(), name.clone(), percent(&other.rolled_back), spread(other.requests, 0)]
            })
        })
        .collect();
    if !others.is_empty() {
        text.push_str("\n\nGates that others use, on the same fleets:\n\n");
        text.push_str(&table(&["gate", "release", "rolled back", "requests exposed"], others));
    }
    text.push_str("\n\nShares with 95 % intervals; other figures are medians, with the 90th percentile in brackets.");
    if releases.iter().any(|release| release.unfinished.count > 0) {
        text.push_str(
            "\nSome rollouts came to no end within the time that the strategy allows: `--output json` counts them.",
        );
    }
    let example = releases.iter().find_map(|release| Some((release.release, release.example.as_ref()?)));
    if let Some((release, reason)) = example {
        text.push_str(&format!("\nFor example, `{release}`: {reason}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, test_context};
    use clap::Parser;

    fn simulate(words: &[&str]) -> (Result<Exit, Failure>, String) {
        let dir = tempfile::tempdir().unwrap();
        let context = test_context(dir.path());
        let line = ["fieldpost", "simulate", "rollout"].iter().chain(words);
        let Command::Simulate(args) = Cli::try_parse_from(line).unwrap().command else { panic!("another command") };
        let done = run(args, &context);
        (done, context.printed())
    }

    fn plan_file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file.as_file(), text.as_bytes()).unwrap();
        file
    }

    const SMALL: &str = r#"
        releases = ["harmless", "errors x10"]
        [fleet]
        devices = 10
        requests_per_hour = 600.0
        window = "10m"
        history = "1h"
        [trouble]
        fleet_outages = 0.0
        [strategy]
        waves = "2,100%"
        soak = "1h"
        evidence = "gates"
    "#;

    #[test]
    fn the_example_can_be_simulated() {
        let (done, printed) = simulate(&["--example"]);
        done.unwrap();
        Plan::read(&printed).unwrap();
    }

    #[test]
    fn a_plan_gives_a_row_for_each_release() {
        let file = plan_file(SMALL);
        let (done, printed) = simulate(&["--plan", file.path().to_str().unwrap(), "--rollouts", "3", "--compare"]);
        done.unwrap();
        assert!(printed.starts_with("3 rollouts of each release on 10 devices, seed 1\n"), "{printed}");
        for row in ["harmless ", "errors x10 ", "Welch on device means"] {
            assert!(printed.contains(row), "{printed}");
        }
    }

    #[test]
    fn a_wrong_plan_is_refused_with_what_to_do() {
        let file = plan_file("[fleet]\ndevices = 0");
        let (done, _) = simulate(&["--plan", file.path().to_str().unwrap()]);
        let failure = done.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let text = failure.to_string();
        assert!(text.contains("cause: `fleet.devices` must be from 1 to 100000, got 0"), "{text}");
        assert!(text.contains("hint: correct the field"), "{text}");
        let (missing, _) = simulate(&["--plan", "/nowhere/plan.toml"]);
        assert!(missing.unwrap_err().to_string().contains("--example"));
    }
}
