//! The whole controller in this process, as the demo and scripts use it.

mod api;
mod faults;
mod secure;

use super::*;
use crate::api::types::{Role, TokenCreated};
use crate::config::Overrides;
use fieldpost_shared::time::ManualClock;
use fieldpost_shared::trust::SecretKey;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller on free ports.
fn config(dir: &Path, toml: &str) -> Config {
    let flags = Overrides {
        http: Some("127.0.0.1:0".parse().unwrap()),
        mqtt: Some("127.0.0.1:0".parse().unwrap()),
        ..Overrides::default()
    };
    Config::resolve(toml::from_str(toml).unwrap(), flags, &dir.join("data"), |_| None).unwrap()
}

/// A controller that runs.
struct Rig {
    bound: Bound,
    admin: String,
    client: reqwest::Client,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), ServeError>>,
}

impl Rig {
    async fn start(dir: &Path) -> Self {
        Self::with(config(dir, "")).await
    }

    async fn with(config: Config) -> Self {
        crate::install_crypto();
        let (stop, mut tasks, (ready, bound)) = (CancellationToken::new(), JoinSet::new(), oneshot::channel());
        let ca = config.tls.as_ref().map(|files| std::fs::read(&files.cert).unwrap());
        let token = stop.clone();
        tasks.spawn(async move { serve(config, |bound| ready.send(bound.clone()).unwrap(), token).await });
        let bound = match tokio::time::timeout(PATIENCE, bound).await.unwrap() {
            Ok(bound) => bound,
            Err(_ended) => panic!("{:?}", tasks.join_next().await),
        };
        let admin = std::fs::read_to_string(bound.data_dir.join(ADMIN_TOKEN)).unwrap().trim().to_owned();
        let mut client = reqwest::Client::builder();
        if let Some(ca) = ca {
            client = client.tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()]);
        }
        Self { bound, admin, client: client.build().unwrap(), stop, tasks }
    }

    async fn stopped(mut self) -> Result<(), ServeError> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.unwrap().unwrap().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.bound.endpoints.http)
    }

    async fn ask(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.client.request(method, self.url(path));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, &self.admin, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.ask(Method::POST, path, &self.admin, Some(body)).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    async fn token(&self, request: Value) -> String {
        let created: TokenCreated = serde_json::from_value(self.post("/v1/tokens", request).await).unwrap();
        created.token
    }

    async fn role(&self, role: Role) -> String {
        self.token(json!({"kind": "api", "role": role})).await
    }

    async fn enroll(&self, device: &str, seed: u8) -> Value {
        let token = self.token(json!({"kind": "enroll", "labels": {"site": "lyon"}})).await;
        let key = SecretKey::from_seed(&[seed; 32]).public();
        let request = json!({"token": token, "public_key": key, "device": device});
        let (status, body) = self.ask(Method::POST, "/v1/enroll", "", Some(request)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_says_where_it_is_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let written = std::fs::read(rig.bound.data_dir.join(ENDPOINTS)).unwrap();
    assert_eq!(serde_json::from_slice::<Endpoints>(&written).unwrap(), rig.bound.endpoints);
    assert_eq!(rig.get("/v1/health").await["fleet"], "default");
    let block = rig.bound.to_string();
    for part in [&rig.bound.endpoints.http, &rig.bound.endpoints.mqtt, "admin.token", "root version 1", "root.key"] {
        assert!(block.contains(part), "{block}");
    }
    let file = rig.bound.data_dir.join(ENDPOINTS);
    rig.stopped().await.unwrap();
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_connects_to_its_own_broker() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let up = async {
        while rig.get("/v1/health").await["broker_connected"] != json!(true) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, up).await.unwrap();
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_goes_on_where_the_first_one_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let first = Rig::start(dir.path()).await;
    let (admin, enrolled) = (first.admin.clone(), first.enroll("a", 1).await);
    let audit = first.get("/v1/audit").await;
    first.stopped().await.unwrap();
    let second = Rig::start(dir.path()).await;
    assert_eq!(second.admin, admin);
    assert_eq!(second.get("/v1/devices/a").await["fingerprint"], enrolled["fingerprint"]);
    assert_eq!(second.get("/v1/audit").await, audit);
    assert!(second.bound.notes.is_empty(), "{:?}", second.bound.notes);
    second.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_admin_token_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let first = Rig::start(dir.path()).await;
    let (path, lost) = (first.bound.data_dir.join(ADMIN_TOKEN), first.admin.clone());
    first.stopped().await.unwrap();
    std::fs::remove_file(path).unwrap();
    let second = Rig::start(dir.path()).await;
    assert_ne!(second.admin, lost);
    second.get("/v1/tokens").await;
    second.stopped().await.unwrap();
}
