//! `POST /v2/models/M/feedback`: the truth about a recent prediction, by its request id.
//!
//! | status | when |
//! |---|---|
//! | 200 | the label is counted: `{"id", "label", "predicted", "correct", "model", "version"}` |
//! | 400 | not `{"id": "...", "label": "..."}`; no class has this label |
//! | 404 | no model, or no prediction with this id any more |
//! | 409 | it has its label already |
//!
//! Only answers of one row of a classifier are kept: of others there is nothing to say right or wrong about.

use super::error::ApiError;
use super::recent::NotKept;
use super::registry::{Live, Registry};
use super::request;
use super::router::App;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use fieldpost_shared::bundle::Manifest;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, PoisonError, Weak};

/// Largest body.
const MAX_BODY_BYTES: usize = 16 << 10;

/// A prediction that a label may come for.
#[derive(Debug, Clone)]
pub(crate) struct Prediction {
    /// Who made it; a release that is gone takes no more labels.
    pub(crate) by: Weak<Live>,
    pub(crate) class: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    id: String,
    label: Label,
}

/// A class by its name, or by its number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Label {
    Name(String),
    Number(usize),
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Counted {
    id: String,
    label: String,
    predicted: String,
    correct: bool,
    model: String,
    version: String,
}

/// Its path.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v2/models/{model}/feedback", post(feedback))
}

async fn feedback(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<Counted>, ApiError> {
    let (parts, body) = request.into_parts();
    let body = request::body(&parts.headers, body, MAX_BODY_BYTES, app.settings.read_timeout).await?;
    take(&app.registry, &model, &body).map(Json)
}

/// Joins a label with its prediction and counts it.
fn take(registry: &Registry, model: &str, body: &[u8]) -> Result<Counted, ApiError> {
    let Feedback { id, label } = serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(format!("feedback is {{\"id\": \"...\", \"label\": \"...\"}}: {error}"))
    })?;
    let recent = registry.recent(model)?;
    let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
    let prediction = recent.unlabelled(&id).map_err(|why| match why {
        NotKept::Unknown => not_found(&id, "is not among the last predictions: it is too old, or no answer of one row"),
        NotKept::Labelled => ApiError::new(StatusCode::CONFLICT, format!("`{}` has its label already", shown(&id))),
    })?;
    let live = prediction.by.upgrade();
    let live = live.ok_or_else(|| not_found(&id, "was answered by a release that is gone"))?;
    let (manifest, predicted) = (live.model.manifest(), prediction.class);
    let actual = class_of(manifest, &label)?;
    live.labelled(actual, predicted);
    recent.mark(&id);
    let name = |class: usize| manifest.labels.get(class).cloned().unwrap_or_else(|| class.to_string());
    Ok(Counted {
        label: name(actual),
        predicted: name(predicted),
        correct: actual == predicted,
        model: live.release().model.to_string(),
        version: live.release().version.to_string(),
        id,
    })
}

fn class_of(manifest: &Manifest, label: &Label) -> Result<usize, ApiError> {
    let known = |class: &usize| manifest.labels.is_empty() || *class < manifest.labels.len();
    let found = match label {
        Label::Number(class) => Some(*class).filter(known),
        Label::Name(name) => manifest.labels.iter().position(|label| label == name),
    };
    let asked = match label {
        Label::Number(class) => class.to_string(),
        Label::Name(name) => format!("`{}`", shown(name)),
    };
    found.ok_or_else(|| ApiError::bad_request(format!("the model has no class {asked}")))
}

fn not_found(id: &str, why: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("`{}` {why}", shown(id)))
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
