//! Health, time, enrolment, tokens, audit, statistics, metrics.

use super::path::Path;
use super::types::{
    AuditEntry, DeviceStats, DeviceStatus, EnrollRequest, EnrollResponse, Health, Role, TimeNow, TokenCreated,
    TokenInfo, TokenRequest,
};
use super::{Api, ApiError, Caller, blocking};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use fieldpost_shared::id::{DeviceId, ModelName};
use fieldpost_shared::time::Timestamp;
use serde::Deserialize;

/// Entries of the audit log in one answer.
const AUDIT_PAGE: usize = 1_000;

pub(super) async fn health(State(api): State<Api>) -> Json<Health> {
    let (root, broker_connected) = (api.trust.root(), api.running.broker_connected());
    Json(Health {
        status: if broker_connected { "ok" } else { "degraded" }.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        fleet: root.fleet.clone(),
        broker_connected,
        root_version: root.version,
    })
}

pub(super) async fn time(State(api): State<Api>) -> Json<TimeNow> {
    Json(TimeNow { now: api.clock.now() })
}

/// The host that the client asked at, without its port: where it reached us, it reaches the embedded broker too.
fn asked_host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host.split(':').next()?,
    };
    (!name.is_empty() && name.len() < 256).then(|| name.to_owned())
}

pub(super) async fn enroll(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Json<EnrollRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<EnrollResponse>), ApiError> {
    let Json(request) = body?;
    let host = asked_host(&headers);
    blocking(move || {
        let record = api.devices.enroll(&api.tokens, request, api.approval)?;
        let active = record.status == DeviceStatus::Active;
        let root = |root: &fieldpost_shared::trust::SignedRoot| serde_json::from_slice(&root.to_bytes());
        let roots = match active {
            true => api.trust.roots().iter().map(root).collect::<Result<_, _>>(),
            false => Ok(vec![]),
        };
        let answer = EnrollResponse {
            status: record.status,
            device: record.id.clone(),
            fleet: api.trust.root().fleet.clone(),
            roots: roots.map_err(|error: serde_json::Error| ApiError::internal(&error))?,
            mqtt: api.running.endpoint(host.as_deref()),
            topic_prefix: api.topic_prefix.clone(),
            time: api.clock.now(),
            fingerprint: record.public_key.id(),
        };
        Ok((if active { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(answer)))
    })
    .await
}

pub(super) async fn create_token(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<TokenRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<TokenCreated>), ApiError> {
    caller.must_be(Role::Admin)?;
    let Json(request) = body?;
    blocking(move || Ok((StatusCode::CREATED, Json(api.tokens.create(&caller.actor, request)?)))).await
}

pub(super) async fn list_tokens(State(api): State<Api>, caller: Caller) -> Result<Json<Vec<TokenInfo>>, ApiError> {
    caller.must_be(Role::Admin)?;
    Ok(Json(api.tokens.list()))
}

pub(super) async fn delete_token(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.must_be(Role::Admin)?;
    blocking(move || {
        api.tokens.delete(&caller.actor, &id)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    #[serde(default)]
    after: u64,
}

pub(super) async fn audit(
    State(api): State<Api>,
    caller: Caller,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<Vec<AuditEntry>>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let Query(query) = query?;
    blocking(move || Ok(Json(api.audit.after(query.after, AUDIT_PAGE)?))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsQuery {
    #[serde(default)]
    device: Option<DeviceId>,
    #[serde(default)]
    model: Option<ModelName>,
    #[serde(default)]
    since: Option<Timestamp>,
}

pub(super) async fn stats(
    State(api): State<Api>,
    caller: Caller,
    query: Result<Query<StatsQuery>, QueryRejection>,
) -> Result<Json<Vec<DeviceStats>>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let Query(query) = query?;
    blocking(move || {
        let since = query.since.unwrap_or_default();
        Ok(Json(api.running.stats(query.device.as_ref(), query.model.as_ref(), since)?))
    })
    .await
}

/// OpenMetrics text.
pub(super) async fn metrics(State(api): State<Api>, caller: Caller) -> Result<impl IntoResponse, ApiError> {
    caller.must_be(Role::Viewer)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], api.metrics.text()))
}
