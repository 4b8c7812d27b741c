//! Real processes of this same executable: a controller, agents, and single commands. Used by `demo` and by the
//! end-to-end suite; each process ends with its handle.

use anyhow::{Context as _, anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a process may take to come up. Generous: a debug build on a busy machine loads models slowly.
pub const START_DEADLINE: Duration = Duration::from_secs(60);
/// Between looks at a file or an address that a process will provide.
const LOOK: Duration = Duration::from_millis(20);

/// The executable that all processes run.
#[derive(Debug, Clone)]
pub struct Exe {
    path: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Exe {
    /// The executable of this process.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn current() -> anyhow::Result<Self> {
        std::env::current_exe().map(Self::at).context("cannot find this executable")
    }

    /// A named executable.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), environment: Vec::new() }
    }

    /// With a variable in the environment of all its processes.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<PathBuf>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.path);
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        // What the caller's shell has set must not steer the processes.
        for name in ["FIELDPOST_SERVER", "FIELDPOST_TOKEN", "FIELDPOST_DATA_DIR", "FIELDPOST_CONTROLLER"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end: exit code, standard output, standard error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> anyhow::Result<Finished> {
        let output = self.command(args).output().await.context("cannot start the executable")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    fn spawn<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, log: &Path) -> anyhow::Result<Child> {
        let open = || File::options().create(true).append(true).open(log);
        let file = open().with_context(|| format!("cannot open the log `{}`", log.display()))?;
        let copy = file.try_clone().context("cannot share the log")?;
        self.command(args).stdout(file).stderr(copy).spawn().context("cannot start the executable")
    }
}

/// A command that ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Finished {
    /// Its output as JSON, when it succeeded.
    ///
    /// # Errors
    /// When it failed, with its own words, or printed something else.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        if self.code != Some(0) {
            bail!("exit code {:?}: {}", self.code, self.stderr.trim());
        }
        serde_json::from_str(&self.stdout).with_context(|| format!("not the expected JSON: {}", self.stdout.trim()))
    }
}

/// Waits until `look` finds something, or the deadline; says what was waited for.
///
/// # Errors
/// When the deadline passes.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let search = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(deadline, search).await.map_err(|_elapsed| anyhow!("no {what} within {deadline:?}"))
}

async fn endpoints(file: &Path, child: &mut Child, log: &Path) -> anyhow::Result<Value> {
    let search = async {
        loop {
            if let Some(found) = fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                return Ok(found);
            }
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(log).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(6).collect();
                bail!("ended with {status}: {}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(START_DEADLINE, search).await.context("did not come up")?
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| anyhow!("no `{key}` in {value}"))
}

async fn terminate(child: &mut Child, deadline: Duration) -> anyhow::Result<Option<i32>> {
    if let Some(pid) = child.id() {
        // The standard library can only kill; `kill` sends the polite signal.
        Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await.context("cannot run `kill`")?;
    }
    match tokio::time::timeout(deadline, child.wait()).await {
        Ok(status) => Ok(status?.code()),
        Err(_elapsed) => {
            child.kill().await?;
            bail!("did not stop within {deadline:?} after SIGTERM")
        }
    }
}

/// A running `fieldpost serve`.
#[derive(Debug)]
pub struct Controller {
    exe: Exe,
    dir: PathBuf,
    child: Option<Child>,
    /// Base URL of its API.
    pub http: String,
    /// URL of its broker.
    pub mqtt: String,
}

impl Controller {
    /// Starts a controller in `dir` with the lines of `config` (TOML), on free ports of loopback unless it says
    /// otherwise.
    ///
    /// # Errors
    /// When it does not come up; with its last words.
    pub async fn start(exe: Exe, dir: &Path, config: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
        let file = dir.join("controller.toml");
        fieldpost_shared::durable::write_atomic(dir, "controller.toml", config.as_bytes())
            .with_context(|| format!("cannot write `{}`", file.display()))?;
        let mut controller = Self { exe, dir: dir.to_owned(), child: None, http: String::new(), mqtt: String::new() };
        let address = || free_port().map(|port| format!("127.0.0.1:{port}"));
        controller.launch(&address()?, &address()?).await?;
        Ok(controller)
    }

    async fn launch(&mut self, http: &str, mqtt: &str) -> anyhow::Result<()> {
        let (data, log) = (self.data_dir(), self.dir.join("controller.log"));
        drop(fs::remove_file(data.join("endpoints.json")));
        let config = self.dir.join("controller.toml");
        let args = [
            OsStr::new("serve"),
            OsStr::new("--config"),
            config.as_os_str(),
            OsStr::new("--data-dir"),
            data.as_os_str(),
            OsStr::new("--http"),
            OsStr::new(http),
            OsStr::new("--mqtt"),
            OsStr::new(mqtt),
        ];
        let mut child = self.exe.spawn(args, &log)?;
        let found = endpoints(&data.join("endpoints.json"), &mut child, &log).await.context("the controller")?;
        (self.http, self.mqtt) = (text(&found, "http")?, text(&found, "mqtt")?);
        self.child = Some(child);
        Ok(())
    }

    /// Starts it again where it was, on the same ports.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let address = |url: &str| url.rsplit('/').find(|part| !part.is_empty()).unwrap_or("127.0.0.1:0").to_owned();
        let (http, mqtt) = (address(&self.http), address(&self.mqtt));
        self.launch(&http, &mqtt).await
    }

    /// Where it keeps its files.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("controller")
    }

    /// Ends it with SIGKILL, at once.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill().await.context("cannot kill the controller"),
            None => Ok(()),
        }
    }

    /// Stops it politely; gives its exit code.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub async fn stop(&mut self) -> anyhow::Result<Option<i32>> {
        match self.child.take() {
            Some(mut child) => terminate(&mut child, Duration::from_secs(15)).await.context("the controller"),
            None => Ok(None),
        }
    }

    /// Runs a command of the command line against it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> anyhow::Result<Finished> {
        self.command_as("json", args).await
    }

    /// The same with what people read: `table`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn command_as<S: AsRef<OsStr>>(
        &self,
        format: &str,
        args: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Finished> {
        let data = self.data_dir();
        let common = ["--server", &self.http, "--output", format, "--data-dir"];
        let mut all: Vec<std::ffi::OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        all.extend(common.iter().map(Into::into));
        all.push(data.into());
        self.exe.run(all).await
    }
}

/// A running agent, enrolled.
#[derive(Debug)]
pub struct Agent {
    exe: Exe,
    dir: PathBuf,
    child: Option<Child>,
    /// Its name.
    pub device: String,
    /// Where it answers predictions.
    pub http: String,
    /// Times it was started.
    pub starts: u32,
}

impl Agent {
    /// Enrols a new agent in `dir` and starts it. `config` is TOML.
    ///
    /// # Errors
    /// When enrolment or start fails; with the agent's words.
    pub async fn start(
        exe: Exe,
        dir: &Path,
        device: &str,
        controller: &str,
        token: &str,
        config: &str,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
        fieldpost_shared::durable::write_atomic(dir, "agent.toml", config.as_bytes()).context("agent.toml")?;
        let mut agent =
            Self { exe, dir: dir.to_owned(), child: None, device: device.to_owned(), http: String::new(), starts: 0 };
        let enrolled =
            agent.command(["enroll", "--controller", controller, "--token", token, "--device", device]).await?;
        enrolled.json::<Value>().with_context(|| format!("cannot enrol {device}"))?;
        agent.restart().await?;
        Ok(agent)
    }

    /// Starts it, again, on the port that it had.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let (data, log) = (self.data_dir(), self.dir.join("agent.log"));
        let http = if self.http.is_empty() { "127.0.0.1:0" } else { &self.http };
        drop(fs::remove_file(data.join("endpoints.json")));
        let args = self.args(["run", "--http", http]);
        let mut child = self.exe.spawn(args, &log)?;
        let found = endpoints(&data.join("endpoints.json"), &mut child, &log)
            .await
            .with_context(|| format!("agent {}", self.device))?;
        self.http = text(&found, "http")?;
        self.child = Some(child);
        self.starts += 1;
        Ok(())
    }

    /// A second agent with this one's configuration, and with what stands in `dir/data`: as a cloned box.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn twin(&self, dir: &Path) -> anyhow::Result<Self> {
        fs::copy(self.dir.join("agent.toml"), dir.join("agent.toml")).context("agent.toml")?;
        let (exe, device) = (self.exe.clone(), self.device.clone());
        let mut agent = Self { exe, dir: dir.to_owned(), child: None, device, http: String::new(), starts: 0 };
        agent.restart().await?;
        Ok(agent)
    }

    fn args<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Vec<std::ffi::OsString> {
        let mut all: Vec<std::ffi::OsString> = vec!["agent".into()];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        all.extend(["--config".into(), self.dir.join("agent.toml").into()]);
        all.extend(["--data-dir".into(), self.data_dir().into()]);
        all
    }

    /// Where it keeps its files.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Runs a command of the agent's command line on this box, with JSON output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> anyhow::Result<Finished> {
        let mut all = self.args(args);
        all.extend(["--output".into(), "json".into()]);
        self.exe.run(all).await
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Ends it with SIGKILL, at once, as a power cut would.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill().await.context("cannot kill the agent"),
            None => Ok(()),
        }
    }

    /// Stops it politely; gives its exit code.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub async fn stop(&mut self) -> anyhow::Result<Option<i32>> {
        match self.child.take() {
            Some(mut child) => terminate(&mut child, Duration::from_secs(25)).await.context("the agent"),
            None => Ok(None),
        }
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
