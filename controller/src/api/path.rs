//! The segments of a path, refused in the form that every other refusal has.

use super::ApiError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// As axum's own `Path`; a segment that cannot be read is an [`ApiError`].
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(segments) = axum::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(segments))
    }
}
