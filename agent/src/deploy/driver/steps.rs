//! One step of one slot: decide, journal, begin. And what happens when the journal cannot be written.

use super::{Driver, DriverError};
use crate::deploy::effects::Effects;
use crate::deploy::event::{Context, Effect, Event, Job, Wish};
use crate::deploy::journal::Journal;
use crate::deploy::machine::{Step, is_loading, step};
use crate::deploy::memory::MemoryWatch;
use crate::deploy::slot::{Slot, State};
use crate::store::{MAX_QUARANTINE, StoreError};
use fieldpost_shared::backoff::Backoff;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{Digest, ModelName};
use fieldpost_shared::wire::v1::Quarantined;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait between two tries to write the journal.
const WRITE_AGAIN_MAX: Duration = Duration::from_secs(60);

impl<E: Effects> Driver<E> {
    /// Tells all slots, and those that are wanted and not there yet, that the world has changed.
    pub(super) async fn settle_all(&mut self) -> Result<(), DriverError> {
        self.settled_for = (self.held(), self.fresh());
        let wanted = self.known.desired.iter().flat_map(|d| &d.assignments).map(|a| a.release.model.clone());
        let models: BTreeSet<ModelName> = wanted.chain(self.runs.keys().cloned()).collect();
        for model in models {
            self.deliver(&model, Event::Changed).await?;
        }
        Ok(())
    }

    /// Applies an event now or, when the journal cannot be written, as soon as it can.
    pub(super) async fn deliver(&mut self, model: &ModelName, event: Event) -> Result<(), DriverError> {
        if matches!(event, Event::Checked { .. }) {
            return self.looked(model, event).await;
        }
        if let Some(run) = self.runs.get_mut(model).filter(|run| !run.waiting.is_empty()) {
            // One reminder is as good as many.
            if !(event == Event::Changed && run.waiting.contains(&event)) {
                run.waiting.push_back(event);
            }
            return Ok(());
        }
        if let Err(error) = self.apply(model, event.clone()).await {
            self.runs.entry(model.clone()).or_default().waiting.push_back(event);
            self.write_failed(error)?;
        }
        Ok(())
    }

    /// A look at a release never queues: harm must not wait behind what a full disk holds up. What a look came to and could
    /// not be written down, the next one comes to again.
    async fn looked(&mut self, model: &ModelName, event: Event) -> Result<(), DriverError> {
        if let Err(error) = self.apply(model, event).await {
            // Looks come every second: they must not put off the next try of all that waits.
            if self.trouble.is_none() || error.needs_restart() {
                self.write_failed(error)?;
            }
            self.begin(model, Effect::Begin(Job::Watch));
        }
        Ok(())
    }

    /// Decides, journals, begins. On an error nothing has changed.
    pub(super) async fn apply(&mut self, model: &ModelName, event: Event) -> Result<(), StoreError> {
        let before = self.runs.get(model).map(|run| run.slot.clone()).unwrap_or_default();
        let unsaved = match self.save(model).await {
            Ok(()) => None,
            // What began without the journal goes on without it.
            Err(error) if !waits_for_disk(&before.state) && !error.needs_restart() => Some(error),
            Err(error) => return Err(error),
        };
        let next = self.decide(model, before.clone(), event);
        if next.slot != before || !next.failed.is_empty() {
            match unsaved {
                None => self.write(model, &next).await?,
                // A probation may begin and turn to harm without the journal. Its good end makes files needless, and waits.
                Some(error) if matches!(before.state, State::Probation { .. }) && waits_for_disk(&next.slot.state) => {
                    return Err(error);
                }
                Some(_) => self.remember_unsaved(model, &next.failed),
            }
        }
        self.adopt(model, &before, next.slot, next.failed);
        for effect in next.effects {
            self.begin(model, effect);
        }
        self.forget_if_empty(model);
        Ok(())
    }

    fn decide(&self, model: &ModelName, slot: Slot, event: Event) -> Step {
        let wish = self.known.desired.as_ref().map(|desired| Wish {
            expires: desired.expires,
            assignment: desired.assignments.iter().find(|a| a.release.model == *model),
            beside: desired.mode(model),
        });
        let context = Context {
            now: self.trusted_now(),
            held: self.held(),
            wish,
            quarantine: &self.quarantine,
            revoked: &self.root.revoked,
        };
        step(slot, event, &context)
    }

    /// Journals a step.
    async fn write(&mut self, model: &ModelName, next: &Step) -> Result<(), StoreError> {
        let stored = (!next.slot.is_empty()).then(|| next.slot.clone());
        let (key, failed) = (model.clone(), next.failed.clone());
        let written = self.blocking(move |journal| journal.commit(&key, stored.as_ref(), &failed)).await;
        match written {
            Err(error) if !waits_for_disk(&next.slot.state) && !error.needs_restart() => {
                self.remember_unsaved(model, &next.failed);
                self.note_trouble(error);
                Ok(())
            }
            Err(error) => {
                // It may be on the disk all the same. What is true is written again before anything else.
                self.remember_unsaved(model, &[]);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn remember_unsaved(&mut self, model: &ModelName, failed: &[Quarantined]) {
        let run = self.runs.entry(model.clone()).or_default();
        run.unsaved = true;
        run.unsaved_failures.extend_from_slice(failed);
    }

    fn adopt(&mut self, model: &ModelName, before: &Slot, after: Slot, failed: Vec<Quarantined>) {
        if before.state.name() != after.state.name() {
            let release = after.state.candidate().map(|c| &c.release);
            let release = release.or(after.live.as_ref().map(|live| &live.release)).map(ToString::to_string);
            tracing::info!(%model, from = before.state.name(), to = after.state.name(), release, "slot changed state");
        }
        for failed in failed {
            let Quarantined { release, attempt, kind, detail, .. } = &failed;
            tracing::warn!(%release, attempt, ?kind, detail, "release quarantined");
            self.quarantine.retain(|entry| entry.release != failed.release);
            self.quarantine.push(failed);
        }
        // As the store does: a report that tells of all for ever would grow beyond any message.
        while self.quarantine.len() > MAX_QUARANTINE {
            let oldest = self.quarantine.iter().enumerate().min_by_key(|(_, entry)| entry.at).map(|(index, _)| index);
            self.quarantine.remove(oldest.unwrap_or_default());
        }
        let in_probation =
            |slot: &Slot| matches!(slot.state, State::Probation { .. } | State::Watched { .. } | State::Beside { .. });
        if is_loading(&before.state) || is_loading(&after.state) {
            let others = self.runs.iter_mut().filter(|(name, _)| *name != model);
            others.for_each(|(_, run)| run.memory.disturb());
        }
        let begins_to_load = is_loading(&after.state) && !is_loading(&before.state);
        let at_work = self.runs.iter().any(|(name, run)| name != model && is_loading(&run.slot.state));
        let run = self.runs.entry(model.clone()).or_default();
        if begins_to_load {
            // From here on its memory counts, so what others load meanwhile must not.
            run.memory = MemoryWatch::default();
            if at_work {
                run.memory.disturb();
            }
        }
        if in_probation(&after) && !in_probation(before) {
            run.probation_since = self.clock.monotonic();
        }
        run.slot = after;
    }

    fn begin(&mut self, model: &ModelName, effect: Effect) {
        match effect {
            Effect::Begin(job) => {
                let running = self.jobs.begin(model, job);
                self.runs.entry(model.clone()).or_default().running = Some(running);
            }
            Effect::Halt => {
                if let Some(run) = self.runs.get_mut(model) {
                    run.running = None;
                }
            }
            Effect::Alone => self.jobs.effects().alone(model),
            Effect::Collect => self.collect(),
        }
    }

    fn forget_if_empty(&mut self, model: &ModelName) {
        let empty = |run: &super::Run| run.slot.is_empty() && run.waiting.is_empty() && !run.unsaved;
        if self.runs.get(model).is_some_and(empty) {
            self.runs.remove(model);
        }
    }

    pub(super) fn collect(&mut self) {
        // Before the first desired state nobody knows what is needed; after damage to the journal, that is all there is.
        let Some(desired) = &self.known.desired else { return };
        let wanted = desired.assignments.iter().map(|a| a.release.manifest);
        let kept = self.runs.values().flat_map(|run| {
            let installed = [&run.slot.live, &run.slot.previous].into_iter().flatten().map(|i| i.release.manifest);
            installed.chain(run.slot.state.candidate().map(|c| c.release.manifest))
        });
        let keep: BTreeSet<Digest> = wanted.chain(kept).collect();
        self.jobs.collect(keep.into_iter().collect());
    }

    // ---- A journal that cannot be written ----

    fn note_trouble(&mut self, error: StoreError) {
        if self.trouble.is_none() {
            tracing::error!(error = %Chain(&error), "the journal cannot be written; tried again with back-off");
        }
        let wait = Backoff { base: self.settings.tick, max: WRITE_AGAIN_MAX }.wait(self.write_failures, 0);
        self.write_failures = self.write_failures.saturating_add(1);
        self.write_again_at = self.clock.monotonic().saturating_add(wait);
        self.trouble = Some(error);
    }

    pub(super) fn write_failed(&mut self, error: StoreError) -> Result<(), DriverError> {
        if error.needs_restart() {
            return Err(DriverError::Journal(error));
        }
        self.note_trouble(error);
        Ok(())
    }

    pub(super) async fn write_again(&mut self) -> Result<(), DriverError> {
        for model in self.models() {
            if let Err(error) = self.save(&model).await {
                return self.write_failed(error);
            }
            while let Some(event) = self.runs.get(&model).and_then(|run| run.waiting.front().cloned()) {
                if let Err(error) = self.apply(&model, event).await {
                    return self.write_failed(error);
                }
                if let Some(run) = self.runs.get_mut(&model) {
                    run.waiting.pop_front();
                }
                self.forget_if_empty(&model);
            }
        }
        if self.runs.values().all(|run| !run.unsaved) {
            tracing::info!("the journal can be written again");
            (self.trouble, self.write_failures) = (None, 0);
        }
        Ok(())
    }

    /// Brings the journal in line with a slot, where it is behind or unsure.
    async fn save(&mut self, model: &ModelName) -> Result<(), StoreError> {
        let Some(run) = self.runs.get(model).filter(|run| run.unsaved) else { return Ok(()) };
        let (key, slot, failed) = (model.clone(), run.slot.clone(), run.unsaved_failures.clone());
        let stored = (!slot.is_empty()).then_some(slot);
        self.blocking(move |journal| journal.commit(&key, stored.as_ref(), &failed)).await?;
        if let Some(run) = self.runs.get_mut(model) {
            run.unsaved = false;
            run.unsaved_failures.clear();
        }
        Ok(())
    }

    /// The disk's waits stay off the reactor. A panic in the store goes on here.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Journal) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let journal = Arc::clone(&self.journal);
        match tokio::task::spawn_blocking(move || work(&*journal)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

/// Taking back a release that does harm, loading at a start what had served before, and watching a release that answers
/// already do not wait for a disk that cannot be written. Were the agent to die before it can be, the next start would find
/// what it was before, and do the same again.
fn waits_for_disk(state: &State) -> bool {
    !matches!(state, State::Reverting { .. } | State::Restoring { .. } | State::Probation { .. })
}
