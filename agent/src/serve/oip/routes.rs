//! The extensions' paths over HTTP.

use super::super::error::ApiError;
use super::super::path::Path;
use super::super::request;
use super::super::router::{App, Named, find};
use super::messages::{ModelConfig, ModelIndex, ModelStatisticsResponse};
use super::{config, repository};
use axum::extract::{Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;

/// Largest body of an index request.
const MAX_INDEX_BYTES: usize = 16 << 10;

/// Configuration, repository and statistics.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(change))
        .route("/v2/repository/models/{model}/unload", post(change))
        .route("/v2/models/{model}/config", get(configuration))
        .route("/v2/models/{model}/versions/{version}/config", get(configuration))
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/models/{model}/stats", get(statistics))
        .route("/v2/models/{model}/versions/{version}/stats", get(statistics))
}

#[derive(Deserialize, Default)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

async fn configuration(State(app): State<Arc<App>>, Path(path): Path<Named>) -> Result<Json<ModelConfig>, ApiError> {
    let live = find(&app, Some(&path.model), path.version.as_deref())?;
    Ok(Json(config::model(live.release(), live.model.manifest())))
}

/// The body may be missing.
async fn index(State(app): State<Arc<App>>, request: Request) -> Result<Json<Vec<ModelIndex>>, ApiError> {
    let (parts, body) = request.into_parts();
    let timeout = app.settings.read_timeout;
    let body = request::body(&parts.headers, body, MAX_INDEX_BYTES, timeout, &app.room, None).await?.bytes;
    let wrong = |error| ApiError::bad_request(format!("malformed index request: {error}"));
    let request: IndexRequest =
        if body.is_empty() { IndexRequest::default() } else { serde_json::from_slice(&body).map_err(wrong)? };
    Ok(Json(repository::index(&app.registry, request.ready)))
}

async fn change(Path(path): Path<Named>) -> ApiError {
    repository::refusal(&path.model)
}

async fn all_statistics(State(app): State<Arc<App>>) -> Json<ModelStatisticsResponse> {
    Json(ModelStatisticsResponse { model_stats: repository::statistics(&app.registry) })
}

async fn statistics(
    State(app): State<Arc<App>>,
    Path(path): Path<Named>,
) -> Result<Json<ModelStatisticsResponse>, ApiError> {
    let model_stats = repository::statistics_of(&app, &path.model, path.version.as_deref())?;
    Ok(Json(ModelStatisticsResponse { model_stats }))
}
