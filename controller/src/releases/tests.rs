use super::*;
use crate::store::MemoryStore;
use crate::trust_dir::PUBLISHER_KEY;
use fieldpost_shared::bundle::chunk::cut;
use fieldpost_shared::bundle::manifest::{FileEntry, FileRole, SCHEMA};
use fieldpost_shared::time::ManualClock;
use fieldpost_shared::trust::{Kind, SecretKey, envelope::sign};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A registry in a directory of its own, with the publisher's key.
pub(crate) struct Registry {
    _dir: tempfile::TempDir,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) releases: Arc<Releases>,
    pub(crate) publisher: SecretKey,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::default());
        let clock = Arc::new(ManualClock::new(NOW));
        let audit = Arc::new(Audit::open(store.clone(), clock.clone()).unwrap());
        let (trust, _) = Trust::open_or_create(&dir.path().join("trust"), &"f".parse().unwrap(), NOW).unwrap();
        let trust = Arc::new(trust);
        let publisher = std::fs::read_to_string(trust.dir().join(PUBLISHER_KEY)).unwrap();
        let publisher = SecretKey::from_file(&publisher).unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
        let releases = Releases::open(store.as_ref(), audit.clone(), clock.clone(), trust.clone(), blobs).unwrap();
        Self { _dir: dir, store, clock, audit, trust, releases: Arc::new(releases), publisher }
    }

    /// The manifest of a release whose only file is `content`; its chunks are put.
    pub(crate) fn manifest(&self, version: &str, content: &[u8]) -> Vec<u8> {
        for (chunk, range) in cut(content) {
            self.releases.blobs().put(chunk.sha256, &frame(&content[range]).unwrap()).unwrap();
        }
        manifest(version, content)
    }

    /// Pushes a release whose only file is `content`.
    pub(crate) fn release(&self, version: &str, content: &[u8]) -> ReleaseRef {
        let bytes = self.manifest(version, content);
        self.push(&bytes).unwrap().release.clone()
    }

    pub(crate) fn push(&self, bytes: &[u8]) -> Result<Arc<ReleaseRecord>, ReleaseError> {
        self.releases.push("test", bytes, vec![sign(Kind::Manifest, bytes, &self.publisher)])
    }
}

pub(crate) fn manifest(version: &str, content: &[u8]) -> Vec<u8> {
    let file = FileEntry {
        path: "model.onnx".into(),
        role: FileRole::Model,
        size: content.len() as u64,
        sha256: Digest::of(content),
        chunks: cut(content).into_iter().map(|(chunk, _)| chunk).collect(),
    };
    let manifest = serde_json::json!({
        "schema": SCHEMA, "name": "digits", "version": version, "created": NOW, "files": [file],
        "inputs": [{"name": "x", "dtype": "FP32", "shape": [1, 2]}],
        "outputs": [{"name": "y", "dtype": "FP32", "shape": [1, 2]}],
    });
    serde_json::from_value::<Manifest>(manifest).unwrap().to_bytes().unwrap()
}

#[test]
fn a_signed_release_with_all_its_chunks_is_taken() {
    let registry = Registry::new();
    let release = registry.release("1.0.0", b"model");
    assert_eq!(registry.releases.list(None)[0].release, release);
    assert_eq!(registry.releases.manifest(release.manifest).unwrap().version, Version::new(1, 0, 0));
    assert_eq!(registry.releases.blobs_of(release.manifest).unwrap(), [release.manifest, Digest::of(b"model")]);
}

#[test]
fn releases_are_there_after_reopening() {
    let registry = Registry::new();
    let release = registry.release("1.0.0", b"model");
    let Registry { store, audit, clock, trust, releases, .. } = &registry;
    let again =
        Releases::open(store.as_ref(), audit.clone(), clock.clone(), trust.clone(), releases.blobs().clone()).unwrap();
    assert_eq!(again.find(&release.model, &release.version).unwrap().release, release);
}

#[test]
fn a_version_is_never_reused() {
    let registry = Registry::new();
    registry.release("1.0.0", b"model");
    registry.release("1.0.0", b"model");
    let other = registry.manifest("1.0.0", b"other");
    assert!(matches!(registry.push(&other), Err(ReleaseError::Taken { .. })));
    assert_eq!(registry.releases.list(None).len(), 1);
}

#[test]
fn a_release_can_be_signed_anew() {
    let registry = Registry::new();
    let bytes = registry.manifest("1.0.0", b"model");
    let mine = sign(Kind::Manifest, &bytes, &registry.publisher);
    let other = sign(Kind::Manifest, &bytes, &SecretKey::from_seed(&[9; 32]));
    registry.releases.push("test", &bytes, vec![mine]).unwrap();
    registry.clock.advance(std::time::Duration::from_secs(60));
    let record = registry.releases.push("test", &bytes, vec![other, mine]).unwrap();
    assert_eq!((record.signatures.len(), record.pushed), (2, NOW));
    assert_eq!(registry.releases.list(None), [record]);
}

#[test]
fn a_release_without_its_chunks_is_refused() {
    let registry = Registry::new();
    let refused = registry.push(&manifest("1.0.0", b"not uploaded"));
    assert!(matches!(refused, Err(ReleaseError::Missing { missing: 1, .. })));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a push that waits for the lock can only be given time to get there")]
fn a_push_waits_for_a_collection_and_then_sees_what_it_left() {
    let registry = Registry::new();
    let bytes = registry.manifest("1.0.0", b"model");
    std::thread::scope(|scope| {
        let collecting = registry.releases.push.lock().unwrap();
        let pushed = scope.spawn(|| registry.push(&bytes));
        std::thread::sleep(std::time::Duration::from_millis(200));
        registry
            .releases
            .blobs()
            .collect(&HashSet::new(), Timestamp::from_millis(u64::MAX), std::time::Duration::ZERO)
            .unwrap();
        drop(collecting);
        let refused = pushed.join().unwrap();
        assert!(matches!(refused, Err(ReleaseError::Missing { missing: 1, .. })), "{refused:?}");
    });
}

#[test]
fn a_release_that_no_publisher_signed_is_refused() {
    let registry = Registry::new();
    let bytes = registry.manifest("1.0.0", b"model");
    let stranger = SecretKey::from_seed(&[9; 32]);
    for signatures in
        [vec![], vec![sign(Kind::Manifest, &bytes, &stranger)], vec![sign(Kind::Root, &bytes, &registry.publisher)]]
    {
        assert!(matches!(registry.releases.push("test", &bytes, signatures), Err(ReleaseError::Trust(_))));
    }
    assert!(registry.releases.list(None).is_empty());
}

#[test]
fn a_manifest_that_is_none_is_refused() {
    let registry = Registry::new();
    assert!(matches!(registry.push(b"{}"), Err(ReleaseError::Manifest(_))));
}

#[test]
fn an_expired_root_takes_no_releases() {
    let registry = Registry::new();
    let bytes = registry.manifest("1.0.0", b"model");
    registry.clock.advance(crate::trust_dir::FIRST_ROOT_LIFETIME + std::time::Duration::from_secs(1));
    assert!(matches!(registry.push(&bytes), Err(ReleaseError::Trust(TrustError::RootExpired(_)))));
}
