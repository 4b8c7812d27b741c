//! Runs what the machine asks for, one job per slot, and brings the outcome back as an event.

use super::effects::{Effects, Failure};
use super::event::{Event, Job};
use fieldpost_shared::backoff::Backoff;
use fieldpost_shared::id::{Digest, ModelName};
use fieldpost_shared::wire::v1::FailureKind;
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

/// How a job ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Something happened to the slot.
    Event(Event),
    /// It is time to look at the release in probation.
    Look,
}

/// A job's end. `number` tells it from an earlier job of the same slot whose end came too late to be stopped.
#[derive(Debug)]
pub(super) enum Done {
    Job { model: ModelName, number: u64, outcome: Outcome },
    Collected,
}

/// The running job of a slot.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) number: u64,
    pub(super) progress: Option<watch::Receiver<(u64, u64)>>,
    abort: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

pub(super) struct Jobs<E> {
    effects: Arc<E>,
    backoff: Backoff,
    look_every: Duration,
    tasks: JoinSet<Done>,
    numbers: u64,
    /// Verification and self-test use the whole processor; two at a time would spoil each other's measurements.
    heavy: Arc<Semaphore>,
    /// Held while files are deleted: a fetch that begins meanwhile is not on the list of what to keep, and waits.
    collecting: Arc<Mutex<()>>,
    collect_again: bool,
}

impl<E: Effects> Jobs<E> {
    pub(super) fn new(effects: Arc<E>, backoff: Backoff, look_every: Duration) -> Self {
        Self {
            effects,
            backoff,
            look_every,
            tasks: JoinSet::new(),
            numbers: 0,
            heavy: Arc::new(Semaphore::new(1)),
            collecting: Arc::new(Mutex::new(())),
            collect_again: false,
        }
    }

    pub(super) fn effects(&self) -> &E {
        &self.effects
    }

    pub(super) fn begin(&mut self, model: &ModelName, job: Job) -> Running {
        self.numbers = self.numbers.saturating_add(1);
        let number = self.numbers;
        let (sender, receiver) = watch::channel((0, 0));
        let progress = matches!(job, Job::Fetch(_)).then_some(receiver);
        let work = run(
            Arc::clone(&self.effects),
            model.clone(),
            job,
            Means {
                progress: sender,
                backoff: self.backoff,
                look_every: self.look_every,
                heavy: Arc::clone(&self.heavy),
                collecting: Arc::clone(&self.collecting),
            },
        );
        let model = model.clone();
        let abort = self.tasks.spawn(async move {
            let outcome = work.await;
            Done::Job { model, number, outcome }
        });
        Running { number, progress, abort }
    }

    /// Deletes what is needless on the disk, one run at a time; a run that is asked for meanwhile follows.
    pub(super) fn collect(&mut self, keep: Vec<Digest>) {
        match Arc::clone(&self.collecting).try_lock_owned() {
            Ok(guard) => {
                self.collect_again = false;
                self.tasks.spawn(collect(Arc::clone(&self.effects), keep, guard));
            }
            Err(_busy) => self.collect_again = true,
        }
    }

    /// Whether another collection was asked for while one ran.
    pub(super) fn wants_collection(&self) -> bool {
        self.collect_again
    }

    /// The next job that ends; pending while none runs. Cancel-safe, since `JoinSet::join_next` is.
    pub(super) async fn next(&mut self) -> Done {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(done)) => return done,
                // Aborted; panics are caught inside the jobs.
                Some(Err(_aborted)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Stops everything and waits until it has stopped.
    pub(super) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

struct Means {
    progress: watch::Sender<(u64, u64)>,
    backoff: Backoff,
    look_every: Duration,
    heavy: Arc<Semaphore>,
    collecting: Arc<Mutex<()>>,
}

async fn run<E: Effects>(effects: Arc<E>, model: ModelName, job: Job, means: Means) -> Outcome {
    let pause = |tries: u32| tokio::time::sleep(means.backoff.wait(tries.saturating_sub(1), random()));
    Outcome::Event(match job {
        Job::Fetch(assignment) => {
            drop(means.collecting.lock().await);
            caught(FailureKind::Fetch, Event::Fetched, effects.fetch(&assignment, means.progress)).await
        }
        Job::Verify(assignment) => {
            let _permit = means.heavy.acquire().await;
            caught(FailureKind::Disk, Event::Verified, effects.verify(&assignment)).await
        }
        Job::SelfTest(assignment) => {
            let _permit = means.heavy.acquire().await;
            caught(FailureKind::SelfTest, Event::Tested, effects.self_test(&assignment)).await
        }
        Job::Beside(assignment, mode) => {
            caught(FailureKind::Load, Event::Beside, effects.beside(&assignment, &mode)).await
        }
        Job::Swap { release, tries } => {
            if tries > 0 {
                pause(tries).await;
            }
            caught(FailureKind::Load, Event::Swapped, effects.swap(&release)).await
        }
        Job::Remove => {
            let removed = async {
                effects.remove(&model).await;
                Ok(())
            };
            match caught(FailureKind::Load, Event::Removed, removed).await {
                Event::Failed(failure) => {
                    tracing::error!(%model, error = %failure, "removing a model failed; taken as removed");
                    Event::Removed
                }
                event => event,
            }
        }
        Job::Wait { tries } => {
            pause(tries).await;
            Event::RetryDue
        }
        Job::Watch => {
            tokio::time::sleep(means.look_every).await;
            return Outcome::Look;
        }
    })
}

/// A panic in an effect is a failure of this release alone.
async fn caught(kind: FailureKind, success: Event, work: impl Future<Output = Result<(), Failure>>) -> Event {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(())) => success,
        Ok(Err(failure)) => Event::Failed(failure),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Event::Failed(Failure::of_release(kind, format!("the agent panicked: {text}")))
        }
    }
}

async fn collect<E: Effects>(effects: Arc<E>, keep: Vec<Digest>, guard: OwnedMutexGuard<()>) -> Done {
    if AssertUnwindSafe(effects.collect(&keep)).catch_unwind().await.is_err() {
        tracing::error!("deleting needless files panicked; tried again after the next deployment");
    }
    drop(guard);
    Done::Collected
}

/// Spreads a fleet's retries. Where the system has no randomness yet, all wait alike.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
