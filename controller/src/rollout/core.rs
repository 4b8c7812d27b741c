//! The engine's core: state in memory, events on disk, one look after another. No tokio; it blocks, and the engine
//! runs it off the reactor.
//!
//! The order of things, in every case: look, decide, store the events, step the state, do the effects. A stop between
//! any two is caught up with by [`outstanding`](super::machine::outstanding): what the state stands for and the fleet does not show is done again.

mod claims;
mod jump;
mod look;

use super::approval::Person;
use super::events::Record;
use super::explain::{Explanation, explain};
use super::facts::{self, DevicePast};
use super::fleet::{DeviceView, Devices, Fleet, FleetError, ReleaseInfo, select};
use super::gates::{Gate, hard_limits};
use super::journal::{self, JournalError};
use super::machine::{Assessment, Command, FoldError, Progress, Refusal, Stage, State, command, fold};
use super::order::OrderError;
use super::preview::StartPreview;
use super::start::{Circumstances, StartError, StartRequest, begin, conflict};
use super::strategy::{Strategy, StrategyFile};
use super::trial::design::Facts;
use super::view::{MemberView, RolloutDetail, RolloutSummary, members};
use crate::store::Store;
use fieldpost_shared::bundle::manifest::Manifest;
use fieldpost_shared::id::{DeviceId, Digest, FleetId, ReleaseRef, RolloutId};
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::trust::SecretKey;
use jump::Watch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Why the engine cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The events cannot be read or written.
    #[error("the rollout journal failed")]
    Journal(#[from] JournalError),
    /// Stored events are no rollout.
    #[error("cannot resume rollout `{rollout}`")]
    Fold {
        /// Which.
        rollout: RolloutId,
        /// Why.
        #[source]
        source: FoldError,
    },
    /// The fleet failed.
    #[error("the fleet failed")]
    Fleet(#[from] FleetError),
    /// The order cannot be signed.
    #[error("cannot sign the order of rollout `{rollout}`")]
    Order {
        /// Which.
        rollout: RolloutId,
        /// Why.
        #[source]
        source: OrderError,
    },
    /// The machine gives no random numbers.
    #[error("cannot draw a random order")]
    Random(#[source] getrandom::Error),
    /// A rollout does not begin.
    #[error("cannot start the rollout")]
    Start(#[from] StartError),
    /// A command makes no sense now.
    #[error("refused")]
    Refused(#[from] Refusal),
    /// Another rollout has the devices that this one would take back.
    #[error("cannot take rollout `{rollout}` back")]
    Contested {
        /// Which.
        rollout: RolloutId,
        /// Who has them.
        #[source]
        source: StartError,
    },
    /// No such rollout.
    #[error("there is no rollout `{rollout}`")]
    Unknown {
        /// What was asked for.
        rollout: RolloutId,
        /// What there is, newest first.
        known: Vec<RolloutId>,
    },
    /// No such device in it.
    #[error("device `{device}` is not part of rollout `{rollout}`")]
    NotAMember {
        /// Which rollout.
        rollout: RolloutId,
        /// Which device.
        device: DeviceId,
    },
    /// The release of a rollout is gone.
    #[error("the controller no longer has release {0}")]
    ReleaseGone(ReleaseRef),
    /// The machine does not come to rest.
    #[error("rollout `{0}` does not come to rest: a defect of this program")]
    Restless(RolloutId),
}

/// Between two looks for devices that came after rollouts completed. Nobody waits for them by the second, and a look costs
/// a walk over the fleet.
const LATE_LOOK: Duration = Duration::from_secs(10);

struct Rollout {
    state: State,
    assessment: Assessment,
    /// Devices that could not be told, and why, so that the same is logged once.
    untold: BTreeMap<DeviceId, String>,
}

impl Rollout {
    fn new(state: State) -> Self {
        Self { state, assessment: Assessment::default(), untold: BTreeMap::new() }
    }
}

/// Where a page of events begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsFrom {
    /// Behind the event of this number.
    After(u64),
    /// So that it ends with the newest.
    Newest,
}

/// What the core is made with.
pub struct CoreParts {
    /// The fleet.
    pub fleet: Arc<dyn Fleet>,
    /// Where events are kept.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Signs orders.
    pub key: SecretKey,
    /// The fleet's name.
    pub fleet_id: FleetId,
    /// Where seeds come from: [`random_seed`], but in tests and simulations.
    pub entropy: Entropy,
}

/// A source of seeds.
pub type Entropy = Arc<dyn Fn() -> Result<[u8; 32], getrandom::Error> + Send + Sync>;

impl std::fmt::Debug for CoreParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoreParts").field("fleet", &self.fleet).field("store", &self.store).finish_non_exhaustive()
    }
}

/// 32 bytes from the machine's random source.
///
/// # Errors
/// When there is none.
pub fn random_seed() -> Result<[u8; 32], getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}

/// Every rollout, and what it takes to go on with them.
pub struct Core {
    parts: CoreParts,
    gates: Vec<Box<dyn Gate>>,
    rollouts: BTreeMap<RolloutId, Rollout>,
    releases: BTreeMap<ReleaseRef, ReleaseInfo>,
    since: Timestamp,
    watch: Watch,
    news: Vec<(RolloutId, u64)>,
    /// When, by the monotonic clock, completed rollouts are looked at again for devices that came since.
    late_look: Duration,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("rollouts", &self.rollouts.keys()).finish_non_exhaustive()
    }
}

impl Core {
    /// Reads every rollout from the store.
    ///
    /// # Errors
    /// When one cannot be read: an engine that forgot a rollout would leave its devices halfway.
    pub fn load(parts: CoreParts) -> Result<Self, CoreError> {
        let mut rollouts = BTreeMap::new();
        for (id, records) in journal::load(parts.store.as_ref())? {
            let state = fold(&records).map_err(|source| CoreError::Fold { rollout: id.clone(), source })?;
            tracing::info!(rollout = %id, release = %state.spec.release, stage = %state.stage, "rollout resumed");
            rollouts.insert(id, Rollout::new(state));
        }
        let since = parts.clock.now();
        let watch = Watch::new(parts.clock.as_ref());
        Ok(Self {
            parts,
            watch,
            gates: hard_limits(),
            rollouts,
            releases: BTreeMap::new(),
            since,
            news: Vec::new(),
            late_look: Duration::ZERO,
        })
    }

    /// Whether there is anything to look after.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.rollouts.values().any(|entry| needs_care(&entry.state) || self.is_open(&entry.state))
    }

    /// Whether it is time to look at a completed rollout, which devices may join for ever.
    fn is_open(&self, state: &State) -> bool {
        state.stage == Stage::Completed && self.parts.clock.monotonic() >= self.late_look
    }

    /// Time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.parts.clock
    }

    /// Events stored since the last call: rollout and number.
    pub fn take_news(&mut self) -> Vec<(RolloutId, u64)> {
        std::mem::take(&mut self.news)
    }

    /// Begins a rollout; devices change with the next look.
    ///
    /// # Errors
    /// When it is refused, or cannot be stored.
    pub fn start(&mut self, request: &StartRequest, by: &str) -> Result<RolloutSummary, CoreError> {
        // What was found out before is not about this rollout: it begins with what the fleet shows now.
        drop(self.parts.fleet.take_ahead());
        let devices = self.parts.fleet.devices()?;
        let (record, state) = self.prepare(request, by, &devices)?;
        let id = state.id.clone();
        journal::append(self.parts.store.as_ref(), &id, &[record])?;
        tracing::info!(rollout = %id, release = %state.spec.release, devices = state.order.len(), by, "rollout created");
        self.news.push((id.clone(), 1));
        self.rollouts.insert(id.clone(), Rollout::new(state));
        self.summary(&id)
    }

    /// What [`Self::start`] would do; nothing is stored and nothing changes.
    ///
    /// # Errors
    /// When a start would be refused.
    pub fn preview(&self, request: &StartRequest, by: &str) -> Result<StartPreview, CoreError> {
        let devices = self.parts.fleet.devices()?;
        let (_, state) = self.prepare(request, by, &devices)?;
        let others: Vec<&State> = self.rollouts.values().map(|entry| &entry.state).collect();
        Ok(StartPreview::of(&state, &devices, &others, self.parts.clock.now()))
    }

    /// The first event of a rollout, and the state that it makes; not stored yet.
    fn prepare(&self, request: &StartRequest, by: &str, devices: &Devices) -> Result<(Record, State), CoreError> {
        let (model, version) = (request.model.clone(), request.version.clone());
        let found = self.parts.fleet.release(&model, &version)?;
        let release = found.ok_or(StartError::UnknownRelease { model, version })?;
        let selector = request.strategy.selector.as_deref().unwrap_or("*");
        let matching = select(selector, devices).map_err(StartError::Fleet)?;
        let seed = Digest::from_bytes((self.parts.entropy)().map_err(CoreError::Random)?);
        // The id follows from the seed, and says nothing of it.
        let id = format!("r-{}", Digest::of(&[b"rollout id\0", seed.as_bytes().as_slice()].concat()).short());
        let id: RolloutId = id.parse().expect("`r-` and twelve hexadecimal characters are a name");
        let others: Vec<&State> = self.rollouts.values().map(|entry| &entry.state).collect();
        let facts = self.facts(&request.strategy, &release, devices, &matching)?;
        let now = self.parts.clock.now();
        let seen =
            Circumstances { release: &release, devices, matching: &matching, others: &others, facts: &facts, now };
        let created = begin(request, id.clone(), seed, by, &seen)?;
        let record = Record { sequence: 1, at: now, event: created };
        let state = fold([&record]).map_err(|source| CoreError::Fold { rollout: id, source })?;
        Ok((record, state))
    }

    /// What the fleet has shown of what it runs now, where the strategy asks for it.
    fn facts(
        &self,
        file: &StrategyFile,
        release: &ReleaseInfo,
        devices: &Devices,
        matching: &BTreeSet<DeviceId>,
    ) -> Result<Facts, CoreError> {
        let strategy = Strategy::resolve(file).map_err(StartError::Strategy)?;
        if !facts::wanted(strategy.evidence) {
            return Ok(Facts::default());
        }
        let now = self.parts.clock.now();
        let since = now.minus(strategy.history);
        let model = &release.release.model;
        let views = matching.iter().filter_map(|device| devices.get(device).map(Arc::as_ref));
        let runs =
            |view| DeviceView::live(view, model).filter(|live| **live != release.release).map(|live| (view, live));
        let running: Vec<_> = views.filter_map(runs).collect();
        let mut manifests: BTreeMap<Digest, Option<Arc<Manifest>>> = BTreeMap::new();
        let mut pasts = Vec::new();
        // Spread over all names: those of one site often begin alike.
        for (view, live) in running.iter().step_by(running.len().div_ceil(facts::ASKED).max(1)) {
            let Some(window) = self.parts.fleet.windows_between(&view.id, &live.manifest, since, now)? else {
                continue;
            };
            let manifest = match manifests.get(&live.manifest) {
                Some(known) => known.clone(),
                None => {
                    let found = self.parts.fleet.release(model, &live.version)?.filter(|found| found.release == **live);
                    let manifest = found.map(|found| found.manifest);
                    manifests.insert(live.manifest, manifest.clone());
                    manifest
                }
            };
            pasts.push(DevicePast { window, manifest });
        }
        Ok(facts::facts(&pasts, &release.manifest, !running.is_empty(), now))
    }

    /// Does what a person asks of a rollout.
    ///
    /// # Errors
    /// When it makes no sense now, or cannot be stored.
    pub fn command(
        &mut self,
        id: &RolloutId,
        asked: &Command,
        by: impl Into<Person>,
    ) -> Result<RolloutSummary, CoreError> {
        let events = command::command(&self.entry(id)?.state, asked, &by.into())?;
        self.uncontested(id, asked)?;
        let mut devices = self.parts.fleet.devices()?;
        self.record(id, events, &mut devices)?;
        self.summary(id)
    }

    /// An ended rollout that is taken back must not touch devices that another one owns by now.
    fn uncontested(&self, id: &RolloutId, asked: &Command) -> Result<(), CoreError> {
        let state = &self.entry(id)?.state;
        if state.stage.active() || !matches!(asked, Command::Rollback { .. }) {
            return Ok(());
        }
        let takes_back = state.members.iter().filter(|(_, member)| member.touched && member.treated());
        let devices: Vec<&DeviceId> = takes_back.map(|(device, _)| device).collect();
        let others = self.rollouts.iter().filter(|(other, _)| *other != id).map(|(_, entry)| &entry.state);
        conflict(&state.spec.release.model, &devices, &others.collect::<Vec<_>>())
            .map_err(|source| CoreError::Contested { rollout: id.clone(), source })
    }

    fn entry(&self, id: &RolloutId) -> Result<&Rollout, CoreError> {
        self.rollouts.get(id).ok_or_else(|| self.unknown(id))
    }

    fn unknown(&self, id: &RolloutId) -> CoreError {
        CoreError::Unknown { rollout: id.clone(), known: self.list().into_iter().map(|summary| summary.id).collect() }
    }

    /// One rollout in a line.
    ///
    /// # Errors
    /// When there is no such rollout.
    pub fn summary(&self, id: &RolloutId) -> Result<RolloutSummary, CoreError> {
        Ok(RolloutSummary::of(&self.entry(id)?.state))
    }

    /// One rollout, as it is folded.
    ///
    /// # Errors
    /// When there is no such rollout.
    pub fn state(&self, id: &RolloutId) -> Result<&State, CoreError> {
        Ok(&self.entry(id)?.state)
    }

    /// Every rollout, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<RolloutSummary> {
        let mut all: Vec<RolloutSummary> =
            self.rollouts.values().map(|entry| RolloutSummary::of(&entry.state)).collect();
        all.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        all
    }

    /// One rollout with everything, and its first `limit` devices.
    ///
    /// # Errors
    /// When there is no such rollout.
    pub fn detail(&self, id: &RolloutId, limit: usize) -> Result<RolloutDetail, CoreError> {
        let entry = self.entry(id)?;
        Ok(RolloutDetail::of(&entry.state, &entry.assessment, limit))
    }

    /// Its devices in order, behind one of them, at most `limit`.
    ///
    /// # Errors
    /// When there is no such rollout, or no such device in it.
    pub fn members(
        &self,
        id: &RolloutId,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Vec<MemberView>, CoreError> {
        let state = &self.entry(id)?.state;
        match after {
            Some(device) if !state.members.contains_key(device) => {
                Err(CoreError::NotAMember { rollout: id.clone(), device: device.clone() })
            }
            _ => Ok(members(state, after, limit)),
        }
    }

    /// Events after a number, at most `limit`.
    ///
    /// # Errors
    /// When there is no such rollout, or the store fails.
    pub fn events(&self, id: &RolloutId, after: u64, limit: usize) -> Result<Vec<Record>, CoreError> {
        let state = &self.entry(id)?.state;
        if after >= state.sequence {
            return Ok(Vec::new());
        }
        Ok(journal::page(self.parts.store.as_ref(), id, after, limit)?)
    }

    /// Why everything happened, and what it waits for: all of it, however much that is.
    ///
    /// # Errors
    /// When there is no such rollout, or the store fails.
    pub fn explain(&self, id: &RolloutId) -> Result<Explanation, CoreError> {
        let records = journal::after(self.parts.store.as_ref(), id, 0, usize::MAX)?;
        let entry = self.entry(id)?;
        Ok(explain(&entry.state, &records, &entry.assessment))
    }

    /// The same with one page of what happened: behind an event, or the newest ones, at most `limit`.
    ///
    /// # Errors
    /// When there is no such rollout, or the store fails.
    pub fn explain_page(&self, id: &RolloutId, from: EventsFrom, limit: usize) -> Result<Explanation, CoreError> {
        let after = match from {
            EventsFrom::After(after) => after,
            EventsFrom::Newest => {
                self.entry(id)?.state.sequence.saturating_sub(u64::try_from(limit).unwrap_or(u64::MAX))
            }
        };
        let records = self.events(id, after, limit)?;
        let entry = self.entry(id)?;
        Ok(explain(&entry.state, &records, &entry.assessment))
    }
}

/// Whether a rollout still changes, or has devices on their way back.
fn needs_care(state: &State) -> bool {
    let ended = matches!(state.stage, Stage::RolledBack { .. } | Stage::Aborted { .. });
    state.stage.active() || (ended && state.members.values().any(|member| member.progress == Progress::Reverting))
}
