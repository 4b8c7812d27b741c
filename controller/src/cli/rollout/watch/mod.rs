//! `fieldpost rollout watch`: a rollout on a terminal, until somebody has seen enough of it.
//!
//! [`model`] holds what is known and what the person looks at, and says what a key means; [`draw`] makes a picture of
//! it. Both are pure. [`feed`] asks the controller, [`screen`] owns the terminal and the loop between the three.

mod draw;
mod feed;
mod model;
mod screen;

use super::{Id, follow};
use crate::cli::output::Format;
use crate::cli::{Context, Exit, Failure};
use crate::client::Client;
use clap::Args;
use std::io::IsTerminal as _;

/// Arguments of `rollout watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal it is a view that stays until `q`; keys are at its foot. Elsewhere, and with --plain, every event is a
line (JSON with --output json), until the rollout ends.
Exit codes: 0 completed · 3 rolled back · 4 not ended, aborted with devices keeping the release, or the controller
went away

Examples:
  fieldpost rollout watch r-0123456789ab
  fieldpost rollout watch r-0123456789ab --exit           leave when it ends
  fieldpost rollout watch r-0123456789ab --output json    a line for each event"
)]
pub struct WatchArgs {
    /// Which rollout.
    #[command(flatten)]
    pub id: Id,
    /// A line for each event, also on a terminal
    #[arg(long)]
    pub plain: bool,
    /// Leave the view when the rollout ends
    #[arg(long)]
    pub exit: bool,
    /// No colours; a set `NO_COLOR` says the same
    #[arg(long)]
    pub no_color: bool,
}

/// Watches a rollout.
///
/// # Errors
/// When there is no such rollout, the controller stays away, or the terminal cannot be used.
pub(super) async fn run(args: &WatchArgs, client: &Client, context: &Context) -> Result<Exit, Failure> {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let able = std::env::var_os("TERM").is_none_or(|term| term != "dumb" && !term.is_empty());
    if args.plain || context.format() == Format::Json || !terminal || !able {
        let last = follow::follow(client, context, &args.id.id, &follow::Until::End).await?;
        return Ok(follow::exit_of(&last.state));
    }
    // https://no-color.org: whatever it is set to, if it is set to anything.
    let plain = args.no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let last = screen::run(client, context, &args.id.id, screen::Wishes { color: !plain, exit: args.exit }).await?;
    context.show(&last, super::show::line)?;
    Ok(follow::exit_of(&last.state))
}
