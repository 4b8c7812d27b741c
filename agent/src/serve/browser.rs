//! What a browser on the box sends for a page of somebody else's. The server listens on loopback, where pages of other sites
//! reach it: a form of theirs posts without asking first, and a name of theirs may lead to 127.0.0.1 (DNS rebinding). Either
//! could feed a model requests, which then count as evidence of a rollout, or read what the box is.

use super::error::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// Refuses what comes by a name of somebody else's, or from a page there.
pub(super) async fn guard(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    match check(request.headers(), &hosts) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(headers: &HeaderMap, hosts: &[String]) -> Result<(), ApiError> {
    let refuse = |message: String| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    if let Some(host) = headers.get(header::HOST).map(text).filter(|host| !is_ours(host, hosts)) {
        return refuse(format!(
            "`Host: {host}` is a name of another site: this server answers to addresses, `localhost`, names without a dot, and \
             those of `http_hosts` in agent.toml"
        ));
    }
    let origin = headers.get(header::ORIGIN).map(text);
    let page = |origin: &String| origin.split_once("://").is_some_and(|(_, host)| is_ours(host, hosts));
    match origin.filter(|origin| !page(origin)) {
        Some(origin) => {
            refuse(format!("a page of another site (`Origin: {origin}`) may not send requests to this server"))
        }
        None => Ok(()),
    }
}

/// Whether a host with or without port is an address, a name that nobody outside can register, or one that was named.
fn is_ours(host: &str, hosts: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let named = hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok() || name.ends_with(".localhost") || !name.contains('.') || named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(headers: &[(header::HeaderName, &str)]) -> Option<StatusCode> {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        check(&headers, &["box.example".to_owned()]).err().map(|refusal| refusal.status)
    }

    #[test]
    fn addresses_and_names_without_a_dot_are_answered() {
        for host in [
            "127.0.0.1:8000",
            "[::1]:8000",
            "[::1]",
            "::1",
            "localhost",
            "LOCALHOST:80",
            "box-7:8000",
            "a.localhost:1",
            "",
        ] {
            assert_eq!(status(&[(header::HOST, host)]), None, "{host}");
        }
        assert_eq!(status(&[]), None);
    }

    #[test]
    fn names_of_others_and_pages_of_others_are_refused() {
        for host in ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "127.0.0.1.nip.io:8000"] {
            assert_eq!(status(&[(header::HOST, host)]), Some(StatusCode::FORBIDDEN), "{host}");
        }
        for origin in ["http://evil.example", "https://evil.example:8000", "null", "", "http://127.0.0.1.evil.example"]
        {
            let headers = [(header::HOST, "127.0.0.1:8000"), (header::ORIGIN, origin)];
            assert_eq!(status(&headers), Some(StatusCode::FORBIDDEN), "{origin}");
        }
        let proxied = [(header::HOST, "box.example"), (header::ORIGIN, "https://BOX.example")];
        assert_eq!(status(&proxied), None);
        let own = [(header::HOST, "localhost:8000"), (header::ORIGIN, "http://localhost:8000")];
        assert_eq!(status(&own), None);
    }
}
