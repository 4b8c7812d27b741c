//! Brokers to run against: the embedded one, and mosquitto as a process.

use anyhow::{Context as _, bail};
use fieldpost::demo::process::{START_DEADLINE, eventually};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const MOSQUITTO: [&str; 2] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

/// Which broker a scenario uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Inside the controller.
    Embedded,
    /// Debian's mosquitto.
    Mosquitto,
    /// The same behind TLS, asking everybody for a certificate.
    MosquittoTls,
}

/// A broker; ends with its handle.
#[derive(Debug)]
pub enum Broker {
    /// Inside the controller: nothing to run.
    Embedded,
    /// A process.
    Mosquitto(Box<Mosquitto>),
}

/// A running mosquitto.
#[derive(Debug)]
pub struct Mosquitto {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
    certificates: Option<Certificates>,
}

impl Broker {
    /// Starts a broker. None when it is not installed, and nobody demands it; that is said loudly.
    ///
    /// # Errors
    /// When it is demanded (`FIELDPOST_REQUIRE_PEERS`) and missing, or does not start.
    pub async fn start(kind: Kind, dir: &Path) -> anyhow::Result<Option<Self>> {
        if kind == Kind::Embedded {
            return Ok(Some(Self::Embedded));
        }
        let Some(program) = MOSQUITTO.iter().map(PathBuf::from).find(|path| path.exists()) else {
            if std::env::var_os("FIELDPOST_REQUIRE_PEERS").is_some() {
                bail!(
                    "mosquitto is not installed, and FIELDPOST_REQUIRE_PEERS demands it: `apt-get install mosquitto`"
                );
            }
            eprintln!("NOT TESTED: mosquitto is not installed; `apt-get install mosquitto` to run this scenario on it");
            return Ok(None);
        };
        let dir = dir.join("mosquitto");
        std::fs::create_dir_all(&dir)?;
        let certificates = (kind == Kind::MosquittoTls).then(|| Certificates::make(&dir)).transpose()?;
        let mut broker = Mosquitto { program, dir, port: free_port()?, child: None, certificates };
        broker.launch().await?;
        Ok(Some(Self::Mosquitto(Box::new(broker))))
    }

    /// Lines for the controller's configuration.
    #[must_use]
    pub fn config(&self) -> String {
        match self {
            Self::Embedded => String::new(),
            Self::Mosquitto(mosquitto) => match &mosquitto.certificates {
                None => format!("[broker]\nurl = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port),
                Some(own) => format!(
                    "[broker]\nurl = \"mqtts://127.0.0.1:{}\"\ncert = {:?}\nkey = {:?}\n",
                    mosquitto.port, own.client, own.client_key
                ),
            },
        }
    }

    /// Lines for an agent's configuration.
    #[must_use]
    pub fn agent_config(&self) -> String {
        self.certificates()
            .map_or_else(String::new, |own| format!("cert_file = {:?}\nkey_file = {:?}\n", own.client, own.client_key))
    }

    /// Whom it shows and believes, when it speaks TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        match self {
            Self::Embedded => None,
            Self::Mosquitto(mosquitto) => mosquitto.certificates.as_ref(),
        }
    }
}

impl Mosquitto {
    async fn launch(&mut self) -> anyhow::Result<()> {
        let config = self.dir.join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             message_size_limit 131072\nmax_queued_messages 10000\nset_tcp_nodelay true\nuser root\n{}",
            self.port,
            self.dir.display(),
            self.certificates.as_ref().map_or_else(String::new, Certificates::config),
        );
        std::fs::write(&config, text)?;
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("mosquitto.log"))?;
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start mosquitto")?;
        self.child = Some(child);
        let port = self.port;
        eventually("mosquitto", START_DEADLINE, || async { TcpStream::connect(("127.0.0.1", port)).await.ok() })
            .await?;
        Ok(())
    }

    /// Kills it, wipes what it kept, and starts it again on the same port.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn wipe(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        drop(std::fs::remove_file(self.dir.join("mosquitto.db")));
        self.launch().await
    }

    /// Kills it, and starts it again after so long.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn away(&mut self, long: std::time::Duration) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        tokio::time::sleep(long).await;
        self.launch().await
    }
}

/// An authority made for one scenario, what it certifies, and another authority that nobody believes.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// An authority that certifies nobody here.
    pub foreign_ca: PathBuf,
    server: PathBuf,
    server_key: PathBuf,
    client: PathBuf,
    client_key: PathBuf,
}

impl Certificates {
    fn make(dir: &Path) -> anyhow::Result<Self> {
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).map(|()| path)
        };
        let authority = || {
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, "authority of a scenario");
            let key = rcgen::KeyPair::generate()?;
            Ok::<_, rcgen::Error>((params.self_signed(&key)?.pem(), rcgen::Issuer::new(params, key)))
        };
        let (ca, issuer) = authority()?;
        let (foreign, _) = authority()?;
        let certify = |name: &str, host: &str| {
            let key = rcgen::KeyPair::generate()?;
            let mut params = rcgen::CertificateParams::new([host.to_owned()])?;
            // OpenSSL takes a certificate with its issuer's name for one that signed itself.
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer)?;
            let path = write(&format!("{name}.pem"), certificate.pem())?;
            anyhow::Ok((path, write(&format!("{name}.key"), key.serialize_pem())?))
        };
        let (server, server_key) = certify("server", "127.0.0.1")?;
        let (client, client_key) = certify("client", "client.example")?;
        let (ca, foreign_ca) = (write("ca.pem", ca)?, write("foreign-ca.pem", foreign)?);
        Ok(Self { ca, foreign_ca, server, server_key, client, client_key })
    }

    fn config(&self) -> String {
        let files = [("cafile", &self.ca), ("certfile", &self.server), ("keyfile", &self.server_key)];
        let lines: Vec<String> = files.iter().map(|(key, path)| format!("{key} {}", path.display())).collect();
        format!("{}\nrequire_certificate true\n", lines.join("\n"))
    }
}

/// A port of loopback that nobody listens on now, from below those that the system hands out by itself: scenarios that
/// run beside this one cannot take it while its server restarts.
///
/// # Errors
/// When none of a thousand is free.
pub fn free_port() -> anyhow::Result<u16> {
    use std::hash::{BuildHasher, RandomState};
    const LOWEST: u64 = 20_000;
    const BELOW: u64 = 32_000;
    let random = RandomState::new();
    let candidates = (0..1_000_u32).map(|attempt| LOWEST + random.hash_one(attempt) % (BELOW - LOWEST));
    let mut ports = candidates.filter_map(|port| u16::try_from(port).ok());
    ports
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no port between 20,000 and 32,000 is free")
}
