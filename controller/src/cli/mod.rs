//! The command line: what can be asked, and who answers. One file per noun; this one holds the global flags and the
//! dispatch.

pub mod audit;
pub mod bundle;
pub mod completions;
pub mod context;
pub mod data_dir;
pub mod device;
pub mod exit;
pub mod failure;
pub mod init;
pub mod key;
pub mod keys;
pub mod output;
pub mod progress;
pub mod rollout;
pub mod serve;
pub mod simulate;
pub mod token;
pub mod trust;

pub use context::Context;
pub use exit::Exit;
pub use failure::Failure;

use crate::client::GivenToken;
use crate::demo;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Brings machine-learning models to devices in the field, and takes them back when they do harm.
#[derive(Debug, Parser)]
#[command(
    name = "fieldpost",
    version,
    max_term_width = 110,
    after_help = "Examples:
  fieldpost demo                                  watch a small fleet take good releases and refuse a harmful one
  fieldpost serve                                 start a controller on this machine
  fieldpost bundle pack models/digits             make a signed release of a folder
  fieldpost bundle push digits-1.0.0.fieldpost    hand it to the controller
  fieldpost rollout start digits@1.0.0            bring it to the fleet in waves
  fieldpost device list                           see the fleet

Exit codes: 0 done · 1 failed · 2 usage or configuration · 3 rolled back · 4 paused, timed out or unreachable"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The controller's address
    #[arg(
        long,
        global = true,
        env = "FIELDPOST_SERVER",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:7400"
    )]
    pub server: reqwest::Url,
    /// Bearer token [default for a controller on this machine: DATA/admin.token]
    #[arg(long, global = true, env = "FIELDPOST_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<GivenToken>,
    /// Believe only these certificate authorities (PEM), for a controller with a private one
    #[arg(long, global = true, env = "FIELDPOST_CA", hide_env_values = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How to print results
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: output::Format,
    /// Where a controller on this machine keeps its files [default: $STATE_DIRECTORY, else the user's data directory]
    #[arg(long, global = true, env = "FIELDPOST_DATA_DIR", hide_env_values = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Everything `fieldpost` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller: the API, the broker, and the rollouts
    Serve(serve::ServeArgs),
    /// Watch a small fleet on this machine take good releases and refuse a harmful one
    Demo(demo::DemoArgs),
    /// Prepare a controller on this machine: configuration, keys, the root of trust
    Init(init::InitArgs),
    /// Make keys that people keep, or show one
    Key(key::KeyArgs),
    /// Show or change a fleet's root of trust: roles, keys, thresholds, expiry, revoked releases
    Trust(trust::TrustArgs),
    /// Make, inspect and push releases
    Bundle(bundle::BundleArgs),
    /// Bring a release to the fleet in waves, and take it back
    Rollout(rollout::RolloutArgs),
    /// Try a strategy on a simulated fleet, before it meets a real one
    Simulate(simulate::SimulateArgs),
    /// Make tokens that let devices in or open the API
    Token(token::TokenArgs),
    /// See and change the fleet
    Device(device::DeviceArgs),
    /// Read the audit log, or check that nobody changed it
    Audit(audit::AuditArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Parses the command line, does what it asks, and maps the outcome to an exit code.
pub(crate) fn main() -> ExitCode {
    // The hidden `agent` hands the rest of the line over before anything is parsed: its flags are the agent's own.
    let mut words = std::env::args_os();
    if words.by_ref().nth(1).is_some_and(|word| word == "agent") {
        return agent(words);
    }
    let cli = match parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, wrong usage to stderr with 2. A closed pipe is nobody's error.
            drop(error.print());
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match execute(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::note(&failure.to_string());
            failure.exit().into()
        }
    }
}

/// Parses a command line; a command that needs another one after it shows what there is.
fn parse(words: Vec<OsString>) -> Result<Cli, clap::Error> {
    use clap::error::ErrorKind;
    Cli::try_parse_from(&words).map_err(|error| {
        // Defaults of global flags keep clap's own `arg_required_else_help` from this.
        if error.kind() != ErrorKind::MissingSubcommand {
            return error;
        }
        let help = Cli::try_parse_from(words.into_iter().chain([OsString::from("-h")]));
        match help {
            Err(help) if help.kind() == ErrorKind::DisplayHelp => {
                clap::Error::raw(ErrorKind::MissingSubcommand, format!("a command is missing\n\n{help}"))
            }
            _ => error,
        }
    })
}

fn execute(cli: Cli) -> Result<Exit, Failure> {
    let data_dir = match &cli.global.data_dir {
        Some(dir) => dir.clone(),
        None => data_dir::default_dir(|name| std::env::var_os(name)).ok_or_else(|| {
            Failure::usage("cannot tell where a controller on this machine keeps its files")
                .because_text("neither STATE_DIRECTORY, XDG_DATA_HOME nor HOME is set")
                .hint("pass --data-dir")
        })?,
    };
    let context = Context::new(cli.global, data_dir);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start the async runtime").because(&error))?
        .block_on(dispatch(cli.command, &context))
}

/// Runs the agent inside this executable, for `demo` and for tests.
fn agent(rest: impl Iterator<Item = OsString>) -> ExitCode {
    fieldpost_agent::run_from(std::iter::once(OsString::from("fieldpost-agent")).chain(rest))
}

async fn dispatch(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Demo(args) => demo::run(args, context).await,
        Command::Init(args) => init::run(args, context),
        Command::Key(args) => key::run(args, context),
        Command::Trust(args) => trust::run(args, context).await,
        Command::Bundle(args) => bundle::run(args, context).await,
        Command::Token(args) => token::run(args, context).await,
        Command::Device(args) => device::run(args, context).await,
        Command::Audit(args) => audit::run(args, context).await,
        Command::Serve(args) => serve::run(args, context).await,
        Command::Rollout(args) => rollout::run(args, context).await,
        Command::Simulate(args) => simulate::run(args, context),
        Command::Completions(args) => completions::run(&args, context),
    }
}

/// A context that keeps what it prints, for the controller of a data directory.
#[cfg(test)]
pub(crate) fn test_context(data_dir: &std::path::Path) -> Context {
    test_context_at(data_dir, "http://127.0.0.1:9")
}

/// The same, for the controller at an address.
#[cfg(test)]
pub(crate) fn test_context_at(data_dir: &std::path::Path, server: &str) -> Context {
    crate::install_crypto();
    let cli = Cli::try_parse_from(["fieldpost", "--server", server, "completions", "bash"]).expect("a command line");
    Context::in_memory(cli.global, data_dir)
}

#[cfg(test)]
mod tests;
