//! How long a fleet takes to go back: `cargo bench -p fieldpost-tests --bench rollback`.
//!
//! A controller (a process) with its embedded broker, and again with mosquitto where that is installed; a thousand
//! devices as MQTT clients of this process, each with a key, a connection and signed messages of its own. All of them run
//! 1.1.0 when one says that it died with it; the strategy takes a release back at the first death. Measured from the
//! moment at which that report goes out: until each device has read and verified that it should run 1.0.0 again, until
//! each has said that it does, and until the controller calls the rollout taken back. Devices swap at once: what a real
//! box adds is its own swap, without a download, since the release before stays on its disk.

use anyhow::{Context as _, anyhow, ensure};
use fieldpost::demo::assets::{BETTER, GOOD};
use fieldpost_agent::identity::Identity;
use fieldpost_agent::identity::enroll::{EnrollRequest, enroll};
use fieldpost_agent::link::{ConnectOptions, Connection, Incoming, Speaker};
use fieldpost_shared::id::{DeviceId, ReleaseRef};
use fieldpost_shared::time::{Clock, SystemClock};
use fieldpost_shared::trust::{RootMetadata, SecretKey};
use fieldpost_shared::wire::names::device_level;
use fieldpost_shared::wire::v1::{
    Desired, FailureKind, Inventory, ModelReport, OutboxReport, Quarantined, Report, Sequence,
};
use fieldpost_shared::wire::{Topic, Topics, open_controller};
use fieldpost_tests::broker::Kind;
use fieldpost_tests::field::Field;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const DEVICES: usize = 1_000;
/// Connections that are made at the same time.
const AT_ONCE: usize = 32;
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two reports of a device that has nothing new to say: what a rollout hears after a soak.
const REPORT: Duration = Duration::from_secs(15);

const STRATEGY: &str = r#"
waves = "100%"
soak = "10m"
min_requests = 0
evidence = "requests"
limits.crashes = 0
"#;

/// What a device tells the bench.
enum News {
    /// It has read that it should run this.
    Read(usize, ReleaseRef, Instant),
    /// The broker has its report.
    Said(usize, Instant),
}

/// A thing that speaks and listens like an agent, and runs no model.
struct Device {
    number: usize,
    identity: Identity,
    speaker: Speaker,
    root: Arc<RootMetadata>,
    clock: Arc<dyn Clock>,
    topics: Topics,
    live: Option<ReleaseRef>,
    previous: Option<ReleaseRef>,
    quarantine: Vec<Quarantined>,
    accepted: u64,
    reports: u64,
    attempt: u32,
}

impl Device {
    async fn connect(&self) -> anyhow::Result<Connection> {
        let options = ConnectOptions {
            host: self.identity.broker.host.clone(),
            port: self.identity.broker.port,
            tls: None,
            client_id: self.speaker.client_id(),
            login: Some((device_level(&self.identity.device), self.speaker.password(self.clock.now()))),
            keep_alive: Duration::from_secs(60),
            will: None,
            inflight: 8,
        };
        let connection = Connection::open(options).await?;
        connection.subscribe([self.topics.name(&Topic::Desired(self.identity.device.clone()))])?;
        Ok(connection)
    }

    fn report(&mut self) -> Vec<u8> {
        self.reports += 1;
        let model = self.live.iter().map(|live| ModelReport {
            model: live.model.clone(),
            live: Some(live.clone()),
            previous: self.previous.clone(),
            candidate: None,
            swaps: self.reports,
        });
        self.speaker.report(&Report {
            fleet: self.identity.fleet.clone(),
            device: self.identity.device.clone(),
            sequence: Sequence { epoch: 1, number: self.reports },
            at: self.clock.now(),
            desired_sequence: self.accepted,
            root_version: self.root.version,
            inventory: Inventory {
                agent_version: "0.1.0".into(),
                arch: "x86_64".into(),
                ram_mib: 4_096,
                free_disk_mib: 10_000,
                ..Inventory::default()
            },
            models: model.collect(),
            quarantine: self.quarantine.clone(),
            outbox: OutboxReport::default(),
            refused: vec![],
            hold: None,
            fetched_bytes: 0,
        })
    }

    fn say(&mut self, connection: &Connection) -> anyhow::Result<()> {
        let topic = self.topics.name(&Topic::Report(self.identity.device.clone()));
        Ok(connection.publish(topic, self.report(), true)?)
    }

    /// Dies with what is live, twice, and says so.
    fn die(&mut self) {
        let Some(live) = self.live.take() else { return };
        let (at, detail) = (self.clock.now(), "died twice".to_owned());
        let (attempt, kind) = (self.attempt, FailureKind::Crash);
        self.quarantine.push(Quarantined { release: live, attempt, rollout: None, kind, detail, at });
        self.live = self.previous.take();
    }

    async fn live(mut self, news: mpsc::UnboundedSender<News>, mut dies: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        self.say(&connection)?;
        let mut reports = tokio::time::interval_at(tokio::time::Instant::now() + REPORT, REPORT);
        loop {
            tokio::select! {
                _ = reports.tick() => self.say(&connection)?,
                event = connection.next() => match event {
                    Some(Incoming::Message { payload, .. }) => {
                        let desired: Desired = open_controller(&payload, &self.root, &self.identity.device)?;
                        let Some(to) = desired.assignments.first() else { continue };
                        self.accepted = desired.sequence;
                        self.attempt = to.attempt;
                        if self.live.as_ref() != Some(&to.release) {
                            self.previous = self.live.replace(to.release.clone());
                        }
                        drop(news.send(News::Read(self.number, to.release.clone(), Instant::now())));
                        self.say(&connection)?;
                    }
                    Some(Incoming::Published) => drop(news.send(News::Said(self.number, Instant::now()))),
                    Some(Incoming::Lost(error)) => return Err(error.into()),
                    Some(Incoming::SubscriptionRefused) => return Err(anyhow!("a subscription was refused")),
                    None => return Err(anyhow!("the connection is over")),
                },
                changed = dies.changed(), if self.number == 0 => {
                    changed?;
                    self.die();
                    self.say(&connection)?;
                }
            }
        }
    }
}

async fn devices(field: &Field) -> anyhow::Result<Vec<Device>> {
    let count = DEVICES.to_string();
    let token: serde_json::Value =
        field.command(&["token", "create", "--enroll", "--uses", &count]).await?.json().context("token create")?;
    let token = token.get("token").and_then(serde_json::Value::as_str).context("no token")?;
    let (client, clock) = (reqwest::Client::new(), Arc::new(SystemClock::new()));
    let mut devices: Vec<Device> = Vec::with_capacity(DEVICES);
    for number in 0..DEVICES {
        let key = SecretKey::generate()?;
        let device: DeviceId = format!("box-{number:04}").parse()?;
        let (public_key, labels) = (key.public(), [].into());
        let request = EnrollRequest { token: token.into(), public_key, device: Some(device), labels, inventory: None };
        let (identity, roots, _) = enroll(&client, &field.controller.http, &request, None).await?;
        let root = match devices.first() {
            Some(first) => Arc::clone(&first.root),
            None => Arc::new(roots.into_iter().next_back().context("no root")?.metadata),
        };
        let speaker = Speaker::new(identity.clone(), key);
        devices.push(Device {
            number,
            identity,
            speaker,
            root,
            clock: clock.clone(),
            topics: Topics::default(),
            live: None,
            previous: None,
            quarantine: vec![],
            accepted: 0,
            reports: 0,
            attempt: 0,
        });
    }
    Ok(devices)
}

/// Waits until every device but the first `without` has read that it should run a version, and the broker has its report
/// that it does; gives when either was so.
async fn all_on(
    news: &mut mpsc::UnboundedReceiver<News>,
    version: &str,
    without: usize,
) -> anyhow::Result<[Vec<Instant>; 2]> {
    let mut read: Vec<Option<Instant>> = vec![None; DEVICES];
    let mut said = read.clone();
    let wait = async {
        while said.iter().skip(without).any(Option::is_none) {
            match news.recv().await {
                Some(News::Read(number, release, at)) if release.version.to_string() == version => {
                    read[number].get_or_insert(at);
                }
                Some(News::Said(number, at)) if read[number].is_some() => {
                    said[number].get_or_insert(at);
                }
                Some(_) => {}
                None => return Err(anyhow!("every device is gone")),
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, wait).await.with_context(|| format!("not everybody was told {version}"))??;
    Ok([read, said].map(|all| all.into_iter().skip(without).flatten().collect()))
}

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len()) - 1).copied().unwrap_or_default()
}

fn row(what: &str, since: Instant, at: Vec<Instant>) {
    let mut took: Vec<Duration> = at.into_iter().map(|at| at.duration_since(since)).collect();
    took.sort();
    let [p50, p99, all] = [0.5, 0.99, 1.0].map(|share| percentile(&took, share).as_secs_f64());
    println!("  {what:<44} p50 {p50:.2} s, p99 {p99:.2} s, all {all:.2} s");
}

async fn rollback(kind: Kind) -> anyhow::Result<()> {
    let Some(field) = Field::new(kind, 0).await? else { return Ok(()) };
    field.publish(&GOOD).await?;
    field.publish(&BETTER).await?;
    let devices = devices(&field).await?;
    let (sender, mut news) = mpsc::unbounded_channel();
    let (die, dies) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for some in in_groups(devices) {
        let count = some.len();
        for device in some {
            tasks.spawn(device.live(sender.clone(), dies.clone()));
        }
        // The next ones connect when these have said that they are there.
        for _ in 0..count {
            let said = tokio::time::timeout(PATIENCE, news.recv()).await.context("a device does not come up")?;
            ensure!(matches!(said, Some(News::Said(..))), "a device ended or was told something at once");
        }
    }
    field.install("1.0.0").await?;
    let strategy = field.dir().join("strategy.toml");
    std::fs::write(&strategy, STRATEGY)?;
    let id = field.start("1.1.0", &["--strategy", strategy.to_str().context("a path")?]).await?;
    all_on(&mut news, "1.1.0", 0).await?;
    field.until(&id, &["soaking"]).await?;
    while news.try_recv().is_ok() {}

    let began = Instant::now();
    die.send_replace(true);
    // The first device went back by itself.
    let [read, said] = all_on(&mut news, "1.0.0", 1).await?;
    let detail = field.until(&id, &["rolled-back"]).await?;
    let ended = began.elapsed();
    println!("rollback of {DEVICES} devices, {kind:?} broker");
    row("told: read and verified by the device", began, read);
    row("back: its report is with the broker", began, said);
    let pending = detail.pointer("/counts/reverting").and_then(serde_json::Value::as_u64).context("no counts")?;
    println!("  the controller calls it taken back after {:.2} s, {pending} not confirmed", ended.as_secs_f64());
    if let Some(ended) = tasks.try_join_next() {
        ended?.context("a device ended in the middle")?;
    }
    tasks.shutdown().await;
    Ok(())
}

fn in_groups(devices: Vec<Device>) -> Vec<Vec<Device>> {
    let mut groups: Vec<Vec<Device>> = Vec::new();
    for device in devices {
        match groups.last_mut().filter(|group| group.len() < AT_ONCE) {
            Some(group) => group.push(device),
            None => groups.push(vec![device]),
        }
    }
    groups
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    for kind in [Kind::Embedded, Kind::Mosquitto] {
        rollback(kind).await?;
    }
    Ok(())
}
