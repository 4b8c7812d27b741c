//! Brokers to run against: the embedded one, and those that an operator may have, as processes.

mod certificates;

pub use certificates::Certificates;

use anyhow::{Context as _, bail};
use fieldpost::demo::process::{START_DEADLINE, eventually, free_port};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Which broker a scenario uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Inside the controller.
    Embedded,
    /// Debian's mosquitto.
    Mosquitto,
    /// The same behind TLS, asking everybody for a certificate.
    MosquittoTls,
    /// Debian's NATS server with its MQTT gateway, which keeps retained messages in JetStream.
    Nats,
}

/// A broker; ends with its handle.
#[derive(Debug)]
pub enum Broker {
    /// Inside the controller: nothing to run.
    Embedded,
    /// A process.
    Apart(Box<Apart>),
}

/// A broker that is a process of its own.
#[derive(Debug)]
pub struct Apart {
    kind: Kind,
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
    certificates: Option<Certificates>,
}

impl Kind {
    /// The name of the program, which is that of Debian's package too.
    const fn program(self) -> Option<&'static str> {
        match self {
            Self::Embedded => None,
            Self::Mosquitto | Self::MosquittoTls => Some("mosquitto"),
            Self::Nats => Some("nats-server"),
        }
    }
}

impl Broker {
    /// Starts a broker. None when it is not installed, and nobody demands it; that is said loudly.
    ///
    /// # Errors
    /// When it is demanded (`FIELDPOST_REQUIRE_PEERS`) and missing, or does not start.
    pub async fn start(kind: Kind, dir: &Path) -> anyhow::Result<Option<Self>> {
        let Some(name) = kind.program() else { return Ok(Some(Self::Embedded)) };
        let places = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"];
        let Some(program) = places.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists()) else {
            if std::env::var_os("FIELDPOST_REQUIRE_PEERS").is_some() {
                bail!("{name} is not installed, and FIELDPOST_REQUIRE_PEERS demands it: `apt-get install {name}`");
            }
            eprintln!("NOT TESTED: {name} is not installed; `apt-get install {name}` to run this scenario on it");
            return Ok(None);
        };
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir)?;
        let certificates = (kind == Kind::MosquittoTls).then(|| Certificates::make(&dir)).transpose()?;
        let mut broker = Apart { kind, program, dir, port: free_port()?, child: None, certificates };
        broker.launch().await?;
        Ok(Some(Self::Apart(Box::new(broker))))
    }

    /// The process that it is.
    ///
    /// # Errors
    /// When it is inside the controller.
    pub fn apart(&mut self) -> anyhow::Result<&mut Apart> {
        match self {
            Self::Embedded => bail!("the embedded broker is no process of its own"),
            Self::Apart(apart) => Ok(apart),
        }
    }

    /// Lines for the controller's configuration.
    #[must_use]
    pub fn config(&self) -> String {
        match self {
            Self::Embedded => String::new(),
            Self::Apart(apart) => match &apart.certificates {
                None => format!("[broker]\nurl = \"mqtt://127.0.0.1:{}\"\n", apart.port),
                Some(own) => format!(
                    "[broker]\nurl = \"mqtts://127.0.0.1:{}\"\ncert = {:?}\nkey = {:?}\n",
                    apart.port, own.client, own.client_key
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
            Self::Apart(apart) => apart.certificates.as_ref(),
        }
    }
}

impl Apart {
    fn config(&self) -> String {
        let (port, dir) = (self.port, self.dir.display());
        match self.kind {
            // Its own protocol gets a port of the system's choice.
            Kind::Nats => format!(
                "server_name: scenario\nlisten: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{dir}/kept\" }}\n\
                 mqtt {{ host: \"127.0.0.1\", port: {port} }}\n"
            ),
            Kind::Embedded | Kind::Mosquitto | Kind::MosquittoTls => format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {dir}/\n\
                 persistence_file kept\nmessage_size_limit 131072\nmax_queued_messages 10000\nset_tcp_nodelay true\n\
                 user root\n{}",
                self.certificates.as_ref().map_or_else(String::new, Certificates::config),
            ),
        }
    }

    async fn launch(&mut self) -> anyhow::Result<()> {
        let config = self.dir.join("broker.conf");
        std::fs::write(&config, self.config())?;
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("broker.log"))?;
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        let port = self.port;
        eventually("the broker", START_DEADLINE, || async { TcpStream::connect(("127.0.0.1", port)).await.ok() })
            .await?;
        Ok(())
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Kills it, wipes what it kept, and starts it again on the same port.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn wipe(&mut self) -> anyhow::Result<()> {
        self.end().await?;
        // A file of mosquitto's, a directory of NATS's; mosquitto may have written nothing yet.
        let kept = self.dir.join("kept");
        if kept.is_dir() {
            std::fs::remove_dir_all(kept)?;
        } else {
            drop(std::fs::remove_file(kept));
        }
        self.launch().await
    }

    /// Kills it, and starts it again after so long.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn away(&mut self, long: Duration) -> anyhow::Result<()> {
        self.end().await?;
        tokio::time::sleep(long).await;
        self.launch().await
    }
}
