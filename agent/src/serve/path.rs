//! The segments of a path, refused in the form that every other refusal has.

use super::error::ApiError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// As axum's own `Path`; a segment that is no UTF-8 is an [`ApiError`].
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let segments = axum::extract::Path::from_request_parts(parts, state).await;
        segments
            .map(|axum::extract::Path(segments)| Self(segments))
            .map_err(|refused| ApiError::of(refused.status(), &refused))
    }
}
