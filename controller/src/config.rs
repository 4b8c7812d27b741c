//! The controller's configuration: one TOML file, everything with a default. Defaults < file < environment < flags.
//!
//! [`ConfigFile`] is what people write; [`Config`] is what the program runs with: typed, whole and checked.

use fieldpost_shared::id::FleetId;
use fieldpost_shared::wire::Topics;
use serde::Deserialize;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs, io};

/// Where the API listens.
pub const DEFAULT_HTTP: &str = "127.0.0.1:7400";
/// Where the embedded broker listens.
pub const DEFAULT_MQTT: &str = "127.0.0.1:1883";
/// Environment variable with the password for an external broker.
pub const BROKER_PASSWORD: &str = "FIELDPOST_BROKER_PASSWORD";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The file is not the TOML that it should be.
    #[error("cannot use the configuration `{}`", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// The reason, with line and column.
        #[source]
        source: toml::de::Error,
    },
    /// A value that means nothing.
    #[error("`{key}` is `{value}`: {reason}")]
    Value {
        /// Its key in the file.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        reason: String,
    },
    /// Listening to the network in the clear.
    #[error(
        "`{key}` is `{address}`, which others can reach: without TLS, tokens and models would travel in the clear. \
         Set `tls.cert` and `tls.key`, or listen on 127.0.0.1"
    )]
    Exposed {
        /// Its key in the file.
        key: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// Half of a pair.
    #[error("`{0}.cert` and `{0}.key` go together: only one of them is set")]
    HalfTls(&'static str),
}

/// `controller.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Name of the fleet; fixed at the first start.
    pub fleet: Option<String>,
    /// Where the controller keeps its files.
    pub data_dir: Option<PathBuf>,
    /// Prefix of all topics.
    pub topic_prefix: Option<String>,
    /// The API.
    #[serde(default)]
    pub http: HttpFile,
    /// The embedded broker.
    #[serde(default)]
    pub mqtt: MqttFile,
    /// An external broker, instead of the embedded one.
    pub broker: Option<BrokerFile>,
    /// Certificate and key, for the API and for the embedded broker.
    #[serde(default)]
    pub tls: TlsFile,
    /// How devices come in.
    #[serde(default)]
    pub enroll: EnrollFile,
    /// What is told to devices.
    #[serde(default)]
    pub desired: DesiredFile,
    /// What devices tell.
    #[serde(default)]
    pub stats: StatsFile,
    /// Seconds that a shutdown may take.
    pub shutdown_s: Option<u64>,
}

/// `[http]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpFile {
    /// Address and port; port 0 takes a free one.
    pub listen: Option<String>,
}

/// `[mqtt]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttFile {
    /// Address and port; port 0 takes a free one.
    pub listen: Option<String>,
    /// Most devices connected at once.
    pub max_clients: Option<usize>,
    /// The host that devices are told at enrolment; default: the one they enrolled at.
    pub advertise_host: Option<String>,
}

/// `[broker]`
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerFile {
    /// `mqtt://host:port` or `mqtts://host:port`.
    pub url: String,
    /// User name.
    pub username: Option<String>,
    /// File whose first line is the password; or set `FIELDPOST_BROKER_PASSWORD`.
    pub password_file: Option<PathBuf>,
    /// The only certificate authorities to believe (PEM); default: those of the machine.
    pub ca: Option<PathBuf>,
    /// The URL that devices are told at enrolment, when it differs.
    pub advertise: Option<String>,
    /// The controller's certificate chain (PEM), when the broker asks for one.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
}

impl fmt::Debug for BrokerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerFile").field("url", &self.url).finish_non_exhaustive()
    }
}

/// `[tls]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFile {
    /// Certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// Private key, PEM.
    pub key: Option<PathBuf>,
}

/// `[enroll]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollFile {
    /// Whether devices without a token may ask, and wait for an operator's approval.
    pub approval: Option<bool>,
}

/// `[desired]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredFile {
    /// Days until a desired state allows no changes any more; it is signed anew at half time.
    pub lifetime_days: Option<u64>,
}

/// `[stats]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsFile {
    /// Days that windows are kept.
    pub keep_days: Option<u64>,
    /// Windows kept per device and release; older ones are merged, never dropped.
    pub keep_windows: Option<usize>,
}

/// What flags say; it wins over file and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Where the controller keeps its files.
    pub data_dir: Option<PathBuf>,
    /// Address of the API.
    pub http: Option<SocketAddr>,
    /// Address of the embedded broker.
    pub mqtt: Option<SocketAddr>,
    /// URL of an external broker.
    pub broker: Option<String>,
}

/// A password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// An external broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalBroker {
    /// Where it is.
    pub address: BrokerAddress,
    /// Who the controller is there.
    pub login: Option<(String, Password)>,
    /// The only certificate authorities to believe; without them, those of this machine.
    pub ca: Option<PathBuf>,
    /// The controller's certificate and key, when the broker asks for one.
    pub own: Option<TlsFiles>,
    /// Where devices find it.
    pub advertise: BrokerAddress,
}

/// Host, port and whether it is TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        let brackets = self.host.contains(':');
        let (open, close) = if brackets { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

/// Which broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// The one in this process.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
        /// Most devices connected at once.
        max_clients: usize,
        /// The host that devices are told.
        advertise_host: Option<String>,
    },
    /// Another one.
    External(ExternalBroker),
}

/// Certificate chain and private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// What the controller runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the fleet.
    pub fleet: FleetId,
    /// Where it keeps its files.
    pub data_dir: PathBuf,
    /// Names of topics.
    pub topics: Topics,
    /// Where the API listens.
    pub http: SocketAddr,
    /// Which broker.
    pub broker: Broker,
    /// TLS for the API and the embedded broker.
    pub tls: Option<TlsFiles>,
    /// Whether devices without a token may ask.
    pub approval: bool,
    /// How long a desired state allows changes.
    pub desired_lifetime: Duration,
    /// How long windows are kept.
    pub keep_windows_for: Duration,
    /// Windows kept per device and release.
    pub keep_windows: usize,
    /// How long a shutdown may take.
    pub shutdown: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Config {
    /// Everything at its default, in a data directory.
    ///
    /// # Errors
    /// Never with the defaults of this version.
    pub fn in_dir(data_dir: &Path) -> Result<Self, ConfigError> {
        Self::resolve(ConfigFile::default(), Overrides::default(), data_dir, |_| None)
    }

    /// Reads a file, if one is named, and resolves it. `data_dir` is where files go when nobody says.
    ///
    /// # Errors
    /// When the file or a value in it cannot be used.
    pub fn load(
        path: Option<&Path>,
        overrides: Overrides,
        data_dir: &Path,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let file = match path {
            Some(path) => {
                let text =
                    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
                toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?
            }
            None => ConfigFile::default(),
        };
        Self::resolve(file, overrides, data_dir, variable)
    }

    /// Makes a whole of what was said and what was not.
    ///
    /// # Errors
    /// When a value means nothing, or the network could listen in.
    pub fn resolve(
        file: ConfigFile,
        overrides: Overrides,
        data_dir: &Path,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let text = |key, text: Option<String>, default: &str| (key, text.unwrap_or_else(|| default.to_owned()));
        let tls = pair(file.tls.cert, file.tls.key, "tls")?;
        let fleet = parsed::<FleetId>(text("fleet", file.fleet, "default"))?;
        let (key, prefix) = text("topic_prefix", file.topic_prefix, fieldpost_shared::wire::topic::DEFAULT_PREFIX);
        let topics = Topics::new(&prefix).map_err(|error| ConfigError::Value {
            key,
            value: prefix,
            reason: error.to_string(),
        })?;
        let http = listen(overrides.http, "http.listen", file.http.listen, DEFAULT_HTTP, tls.is_some())?;
        let broker = match (overrides.broker, file.broker) {
            (Some(url), Some(file)) => external(BrokerFile { url, ..file }, &variable)?,
            (Some(url), None) => external(BrokerFile { url, ..BrokerFile::default() }, &variable)?,
            (None, Some(file)) => external(file, &variable)?,
            (None, None) => Broker::Embedded {
                listen: listen(overrides.mqtt, "mqtt.listen", file.mqtt.listen, DEFAULT_MQTT, tls.is_some())?,
                max_clients: file.mqtt.max_clients.unwrap_or(10_000).clamp(1, 1_000_000),
                advertise_host: file.mqtt.advertise_host,
            },
        };
        let days = |days: Option<u64>, default: u64| {
            DAY.saturating_mul(u32::try_from(days.unwrap_or(default).clamp(1, 3_650)).unwrap_or(3_650))
        };
        Ok(Self {
            fleet,
            data_dir: overrides.data_dir.or(file.data_dir).unwrap_or_else(|| data_dir.to_owned()),
            topics,
            http,
            broker,
            tls,
            approval: file.enroll.approval.unwrap_or(false),
            desired_lifetime: days(file.desired.lifetime_days, 30),
            keep_windows_for: days(file.stats.keep_days, 14),
            keep_windows: file.stats.keep_windows.unwrap_or(128).clamp(16, 10_000),
            shutdown: Duration::from_secs(file.shutdown_s.unwrap_or(10).clamp(1, 300)),
        })
    }
}

fn parsed<T: std::str::FromStr<Err: fmt::Display>>((key, value): (&'static str, String)) -> Result<T, ConfigError> {
    value.parse().map_err(|error: T::Err| ConfigError::Value { key, value, reason: error.to_string() })
}

fn listen(
    flag: Option<SocketAddr>,
    key: &'static str,
    file: Option<String>,
    default: &str,
    tls: bool,
) -> Result<SocketAddr, ConfigError> {
    let address = match flag {
        Some(address) => address,
        None => parsed((key, file.unwrap_or_else(|| default.to_owned())))?,
    };
    if tls || is_loopback(address.ip()) { Ok(address) } else { Err(ConfigError::Exposed { key, address }) }
}

/// Also when it is an IPv4 address in IPv6 clothes.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn pair(cert: Option<PathBuf>, key: Option<PathBuf>, section: &'static str) -> Result<Option<TlsFiles>, ConfigError> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        _ => Err(ConfigError::HalfTls(section)),
    }
}

fn external(file: BrokerFile, variable: &impl Fn(&str) -> Option<OsString>) -> Result<Broker, ConfigError> {
    let address = broker_address("broker.url", &file.url)?;
    let advertise = match &file.advertise {
        Some(url) => broker_address("broker.advertise", url)?,
        None => address.clone(),
    };
    let password = match (&file.password_file, variable(BROKER_PASSWORD)) {
        (_, Some(text)) => text.to_string_lossy().into_owned(),
        (Some(path), None) => {
            let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        (None, None) => String::new(),
    };
    let own = pair(file.cert, file.key, "broker")?;
    let login = file.username.map(|name| (name, Password(password)));
    Ok(Broker::External(ExternalBroker { address, login, ca: file.ca, own, advertise }))
}

/// Reads `mqtt://host[:1883]` or `mqtts://host[:8883]`.
fn broker_address(key: &'static str, url: &str) -> Result<BrokerAddress, ConfigError> {
    let refuse = |reason: &str| ConfigError::Value { key, value: url.to_owned(), reason: reason.to_owned() };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("it is mqtt://host:port or mqtts://host:port"))?;
    let (tls, default_port) = match scheme {
        "mqtt" => (false, 1883),
        "mqtts" => (true, 8883),
        _ => return Err(refuse("the scheme is mqtt or mqtts")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@', ' ']) {
        return Err(refuse("it holds only host and port; name and password have keys of their own"));
    }
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(|| refuse("after `]` comes `:port`"))?)),
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(text) => text.parse::<u16>().map_err(|_not_a_port| refuse("the port is a number from 1 to 65535"))?,
        None => default_port,
    };
    if host.is_empty() || port == 0 {
        return Err(refuse("it needs a host and a port"));
    }
    Ok(BrokerAddress { host: host.to_owned(), port, tls })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
