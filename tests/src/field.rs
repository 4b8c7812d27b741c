//! A field: a broker, a controller, agents, releases of the digits model, and questions about them.

use crate::broker::{Broker, Kind};
use anyhow::{Context as _, anyhow};
use fieldpost::demo::assets::{self, Digit, Source};
use fieldpost::demo::process::{Agent, Controller, Exe, Finished, eventually};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long anything may take here. Far more than it takes: the suite must not fail because a machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

const AGENT_CONFIG: &str =
    "stats_window_s = 1\nreport_interval_s = 2\nthreads = 1\nfetch_patience_s = 3\nlog = \"info\"\n";

/// Everything that runs in a scenario.
#[derive(Debug)]
pub struct Field {
    /// The broker.
    pub broker: Broker,
    /// The controller.
    pub controller: Controller,
    /// The agents.
    pub agents: Vec<Agent>,
    /// Images to ask about.
    pub digits: Vec<Digit>,
    token: String,
    exe: Exe,
    dir: tempfile::TempDir,
}

/// The executable under test.
#[must_use]
pub fn exe() -> Exe {
    Exe::at(exe_dir().join("fieldpost-e2e"))
}

/// Where cargo puts what it builds.
pub(crate) fn exe_dir() -> PathBuf {
    // `CARGO_BIN_EXE_*` is set for the test targets only; the executable stands beside `deps/`.
    let mut dir = std::env::current_exe().unwrap_or_default();
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    dir
}

impl Field {
    /// A broker, a controller, and `devices` agents. None when the broker is not installed.
    ///
    /// # Errors
    /// When something does not come up.
    pub async fn new(kind: Kind, devices: usize) -> anyhow::Result<Option<Self>> {
        fieldpost::install_crypto();
        let dir = tempfile::tempdir()?;
        let Some(broker) = Broker::start(kind, dir.path()).await? else { return Ok(None) };
        // The scenario's authority is one of the machine's, as far as these processes see.
        let exe = match broker.certificates() {
            Some(certificates) => exe().with("SSL_CERT_FILE", &certificates.ca),
            None => exe(),
        };
        let controller = Controller::start(exe.clone(), &dir.path().join("controller"), &broker.config()).await?;
        let token: Value = controller
            .command(["token", "create", "--enroll", "--uses", "100"])
            .await?
            .json()
            .context("token create")?;
        let token = token.get("token").and_then(Value::as_str).context("no token")?.to_owned();
        let mut field = Self { broker, controller, agents: vec![], digits: assets::stream()?, token, exe, dir };
        for _ in 0..devices {
            field.join(&[]).await?;
        }
        Ok(Some(field))
    }

    /// The scenario's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// One more agent; gives its index.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn join(&mut self, config: &[&str]) -> anyhow::Result<usize> {
        let number = self.agents.len() + 1;
        // Some are called as hosts are.
        let domain = if number > 2 { ".lyon.example" } else { "" };
        let name = format!("box-{number:02}{domain}");
        let config = format!("{AGENT_CONFIG}{}{}\n", self.broker.agent_config(), config.join("\n"));
        let dir = self.dir.path().join(&name);
        let agent = Agent::start(self.exe.clone(), &dir, &name, &self.controller.http, &self.token, &config).await?;
        self.agents.push(agent);
        Ok(self.agents.len() - 1)
    }

    /// Packs and pushes a release.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn publish(&self, source: &Source) -> anyhow::Result<()> {
        let folder = source.unpack(&self.dir.path().join("models"))?;
        self.publish_folder(&folder).await
    }

    /// Packs and pushes a folder.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn publish_folder(&self, folder: &Path) -> anyhow::Result<()> {
        let file: PathBuf = folder.with_extension("fieldpost");
        let key = self.controller.data_dir().join("trust/publisher.key");
        let pack =
            ["bundle".into(), "pack".into(), folder.to_owned(), "--key".into(), key, "--out".into(), file.clone()];
        self.controller.command(pack).await?.json::<Value>().context("bundle pack")?;
        self.controller
            .command(["bundle".into(), "push".into(), file])
            .await?
            .json::<Value>()
            .context("bundle push")?;
        Ok(())
    }

    /// Starts a rollout; gives its id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn start(&self, version: &str, more: &[&str]) -> anyhow::Result<String> {
        let release = format!("digits@{version}");
        let mut args = vec!["rollout", "start", &release];
        args.extend(more);
        let answer: Value = self.controller.command(args).await?.json().context("rollout start")?;
        answer.get("id").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| anyhow!("no id in {answer}"))
    }

    /// A rollout with everything.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn rollout(&self, id: &str) -> anyhow::Result<Value> {
        self.controller.command(["rollout", "show", id]).await?.json()
    }

    /// Waits until a rollout is in one of some states; gives it.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn until(&self, id: &str, states: &[&str]) -> anyhow::Result<Value> {
        let mut last = String::new();
        let found = eventually(&format!("{states:?} of rollout {id}"), PATIENCE, || {
            let asked = self.rollout(id);
            async {
                let detail = asked.await.ok()?;
                let state = detail.get("state").and_then(Value::as_str).unwrap_or_default().to_owned();
                Some(detail).filter(|_| states.contains(&state.as_str()))
            }
        })
        .await;
        if found.is_err() {
            last = self.rollout(id).await.map(|detail| detail.to_string()).unwrap_or_default();
        }
        found.with_context(|| format!("it is {last}"))
    }

    /// Installs a release everywhere and waits for it.
    ///
    /// # Errors
    /// When it does not complete.
    pub async fn install(&self, version: &str) -> anyhow::Result<()> {
        let id = self
            .start(version, &["--waves", "100%", "--soak", "1s", "--min-requests", "0", "--evidence", "requests"])
            .await?;
        self.until(&id, &["completed"]).await.map(drop)
    }

    /// Asks one agent about one image; gives label and version.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ask(&self, agent: usize, image: usize) -> anyhow::Result<(String, String)> {
        let agent = self.agents.get(agent).context("no such agent")?;
        let digit = self.digits.get(image % self.digits.len()).context("no images")?;
        let url = format!("http://{}/predict", agent.http);
        let request = reqwest::Client::new().post(url).header("content-type", "image/png").body(digit.png.clone());
        let response = request.send().await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
        text("label").zip(text("version")).ok_or_else(|| anyhow!("{status}: {answer}"))
    }

    /// Waits until an agent answers with a version.
    ///
    /// # Errors
    /// When it does not.
    pub async fn serves(&self, agent: usize, version: &str) -> anyhow::Result<()> {
        eventually(&format!("answer of {version} by agent {agent}"), PATIENCE, || async {
            self.ask(agent, 0).await.ok().filter(|(_, found)| found == version).map(drop)
        })
        .await
    }

    /// A device as the controller knows it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn device(&self, agent: usize) -> anyhow::Result<Value> {
        let name = self.agents.get(agent).context("no such agent")?.device.clone();
        self.controller.command(["device", "show", &name]).await?.json()
    }

    /// A command against the controller.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn command(&self, args: &[&str]) -> anyhow::Result<Finished> {
        self.controller.command(args).await
    }

    /// Requests of a device that the controller has counted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn counted(&self, device: &str) -> anyhow::Result<u64> {
        let stats: Vec<Value> = serde_json::from_str(&self.get(&format!("/v1/stats?device={device}")).await?)?;
        Ok(stats.iter().filter_map(|one| one.get("requests")?.as_u64()).sum())
    }

    /// What the controller's API answers to a GET by the administrator.
    ///
    /// # Errors
    /// When it cannot be asked, or refuses.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        let token = std::fs::read_to_string(self.controller.data_dir().join("admin.token"))?;
        let url = format!("{}{path}", self.controller.http);
        let response = reqwest::Client::new().get(url).bearer_auth(token.trim()).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }
}
