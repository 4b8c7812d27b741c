//! From a configuration to parts that are ready to run. Whatever can be wrong with a machine is found here, and said.

use super::{ADMIN_TOKEN, Bound, ENDPOINTS, http, maintenance, running, supervise, verdicts};
use crate::api::types::{Endpoints, Role, TokenKind, TokenRequest};
use crate::api::{self, Api};
use crate::audit::Audit;
use crate::broker::{self, Broker, BrokerError};
use crate::config::{self, Config};
use crate::fleet::windows::Retention;
use crate::fleet::{self, Fleet, FleetError};
use crate::link::connection::Target;
use crate::link::ingest::{Ingest, QUEUE};
use crate::link::outbox::Outbox;
use crate::link::{self, Link};
use crate::metrics::Metrics;
use crate::releases::{BlobError, Blobs, Releases};
use crate::rollout::core::{CoreParts, random_seed};
use crate::rollout::engine::{Engine, EngineError, EngineSettings};
use crate::store::{SledStore, Store, StoreError, Table};
use crate::tls::TlsError;
use crate::tokens::{TokenError, Tokens};
use crate::trust_dir::{Trust, TrustDirError};
use fieldpost_shared::durable::{DurableError, write_secret};
use fieldpost_shared::time::{Clock, Timestamp};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// No controller was built before this: a clock that says so is wrong. 2025-01-01.
const CLOCK_FLOOR: Timestamp = Timestamp::from_millis(1_735_689_600_000);
/// How long a start waits for a predecessor that was killed to let go of the store.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
const STORE_PAUSE: Duration = Duration::from_millis(100);
/// A root that expires sooner than this is spoken of at each start.
const ROOT_WARNING: Duration = Duration::from_secs(60 * 24 * 3600);
const LOCK: &str = "lock";

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The clock is not set.
    #[error("the machine's clock says {0}: set it first, since everything that is signed says when")]
    Clock(Timestamp),
    /// The data directory cannot be used.
    #[error("cannot {operation} `{}`: the data directory must be writable by this user", path.display())]
    Data {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Another controller uses it.
    #[error("another controller{} runs in `{}`: it holds `{}`", named(*pid), path.display(), path.join(LOCK).display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process, where it has said so.
        pid: Option<u32>,
    },
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The fleet's trust cannot be used.
    #[error("cannot use the fleet's trust")]
    Trust(#[from] TrustDirError),
    /// The blobs cannot be used.
    #[error("cannot use the blobs")]
    Blobs(#[from] BlobError),
    /// The books cannot be read.
    #[error("cannot read the fleet")]
    Fleet(#[from] FleetError),
    /// The rollouts cannot be resumed.
    #[error("cannot resume the rollouts")]
    Rollouts(#[from] EngineError),
    /// The first token cannot be made.
    #[error("cannot make the admin token")]
    Token(#[from] TokenError),
    /// The first token cannot be written down.
    #[error("cannot write the admin token")]
    TokenFile(#[source] DurableError),
    /// The broker cannot start.
    #[error("cannot start the broker")]
    Broker(#[from] BrokerError),
    /// TLS cannot be used.
    #[error("cannot use TLS")]
    Tls(#[from] TlsError),
    /// The port of the API is taken, or not allowed.
    #[error("cannot listen for HTTP on {address}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

fn named(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl StartError {
    /// What to do next, where that is known.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Locked { .. } => Some("it may be the service: stop it, or give this one another --data-dir"),
            Self::Http { .. } => Some("another program has the address: stop it, or choose another with --http"),
            _ => None,
        }
    }

    /// Whether starting again by itself would not help.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        // A port may be free in a second, a clock may be set, a predecessor may end: those are tried again.
        matches!(
            self,
            Self::Data { .. }
                | Self::Trust(_)
                | Self::Tls(_)
                | Self::Broker(BrokerError::Tls(_))
                | Self::Store(StoreError::Corrupt { .. } | StoreError::Form { .. })
        )
    }
}

/// Everything made, nothing running.
pub struct Started {
    config: Config,
    clock: Arc<dyn Clock>,
    pub(super) fleet: Arc<Fleet>,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    tokens: Arc<Tokens>,
    engine: (Engine, crate::rollout::engine::EngineHandle),
    broker: Option<Broker>,
    target: Target,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    bound: Bound,
    claim: Claim,
}

/// The data directory is this process's for as long as this lives.
#[derive(Debug)]
pub(super) struct Claim {
    endpoints: PathBuf,
    _lock: File,
}

impl Claim {
    fn forget_endpoints(&self) {
        // When the file is not there, all the better.
        drop(fs::remove_file(&self.endpoints));
    }
}

impl Drop for Claim {
    /// Nobody listens there any more; the lock goes after this, so a successor's file is never taken away.
    fn drop(&mut self) {
        self.forget_endpoints();
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Started {
    /// Opens everything and takes the ports.
    ///
    /// # Errors
    /// When something is wrong with the machine, the directory, or the configuration.
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        if clock.now() < CLOCK_FLOOR {
            return Err(StartError::Clock(clock.now()));
        }
        let mut notes = Vec::new();
        let claim = claim(&config.data_dir)?;
        let store = open_store(&config.data_dir.join("db")).await?;
        let trust = config.data_dir.join("trust");
        // New keys would be strangers to every box that the store knows.
        for table in [Table::Devices, Table::Releases] {
            if !store.range(table, &[], &[u8::MAX], 1)?.is_empty() {
                Trust::must_be_there(&trust)?;
            }
        }
        let (trust, created) = Trust::open_or_create(&trust, &config.fleet, clock.now())?;
        let trust = Arc::new(trust);
        if created {
            let dir = trust.dir().display();
            notes.push(format!("made the fleet's keys in {dir}; move root.key to a safe, publisher.key to who packs"));
        }
        notes.extend(root_note(&trust, clock.now()));
        let audit = Arc::new(Audit::open(Arc::clone(&store), Arc::clone(&clock))?);
        let tokens = Arc::new(Tokens::open(store.as_ref(), Arc::clone(&audit), Arc::clone(&clock))?);
        admin_token(&tokens, &config.data_dir)?;
        let blobs = Blobs::open(&config.data_dir.join("blobs"))?;
        let releases =
            Releases::open(store.as_ref(), Arc::clone(&audit), Arc::clone(&clock), Arc::clone(&trust), blobs)?;
        let outbox = Arc::new(Outbox::default());
        let fleet = Arc::new(Fleet::open(fleet::Parts {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            audit: Arc::clone(&audit),
            trust: Arc::clone(&trust),
            releases: Arc::new(releases),
            outbox: Arc::clone(&outbox),
            desired_lifetime: config.desired_lifetime,
            retention: Retention { age: config.keep_windows_for, windows: config.keep_windows },
        })?);
        let metrics = Arc::new(Metrics::new());
        let engine = Engine::load(
            CoreParts {
                fleet: Arc::clone(&fleet) as Arc<dyn crate::rollout::fleet::Fleet>,
                store,
                clock: Arc::clone(&clock),
                key: trust.secret_key(),
                fleet_id: config.fleet.clone(),
                entropy: Arc::new(random_seed),
            },
            EngineSettings::default(),
        )?;
        let (broker, target) = open_broker(&config, &fleet, &clock, &metrics).await?;
        let tls = config.tls.as_ref().map(|files| crate::tls::server(files, &[b"http/1.1"])).transpose()?;
        let failed = |source| StartError::Http { address: config.http, source };
        let listener = TcpListener::bind(config.http).await.map_err(failed)?;
        let http = listener.local_addr().map_err(failed)?;
        let mqtt = broker.as_ref().map(Broker::address);
        let scheme = if tls.is_some() { "s" } else { "" };
        let mqtt_url = match (&config.broker, mqtt) {
            (config::Broker::External(external), _) => external.address.to_string(),
            (config::Broker::Embedded { listen, .. }, mqtt) => format!("mqtt{scheme}://{}", mqtt.unwrap_or(*listen)),
        };
        let bound = Bound {
            http,
            mqtt,
            endpoints: Endpoints { http: format!("http{scheme}://{http}"), mqtt: mqtt_url, pid: std::process::id() },
            data_dir: config.data_dir.clone(),
            fleet: config.fleet.to_string(),
            root_version: trust.root().version,
            notes,
        };
        Ok(Self {
            config,
            clock,
            fleet,
            outbox,
            metrics,
            audit,
            tokens,
            engine,
            broker,
            target,
            listener,
            tls,
            bound,
            claim,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound.clone()
    }

    /// Sets everything going.
    #[must_use]
    pub fn run(self) -> supervise::Parts {
        let Self {
            config,
            clock,
            fleet,
            outbox,
            metrics,
            audit,
            tokens,
            engine,
            broker,
            target,
            listener,
            tls,
            bound,
            claim,
        } = self;
        let mut parts = supervise::Parts::new(claim);
        let (connected, connection) = watch::channel(false);
        let (inbound, queue) = mpsc::channel(QUEUE);
        let ingest = Ingest {
            fleet: Arc::clone(&fleet),
            outbox: Arc::clone(&outbox),
            clock: Arc::clone(&clock),
            topics: config.topics.clone(),
            metrics: Arc::clone(&metrics),
        };
        let failure = fleet.store().failure();
        parts.spawn("the store", move |stop| async move {
            // Cancel-safe: a token stays cancelled.
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                () = failure.cancelled() => Err(Box::new(StoreError::Failed).into()),
            }
        });
        let reactor = tokio::runtime::Handle::current();
        parts.spawn_blocking("the ingest", move |stop| ingest.run(queue, &stop, &reactor));
        let disconnect = broker.as_ref().map(Broker::disconnect);
        if let Some(broker) = broker {
            parts.spawn_broker(|stop| broker.run(stop));
        }
        let link = Link {
            fleet: Arc::clone(&fleet),
            outbox: Arc::clone(&outbox),
            clock: Arc::clone(&clock),
            topics: config.topics.clone(),
            metrics: Arc::clone(&metrics),
            inbound,
            connected,
        };
        parts.spawn("the link to the broker", move |stop| async move {
            link::run(link, target, stop).await;
            Ok(())
        });
        let (engine, handle) = engine;
        parts.spawn("the rollout engine", move |stop| async move {
            engine.run(stop).await.map_err(|error| Box::new(error).into())
        });
        let (large, book) = (Arc::clone(&fleet), Arc::clone(&audit));
        let (watched, counted, seldom) = (handle.clone(), handle.clone(), Arc::clone(&clock));
        parts.spawn("the housekeeping of statistics", move |stop| async move {
            maintenance::run_seldom(large, seldom, stop).await;
            Ok(())
        });
        parts.spawn("the log of verdicts", move |stop| async move {
            verdicts::run(watched, book, stop).await;
            Ok(())
        });
        let api = Api {
            devices: Arc::clone(fleet.devices()),
            tokens,
            releases: Arc::clone(fleet.releases()),
            audit: Arc::clone(&audit),
            trust: Arc::clone(fleet.trust()),
            metrics: Arc::clone(&metrics),
            running: Arc::new(running::Controller::new(Arc::clone(&fleet), connection, &config, bound.mqtt)),
            clock: Arc::clone(&clock),
            topic_prefix: config.topics.prefix().to_owned(),
            approval: config.approval,
        };
        let router = api::router(api.clone()).merge(api::rollouts::router(api, handle));
        let http_metrics = Arc::clone(&metrics);
        parts.spawn("the API", move |stop| async move {
            http::serve(listener, tls, router, http_metrics, stop).await.map_err(|error| Box::new(error).into())
        });
        if let Some(disconnect) = disconnect {
            let fleet = Arc::clone(&fleet);
            parts.spawn("the watch over revocations", move |stop| async move {
                maintenance::cut_revoked(fleet, disconnect, stop).await;
                Ok(())
            });
        }
        parts.spawn("the housekeeping", move |stop| async move {
            maintenance::run(fleet, outbox, metrics, audit, counted, stop).await;
            Ok(())
        });
        parts
    }
}

/// Makes the data directory, and makes sure that it is writable and nobody else's. The lock goes with the process.
fn claim(dir: &Path) -> Result<Claim, StartError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Data { operation, path, source }
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(failed("create", dir))?;
    let path = dir.join(LOCK);
    let lock = File::options().create(true).append(true).open(&path).map_err(failed("write", &path))?;
    match lock.try_lock() {
        Ok(()) => {
            let claim = Claim { endpoints: dir.join(ENDPOINTS), _lock: lock };
            // Whoever waits for the addresses must not find those of the last time.
            claim.forget_endpoints();
            Ok(claim)
        }
        Err(fs::TryLockError::WouldBlock) => Err(StartError::Locked { path: dir.to_owned(), pid: holder(dir) }),
        Err(fs::TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

/// The process that wrote down where it listens; it does so as soon as it is ready.
fn holder(dir: &Path) -> Option<u32> {
    let endpoints = fs::read(dir.join(ENDPOINTS)).ok()?;
    serde_json::from_slice::<Endpoints>(&endpoints).ok().map(|endpoints| endpoints.pid)
}

/// Opens the store, and waits a little for a killed predecessor to let go of it.
async fn open_store(path: &Path) -> Result<Arc<dyn Store>, StartError> {
    let tries = STORE_PATIENCE.as_millis().checked_div(STORE_PAUSE.as_millis()).unwrap_or(1);
    for _ in 0..tries {
        match SledStore::open(path) {
            Err(StoreError::Busy { .. }) => tokio::time::sleep(STORE_PAUSE).await,
            opened => return Ok(Arc::new(opened?)),
        }
    }
    Ok(Arc::new(SledStore::open(path)?))
}

async fn open_broker(
    config: &Config,
    fleet: &Arc<Fleet>,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<(Option<Broker>, Target), StartError> {
    match &config.broker {
        config::Broker::External(external) => Ok((None, Target::external(external, &config.fleet)?)),
        config::Broker::Embedded { listen, max_clients, .. } => {
            let broker = Broker::bind(broker::Parts {
                listen: *listen,
                max_clients: *max_clients,
                tls: config.tls.as_ref(),
                fleet: Arc::clone(fleet),
                clock: Arc::clone(clock),
                topics: config.topics.clone(),
                metrics: Arc::clone(metrics),
            })
            .await?;
            let target = Target::embedded(broker.inner_address(), broker.login());
            Ok((Some(broker), target))
        }
    }
}

/// Makes the first token, or a new one when the file is gone or opens nothing any more.
fn admin_token(tokens: &Tokens, dir: &Path) -> Result<(), StartError> {
    let path = dir.join(ADMIN_TOKEN);
    let known = match fs::read_to_string(&path) {
        Ok(token) => tokens.role_of(token.trim()).is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(source) => return Err(StartError::Data { operation: "read", path, source }),
    };
    if known {
        return Ok(());
    }
    let kind = TokenKind::Api { role: Role::Admin };
    let note = format!("made at a start, in {ADMIN_TOKEN}");
    let made = tokens.create("controller", TokenRequest { kind, note, expires_s: None })?;
    write_secret(dir, ADMIN_TOKEN, format!("{}\n", made.token).as_bytes()).map_err(StartError::TokenFile)
}

fn root_note(trust: &Trust, now: Timestamp) -> Option<String> {
    let expires = trust.root().expires;
    if expires < now {
        Some(format!("THE ROOT METADATA EXPIRED at {expires}: nothing can change until a new version is signed"))
    } else if expires.since(now) < ROOT_WARNING {
        Some(format!("the root metadata expires at {expires}: sign a new version before"))
    } else {
        None
    }
}
