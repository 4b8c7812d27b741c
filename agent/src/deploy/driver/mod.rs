//! The driver: one task that owns all slots. It takes the next event, lets the machine decide, journals, and only then
//! begins the effects.

mod commands;
mod steps;

use super::beside::judge_beside;
use super::effects::Effects;
use super::event::Event;
use super::handle::{Command, DriverHandle};
use super::jobs::{Done, Jobs, Outcome, Running};
use super::journal::{Journal, RootView};
use super::machine::{acquit, is_loading};
use super::memory::MemoryWatch;
use super::probation::judge;
use super::slot::{Slot, State};
use super::status::DeployStatus;
use crate::store::{Hold, Known, StoreError};
use fieldpost_shared::backoff::Backoff;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{ModelName, ReleaseRef};
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::wire::v1::Quarantined;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What can be set about deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverSettings {
    /// Waits between tries of what is blocked.
    pub backoff: Backoff,
    /// How often a release in probation is looked at, and time itself: the end of a hold, of a desired state.
    pub tick: Duration,
}

impl Default for DriverSettings {
    fn default() -> Self {
        let backoff = Backoff { base: Duration::from_secs(2), max: Duration::from_secs(15 * 60) };
        Self { backoff, tick: Duration::from_secs(1) }
    }
}

/// Why the driver ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The journal is damaged. A restart begins a new one.
    #[error("deployments cannot go on without their journal")]
    Journal(#[source] StoreError),
}

/// One slot at run time.
#[derive(Debug, Default)]
struct Run {
    slot: Slot,
    running: Option<Running>,
    /// Events whose step could not be journalled yet, oldest first.
    waiting: VecDeque<Event>,
    /// The journal may say something else than the slot: the last write failed. Or the slot is ahead of it, because a
    /// release that does harm was taken back all the same.
    unsaved: bool,
    /// Go into the journal with the slot.
    unsaved_failures: Vec<Quarantined>,
    /// Monotonic time at which this run of the agent began its probation, or to be watched.
    probation_since: Duration,
    /// What its probation saw of the process's memory.
    memory: MemoryWatch,
}

/// Drives all slots. Made by [`Driver::open`], then [`Driver::run`].
pub struct Driver<E> {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    settings: DriverSettings,
    jobs: Jobs<E>,
    runs: BTreeMap<ModelName, Run>,
    quarantine: Vec<Quarantined>,
    known: Known,
    root: RootView,
    hold: Option<Hold>,
    /// Whether the hold held, and the desired state was fresh, when the slots were settled last.
    settled_for: (bool, bool),
    trouble: Option<StoreError>,
    /// Failed writes in a row, and when the next try is due.
    write_failures: u32,
    write_again_at: Duration,
    /// Every slot has got over the start.
    restored: bool,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<DeployStatus>,
}

impl<E> std::fmt::Debug for Driver<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("runs", &self.runs).field("known", &self.known).finish_non_exhaustive()
    }
}

impl<E: Effects> Driver<E> {
    /// Reads the journal; nothing is begun before [`Driver::run`].
    ///
    /// # Errors
    /// When the journal does not read.
    pub fn open(
        journal: Arc<dyn Journal>,
        effects: Arc<E>,
        clock: Arc<dyn Clock>,
        settings: DriverSettings,
    ) -> Result<(Self, DriverHandle), StoreError> {
        let (sender, commands) = mpsc::channel(16);
        let (status, receiver) = watch::channel(DeployStatus::default());
        let slots = journal.slots()?;
        let driver = Self {
            jobs: Jobs::new(effects, settings.backoff, settings.tick),
            runs: slots.into_iter().map(|(model, slot)| (model, Run { slot, ..Run::default() })).collect(),
            quarantine: journal.quarantine()?,
            known: journal.known()?,
            root: journal.root()?,
            hold: journal.hold()?,
            settled_for: (false, false),
            trouble: None,
            write_failures: 0,
            write_again_at: Duration::ZERO,
            restored: false,
            journal,
            clock,
            settings,
            commands,
            status,
        };
        Ok((driver, DriverHandle { commands: sender, status: receiver }))
    }

    /// Runs until `shutdown`. On return all jobs have ended, and the journal knows that it was no death.
    ///
    /// # Errors
    /// When the journal is damaged; the agent must then be restarted.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), DriverError> {
        let outcome = self.drive(&shutdown).await;
        self.jobs.stop().await;
        outcome
    }

    async fn drive(&mut self, shutdown: &CancellationToken) -> Result<(), DriverError> {
        self.settled_for = (self.held(), self.fresh());
        acquit(self.runs.values_mut().map(|run| &mut run.slot));
        for model in self.models() {
            self.deliver(&model, Event::Started).await?;
        }
        self.settle_all().await?;
        self.collect();
        let mut tick = tokio::time::interval(self.settings.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.publish();
            // Every arm only receives; what is received is handled outside, where nothing is cancelled.
            let next = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                done = self.jobs.next() => Next::Done(done),
                Some(command) = self.commands.recv() => Next::Command(command),
                _ = tick.tick() => Next::Tick,
            };
            match next {
                Next::Done(Done::Collected) => {
                    if self.jobs.wants_collection() {
                        self.collect();
                    }
                }
                Next::Done(Done::Job { model, number, outcome }) => self.ended(&model, number, outcome).await?,
                Next::Command(command) => self.command(command).await?,
                Next::Tick => self.tick().await?,
            }
        }
        for model in self.models() {
            let elapsed_ms = self.probation_elapsed_ms(&model);
            self.deliver(&model, Event::Stopped { elapsed_ms }).await?;
        }
        self.publish();
        Ok(())
    }

    // ---- What can happen ----

    async fn ended(&mut self, model: &ModelName, number: u64, outcome: Outcome) -> Result<(), DriverError> {
        let Some(run) = self.runs.get_mut(model) else { return Ok(()) };
        // An end that crossed with the beginning of another job is of no interest.
        if run.running.as_ref().is_none_or(|running| running.number != number) {
            let crossed = matches!(outcome, Outcome::Event(Event::Beside)) && self.beside(model).is_none();
            if crossed {
                self.jobs.effects().alone(model);
            }
            return Ok(());
        }
        run.running = None;
        let event = match outcome {
            Outcome::Event(event) => event,
            Outcome::Look => self.look(model),
        };
        self.deliver(model, event).await
    }

    fn look(&mut self, model: &ModelName) -> Event {
        let elapsed_ms = self.probation_elapsed_ms(model);
        if let Some(candidate) = self.beside(model) {
            let effects = self.jobs.effects();
            let harm = effects.observed_beside(model).and_then(|(observed, compared)| {
                judge_beside(&candidate, &observed, &compared, &effects.budgets(&candidate).unwrap_or_default())
            });
            if harm.is_some() {
                // It answers callers, perhaps, and a disk that cannot be written must not keep it there.
                effects.alone(model);
            }
            return Event::Checked { elapsed_ms, harm };
        }
        let others_at_work = self.runs.iter().any(|(name, run)| name != model && is_loading(&run.slot.state));
        let effects = self.jobs.effects();
        let harm = self.runs.get_mut(model).and_then(|run| {
            let live = run.slot.live.as_ref()?;
            let mut observed = effects.observed(model)?;
            observed.rss_growth_bytes = run.memory.held(observed.rss_growth_bytes, others_at_work);
            let harm = judge(&live.release, &observed, &effects.budgets(&live.release).unwrap_or_default());
            run.memory.proven(harm)
        });
        Event::Checked { elapsed_ms, harm }
    }

    /// The candidate that stands beside the live release.
    fn beside(&self, model: &ModelName) -> Option<ReleaseRef> {
        match &self.runs.get(model)?.slot.state {
            State::Beside { candidate, .. } => Some(candidate.release.clone()),
            _ => None,
        }
    }

    async fn tick(&mut self) -> Result<(), DriverError> {
        let now = (self.held(), self.fresh());
        if now != self.settled_for {
            self.settle_all().await?;
        }
        if self.write_failures > 0 && self.clock.monotonic() >= self.write_again_at {
            self.write_again().await?;
        }
        Ok(())
    }

    // ---- Facts ----

    fn models(&self) -> Vec<ModelName> {
        self.runs.keys().cloned().collect()
    }

    fn trusted_now(&self) -> Timestamp {
        self.clock.now().max(self.known.latest_signed)
    }

    fn held(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.holds(self.trusted_now()))
    }

    fn fresh(&self) -> bool {
        self.known.desired.as_ref().is_some_and(|desired| self.trusted_now() <= desired.expires)
    }

    fn probation_elapsed_ms(&self, model: &ModelName) -> u64 {
        match self.runs.get(model).map(|run| (&run.slot.state, run.probation_since)) {
            Some((State::Probation { elapsed_ms, .. }, since)) => {
                let now = self.clock.monotonic().saturating_sub(since);
                elapsed_ms.saturating_add(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
            }
            Some((State::Watched { .. } | State::Beside { .. }, since)) => {
                u64::try_from(self.clock.monotonic().saturating_sub(since).as_millis()).unwrap_or(u64::MAX)
            }
            _ => 0,
        }
    }

    fn publish(&mut self) {
        let progress = |run: &Run| {
            let receiver = run.running.as_ref().and_then(|running| running.progress.as_ref());
            receiver.map_or((0, 0), |receiver| *receiver.borrow())
        };
        let starting = |run: &Run| matches!(run.slot.state, State::Restoring { .. } | State::Reverting { .. });
        self.restored = self.restored || !self.runs.values().any(starting);
        let status = DeployStatus {
            models: self.runs.iter().map(|(model, run)| run.slot.report(model, progress(run))).collect(),
            quarantine: self.quarantine.clone(),
            desired_sequence: self.known.desired.as_ref().map_or(0, |desired| desired.sequence),
            hold: self.hold.clone().filter(|_| self.held()),
            trouble: self.trouble.as_ref().map(|error| Chain(error).to_string()),
            restored: self.restored,
        };
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }
}

enum Next {
    Done(Done),
    Command(Command),
    Tick,
}

#[cfg(test)]
mod tests;
