//! A box of real parts: disk, store, tract; the broker alone is played.

use super::super::{BoxEffects, Now};
use crate::fetch::exchange::Want;
use crate::fetch::{BlobExchange, Disk, Downloader, FetchSettings};
use crate::monitor::MonitorSettings;
use crate::runtime::fixtures::{digits_manifest, f32s, load, models};
use crate::serve::Registry;
use crate::store::{Store, StoreSettings};
use bytes::Bytes;
use fieldpost_shared::bundle::chunk::ChunkRef;
use fieldpost_shared::bundle::manifest::FileRole;
use fieldpost_shared::bundle::{FileEntry, GoldenSample, GoldenSet};
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::{Clock, ManualClock, Timestamp};
use fieldpost_shared::trust::envelope::{Kind, sign};
use fieldpost_shared::trust::root::{RoleKeys, SCHEMA};
use fieldpost_shared::trust::{RootMetadata, SecretKey, SignedRoot};
use fieldpost_shared::wire::v1::{Assignment, Inventory};
use std::collections::HashMap;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Chunks of these releases, far smaller than real ones: the model of 4 KiB has eight.
const CHUNK_BYTES: usize = 512;
pub(super) const PUBLISHER: u8 = 2;
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// What outlives the agent: the disk, the broker, the fleet's root.
pub(super) struct Bench {
    pub(super) data: tempfile::TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) root: Arc<RwLock<Arc<RootMetadata>>>,
    blobs: HashMap<Digest, Bytes>,
    asked: Mutex<Vec<Digest>>,
}

/// One run of the agent.
pub(super) struct Life {
    pub(super) effects: Arc<BoxEffects>,
    pub(super) store: Arc<Store>,
    pub(super) exchange: BlobExchange,
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// A root whose publisher is `publisher`, good for a day.
pub(super) fn root(version: u64, publisher: u8) -> Arc<RootMetadata> {
    let role = |seed| RoleKeys { keys: vec![key(seed).public()], threshold: 1 };
    Arc::new(RootMetadata {
        schema: SCHEMA.to_owned(),
        fleet: "default".parse().unwrap(),
        version,
        created: NOW,
        expires: NOW.plus(Duration::from_secs(86_400)),
        root: role(1),
        publisher: role(publisher),
        controller: role(3),
        revoked: vec![],
    })
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            data: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(NOW)),
            root: Arc::new(RwLock::new(root(1, PUBLISHER))),
            blobs: HashMap::new(),
            asked: Mutex::default(),
        }
    }

    /// Publishes a release: the model of digits, and golden samples that only version `n` has.
    pub(super) fn publish(&mut self, n: u64) -> Assignment {
        let mut manifest = digits_manifest();
        manifest.version = semver::Version::new(n, 0, 0);
        manifest.files.clear();
        let model = std::fs::read(models().join("digits-1.0/model.onnx")).unwrap();
        for (path, role, content) in
            [("model.onnx", FileRole::Model, model), ("golden.bin", FileRole::Golden, golden(n))]
        {
            let mut chunks = vec![];
            for piece in content.chunks(CHUNK_BYTES) {
                let sha256 = Digest::of(piece);
                self.blobs.insert(sha256, [&[0], piece].concat().into());
                chunks.push(ChunkRef { sha256, size: piece.len() as u64 });
            }
            let (path, size, sha256) = (path.to_owned(), content.len() as u64, Digest::of(&content));
            manifest.files.push(FileEntry { path, role, size, sha256, chunks });
        }
        let bytes = manifest.to_bytes().unwrap();
        let release = manifest.release(&bytes);
        let signatures = vec![sign(Kind::Manifest, &bytes, &key(PUBLISHER))];
        self.blobs.insert(release.manifest, [&[0], bytes.as_slice()].concat().into());
        Assignment { release, signatures, rollout: None, attempt: 1, probation_s: 0 }
    }

    /// The agent starts.
    pub(super) fn start(&self) -> Life {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let disk = Disk::open(self.data.path()).unwrap();
        let (store, _) = Store::open(self.data.path(), StoreSettings::default(), clock.as_ref()).unwrap();
        let root = RootMetadata::clone(&root(1, PUBLISHER));
        store.add_root(1, &SignedRoot::sign(root, &[&key(1)]).unwrap().to_bytes(), false).unwrap();
        let (store, exchange) = (Arc::new(store), BlobExchange::default());
        let settings = FetchSettings { window: 1, patience: Duration::from_secs(1), tries: 1 };
        let effects = BoxEffects {
            downloader: Downloader::new(exchange.clone(), disk.clone(), settings, 0),
            disk,
            registry: Registry::new(Arc::clone(&clock), MonitorSettings::default(), mpsc::channel(8).0),
            root: Arc::clone(&self.root),
            store: Arc::clone(&store),
            inventory: Inventory { agent_version: "0.1.0".to_owned(), ..Inventory::default() },
            cpu_features: String::new(),
            budget_bytes: None,
            clock,
            now: Now::default(),
        };
        Life { effects: Arc::new(effects), store, exchange }
    }

    /// Works while a broker answers the first `most` requests, and then nobody any more.
    pub(super) async fn line<T>(&self, life: &Life, most: usize, work: impl Future<Output = T>) -> T {
        let (outstanding, mut wants) = life.exchange.connect();
        assert_eq!(outstanding, [], "a box begins to ask when it is on the line");
        let broker = async {
            let mut left = most;
            while let Some(want) = wants.recv().await {
                let Want::Start(digest) = want else { continue };
                self.asked.lock().unwrap().push(digest);
                if left > 0 && life.exchange.deliver(digest, &self.blobs[&digest]) {
                    left -= 1;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            never = broker => never,
            done = work => done,
        }
    }

    /// What was asked for since the last call.
    pub(super) fn asked(&self) -> Vec<Digest> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Brings a release in, as the driver does: a step that can be tried again goes back to the network.
    pub(super) async fn install(&self, life: &Life, wanted: &Assignment) {
        use crate::deploy::Effects as _;
        let all = async {
            for _ in 0..3 {
                life.effects.fetch(wanted, watch::channel((0, 0)).0).await.unwrap();
                match life.effects.verify(wanted).await {
                    Err(failure) if failure.retry => {}
                    verified => {
                        verified.unwrap();
                        life.effects.self_test(wanted).await.unwrap();
                        return life.effects.swap(&wanted.release).await.unwrap();
                    }
                }
            }
            panic!("never whole");
        };
        self.line(life, usize::MAX, all).await;
    }
}

fn golden(n: u64) -> Vec<u8> {
    let loaded = load("digits-1.0", digits_manifest()).unwrap();
    let inputs = vec![f32s(&[1, 1, 8, 8], &[0.0; 64])];
    let outputs = loaded.infer(&inputs).unwrap();
    let sample = |i| GoldenSample {
        name: format!("zeros {i} of {n}"),
        request: None,
        inputs: inputs.clone(),
        outputs: outputs.clone(),
    };
    GoldenSet { samples: (0..4).map(sample).collect() }.encode().unwrap()
}

/// Flash wears: one bit of a file turns.
pub(super) fn rot(path: &Path, at: u64) {
    let byte = std::fs::read(path).unwrap()[usize::try_from(at).unwrap()];
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte ^ 1]).unwrap();
}
