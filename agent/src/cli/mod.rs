//! The commands of `fieldpost-agent`.

mod doctor;
mod local;
pub(crate) mod output;
mod try_bundle;

use crate::app;
use crate::config::{Config, Overrides};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fieldpost_shared::id::{DeviceId, Digest, ModelName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs signed machine-learning models on this box, as the fleet's controller asks, and takes them back when they fail.
#[derive(Debug, Parser)]
#[command(name = "fieldpost-agent", version, about, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  fieldpost-agent enroll --controller https://fleet.example:7400 --token fp_...
  fieldpost-agent run
  fieldpost-agent status
  fieldpost-agent rollback digits
  fieldpost-agent try digits-1.0.0.fieldpost seven.png

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 4 the agent or the controller cannot be reached.";

/// How long work on other threads may go on after a command has ended.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
struct Common {
    /// Configuration file [default: /etc/fieldpost/agent.toml, if there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where keys, journal and models live
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How to print what is shown
    #[arg(long, global = true, value_enum, default_value = "table")]
    output: Output,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until it is told to stop
    #[command(after_help = "Example:\n  fieldpost-agent run --http 127.0.0.1:8000")]
    Run {
        /// Where predictions are served; port 0 takes a free one
        #[arg(long, value_name = "ADDRESS")]
        http: Option<SocketAddr>,
    },
    /// Join a fleet: make this box's key and exchange it for the fleet's root of trust
    #[command(after_help = "Example:\n  fieldpost-agent enroll --controller https://fleet.example:7400 \\
    --token fp_... --label site=lyon")]
    Enroll(EnrollArgs),
    /// Show what runs here, the line to the broker, and what waits
    Status,
    /// Show the models of this box
    Models,
    /// Take a model back to its previous release, now, without the network
    #[command(after_help = "Example:\n  fieldpost-agent rollback digits")]
    Rollback {
        /// The model
        model: ModelName,
    },
    /// Refuse changes for a while
    #[command(after_help = "Example:\n  fieldpost-agent hold --reason 'line is producing' --minutes 120")]
    Hold {
        /// Shown to the operator of the fleet
        #[arg(long)]
        reason: String,
        /// How long
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
    /// Run a bundle on this machine, with no controller: once on files, or as a server
    #[command(after_help = try_bundle::EXAMPLES)]
    Try(try_bundle::TryArgs),
    /// Accept changes again
    ReleaseHold,
    /// Check this box: configuration, disk, key, clock, controller, broker, models
    Doctor,
}

#[derive(Debug, Args)]
struct EnrollArgs {
    /// Base URL of the controller
    #[arg(long, value_name = "URL")]
    controller: Option<String>,
    /// Enrolment token, made with `fieldpost token create --enroll`; without one an operator must approve the box
    #[arg(long, env = "FIELDPOST_ENROLL_TOKEN", hide_env_values = true, default_value = "")]
    token: String,
    /// Name of this box in the fleet [default: from its host name]
    #[arg(long)]
    device: Option<DeviceId>,
    /// A label, `key=value`; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// sha256 of the fleet's first root, as `fieldpost trust show` prints it; refuses any other
    #[arg(long, value_name = "SHA256")]
    root_digest: Option<Digest>,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

/// What a command ended with.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Wrong usage or configuration: exit code 2.
    #[error("{0:#}")]
    Usage(anyhow::Error),
    /// The agent or the controller cannot be reached: exit code 4.
    #[error("{0:#}")]
    Unreachable(anyhow::Error),
    /// Anything else: exit code 1.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl CommandError {
    /// The exit code of this end.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 4,
        })
    }
}

/// Prints an error for people, on standard error.
pub(crate) fn complain(error: &CommandError) {
    use std::io::Write as _;
    // When standard error is closed there is nobody to tell; the exit code says it still.
    drop(writeln!(std::io::stderr(), "error: {error}"));
}

/// Runs a parsed command line.
///
/// # Errors
/// With what failed, on what, and what to do next.
pub fn execute(cli: Cli) -> Result<(), CommandError> {
    let output = cli.common.output;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    // A bundle is tried without any configuration: nothing of this box's agent is touched.
    let command = match cli.command {
        Command::Try(args) => return run_to_end(runtime, try_bundle::run(args, output)),
        other => other,
    };
    let mut overrides = Overrides { data_dir: cli.common.data_dir, ..Overrides::default() };
    match &command {
        Command::Run { http } => overrides.http = *http,
        Command::Enroll(args) => overrides.controller.clone_from(&args.controller),
        _ => {}
    }
    let config =
        Config::load(cli.common.config.as_deref(), overrides).map_err(|error| CommandError::Usage(error.into()))?;
    run_to_end(runtime, async {
        match command {
            Command::Run { .. } => app::run(config).await,
            Command::Enroll(args) => enroll(config, args, output).await,
            Command::Status => local::status(&config, output).await,
            Command::Models => local::models(&config, output).await,
            Command::Rollback { model } => local::rollback(&config, &model, output).await,
            Command::Hold { reason, minutes } => local::hold(&config, &reason, minutes, output).await,
            Command::ReleaseHold => local::release_hold(&config, output).await,
            // It went its own way above.
            Command::Try(args) => try_bundle::run(args, output).await,
            Command::Doctor => doctor::run(&config, output).await,
        }
    })
}

/// Runs a command, and does not wait for what it left behind on other threads: a self-test that was given up may compute
/// for another minute, which is longer than the system waits before it kills.
fn run_to_end<T>(runtime: tokio::runtime::Runtime, command: impl Future<Output = T>) -> T {
    let outcome = runtime.block_on(command);
    runtime.shutdown_timeout(LEFT_BEHIND);
    outcome
}

async fn enroll(config: Config, args: EnrollArgs, output: Output) -> Result<(), CommandError> {
    let labels: BTreeMap<String, String> = config.labels.clone().into_iter().chain(args.labels).collect();
    let identity = app::enroll(&config, args.token, args.device, labels, args.root_digest).await?;
    let table = [
        ("device", identity.device.to_string()),
        ("fleet", identity.fleet.to_string()),
        ("broker", format!("{}:{}", identity.broker.host, identity.broker.port)),
        ("next", "fieldpost-agent run".to_owned()),
    ];
    output::print(output, &identity, &output::pairs(&table)).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::time::{Clock as _, SystemClock};
    use std::sync::mpsc;

    #[test]
    fn an_end_does_not_wait_for_a_computation_that_was_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_held, forever) = mpsc::channel::<()>();
        let clock = SystemClock::new();
        run_to_end(runtime, async {
            drop(tokio::task::spawn_blocking(move || forever.recv_timeout(Duration::from_secs(30))));
        });
        assert!(clock.monotonic() < Duration::from_secs(20), "{:?}", clock.monotonic());
    }
}
