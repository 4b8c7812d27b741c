use super::*;
use crate::api::types;
use crate::api::types::{DeviceStats, MqttEndpoint, TokenKind, TokenRequest};
use crate::fleet::FleetError;
use crate::fleet::devices::{DeviceError, DeviceRecord, Devices};
use crate::metrics::Metrics;
use crate::releases::tests::Registry;
use crate::rollout::engine::{Engine, EngineSettings};
use crate::rollout::tests::Rig;
use crate::store::StoreError;
use crate::tokens::Tokens;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use fieldpost_shared::id::{DeviceId, Digest};
use fieldpost_shared::time::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// What the rollouts' routes never ask for.
#[derive(Debug)]
struct NotAsked;

impl crate::api::Running for NotAsked {
    fn device(&self, _: &DeviceRecord) -> types::Device {
        unreachable!()
    }
    fn revoke(&self, _: &str, device: &DeviceId) -> Result<Arc<DeviceRecord>, DeviceError> {
        Err(DeviceError::NoSuch(device.to_string()))
    }
    fn may_accept(&self, device: &DeviceId, _: types::Take) -> Result<(), FleetError> {
        Err(FleetError::NotAhead(device.clone()))
    }
    fn accept(&self, _: &str, device: &DeviceId, _: types::Take) -> Result<(), FleetError> {
        Err(FleetError::NotAhead(device.clone()))
    }
    fn counts(&self, _: &Digest) -> (usize, usize) {
        (0, 0)
    }
    fn stats(&self, _: Option<&DeviceId>, _: Option<&ModelName>, _: Timestamp) -> Result<Vec<DeviceStats>, StoreError> {
        Ok(vec![])
    }
    fn broker_connected(&self) -> bool {
        true
    }
    fn endpoint(&self, _: Option<&str>) -> MqttEndpoint {
        MqttEndpoint { host: "localhost".into(), port: 1883, tls: false }
    }
}

/// The API of an engine over a simulated fleet.
pub(crate) struct Server {
    pub(crate) router: Router,
    registry: Registry,
    viewer: String,
    pub(crate) operator: String,
    pub(crate) rig: Rig,
    _tasks: JoinSet<Result<(), EngineError>>,
}

fn server() -> Server {
    server_of(Rig::new(3))
}

pub(crate) fn server_of(rig: Rig) -> Server {
    let registry = Registry::new();
    let tokens = Tokens::open(registry.store.as_ref(), registry.audit.clone(), registry.clock.clone()).unwrap();
    let token = |role| {
        let request = TokenRequest { kind: TokenKind::Api { role }, note: String::new(), expires_s: None };
        tokens.create("test", request).unwrap().token
    };
    let (viewer, operator) = (token(Role::Viewer), token(Role::Operator));
    let devices = Devices::open(registry.store.as_ref(), registry.audit.clone(), registry.clock.clone()).unwrap();
    let api = Api {
        devices: Arc::new(devices),
        tokens: Arc::new(tokens),
        releases: registry.releases.clone(),
        audit: registry.audit.clone(),
        trust: registry.trust.clone(),
        metrics: Arc::new(Metrics::new()),
        running: Arc::new(NotAsked),
        clock: rig.clock.clone(),
        topic_prefix: "fp/1".into(),
        approval: false,
    };
    let settings = EngineSettings { every: Duration::from_millis(10), gap: Duration::from_millis(2) };
    let (engine, handle) = Engine::load(Rig::parts(&rig.clock, &rig.fleet, &rig.store), settings).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(engine.run(CancellationToken::new()));
    let router = crate::api::router(api.clone()).merge(router(api, handle));
    Server { router, registry, viewer, operator, rig, _tasks: tasks }
}

impl Server {
    async fn ask(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let answer = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path, &self.viewer, None).await
    }

    /// A page, and the address of the next.
    async fn page(&self, path: &str) -> (Value, Option<String>) {
        let request = Request::builder().uri(path).header("authorization", format!("Bearer {}", self.viewer));
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let next = link.map(|link| link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned());
        let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (serde_json::from_slice(&bytes).unwrap(), next)
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(Method::POST, path, &self.operator, Some(body)).await
    }

    async fn start(&self) -> String {
        let body = json!({"model": "digits", "version": "1.1.0", "strategy": {"waves": "1,3", "soak": "10s"}});
        let (status, started) = self.post("/v1/rollouts", body).await;
        assert_eq!(status, StatusCode::CREATED, "{started}");
        started["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_operator_drives_a_rollout_and_a_viewer_reads_it() {
    let server = server();
    let id = server.start().await;
    let (_, list) = server.get("/v1/rollouts?model=digits&active=true").await;
    assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &json!(id)));
    assert_eq!(server.get("/v1/rollouts?model=other").await.1, json!([]));
    let (_, detail) = server.get(&format!("/v1/rollouts/{id}")).await;
    assert_eq!((detail["devices"].as_array().unwrap().len(), &detail["spec"]["strategy"]["soak"]), (3, &json!("10s")));
    let (status, aborted) =
        server.post(&format!("/v1/rollouts/{id}/abort"), json!({"mode": "keep", "reason": "enough"})).await;
    assert_eq!((status, &aborted["state"]), (StatusCode::OK, &json!("aborted-kept")));
    let (_, told) = server.get(&format!("/v1/rollouts/{id}/explain")).await;
    assert!(told["events"].as_array().unwrap().iter().any(|e| e["sentence"].as_str().unwrap().contains("enough")));
}

#[tokio::test]
async fn a_viewer_changes_nothing_and_a_stranger_reads_nothing() {
    let server = server();
    let id = server.start().await;
    for (path, body) in [
        ("/v1/rollouts".to_owned(), json!({"model": "digits", "version": "1.1.0"})),
        (format!("/v1/rollouts/{id}/pause"), json!({})),
        (format!("/v1/rollouts/{id}/resume"), json!({})),
        (format!("/v1/rollouts/{id}/approve"), json!({})),
        (format!("/v1/rollouts/{id}/abort"), json!({"mode": "revert"})),
        (format!("/v1/rollouts/{id}/rollback"), json!({})),
    ] {
        for body in [body, json!({"nonsense": 1})] {
            let (status, _) = server.ask(Method::POST, &path, &server.viewer, Some(body)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
        }
    }
    for path in ["", "/x", "/x/events", "/x/explain"] {
        let (status, _) = server.ask(Method::GET, &format!("/v1/rollouts{path}"), "nobody", None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn refusals_say_what_and_what_to_do_next() {
    let server = server();
    let start = |strategy: Value| json!({"model": "digits", "version": "1.1.0", "strategy": strategy});
    let cases = [
        (json!({"model": "digits", "version": "9.9.9"}), StatusCode::NOT_FOUND, "no release digits@9.9.9"),
        (
            start(json!({"selector": "site=mars"})),
            StatusCode::BAD_REQUEST,
            "names the label `site`, which no device of the fleet has",
        ),
        (start(json!({"waves": "1,2"})), StatusCode::BAD_REQUEST, "the waves end at 2 of 3 devices"),
        (start(json!({"waves": "1,12"})), StatusCode::BAD_REQUEST, "only 3 can take part"),
    ];
    for (body, status, text) in cases {
        let (found, answer) = server.post("/v1/rollouts", body).await;
        assert_eq!(found, status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(text), "{answer}");
        assert!(answer["hint"].is_string(), "{answer}");
    }
    let (status, answer) = server.post("/v1/rollouts", start(json!({"schedule": "22:00"}))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer["error"].as_str().unwrap().contains("schedule"), "{answer}");
    let id = server.start().await;
    let (status, answer) = server.post("/v1/rollouts", start(json!({}))).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(answer["error"].as_str().unwrap().contains(&id), "{answer}");
    assert_eq!(server.post(&format!("/v1/rollouts/{id}/approve"), json!({})).await.0, StatusCode::CONFLICT);
    let (status, answer) = server.get("/v1/rollouts/r-nobody").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(answer["hint"], format!("there are, newest first: {id}; `fieldpost rollout list` says more"));
    assert_eq!(server.get("/v1/rollouts/..%2Fx").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_start_can_be_tried_by_whoever_may_start() {
    let server = server();
    let body = json!({"model": "digits", "version": "1.1.0", "strategy": {"waves": "grow 1 x2"}});
    let (status, preview) = server.post("/v1/rollouts?dry_run=true", body.clone()).await;
    assert_eq!((status, &preview["devices"]), (StatusCode::OK, &json!(3)), "{preview}");
    assert_eq!(preview["waves"][1], json!({"number": 2, "asked": "2", "adds": 1, "reaches": 2, "group": false}));
    assert_eq!(server.get("/v1/rollouts").await.1, json!([]));
    let (status, _) = server.ask(Method::POST, "/v1/rollouts?dry_run=true", &server.viewer, Some(body)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let wrong = json!({"model": "digits", "version": "1.1.0", "strategy": {"waves": "site=lyon,rest"}});
    let (status, answer) = server.post("/v1/rollouts?dry_run=true", wrong).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        answer["error"].as_str().unwrap().contains("names the label `site`, which no device of the fleet has"),
        "{answer}"
    );
}

#[tokio::test]
async fn every_list_comes_in_pages_that_name_the_next() {
    let mut rig = Rig::new(3);
    let id = rig.start("1.1.0", "1,3");
    rig.command(&id, &Command::Abort { mode: AbortMode::Keep, reason: "enough".into() });
    rig.start("1.1.0", "1,3");
    let server = server_of(rig);
    let whole = async |path: String| {
        let (status, all) = server.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {all}");
        all
    };
    // Path, where its entries are, and what an entry is known by.
    let lists = [
        ("/v1/rollouts".to_owned(), "", "/id"),
        (format!("/v1/rollouts/{id}/members"), "", "/device"),
        (format!("/v1/rollouts/{id}/events"), "/events", "/sequence"),
        (format!("/v1/rollouts/{id}/explain"), "/events", "/sequence"),
    ];
    for (path, entries, name) in lists {
        let names = |page: &Value| -> Vec<String> {
            let entries = page.pointer(entries).unwrap().as_array().unwrap();
            entries.iter().map(|entry| entry.pointer(name).unwrap().to_string()).collect()
        };
        let all = names(&whole(path.clone()).await);
        let (mut paged, mut next) = (Vec::new(), Some(format!("{path}?limit=1")));
        while let Some(asked) = next {
            let (page, link) = server.page(&asked).await;
            assert_eq!(names(&page).len(), 1, "{asked}");
            paged.extend(names(&page));
            next = link;
        }
        assert!(all.len() > 1, "{path}");
        // The engine goes on meanwhile.
        assert!(paged.starts_with(&all), "{path}: {paged:?}, {all:?}");
        let (status, refused) = server.get(&format!("{path}?limit=1001")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert!(refused["hint"].as_str().unwrap().contains("after"), "{refused}");
    }
    let (detail, next) = server.page(&format!("/v1/rollouts/{id}?limit=2")).await;
    assert_eq!(detail["devices"].as_array().unwrap().len(), 2);
    let rest = server.page(&next.unwrap()).await;
    assert_eq!((rest.0.as_array().unwrap().len(), rest.1), (1, None));
    let newest = whole(format!("/v1/rollouts/{id}/explain?last=1")).await;
    assert_eq!(newest["events"][0]["sequence"], newest["sequence"]);
    assert_eq!(server.get(&format!("/v1/rollouts/{id}/members?after=nobody")).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_rollout_that_was_decided_by_a_metric_is_drawn() {
    let server = server();
    let id = server.start().await;
    let (status, nothing) = server.get(&format!("/v1/rollouts/{id}/plot.svg")).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{nothing}");
    assert!(nothing["error"].as_str().unwrap().contains("nothing to draw"), "{nothing}");
    let mut rig = Rig::new(4);
    rig.release("1.2.0", crate::rollout::tests::Behaviour::OneClass);
    let id = rig.start("1.2.0", "1,4");
    rig.until(&id, "rolled-back");
    let server = server_of(rig);
    let request = |query: &str| {
        let request = Request::builder().uri(format!("/v1/rollouts/{id}/plot.svg{query}"));
        request.header("authorization", format!("Bearer {}", server.viewer)).body(Body::empty()).unwrap()
    };
    let answer = server.router.clone().oneshot(request("?metric=output-drift")).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "image/svg+xml");
    assert!(answer.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let svg = String::from_utf8(to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap();
    for text in ["digits@1.2.0 for *", "output-drift: PSI", "limit", "wave 1", "rolled back", "class=\"ring\""] {
        assert!(svg.contains(text), "no `{text}` in {svg}");
    }
    assert!(!svg.contains("error-rate:"), "one metric was asked for");
    let all = server.router.clone().oneshot(request("")).await.unwrap();
    let all = to_bytes(all.into_body(), 1 << 20).await.unwrap();
    assert!(std::str::from_utf8(&all).unwrap().contains("error-rate:"));
    let (status, unknown) = server.get(&format!("/v1/rollouts/{id}/plot.svg?metric=beauty")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(unknown["hint"], "there are error-rate, p95-latency, output-drift");
}

#[tokio::test]
async fn what_people_do_is_in_the_audit_log() {
    let server = server();
    let id = server.start().await;
    server.post(&format!("/v1/rollouts/{id}/abort"), json!({"mode": "revert", "reason": "wrong fleet"})).await;
    let entries = server.registry.audit.after(0, 100).unwrap();
    let last = entries.last().unwrap();
    assert_eq!((last.action.as_str(), last.subject.as_str()), ("rollout.abort", id.as_str()));
    assert_eq!(last.detail, "revert: wrong fleet");
    assert!(last.actor.starts_with("operator "), "{}", last.actor);
}

#[tokio::test]
async fn events_are_held_back_until_there_is_news() {
    let server = server();
    let id = server.start().await;
    let (_, page) = server.get(&format!("/v1/rollouts/{id}/events")).await;
    let mut after = page["rollout"]["sequence"].as_u64().unwrap();
    while server.rig.running("1.1.0").is_empty() {
        // The engine shares this thread: without a pause it would never tell a device, or only when the wave's time is up.
        tokio::time::sleep(Duration::from_millis(25)).await;
        server.rig.clock.advance(Duration::from_secs(1));
        server.rig.fleet.tick();
    }
    let follow = async {
        loop {
            let (_, page) = server.get(&format!("/v1/rollouts/{id}/events?after={after}&wait_s=30")).await;
            let events = page["events"].as_array().unwrap();
            assert!(!events.is_empty(), "an answer within half a minute has news");
            after = page["rollout"]["sequence"].as_u64().unwrap();
            if events.iter().any(|event| event["event"]["kind"] == "live") {
                return;
            }
        }
    };
    // Slowly: the wave's time must not be up before the engine, which shares this thread, has looked.
    let time_passes = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.rig.clock.advance(Duration::from_secs(1));
            server.rig.fleet.tick();
        }
    };
    let followed = async {
        tokio::select! {
            () = follow => {}
            () = time_passes => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(25), followed).await.unwrap();
}
