//! Configuration of the agent: defaults < file < environment < flags. The environment is read here alone.

use crate::serve::GrpcAddress;
use crate::serve::Portion;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the file may hold; each key is optional.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Where keys, journal and models live.
    pub data_dir: Option<PathBuf>,
    /// Where predictions are served.
    pub http: Option<SocketAddr>,
    /// Where they are served over gRPC, or `off`.
    pub grpc: Option<String>,
    /// The Unix socket on which they are served over HTTP, or `off`.
    pub http_socket: Option<String>,
    /// Names with dots by which a proxy on the box hands on who asks for them.
    pub http_hosts: Vec<String>,
    /// Base URL of the controller, for enrolment and for the time.
    pub controller: Option<String>,
    /// PEM file with the CA of controller and broker, when it is a private one.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this box's certificate chain, for a broker that asks for one.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its private key.
    pub key_file: Option<PathBuf>,
    /// Labels proposed at enrolment.
    pub labels: BTreeMap<String, String>,
    /// Seconds after which a window of statistics closes though it is not full.
    pub stats_window_s: Option<u64>,
    /// Seconds between reports when nothing changes.
    pub report_interval_s: Option<u64>,
    /// MQTT keep-alive, seconds.
    pub keep_alive_s: Option<u16>,
    /// Most bytes that one release may fetch, MiB.
    pub download_budget_mib: Option<u64>,
    /// Blobs asked for at once.
    pub fetch_window: Option<usize>,
    /// Seconds before a blob is asked for again.
    pub fetch_patience_s: Option<u64>,
    /// Bound of the statistics that wait for the controller, MiB.
    pub outbox_mib: Option<u64>,
    /// Largest request body, MiB.
    pub max_body_mib: Option<usize>,
    /// Requests that may wait for an inference thread.
    pub queue: Option<usize>,
    /// Inference threads; 0 is as many as `cpu_fraction` gives.
    pub threads: Option<usize>,
    /// Share of the processors that inference may take when `threads` does not say.
    pub cpu_fraction: Option<f64>,
    /// Percent of the predictions that are told of in the log.
    pub access_log_percent: Option<f64>,
    /// Milliseconds a request may take when its client states nothing.
    pub deadline_ms: Option<u64>,
    /// Log filter, such as `info` or `fieldpost_agent=debug`.
    pub log: Option<String>,
}

/// The configuration that the agent runs with.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where keys, journal and models live.
    pub data_dir: PathBuf,
    /// Where predictions are served.
    pub http: SocketAddr,
    /// Where they are served over gRPC.
    pub grpc: Option<GrpcAddress>,
    /// The Unix socket on which they are served over HTTP.
    pub http_socket: Option<PathBuf>,
    /// Names with dots that HTTP answers to.
    pub http_hosts: Vec<String>,
    /// Base URL of the controller.
    pub controller: Option<String>,
    /// The CA of controller and broker; without it the machine's authorities are believed.
    pub ca_file: Option<PathBuf>,
    /// Certificate chain and private key for a broker that asks for them.
    pub own_certificate: Option<(PathBuf, PathBuf)>,
    /// Labels proposed at enrolment.
    pub labels: BTreeMap<String, String>,
    /// When a window closes though it is not full.
    pub stats_window: Duration,
    /// Between reports when nothing changes.
    pub report_interval: Duration,
    /// MQTT keep-alive.
    pub keep_alive: Duration,
    /// Most bytes that one release may fetch.
    pub download_budget_bytes: Option<u64>,
    /// Blobs asked for at once.
    pub fetch_window: usize,
    /// Before a blob is asked for again.
    pub fetch_patience: Duration,
    /// Bound of the outbox.
    pub outbox_bytes: u64,
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Inference threads; 0 leaves it to `cpu_fraction`.
    pub threads: usize,
    /// Share of the processors for inference.
    pub cpu_fraction: f64,
    /// Predictions that are told of in the log.
    pub access_log: Portion,
    /// Deadline of a request.
    pub deadline: Duration,
    /// Log filter.
    pub log: String,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML of this form.
    #[error("the configuration `{}` is not valid: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line and reason.
        message: String,
    },
    /// A value out of its range.
    #[error("`{key}` must be {expected}, got {found}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its range.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Half of a pair.
    #[error("`{given}` needs `{missing}` beside it")]
    Pair {
        /// The key that is there.
        given: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// Nothing says where the data directory is.
    #[error("no data directory: give --data-dir, or set `data_dir` in the configuration or HOME")]
    NoDataDir,
}

/// What flags may override.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--http`
    pub http: Option<SocketAddr>,
    /// `--controller`
    pub controller: Option<String>,
}

/// The Unix socket's name in the run or data directory.
pub const HTTP_SOCKET: &str = "http.sock";
/// Where the file stands when no flag names one.
pub const DEFAULT_FILE: &str = "/etc/fieldpost/agent.toml";

impl Config {
    /// Loads the file (a missing default file is an empty one), then applies environment and flags.
    ///
    /// # Errors
    /// When a named file cannot be read, or a value is out of range.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let parsed = match std::fs::read_to_string(path) {
            Ok(text) => parse(path, &text)?,
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => ConfigFile::default(),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        Self::resolve(parsed, &environment(), overrides)
    }

    fn resolve(file: ConfigFile, environment: &Environment, flags: Overrides) -> Result<Self, ConfigError> {
        let data_dir = flags
            .data_dir
            .or_else(|| environment.data_dir.clone())
            .or(file.data_dir)
            .or_else(|| environment.default_data_dir.clone())
            .ok_or(ConfigError::NoDataDir)?;
        let http = flags.http.or(file.http).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8000)));
        let config = Self {
            grpc: grpc(file.grpc.as_deref(), http)?,
            http_socket: match file.http_socket.as_deref() {
                Some("off") => None,
                Some(path) => Some(PathBuf::from(path)),
                None => Some(environment.runtime_dir.as_deref().unwrap_or(&data_dir).join(HTTP_SOCKET)),
            },
            http_hosts: file.http_hosts,
            data_dir,
            http: flags.http.or(file.http).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8000))),
            controller: flags.controller.or_else(|| environment.controller.clone()).or(file.controller),
            ca_file: file.ca_file,
            own_certificate: match (file.cert_file, file.key_file) {
                (Some(cert), Some(key)) => Some((cert, key)),
                (None, None) => None,
                (Some(_), None) => return Err(ConfigError::Pair { given: "cert_file", missing: "key_file" }),
                (None, Some(_)) => return Err(ConfigError::Pair { given: "key_file", missing: "cert_file" }),
            },
            labels: file.labels,
            stats_window: Duration::from_secs(file.stats_window_s.unwrap_or(3600)),
            report_interval: Duration::from_secs(file.report_interval_s.unwrap_or(300)),
            keep_alive: Duration::from_secs(u64::from(file.keep_alive_s.unwrap_or(30))),
            download_budget_bytes: file.download_budget_mib.map(|mib| mib.saturating_mul(1 << 20)),
            fetch_window: file.fetch_window.unwrap_or(8),
            fetch_patience: Duration::from_secs(file.fetch_patience_s.unwrap_or(15)),
            outbox_bytes: file.outbox_mib.unwrap_or(64).saturating_mul(1 << 20),
            max_body_bytes: file.max_body_mib.unwrap_or(16).saturating_mul(1 << 20),
            queue: file.queue.unwrap_or(256),
            threads: file.threads.unwrap_or(0),
            cpu_fraction: file.cpu_fraction.unwrap_or(1.0),
            access_log: portion(file.access_log_percent.unwrap_or(0.0))?,
            deadline: Duration::from_millis(file.deadline_ms.unwrap_or(10_000)),
            log: environment.log.clone().or(file.log).unwrap_or_else(|| "info".to_owned()),
        };
        config.check()
    }

    /// Inference threads on a box of so many processors: what is said, or the share of them, but at least one.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count of processors is a small positive number"
    )]
    pub fn inference_threads(&self, processors: NonZeroUsize) -> NonZeroUsize {
        let share = (processors.get() as f64 * self.cpu_fraction).floor() as usize;
        NonZeroUsize::new(self.threads).or(NonZeroUsize::new(share)).unwrap_or(NonZeroUsize::MIN)
    }

    fn check(self) -> Result<Self, ConfigError> {
        let at_least = |key, expected, found: u64, least: u64| {
            if found < least { Err(ConfigError::Value { key, expected, found: found.to_string() }) } else { Ok(()) }
        };
        at_least("stats_window_s", "at least 1", self.stats_window.as_secs(), 1)?;
        at_least("report_interval_s", "at least 1", self.report_interval.as_secs(), 1)?;
        at_least("keep_alive_s", "at least 5", self.keep_alive.as_secs(), 5)?;
        at_least("fetch_window", "at least 1", self.fetch_window.try_into().unwrap_or(u64::MAX), 1)?;
        at_least("fetch_patience_s", "at least 1", self.fetch_patience.as_secs(), 1)?;
        at_least("outbox_mib", "at least 1", self.outbox_bytes, 1 << 20)?;
        at_least("queue", "at least 1", self.queue.try_into().unwrap_or(u64::MAX), 1)?;
        if !(self.cpu_fraction > 0.0 && self.cpu_fraction <= 1.0) {
            let (expected, found) = ("above 0 and at most 1", self.cpu_fraction.to_string());
            return Err(ConfigError::Value { key: "cpu_fraction", expected, found });
        }
        loopback(self.http)?;
        Ok(self)
    }
}

fn portion(percent: f64) -> Result<Portion, ConfigError> {
    let (key, expected) = ("access_log_percent", "between 0 and 100");
    Portion::percent(percent).ok_or_else(|| ConfigError::Value { key, expected, found: percent.to_string() })
}

/// The address, when it is one that only this box can reach.
pub(crate) fn loopback(http: SocketAddr) -> Result<SocketAddr, ConfigError> {
    if http.ip().is_loopback() {
        return Ok(http);
    }
    let expected = "a loopback address: the agent serves its own box; put a proxy with TLS in front for others";
    Err(ConfigError::Value { key: "http", expected, found: http.to_string() })
}

/// The log filter of the environment, for commands that have no configuration.
pub(crate) fn log_filter() -> Option<String> {
    environment().log
}

/// Where to serve gRPC. Who takes any free port for HTTP gets one here too.
pub(crate) fn grpc(stated: Option<&str>, http: SocketAddr) -> Result<Option<GrpcAddress>, ConfigError> {
    let Some(text) = stated else {
        let port = if http.port() == 0 { 0 } else { 8001 };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        return Ok(Some(GrpcAddress { address, required: false }));
    };
    if text == "off" {
        return Ok(None);
    }
    let wrong = |found: &str| ConfigError::Value {
        key: "grpc",
        expected: "a loopback address with a port, or \"off\"",
        found: found.to_owned(),
    };
    let address: SocketAddr = text.parse().map_err(|_no_address| wrong(text))?;
    if address.ip().is_loopback() { Ok(Some(GrpcAddress { address, required: true })) } else { Err(wrong(text)) }
}

fn parse(path: &Path, text: &str) -> Result<ConfigFile, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string().trim().replace('\n', " "),
    })
}

#[derive(Debug, Default)]
struct Environment {
    data_dir: Option<PathBuf>,
    default_data_dir: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    controller: Option<String>,
    log: Option<String>,
}

#[allow(clippy::disallowed_methods, reason = "the environment is read here, and nowhere else in the agent")]
fn environment() -> Environment {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Environment {
        data_dir: var("FIELDPOST_AGENT_DATA_DIR").map(PathBuf::from),
        // systemd sets STATE_DIRECTORY from the unit's StateDirectory=.
        default_data_dir: var("STATE_DIRECTORY")
            .or_else(|| var("XDG_DATA_HOME").map(|dir| format!("{dir}/fieldpost-agent")))
            .or_else(|| var("HOME").map(|home| format!("{home}/.local/share/fieldpost-agent")))
            .map(PathBuf::from),
        // From the unit's RuntimeDirectory=; the first, should there be several.
        runtime_dir: var("RUNTIME_DIRECTORY")
            .and_then(|dirs| dirs.split(':').next().map(str::to_owned))
            .map(PathBuf::from),
        controller: var("FIELDPOST_CONTROLLER"),
        log: var("FIELDPOST_LOG"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(toml: &str) -> Result<Config, ConfigError> {
        let environment = Environment { default_data_dir: Some("/var/lib/x".into()), ..Environment::default() };
        Config::resolve(parse(Path::new("agent.toml"), toml)?, &environment, Overrides::default())
    }

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        let config = resolve("").unwrap();
        assert_eq!(config.http.to_string(), "127.0.0.1:8000");
        assert_eq!(config.outbox_bytes, 64 << 20);
    }

    #[test]
    fn grpc_is_on_unless_told_otherwise_and_never_beyond_this_box() {
        let address = |toml: &str| resolve(toml).unwrap().grpc.map(|it| (it.address.to_string(), it.required));
        assert_eq!(address(""), Some(("127.0.0.1:8001".to_owned(), false)));
        assert_eq!(address("http = \"127.0.0.1:0\""), Some(("127.0.0.1:0".to_owned(), false)));
        assert_eq!(address("grpc = \"[::1]:9000\""), Some(("[::1]:9000".to_owned(), true)));
        assert_eq!(address("grpc = \"off\""), None);
        assert!(resolve("grpc = \"0.0.0.0:8001\"").unwrap_err().to_string().contains("`grpc` must be a loopback"));
        assert!(resolve("grpc = \"8001\"").is_err());
    }

    #[test]
    fn the_socket_is_in_the_data_directory_or_where_the_system_has_one_for_it() {
        let path = |toml: &str| resolve(toml).unwrap().http_socket;
        assert_eq!(path(""), Some("/var/lib/x/http.sock".into()));
        assert_eq!(path("http_socket = \"/run/a.sock\""), Some("/run/a.sock".into()));
        assert_eq!(path("http_socket = \"off\""), None);
        let environment = Environment {
            default_data_dir: Some("/var/lib/x".into()),
            runtime_dir: Some("/run/x".into()),
            ..Environment::default()
        };
        let config = Config::resolve(ConfigFile::default(), &environment, Overrides::default()).unwrap();
        assert_eq!(config.http_socket, Some("/run/x/http.sock".into()));
    }

    #[test]
    fn flags_win_over_environment_and_file() {
        let file = ConfigFile { data_dir: Some("/file".into()), ..ConfigFile::default() };
        let environment = Environment { data_dir: Some("/env".into()), ..Environment::default() };
        let flags = Overrides { data_dir: Some("/flag".into()), ..Overrides::default() };
        let dir = |flags| Config::resolve(file.clone(), &environment, flags).unwrap().data_dir;
        assert_eq!(dir(flags), Path::new("/flag"));
        assert_eq!(dir(Overrides::default()), Path::new("/env"));
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named() {
        assert!(resolve("colour = 1").unwrap_err().to_string().contains("colour"));
        assert!(resolve("keep_alive_s = 1").unwrap_err().to_string().contains("keep_alive_s"));
        assert!(resolve("http = \"0.0.0.0:80\"").unwrap_err().to_string().contains("loopback"));
    }

    #[test]
    fn the_access_log_is_a_share() {
        assert_eq!(resolve("").unwrap().access_log, Portion::NONE);
        assert_eq!(resolve("access_log_percent = 100.0").unwrap().access_log, Portion::ALL);
        assert!(resolve("access_log_percent = 101.0").is_err());
    }

    #[test]
    fn inference_takes_its_share_of_the_processors() {
        let threads = |toml: &str, processors| {
            resolve(toml).unwrap().inference_threads(NonZeroUsize::new(processors).unwrap()).get()
        };
        assert_eq!((threads("", 4), threads("cpu_fraction = 0.5", 4), threads("cpu_fraction = 0.1", 4)), (4, 2, 1));
        assert_eq!(threads("cpu_fraction = 0.5\nthreads = 3", 4), 3);
        assert!(resolve("cpu_fraction = 0.0").is_err() && resolve("cpu_fraction = nan").is_err());
    }

    #[test]
    fn the_installed_sample_names_every_key_and_states_the_defaults() {
        let sample = include_str!("../../systemd/agent.toml");
        assert_eq!(resolve(sample).unwrap().data_dir, Path::new("/var/lib/fieldpost-agent"));
        let key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let uncommented: Vec<&str> =
            sample.lines().map(|line| line.strip_prefix("# ").filter(|rest| key(rest)).unwrap_or(line)).collect();
        let uncommented = uncommented.join("\n");
        let file = parse(Path::new("agent.toml"), &uncommented).unwrap();
        assert!(!format!("{file:?}").contains("None"), "a key is missing: {file:?}");
        let (said, silent) = (resolve(&uncommented).unwrap(), resolve("").unwrap());
        // These are examples: they have no default, or one that depends on the box.
        let said = Config {
            data_dir: silent.data_dir.clone(),
            controller: None,
            ca_file: None,
            own_certificate: None,
            labels: BTreeMap::new(),
            download_budget_bytes: None,
            http_socket: silent.http_socket.clone(),
            http_hosts: Vec::new(),
            grpc: said.grpc.map(|stated| GrpcAddress { required: false, ..stated }),
            ..said
        };
        assert_eq!(said, silent);
    }
}
