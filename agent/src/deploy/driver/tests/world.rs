//! A box for the driver's tests: effects that do as they are told, and a journal of which any write can fail or be the last.

use crate::deploy::journal::{Journal, RootView};
use crate::deploy::probation::Observed;
use crate::deploy::slot::{Slot, State};
use crate::deploy::{Compared, Effects, Failure};
use crate::store::{Hold, Known, StoreError};
use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::id::{Digest, ModelName, ReleaseRef};
use fieldpost_shared::stats::Share;
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::wire::v1::{Assignment, FailureKind, Quarantined};
use fieldpost_shared::wire::v2::{Desired, Mode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What the next write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Error,
    /// The error comes after the data has reached the disk.
    LateError,
    DieBefore,
    DieAfter,
}

/// How an effect on a release ends, apart from well.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Fail(Failure),
    /// So many times, then well.
    FailTimes(u32, Failure),
    Hang,
    Panic,
    /// Well, and the disk is full from then on.
    Fills,
}

#[derive(Debug, Default)]
pub(super) struct Inside {
    // The disk: outlives the agent.
    pub(super) slots: BTreeMap<ModelName, Vec<u8>>,
    pub(super) quarantine: Vec<Quarantined>,
    pub(super) known: Known,
    pub(super) hold: Option<Hold>,
    pub(super) revoked: Vec<Digest>,
    pub(super) files: BTreeSet<Digest>,
    pub(super) writes: u64,
    pub(super) fault: Option<(u64, Fault)>,
    /// Every write fails, as on a full disk.
    pub(super) full: bool,
    /// Every write says that the database is damaged.
    pub(super) damaged: bool,
    // The process.
    pub(super) dead: bool,
    pub(super) answering: BTreeMap<ModelName, ReleaseRef>,
    pub(super) beside: BTreeMap<ModelName, ReleaseRef>,
    pub(super) replies: BTreeMap<(&'static str, Digest), Reply>,
    /// Releases that fail all their requests.
    pub(super) harmful: BTreeSet<Digest>,
    /// Growth of the process's memory, MiB; each look has a budget of 20.
    pub(super) grown_mib: u64,
    pub(super) log: Vec<String>,
    pub(super) running_heavy: u32,
    pub(super) most_heavy: u32,
    pub(super) kept: Vec<Vec<Digest>>,
    /// Models that answered once; they may stop only where a test says so.
    pub(super) may_vanish: bool,
}

/// Journal and effects of one box.
#[derive(Debug, Default)]
pub(super) struct World {
    inside: Mutex<Inside>,
    pub(super) died: Notify,
}

#[derive(Debug)]
pub(super) struct PausedClock(tokio::time::Instant);

impl PausedClock {
    #[allow(clippy::disallowed_methods, reason = "tests own tokio's paused time, and this clock shows it")]
    pub(super) fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000).plus(self.0.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn disk_full() -> StoreError {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    StoreError::DiskFull { operation: "write the journal", path: "/db".into(), source }
}

impl World {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    pub(super) fn slot(&self, model: &str) -> Option<Slot> {
        self.lock().slots.get(&model.parse::<ModelName>().unwrap()).map(|bytes| postcard::from_bytes(bytes).unwrap())
    }

    pub(super) fn beside(&self, model: &str) -> Option<u64> {
        self.lock().beside.get(&model.parse::<ModelName>().unwrap()).map(|r| r.version.major)
    }

    pub(super) fn answering(&self, model: &str) -> Option<u64> {
        self.lock().answering.get(&model.parse::<ModelName>().unwrap()).map(|r| r.version.major)
    }

    /// What was done, without what was done before the last call.
    pub(super) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    /// The process is gone: what it had in memory too.
    pub(super) fn bury(&self) {
        let mut inside = self.lock();
        (inside.dead, inside.running_heavy) = (false, 0);
        inside.answering.clear();
        inside.beside.clear();
    }

    fn write(&self, change: impl FnOnce(&mut Inside)) -> Result<(), StoreError> {
        let mut inside = self.lock();
        if inside.dead || inside.full {
            return Err(disk_full());
        }
        if inside.damaged {
            let source = sled::Error::Corruption { at: None, bt: () };
            return Err(StoreError::Corrupt { operation: "write the journal", path: "/db".into(), source });
        }
        inside.writes += 1;
        let fault = inside.fault.filter(|(number, _)| *number == inside.writes).map(|(_, fault)| fault);
        if !matches!(fault, Some(Fault::Error | Fault::DieBefore)) {
            change(&mut inside);
        }
        match fault {
            None => Ok(()),
            Some(Fault::Error | Fault::LateError) => Err(disk_full()),
            Some(Fault::DieBefore | Fault::DieAfter) => {
                inside.dead = true;
                self.died.notify_one();
                Err(disk_full())
            }
        }
    }

    /// Begins an effect. A dead process does nothing any more.
    async fn effect(&self, step: &'static str, release: &ReleaseRef) -> Result<(), Failure> {
        // Everything takes a moment, so that other things can happen meanwhile.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if self.lock().dead {
            std::future::pending::<()>().await;
        }
        let reply = {
            let mut inside = self.lock();
            inside.log.push(format!("{step} {release}"));
            let key = (step, release.manifest);
            match inside.replies.get(&key).cloned() {
                Some(Reply::FailTimes(n, failure)) => {
                    if n > 1 {
                        inside.replies.insert(key, Reply::FailTimes(n - 1, failure.clone()));
                    } else {
                        inside.replies.remove(&key);
                    }
                    Some(Reply::Fail(failure))
                }
                reply => reply,
            }
        };
        match reply {
            None => Ok(()),
            Some(Reply::Fail(failure) | Reply::FailTimes(_, failure)) => Err(failure),
            Some(Reply::Hang) => std::future::pending().await,
            Some(Reply::Fills) => {
                self.lock().full = true;
                Ok(())
            }
            Some(Reply::Panic) => panic!("a bug in {step}"),
        }
    }

    /// The transition is in the journal before its effect begins.
    fn check_journalled(&self, model: &ModelName, step: &str, holds: impl Fn(&State) -> bool) {
        // A way back does not wait for a disk that cannot be written.
        let failing = |inside: &Inside| {
            let error = |(number, fault)| inside.writes >= number && matches!(fault, Fault::Error | Fault::LateError);
            inside.full || inside.fault.is_some_and(error)
        };
        if step == "swap" && failing(&self.lock()) {
            return;
        }
        // The write that a death fell into looks like a failing disk to the threads that run on for an instant; what they
        // begin then has no effect any more.
        if self.lock().dead {
            return;
        }
        let slot = self.slot(model.as_str()).unwrap_or_else(|| panic!("{step} of {model} without a slot"));
        assert!(holds(&slot.state), "{step} of {model} begins while the journal says {:?}", slot.state);
    }

    async fn heavy(&self, step: &'static str, a: &Assignment) -> Result<(), Failure> {
        {
            let mut inside = self.lock();
            inside.running_heavy += 1;
            inside.most_heavy = inside.most_heavy.max(inside.running_heavy);
        }
        let result = self.effect(step, &a.release).await;
        self.lock().running_heavy -= 1;
        result
    }
}

impl Effects for World {
    async fn fetch(&self, a: &Assignment, progress: watch::Sender<(u64, u64)>) -> Result<(), Failure> {
        self.check_journalled(&a.release.model, "fetch", |state| matches!(state, State::Fetching { .. }));
        progress.send_replace((40, 100));
        self.effect("fetch", &a.release).await?;
        self.lock().files.insert(a.release.manifest);
        Ok(())
    }

    async fn verify(&self, a: &Assignment) -> Result<(), Failure> {
        self.check_journalled(&a.release.model, "verify", |state| matches!(state, State::Verifying { .. }));
        self.heavy("verify", a).await?;
        if self.lock().files.contains(&a.release.manifest) {
            Ok(())
        } else {
            Err(Failure::blocked(FailureKind::Disk, "files are missing"))
        }
    }

    async fn self_test(&self, a: &Assignment) -> Result<(), Failure> {
        self.check_journalled(&a.release.model, "test", |state| matches!(state, State::SelfTesting { .. }));
        self.heavy("test", a).await
    }

    async fn beside(&self, a: &Assignment, _: &Mode) -> Result<(), Failure> {
        let model = &a.release.model;
        self.check_journalled(model, "beside", |state| matches!(state, State::Beside { .. }));
        self.effect("beside", &a.release).await?;
        let mut inside = self.lock();
        if !inside.files.contains(&a.release.manifest) {
            return Err(Failure::blocked(FailureKind::Disk, "files are missing"));
        }
        assert!(inside.answering.contains_key(model), "{model} stands beside nothing");
        inside.beside.insert(model.clone(), a.release.clone());
        Ok(())
    }

    fn alone(&self, model: &ModelName) {
        self.lock().beside.remove(model);
    }

    fn observed_beside(&self, model: &ModelName) -> Option<(Observed, Compared)> {
        let inside = self.lock();
        let release = inside.beside.get(model)?.clone();
        let hits = if inside.harmful.contains(&release.manifest) { 0 } else { 50 };
        let compared = Compared { agreed: Share { hits, n: 50 }, answered: 50, ..Compared::default() };
        let observed = Observed { release, requests: 0, model_errors: 0, hung: 0, p95: None, rss_growth_bytes: None };
        Some((observed, compared))
    }

    async fn swap(&self, release: &ReleaseRef) -> Result<(), Failure> {
        self.check_journalled(&release.model, "swap", |state| {
            matches!(state, State::Swapping { .. } | State::Reverting { .. } | State::Restoring { .. })
        });
        self.effect("swap", release).await?;
        let mut inside = self.lock();
        inside.beside.remove(&release.model);
        if !inside.files.contains(&release.manifest) {
            return Err(Failure::blocked(FailureKind::Disk, "files are missing"));
        }
        inside.answering.insert(release.model.clone(), release.clone());
        Ok(())
    }

    async fn remove(&self, model: &ModelName) {
        self.check_journalled(model, "remove", |state| matches!(state, State::Removing));
        let mut inside = self.lock();
        inside.log.push(format!("remove {model}"));
        assert!(inside.may_vanish || !inside.answering.contains_key(model), "{model} was lost");
        inside.answering.remove(model);
    }

    fn observed(&self, model: &ModelName) -> Option<Observed> {
        let inside = self.lock();
        let release = inside.answering.get(model)?.clone();
        let model_errors = if inside.harmful.contains(&release.manifest) { 50 } else { 0 };
        Some(Observed {
            release,
            requests: 50,
            model_errors,
            hung: 0,
            p95: None,
            rss_growth_bytes: Some(inside.grown_mib << 20),
        })
    }

    fn budgets(&self, _: &ReleaseRef) -> Option<Budgets> {
        Some(Budgets { error_rate: Some(0.01), rss_mib: Some(20.0), max_disagreement: Some(0.1), ..Budgets::default() })
    }

    async fn collect(&self, keep: &[Digest]) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut inside = self.lock();
        if !inside.dead {
            inside.kept.push(keep.to_vec());
            inside.files.retain(|file| keep.contains(file));
        }
    }
}

impl Journal for World {
    fn slots(&self) -> Result<Vec<(ModelName, Slot)>, StoreError> {
        let read = |(model, bytes): (&ModelName, &Vec<u8>)| (model.clone(), postcard::from_bytes(bytes).unwrap());
        Ok(self.lock().slots.iter().map(read).collect())
    }

    fn quarantine(&self) -> Result<Vec<Quarantined>, StoreError> {
        Ok(self.lock().quarantine.clone())
    }

    fn known(&self) -> Result<Known, StoreError> {
        Ok(self.lock().known.clone())
    }

    fn root(&self) -> Result<RootView, StoreError> {
        let expires = Timestamp::from_millis(u64::MAX);
        Ok(RootView { version: 1, expires, revoked: self.lock().revoked.clone() })
    }

    fn hold(&self) -> Result<Option<Hold>, StoreError> {
        Ok(self.lock().hold.clone())
    }

    fn commit(&self, model: &ModelName, slot: Option<&Slot>, failed: &[Quarantined]) -> Result<(), StoreError> {
        self.write(|inside| {
            match slot {
                Some(slot) => inside.slots.insert(model.clone(), postcard::to_stdvec(slot).unwrap()),
                None => inside.slots.remove(model),
            };
            for new in failed {
                inside.quarantine.retain(|old| old.release != new.release);
                inside.quarantine.push(new.clone());
            }
        })
    }

    fn accept(&self, desired: &Desired) -> Result<(), StoreError> {
        self.write(|inside| {
            inside.known.latest_signed = inside.known.latest_signed.max(desired.issued);
            inside.known.desired = Some(desired.clone());
        })
    }

    fn set_hold(&self, hold: Option<&Hold>) -> Result<(), StoreError> {
        self.write(|inside| inside.hold = hold.cloned())
    }
}

/// So that a world can be both journal and effects.
pub(super) fn world() -> Arc<World> {
    Arc::new(World::default())
}
