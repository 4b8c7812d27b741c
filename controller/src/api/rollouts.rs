//! `/v1/rollouts`: what people ask of the engine.

use super::page::{self, Page};
use super::path::Path;
use super::types::Role;
use super::{Api, ApiError, Caller, blocking};
use crate::audit::Act;
use crate::rollout::approval::{Authority, Person};
use crate::rollout::core::{CoreError, EventsFrom};
use crate::rollout::engine::{EngineError, EngineHandle};
use crate::rollout::explain::{Explanation, Told, tell};
use crate::rollout::machine::{AbortMode, Command};
use crate::rollout::plot;
use crate::rollout::start::{StartError, StartRequest};
use crate::rollout::view::{MemberView, RolloutDetail, RolloutSummary};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use fieldpost_shared::id::{DeviceId, IdError, ModelName, RolloutId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Longest that an answer is held back for news.
const MAX_WAIT_S: u64 = 30;
/// Rollouts named to somebody who named none of them.
const NAMED: usize = 5;
/// Longest reason.
const MAX_REASON_BYTES: usize = 1_000;

/// `POST .../pause` and `.../rollback`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// Why, for the record.
    #[serde(default = "no_reason")]
    pub reason: String,
}

/// `POST .../resume`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// Go on without the devices that failed or are away.
    #[serde(default)]
    pub accept: bool,
}

/// `POST .../abort`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortRequest {
    /// What becomes of the devices that have the release.
    pub mode: AbortMode,
    /// Why, for the record.
    #[serde(default = "no_reason")]
    pub reason: String,
}

/// `GET .../events`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventsPage {
    /// Where the rollout is.
    pub rollout: RolloutSummary,
    /// Events after the number that was asked for, at most a thousand.
    pub events: Vec<Told>,
}

fn no_reason() -> String {
    "no reason given".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    model: Option<ModelName>,
    #[serde(default)]
    active: bool,
    limit: Option<usize>,
    after: Option<RolloutId>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MembersQuery {
    limit: Option<usize>,
    after: Option<DeviceId>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    #[serde(default)]
    after: u64,
    /// The newest ones, so many.
    last: Option<usize>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartQuery {
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_s: u64,
    limit: Option<usize>,
}

/// The routes under `/v1/rollouts`, and whatever else needs the engine.
pub fn router(api: Api, engine: EngineHandle) -> Router {
    Router::new()
        .route("/v1/rollouts", get(list).post(start))
        .route("/v1/rollouts/{id}", get(show))
        .route("/v1/rollouts/{id}/members", get(members))
        .route("/v1/rollouts/{id}/events", get(events))
        .route("/v1/rollouts/{id}/explain", get(explain))
        .route("/v1/rollouts/{id}/plot.svg", get(plot))
        .route("/v1/rollouts/{id}/pause", post(pause))
        .route("/v1/rollouts/{id}/resume", post(resume))
        .route("/v1/rollouts/{id}/approve", post(approve))
        .route("/v1/rollouts/{id}/abort", post(abort))
        .route("/v1/rollouts/{id}/rollback", post(rollback))
        .route("/v1/devices/{id}/accept", post(super::accept::accept))
        .layer(Extension(engine))
        .method_not_allowed_fallback(super::error::no_such_method)
        .with_state(api)
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let EngineError::Core(core) = &error else {
            return Self::of(StatusCode::SERVICE_UNAVAILABLE, &error).hint("the controller is starting or stopping");
        };
        match core {
            CoreError::Unknown { known, .. } => Self::of(StatusCode::NOT_FOUND, core).hint(there_are(known)),
            CoreError::Refused(refusal) => {
                let status = if refusal.forbidden { StatusCode::FORBIDDEN } else { StatusCode::CONFLICT };
                Self::of(status, refusal).hint(refusal.hint())
            }
            CoreError::Contested { source, .. } => {
                let refused = Self::of(StatusCode::CONFLICT, core);
                source.hint().map_or(refused.clone(), |hint| refused.hint(hint))
            }
            CoreError::NotAMember { .. } => {
                Self::of(StatusCode::BAD_REQUEST, core).hint("a page begins behind a device of the page before it")
            }
            CoreError::Start(start) => {
                let status = match start {
                    StartError::UnknownRelease { .. } => StatusCode::NOT_FOUND,
                    StartError::Revoked(_)
                    | StartError::Conflict { .. }
                    | StartError::AlreadyThere(_)
                    | StartError::NobodySatisfies { .. }
                    | StartError::NoRetry { .. }
                    | StartError::TooUnfit { .. } => StatusCode::CONFLICT,
                    StartError::Strategy(_)
                    | StartError::Waves { .. }
                    | StartError::NobodyMatches { .. }
                    | StartError::NobodyFits { .. }
                    | StartError::UnknownLabel { .. }
                    | StartError::NoSuchWave { .. }
                    | StartError::Over { .. }
                    | StartError::UnknownZone { .. }
                    | StartError::Fleet(_) => StatusCode::BAD_REQUEST,
                };
                let refusal = Self::of(status, start);
                match start.hint() {
                    Some(hint) => refusal.hint(hint),
                    None => refusal,
                }
            }
            _ => Self::internal(core),
        }
    }
}

/// What a person who named a rollout wrongly may have meant.
fn there_are(known: &[RolloutId]) -> String {
    let newest = known.iter().take(NAMED).map(RolloutId::as_str).collect::<Vec<_>>().join(", ");
    match known.len() {
        0 => "there is none yet; `fieldpost rollout start` begins one".to_owned(),
        1..=NAMED => format!("there are, newest first: {newest}; `fieldpost rollout list` says more"),
        more => format!("the newest are {newest}; `fieldpost rollout list` shows all {more}"),
    }
}

fn id(text: &str) -> Result<RolloutId, ApiError> {
    text.parse().map_err(|error: IdError| ApiError::of(StatusCode::BAD_REQUEST, &error))
}

async fn list(
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    uri: Uri,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Page<Vec<RolloutSummary>>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let Query(query) = query?;
    let limit = page::size(query.limit, 1)?;
    let mut all = engine.list().await?;
    if let Some(after) = &query.after {
        let place = all.iter().position(|rollout| rollout.id == *after);
        let known = || all.iter().map(|rollout| rollout.id.clone()).collect();
        let unknown = || EngineError::Core(CoreError::Unknown { rollout: after.clone(), known: known() });
        let place = place.ok_or_else(unknown)?;
        all.drain(..=place);
    }
    all.retain(|rollout| {
        query.model.as_ref().is_none_or(|model| rollout.release.model == *model) && (!query.active || rollout.active)
    });
    all.truncate(limit + 1);
    Ok(Page::cut(all, limit, &uri, |rollout| rollout.id.to_string()))
}

async fn start(
    State(api): State<Api>,
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    query: Result<Query<StartQuery>, QueryRejection>,
    body: Result<Json<StartRequest>, JsonRejection>,
) -> Result<Response, ApiError> {
    caller.must_be(Role::Operator)?;
    let (Query(query), Json(request)) = (query?, body?);
    if query.dry_run {
        return Ok(Json(*engine.preview(request, caller.actor).await?).into_response());
    }
    let started = engine.start(request, caller.actor.clone()).await?;
    let detail = format!("{} on `{}`", started.release, started.selector);
    record(&api, &caller, "rollout.start", &started, detail).await?;
    Ok((StatusCode::CREATED, Json(started)).into_response())
}

async fn show(
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    uri: Uri,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> Result<Page<RolloutDetail>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let (rollout, Query(query)) = (id(&name)?, query?);
    let limit = page::size(query.limit, 0)?;
    let mut detail = *engine.show(rollout, limit + 1).await?;
    let more = detail.devices.len() > limit;
    detail.devices.truncate(limit);
    let after = detail.devices.last().filter(|_| more).map(|member| member.device.to_string());
    let next = format!("{}/members", uri.path());
    Ok(Page::new(detail, &uri, &next, after.as_deref()))
}

/// Devices of a rollout, in its order.
async fn members(
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    uri: Uri,
    query: Result<Query<MembersQuery>, QueryRejection>,
) -> Result<Page<Vec<MemberView>>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let (rollout, Query(query)) = (id(&name)?, query?);
    let limit = page::size(query.limit, 1)?;
    let found = engine.members(rollout, query.after, limit + 1).await?;
    Ok(Page::cut(found, limit, &uri, |member| member.device.to_string()))
}

/// Events after a number. With `wait_s`, an empty answer is held back for so long until there is news.
async fn events(
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    uri: Uri,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Page<EventsPage>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let (rollout, Query(query)) = (id(&name)?, query?);
    let limit = page::size(query.limit, 1)?;
    // Subscribed before the first look, so that nothing falls between the two.
    let mut news = engine.news();
    let (mut summary, mut found) = engine.events(rollout.clone(), query.after, limit).await?;
    if found.is_empty() && summary.active && query.wait_s > 0 {
        let arrival = async {
            loop {
                match news.recv().await {
                    Ok(told) if told.rollout != rollout => {}
                    Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => return,
                }
            }
        };
        let patience = Duration::from_secs(query.wait_s.min(MAX_WAIT_S));
        // Whether or not there is news, the answer is where things are.
        drop(tokio::time::timeout(patience, arrival).await);
        (summary, found) = engine.events(rollout, query.after, limit).await?;
    }
    let next = next_event(found.last().map(|record| record.sequence), summary.sequence);
    let body = EventsPage { rollout: summary, events: found.iter().map(tell).collect() };
    Ok(Page::new(body, &uri, uri.path(), next.as_deref()))
}

async fn explain(
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    uri: Uri,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Page<Explanation>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let (rollout, Query(query)) = (id(&name)?, query?);
    let (from, limit) = match query.last {
        Some(last) => (EventsFrom::Newest, page::size(Some(last), 1)?),
        None => (EventsFrom::After(query.after), page::size(query.limit, 1)?),
    };
    let told = engine.explain(rollout, from, limit).await?;
    let next = next_event(told.events.last().map(|told| told.sequence), told.sequence);
    Ok(Page::new(told, &uri, uri.path(), next.as_deref()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlotQuery {
    metric: Option<String>,
}

/// What metrics showed over time, as SVG.
async fn plot(
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    query: Result<Query<PlotQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    caller.must_be(Role::Viewer)?;
    let (rollout, Query(PlotQuery { metric })) = (id(&name)?, query?);
    let (mut after, mut drawn) = (0, Vec::new());
    // Page after page, so that the engine decides in between.
    let summary = loop {
        let (summary, found) = engine.events(rollout.clone(), after, page::MAX_PAGE).await?;
        let Some(last) = found.last() else { break summary };
        after = last.sequence;
        drawn.extend(
            found.into_iter().filter(|record| plot::drawn(&record.event)).map(|record| (record.at, record.event)),
        );
    };
    let headline = engine.explain(rollout, EventsFrom::Newest, 1).await?.headline;
    let there = plot::series(drawn.iter().map(|(at, event)| (*at, event)));
    let there: Vec<&str> = there.iter().map(|series| series.metric.as_str()).collect();
    if there.is_empty() {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("rollout `{}` has nothing to draw yet", summary.id))
            .hint("a picture needs a look of the comparison, a wave that passed, or a limit that broke"));
    }
    if let Some(wrong) = metric.as_deref().filter(|metric| !there.contains(metric)) {
        let refusal = format!("rollout `{}` has no metric `{wrong}`", summary.id);
        return Err(ApiError::new(StatusCode::NOT_FOUND, refusal).hint(format!("there are {}", there.join(", "))));
    }
    let svg = plot::picture(&summary, &headline, &drawn, metric.as_deref()).svg();
    let headers = [
        (CONTENT_TYPE, "image/svg+xml"),
        // Opened in a browser it is a document of this origin: it may bring its own style, and nothing else.
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    Ok((headers, svg).into_response())
}

/// Behind which event the next page begins.
fn next_event(last: Option<u64>, newest: u64) -> Option<String> {
    last.filter(|last| *last < newest).map(|last| last.to_string())
}

async fn pause(
    State(api): State<Api>,
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    body: Result<Json<ReasonRequest>, JsonRejection>,
) -> Result<Json<RolloutSummary>, ApiError> {
    let asked = body.map(|Json(ReasonRequest { reason })| Command::Pause { reason });
    command(&api, &caller, &engine, &name, asked).await
}

async fn resume(
    State(api): State<Api>,
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    body: Result<Json<ResumeRequest>, JsonRejection>,
) -> Result<Json<RolloutSummary>, ApiError> {
    let asked = body.map(|Json(ResumeRequest { accept })| Command::Resume { accept });
    command(&api, &caller, &engine, &name, asked).await
}

async fn approve(
    State(api): State<Api>,
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
) -> Result<Json<RolloutSummary>, ApiError> {
    command(&api, &caller, &engine, &name, Ok(Command::Approve)).await
}

async fn abort(
    State(api): State<Api>,
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    body: Result<Json<AbortRequest>, JsonRejection>,
) -> Result<Json<RolloutSummary>, ApiError> {
    let asked = body.map(|Json(AbortRequest { mode, reason })| Command::Abort { mode, reason });
    command(&api, &caller, &engine, &name, asked).await
}

async fn rollback(
    State(api): State<Api>,
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    body: Result<Json<ReasonRequest>, JsonRejection>,
) -> Result<Json<RolloutSummary>, ApiError> {
    let asked = body.map(|Json(ReasonRequest { reason })| Command::Rollback { reason });
    command(&api, &caller, &engine, &name, asked).await
}

/// Who may not is told so before anything that was sent is judged.
async fn command(
    api: &Api,
    caller: &Caller,
    engine: &EngineHandle,
    name: &str,
    asked: Result<Command, JsonRejection>,
) -> Result<Json<RolloutSummary>, ApiError> {
    caller.must_be(Role::Operator)?;
    let command = asked?;
    let action = match &command {
        Command::Pause { .. } => "rollout.pause",
        Command::Resume { .. } => "rollout.resume",
        Command::Approve => "rollout.approve",
        Command::Abort { .. } => "rollout.abort",
        Command::Rollback { .. } => "rollout.rollback",
    };
    let detail = match &command {
        Command::Pause { reason } | Command::Rollback { reason } => reason.clone(),
        Command::Abort { mode: AbortMode::Keep, reason } => format!("keep: {reason}"),
        Command::Abort { mode: AbortMode::Revert, reason } => format!("revert: {reason}"),
        Command::Resume { accept: true } => "accepts what failed or is away".to_owned(),
        Command::Resume { accept: false } | Command::Approve => String::new(),
    };
    if detail.len() > MAX_REASON_BYTES {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, format!("a reason has at most {MAX_REASON_BYTES} bytes")));
    }
    let after = engine.command(id(name)?, command, person(caller)).await?;
    record(api, caller, action, &after, detail).await?;
    Ok(Json(after))
}

/// Who asks, as the engine knows people.
fn person(caller: &Caller) -> Person {
    let authority = if caller.role.includes(Role::Admin) { Authority::Admin } else { Authority::Operator };
    Person { name: caller.actor.clone(), authority }
}

/// The audit log hears of it after the engine's journal, which says the same: a stop between the two loses neither
/// the act nor who asked for it.
async fn record(
    api: &Api,
    caller: &Caller,
    action: &'static str,
    rollout: &RolloutSummary,
    detail: String,
) -> Result<(), ApiError> {
    let (audit, actor, subject) = (api.audit.clone(), caller.actor.clone(), rollout.id.to_string());
    blocking(move || {
        let act = Act { actor: &actor, action, subject: &subject, detail: &detail };
        Ok(audit.commit(act, Vec::new())?)
    })
    .await
}

#[cfg(test)]
#[path = "rollouts_tests.rs"]
pub(crate) mod tests;
