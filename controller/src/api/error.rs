//! What a request that fails is answered with.

use super::types::ErrorBody;
use crate::fleet::FleetError;
use crate::fleet::devices::DeviceError;
use crate::releases::{BlobError, ReleaseError};
use crate::store::StoreError;
use crate::tokens::TokenError;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::trust::TrustError;
use std::error::Error;

/// A refusal: a status, what failed, and what to do next where that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    /// A refusal in the words of an error and its causes.
    #[must_use]
    pub fn of(status: StatusCode, error: &(dyn Error + 'static)) -> Self {
        Self::new(status, Chain(error).to_string())
    }

    /// A refusal in words.
    #[must_use]
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { error: error.into(), hint: None } }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = Some(hint.into());
        self
    }

    /// A failure of the controller itself: 500, logged here.
    #[must_use]
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %Chain(error), "request failed");
        Self::of(StatusCode::INTERNAL_SERVER_ERROR, error).hint("see the controller's log")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<DeviceError> for ApiError {
    fn from(error: DeviceError) -> Self {
        let refuse = |status| Self::of(status, &error);
        match &error {
            DeviceError::NoSuch(_) => {
                refuse(StatusCode::NOT_FOUND).hint("`fieldpost device list` shows the fleet's devices")
            }
            DeviceError::Taken(_) => refuse(StatusCode::CONFLICT)
                .hint("choose another --device name, or revoke the old device if this box replaces it"),
            DeviceError::KnownAs(id) => {
                let hint = format!("enrol with --device {id}, or without --device");
                refuse(StatusCode::CONFLICT).hint(hint)
            }
            DeviceError::Revoked(_) => {
                refuse(StatusCode::FORBIDDEN).hint("a revoked key stays revoked: make a new one")
            }
            DeviceError::NoToken => refuse(StatusCode::UNAUTHORIZED).hint(
                "make one with `fieldpost token create --enroll`, or allow approval with `enroll.approval = true`",
            ),
            DeviceError::Crowded => refuse(StatusCode::TOO_MANY_REQUESTS).hint("approve or revoke waiting devices"),
            DeviceError::Labels(_) => refuse(StatusCode::BAD_REQUEST),
            DeviceError::Token(_) => {
                refuse(StatusCode::UNAUTHORIZED).hint("make a new one with `fieldpost token create --enroll`")
            }
            DeviceError::Store(_) => Self::internal(&error),
        }
    }
}

impl From<FleetError> for ApiError {
    fn from(error: FleetError) -> Self {
        let refuse = |status| Self::of(status, &error);
        match &error {
            FleetError::NoDevice(_) | FleetError::NoRelease(_) => refuse(StatusCode::NOT_FOUND),
            FleetError::NotActive { .. } => refuse(StatusCode::CONFLICT),
            FleetError::Ahead(_) => refuse(StatusCode::CONFLICT).hint("decide with `fieldpost device accept`"),
            FleetError::NotAhead(_) => refuse(StatusCode::CONFLICT)
                .hint("there is nothing to decide; `fieldpost device list` shows where there is"),
            FleetError::Unknown { .. } => refuse(StatusCode::CONFLICT)
                .hint("push it (`fieldpost bundle push`) and keep it then, or --restore what this controller says"),
            FleetError::Desired(_) | FleetError::Release(_) | FleetError::Store(_) => Self::internal(&error),
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let refuse = |status| Self::of(status, &error);
        match &error {
            TokenError::Random(_) | TokenError::Store(_) => Self::internal(&error),
            TokenError::Labels(_) | TokenError::Uses | TokenError::Lifetime | TokenError::Note => {
                refuse(StatusCode::BAD_REQUEST)
            }
            TokenError::Unknown | TokenError::Expired(_) | TokenError::UsedUp(_) => refuse(StatusCode::UNAUTHORIZED),
            TokenError::NoSuch(_) => refuse(StatusCode::NOT_FOUND).hint("`fieldpost token list` shows them"),
        }
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        if error.disk_full() {
            return Self::of(StatusCode::INSUFFICIENT_STORAGE, &error).hint("free space on the controller's disk");
        }
        match &error {
            BlobError::Refused { .. } => Self::of(StatusCode::BAD_REQUEST, &error),
            _ => Self::internal(&error),
        }
    }
}

impl From<ReleaseError> for ApiError {
    fn from(error: ReleaseError) -> Self {
        let refuse = |status| Self::of(status, &error);
        match &error {
            ReleaseError::Manifest(_) | ReleaseError::TooLarge(_) => refuse(StatusCode::BAD_REQUEST),
            // What is wrong is the bundle or the root, and not who pushes it.
            ReleaseError::Trust(trust) => refuse(StatusCode::UNPROCESSABLE_ENTITY).hint(match trust {
                TrustError::Threshold { .. } => {
                    "sign with a publisher key of the fleet's root: `fieldpost trust show` lists them"
                }
                TrustError::DoublySigned(_) => "each key signs once: pack it again",
                TrustError::RootExpired(_) => {
                    "an owner of the root's key makes it last longer: `fieldpost trust renew`"
                }
                TrustError::Revoked(_) => "a revoked release stays revoked: mend it, raise `version` and pack it again",
            }),
            ReleaseError::Missing { .. } => {
                refuse(StatusCode::CONFLICT).hint("push again: only what is missing is sent")
            }
            ReleaseError::Taken { .. } => refuse(StatusCode::CONFLICT).hint("raise `version` in bundle.toml"),
            ReleaseError::Pack(_) | ReleaseError::Store(_) => Self::internal(&error),
            ReleaseError::Blob(blob) if blob.disk_full() => {
                refuse(StatusCode::INSUFFICIENT_STORAGE).hint("free space on the controller's disk")
            }
            ReleaseError::Blob(_) => Self::internal(&error),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

/// The answer to a method that a path does not take.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("`{}` does not take {method}", uri.path()))
}

pub(super) async fn no_such_route(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at `{}`", uri.path()))
}
