//! `POST /v2/models/M/feedback`: the truth about a recent prediction, by its request id.
//!
//! | status | when |
//! |---|---|
//! | 200 | the label is counted: `{"id", "label", "predicted", "correct", "model", "version"}` |
//! | 400 | not `{"id": "...", "label": "..."}`; no class has this label; no such row |
//! | 404 | no model, or no prediction with this id any more |
//! | 409 | it has its label already |
//!
//! A row of a batch is named by `row`, counted from 0. Where several labels may hold, `label` is a list of all that do, and the
//! answer is right when it named just these. Labels count for the release that answered, also when another is live by now.
//! Numbers, objects and raw outputs are not kept: the statistics have no place for how far they were off.

use super::error::ApiError;
use super::ledger::Ledger;
use super::path::Path;
use super::registry::Registry;
use super::request;
use super::router::App;
use super::truth::{Label, Prediction, Row, Said, shown};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, PoisonError};

/// Largest body.
const MAX_BODY_BYTES: usize = 16 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Feedback {
    id: String,
    #[serde(default)]
    row: Option<usize>,
    pub(super) label: Label,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Counted {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
    label: Named,
    predicted: Named,
    correct: bool,
    model: String,
    version: String,
}

/// Names of classes; numbers where there are none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Named {
    One(String),
    Several(Vec<String>),
}

impl Named {
    fn of(said: &Said, by: &Ledger) -> Self {
        let name = |class: &usize| by.labels().get(*class).cloned().unwrap_or_else(|| class.to_string());
        match said {
            Said::Class(class) => Self::One(name(class)),
            Said::Labels(held) => Self::Several(held.iter().map(name).collect()),
        }
    }
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
    let timeout = app.settings.read_timeout;
    let body = request::body(&parts.headers, body, MAX_BODY_BYTES, timeout, &app.room, None).await?;
    take(&app.registry, &model, &body.bytes).map(Json)
}

/// What a body says.
pub(super) fn read(body: &[u8]) -> Result<Feedback, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("feedback is {{\"id\": \"...\", \"label\": \"...\"}}: {error}")))
}

/// Joins a label with its prediction and counts it.
fn take(registry: &Registry, model: &str, body: &[u8]) -> Result<Counted, ApiError> {
    let Feedback { id, row: place, label } = read(body)?;
    let recent = registry.recent(model)?;
    let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
    let Prediction { by, rows } = recent.find(&id).ok_or_else(|| not_found(&id))?;
    let row = row_of(rows, place, &id)?;
    if row.labelled {
        return Err(ApiError::new(StatusCode::CONFLICT, format!("`{}` has its label already", shown(&id))));
    }
    let truth = label.read(&row.said, by.labels())?;
    by.labelled(&truth, &row.said);
    row.labelled = true;
    Ok(Counted {
        row: place,
        label: Named::of(&truth, by),
        predicted: Named::of(&row.said, by),
        correct: truth == row.said,
        model: by.release().model.to_string(),
        version: by.release().version.to_string(),
        id,
    })
}

/// The row that is meant: the only one where none is named.
fn row_of<'r>(rows: &'r mut [Row], place: Option<usize>, id: &str) -> Result<&'r mut Row, ApiError> {
    let count = rows.len();
    let named = place.or_else(|| (count == 1).then_some(0));
    let which = format!("`{}` was answered with {count} rows: name one as `row`, from 0", shown(id));
    named.and_then(|place| rows.get_mut(place)).ok_or_else(|| ApiError::bad_request(which))
}

fn not_found(id: &str) -> ApiError {
    let why = "is not among the last predictions: it is too old, or no answer of classes";
    ApiError::new(StatusCode::NOT_FOUND, format!("`{}` {why}", shown(id)))
}
