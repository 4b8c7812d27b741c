//! The server over real sockets on loopback.

mod access;
mod caller;
mod faults;
mod feedback;
mod hostile;
mod http;
mod load;
mod oip;
mod overhead;
mod page;
mod rivals;
mod splits;
mod swap;

use super::testing::FakeModel;
use super::{GrpcAddress, Registry, ServeSettings, Server};
use crate::monitor::{ClosedWindow, MonitorSettings};
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::time::{Clock, SystemClock};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(30);

struct Running {
    address: SocketAddr,
    grpc: SocketAddr,
    registry: Registry,
    client: reqwest::Client,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    closed: mpsc::Receiver<ClosedWindow>,
    _status: watch::Sender<Value>,
}

/// An answer, whole.
#[derive(Debug)]
struct Answered {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The message of an error.
    fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error says why").to_owned()
    }
}

fn settings() -> ServeSettings {
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    ServeSettings { grpc: Some(GrpcAddress { address, required: true }), ..ServeSettings::new(address) }
}

async fn start() -> Running {
    start_with(settings()).await
}

async fn start_with(settings: ServeSettings) -> Running {
    start_monitored(settings, MonitorSettings::default()).await
}

async fn start_monitored(settings: ServeSettings, monitor: MonitorSettings) -> Running {
    let (sender, closed) = mpsc::channel(64);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let registry = Registry::new(clock, monitor, sender);
    let (status, handle) = watch::channel(json!({ "device": "box-1" }));
    let server = Server::bind(settings, registry.clone(), handle).await.unwrap();
    let (address, grpc, shutdown) = (server.address(), server.grpc_address().unwrap(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(shutdown.clone()));
    // Already installed by another test of this process, perhaps.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder().no_proxy().timeout(LONG).build().unwrap();
    Running { address, grpc, registry, client, shutdown, tasks, closed, _status: status }
}

impl Running {
    /// With one model.
    async fn serving(model: Arc<FakeModel>) -> Self {
        let running = start().await;
        running.registry.install(model);
        running
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.client.post(self.url(path)).header("content-type", content_type).body(body)
    }

    /// A sound request for an image.
    fn image(&self) -> reqwest::RequestBuilder {
        self.post("/predict", "image/png", "an image")
    }

    async fn get(&self, path: &str) -> Answered {
        send(self.client.get(self.url(path))).await
    }

    /// The only window, closed.
    async fn window(&mut self) -> WindowStats {
        self.registry.close_windows(true).await;
        self.closed.try_recv().expect("a window in which something happened").content
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(LONG, self.tasks.join_next()).await.unwrap().unwrap().unwrap();
    }
}

async fn send(request: reqwest::RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answered { status, headers, body: response.text().await.unwrap() }
}
