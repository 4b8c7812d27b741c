use super::*;
use crate::cli::Failure;
use axum::Router;
use axum::routing::{get, post};

fn settings(server: &str, token: Option<&str>) -> ClientSettings {
    crate::install_crypto();
    ClientSettings { server: server.parse().unwrap(), token: token.map(|t| t.parse().unwrap()), ca_pem: None }
}

/// A server on a port of its own; it goes away with the returned guard.
async fn served(router: Router) -> (Client, tokio::task::JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (Client::new(&settings(&format!("http://{address}"), Some("secret"))).unwrap(), tasks)
}

fn shown(error: ClientError, client: &Client) -> String {
    Failure::from(error).to_string().replace(client.server().as_str(), "http://SERVER/")
}

#[tokio::test]
async fn the_token_travels_and_the_answer_is_typed() {
    let echo = |headers: HeaderMap| async move {
        axum::Json(headers.get("authorization").unwrap().to_str().unwrap().to_owned())
    };
    let (client, _tasks) = served(Router::new().route("/v1/echo", get(echo))).await;
    let answer: String = client.get("ask", &["v1", "echo"], &[]).await.unwrap();
    assert_eq!(answer, "Bearer secret");
}

#[tokio::test]
async fn a_refusal_carries_the_servers_reason_and_hint() {
    let refuse = || async { (StatusCode::CONFLICT, r#"{"error":"it is there already","hint":"raise the version"}"#) };
    let (client, _tasks) = served(Router::new().route("/v1/releases", post(refuse))).await;
    let error = client.post::<_, ()>("push digits@1.0.0", &["v1", "releases"], &1).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Failed);
    insta::assert_snapshot!(shown(error, &client), @r"
    error: cannot push digits@1.0.0
    cause: it is there already
     hint: raise the version
    ");
}

/// What a port answers that speaks another protocol.
async fn answered_by(scheme: &str, bytes: &'static [u8]) -> ClientError {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut settings = settings(&format!("{scheme}://{address}"), None);
    settings.ca_pem = (scheme == "https").then(Vec::new);
    Client::new(&settings).unwrap().get::<()>("list devices", &["v1", "devices"], &[]).await.unwrap_err()
}

#[tokio::test]
async fn the_wrong_scheme_is_a_matter_of_configuration_and_not_of_waiting() {
    let plain = answered_by("https", b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!((plain.exit(), plain.transient()), (Exit::Usage, false), "{plain:?}");
    assert!(plain.hint().unwrap().contains("http://"), "{plain:?}");
    let tls = answered_by("http", b"\x15\x03\x03\x00\x02\x02\x32").await;
    assert_eq!((tls.exit(), tls.transient()), (Exit::Usage, false), "{tls:?}");
    assert!(tls.hint().unwrap().contains("https://"), "{tls:?}");
}

#[tokio::test]
async fn a_wrong_token_is_a_matter_of_configuration() {
    let refuse = || async { (StatusCode::UNAUTHORIZED, r#"{"error":"unknown token"}"#) };
    let (client, _tasks) = served(Router::new().route("/v1/devices", get(refuse))).await;
    let error = client.get::<()>("list devices", &["v1", "devices"], &[]).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    insta::assert_snapshot!(shown(error, &client), @r"
    error: cannot list devices
    cause: unknown token
     hint: pass --token or set FIELDPOST_TOKEN; the controller keeps its first one in DATA/admin.token
    ");
}

#[tokio::test]
async fn an_answer_of_another_kind_is_named() {
    let (client, _tasks) = served(Router::new().route("/v1/health", get(|| async { "<html>" }))).await;
    let error = client.get::<Vec<u8>>("ask for health", &["v1", "health"], &[]).await.unwrap_err();
    insta::assert_snapshot!(shown(error, &client), @r"
    error: cannot ask for health: http://SERVER/ gave an answer that this program does not understand
    cause: expected value at line 1 column 1
     hint: are the controller and this program of the same version?
    ");
}

#[tokio::test]
async fn a_server_that_is_away_is_exit_code_4() {
    // The port was free a moment ago and nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = Client::new(&settings(&format!("http://127.0.0.1:{port}"), None)).unwrap();
    let error = client.get::<()>("list devices", &["v1", "devices"], &[]).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Undecided);
    insta::assert_snapshot!(shown(error, &client), @r"
    error: cannot list devices: no answer from http://SERVER/
    cause: Connection refused (os error 111)
     hint: is it running? start it with `fieldpost serve`, or name another with --server
    ");
}

#[test]
fn a_token_stays_on_this_machine_or_inside_tls() {
    assert!(matches!(Client::new(&settings("http://192.0.2.7:7400", Some("t"))), Err(ClientError::PlainToken(_))));
    assert!(Client::new(&settings("http://192.0.2.7:7400", None)).is_ok());
    assert!(Client::new(&settings("http://[::1]:7400", Some("t"))).is_ok());
    assert!(!format!("{:?}", settings("http://localhost:1", Some("hush"))).contains("hush"));
}

#[test]
fn no_name_can_reach_another_path() {
    let client = Client::new(&settings("http://localhost:1/base/", None)).unwrap();
    let url = client.url(&["v1", "devices", "../../x?y#z"], &[("selector", "a=b&c")]);
    assert_eq!(url.as_str(), "http://localhost:1/base/v1/devices/..%2F..%2Fx%3Fy%23z?selector=a%3Db%26c");
}

/// Numbers from 0, in pages of at most three.
async fn numbered(uri: axum::http::Uri) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let query: axum::extract::Query<std::collections::BTreeMap<String, usize>> =
        axum::extract::Query::try_from_uri(&uri).unwrap();
    let from = query.get("after").map_or(0, |after| after + 1);
    let page: Vec<usize> = (from..8).take(query.get("limit").copied().unwrap_or(3).min(3)).collect();
    let last = page.last().copied().unwrap_or(7);
    let link = format!("</elsewhere?x=1&after={last}>; rel=\"next\"");
    let more = last < 7;
    let body = axum::Json(page);
    if more { ([("link", link)], body).into_response() } else { body.into_response() }
}

#[tokio::test]
async fn a_list_is_followed_page_after_page() {
    let (client, _tasks) = served(Router::new().route("/v1/numbers", get(numbered))).await;
    let list = |limit| client.list::<usize>("count", &["v1", "numbers"], &[], limit);
    assert_eq!(list(None).await.unwrap(), (0..8).collect::<Vec<_>>());
    assert_eq!(list(Some(4)).await.unwrap(), [0, 1, 2, 3]);
    assert_eq!(list(Some(3)).await.unwrap(), [0, 1, 2]);
    let rest = client.list_after::<usize>("count", &["v1", "numbers"], &[], Some("5".to_owned()), None);
    assert_eq!(rest.await.unwrap(), [6, 7]);
}

#[tokio::test]
async fn a_server_that_never_comes_to_an_end_is_not_followed_without_end() {
    let stuck = || async { ([("link", "</v1/x?after=9>; rel=\"next\"")], axum::Json([9])) };
    let empty = || async { ([("link", "</v1/y?after=9>; rel=\"next\"")], axum::Json::<[u8; 0]>([])) };
    let (client, _tasks) = served(Router::new().route("/v1/x", get(stuck)).route("/v1/y", get(empty))).await;
    assert_eq!(client.list::<u8>("x", &["v1", "x"], &[], None).await.unwrap(), [9, 9]);
    assert_eq!(client.list::<u8>("y", &["v1", "y"], &[], None).await.unwrap(), [0; 0]);
}
