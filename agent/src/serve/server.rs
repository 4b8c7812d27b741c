//! The HTTP server: binding, accepting, and ending without cutting anybody off.

use super::connection::{self, Patient};
use super::pool::Pool;
use super::registry::Registry;
use super::request::{RequestIds, Room};
use super::router::{App, router};
use axum::Router;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What `GET /status` answers; the app fills it.
pub type StatusHandle = watch::Receiver<serde_json::Value>;

/// How the box serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeSettings {
    /// Where to listen; port 0 takes a free one.
    pub http: SocketAddr,
    /// Largest body of a request.
    pub max_body_bytes: usize,
    /// Memory for the bodies of all large requests together, read or being read; more are refused at once. At least one
    /// body of the largest size fits.
    pub body_memory_bytes: usize,
    /// Requests that may wait for an inference thread; more are refused at once.
    pub queue: NonZeroUsize,
    /// Inference threads.
    pub threads: NonZeroUsize,
    /// Longest time from a whole request to its answer; a caller may ask for less.
    pub deadline: Duration,
    /// Open connections; more wait to be accepted.
    pub connections: NonZeroUsize,
    /// For a request's head, for its body, and for each write to a caller who does not read. Also the longest time that a
    /// connection may be idle.
    pub read_timeout: Duration,
    /// For requests that still run when the server is told to end.
    pub drain: Duration,
}

impl ServeSettings {
    /// What fits a small box: as many threads as processors, 64 waiting, 16 MiB a request, 64 MiB
    /// for all, 30 s.
    #[must_use]
    pub fn new(http: SocketAddr) -> Self {
        let at_least_one = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            http,
            max_body_bytes: 16 << 20,
            body_memory_bytes: 64 << 20,
            queue: at_least_one(64),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            deadline: Duration::from_secs(30),
            connections: at_least_one(512),
            read_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {address}{}", hint(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The system gives no threads.
    #[error("cannot start {threads} inference threads")]
    Threads {
        /// How many were wanted.
        threads: NonZeroUsize,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program has the port: stop it, or choose another port)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege: choose another port)",
        _ => "",
    }
}

/// A server that is bound, and not yet serving.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
}

impl Server {
    /// Binds the address and starts the inference threads. Callers may connect from now on; they are answered by
    /// [`Server::run`].
    ///
    /// # Errors
    /// When the address is taken, or there are no threads to be had.
    pub async fn bind(settings: ServeSettings, registry: Registry, status: StatusHandle) -> Result<Self, ServeError> {
        let wanted = settings.http;
        let bind = |source| ServeError::Bind { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let threads = settings.threads;
        let clock = Arc::clone(registry.clock());
        let pool =
            Pool::start(threads, settings.queue, clock).map_err(|source| ServeError::Threads { threads, source })?;
        let room = Room::new(settings.body_memory_bytes.max(settings.max_body_bytes));
        let app = Arc::new(App { settings, registry, status, pool, room, ids: RequestIds::new() });
        Ok(Self { listener, address, app })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`; then takes no new connection or request and waits, at most [`ServeSettings::drain`], until
    /// the running ones are answered.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, address, app } = self;
        let places = Arc::new(Semaphore::new(app.settings.connections.get()));
        let (drain, timeout) = (app.settings.drain, app.settings.read_timeout);
        let routes = router(app);
        let mut connections = JoinSet::new();
        tracing::info!(%address, "serving predictions");
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                // Cancel-safe: a connection that was not taken stays in the system's queue.
                (stream, place) = accept(&listener, &places) => {
                    let served = serve(stream, place, routes.clone(), timeout, shutdown.clone());
                    connections.spawn(served);
                }
                // Cancel-safe: a finished task that was not taken is taken next time.
                Some(_ended) = connections.join_next() => {}
            }
        }
        drop(listener);
        let answered = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(drain, answered).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "requests were cut off: they ran longer than the drain time"
            );
        }
        connections.shutdown().await;
    }
}

/// The next connection with its place among those that may be open.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return (stream, place),
            // Out of file descriptors, or a caller that is gone again: neither ends the server, and the first takes a while.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    routes: Router,
    timeout: Duration,
    shutdown: CancellationToken,
) {
    // Small answers must not wait for the caller's next acknowledgement. A socket that is gone already says so below.
    stream.set_nodelay(true).ok();
    if let Err(error) = connection::serve(Patient::new(stream, timeout), routes, timeout, shutdown).await {
        tracing::debug!(error = %fieldpost_shared::error_chain::Chain(&error), "a connection ended early");
    }
    drop(place);
}
