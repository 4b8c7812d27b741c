//! Lists in pages: at most [`MAX_PAGE`] entries in one answer, and the way to the next in its `Link` header
//! (RFC 8288, `rel="next"`). A page begins behind an entry that is named, never at a number, so that what comes or
//! goes meanwhile shifts nothing.

use super::ApiError;
use axum::Json;
use axum::http::header::LINK;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use reqwest::Url;
use serde::Serialize;

/// Most entries in one answer.
pub const MAX_PAGE: usize = 1_000;

/// How many entries an answer has at most.
///
/// # Errors
/// When more are asked for than one answer may have, or less than `least`.
pub(super) fn size(limit: Option<usize>, least: usize) -> Result<usize, ApiError> {
    match limit {
        None => Ok(MAX_PAGE),
        Some(limit) if (least..=MAX_PAGE).contains(&limit) => Ok(limit),
        Some(limit) => {
            let refusal = format!("`limit` is {limit}, and must be {least} to {MAX_PAGE}");
            Err(ApiError::new(StatusCode::BAD_REQUEST, refusal)
                .hint("ask for the next page with `after`; the Link header has its address"))
        }
    }
}

/// An answer that may have a next page.
#[derive(Debug)]
pub(super) struct Page<T> {
    /// What this page has.
    pub(super) body: T,
    /// Address of the next one.
    pub(super) next: Option<HeaderValue>,
}

impl<T> Page<T> {
    /// A page; `after` names its last entry where more follow, which `path` gives by the same query.
    pub(super) fn new(body: T, uri: &Uri, path: &str, after: Option<&str>) -> Self {
        Self { body, next: after.and_then(|after| link(uri, path, after)) }
    }
}

impl<T> Page<Vec<T>> {
    /// The first `limit` of `entries`, of which one more than that says that more follow.
    pub(super) fn cut(mut entries: Vec<T>, limit: usize, uri: &Uri, name: impl Fn(&T) -> String) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        let after = entries.last().filter(|_| more).map(name);
        Self::new(entries, uri, uri.path(), after.as_deref())
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if let Some(next) = self.next {
            response.headers_mut().insert(LINK, next);
        }
        response
    }
}

/// `</v1/devices?selector=a%3Db&after=box-9>; rel="next"`
fn link(uri: &Uri, path: &str, after: &str) -> Option<HeaderValue> {
    // A base that only serves to edit the query; a reference without it is what is sent.
    let mut url = Url::parse("http://controller").ok()?;
    url.set_path(path);
    let asked = Url::parse(&format!("http://controller/?{}", uri.query().unwrap_or_default())).ok()?;
    // Waiting and counting from the end belong to the first page.
    let kept = asked.query_pairs().filter(|(name, _)| !matches!(name.as_ref(), "after" | "last" | "wait_s"));
    url.query_pairs_mut().extend_pairs(kept).append_pair("after", after);
    HeaderValue::try_from(format!("<{}?{}>; rel=\"next\"", url.path(), url.query().unwrap_or_default())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(uri: &str, after: &str) -> String {
        let uri: Uri = uri.parse().unwrap();
        link(&uri, uri.path(), after).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn the_next_page_is_asked_for_by_the_same_query() {
        assert_eq!(next("/v1/devices", "box-9"), r#"</v1/devices?after=box-9>; rel="next""#);
        assert_eq!(
            next("/v1/devices?selector=a%3Db&limit=2&after=box-1&wait_s=3", "box-9"),
            r#"</v1/devices?selector=a%3Db&limit=2&after=box-9>; rel="next""#
        );
    }

    #[test]
    fn an_answer_never_has_more_than_a_page() {
        assert_eq!(size(None, 1).unwrap(), MAX_PAGE);
        assert_eq!(size(Some(MAX_PAGE), 1).unwrap(), MAX_PAGE);
        assert!(size(Some(MAX_PAGE + 1), 1).is_err());
        assert!(size(Some(0), 1).is_err());
        assert_eq!(size(Some(0), 0).unwrap(), 0);
    }

    #[test]
    fn only_a_page_that_was_cut_has_a_next_one() {
        let uri: Uri = "/v1/x".parse().unwrap();
        assert!(Page::cut(vec!["a", "b"], 2, &uri, |name| (*name).to_owned()).next.is_none());
        let cut = Page::cut(vec!["a", "b", "c"], 2, &uri, |name| (*name).to_owned());
        assert_eq!(cut.body, ["a", "b"]);
        assert_eq!(cut.next.unwrap(), r#"</v1/x?after=b>; rel="next""#);
    }
}
