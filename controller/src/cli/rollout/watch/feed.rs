//! What the controller says, as news for the view. Nothing here draws.

use super::model::{Ask, KEPT_EVENTS};
use crate::api::page::MAX_PAGE;
use crate::api::rollouts::{EventsPage, ReasonRequest, ResumeRequest};
use crate::api::types::TimeNow;
use crate::cli::Failure;
use crate::client::{Client, ClientError};
use crate::rollout::explain::Told;
use crate::rollout::view::{MemberView, RolloutDetail, RolloutSummary};
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::time::{Clock as _, SystemClock, Timestamp};
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// How long the controller may hold an answer back for news: the gates change without an event.
const WAIT_S: &str = "2";
/// How long until a controller that is away is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a rollout that has ended is looked at: devices may still come back.
const AFTER_THE_END: Duration = Duration::from_secs(2);
/// Reading the devices of a large fleet takes long; so many times as long they are left alone.
const REST: u32 = 5;
/// The reason that the journal keeps of what is done here.
const REASON: &str = "an operator asked for it, watching";

/// Something new.
#[derive(Debug)]
pub(super) enum News {
    /// How it stands, and its devices where they were read again.
    Stands { detail: Box<RolloutDetail>, devices: Option<Vec<MemberView>> },
    /// What happened.
    Happened(Vec<Told>),
    /// The controller does not answer.
    Away(String),
    /// What a command came to.
    Said(String),
    /// It will never answer otherwise.
    Refused(Failure),
}

/// What there is at the start.
#[derive(Debug)]
pub(super) struct First {
    pub(super) detail: RolloutDetail,
    /// By the controller's clock.
    pub(super) now: Timestamp,
    /// The events behind this one are enough to scroll through.
    pub(super) events_after: u64,
}

/// Asks for the rollout once.
///
/// # Errors
/// When there is none, or the controller cannot be reached.
pub(super) async fn first(client: &Client, id: &RolloutId) -> Result<First, ClientError> {
    let detail = stand(client, id).await?;
    let TimeNow { now } = client.get("read the controller's time", &["v1", "time"], &[]).await?;
    let kept = u64::try_from(KEPT_EVENTS).unwrap_or(u64::MAX);
    Ok(First { now, events_after: detail.summary.sequence.saturating_sub(kept), detail })
}

async fn stand(client: &Client, id: &RolloutId) -> Result<RolloutDetail, ClientError> {
    client.get(&format!("watch rollout `{id}`"), &["v1", "rollouts", id.as_str()], &[("limit", "0")]).await
}

/// Tells what is new until nobody listens.
pub(super) async fn follow(client: Client, id: RolloutId, mut after: u64, news: Sender<News>) {
    let clock = SystemClock::new();
    let (mut devices_of, mut rests_until) = (None, Duration::ZERO);
    loop {
        let asked = async {
            let page = events(&client, &id, after).await?;
            let events = page.events;
            let last = events.last().map_or(after, |told| told.sequence);
            if last < page.rollout.sequence {
                return Ok((last, events, None));
            }
            if !page.rollout.active && devices_of == Some(page.rollout.sequence) {
                // Nothing is held back for news of a rollout that has ended.
                tokio::time::sleep(AFTER_THE_END).await;
            }
            let detail = stand(&client, &id).await?;
            let sequence = Some(detail.summary.sequence);
            let began = clock.monotonic();
            let devices = if devices_of == sequence || began < rests_until {
                None
            } else {
                let path = ["v1", "rollouts", id.as_str(), "members"];
                let all = client.list(&format!("watch rollout `{id}`"), &path, &[], None).await?;
                let ended = clock.monotonic();
                rests_until = ended.saturating_add(ended.saturating_sub(began).saturating_mul(REST));
                devices_of = sequence;
                Some(all)
            };
            Ok::<_, ClientError>((last, events, Some((detail, devices))))
        };
        let told = match asked.await {
            Ok((last, events, stands)) => {
                after = last;
                let mut told = Vec::new();
                if !events.is_empty() {
                    told.push(News::Happened(events));
                }
                told.extend(stands.map(|(detail, devices)| News::Stands { detail: Box::new(detail), devices }));
                told
            }
            Err(error) if error.transient() => {
                tokio::time::sleep(AGAIN).await;
                vec![News::Away(Failure::from(error).one_line())]
            }
            Err(error) => vec![News::Refused(error.into())],
        };
        for one in told {
            if news.send(one).await.is_err() {
                return;
            }
        }
    }
}

async fn events(client: &Client, id: &RolloutId, after: u64) -> Result<EventsPage, ClientError> {
    let (after, size) = (after.to_string(), MAX_PAGE.to_string());
    let query = [("after", after.as_str()), ("wait_s", WAIT_S), ("limit", size.as_str())];
    client.get(&format!("watch rollout `{id}`"), &["v1", "rollouts", id.as_str(), "events"], &query).await
}

/// Does what the person confirmed, and tells what came of it.
pub(super) async fn command(client: Client, id: RolloutId, ask: Ask, news: Sender<News>) {
    let operation = format!("{} rollout `{id}`", ask.verb());
    let path = ["v1", "rollouts", id.as_str(), ask.verb()];
    let reason = ReasonRequest { reason: REASON.to_owned() };
    let done: Result<RolloutSummary, ClientError> = match ask {
        Ask::Pause | Ask::Rollback => client.post(&operation, &path, &reason).await,
        Ask::Resume { accept } => client.post(&operation, &path, &ResumeRequest { accept }).await,
        Ask::Approve => client.post(&operation, &path, &serde_json::json!({})).await,
    };
    let text = match done {
        Ok(summary) => format!("done: it is {}", summary.state),
        Err(error) => Failure::from(error).one_line(),
    };
    // A view that has been left needs no answer.
    drop(news.send(News::Said(text)).await);
}
