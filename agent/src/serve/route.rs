//! Which arm of a split answers a request. What it goes by is looked up only while there is a split.
//!
//! A parameter stands in the URL, or among the `parameters` of the protocol's requests. The id is the request's own, as the
//! protocol has it, else that of `x-request-id`, else one that was made for it: then chance decides.

use super::registry::Live;
use super::request::RequestId;
use super::rival::Sticky;
use axum::extract::Query;
use axum::http::{HeaderMap, Uri};
use std::sync::Arc;

/// What a request of the protocol says of itself, as far as that may decide.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) id: Option<String>,
    /// The value of the parameter that was asked for, a number as it was written.
    pub(crate) parameter: Option<String>,
}

/// What stands around a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) id: &'a RequestId,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) uri: Option<&'a Uri>,
}

/// The release that answers: the live one, or the other arm.
pub(crate) fn route(live: Arc<Live>, by: &Sticky, own: Own, around: Around<'_>) -> Arc<Live> {
    let key = key(by, own, around);
    let other = live.with_rival(|rival| rival?.answers(&key).cloned());
    other.unwrap_or(live)
}

fn key(by: &Sticky, own: Own, around: Around<'_>) -> String {
    let stated = match by {
        Sticky::Request => None,
        Sticky::Header(name) => around.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned),
        Sticky::Parameter(name) => around.uri.and_then(|uri| in_url(uri, name)).or(own.parameter),
    };
    stated.or(own.id).unwrap_or_else(|| around.id.as_str().to_owned())
}

fn in_url(uri: &Uri, name: &str) -> Option<String> {
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    query.0.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::super::request::RequestIds;
    use super::*;

    /// The key of a request that has everything but what is named `without`.
    fn of(by: &Sticky, without: &[&str]) -> String {
        let has = |what: &str| !without.contains(&what);
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "the header's id".parse().unwrap());
        if has("header") {
            headers.insert("x-line", "header".parse().unwrap());
        }
        let uri: Uri = if has("url") { "/?line=url" } else { "/" }.parse().unwrap();
        let own = |what: &str| has(what).then(|| what.to_owned());
        let own = Own { id: own("id"), parameter: own("parameter") };
        let id = RequestIds::new().of(&headers);
        key(by, own, Around { id: &id, headers: &headers, uri: Some(&uri) })
    }

    #[test]
    fn what_is_nearest_decides() {
        assert_eq!(of(&Sticky::Request, &[]), "id");
        assert_eq!(of(&Sticky::Request, &["id"]), "the header's id");
        let by_header = Sticky::Header("x-line".to_owned());
        assert_eq!([of(&by_header, &[]), of(&by_header, &["header"])], ["header", "id"]);
        let by_parameter = Sticky::Parameter("line".to_owned());
        assert_eq!([of(&by_parameter, &[]), of(&by_parameter, &["url"])], ["url", "parameter"]);
        assert_eq!(of(&by_parameter, &["url", "parameter"]), "id");
        assert_eq!(of(&by_parameter, &["url", "parameter", "id"]), "the header's id");
    }
}
