//! The engine: one task that looks at every rollout whenever the fleet changes, and on a timer; and the handle that
//! the API talks to. Decisions and effects are the [`Core`]'s; nothing here decides.

use super::approval::Person;
use super::core::{Core, CoreError, CoreParts, EventsFrom};
use super::events::Record;
use super::explain::Explanation;
use super::machine::Command;
use super::preview::StartPreview;
use super::start::StartRequest;
use super::view::{MemberView, RolloutDetail, RolloutSummary};
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{DeviceId, RolloutId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Requests that may wait.
const QUEUE: usize = 64;
/// After a look the engine rests so many times as long as it took: a look at a large fleet reads much.
const REST: u32 = 2;
/// News that a slow watcher may lag behind.
const NEWS: usize = 1_024;

/// How often the engine looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSettings {
    /// At least so often, while a rollout is active.
    pub every: Duration,
    /// At most so often, however much the fleet changes.
    pub gap: Duration,
}

impl Default for EngineSettings {
    /// Every second, and at most five times a second.
    fn default() -> Self {
        Self { every: Duration::from_secs(1), gap: Duration::from_millis(200) }
    }
}

/// Why the engine does not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It did what it could.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// It is not running.
    #[error("the rollout engine is not running")]
    Stopped,
    /// It broke an invariant of its own.
    #[error("the rollout engine panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// A rollout has new events, up to this number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Which rollout.
    pub rollout: RolloutId,
    /// Number of its newest event.
    pub sequence: u64,
}

type Answer<T> = oneshot::Sender<Result<T, CoreError>>;

enum Request {
    Start { request: Box<StartRequest>, by: String, answer: Answer<RolloutSummary> },
    Preview { request: Box<StartRequest>, by: String, answer: Answer<Box<StartPreview>> },
    Command { rollout: RolloutId, command: Command, by: Person, answer: Answer<RolloutSummary> },
    LetGo { device: DeviceId, answer: Answer<()> },
    List { answer: Answer<Vec<RolloutSummary>> },
    Show { rollout: RolloutId, limit: usize, answer: Answer<Box<RolloutDetail>> },
    Members { rollout: RolloutId, after: Option<DeviceId>, limit: usize, answer: Answer<Vec<MemberView>> },
    Events { rollout: RolloutId, after: u64, limit: usize, answer: Answer<(RolloutSummary, Vec<Record>)> },
    Explain { rollout: RolloutId, from: EventsFrom, limit: usize, answer: Answer<Explanation> },
}

impl Request {
    /// Whether a look should follow at once.
    const fn changes(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::Command { .. } | Self::LetGo { .. })
    }

    /// A caller that has gone away needs no answer.
    fn serve(self, core: &mut Core) {
        match self {
            Self::Start { request, by, answer } => drop(answer.send(core.start(&request, &by))),
            Self::Preview { request, by, answer } => drop(answer.send(core.preview(&request, &by).map(Box::new))),
            Self::Command { rollout, command, by, answer } => drop(answer.send(core.command(&rollout, &command, by))),
            Self::LetGo { device, answer } => drop(answer.send(core.let_go(&device))),
            Self::List { answer } => drop(answer.send(Ok(core.list()))),
            Self::Show { rollout, limit, answer } => drop(answer.send(core.detail(&rollout, limit).map(Box::new))),
            Self::Members { rollout, after, limit, answer } => {
                drop(answer.send(core.members(&rollout, after.as_ref(), limit)));
            }
            Self::Events { rollout, after, limit, answer } => {
                let events = core.summary(&rollout).and_then(|s| Ok((s, core.events(&rollout, after, limit)?)));
                drop(answer.send(events));
            }
            Self::Explain { rollout, from, limit, answer } => {
                drop(answer.send(core.explain_page(&rollout, from, limit)));
            }
        }
    }
}

/// Talks to the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    requests: mpsc::Sender<Request>,
    news: broadcast::Sender<News>,
}

impl EngineHandle {
    async fn ask<T>(&self, make: impl FnOnce(Answer<T>) -> Request) -> Result<T, EngineError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(make(answer)).await.map_err(|_closed| EngineError::Stopped)?;
        Ok(answered.await.map_err(|_closed| EngineError::Stopped)??)
    }

    /// Begins a rollout.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn start(&self, request: StartRequest, by: String) -> Result<RolloutSummary, EngineError> {
        self.ask(|answer| Request::Start { request: Box::new(request), by, answer }).await
    }

    /// What a start would do; nothing changes.
    ///
    /// # Errors
    /// When a start would be refused.
    pub async fn preview(&self, request: StartRequest, by: String) -> Result<Box<StartPreview>, EngineError> {
        self.ask(|answer| Request::Preview { request: Box::new(request), by, answer }).await
    }

    /// Does what a person asks.
    ///
    /// # Errors
    /// When it makes no sense now.
    pub async fn command(
        &self,
        rollout: RolloutId,
        command: Command,
        by: impl Into<Person>,
    ) -> Result<RolloutSummary, EngineError> {
        let by = by.into();
        self.ask(|answer| Request::Command { rollout, command, by, answer }).await
    }

    /// Makes every rollout leave a device alone that it has told something.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn let_go(&self, device: DeviceId) -> Result<(), EngineError> {
        self.ask(|answer| Request::LetGo { device, answer }).await
    }

    /// Every rollout, newest first.
    ///
    /// # Errors
    /// When the engine is not running.
    pub async fn list(&self) -> Result<Vec<RolloutSummary>, EngineError> {
        self.ask(|answer| Request::List { answer }).await
    }

    /// One rollout with everything, and its first `limit` devices.
    ///
    /// # Errors
    /// When there is no such rollout.
    pub async fn show(&self, rollout: RolloutId, limit: usize) -> Result<Box<RolloutDetail>, EngineError> {
        self.ask(|answer| Request::Show { rollout, limit, answer }).await
    }

    /// Its devices in order, behind one of them, at most `limit`.
    ///
    /// # Errors
    /// When there is no such rollout, or no such device in it.
    pub async fn members(
        &self,
        rollout: RolloutId,
        after: Option<DeviceId>,
        limit: usize,
    ) -> Result<Vec<MemberView>, EngineError> {
        self.ask(|answer| Request::Members { rollout, after, limit, answer }).await
    }

    /// Where a rollout is, and its events after a number.
    ///
    /// # Errors
    /// When there is no such rollout.
    pub async fn events(
        &self,
        rollout: RolloutId,
        after: u64,
        limit: usize,
    ) -> Result<(RolloutSummary, Vec<Record>), EngineError> {
        self.ask(|answer| Request::Events { rollout, after, limit, answer }).await
    }

    /// Why everything happened, with at most `limit` events.
    ///
    /// # Errors
    /// When there is no such rollout.
    pub async fn explain(
        &self,
        rollout: RolloutId,
        from: EventsFrom,
        limit: usize,
    ) -> Result<Explanation, EngineError> {
        self.ask(|answer| Request::Explain { rollout, from, limit, answer }).await
    }

    /// Tells whenever a rollout has new events.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }
}

/// The engine, not running yet.
#[derive(Debug)]
pub struct Engine {
    core: Core,
    fleet: Arc<dyn super::fleet::Fleet>,
    settings: EngineSettings,
    requests: mpsc::Receiver<Request>,
    news: broadcast::Sender<News>,
}

impl Engine {
    /// Reads every rollout from the store. Blocks.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn load(parts: CoreParts, settings: EngineSettings) -> Result<(Self, EngineHandle), EngineError> {
        let fleet = Arc::clone(&parts.fleet);
        let core = Core::load(parts)?;
        let (requests, inbox) = mpsc::channel(QUEUE);
        let (news, _) = broadcast::channel(NEWS);
        let handle = EngineHandle { requests, news: news.clone() };
        Ok((Self { core, fleet, settings, requests: inbox, news }, handle))
    }

    /// Runs until it is told to stop. A stop between any two steps loses nothing.
    ///
    /// # Errors
    /// When the core panicked; [`Engine::load`] resumes from the store.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), EngineError> {
        let Self { core, fleet, settings, mut requests, news } = self;
        // The core moves to a blocking thread and back for every step, so it is here whenever nothing is under way.
        let mut core = Box::new(core);
        let mut changes = fleet.changes();
        let mut gap = tokio::time::interval(settings.gap.max(Duration::from_millis(1)));
        gap.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ticks_per_look = settings.every.as_millis().div_ceil(settings.gap.as_millis().max(1));
        let (mut dirty, mut ticks) = (true, 0_u128);
        let mut rests_until = Duration::ZERO;
        let mut fleet_is_there = true;
        loop {
            // Every arm is cancel-safe: receiving from a channel and waiting for an interval take nothing when dropped.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(request) = requests.recv() => {
                    dirty |= request.changes();
                    core = step(core, |core| request.serve(core)).await?;
                    tell(&mut core, &news);
                }
                changed = changes.recv(), if fleet_is_there => match changed {
                    Ok(_) | Err(RecvError::Lagged(_)) => dirty = true,
                    Err(RecvError::Closed) => fleet_is_there = false,
                },
                _ = gap.tick() => {
                    ticks += 1;
                    let began = core.clock().monotonic();
                    if core.busy() && began >= rests_until && (dirty || ticks >= ticks_per_look) {
                        (dirty, ticks) = (false, 0);
                        core = step(core, look).await?;
                        tell(&mut core, &news);
                        let ended = core.clock().monotonic();
                        rests_until = ended.saturating_add(ended.saturating_sub(began).saturating_mul(REST));
                    }
                }
            }
        }
    }
}

fn look(core: &mut Core) {
    match core.look() {
        Ok(stuck) => stuck.iter().for_each(|(rollout, error)| {
            tracing::error!(%rollout, error = %Chain(error), "cannot go on with a rollout now");
        }),
        Err(error) => tracing::error!(error = %Chain(&error), "cannot look at the fleet"),
    }
}

async fn step(mut core: Box<Core>, work: impl FnOnce(&mut Core) + Send + 'static) -> Result<Box<Core>, EngineError> {
    tokio::task::spawn_blocking(move || {
        work(&mut core);
        core
    })
    .await
    .map_err(EngineError::Panicked)
}

fn tell(core: &mut Core, news: &broadcast::Sender<News>) {
    for (rollout, sequence) in core.take_news() {
        // Nobody may be watching.
        drop(news.send(News { rollout, sequence }));
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
