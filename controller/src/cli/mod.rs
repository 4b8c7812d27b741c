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
pub mod key;
pub mod keys;
pub mod output;
pub mod progress;
pub mod rollout;
pub mod serve;
pub mod token;
pub mod trust;

pub use context::Context;
pub use exit::Exit;
pub use failure::Failure;

use crate::client::Token;
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
    arg_required_else_help = true,
    after_help = "Examples:
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
    #[arg(long, global = true, env = "FIELDPOST_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7400")]
    pub server: reqwest::Url,
    /// Bearer token [default for a controller on this machine: DATA/admin.token]
    #[arg(long, global = true, env = "FIELDPOST_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<Token>,
    /// Believe only these certificate authorities (PEM), for a controller with a private one
    #[arg(long, global = true, env = "FIELDPOST_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How to print results
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: output::Format,
    /// Where a controller on this machine keeps its files [default: $STATE_DIRECTORY, else the user's data directory]
    #[arg(long, global = true, env = "FIELDPOST_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Everything `fieldpost` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller: the API, the broker, and the rollouts
    Serve(serve::ServeArgs),
    /// Make keys that people keep, or show one
    Key(key::KeyArgs),
    /// Show or change a fleet's root of trust: roles, keys, thresholds, expiry, revoked releases
    Trust(trust::TrustArgs),
    /// Make, inspect and push releases
    Bundle(bundle::BundleArgs),
    /// Bring a release to the fleet in waves, and take it back
    Rollout(rollout::RolloutArgs),
    /// Make tokens that let devices in or open the API
    Token(token::TokenArgs),
    /// See and change the fleet
    Device(device::DeviceArgs),
    /// Read the audit log, or check that nobody changed it
    Audit(audit::AuditArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Run the agent inside this executable (for `demo` and for tests)
    #[command(hide = true, disable_help_flag = true)]
    Agent {
        /// The agent's own command line.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
        args: Vec<OsString>,
    },
}

/// Parses the command line, does what it asks, and maps the outcome to an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
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
    match cli.command {
        Command::Agent { args } => Ok(agent(args)),
        command => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new("cannot start the async runtime").because(&error))?
            .block_on(dispatch(command, &context)),
    }
}

/// The agent makes its own runtime, so it is not called from within ours.
fn agent(_args: Vec<OsString>) -> Exit {
    Exit::Failed
}

async fn dispatch(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Key(args) => key::run(args, context),
        Command::Trust(args) => trust::run(args, context),
        Command::Bundle(args) => bundle::run(args, context).await,
        Command::Token(args) => token::run(args, context).await,
        Command::Device(args) => device::run(args, context).await,
        Command::Audit(args) => audit::run(args, context).await,
        Command::Serve(args) => serve::run(args, context).await,
        Command::Rollout(args) => rollout::run(args, context).await,
        Command::Completions(args) => completions::run(&args, context),
        Command::Agent { args } => Ok(agent(args)),
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
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn every(command: &clap::Command, visit: &mut impl FnMut(&clap::Command)) {
        visit(command);
        command.get_subcommands().filter(|c| !c.is_hide_set()).for_each(|c| every(c, visit));
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        every(&Cli::command(), &mut |command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains("  fieldpost"), "{} has none", command.get_name());
        });
    }

    /// An example that the program itself refuses would be worse than none.
    #[test]
    fn every_example_is_a_command_line_that_parses() {
        every(&Cli::command(), &mut |command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter_map(|line| line.strip_prefix("  fieldpost")) {
                // What two spaces set apart is explanation; what follows a pipe or a redirection is the shell's.
                let line = line.split("  ").next().unwrap_or_default();
                let line = line.split(['|', '>', '<', '&']).next().unwrap_or_default();
                let words = std::iter::once("fieldpost").chain(line.split_whitespace().map(|w| w.trim_matches('\'')));
                if let Err(error) = Cli::try_parse_from(words) {
                    assert!(!error.use_stderr(), "`fieldpost{line}`: {error}");
                }
            }
        });
    }
}
