//! `rollout start` and `rollout retry`: what the command line asks for, and what becomes of it.

use super::super::{Context, Exit, Failure, output};
use super::{ask, flags, follow, show};
use crate::client::Client;
use crate::rollout::duration;
use crate::rollout::start::StartRequest;
use crate::rollout::strategy::StrategyFile;
use crate::rollout::view::{RolloutDetail, RolloutSummary};
use clap::Args;
use fieldpost_shared::id::RolloutId;
use semver::Version;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `rollout start`.
#[derive(Debug, Args)]
#[command(after_help = "Flags win over the strategy file; what neither names has its default. Waves are cumulative.
Everything that a strategy can say: docs/strategy.md
Exit codes with --wait: 0 completed · 3 rolled back · 4 paused, timed out, or aborted with devices keeping the release

Examples:
  fieldpost rollout start digits@1.1.0 --waves 1,4,12 --soak 30s --wait
  fieldpost rollout start digits@1.1.0 --selector site=lyon,arch=aarch64 --per site:1 --approve-before 2
  fieldpost rollout start digits@1.1.0 --waves '1; site=lyon,arch=aarch64; grow 25% x2' --dry-run
  fieldpost rollout start digits@1.1.0 --ab 7d                                    an A/B test: half of the devices each
  fieldpost rollout start digits@1.1.0 --ab 7d --ab-split 20% --ab-sticky header:x-line   on each device
  fieldpost rollout start digits@1.1.0 --maintenance 'Mon-Fri 01:00-05:00' --timezone Europe/Paris --approve-before 3:admin
  fieldpost rollout start reader@2.0.0 --requires detector^2.1 --priority 10
  fieldpost rollout start digits@1.1.0 --strategy careful.toml")]
pub struct StartArgs {
    /// What to roll out; the strategy file may name it instead
    #[arg(value_name = "MODEL@VERSION")]
    pub release: Option<String>,
    /// A TOML file with any of the flags below, in `snake_case`
    #[arg(long, value_name = "FILE")]
    pub strategy: Option<PathBuf>,
    /// How it is begun, how it goes on and when it stops.
    #[command(flatten)]
    pub how: How,
}

/// What the command line says of a start beside what is started.
#[derive(Debug, Args)]
pub struct How {
    /// Say everything that the start would do, refuse what it would refuse, and change nothing
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// Start without showing the plan and asking first; without a terminal nobody is asked anyway
    #[arg(long, short, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Follow the rollout until it ends or pauses
    #[arg(long)]
    pub wait: bool,
    /// With --wait: give up after so long (the rollout goes on)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, requires = "wait")]
    pub timeout: Option<Duration>,
    /// How it goes on and when it stops.
    #[command(flatten)]
    pub flags: Box<flags::StrategyFlags>,
}

/// Arguments of `rollout retry`.
#[derive(Debug, Args)]
#[command(
    after_help = "Devices on which the release failed try it again. Flags win over the strategy of the rollout that is tried again.

Examples:
  fieldpost rollout retry r-0123456789ab                       the same release, once what was wrong with the boxes is mended
  fieldpost rollout retry r-0123456789ab --release 1.1.1 --wait
  fieldpost rollout retry r-0123456789ab --until 2026-12-24T00:00:00Z --dry-run"
)]
pub struct RetryArgs {
    /// What was rolled back or aborted
    #[arg(value_name = "ROLLOUT")]
    pub id: RolloutId,
    /// Another version of the model [default: the same]
    #[arg(long, value_name = "VERSION")]
    pub release: Option<Version>,
    /// How it is begun, how it goes on and when it stops.
    #[command(flatten)]
    pub how: How,
}

/// Starts a rollout.
pub(super) async fn start(args: &StartArgs, client: &Client, context: &Context) -> Result<Exit, Failure> {
    begin(&request(args)?, &args.how, client, context).await
}

/// Starts one anew.
pub(super) async fn retry(args: &RetryArgs, client: &Client, context: &Context) -> Result<Exit, Failure> {
    let operation = format!("try rollout `{}` again", args.id);
    let path = ["v1", "rollouts", args.id.as_str()];
    let (first, _): (RolloutDetail, _) = client.page(&operation, &path, &[("limit", "1")]).await?;
    let file = StrategyFile {
        selector: Some(first.spec.selector.clone()),
        note: Some(first.spec.note.clone()).filter(|note| !note.is_empty()),
        ..StrategyFile::from(&first.spec.strategy)
    };
    let request = StartRequest {
        model: first.spec.release.model.clone(),
        version: args.release.clone().unwrap_or_else(|| first.spec.release.version.clone()),
        strategy: args.how.flags.over(file),
        retry_of: Some(args.id.clone()),
    };
    begin(&request, &args.how, client, context).await
}

async fn begin(request: &StartRequest, args: &How, client: &Client, context: &Context) -> Result<Exit, Failure> {
    if args.dry_run {
        return context.show(&ask::preview(client, request).await?, show::preview);
    }
    ask::agreed(args, request, client, context).await?;
    let operation = format!("start the rollout of {}@{}", request.model, request.version);
    let started: RolloutSummary = client.post(&operation, &["v1", "rollouts"], request).await?;
    if !args.wait {
        let watch = format!("follow it with `fieldpost rollout watch {}`", started.id);
        context.note(&watch);
        return context.show(&started, show::line);
    }
    context.note(&show::line(&started));
    let until = follow::Until::Decision { timeout: args.timeout };
    let last = follow::follow(client, context, &started.id, &until).await?;
    context.show(&last, show::line)?;
    if last.active && last.state != "paused" {
        let why = "the rollout goes on by itself";
        return Err(Failure::new(format!("gave up waiting for rollout `{}`", last.id))
            .because_text(why)
            .hint(format!("follow it with `fieldpost rollout watch {}`", last.id))
            .exit_with(Exit::Undecided));
    }
    if let (Some(reason), true) = (&last.reason, output_is_table(context)) {
        output::note(reason);
    }
    Ok(follow::exit_of(&last.state))
}

fn output_is_table(context: &Context) -> bool {
    context.format() == output::Format::Table
}

/// What the command line asks for: the strategy file, the flags over it, and the release that either names.
pub(super) fn request(args: &StartArgs) -> Result<StartRequest, Failure> {
    let file = args.strategy.as_deref().map(flags::read).transpose()?.unwrap_or_default();
    let strategy = args.how.flags.over(file);
    let named = args.release.clone().or_else(|| strategy.release.clone());
    let text = named.ok_or_else(|| {
        Failure::usage("no release to roll out").hint("name it: `fieldpost rollout start MODEL@VERSION`")
    })?;
    let (model, version) = flags::release(&text)?;
    Ok(StartRequest { model, version, strategy, retry_of: None })
}
