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
        let mut broker = Mosquitto { program, dir, port: free_port()?, child: None };
        broker.launch().await?;
        Ok(Some(Self::Mosquitto(Box::new(broker))))
    }

    /// Lines for the controller's configuration.
    #[must_use]
    pub fn config(&self) -> String {
        match self {
            Self::Embedded => String::new(),
            Self::Mosquitto(mosquitto) => format!("[broker]\nurl = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port),
        }
    }
}

impl Mosquitto {
    async fn launch(&mut self) -> anyhow::Result<()> {
        let config = self.dir.join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             message_size_limit 131072\nmax_queued_messages 10000\nset_tcp_nodelay true\nuser root\n",
            self.port,
            self.dir.display()
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
