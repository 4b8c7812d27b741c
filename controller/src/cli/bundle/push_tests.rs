use super::*;
use crate::cli::{test_context, test_context_at};
use crate::pack::testing::{file, manifest};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::{post, put};
use axum::{Json, Router};
use fieldpost_shared::bundle::chunk::{MAX_CHUNK_BYTES, frame, unframe};
use fieldpost_shared::bundle::manifest::FileRole;
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::{Kind, SecretKey, Signature, envelope};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What a controller would do with chunks and a manifest; fails the first `failures` uploads with 503.
#[derive(Debug, Default)]
struct Controller {
    blobs: BTreeMap<Digest, Vec<u8>>,
    releases: usize,
    uploads: usize,
    failures: usize,
}

type Shared = Arc<Mutex<Controller>>;

async fn missing_route(State(state): State<Shared>, Json(request): Json<MissingRequest>) -> Json<MissingResponse> {
    let known = &state.lock().unwrap().blobs;
    let missing = request.digests.into_iter().filter(|digest| !known.contains_key(digest)).collect();
    Json(MissingResponse { missing })
}

async fn upload(State(state): State<Shared>, UrlPath(name): UrlPath<String>, body: Bytes) -> StatusCode {
    let mut state = state.lock().unwrap();
    state.uploads += 1;
    if state.failures > 0 {
        state.failures -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let digest: Digest = name.parse().unwrap();
    unframe(&body, digest, MAX_CHUNK_BYTES).unwrap();
    state.blobs.insert(digest, body.to_vec());
    StatusCode::NO_CONTENT
}

async fn release(State(state): State<Shared>, Json(request): Json<ReleaseRequest>) -> Json<Release> {
    let bytes = BASE64.decode(request.manifest).unwrap();
    let manifest = fieldpost_shared::bundle::Manifest::parse(&bytes).unwrap();
    let mut state = state.lock().unwrap();
    assert!(manifest.chunks().iter().all(|chunk| state.blobs.contains_key(&chunk.sha256)), "chunks come first");
    state.releases += 1;
    let release: ReleaseRef = manifest.release(&bytes);
    Json(Release {
        release,
        created: manifest.created,
        pushed: Timestamp::EPOCH,
        note: manifest.note.clone(),
        total_bytes: manifest.total_bytes(),
        signed_by: request.signatures.iter().map(|signature: &Signature| signature.keyid).collect(),
        revoked: false,
        desired_on: 0,
        live_on: 0,
    })
}

struct Fixture {
    dir: tempfile::TempDir,
    state: Shared,
    context: Context,
    _tasks: tokio::task::JoinSet<()>,
}

async fn fixture(signed: bool) -> Fixture {
    let state = Shared::default();
    let router = Router::new()
        .route("/v1/blobs/missing", post(missing_route))
        .route("/v1/blobs/{sha256}", put(upload))
        .route("/v1/releases", post(release))
        .with_state(Arc::clone(&state));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });

    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = (0..20_u8).map(|i| vec![i; 100 + usize::from(i)]).collect();
    let mut manifest = manifest();
    manifest.files = vec![file("model.onnx", FileRole::Model, &contents[0])];
    for (i, content) in contents.iter().enumerate().skip(1) {
        manifest.files.push(file(&format!("part-{i}"), FileRole::External, content));
    }
    let manifest_bytes = manifest.to_bytes().unwrap();
    let key = SecretKey::from_seed(&[2; 32]);
    let signatures = if signed { vec![envelope::sign(Kind::Manifest, &manifest_bytes, &key)] } else { vec![] };
    let blobs = contents.iter().map(|content| (Digest::of(content), frame(content).unwrap())).collect();
    let bundle = Bundle { manifest, manifest_bytes, signatures, blobs };
    crate::pack::write(&bundle, &dir.path().join("a.fieldpost")).unwrap();
    let context = test_context_at(dir.path(), &server);
    Fixture { dir, state, context, _tasks: tasks }
}

impl Fixture {
    async fn push(&self) -> Result<Exit, Failure> {
        push(&self.dir.path().join("a.fieldpost"), &self.context).await
    }

    /// Uploads and releases so far.
    fn counts(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.uploads, state.releases)
    }
}

#[tokio::test]
async fn only_missing_chunks_travel_and_the_manifest_comes_last() {
    let fixture = fixture(true).await;
    fixture.push().await.unwrap();
    assert_eq!(fixture.counts(), (20, 1));
    let removed = fixture.state.lock().unwrap().blobs.pop_first();
    assert!(removed.is_some());
    fixture.push().await.unwrap();
    assert_eq!(fixture.counts(), (21, 2));
    let printed = fixture.context.printed();
    assert!(printed.contains("sent 20 of 20 chunks") && printed.contains("sent 1 of 20 chunks"), "{printed}");
}

#[tokio::test]
async fn a_controller_that_is_busy_for_a_moment_is_asked_again() {
    let fixture = fixture(true).await;
    fixture.state.lock().unwrap().failures = 3;
    fixture.push().await.unwrap();
    assert_eq!(fixture.counts(), (23, 1));
}

#[tokio::test]
async fn a_bundle_that_nobody_signed_is_not_sent() {
    let fixture = fixture(false).await;
    let refused = fixture.push().await.unwrap_err().to_string();
    assert!(refused.contains("nobody has signed it"), "{refused}");
    assert_eq!(fixture.counts(), (0, 0));
}

#[tokio::test]
async fn what_is_no_bundle_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fieldpost_shared::durable::write_atomic(dir.path(), "a.fieldpost", b"not a tar").unwrap();
    let refused = push(&dir.path().join("a.fieldpost"), &test_context(dir.path())).await.unwrap_err();
    assert_eq!(refused.exit(), Exit::Failed);
    assert!(refused.to_string().contains("cannot use the bundle"), "{refused}");
}

#[tokio::test]
async fn a_bundle_that_is_not_there_comes_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refused = push(&dir.path().join("a.fieldpost"), &test_context(dir.path())).await.unwrap_err().to_string();
    assert!(refused.contains("a.fieldpost") && refused.contains("No such file"), "{refused}");
    assert!(refused.contains("hint: `fieldpost bundle pack DIR`"), "{refused}");
}
