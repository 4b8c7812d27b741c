//! `/v1/blobs` and `/v1/releases`

use super::path::Path;
use super::types::{MissingRequest, MissingResponse, Release, ReleaseDetail, ReleaseRequest, Role};
use super::{Api, ApiError, Caller, blocking};
use crate::releases::ReleaseRecord;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fieldpost_shared::id::{Digest, ModelName};
use serde::Deserialize;

/// Digests that one question may name: those of a model of 13 GB.
const MAX_DIGESTS: usize = 200_000;

pub(super) async fn missing_blobs(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<MissingRequest>, JsonRejection>,
) -> Result<Json<MissingResponse>, ApiError> {
    caller.must_be(Role::Publisher)?;
    let Json(request) = body?;
    if request.digests.len() > MAX_DIGESTS {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, format!("at most {MAX_DIGESTS} digests at once")));
    }
    blocking(move || {
        let missing = request.digests.into_iter().filter(|digest| !api.releases.blobs().has(*digest)).collect();
        Ok(Json(MissingResponse { missing }))
    })
    .await
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: fieldpost_shared::id::IdError| ApiError::of(StatusCode::BAD_REQUEST, &error))
}

pub(super) async fn put_blob(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    caller.must_be(Role::Publisher)?;
    let digest = digest(&name)?;
    let frame = body.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    blocking(move || {
        api.releases.blobs().put(digest, &frame)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

pub(super) async fn get_blob(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    caller.must_be(Role::Viewer)?;
    let digest = digest(&name)?;
    blocking(move || {
        if !api.releases.blobs().has(digest) {
            return Err(ApiError::new(StatusCode::NOT_FOUND, format!("there is no blob {digest}")));
        }
        let frame = api.releases.blobs().frame(digest)?;
        Ok(([(header::CONTENT_TYPE, "application/octet-stream")], frame))
    })
    .await
}

pub(super) async fn push(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<ReleaseRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<Release>), ApiError> {
    caller.must_be(Role::Publisher)?;
    let Json(request) = body?;
    let manifest = BASE64
        .decode(&request.manifest)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, format!("`manifest` is not base64: {error}")))?;
    blocking(move || {
        let record = api.releases.push(&caller.actor, &manifest, request.signatures)?;
        Ok((StatusCode::CREATED, Json(shown(&api, &record))))
    })
    .await
}

fn shown(api: &Api, record: &ReleaseRecord) -> Release {
    let (desired_on, live_on) = api.running.counts(&record.release.manifest);
    Release {
        release: record.release.clone(),
        created: record.created,
        pushed: record.pushed,
        note: record.note.clone(),
        total_bytes: record.total_bytes,
        signed_by: record.signatures.iter().map(|signature| signature.keyid).collect(),
        revoked: api.trust.root().revoked.contains(&record.release.manifest),
        desired_on,
        live_on,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    model: Option<ModelName>,
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Vec<Release>>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let Query(query) = query?;
    blocking(move || {
        let records = api.releases.list(query.model.as_ref());
        Ok(Json(records.iter().map(|record| shown(&api, record)).collect()))
    })
    .await
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<ReleaseDetail>, ApiError> {
    caller.must_be(Role::Viewer)?;
    blocking(move || {
        let unknown = || {
            ApiError::new(StatusCode::NOT_FOUND, format!("there is no release {model}@{version}"))
                .hint("`fieldpost bundle list` shows what was pushed")
        };
        let name = model.parse().map_err(|_not_a_name| unknown())?;
        let number = version.parse().map_err(|_not_a_version| unknown())?;
        let record = api.releases.find(&name, &number).ok_or_else(unknown)?;
        let bytes = api.releases.manifest_bytes(record.release.manifest)?;
        let document = serde_json::from_slice(&bytes).map_err(|error| ApiError::internal(&error))?;
        Ok(Json(ReleaseDetail {
            summary: shown(&api, &record),
            document,
            manifest_bytes: BASE64.encode(&bytes),
            signatures: record.signatures.clone(),
        }))
    })
    .await
}
