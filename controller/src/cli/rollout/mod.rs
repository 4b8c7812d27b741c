//! `fieldpost rollout`: bring a release to a fleet in waves, watch it, stop it, and ask why.

mod ask;
mod explain;
mod flags;
mod follow;
mod show;
mod start;
mod watch;

pub use start::{RetryArgs, StartArgs};

use super::{Context, Exit, Failure};
use crate::api::page::MAX_PAGE;
use crate::api::rollouts::{AbortRequest, ReasonRequest, ResumeRequest};
use crate::client::Client;
use crate::rollout::machine::AbortMode;
use crate::rollout::view::{RolloutDetail, RolloutSummary};
use clap::{Args, Subcommand};
use fieldpost_shared::id::RolloutId;

/// Arguments of `rollout`.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  fieldpost rollout start digits@1.1.0 --waves 1,4,12 --soak 30s --wait
  fieldpost rollout plan digits@1.1.0 --waves 10%,50%,100%
  fieldpost rollout explain r-0123456789ab"
)]
pub struct RolloutArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RolloutCommand,
}

/// Everything `rollout` does.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Begin a rollout
    Start(Box<StartArgs>),
    /// Say what a start would do, and what harm it could find; the same as `start --dry-run`
    #[command(after_help = "Examples:
  fieldpost rollout plan digits@1.1.0 --waves 10%,50%,100%
  fieldpost rollout plan digits@1.1.0 --selector site=lyon --waves '1; grow 25% x2' --output json
  fieldpost rollout plan digits@1.1.0 --strategy careful.toml")]
    Plan(Box<StartArgs>),
    /// Begin again what was rolled back or aborted: the same devices and strategy, with the same release or another
    Retry(Box<RetryArgs>),
    /// List rollouts, newest first
    #[command(after_help = "Examples:
  fieldpost rollout list --active
  fieldpost rollout list --model digits --output json")]
    List {
        /// Of this model alone
        #[arg(long, value_name = "MODEL")]
        model: Option<String>,
        /// Only those that have not ended
        #[arg(long)]
        active: bool,
        /// At most so many
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// Show a rollout with its devices and what its gates see
    #[command(after_help = "Examples:
  fieldpost rollout show r-0123456789ab
  fieldpost rollout show r-0123456789ab --limit 20     with the first devices of its order alone")]
    Show {
        /// Which rollout.
        #[command(flatten)]
        id: Id,
        /// At most so many devices
        #[arg(long, value_name = "COUNT")]
        limit: Option<u32>,
    },
    /// Follow a rollout until it ends
    Watch(watch::WatchArgs),
    /// Let nothing more change; limits stay on
    #[command(after_help = "Examples:\n  fieldpost rollout pause r-0123456789ab --reason maintenance")]
    Pause(WithReason),
    /// Go on; failed devices try again
    #[command(after_help = "Examples:
  fieldpost rollout resume r-0123456789ab
  fieldpost rollout resume r-0123456789ab --accept     without the devices that failed or are away")]
    Resume {
        /// Which rollout.
        #[command(flatten)]
        id: Id,
        /// Go on without the devices that failed or are away
        #[arg(long)]
        accept: bool,
    },
    /// Let the wave begin that waits for approval
    #[command(after_help = "Examples:\n  fieldpost rollout approve r-0123456789ab")]
    Approve(Id),
    /// Stop a rollout
    #[command(after_help = "Examples:
  fieldpost rollout abort r-0123456789ab --keep       devices that run the release keep it
  fieldpost rollout abort r-0123456789ab --revert     every touched device goes back")]
    Abort {
        /// Which rollout, and why.
        #[command(flatten)]
        which: WithReason,
        /// Devices that run the release keep it, the others stay with what they have
        #[arg(long, conflicts_with = "revert", required_unless_present = "revert")]
        keep: bool,
        /// Every touched device returns to its own previous release
        #[arg(long)]
        revert: bool,
    },
    /// Take a release back from every device that this rollout touched, even when it is completed
    #[command(after_help = "Examples:\n  fieldpost rollout rollback r-0123456789ab --reason complaints")]
    Rollback(WithReason),
    /// Say why anything happened, and what it waits for
    Explain(explain::ExplainArgs),
}

/// A rollout's name.
#[derive(Debug, Clone, Args)]
pub struct Id {
    /// The rollout, as `rollout list` names it
    #[arg(value_name = "ROLLOUT")]
    pub id: RolloutId,
}

/// A rollout's name and a reason.
#[derive(Debug, Clone, Args)]
pub struct WithReason {
    /// Which rollout.
    #[command(flatten)]
    pub id: Id,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "an operator asked for it")]
    pub reason: String,
}

/// Does what `rollout` asks.
///
/// # Errors
/// When the command line cannot be used, or the controller refuses.
pub async fn run(args: RolloutArgs, context: &Context) -> Result<Exit, Failure> {
    let client = context.client()?;
    match args.command {
        RolloutCommand::Start(args) => start::start(&args, &client, context).await,
        RolloutCommand::Plan(mut args) => {
            args.how.dry_run = true;
            start::start(&args, &client, context).await
        }
        RolloutCommand::Retry(args) => start::retry(&args, &client, context).await,
        RolloutCommand::List { model, active, limit } => list(model, active, limit, &client, context).await,
        RolloutCommand::Show { id, limit } => {
            let detail = fetch(&client, &id.id, count(limit)).await?;
            let now = context.clock().now();
            context.show(&detail, |detail| show::detail(detail, now))
        }
        RolloutCommand::Watch(args) => watch::run(&args, &client, context).await,
        RolloutCommand::Explain(args) => explain::run(&args, &client, context).await,
        RolloutCommand::Pause(which) => {
            let body = ReasonRequest { reason: which.reason };
            command(&client, context, "pause", &which.id.id, &body).await
        }
        RolloutCommand::Resume { id, accept } => {
            command(&client, context, "resume", &id.id, &ResumeRequest { accept }).await
        }
        RolloutCommand::Approve(id) => command(&client, context, "approve", &id.id, &serde_json::json!({})).await,
        RolloutCommand::Abort { which, keep, .. } => {
            let mode = if keep { AbortMode::Keep } else { AbortMode::Revert };
            let body = AbortRequest { mode, reason: which.reason };
            command(&client, context, "abort", &which.id.id, &body).await
        }
        RolloutCommand::Rollback(which) => {
            let body = ReasonRequest { reason: which.reason };
            command(&client, context, "rollback", &which.id.id, &body).await
        }
    }
}

/// A rollout with its devices, page after page of them, or the first `limit`.
async fn fetch(client: &Client, id: &RolloutId, limit: Option<usize>) -> Result<RolloutDetail, Failure> {
    let operation = format!("show rollout `{id}`");
    let path = ["v1", "rollouts", id.as_str()];
    let size = limit.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let query = [("limit", size.to_string())];
    let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (mut detail, next): (RolloutDetail, _) = client.page(&operation, &path, &query).await?;
    let missing = limit.map(|limit| limit.saturating_sub(detail.devices.len()));
    if let Some(after) = next.filter(|_| missing != Some(0)) {
        let path = ["v1", "rollouts", id.as_str(), "members"];
        detail.devices.extend(client.list_after(&operation, &path, &[], Some(after), missing).await?);
    }
    Ok(detail)
}

fn count(limit: Option<u32>) -> Option<usize> {
    limit.and_then(|limit| usize::try_from(limit).ok())
}

async fn command<B: serde::Serialize + Sync>(
    client: &Client,
    context: &Context,
    verb: &str,
    id: &RolloutId,
    body: &B,
) -> Result<Exit, Failure> {
    let operation = format!("{verb} rollout `{id}`");
    let after: RolloutSummary = client.post(&operation, &["v1", "rollouts", id.as_str(), verb], body).await?;
    context.show(&after, show::line)
}

async fn list(
    model: Option<String>,
    active: bool,
    limit: Option<u32>,
    client: &Client,
    context: &Context,
) -> Result<Exit, Failure> {
    let mut query = Vec::new();
    query.extend(model.as_deref().map(|model| ("model", model)));
    query.extend(active.then_some(("active", "true")));
    let all: Vec<RolloutSummary> = client.list("list rollouts", &["v1", "rollouts"], &query, count(limit)).await?;
    let now = context.clock().now();
    context.show(&all, |all| show::list(all, now))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
