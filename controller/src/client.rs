//! The controller's API as its clients see it: typed requests over HTTP, and errors that say what to do next.
//!
//! Nothing here prints; the generic verbs ([`Client::get`], [`Client::post`], ...) carry the name of the operation so
//! that an error can say what failed on which server.

use crate::api::page::MAX_PAGE;
use crate::cli::Exit;
use bytes::{Bytes, BytesMut};
pub use fieldpost_agent::identity::enroll::is_loopback;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::str::FromStr;
use std::time::Duration;
use std::{fmt, io};

/// Most bytes of an answer that are read into memory.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may be silent within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A bearer token. Its text is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A text that cannot be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is 1 to 512 visible ASCII characters")]
pub struct TokenError;

impl FromStr for Token {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let fits = (1..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(TokenError) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// A token as flags and the environment give it: an empty one, as a pipeline without its secret sets it, is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenToken(pub Option<Token>);

impl FromStr for GivenToken {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.trim().is_empty() { Ok(Self(None)) } else { text.parse().map(|token| Self(Some(token))) }
    }
}

/// Where the controller is, and who asks.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Its base address, such as `http://127.0.0.1:7400`.
    pub server: Url,
    /// The bearer token, if there is one.
    pub token: Option<Token>,
    /// The only certificate authorities to believe, as PEM; none believes the machine's own.
    pub ca_pem: Option<Vec<u8>>,
}

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client itself could not be made.
    #[error("cannot set up a client for {server}")]
    Setup {
        /// Which server it was for.
        server: Url,
        /// The reason.
        #[source]
        source: reqwest::Error,
    },
    /// A token must not travel in the clear.
    #[error("refusing to send a token to {0} over plain HTTP")]
    PlainToken(Url),
    /// No connection, or it broke.
    #[error("cannot {operation}: no answer from {server}")]
    Unreachable {
        /// What was asked for.
        operation: String,
        /// Which server.
        server: Url,
        /// The reason, without the address, which is already said.
        #[source]
        source: reqwest::Error,
    },
    /// The server answered that it will not.
    #[error("cannot {operation}")]
    Refused {
        /// What was asked for.
        operation: String,
        /// HTTP status.
        status: StatusCode,
        /// The server's reason.
        #[source]
        reason: Reason,
        /// The server's advice.
        hint: Option<String>,
    },
    /// The answer is not what the API promises.
    #[error("cannot {operation}: {server} gave an answer that this program does not understand")]
    Answer {
        /// What was asked for.
        operation: String,
        /// Which server.
        server: Url,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is larger than 64 MiB.
    #[error("cannot {operation}: the answer of {server} is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge {
        /// What was asked for.
        operation: String,
        /// Which server.
        server: Url,
    },
    /// The request has no JSON form.
    #[error("cannot {operation}: the request cannot be written as JSON")]
    Request {
        /// What was asked for.
        operation: String,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
}

/// What the server said when it refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub String);

impl ClientError {
    /// The exit code it stands for.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { source, .. } if mistake(source).is_some() => Exit::Usage,
            Self::Unreachable { .. } => Exit::Undecided,
            Self::Setup { .. } | Self::PlainToken(_) => Exit::Usage,
            Self::Refused { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Usage,
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                    Exit::Undecided
                }
                _ => Exit::Failed,
            },
            Self::Answer { .. } | Self::TooLarge { .. } | Self::Request { .. } => Exit::Failed,
        }
    }

    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Unreachable { source, .. } => match mistake(source) {
                Some(mistake) => mistake,
                None if source.is_connect() => {
                    "is it running? start it with `fieldpost serve`, or name another with --server"
                }
                None => "try again; if it stays away, look at the controller's log",
            },
            Self::PlainToken(_) => "use an https:// address, or a tunnel that ends on this machine",
            Self::Refused { hint: Some(hint), .. } => return Some(hint.clone()),
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                "pass --token or set FIELDPOST_TOKEN; the controller keeps its first one in DATA/admin.token"
            }
            Self::Refused { status: StatusCode::FORBIDDEN, .. } => {
                "the token's role does not allow this; `fieldpost token create --role ...` makes another"
            }
            Self::Answer { .. } => "are the controller and this program of the same version?",
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub fn transient(&self) -> bool {
        self.exit() == Exit::Undecided
    }
}

/// A connection to one controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    server: Url,
    token: Option<HeaderValue>,
    http: reqwest::Client,
}

/// What to do where the server is there and the way to it is wrong: trying again would never help.
fn mistake(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut link = Some(error);
    while let Some(error) = link {
        match error.downcast_ref() {
            Some(rustls::Error::InvalidCertificate(_)) => {
                return Some("name the authority that signed its certificate with --ca FILE; is the host name right?");
            }
            Some(rustls::Error::InvalidMessage(_)) => return Some("no TLS is spoken there: use an http:// address"),
            _ if error.to_string().starts_with("invalid HTTP version") => {
                return Some("no plain HTTP is spoken there: use an https:// address");
            }
            // An I/O error passes over what it holds when it names its cause.
            _ => match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(held) => link = Some(held),
                None => link = error.source(),
            },
        }
    }
    None
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// When a certificate cannot be read, or the token would travel in the clear to another machine.
    pub fn new(settings: &ClientSettings) -> Result<Self, ClientError> {
        let server = settings.server.clone();
        let plain = server.scheme() != "https";
        if plain && settings.token.is_some() && !is_loopback(&server) {
            return Err(ClientError::PlainToken(server));
        }
        let failed = |source: reqwest::Error| ClientError::Setup { server: server.clone(), source };
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("fieldpost/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&server) {
            // A proxy that the environment names is for other machines.
            builder = builder.no_proxy();
        }
        builder = match &settings.ca_pem {
            Some(pem) => builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?),
            // Without TLS no authority is needed, and a machine without any must do.
            None if plain => builder.tls_certs_only([]),
            None => builder,
        };
        let token = settings.token.as_ref().and_then(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.0)).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Ok(Self { http: builder.build().map_err(failed)?, token, server })
    }

    /// The controller's address.
    #[must_use]
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// An address below the server's: every segment and value is percent-encoded, so no name can reach elsewhere.
    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn send(
        &self,
        operation: &str,
        method: Method,
        url: Url,
        body: Option<Body>,
    ) -> Result<(HeaderMap, Bytes), ClientError> {
        let unreachable = |source: reqwest::Error| ClientError::Unreachable {
            operation: operation.to_owned(),
            server: self.server.clone(),
            source: source.without_url(),
        };
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, body.kind).body(body.bytes);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut answer = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            if answer.len().saturating_add(piece.len()) > MAX_ANSWER_BYTES {
                return Err(ClientError::TooLarge { operation: operation.to_owned(), server: self.server.clone() });
            }
            answer.extend_from_slice(&piece);
        }
        if status.is_success() { Ok((headers, answer.freeze())) } else { Err(refused(operation, status, &answer)) }
    }

    fn parse<T: DeserializeOwned>(&self, operation: &str, answer: &[u8]) -> Result<T, ClientError> {
        // An answer without content is the JSON `null`, so that `()` can be asked for.
        let answer = if answer.is_empty() { b"null" } else { answer };
        serde_json::from_slice(answer).map_err(|source| ClientError::Answer {
            operation: operation.to_owned(),
            server: self.server.clone(),
            source,
        })
    }

    /// `GET`: `operation` completes "cannot ...", `path` is given in segments.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or answers something else.
    pub async fn get<T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        self.page(operation, path, query).await.map(|(answer, _)| answer)
    }

    /// `GET` of one page: the answer, and what the next one begins behind, where there is one.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn page<T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<(T, Option<String>), ClientError> {
        let (headers, answer) = self.send(operation, Method::GET, self.url(path, query), None).await?;
        Ok((self.parse(operation, &answer)?, self.next(&headers)))
    }

    /// `GET` of a list: page after page, until it ends or has `limit` entries.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &[&str],
        query: &[(&str, &str)],
        limit: Option<usize>,
    ) -> Result<Vec<T>, ClientError> {
        self.list_after(operation, path, query, None, limit).await
    }

    /// The same from behind an entry on.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list_after<T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &[&str],
        query: &[(&str, &str)],
        mut after: Option<String>,
        limit: Option<usize>,
    ) -> Result<Vec<T>, ClientError> {
        let mut found: Vec<T> = Vec::new();
        loop {
            let wanted = limit.map(|limit| limit.saturating_sub(found.len()));
            if wanted == Some(0) {
                return Ok(found);
            }
            let size = wanted.map(|wanted| wanted.min(MAX_PAGE).to_string());
            let mut asked = query.to_vec();
            asked.extend(size.as_deref().map(|size| ("limit", size)));
            asked.extend(after.as_deref().map(|after| ("after", after)));
            let (page, next): (Vec<T>, _) = self.page(operation, path, &asked).await?;
            let empty = page.is_empty();
            found.extend(page);
            // An empty page that has a next one would be asked for without end.
            if next.is_none() || next == after || empty {
                return Ok(found);
            }
            after = next;
        }
    }

    /// What the next page begins behind, as the `Link` header of this one says. The header names no other server and
    /// no other path to ask: of its address the `after` alone is taken.
    fn next(&self, headers: &HeaderMap) -> Option<String> {
        let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let mut links = links.flat_map(|value| value.split(',')).filter_map(|link| link.trim().split_once('>'));
        let (target, _) = links.find(|(_, more)| more.contains("rel=\"next\""))?;
        let target = self.server.join(target.trim_start_matches('<')).ok()?;
        target.query_pairs().find(|(name, _)| name == "after").map(|(_, after)| after.into_owned())
    }

    /// `GET` of raw bytes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_bytes(
        &self,
        operation: &str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Bytes, ClientError> {
        self.send(operation, Method::GET, self.url(path, query), None).await.map(|(_, answer)| answer)
    }

    /// `POST` of JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &[&str],
        body: &B,
    ) -> Result<T, ClientError> {
        self.post_with(operation, path, &[], body).await
    }

    /// `POST` of JSON, with a query.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_with<B: Serialize, T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &[&str],
        query: &[(&str, &str)],
        body: &B,
    ) -> Result<T, ClientError> {
        let bytes = serde_json::to_vec(body)
            .map_err(|source| ClientError::Request { operation: operation.to_owned(), source })?;
        let body = Body { kind: "application/json", bytes: bytes.into() };
        let (_, answer) = self.send(operation, Method::POST, self.url(path, query), Some(body)).await?;
        self.parse(operation, &answer)
    }

    /// `PUT` of raw bytes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn put_bytes(&self, operation: &str, path: &[&str], bytes: Bytes) -> Result<(), ClientError> {
        let body = Body { kind: "application/octet-stream", bytes };
        self.send(operation, Method::PUT, self.url(path, &[]), Some(body)).await.map(drop)
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(&self, operation: &str, path: &[&str]) -> Result<(), ClientError> {
        self.send(operation, Method::DELETE, self.url(path, &[]), None).await.map(drop)
    }
}

struct Body {
    kind: &'static str,
    bytes: Bytes,
}

fn refused(operation: &str, status: StatusCode, answer: &[u8]) -> ClientError {
    #[derive(serde::Deserialize)]
    struct Problem {
        error: String,
        #[serde(default)]
        hint: Option<String>,
    }
    let problem: Option<Problem> = serde_json::from_slice(answer).ok();
    let (reason, hint) = match problem {
        Some(problem) => (problem.error, problem.hint),
        None => (status.to_string(), None),
    };
    ClientError::Refused { operation: operation.to_owned(), status, reason: Reason(reason), hint }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
