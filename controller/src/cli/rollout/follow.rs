//! Following a rollout without a view of it: every event is a line, or a bar shows a waiting person how things stand.

use super::explain;
use crate::api::rollouts::EventsPage;
use crate::cli::{Context, Exit, Failure, output};
use crate::client::{Client, ClientError};
use crate::rollout::explain::Told;
use crate::rollout::view::{RolloutDetail, RolloutSummary};
use fieldpost_shared::id::RolloutId;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// How long the controller may hold an answer back for news.
const WAIT_S: &str = "20";
/// The same on a terminal, where the line below the events is redrawn.
const WAIT_TERMINAL_S: &str = "1";
/// How long the controller may be away before following gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long until it is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// When following ends.
pub(super) enum Until {
    /// When the rollout has ended.
    End,
    /// When it has ended or paused, or after so long.
    Decision {
        /// How long at most.
        timeout: Option<Duration>,
    },
}

impl Until {
    fn reached(&self, summary: &RolloutSummary) -> bool {
        !summary.active || (matches!(self, Self::Decision { .. }) && summary.state == "paused")
    }
}

/// The exit code that a state stands for.
pub(super) fn exit_of(state: &str) -> Exit {
    match state {
        "completed" => Exit::Done,
        "rolled-back" | "aborted-reverted" => Exit::RolledBack,
        _ => Exit::Undecided,
    }
}

/// Follows a rollout and returns where it was last.
///
/// # Errors
/// When there is no such rollout, or the controller stays away.
pub(super) async fn follow(
    client: &Client,
    context: &Context,
    id: &RolloutId,
    until: &Until,
) -> Result<RolloutSummary, Failure> {
    let view = View::new(context, matches!(until, Until::End));
    let clock = context.clock();
    let began = clock.monotonic();
    let left = |now: Duration| match until {
        Until::Decision { timeout: Some(timeout) } => Some(timeout.saturating_sub(now.saturating_sub(began))),
        _ => None,
    };
    let (mut after, mut heard) = (0_u64, clock.monotonic());
    loop {
        let asked = page(client, id, after, view.wait());
        let answer = match left(clock.monotonic()) {
            Some(left) => match tokio::time::timeout(left, asked).await {
                Ok(answer) => answer,
                // The time is over: where it is now is the answer.
                Err(_elapsed) => page(client, id, u64::MAX, "0").await,
            },
            None => asked.await,
        };
        match answer {
            Ok(page) => {
                heard = clock.monotonic();
                for told in &page.events {
                    view.tell(told)?;
                    after = after.max(told.sequence);
                }
                let caught_up = after >= page.rollout.sequence;
                let late = left(clock.monotonic()).is_some_and(|left| left.is_zero());
                if late || (caught_up && until.reached(&page.rollout)) {
                    view.close();
                    return Ok(page.rollout);
                }
                view.stand(client, id, &page.rollout).await;
            }
            Err(error) if error.transient() && clock.monotonic().saturating_sub(heard) < PATIENCE => {
                view.away(&error);
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                view.close();
                return Err(error.into());
            }
        }
    }
}

async fn page(client: &Client, id: &RolloutId, after: u64, wait_s: &str) -> Result<EventsPage, ClientError> {
    let operation = format!("follow rollout `{id}`");
    let path = ["v1", "rollouts", id.as_str(), "events"];
    client.get(&operation, &path, &[("after", after.to_string().as_str()), ("wait_s", wait_s)]).await
}

/// Where events and how things stand are shown.
enum View {
    /// Events above, a redrawn line below.
    Terminal(ProgressBar),
    /// Every event is a line of the result.
    Lines { json: bool },
    /// Nothing: the result comes at the end.
    Silent,
}

impl View {
    fn new(context: &Context, events_are_the_result: bool) -> Self {
        let json = context.format() == output::Format::Json;
        if events_are_the_result {
            return Self::Lines { json };
        }
        if context.watched() {
            let bar = ProgressBar::new(1);
            let style = ProgressStyle::with_template("{spinner} [{bar:24}] {pos}/{len} live · {wide_msg}");
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            return Self::Terminal(bar);
        }
        Self::Silent
    }

    const fn wait(&self) -> &'static str {
        match self {
            Self::Terminal(_) => WAIT_TERMINAL_S,
            Self::Lines { .. } | Self::Silent => WAIT_S,
        }
    }

    fn tell(&self, told: &Told) -> Result<(), Failure> {
        match self {
            Self::Terminal(bar) => explain::told(told).lines().for_each(|line| bar.println(line)),
            Self::Lines { json: false } => output::print(&explain::told(told))?,
            Self::Lines { json: true } => {
                let line = serde_json::to_string(told)
                    .map_err(|error| Failure::new("cannot write an event as JSON").because(&error))?;
                output::print(&line)?;
            }
            Self::Silent => {}
        }
        Ok(())
    }

    /// How things stand between events. What cannot be asked for now is asked for with the next redraw.
    async fn stand(&self, client: &Client, id: &RolloutId, summary: &RolloutSummary) {
        let Self::Terminal(bar) = self else { return };
        let detail: Result<RolloutDetail, _> = client.get("show", &["v1", "rollouts", id.as_str()], &[]).await;
        let waiting = detail.map(|detail| detail.assessment.waiting.join(" · ")).unwrap_or_default();
        bar.set_length(u64::try_from(summary.counts.devices).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(summary.counts.live).unwrap_or(u64::MAX));
        let wave = summary.wave.map(|wave| format!(" wave {wave} of {}", summary.waves.len())).unwrap_or_default();
        bar.set_message(format!("{}{wave} · {waiting}", summary.state));
    }

    fn away(&self, error: &ClientError) {
        if let Self::Terminal(bar) = self {
            bar.set_message(format!("{error}; trying again"));
        }
    }

    fn close(&self) {
        if let Self::Terminal(bar) = self {
            bar.finish_and_clear();
        }
    }
}
