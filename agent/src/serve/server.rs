//! The HTTP server: binding, accepting, and ending without cutting anybody off.

use super::browser;
use super::doors::{self, Grpc, Http, Rules};
use super::pool::Pool;
use super::registry::Registry;
use super::request::{RequestIds, Room};
use super::rival::Portion;
use super::router::{App, router};
use super::unix::{Socket, SocketError};
use axum::middleware::from_fn_with_state;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What `GET /status` answers; the app fills it.
pub type StatusHandle = watch::Receiver<serde_json::Value>;

/// Where to listen for gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcAddress {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether somebody asked for just this one: then the server does not begin without it. The default's port may be
    /// another program's, and a box must not stop answering for that.
    pub required: bool,
}

/// How the box serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeSettings {
    /// Where to listen; port 0 takes a free one.
    pub http: SocketAddr,
    /// Where to listen for gRPC, if anywhere.
    pub grpc: Option<GrpcAddress>,
    /// A Unix socket for HTTP, if any.
    pub socket: Option<PathBuf>,
    /// Names with dots by which HTTP is asked beside addresses and `localhost`: those that a proxy on the box hands on.
    pub hosts: Arc<[String]>,
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
    /// Open connections at each address; for one more, the one that was quiet longest is closed.
    pub connections: NonZeroUsize,
    /// For a request's head, for its body, and for each write to a caller who does not read. Also the longest time that a
    /// connection may be idle.
    pub read_timeout: Duration,
    /// Predictions over HTTP that are told of in the log, by their ids.
    pub access_log: Portion,
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
            grpc: None,
            socket: None,
            hosts: Arc::new([]),
            max_body_bytes: 16 << 20,
            body_memory_bytes: 64 << 20,
            queue: at_least_one(64),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            deadline: Duration::from_secs(30),
            connections: at_least_one(512),
            read_timeout: Duration::from_secs(30),
            access_log: Portion::NONE,
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
    /// The Unix socket cannot be had.
    #[error("cannot serve on a Unix socket")]
    Socket(#[from] SocketError),
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
    grpc: Option<(TcpListener, SocketAddr)>,
    socket: Option<Socket>,
    app: Arc<App>,
}

async fn bind(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bind = |source| ServeError::Bind { address: wanted, source };
    let listener = TcpListener::bind(wanted).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    Ok((listener, address))
}

async fn bind_grpc(wanted: GrpcAddress) -> Result<Option<(TcpListener, SocketAddr)>, ServeError> {
    match bind(wanted.address).await {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if wanted.required => Err(error),
        Err(error) => {
            let error = fieldpost_shared::error_chain::Chain(&error).to_string();
            tracing::warn!(error, "gRPC is not served; set `grpc` to an address, or to \"off\"");
            Ok(None)
        }
    }
}

impl Server {
    /// Binds the addresses and starts the inference threads. Callers may connect from now on; they are answered by
    /// [`Server::run`].
    ///
    /// # Errors
    /// When the address is taken, or there are no threads to be had.
    pub async fn bind(settings: ServeSettings, registry: Registry, status: StatusHandle) -> Result<Self, ServeError> {
        let (listener, address) = bind(settings.http).await?;
        let grpc = match settings.grpc {
            Some(wanted) => bind_grpc(wanted).await?,
            None => None,
        };
        let socket = settings.socket.as_deref().map(Socket::bind).transpose()?;
        registry.metrics().may_wait(settings.queue.get());
        let threads = settings.threads;
        let clock = Arc::clone(registry.clock());
        let pool =
            Pool::start(threads, settings.queue, clock).map_err(|source| ServeError::Threads { threads, source })?;
        let room = Room::new(settings.body_memory_bytes.max(settings.max_body_bytes));
        let app = Arc::new(App { settings, registry, status, pool, room, ids: RequestIds::new() });
        Ok(Self { listener, address, grpc, socket, app })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for gRPC, if it does.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(|(_, address)| *address)
    }

    /// Its Unix socket, if it has one.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(|socket| socket.path.as_path())
    }

    /// Tells whether all inference threads, and those that stood in for them, are lost to models that hang.
    pub fn stuck(&self) -> impl Fn() -> bool + Send + use<> {
        let app = Arc::clone(&self.app);
        let hung = app.registry.hung();
        move || app.pool.is_lost(*hung.borrow())
    }

    /// Serves until `shutdown`; then takes no new connection or request and waits, at most [`ServeSettings::drain`], until
    /// the running ones are answered.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, address, grpc, socket, app } = self;
        let settings = &app.settings;
        let rules =
            Rules { connections: settings.connections.get(), timeout: settings.read_timeout, drain: settings.drain };
        let grpc_address = grpc.as_ref().map(|(_, address)| tracing::field::display(*address));
        let hosts = Arc::clone(&settings.hosts);
        let path = socket.as_ref().map(|socket| tracing::field::display(socket.path.display().to_string()));
        tracing::info!(%address, grpc = grpc_address, socket = path, "serving predictions");
        let mut doors = JoinSet::new();
        doors.spawn(stand_in(Arc::clone(&app), shutdown.clone()));
        let paths = router(Arc::clone(&app));
        if let Some((listener, _)) = grpc {
            doors.spawn(doors::open(listener, Grpc(app), rules.clone(), shutdown.clone()));
        }
        if let Some(socket) = socket {
            // No browser opens it, and what clients say as its host is the path often enough.
            doors.spawn(doors::open(socket, Http(paths.clone()), rules.clone(), shutdown.clone()));
        }
        let guarded = Http(paths.layer(from_fn_with_state(hosts, browser::guard)));
        doors.spawn(doors::open(listener, guarded, rules, shutdown));
        while doors.join_next().await.is_some() {}
    }
}

/// Starts inference threads in place of those that hang, until `shutdown`.
async fn stand_in(app: Arc<App>, shutdown: CancellationToken) {
    let mut hung = app.registry.hung();
    loop {
        // Both arms are cancel-safe: the newest value stays to be seen.
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = hung.changed() => match changed {
                Ok(()) => app.pool.substitute(*hung.borrow_and_update()),
                Err(_registry_is_gone) => return,
            },
        }
    }
}
