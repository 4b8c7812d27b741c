//! Who asks: a bearer token, and the role that it has.

use super::types::Role;
use super::{Api, ApiError};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

/// Whoever sent a request with a valid token. A handler that takes one cannot be reached without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For the audit log: role and token id.
    pub actor: String,
    /// What the token may do.
    pub role: Role,
}

impl Caller {
    /// Whether the caller may do what a role may.
    ///
    /// # Errors
    /// 403, naming both roles.
    pub fn must_be(&self, needed: Role) -> Result<(), ApiError> {
        if self.role.includes(needed) {
            return Ok(());
        }
        let error = format!("this needs the role {needed}, the token has {}", self.role);
        Err(ApiError::new(StatusCode::FORBIDDEN, error)
            .hint("use a token of that role: `fieldpost token create --role`"))
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            header.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = token else {
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "this needs a token")
                .hint("pass --token, or set FIELDPOST_TOKEN; the first one is in admin.token of the data directory"));
        };
        match api.tokens.role_of(token.trim()) {
            Some((id, role)) => Ok(Self { actor: format!("{role} {id}"), role }),
            None => Err(ApiError::new(StatusCode::UNAUTHORIZED, "the token is unknown or has expired")
                .hint("an admin makes a new one with `fieldpost token create`")),
        }
    }
}
