//! `fieldpost completions`: a script that a shell completes commands with.

use super::{Cli, Context, Exit, Failure};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost completions bash > ~/.local/share/bash-completion/completions/fieldpost
  fieldpost completions zsh > ~/.zfunc/_fieldpost")]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &CompletionsArgs, context: &Context) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fieldpost", &mut script);
    context.print(String::from_utf8_lossy(&script).trim_end())
}
