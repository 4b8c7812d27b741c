//! The control socket: what the commands of this box ask of the running agent. A Unix socket for its owner alone.

use crate::deploy::DriverHandle;
use crate::link::Rivals;
use crate::link::session::LineState;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::ModelName;
use fieldpost_shared::time::Clock;
use fieldpost_shared::wire::v1::Report;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The socket's name in the data directory.
pub const SOCKET: &str = "control.sock";

/// What the agent says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The line to the broker.
    pub line: LineState,
    /// Why the journal cannot be written, while it cannot.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Whether another agent runs with the same identity.
    #[serde(default)]
    pub rival: bool,
    /// What is reported to the controller.
    pub report: Report,
    /// Where predictions are served, as in the endpoints file.
    pub endpoints: serde_json::Value,
}

impl Status {
    /// The line in words.
    #[must_use]
    pub fn line_text(&self) -> String {
        match &self.line {
            LineState::Up => "up".to_owned(),
            LineState::Down { reason } => format!("down: {reason}"),
        }
    }
}

/// What the socket works on.
#[derive(Debug, Clone)]
pub struct Control {
    /// The deployments.
    pub driver: DriverHandle,
    /// The line.
    pub line: watch::Receiver<LineState>,
    /// The report.
    pub report: watch::Receiver<Report>,
    /// Where predictions are served.
    pub endpoints: serde_json::Value,
    /// Whether another agent runs with this identity.
    pub rivals: Arc<Rivals>,
    /// The time that holds are judged by.
    pub clock: Arc<dyn Clock>,
}

/// The control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the control socket `{}`", path.display())]
pub struct ControlError {
    path: std::path::PathBuf,
    #[source]
    source: std::io::Error,
}

/// Opens the socket. The database's lock guarantees that no other agent serves on it.
///
/// # Errors
/// When it cannot be made or protected.
pub fn bind(data_dir: &Path) -> Result<UnixListener, ControlError> {
    let path = data_dir.join(SOCKET);
    let failed = |source| ControlError { path: path.clone(), source };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Answers until shutdown.
pub async fn serve(listener: UnixListener, control: Control, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/status", get(status))
        .route("/rollback", post(rollback))
        .route("/hold", post(hold))
        .route("/release-hold", post(release_hold))
        .with_state(control);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await {
        tracing::error!(%error, "control socket failed");
    }
}

async fn status(State(control): State<Control>) -> Json<Status> {
    let (line, report) = (control.line.borrow().clone(), control.report.borrow().clone());
    let trouble = control.driver.status().borrow().trouble.clone();
    let rival = control.rivals.present(control.clock.monotonic());
    Json(Status { line, trouble, rival, report, endpoints: control.endpoints })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    model: ModelName,
}

async fn rollback(State(control): State<Control>, Json(body): Json<Rollback>) -> Response {
    match control.driver.rollback(body.model.clone()).await {
        Ok(live) => Json(json!({ "model": body.model, "live": live.to_string() })).into_response(),
        Err(error) => refuse(&error),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    reason: String,
    seconds: u64,
}

async fn hold(State(control): State<Control>, Json(body): Json<Hold>) -> Response {
    let until = control.clock.now().plus(Duration::from_secs(body.seconds.min(30 * 86_400)));
    match control.driver.hold(body.reason.chars().take(200).collect(), Some(until)).await {
        Ok(()) => Json(json!({ "until": until })).into_response(),
        Err(error) => refuse(&error),
    }
}

async fn release_hold(State(control): State<Control>) -> Response {
    match control.driver.release_hold().await {
        Ok(()) => Json(json!({})).into_response(),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &(dyn std::error::Error + 'static)) -> Response {
    (StatusCode::CONFLICT, Json(json!({ "error": Chain(error).to_string() }))).into_response()
}
