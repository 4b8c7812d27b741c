//! The effects of a deployment on the real box: network, disk, tract, and what answers requests.

use crate::deploy::{Effects, Failure, Observed};
use crate::fetch::assemble::{AssembleError, assemble};
use crate::fetch::disk::DiskError;
use crate::fetch::fit::{Room, Unfit, check, missing_cpu_features};
use crate::fetch::{Disk, Downloader, FetchError};
use crate::runtime::{LoadError, LoadedModel, golden_set, self_test};
use crate::serve::Registry;
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{Digest, ModelName, ReleaseRef};
use fieldpost_shared::time::Clock;
use fieldpost_shared::trust::{RootMetadata, TrustError, verifier};
use fieldpost_shared::wire::v1::{Assignment, FailureKind, Inventory};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::watch;

/// Everything that a deployment touches.
#[derive(Debug)]
pub(super) struct BoxEffects {
    /// Releases and chunks.
    pub disk: Disk,
    /// The network.
    pub downloader: Downloader,
    /// What answers requests.
    pub registry: Registry,
    /// Who is believed now.
    pub root: Arc<RwLock<Arc<RootMetadata>>>,
    /// What the box is.
    pub inventory: Inventory,
    /// Its processor's features.
    pub cpu_features: String,
    /// Most bytes one release may fetch.
    pub budget_bytes: Option<u64>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Models that passed their self-test and wait to be swapped in; manifests fetched and verified.
    pub prepared: Mutex<HashMap<Digest, Prepared>>,
    /// What is live, for looks at a probation.
    pub installed: Mutex<HashMap<ModelName, Installed>>,
}

/// A live release, as far as its probation looks at it.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    release: Digest,
    budgets: Budgets,
}

/// What the steps before have already made.
#[derive(Debug, Clone, Default)]
pub(super) struct Prepared {
    manifest: Option<(Arc<Manifest>, Arc<Vec<u8>>)>,
    model: Option<Arc<LoadedModel>>,
}

fn failure(kind: FailureKind, retry: bool, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure { kind, detail: Chain(error).to_string(), retry }
}

fn disk_failure(error: &DiskError) -> Failure {
    failure(FailureKind::Disk, true, error)
}

fn fetch_failure(error: &FetchError) -> Failure {
    match error {
        FetchError::Disk(_) => failure(FailureKind::Disk, true, error),
        _ => failure(FailureKind::Fetch, true, error),
    }
}

/// Runs blocking work; a panic in it fails this step only.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Failure { kind: FailureKind::Load, detail: format!("the step ended abnormally: {error}"), retry: false })
    })
}

impl BoxEffects {
    fn prepared(&self, release: &Digest) -> Prepared {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(release).cloned().unwrap_or_default()
    }

    fn prepare(&self, release: Digest, change: impl FnOnce(&mut Prepared)) {
        change(self.prepared.lock().unwrap_or_else(PoisonError::into_inner).entry(release).or_default());
    }

    fn root(&self) -> Arc<RootMetadata> {
        Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The manifest of an assignment: from this deployment, from the disk, or from the network; always verified, since
    /// a release may have been revoked after it was installed.
    async fn manifest(&self, assignment: &Assignment) -> Result<(Arc<Manifest>, Arc<Vec<u8>>), Failure> {
        let digest = assignment.release.manifest;
        if let Some(known) = self.prepared(&digest).manifest {
            return Ok(known);
        }
        let disk = self.disk.clone();
        let on_disk = blocking(move || {
            let path = disk.release_dir(&digest).join("manifest.json");
            Ok(std::fs::read(path).ok().filter(|bytes| Digest::of(bytes) == digest))
        })
        .await?;
        let bytes = match on_disk {
            Some(bytes) => bytes,
            None => self.downloader.manifest(digest).await.map_err(|error| fetch_failure(&error))?,
        };
        let root = self.root();
        let trusted = root
            .check_fresh(self.clock.now())
            .and_then(|()| verifier::verify_manifest(&root, &bytes, &assignment.signatures));
        if let Err(error) = trusted {
            // An expired root can be renewed; a missing signature cannot.
            let retry = matches!(error, TrustError::RootExpired(_));
            return Err(failure(FailureKind::Untrusted, retry, &error));
        }
        let manifest = Manifest::parse(&bytes).map_err(|error| failure(FailureKind::Untrusted, false, &error))?;
        let release = manifest.release(&bytes);
        if release != assignment.release {
            let detail = format!("the manifest is of {release}, the assignment of {}", assignment.release);
            return Err(Failure { kind: FailureKind::Untrusted, detail, retry: false });
        }
        let known = (Arc::new(manifest), Arc::new(bytes));
        self.prepare(digest, |prepared| prepared.manifest = Some(known.clone()));
        Ok(known)
    }

    fn check_fit(&self, manifest: &Manifest, missing_bytes: u64) -> Result<(), Failure> {
        let lacking = missing_cpu_features(manifest, &self.cpu_features);
        if !lacking.is_empty() {
            let detail = format!("needs CPU features {}, which this box lacks", lacking.join(" "));
            return Err(Failure { kind: FailureKind::Unfit, detail, retry: false });
        }
        let room = Room { free_disk_bytes: self.disk.free_bytes(), budget_bytes: self.budget_bytes };
        check(manifest, &self.inventory, room, missing_bytes).map_err(|unfit| match unfit {
            Unfit::Rejected(detail) => Failure { kind: FailureKind::Unfit, detail, retry: false },
            Unfit::Blocked(detail) => {
                Failure { kind: FailureKind::Disk, detail: format!("blocked: {detail}"), retry: true }
            }
        })
    }

    async fn load(&self, release: &ReleaseRef) -> Result<Arc<LoadedModel>, Failure> {
        let (disk, release) = (self.disk.clone(), release.clone());
        blocking(move || {
            let manifest = disk.manifest(&release.manifest).map_err(|error| disk_failure(&error))?;
            let Some(manifest) = manifest else {
                let detail = format!("release {release} is not on this disk");
                return Err(Failure { kind: FailureKind::Disk, detail, retry: false });
            };
            let files = disk.files_dir(&release.manifest);
            LoadedModel::load(&files, Arc::new(manifest), release)
                .map(Arc::new)
                .map_err(|error| failure(FailureKind::Load, false, &error))
        })
        .await
    }
}

impl Effects for BoxEffects {
    async fn fetch(&self, assignment: &Assignment, progress: watch::Sender<(u64, u64)>) -> Result<(), Failure> {
        let (manifest, _) = self.manifest(assignment).await?;
        let digest = assignment.release.manifest;
        let (disk, chunks) = (self.disk.clone(), manifest.chunks());
        let missing = blocking(move || {
            let whole = disk.manifest(&digest).map_err(|error| disk_failure(&error))?.is_some();
            if whole { Ok(vec![]) } else { disk.missing(&chunks).map_err(|error| disk_failure(&error)) }
        })
        .await?;
        let total = manifest.chunks().iter().map(|chunk| chunk.size).sum::<u64>();
        let missing_bytes = missing.iter().map(|chunk| chunk.size).sum::<u64>();
        self.check_fit(&manifest, missing_bytes)?;
        progress.send_replace((total.saturating_sub(missing_bytes), total));
        let came = |size| progress.send_modify(|(done, _)| *done = done.saturating_add(size));
        self.downloader.chunks(&missing, came).await.map_err(|error| fetch_failure(&error))
    }

    async fn verify(&self, assignment: &Assignment) -> Result<(), Failure> {
        let (manifest, bytes) = self.manifest(assignment).await?;
        let (disk, digest) = (self.disk.clone(), assignment.release.manifest);
        blocking(move || {
            if disk.manifest(&digest).map_err(|error| disk_failure(&error))?.is_some() {
                return Ok(());
            }
            assemble(&disk, &manifest, &bytes).map_err(|error| match &error {
                AssembleError::Disk(_) => failure(FailureKind::Disk, true, &error),
                AssembleError::Chunk { .. } => failure(FailureKind::Fetch, true, &error),
                AssembleError::File { .. } => failure(FailureKind::Untrusted, false, &error),
            })
        })
        .await
    }

    async fn self_test(&self, assignment: &Assignment) -> Result<(), Failure> {
        let model = self.load(&assignment.release).await?;
        let (disk, digest, clock) = (self.disk.clone(), assignment.release.manifest, Arc::clone(&self.clock));
        let tested = Arc::clone(&model);
        blocking(move || {
            let golden = golden_set(&disk.files_dir(&digest), model.manifest()).map_err(|error| match error {
                LoadError::Read { .. } => failure(FailureKind::Disk, true, &error),
                _ => failure(FailureKind::SelfTest, false, &error),
            });
            // Without samples the self-test says so.
            let golden = golden?.unwrap_or_default();
            self_test(&model, &golden, clock.as_ref()).map_err(|failed| Failure {
                kind: failed.kind,
                detail: failed.detail,
                retry: false,
            })
        })
        .await
        .map(|report| tracing::info!(release = %assignment.release, ?report, "self-test passed"))?;
        self.prepare(assignment.release.manifest, |prepared| prepared.model = Some(tested));
        Ok(())
    }

    async fn swap(&self, release: &ReleaseRef) -> Result<(), Failure> {
        let model = match self.prepared(&release.manifest).model {
            Some(model) => model,
            None => self.load(release).await?,
        };
        let installed = Installed { release: release.manifest, budgets: model.manifest().budgets.clone() };
        self.installed.lock().unwrap_or_else(PoisonError::into_inner).insert(release.model.clone(), installed);
        self.registry.install(model);
        // The registry holds it now; a second copy here would keep a replaced model in memory.
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).remove(&release.manifest);
        Ok(())
    }

    async fn remove(&self, model: &ModelName) {
        self.registry.remove(model);
        self.installed.lock().unwrap_or_else(PoisonError::into_inner).remove(model);
    }

    fn observed(&self, model: &ModelName) -> Option<Observed> {
        self.registry.observed(model)
    }

    fn budgets(&self, release: &ReleaseRef) -> Option<Budgets> {
        let installed = self.installed.lock().unwrap_or_else(PoisonError::into_inner);
        let installed = installed.get(&release.model).filter(|installed| installed.release == release.manifest)?;
        Some(installed.budgets.clone())
    }

    async fn collect(&self, keep: &[Digest]) {
        let keep: HashSet<Digest> = keep.iter().copied().collect();
        let disk = self.disk.clone();
        // Other slots may be fetching: their chunks stay.
        let chunks = {
            let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            prepared.retain(|release, _| keep.contains(release));
            let manifests = prepared.values().filter_map(|prepared| prepared.manifest.as_ref());
            manifests.flat_map(|(manifest, _)| manifest.chunks()).map(|chunk| chunk.sha256).collect()
        };
        let collected = blocking(move || disk.collect(&keep, &chunks).map_err(|error| disk_failure(&error))).await;
        if let Err(error) = collected {
            tracing::warn!(detail = error.detail, "cannot delete old releases");
        }
    }
}
