//! What a browser on the box sends for a page of somebody else's. The server listens on loopback, where pages of other sites
//! reach it: a form of theirs posts without asking first, and a name of theirs may lead to 127.0.0.1 (DNS rebinding). Either
//! could feed a model requests, which then count as evidence of a rollout, or read what the box is.

use super::error::ApiError;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{self, HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Refuses what comes by a name of somebody else's, or from a page there.
pub(super) async fn guard(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    match check(&request, &hosts) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) fn check<B>(request: &http::Request<B>, hosts: &[String]) -> Result<(), ApiError> {
    let refuse = |message: String| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    let headers = request.headers();
    let host = only(headers, &header::HOST)?;
    for asked in host.iter().map(String::as_str).chain(request.uri().authority().map(Authority::as_str)) {
        if !is_ours(asked, hosts) {
            return refuse(format!(
                "`Host: {asked}` is a name of another site: this server answers to addresses, `localhost`, names without a \
                 dot, and those of `http_hosts` in agent.toml"
            ));
        }
    }
    if let Some(origin) = only(headers, &header::ORIGIN)? {
        let asked = host.as_deref().or_else(|| request.uri().authority().map(Authority::as_str));
        if !is_own_page(&origin, asked, hosts) {
            return refuse(format!(
                "a page of another site (`Origin: {origin}`) may not send requests to this server; `http_hosts` in agent.toml \
                 names those whose pages may"
            ));
        }
    }
    // A link to the page here is followed by GET; anything else from another site says so where it has no Origin.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match only(headers, &SEC_FETCH_SITE)? {
        Some(site) if site == "cross-site" && !reads => refuse(
            "a page of another site (`Sec-Fetch-Site: cross-site`) may not send requests to this server".to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Fetch Metadata Request Headers, section 2.4.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The one value of a header; two would let another reader see another one.
fn only(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match values.next() {
        Some(_) => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, format!("the request has more than one `{name}` header")))
        }
        None => Ok(first),
    }
}

/// Whether a host with or without port is an address, a name that nobody outside can register, or one that was named.
fn is_ours(asked: &str, hosts: &[String]) -> bool {
    // A Unix socket has no name, and some clients send an empty one.
    let Some((name, _)) = parted(asked) else { return asked.is_empty() };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let local = name == "localhost" || name.ends_with(".localhost") || !name.contains('.');
    address.parse::<IpAddr>().is_ok() || local || is_named(&name, hosts)
}

/// Whether a page came from this server, by the name that it is asked by now, or from one that was named.
fn is_own_page(origin: &str, asked: Option<&str>, hosts: &[String]) -> bool {
    let Some((scheme, page)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let Some((name, port)) = parted(page) else { return false };
    let same = asked
        .and_then(parted)
        .is_some_and(|(asked, at)| asked == name && at.unwrap_or(default) == port.unwrap_or(default));
    same || is_named(&name, hosts)
}

fn is_named(name: &str, hosts: &[String]) -> bool {
    hosts.iter().any(|host| parted(host).is_some_and(|(host, _)| host == name))
}

/// Name in small letters without the dot at its end, and port. None for what is no host, or says who asks.
fn parted(host: &str) -> Option<(String, Option<u16>)> {
    // RFC 3986 has IPv6 addresses in brackets; some clients leave them out.
    if host.parse::<Ipv6Addr>().is_ok() {
        return Some((host.to_ascii_lowercase(), None));
    }
    let authority: Authority = host.parse().ok().filter(|_| !host.contains('@'))?;
    let name = authority.host().to_ascii_lowercase();
    let name = name.strip_suffix('.').map_or(name.clone(), ToOwned::to_owned);
    let port = match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') && !port.is_empty() => Some(port.parse().ok()?),
        _ => None,
    };
    (!name.is_empty()).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, uri: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let hosts = ["box.example".to_owned()];
        check(&request.body(()).unwrap(), &hosts).err().map(|refusal| refusal.status.as_u16())
    }

    fn by_host(host: &str) -> Option<u16> {
        status(Method::POST, "/predict", &[("host", host)])
    }

    fn by_page(host: &str, origin: &str) -> Option<u16> {
        status(Method::POST, "/predict", &[("host", host), ("origin", origin)])
    }

    #[test]
    fn addresses_and_names_without_a_dot_are_answered() {
        for host in [
            "127.0.0.1:8000",
            "127.0.0.1",
            "[::1]:8000",
            "[::1]",
            "::1",
            "localhost",
            "localhost.",
            "LOCALHOST:80",
            "box-7:8000",
            "a.LOCALHOST:1",
            "box.example:8443",
            "",
        ] {
            assert_eq!(by_host(host), None, "{host}");
        }
        assert_eq!(status(Method::POST, "/predict", &[]), None);
    }

    #[test]
    fn names_of_others_are_refused() {
        for host in [
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io:8000",
            "evil example",
            "evil:example",
            "localhost@evil.example",
            "box.example.evil.example",
            ":::",
            ":8000",
        ] {
            assert_eq!(by_host(host), Some(403), "{host}");
        }
        assert_eq!(status(Method::POST, "http://evil.example/predict", &[("host", "127.0.0.1:8000")]), Some(403));
        assert_eq!(status(Method::POST, "http://127.0.0.1:8000/predict", &[("host", "127.0.0.1:8000")]), None);
        for twice in ["host", "origin"] {
            let headers = [(twice, "127.0.0.1:8000"), (twice, "evil.example")];
            assert_eq!(status(Method::POST, "/predict", &headers), Some(400), "{twice}");
        }
    }

    #[test]
    fn pages_of_others_are_refused_by_whatever_name_they_have() {
        for origin in [
            "http://evil.example",
            "https://evil.example:8000",
            "null",
            "",
            "http://127.0.0.1.evil.example",
            "http://203.0.113.7",
            "http://[2001:db8::1]",
            "http://evil",
            "http://x@127.0.0.1:8000",
            "chrome-extension://abcdef",
            "file://127.0.0.1:8000",
            "http://127.0.0.1:3000",
            "http://localhost:8000",
        ] {
            assert_eq!(by_page("127.0.0.1:8000", origin), Some(403), "{origin}");
        }
        assert_eq!(status(Method::POST, "/predict", &[("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(status(Method::GET, "/", &[("sec-fetch-site", "cross-site")]), None, "a link");
        assert_eq!(status(Method::POST, "/predict", &[("sec-fetch-site", "same-origin")]), None);
    }

    #[test]
    fn the_page_here_is_answered_by_whatever_name_it_was_asked_for() {
        for (host, origin) in [
            ("localhost:8000", "http://localhost:8000"),
            ("LOCALHOST:8000", "http://localhost:8000"),
            ("[::1]:8000", "http://[::1]:8000"),
            ("10.0.0.7:8000", "http://10.0.0.7:8000"),
            ("box-7", "http://box-7:80"),
            ("box.example", "https://BOX.example"),
            ("127.0.0.1:8000", "https://box.example:8443"),
        ] {
            assert_eq!(by_page(host, origin), None, "{host} {origin}");
        }
    }
}
