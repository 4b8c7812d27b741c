//! The composition root: every part of the agent is made, joined, run and stopped here.

pub mod control;
mod effects;
pub(crate) mod inventory;
mod reporting;
mod start;
mod supervise;

use crate::cli::CommandError;
use crate::clock::TrustedClock;
use crate::config::Config;
use crate::deploy::{Driver, DriverSettings, Effects, Journal};
use crate::fetch::{BlobExchange, Disk, Downloader, FetchSettings};
use crate::identity::enroll::{self, EnrollError, EnrollRequest, http_client};
use crate::identity::{Identity, IdentityError, check_owner, load_or_make_key};
use crate::link::session::LineState;
use crate::link::tls::{OwnCertificate, client_config};
use crate::link::{Door, Link, LinkSettings, Speaker};
use crate::monitor::MonitorSettings;
use crate::serve::{Registry, ServeSettings, Server};
use crate::store::{Store, StoreSettings};
use anyhow::{Context as _, anyhow};
use effects::BoxEffects;
use fieldpost_shared::backoff::Backoff;
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{DeviceId, Digest};
use fieldpost_shared::time::{Clock, SystemClock};
use fieldpost_shared::trust::{RootMetadata, SignedRoot};
use fieldpost_shared::wire::Topics;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use supervise::Parts;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How long parts may take to stop; and the windows of statistics after them.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long requests that run may take when stopping: less than the parts may, so that a slow one is no failure.
const DRAIN: Duration = Duration::from_secs(8);
/// An inference that takes so many times the longest deadline of a request is given up for hanging.
const HANGING_DEADLINES: u32 = 3;
/// Where the addresses that were bound are written, for scripts.
pub const ENDPOINTS_FILE: &str = "endpoints.json";

/// Joins a fleet and keeps what it told. Repeating it with the same key gives the same device.
///
/// # Errors
/// When the controller is away or refuses, its root does not hold, or the disk fails. Nothing is kept then.
pub async fn enroll(
    config: &Config,
    token: String,
    device: Option<DeviceId>,
    labels: BTreeMap<String, String>,
    pinned: Option<Digest>,
) -> Result<Identity, CommandError> {
    let controller = config.controller.as_deref().ok_or_else(|| {
        CommandError::Usage(anyhow!("no controller: give --controller URL, or set `controller` in the configuration"))
    })?;
    check_owner(&config.data_dir).map_err(|error| CommandError::Usage(error.into()))?;
    let disk = Disk::open(&config.data_dir).context("cannot use the data directory")?;
    let key = load_or_make_key(&config.data_dir).context("cannot use the device key")?;
    let inventory = Some(inventory::read(&disk, String::new()));
    let request = EnrollRequest { token, public_key: key.public(), device, labels, inventory };
    let client = http_client(ca(config)?.as_deref()).context("cannot use the CA file")?;
    let (identity, roots, _time) =
        enroll::enroll(&client, controller, &request, pinned).await.map_err(|error| match error {
            EnrollError::Unreachable { .. } => CommandError::Unreachable(anyhow::Error::from(error)),
            EnrollError::Plain { .. } | EnrollError::Address { .. } => CommandError::Usage(error.into()),
            other => CommandError::Failed(other.into()),
        })?;
    let clock = SystemClock::new();
    let (store, _) = open_store(config, &clock)?;
    start::check_same_fleet(&store, &roots)?;
    for root in &roots {
        store.add_root(root.metadata.version, &root.to_bytes(), false).context("cannot keep the root of trust")?;
    }
    identity.save(&config.data_dir).context("cannot keep the identity")?;
    Ok(identity)
}

fn ca(config: &Config) -> Result<Option<Vec<u8>>, CommandError> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).with_context(|| format!("cannot read the CA file `{}`", path.display()))
    };
    config.ca_file.as_ref().map(read).transpose().map_err(CommandError::Usage)
}

fn open_store(config: &Config, clock: &dyn Clock) -> Result<(Store, bool), CommandError> {
    let settings = StoreSettings { outbox_bytes: config.outbox_bytes };
    let (store, opened) = Store::open(&config.data_dir, settings, clock).context("cannot open the agent's database")?;
    if let Some(aside) = &opened.set_aside {
        tracing::error!(
            set_aside = %aside.display(),
            "the database was damaged and set aside: a new one begins, unsent statistics and quarantine are lost"
        );
    }
    Ok((store, opened.set_aside.is_some()))
}

/// The newest root on disk. The chain was verified when it was kept, and the database is this user's alone.
fn newest_root(store: &Store) -> Result<RootMetadata, CommandError> {
    let (_, bytes) = store
        .latest_root()
        .context("cannot read the root of trust")?
        .ok_or_else(|| anyhow!("no root of trust on this disk\nnext: enrol again with `fieldpost-agent enroll`"))?;
    Ok(SignedRoot::parse(&bytes).context("the root of trust on disk is damaged")?.metadata)
}

fn tls(
    identity: &Identity,
    ca_pem: Option<&[u8]>,
    own: Option<&(std::path::PathBuf, std::path::PathBuf)>,
) -> Result<Option<Arc<rustls::ClientConfig>>, CommandError> {
    if !identity.broker.tls {
        return Ok(None);
    }
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display())).map_err(CommandError::Usage)
    };
    let own = match own {
        Some((cert, key)) => Some((read(cert)?, read(key)?)),
        None => None,
    };
    let own = own.as_ref().map(|(chain_pem, key_pem)| OwnCertificate { chain_pem, key_pem });
    let config = client_config(ca_pem, own).context("cannot speak TLS with the broker").map_err(CommandError::Usage)?;
    Ok(Some(Arc::new(config)))
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// When something that it cannot run without is missing; each says what to do.
pub async fn run(config: Config) -> Result<(), CommandError> {
    init_logging(&config.log)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let shutdown = CancellationToken::new();
    // Nothing is made in a directory that is not there, or not this user's. No restart helps: systemd leaves exit code 2 alone.
    let identity = Identity::load(&config.data_dir).map_err(|error| match error {
        IdentityError::NotEnrolled(_) => CommandError::Usage(error.into()),
        _ => CommandError::Failed(error.into()),
    })?;
    check_owner(&config.data_dir).map_err(|error| CommandError::Usage(error.into()))?;
    let disk = Disk::open(&config.data_dir).context("cannot use the data directory")?;
    let key = load_or_make_key(&config.data_dir).context("cannot use the device key")?;
    let ca = ca(&config)?;
    let tls = tls(&identity, ca.as_deref(), config.own_certificate.as_ref())?;
    let (store, _) = open_store(&config, clock.as_ref())?;
    let store = Arc::new(store);
    // The database is locked: no other agent is just writing there.
    if let Err(error) = disk.sweep() {
        tracing::warn!(error = %Chain(&error), "cannot delete what was left half written");
    }
    let root = newest_root(&store)?;
    if root.fleet != identity.fleet {
        let (root, own) = (root.fleet, identity.fleet);
        let next = "next: enrol again with a new --data-dir";
        return Err(anyhow!("this box belongs to fleet `{own}`, its root of trust to fleet `{root}`\n{next}").into());
    }
    let root = Arc::new(RwLock::new(Arc::new(root)));
    match store.recover_windows() {
        Ok(0) => {}
        Ok(windows) => tracing::info!(windows, "windows that were open when the agent died are sent as they were"),
        Err(error) => tracing::error!(error = %Chain(&error), "cannot read the windows that were open at the last end"),
    }
    // Whether something has expired is judged by this one, everywhere.
    let latest_signed = store.known().context("cannot read the database")?.latest_signed;
    let trusted = Arc::new(TrustedClock::new(Arc::clone(&clock), latest_signed));
    let http = http_client(ca.as_deref()).context("cannot set up HTTPS")?;

    // What answers.
    let (closed_sender, closed) = mpsc::channel(256);
    let defaults = MonitorSettings::default();
    let hang = defaults.hang.max(config.deadline.saturating_mul(HANGING_DEADLINES));
    let monitor = MonitorSettings { window: config.stats_window, hang, ..defaults };
    let registry = Registry::new(Arc::clone(&clock), monitor, closed_sender);
    let (status_sender, status_handle) = watch::channel(serde_json::Value::Null);
    let defaults = ServeSettings::new(config.http);
    let settings = ServeSettings {
        grpc: config.grpc,
        socket: config.http_socket.clone(),
        hosts: config.http_hosts.as_slice().into(),
        max_body_bytes: config.max_body_bytes,
        queue: NonZeroUsize::new(config.queue).unwrap_or(defaults.queue),
        threads: config.inference_threads(defaults.threads),
        deadline: config.deadline,
        access_log: config.access_log,
        drain: DRAIN,
        ..defaults
    };
    let server = Server::bind(settings, registry.clone(), status_handle).await.context("cannot serve predictions")?;
    let serving = server.address();
    let server_stuck = server.stuck();
    let endpoints = serde_json::json!({
        "http": serving.to_string(),
        "grpc": server.grpc_address().map(|address| address.to_string()),
        "http_socket": server.socket(),
    });
    write_atomic(&config.data_dir, ENDPOINTS_FILE, endpoints.to_string().as_bytes())
        .context("cannot write the endpoints")?;

    // What changes it.
    let exchange = BlobExchange::default();
    let fetch =
        FetchSettings { window: config.fetch_window, patience: config.fetch_patience, ..FetchSettings::default() };
    let fetched = store.fetched_bytes().context("cannot read the database")?;
    let downloader = Downloader::new(exchange.clone(), disk.clone(), fetch, fetched);
    let inventory = inventory::read(&disk, serving.to_string());
    let effects = BoxEffects {
        disk: disk.clone(),
        downloader: downloader.clone(),
        registry: registry.clone(),
        root: Arc::clone(&root),
        store: Arc::clone(&store),
        inventory: inventory.clone(),
        cpu_features: inventory::cpu_features(),
        budget_bytes: config.download_budget_bytes,
        clock: Arc::<TrustedClock>::clone(&trusted),
        now: effects::Now::default(),
    };
    let journal: Arc<dyn Journal> = Arc::<Store>::clone(&store);
    start::expect_live(journal.as_ref(), &registry).context("cannot read the deployment journal")?;
    let (driver, driver_handle) =
        Driver::open(journal, Arc::new(effects), Arc::<TrustedClock>::clone(&trusted), DriverSettings::default())
            .context("cannot read the deployment journal")?;

    // What is said and heard.
    let door = Door::new(identity.clone(), root, Arc::clone(&store), driver_handle.clone(), Arc::clone(&trusted), http);
    let reporter = reporting::Reporter {
        driver: driver_handle.clone(),
        door: door.clone(),
        store: Arc::clone(&store),
        downloader,
        disk,
        inventory,
        clock: Arc::clone(&clock),
    };
    let rivals = Arc::clone(door.rivals());
    let (report_sender, report) = watch::channel(reporter.compose());
    let (line_sender, line) = watch::channel(LineState::Down { reason: "starting".to_owned() });
    let outbox_filled = Arc::new(Notify::new());
    let link = Link {
        settings: LinkSettings {
            tls,
            keep_alive: config.keep_alive,
            report_interval: config.report_interval,
            backoff: Backoff { base: Duration::from_millis(500), max: Duration::from_secs(60) },
            topics: Topics::new(&identity.topic_prefix).context("the identity names an unusable topic prefix")?,
        },
        speaker: Speaker::new(identity, key),
        door,
        exchange,
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        report: report.clone(),
        outbox_filled: Arc::clone(&outbox_filled),
        state: line_sender,
    };
    let control = control::Control { driver: driver_handle, line, report, endpoints, rivals, clock: trusted };
    let socket = control::bind(&config.data_dir).context("cannot take commands")?;

    let mut parts = Parts::default();
    // The line goes first when stopping, statistics last: what is still answered is still counted.
    let windows_stop = CancellationToken::new();
    parts.spawn_plain("line", link.run(shutdown.clone()));
    parts.spawn("deployments", drive(driver, shutdown.clone()));
    parts.spawn_plain("control socket", control::serve(socket, control, shutdown.clone()));
    let reporting = reporter.run(report_sender.clone(), config.report_interval, shutdown.clone());
    parts.spawn_plain("reports", reporting);
    parts.spawn_plain("status", publish_status(report_sender.subscribe(), status_sender, shutdown.clone()));
    parts.spawn_plain("server", server.run(shutdown.clone()));
    let mut windows = Parts::default();
    let timer = crate::monitor::timer::run(registry.clone(), config.data_dir.clone(), windows_stop.clone());
    windows.spawn_plain("statistics", reporting::keep_windows(timer, registry, closed, store, outbox_filled));
    notify_systemd(&mut parts, server_stuck, shutdown.clone());
    tracing::info!(http = %serving, "agent runs");

    let broken = tokio::select! {
        signal = stop_signal() => {
            tracing::info!(signal = signal.context("cannot listen for signals")?, "stopping");
            None
        }
        broken = parts.ended() => Some(broken),
        broken = windows.ended() => Some(broken),
    };
    if let Some(broken) = &broken {
        tracing::error!(reason = %broken, "a part of the agent has ended; stopping for a restart");
    }
    shutdown.cancel();
    let stopped = parts.stop(STOP_DEADLINE).await;
    windows_stop.cancel();
    let kept = windows.stop(STOP_DEADLINE).await;
    tracing::info!("stopped");
    match broken {
        Some(broken) => Err(broken.into()),
        None => Ok(stopped.and(kept)?),
    }
}

/// A journal that is damaged ends the agent, for a restart to begin a new one.
async fn drive<E: Effects>(driver: Driver<E>, shutdown: CancellationToken) -> anyhow::Result<()> {
    driver.run(shutdown).await.map_err(|error| {
        tracing::error!(error = %Chain(&error), "deployments cannot go on");
        anyhow!("the deployment journal is damaged\nnext: start again; a new one begins")
    })
}

async fn publish_status(
    mut report: watch::Receiver<fieldpost_shared::wire::v1::Report>,
    status: watch::Sender<serde_json::Value>,
    shutdown: CancellationToken,
) {
    loop {
        let value = serde_json::to_value(&*report.borrow_and_update()).unwrap_or_default();
        status.send_replace(value);
        tokio::select! {
            changed = report.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

pub(crate) fn init_logging(filter: &str) -> Result<(), CommandError> {
    // Targets and levels alone: filters by span and field bring an engine for regular expressions with them.
    let filter: Targets = filter
        .parse()
        .with_context(|| format!("the log filter `{filter}` is not valid"))
        .map_err(CommandError::Usage)?;
    // A second subscriber in one process (tests) keeps the first.
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(std::io::stderr).with_filter(filter);
    drop(tracing_subscriber::registry().with(lines).try_init());
    Ok(())
}

pub(crate) async fn stop_signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Tells systemd that the agent is ready, and pats the watchdog from the reactor: a reactor that hangs is restarted. So is
/// an agent whose inference threads all hang; it counts as a death then, and a model that does it again is taken back.
fn notify_systemd(parts: &mut Parts, stuck: impl Fn() -> bool + Send + 'static, shutdown: CancellationToken) {
    // Outside systemd there is nobody to tell.
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    if let Some(timeout) = sd_notify::watchdog_enabled() {
        parts.spawn_plain("watchdog", async move {
            while !shutdown.is_cancelled() {
                if !stuck() {
                    drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog]));
                }
                tokio::select! {
                    () = tokio::time::sleep(timeout / 3) => {}
                    () = shutdown.cancelled() => {}
                }
            }
        });
    }
}
