//! The effects of a deployment on the real box: network, disk, tract, and what answers requests.
//!
//! Nothing here is believed because it was believed before: manifests are verified at each step, and files are hashed each
//! time a model is loaded, since a root may change and a flash may rot in between.

mod trusted;

use crate::deploy::{Compared, Effects, Failure, Observed};
use crate::fetch::assemble::{AssembleError, assemble};
use crate::fetch::disk::DiskError;
use crate::fetch::fit::{Needs, Room, Unfit, check, missing_cpu_features};
use crate::fetch::{Disk, Downloader, FetchError};
use crate::runtime::{LoadError, LoadedModel, golden_set, self_test};
use crate::serve::{Model, Portion, Registry, Sticky};
use crate::store::Store;
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{Digest, ModelName, ReleaseRef};
use fieldpost_shared::time::Clock;
use fieldpost_shared::trust::RootMetadata;
use fieldpost_shared::wire::v1::{Assignment, FailureKind, Inventory};
use fieldpost_shared::wire::v2::{Mode, SplitBy};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
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
    /// The latest time that the controller signed.
    pub store: Arc<Store>,
    /// What the box is.
    pub inventory: Inventory,
    /// Its processor's features.
    pub cpu_features: String,
    /// Most bytes one release may fetch.
    pub budget_bytes: Option<u64>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What only matters while the agent runs.
    pub now: Now,
}

/// What the steps of deployments know of each other.
#[derive(Debug, Default)]
pub(super) struct Now {
    /// Models that passed their self-test and are about to be swapped in.
    prepared: Mutex<HashMap<Digest, Arc<LoadedModel>>>,
    /// What is live, for looks at a probation.
    installed: Mutex<HashMap<ModelName, (Digest, Budgets)>>,
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section leaves whole entries, so a poisoned lock is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BoxEffects {
    fn check_fit(&self, manifest: &Manifest, needs: Needs) -> Result<(), Failure> {
        let lacking = missing_cpu_features(manifest, &self.cpu_features);
        if !lacking.is_empty() {
            let detail = format!("needs CPU features {}, which this box lacks", lacking.join(" "));
            return Err(Failure::of_release(FailureKind::Unfit, detail));
        }
        let room = Room { free_disk_bytes: self.disk.free_bytes(), budget_bytes: self.budget_bytes };
        check(manifest, &self.inventory, room, needs).map_err(|unfit| match unfit {
            Unfit::Rejected(detail) => Failure::of_release(FailureKind::Unfit, detail),
            Unfit::Blocked(detail) => Failure::blocked(FailureKind::Disk, format!("blocked: {detail}")),
        })
    }

    /// Loads a release whose files are what its manifest says. Where they are not, it is whole no longer, and comes anew.
    async fn load(&self, release: &ReleaseRef) -> Result<Arc<LoadedModel>, Failure> {
        let (disk, release) = (self.disk.clone(), release.clone());
        blocking(move || {
            let manifest = disk.manifest(&release.manifest).map_err(|error| disk_failure(&error))?;
            let Some(manifest) = manifest else {
                return Err(Failure::blocked(
                    FailureKind::Disk,
                    format!("release {release} is not whole on this disk"),
                ));
            };
            if !disk.check(&release.manifest, &manifest).map_err(|error| disk_failure(&error))? {
                return Err(Failure::blocked(FailureKind::Disk, format!("release {release} is damaged on this disk")));
            }
            let files = disk.files_dir(&release.manifest);
            LoadedModel::load(&files, Arc::new(manifest), release).map(Arc::new).map_err(|error| match error {
                LoadError::Read { .. } => failure(FailureKind::Disk, true, &error),
                _ => failure(FailureKind::Load, false, &error),
            })
        })
        .await
    }
}

impl BoxEffects {
    /// The loaded release: from its self-test, from beside the live one, or from the disk.
    async fn ready(&self, release: &ReleaseRef) -> Result<Arc<dyn Model>, Failure> {
        let prepared = lock(&self.now.prepared).remove(&release.manifest);
        if let Some(model) = prepared {
            return Ok(model);
        }
        match self.registry.rival_model(release) {
            Some(model) => Ok(model),
            None => Ok(self.load(release).await?),
        }
    }
}

impl Effects for BoxEffects {
    async fn fetch(&self, assignment: &Assignment, progress: watch::Sender<(u64, u64)>) -> Result<(), Failure> {
        let manifest = Arc::new(self.manifest(assignment).await?.parsed);
        let digest = assignment.release.manifest;
        let (disk, wanted) = (self.disk.clone(), Arc::clone(&manifest));
        let (missing, write_bytes) = blocking(move || {
            let unwritten = disk.unwritten_bytes(&digest, &wanted).map_err(|error| disk_failure(&error))?;
            let missing = if unwritten == 0 { Ok(vec![]) } else { disk.missing(&wanted.chunks()) };
            Ok((missing.map_err(|error| disk_failure(&error))?, unwritten))
        })
        .await?;
        let total = manifest.chunks().iter().map(|chunk| chunk.size).sum::<u64>();
        let fetch_bytes = missing.iter().map(|chunk| chunk.size).sum::<u64>();
        self.check_fit(&manifest, Needs { fetch_bytes, write_bytes })?;
        progress.send_replace((total.saturating_sub(fetch_bytes), total));
        let came = |size| progress.send_modify(|(done, _)| *done = done.saturating_add(size));
        self.downloader.chunks(&missing, came).await.map_err(|error| fetch_failure(&error))
    }

    async fn verify(&self, assignment: &Assignment) -> Result<(), Failure> {
        let manifest = self.manifest(assignment).await?;
        let (disk, digest) = (self.disk.clone(), assignment.release.manifest);
        blocking(move || {
            if disk.manifest(&digest).map_err(|error| disk_failure(&error))?.is_some() {
                return Ok(());
            }
            assemble(&disk, &manifest.parsed, &manifest.bytes).map_err(|error| match &error {
                AssembleError::Disk(_) => failure(FailureKind::Disk, true, &error),
                AssembleError::Chunk { .. } => failure(FailureKind::Fetch, true, &error),
                AssembleError::File { .. } => failure(FailureKind::Untrusted, false, &error),
            })
        })
        .await
    }

    async fn self_test(&self, assignment: &Assignment) -> Result<(), Failure> {
        let digest = assignment.release.manifest;
        // A restart comes here without having been to the steps before.
        self.manifest(assignment).await?;
        let model = self.load(&assignment.release).await?;
        let (disk, clock) = (self.disk.clone(), Arc::clone(&self.clock));
        let tested = Arc::clone(&model);
        let report = blocking(move || {
            let golden = golden_set(&disk.files_dir(&digest), model.manifest()).map_err(|error| match error {
                LoadError::Read { .. } => failure(FailureKind::Disk, true, &error),
                _ => failure(FailureKind::SelfTest, false, &error),
            });
            // Without samples the self-test says so.
            let golden = golden?.unwrap_or_default();
            self_test(&model, &golden, clock.as_ref()).map_err(|failed| Failure::of_release(failed.kind, failed.detail))
        })
        .await?;
        tracing::info!(release = %assignment.release, ?report, "self-test passed");
        // It took its time: what the root revoked meanwhile must not be swapped in.
        self.manifest(assignment).await?;
        lock(&self.now.prepared).insert(digest, tested);
        Ok(())
    }

    async fn beside(&self, assignment: &Assignment, mode: &Mode) -> Result<(), Failure> {
        let release = &assignment.release;
        // A restart comes here without having been to the steps before.
        self.manifest(assignment).await?;
        let model = self.ready(release).await?;
        let set = match mode {
            Mode::Shadow { portion } => self.registry.set_shadow(model, Portion::of_hundredths(*portion)),
            Mode::Split { portion, by } => {
                let by = match by {
                    SplitBy::Request => Sticky::Request,
                    SplitBy::Header(name) => Sticky::Header(name.clone()),
                    SplitBy::Parameter(name) => Sticky::Parameter(name.clone()),
                };
                self.registry.set_split(model, Portion::of_hundredths(*portion), by)
            }
        };
        set.map_err(|error| failure(FailureKind::Load, true, &error))
    }

    fn alone(&self, model: &ModelName) {
        self.registry.clear_rival(model);
    }

    fn observed_beside(&self, model: &ModelName) -> Option<(Observed, Compared)> {
        self.registry.observed_rival(model)
    }

    async fn swap(&self, release: &ReleaseRef) -> Result<(), Failure> {
        let model = self.ready(release).await?;
        let installed = (release.manifest, model.manifest().budgets.clone());
        lock(&self.now.installed).insert(release.model.clone(), installed);
        self.registry.install(model);
        Ok(())
    }

    async fn remove(&self, model: &ModelName) {
        self.registry.remove(model);
        lock(&self.now.installed).remove(model);
    }

    fn observed(&self, model: &ModelName) -> Option<Observed> {
        self.registry.observed(model)
    }

    fn budgets(&self, release: &ReleaseRef) -> Option<Budgets> {
        let of_live = |(digest, budgets): &(Digest, Budgets)| (*digest == release.manifest).then(|| budgets.clone());
        let live = lock(&self.now.installed).get(&release.model).and_then(of_live);
        live.or_else(|| self.registry.rival_model(release).map(|model| model.manifest().budgets.clone()))
    }

    async fn collect(&self, keep: &[Digest]) {
        let keep: HashSet<Digest> = keep.iter().copied().collect();
        // A candidate that was given up after its self-test takes no memory. Should one be meant that is about to be
        // swapped in, it is loaded once more.
        lock(&self.now.prepared).clear();
        let disk = self.disk.clone();
        let collected = blocking(move || disk.collect(&keep).map_err(|error| disk_failure(&error))).await;
        if let Err(error) = collected {
            tracing::warn!(detail = error.detail, "cannot delete old releases");
        }
    }
}

#[cfg(test)]
mod tests;
