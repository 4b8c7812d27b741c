//! What the demo does, act by act, and what it observes.

use super::assets::{self, Digit, Source};
use super::process::{Agent, Controller, Exe, eventually};
use super::summary::{Check, DeviceRow, RolloutLine, Story, Victim};
use super::timeline::Timeline;
use super::traffic::{Tally, Traffic};
use anyhow::{Context as _, anyhow};
use fieldpost_shared::durable::write_atomic;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Between two images on one device.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a rollout may take before the demo gives up.
const ROLLOUT_DEADLINE: Duration = Duration::from_secs(60);
/// Short windows, so that there is something to judge within a minute.
const AGENT_CONFIG: &str = "stats_window_s = 1\nreport_interval_s = 1\nthreads = 1\nlog = \"info\"\n";
/// Fewer devices can be halved in too few ways for chance to be told from harm.
pub(super) const ENOUGH_TO_COMPARE: usize = 10;
/// Half of the devices against the other half. The limit on drift is opened, so that the comparison alone decides.
const COMPARE: &str = r#"probation = "1s"
holdout = "0"
soak = "2s"
evidence = "trial"

[trial]
warm_up = "1s"
look_every = "2s"
looks = 2
permutations = 9999

[limits]
max_psi = 1000.0
"#;

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Stage {
    timeline: Timeline,
    dir: PathBuf,
    controller: Controller,
    agents: Vec<Agent>,
    traffic: Option<Traffic>,
    digits: Arc<Vec<Digit>>,
}

impl Stage {
    /// Starts the controller, packs, signs and pushes three releases, enrols and starts the agents.
    pub(super) async fn build(dir: &Path, devices: usize, timeline: Timeline) -> anyhow::Result<Self> {
        let exe = Exe::current()?;
        let controller = Controller::start(exe.clone(), &dir.join("controller"), "").await?;
        timeline.event("controller", &format!("up: API {}, broker {}", controller.http, controller.mqtt));
        let digits = Arc::new(assets::stream()?);
        let mut stage = Self { timeline, dir: dir.to_owned(), controller, agents: vec![], traffic: None, digits };
        for source in [assets::GOOD, assets::BETTER, assets::HARMFUL] {
            stage.publish(&source).await?;
        }
        stage.enrol(exe, devices).await?;
        Ok(stage)
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Packs, signs and pushes one release, with the same commands that people use.
    async fn publish(&self, source: &Source) -> anyhow::Result<()> {
        let folder = source.unpack(&self.dir.join("models"))?;
        let file = self.dir.join(format!("digits-{}.fieldpost", source.version));
        let key = self.controller.data_dir().join("trust/publisher.key");
        let pack = ["bundle".into(), "pack".into(), folder, "--key".into(), key, "--out".into(), file.clone()];
        self.controller.command(pack).await?.json::<Value>().context("bundle pack")?;
        let bytes = std::fs::metadata(&file).map_or(0, |meta| meta.len());
        self.controller
            .command(["bundle".into(), "push".into(), file])
            .await?
            .json::<Value>()
            .context("bundle push")?;
        self.timeline.event(
            "publisher",
            &format!("digits {} packed, self-tested, signed and pushed ({} KiB)", source.version, bytes / 1024),
        );
        Ok(())
    }

    async fn enrol(&mut self, exe: Exe, devices: usize) -> anyhow::Result<()> {
        let uses = devices.to_string();
        let token = self.controller.command(["token", "create", "--enroll", "--uses", &uses]).await?;
        let token: Value = token.json().context("token create")?;
        let token =
            token.get("token").and_then(Value::as_str).ok_or_else(|| anyhow!("no token in {token}"))?.to_owned();
        // A few at a time: each start makes a key, a database and two connections.
        for numbers in (1..=devices).collect::<Vec<_>>().chunks(4) {
            let starts = numbers.iter().map(|number| {
                let (exe, name) = (exe.clone(), format!("box-{number:02}"));
                let (dir, http, token) = (self.dir.join(&name), self.controller.http.clone(), token.clone());
                async move { Agent::start(exe, &dir, &name, &http, &token, AGENT_CONFIG).await }
            });
            self.agents.extend(futures_util::future::try_join_all(starts).await?);
        }
        self.timeline.event("fleet", &format!("{devices} agents enrolled and connected, nothing to run yet"));
        Ok(())
    }

    /// The three acts.
    pub(super) async fn play(&mut self) -> anyhow::Result<Story> {
        let devices = self.agents.len();
        let middle = devices.div_ceil(3);
        let waves = format!("1,{middle},{devices}");
        let (mut rollouts, mut victim) = (Vec::new(), None);

        // The first installation: nobody asks for predictions yet, so there is nothing to judge by.
        let first = ["--soak", "1s", "--min-requests", "0", "--evidence", "requests"];
        rollouts.push(self.rollout("1.0.0", &devices.to_string(), &first, None).await?);
        let addresses: Vec<_> = self.agents.iter().map(|a| (a.device.clone(), a.http.clone())).collect();
        self.traffic = Some(Traffic::start(addresses.into_iter(), &self.digits, PAUSE)?);
        self.timeline
            .event("devices", &format!("each answers {} digits a second as PNG over HTTP", 1000 / PAUSE.as_millis()));
        tokio::time::sleep(Duration::from_millis(1500)).await;

        // Its first wave is a single device, which no comparison can decide.
        let better = ["--soak", "2s", "--evidence", "gates"];
        rollouts.push(self.rollout("1.1.0", &waves, &better, Some(&mut victim)).await?);
        if devices < ENOUGH_TO_COMPARE {
            rollouts.push(self.rollout("1.2.0", &waves, &["--soak", "3s", "--evidence", "gates"], None).await?);
        } else {
            write_atomic(&self.dir, "compare.toml", COMPARE.as_bytes())?;
            let strategy = self.dir.join("compare.toml");
            let strategy = strategy.to_str().context("the directory's name is not UTF-8")?;
            let halves = format!("{},{devices}", devices / 2);
            rollouts.push(self.rollout("1.2.0", &halves, &["--strategy", strategy], None).await?);
        }

        tokio::time::sleep(Duration::from_millis(1500)).await;
        let tallies = match self.traffic.take() {
            Some(traffic) => traffic.stop().await,
            None => BTreeMap::new(),
        };
        self.story(rollouts, &tallies, victim).await
    }

    /// Starts a rollout and watches it to its end. With `victim`, one device of the last wave is killed in the middle.
    async fn rollout(
        &mut self,
        version: &str,
        waves: &str,
        flags: &[&str],
        mut victim: Option<&mut Option<Victim>>,
    ) -> anyhow::Result<RolloutLine> {
        let started = self.timeline.seconds();
        let release = format!("digits@{version}");
        let command = ["rollout", "start", &release, "--waves", waves].into_iter().chain(flags.iter().copied());
        let answer: Value = self.controller.command(command).await?.json().context("rollout start")?;
        let id = answer.get("id").and_then(Value::as_str).ok_or_else(|| anyhow!("no id in {answer}"))?.to_owned();
        self.timeline.event("operator", &format!("rollout {id} of {release}, waves {waves}"));
        let mut seen = String::new();
        let deadline = tokio::time::sleep(ROLLOUT_DEADLINE);
        tokio::pin!(deadline);
        loop {
            let detail: Value =
                self.controller.command(["rollout", "show", &id]).await?.json().context("rollout show")?;
            let line = RolloutLine::read(&detail, version, started, self.timeline.seconds());
            let now = line.text();
            if now != seen {
                self.timeline.event("rollout", &now);
                seen = now;
            }
            if let Some(slot) = victim.as_deref_mut()
                && slot.is_none()
                && line.wave == Some(line.waves.len())
            {
                *slot = self.strike(&detail).await?;
            }
            if !line.active {
                return Ok(line);
            }
            if line.state == "paused" {
                return Err(anyhow!("rollout {id} paused: {}", line.reason.unwrap_or_default()));
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(150)) => {}
                () = &mut deadline => return Err(anyhow!("rollout {id} did not end within {ROLLOUT_DEADLINE:?}: {seen}")),
            }
        }
    }

    /// Kills one device that is in the middle of its update, as a power cut would, and starts it again.
    async fn strike(&mut self, detail: &Value) -> anyhow::Result<Option<Victim>> {
        let devices = detail.get("devices").and_then(Value::as_array).cloned().unwrap_or_default();
        let last = detail.get("waves").and_then(Value::as_array).map_or(0, Vec::len);
        let in_last = |device: &&Value| device.get("wave_number").and_then(Value::as_u64) == u64::try_from(last).ok();
        let name = devices.iter().filter(in_last).find_map(|device| device.get("device")?.as_str());
        let Some(agent) = self.agents.iter_mut().find(|agent| Some(agent.device.as_str()) == name) else {
            return Ok(None);
        };
        let traffic = self.traffic.as_ref();
        let mark = |down| {
            if let Some(traffic) = traffic {
                traffic.mark_down(&agent.device, down);
            }
        };
        mark(true);
        agent.kill().await?;
        self.timeline.event(&agent.device, "SIGKILL in the middle of its update");
        let killed = self.timeline.seconds();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = self.timeline.seconds();
        agent.restart().await?;
        let url = format!("http://{}/v2/health/ready", agent.http);
        let client = reqwest::Client::new();
        eventually("answer after the restart", Duration::from_secs(20), || async {
            client.get(&url).send().await.ok().filter(|answer| answer.status().is_success()).map(drop)
        })
        .await?;
        let serving_after_s = self.timeline.seconds() - begun;
        traffic.inspect(|traffic| traffic.mark_down(&agent.device, false));
        self.timeline.event(&agent.device, &format!("started again, serving after {serving_after_s:.2} s"));
        Ok(Some(Victim { device: agent.device.clone(), killed_at_s: killed, serving_after_s }))
    }

    async fn story(
        &self,
        rollouts: Vec<RolloutLine>,
        tallies: &BTreeMap<String, Tally>,
        victim: Option<Victim>,
    ) -> anyhow::Result<Story> {
        let devices: Vec<Value> = self.controller.command(["device", "list"]).await?.json().context("device list")?;
        let rows: Vec<_> = tallies.iter().map(|(name, tally)| DeviceRow::read(name, tally, &devices)).collect();
        let (mut explain, mut told) = (Value::Null, String::new());
        if let Some(line) = rollouts.last() {
            let command = ["rollout", "explain", &line.id];
            explain = self.controller.command(command).await?.json().context("rollout explain")?;
            told = format!("$ fieldpost {}\n", command.join(" "));
            told += &self.controller.command_as("table", command).await?.stdout;
        }
        let checks = Check::all(&rollouts, &rows, victim.as_ref());
        Ok(Story { seconds: self.timeline.seconds(), devices: rows, rollouts, victim, explain, told, checks })
    }

    /// For `--keep`.
    pub(super) fn how_to_look_around(&self) -> String {
        let data = self.controller.data_dir();
        let address = self.agents.first().map(|agent| agent.http.clone()).unwrap_or_default();
        format!(
            "Still running; Ctrl-C ends it. Look around:\n  fieldpost --server {} --data-dir {} device list\n  curl http://{address}/status",
            self.controller.http,
            data.display()
        )
    }

    /// Ends all processes politely; kills what does not go.
    pub(super) async fn clear(&mut self) {
        drop(self.traffic.take());
        let stops = self.agents.iter_mut().map(Agent::stop);
        // Whatever does not stop is killed with its handle.
        drop(futures_util::future::join_all(stops).await);
        drop(self.controller.stop().await);
    }
}
