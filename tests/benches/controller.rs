//! What the controller's own work costs: `cargo bench -p fieldpost-tests --bench controller`.
//!
//! - ingest: signed statistics verified, decoded, stored (sled, synced) and acknowledged, per second of processor time;
//! - refill: an empty embedded broker told everything again, as after each start.
//!
//! Not a timed test: it prints a table and fails only when the work itself fails.

use anyhow::Context as _;
use fieldpost::api::types::{EnrollRequest, TokenKind, TokenRequest};
use fieldpost::audit::Audit;
use fieldpost::broker::{self, Broker};
use fieldpost::fleet::windows::Retention;
use fieldpost::fleet::{self, Fleet};
use fieldpost::link::connection::Target;
use fieldpost::link::ingest::{Inbound, Ingest, QUEUE};
use fieldpost::link::outbox::Outbox;
use fieldpost::link::{self, Link};
use fieldpost::metrics::Metrics;
use fieldpost::releases::{Blobs, Releases};
use fieldpost::rollout::fleet::AssignTo;
use fieldpost::store::{SledStore, Store};
use fieldpost::tokens::Tokens;
use fieldpost::trust_dir::Trust;
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::bundle::chunk::{cut, frame};
use fieldpost_shared::bundle::manifest::{FileEntry, FileRole, SCHEMA};
use fieldpost_shared::id::{DeviceId, Digest, ReleaseRef};
use fieldpost_shared::stats::{Baseline, NumericBaseline, Recorder};
use fieldpost_shared::time::{Clock, SystemClock};
use fieldpost_shared::trust::{Kind, SecretKey, envelope::sign};
use fieldpost_shared::wire::v1::{Stats, Window};
use fieldpost_shared::wire::{Topic, Topics, seal};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const DEVICES: usize = 1_000;
const MESSAGES: u64 = 10;
const CHUNKED_BYTES: usize = 20 << 20;

struct World {
    _dir: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    trust: Arc<Trust>,
    tokens: Tokens,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    fleet: Arc<Fleet>,
}

fn world() -> anyhow::Result<World> {
    let dir = tempfile::tempdir()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&dir.path().join("db"))?);
    let audit = Arc::new(Audit::open(store.clone(), clock.clone())?);
    let (trust, _) = Trust::open_or_create(&dir.path().join("trust"), &"bench".parse()?, clock.now())?;
    let trust = Arc::new(trust);
    let blobs = Blobs::open(&dir.path().join("blobs"))?;
    let releases = Releases::open(store.as_ref(), audit.clone(), clock.clone(), trust.clone(), blobs)?;
    let tokens = Tokens::open(store.as_ref(), audit.clone(), clock.clone())?;
    let outbox = Arc::new(Outbox::default());
    let fleet = Fleet::open(fleet::Parts {
        store,
        clock: clock.clone(),
        audit,
        trust: trust.clone(),
        releases: Arc::new(releases),
        outbox: outbox.clone(),
        desired_lifetime: Duration::from_secs(30 * 86_400),
        retention: Retention { age: Duration::from_secs(86_400), windows: 128 },
    })?;
    Ok(World { _dir: dir, clock, trust, tokens, outbox, metrics: Arc::default(), fleet: Arc::new(fleet) })
}

impl World {
    fn enroll(&self) -> anyhow::Result<Vec<(DeviceId, SecretKey)>> {
        let uses = u32::try_from(DEVICES)?;
        let kind = TokenKind::Enroll { uses, labels: [].into() };
        let token = self.tokens.create("bench", TokenRequest { kind, note: String::new(), expires_s: None })?.token;
        let mut devices = Vec::new();
        for number in 0..DEVICES {
            let (id, key): (DeviceId, _) = (format!("box-{number}").parse()?, SecretKey::generate()?);
            let (public_key, device) = (key.public(), Some(id.clone()));
            let token = token.clone();
            let request = EnrollRequest { token, public_key, device, labels: [].into(), inventory: None };
            self.fleet.devices().enroll(&self.tokens, request, false)?;
            devices.push((id, key));
        }
        Ok(devices)
    }

    fn ingest(&self) -> Ingest {
        Ingest {
            fleet: self.fleet.clone(),
            outbox: self.outbox.clone(),
            clock: self.clock.clone(),
            topics: Topics::default(),
            metrics: self.metrics.clone(),
        }
    }
}

/// The baseline of a classifier of 30 features.
fn baseline() -> Baseline {
    let values: Vec<f64> = (0..500).map(|n| f64::from(n % 97)).collect();
    let inputs = (0..30).filter_map(|n| NumericBaseline::from_values(format!("f{n}"), &values, 0, 15).ok()).collect();
    Baseline { n: 500, inputs, ..Baseline::default() }
}

/// A window as such a classifier sends it.
fn window(baseline: Arc<Baseline>) -> Vec<u8> {
    let mut recorder = Recorder::new("claims", "1.0.0", baseline, 1);
    for n in 0..500_u32 {
        recorder.request();
        (0..30).for_each(|feature| recorder.input(feature, f64::from((n * 7 + feature as u32) % 97)));
        recorder.answered(Duration::from_micros(u64::from(100 + n)), Duration::from_micros(20));
    }
    recorder.close(2).encode()
}

fn stats_of(devices: &[(DeviceId, SecretKey)], release: &ReleaseRef, content: &[u8]) -> anyhow::Result<Vec<Inbound>> {
    let mut messages = Vec::new();
    for number in 1..=MESSAGES {
        for (device, key) in devices {
            let window = Window { first: number, last: number, release: release.clone(), content: content.to_vec() };
            let (fleet, windows) = ("bench".parse()?, vec![window]);
            let body = Stats { fleet, device: device.clone(), epoch: 1, windows };
            let topic = Topics::default().name(&Topic::Stats(device.clone()));
            messages.push(Inbound { topic, payload: seal(&body, key)?.into(), retained: false });
        }
    }
    Ok(messages)
}

/// Processor time of this process, user and system.
fn processor() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("no fields")?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).context("no ticks");
    // utime and stime, in hundredths of a second on every Linux that there is.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

async fn bench_ingest() -> anyhow::Result<()> {
    let world = world()?;
    let devices = world.enroll()?;
    let release = push_release(&world)?;
    let manifest = world.fleet.releases().manifest(release.manifest)?;
    let content = window(Arc::new(manifest.baseline.clone().context("the release has no baseline")?));
    let messages = stats_of(&devices, &release, &content)?;
    let count = messages.len();
    let (sender, queue) = mpsc::channel(QUEUE);
    let (ingest, reactor, stop) = (world.ingest(), Handle::current(), CancellationToken::new());
    let (began, busy) = (Instant::now(), processor()?);
    let worker = tokio::task::spawn_blocking(move || ingest.run(queue, &stop, &reactor));
    for message in messages {
        sender.send(message).await?;
    }
    drop(sender);
    worker.await?;
    let (wall, cpu) = (began.elapsed(), processor()?.saturating_sub(busy));
    anyhow::ensure!(world.metrics.windows_stored.get() == count as u64, "not all windows were stored");
    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    println!("ingest   {count} messages of {} bytes, {DEVICES} devices", content.len());
    println!("         {:8.0} per second of wall time ({wall:.2?})", rate(wall));
    println!("         {:8.0} per second of processor time ({cpu:.2?})", rate(cpu));
    Ok(())
}

fn push_release(world: &World) -> anyhow::Result<ReleaseRef> {
    let mut state = 1_u64;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(CHUNKED_BYTES)
    .collect();
    let mut chunks = Vec::new();
    for (chunk, range) in cut(&content) {
        world.fleet.releases().blobs().put(chunk.sha256, &frame(&content[range])?)?;
        chunks.push(chunk);
    }
    let (path, role, sha256) = ("model.onnx".to_owned(), FileRole::Model, Digest::of(&content));
    let file = FileEntry { path, role, size: content.len() as u64, sha256, chunks };
    let manifest: Manifest = serde_json::from_value(serde_json::json!({
        "schema": SCHEMA, "name": "claims", "version": "1.0.0", "created": world.clock.now(), "files": [file],
        "inputs": [{"name": "x", "dtype": "FP32", "shape": [1, 2]}],
        "outputs": [{"name": "y", "dtype": "FP32", "shape": [1, 2]}], "baseline": baseline(),
    }))?;
    let bytes = manifest.to_bytes()?;
    let key = SecretKey::from_file(&std::fs::read_to_string(world.trust.dir().join("publisher.key"))?)?;
    Ok(world.fleet.releases().push("bench", &bytes, vec![sign(Kind::Manifest, &bytes, &key)])?.release.clone())
}

async fn bench_refill() -> anyhow::Result<()> {
    let world = world()?;
    let release = push_release(&world)?;
    let to = AssignTo { release: release.clone(), rollout: None, attempt: 1, probation_s: 60, beside: None };
    for (device, _) in world.enroll()? {
        world.fleet.assign(&device, &release.model, Some(&to))?;
    }
    world.outbox.clear();
    let broker = Broker::bind(broker::Parts {
        listen: "127.0.0.1:0".parse()?,
        max_clients: 10,
        tls: None,
        fleet: world.fleet.clone(),
        clock: world.clock.clone(),
        topics: Topics::default(),
        metrics: world.metrics.clone(),
    })
    .await?;
    let target = Target::embedded(broker.inner_address(), broker.login());
    let ((connected, _), (inbound, _queue)) = (watch::channel(false), mpsc::channel(QUEUE));
    let link = Link {
        fleet: world.fleet.clone(),
        outbox: world.outbox.clone(),
        clock: world.clock.clone(),
        topics: Topics::default(),
        metrics: world.metrics.clone(),
        inbound,
        connected,
    };
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    let (began, busy) = (Instant::now(), processor()?);
    let token = stop.clone();
    tasks.spawn(async move { drop(broker.run(token).await) });
    tasks.spawn(link::run(link, target, stop.clone()));
    while world.metrics.reconciliations.get() == 0 || !world.outbox.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (wall, cpu) = (began.elapsed(), processor()?.saturating_sub(busy));
    let megabytes = world.metrics.blob_bytes_published.get() as f64 / 1e6;
    println!("refill   {DEVICES} desired states and {megabytes:.1} MB of chunks into an empty embedded broker");
    println!("         {wall:.2?} of wall time, {cpu:.2?} of processor time");
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    bench_ingest().await?;
    bench_refill().await
}
