//! The paths, and what stands behind them.

use super::access::Told;
use super::call::{Call, Form, Reply};
use super::coding::{self, Coding};
use super::error::ApiError;
use super::metrics::TurnedAway;
use super::oip::messages::ServerMetadataResponse;
use super::oip::metadata::{self, Health, ModelReady};
use super::oip::{infer, own, routes};
use super::path::Path;
use super::pool::{Pool, Refused};
use super::registry::{Live, Registry};
use super::request::{self, Held, REQUEST_ID_HEADER, RequestId, RequestIds, Room};
use super::route::{Around, Own, route};
use super::seats::Seat;
use super::server::{ServeSettings, StatusHandle};
use super::{feedback, metrics, page, predict};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What every handler has.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: ServeSettings,
    pub(crate) registry: Registry,
    pub(crate) status: StatusHandle,
    pub(crate) pool: Pool<Call>,
    pub(crate) room: Room,
    pub(crate) ids: RequestIds,
}

type Shared = State<Arc<App>>;

/// All paths. Those of the protocol are taken with and without a slash at the end where clients differ.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/predict", post(predict_any))
        .route("/v2/models/{model}/predict", post(predict_model))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}", get(model_metadata))
        .route("/v2/models/{model}/versions/{version}", get(model_metadata))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2", get(server_metadata))
        .route("/v2/", get(server_metadata))
        .route("/metrics", get(metrics_text))
        .route("/status", get(status))
        .merge(feedback::routes())
        .merge(page::routes())
        .merge(routes::routes())
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "no such path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .with_state(app)
}

#[derive(Debug, Deserialize)]
struct AnyModel {
    model: Option<String>,
}

/// What a path names.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) model: String,
    pub(crate) version: Option<String>,
}

async fn predict_any(
    State(app): Shared,
    query: Result<Query<AnyModel>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::of(StatusCode::BAD_REQUEST, &error))?;
    Ok(answer(&app, query.model.as_deref(), None, Ok(None), request).await)
}

async fn predict_model(State(app): Shared, Path(path): Path<Named>, request: Request) -> Response {
    answer(&app, Some(&path.model), None, Ok(None), request).await
}

async fn infer(State(app): Shared, Path(path): Path<Named>, request: Request) -> Response {
    let form = infer::json_bytes(request.headers()).map(|json_bytes| Some(Form::Tensors { json_bytes }));
    answer(&app, Some(&path.model), path.version.as_deref(), form, request).await
}

/// What the path and the head say of a request's form; `None` leaves it to the body.
type Stated = Result<Option<Form>, ApiError>;

/// Answers a prediction.
async fn answer(app: &App, model: Option<&str>, version: Option<&str>, form: Stated, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let id = app.ids.of(&parts.headers);
    let id_header = id.header();
    let mut told = Told::of(app, id.as_str(), model, version);
    let reply = match whole(app, model, version, form, &parts, body, id).await {
        Ok((live, whole)) => {
            told.goes_to(&live);
            // From here on the connection keeps its place.
            let _running = parts.extensions.get::<Seat>().map(Seat::running);
            ask(app, live, whole).await
        }
        Err(refusal) => {
            app.registry.metrics().turned_away(TurnedAway::Http(refusal.status));
            Err(refusal)
        }
    };
    let mut response = match reply {
        Ok(written) => written.into_response(),
        Err(error) => error.into_response(),
    };
    told.end(app, parts.uri.path(), response.status().as_u16());
    if let Some(id) = id_header {
        response.headers_mut().insert(REQUEST_ID_HEADER, id);
    }
    response
}

/// Reads a request whole, and finds the release that is to answer it.
async fn whole(
    app: &App,
    model: Option<&str>,
    version: Option<&str>,
    form: Stated,
    parts: &Parts,
    body: Body,
    id: RequestId,
) -> Result<(Arc<Live>, Whole), ApiError> {
    let headers = &parts.headers;
    // Who asks for what is not here is told so before it sends a large body, and so is who sends what cannot be read.
    let admit = || {
        let form = form?;
        find(app, model, version)?;
        let patience = request::patience(headers, app.settings.deadline)?;
        let room = app.room.take(request::stated_bytes(headers), app.settings.max_body_bytes)?;
        Ok((form, patience, Coding::of_body(headers)?, room))
    };
    let (form, patience, packed, room) = match admit() {
        Ok(admitted) => admitted,
        Err(refusal) => {
            request::drain(headers, body).await;
            return Err(refusal);
        }
    };
    let (max_bytes, timeout) = (app.settings.max_body_bytes, app.settings.read_timeout);
    let mut body = request::body(headers, body, max_bytes, timeout, &app.room, room).await?;
    if let Some(coding) = packed {
        body = coding::unpack(coding, body, max_bytes, app.room.clone()).await?;
    }
    // Only now, so that it is the release that is live when the request is whole: a slow sender does not hold an old one.
    let mut live = find(app, model, version)?;
    // Who names a version has chosen already.
    if let (None, Some(by)) = (version, live.split_by()) {
        let own = match form {
            Some(Form::Tensors { json_bytes }) => own::of(&body.bytes, json_bytes, by.parameter()).await,
            _ => Own::default(),
        };
        live = route(live, &by, own, Around { id: &id, headers, uri: Some(&parts.uri) });
    }
    let form = match form {
        Some(form) => form,
        None => predict::form_of(headers, &body.bytes, &live.model.manifest().preprocess)?,
    };
    Ok((live, Whole { form, body, id, patience, coding: Coding::accepted(headers) }))
}

/// A request that is all here.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) form: Form,
    pub(crate) body: Held,
    pub(crate) id: RequestId,
    pub(crate) patience: Duration,
    pub(crate) coding: Option<Coding>,
}

/// Queues a request and waits for its answer: the one way to a model, for HTTP and gRPC.
pub(crate) async fn ask(app: &App, live: Arc<Live>, whole: Whole) -> Reply {
    let Whole { form, body: Held { bytes: body, room }, id, patience, coding } = whole;
    let (reply, heard) = oneshot::channel();
    let queued = app.registry.clock().monotonic();
    let pending = live.metrics.pending();
    let call = Call { live: Arc::clone(&live), form, body, id, queued, patience, reply, pending, coding, room };
    match app.pool.submit(call) {
        Ok(None) => {}
        // It was there before, but its model has most waiting.
        Ok(Some(out)) => out.refuse(),
        Err(Refused(call)) => call.refuse(),
    }
    drop(live);
    wait(heard, patience).await
}

/// The answer, or 504 when it is not there in time; the call itself counts why nobody heard it.
async fn wait(heard: oneshot::Receiver<Reply>, patience: Duration) -> Reply {
    match tokio::time::timeout(patience, heard).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_dropped)) => Err(ApiError::unavailable("the server is going down, or a thread of it broke")),
        Err(_elapsed) => Err(ApiError::deadline()),
    }
}

/// The live release of a model, or, where a version is named, the arm that has it.
pub(crate) fn find(app: &App, model: Option<&str>, version: Option<&str>) -> Result<Arc<Live>, ApiError> {
    let live = app.registry.find(model)?;
    let Some(asked) = version else { return Ok(live) };
    // The other arm of a split answers who asks for it by its version; a shadow answers nobody.
    live.arms().into_iter().find(|arm| arm.version() == asked).ok_or_else(|| {
        let message = format!("version {} of `{}` is live, and no other", live.version(), live.release().model);
        ApiError::new(StatusCode::NOT_FOUND, message)
    })
}

async fn model_ready(State(app): Shared, Path(path): Path<Named>) -> Response {
    match find(&app, Some(&path.model), path.version.as_deref()) {
        Ok(_) => Json(ModelReady { name: &path.model, ready: true }).into_response(),
        Err(error) if error.status == StatusCode::SERVICE_UNAVAILABLE => {
            (error.status, Json(ModelReady { name: &path.model, ready: false })).into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn model_metadata(State(app): Shared, Path(path): Path<Named>) -> Result<Response, ApiError> {
    let live = find(&app, Some(&path.model), path.version.as_deref())?;
    let versions = app.registry.versions(&path.model)?;
    Ok(Json(metadata::model(live.model.as_ref(), versions)).into_response())
}

async fn server_metadata() -> Json<ServerMetadataResponse> {
    Json(metadata::server())
}

async fn live(State(app): Shared) -> Json<Health> {
    Json(Health { live: true, ready: app.registry.is_ready() })
}

async fn ready(State(app): Shared) -> (StatusCode, Json<Health>) {
    let ready = app.registry.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { live: true, ready }))
}

async fn metrics_text(State(app): Shared, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (content_type, text) = app.registry.metrics().text(accept.contains(metrics::OPEN_METRICS_TYPE));
    ([(header::CONTENT_TYPE, content_type)], text)
}

async fn status(State(app): Shared) -> Json<serde_json::Value> {
    Json(app.status.borrow().clone())
}
