use super::*;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::post;
use fieldpost_shared::trust::SecretKey;

/// A name that resolves nowhere (RFC 6761): what is refused must be refused before anything is sent.
const ELSEWHERE: &str = "http://controller.invalid:7400";

fn request(token: &str) -> EnrollRequest {
    let public_key = SecretKey::generate().unwrap().public();
    EnrollRequest { token: token.to_owned(), public_key, device: None, labels: BTreeMap::new(), inventory: None }
}

async fn check(controller: &str, token: &str, pinned: Option<Digest>) -> EnrollError {
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = http_client(None).unwrap();
    enroll(&client, controller, &request(token), pinned).await.unwrap_err()
}

async fn served(router: axum::Router) -> (String, tokio::task::JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, server)
}

#[tokio::test]
async fn a_token_does_not_travel_in_the_clear() {
    assert!(matches!(check(ELSEWHERE, "fp_secret", None).await, EnrollError::Plain { .. }));
    assert!(matches!(check(ELSEWHERE, "fp_secret", Some(Digest::of(b"root"))).await, EnrollError::Plain { .. }));
}

#[tokio::test]
async fn a_root_does_not_come_in_the_clear_unless_it_is_pinned() {
    assert!(matches!(check(ELSEWHERE, "", None).await, EnrollError::Plain { .. }));
    assert!(matches!(check(ELSEWHERE, "", Some(Digest::of(b"root"))).await, EnrollError::Unreachable { .. }));
}

#[tokio::test]
async fn what_is_no_address_is_named() {
    for address in ["controller:7400", "ftp://controller", ""] {
        assert!(matches!(check(address, "", None).await, EnrollError::Address { .. }), "{address}");
    }
}

#[tokio::test]
async fn only_loopback_is_this_machine() {
    let is = |url: &str| is_loopback(&Url::parse(url).unwrap());
    assert!(is("http://127.0.0.1:1") && is("http://localhost") && is("http://[::1]:7400"));
    assert!(!is("http://127.0.0.1.example") && !is("http://10.0.0.1"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let thief = axum::Router::new().route("/v1/enroll", post(async || (StatusCode::IM_A_TEAPOT, "the thief")));
    let (thief, _thief) = served(thief).await;
    let to = format!("{thief}/v1/enroll");
    let honest = axum::Router::new().route("/v1/enroll", post(async move || Redirect::temporary(&to)));
    let (honest, _honest) = served(honest).await;
    let error = check(&honest, "fp_secret", None).await;
    assert!(matches!(error, EnrollError::Refused { status: 307, .. }), "{error:?}");
}
