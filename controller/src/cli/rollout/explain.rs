//! `fieldpost rollout explain`: what happened and why, wave by wave.

use super::Id;
use crate::api::page::MAX_PAGE;
use crate::cli::{Context, Exit, Failure, output};
use crate::client::Client;
use crate::rollout::events::{Ending, Event};
use crate::rollout::explain::{Explanation, Told, line as gate_line};
use clap::Args;
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::id::RolloutId;
use std::path::{Path, PathBuf};
use textwrap::{Options, WordSplitter};

/// Behind the time of day in a line of an event.
const GAP: &str = "  ";
/// Below an event, before each line of what the gates said.
const BULLET: &str = "- ";

/// Arguments of `rollout explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost rollout explain r-0123456789ab
  fieldpost rollout explain r-0123456789ab --last --limit 20     the newest first
  fieldpost rollout explain r-0123456789ab --plot rollout.svg    a picture of its metrics
  fieldpost rollout explain r-0123456789ab --output json         with every input of every decision")]
pub struct ExplainArgs {
    /// Which rollout.
    #[command(flatten)]
    pub id: Id,
    /// The newest first
    #[arg(long)]
    pub last: bool,
    /// At most so many events: the first ones, or with --last the newest
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Draw what the metrics showed into this file instead (SVG)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["last", "limit"])]
    pub plot: Option<PathBuf>,
    /// With --plot: this metric alone
    #[arg(long, value_name = "METRIC", requires = "plot")]
    pub metric: Option<String>,
}

/// Explains a rollout.
///
/// # Errors
/// When there is no such rollout, or the controller cannot be reached.
pub(super) async fn run(args: &ExplainArgs, client: &Client, context: &Context) -> Result<Exit, Failure> {
    if let Some(file) = &args.plot {
        return draw(args, file, client, context).await;
    }
    let mut told = fetch(client, &args.id.id, super::count(args.limit), args.last).await?;
    let newest_first = args.last;
    if newest_first {
        told.events.reverse();
    }
    context.show(&told, |told| explanation(told, newest_first, output::width()))
}

/// Draws a rollout into a file.
async fn draw(args: &ExplainArgs, file: &Path, client: &Client, context: &Context) -> Result<Exit, Failure> {
    let id = &args.id.id;
    let query: Vec<_> = args.metric.iter().map(|metric| ("metric", metric.as_str())).collect();
    let path = ["v1", "rollouts", id.as_str(), "plot.svg"];
    let svg = client.get_bytes(&format!("draw rollout `{id}`"), &path, &query).await?;
    let refuse = || Failure::new(format!("cannot write `{}`", file.display()));
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Failure::usage(format!("`{}` is no file", file.display())).hint("name one, such as rollout.svg")
    })?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    write_atomic(dir, name, &svg).map_err(|error| refuse().because(&error))?;
    context.done(&serde_json::json!({ "rollout": id, "file": file }), &format!("drew {}", file.display()))
}

/// A rollout, told: page after page of what happened, or so much of it as is asked for.
async fn fetch(client: &Client, id: &RolloutId, limit: Option<usize>, last: bool) -> Result<Explanation, Failure> {
    let operation = format!("explain rollout `{id}`");
    let path = ["v1", "rollouts", id.as_str(), "explain"];
    let page = |after: u64, size: usize| {
        let (after, size, operation) = (after.to_string(), size.to_string(), operation.as_str());
        async move { client.get::<Explanation>(operation, &path, &[("after", &after), ("limit", &size)]).await }
    };
    let size = |wanted: Option<usize>| wanted.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    // How much there is, is known with the first answer.
    let mut told = page(0, if last { 1 } else { size(limit) }).await?;
    if let (true, Some(limit)) = (last, limit) {
        let skipped = told.sequence.saturating_sub(u64::try_from(limit).unwrap_or(u64::MAX));
        if skipped > 0 {
            told.events.clear();
            told = Explanation { events: page(skipped, size(Some(limit))).await?.events, ..told };
        }
    }
    loop {
        let newest = told.events.last().map_or(0, |event| event.sequence);
        let missing = limit.map(|limit| limit.saturating_sub(told.events.len()));
        if newest >= told.sequence || missing == Some(0) {
            return Ok(told);
        }
        let more = page(newest, size(missing)).await?.events;
        if more.is_empty() {
            return Ok(told);
        }
        told.events.extend(more);
    }
}

fn date(told: &Told) -> String {
    told.at.to_string().split_once('T').map_or_else(String::new, |(date, _)| date.to_owned())
}

/// One event, with what the gates said below it, each in one line.
pub(super) fn told(told: &Told) -> String {
    event(told, "", None)
}

/// The same within a width, each line behind a margin.
fn event(told: &Told, margin: &str, width: Option<usize>) -> String {
    let first = format!("{margin}{}{GAP}", output::time_of_day(told.at));
    let below = " ".repeat(first.len());
    let mut parts = vec![wrapped(&output::plain(&told.sentence), &first, &below, width)];
    let (bullet, under) = (format!("{below}{BULLET}"), format!("{below}{}", " ".repeat(BULLET.len())));
    parts.extend(told.because.iter().map(|because| wrapped(&output::plain(because), &bullet, &under, width)));
    parts.join("\n")
}

fn wrapped(text: &str, first: &str, below: &str, width: Option<usize>) -> String {
    match width {
        None => format!("{first}{text}"),
        Some(width) => {
            let options = Options::new(width).initial_indent(first).subsequent_indent(below);
            let options = options.word_splitter(WordSplitter::NoHyphenation);
            // A digest that is cut in two could not be copied.
            textwrap::fill(text, options.break_words(false))
        }
    }
}

/// What the events from this one on belong to, where it begins something.
fn heading(event: &Event) -> Option<String> {
    match event {
        Event::Created { .. } => Some("Start".to_owned()),
        Event::WaveStarted { wave } => Some(format!("Wave {}", wave + 1)),
        Event::RollbackStarted { ending: Ending::RolledBack, .. } => Some("Way back".to_owned()),
        Event::RollbackStarted { ending: Ending::Aborted, .. } | Event::AbortedKeeping { .. } => {
            Some("Aborted".to_owned())
        }
        Event::Completed { .. } => Some("End".to_owned()),
        _ => None,
    }
}

/// A whole rollout, told.
pub(super) fn explanation(told: &Explanation, newest_first: bool, width: Option<usize>) -> String {
    let list = |title: &str, lines: &[String]| {
        let lines = lines.iter().map(|line| wrapped(&output::plain(line), "  ", "    ", width));
        format!("{title}:\n{}", lines.collect::<Vec<_>>().join("\n"))
    };
    let mut parts = vec![wrapped(&output::plain(&told.headline), "", "", width)];
    if !told.waiting.is_empty() {
        parts.push(list("It waits for", &told.waiting));
    }
    let gates: Vec<String> = told.gates.iter().map(gate_line).collect();
    if !gates.is_empty() {
        parts.push(list("The gates see now", &gates));
    }
    parts.push(history(told, newest_first, width));
    parts.join("\n\n")
}

/// What happened, by wave. The day is said where it changes.
fn history(told: &Explanation, newest_first: bool, width: Option<usize>) -> String {
    let mut oldest_first: Vec<&Told> = told.events.iter().collect();
    if newest_first {
        oldest_first.reverse();
    }
    let (first, last) = (oldest_first.first().map_or(1, |told| told.sequence), oldest_first.last());
    let last = last.map_or(0, |told| told.sequence);
    let mut groups: Vec<(String, Vec<&Told>)> = Vec::new();
    for told in oldest_first {
        match (heading(&told.event), groups.last_mut()) {
            (None, Some((_, group))) => group.push(told),
            (found, _) => groups.push((found.unwrap_or_else(|| "Before".to_owned()), vec![told])),
        }
    }
    if newest_first {
        groups.reverse();
        groups.iter_mut().for_each(|(_, events)| events.reverse());
    }
    let mut day = String::new();
    let mut parts = vec!["What happened (UTC):".to_owned()];
    for (heading, events) in groups {
        let mut lines = Vec::new();
        for told in events {
            let today = date(told);
            if today != day && !lines.is_empty() {
                lines.push(format!("  {today}"));
            } else if lines.is_empty() {
                lines.push(format!("{heading}, {today}"));
            }
            day = today;
            lines.push(event(told, "  ", width));
        }
        parts.push(lines.join("\n"));
    }
    let missing = |count: u64, which: &str| format!("({count} {which} events are not shown)");
    let (before, after) = (first.saturating_sub(1), told.sequence.saturating_sub(last));
    let notes = [(before, missing(before, "earlier")), (after, missing(after, "later"))];
    parts.extend(notes.into_iter().filter(|(count, _)| *count > 0).map(|(_, note)| note));
    parts.join("\n\n")
}
