//! The engine's core: state in memory, events on disk, one look after another. No tokio; it blocks, and the engine
//! runs it off the reactor.
//!
//! The order of things, in every case: look, decide, store the events, step the state, do the effects. A stop between
//! any two is caught up with by [`outstanding`]: what the state stands for and the fleet does not show is done again.

use super::events::{Event, Record};
use super::explain::{Explanation, explain};
use super::fit::unfit;
use super::fleet::{AssignTo, DeviceView, Fleet, FleetError, ReleaseInfo};
use super::gates::{Gate, hard_limits};
use super::journal::{self, JournalError};
use super::machine::sample::Group;
use super::machine::{
    Assessment, Command, Effect, FoldError, Observation, Progress, Refusal, Samples, Stage, State, command, decide,
    fold, outstanding, queries, step,
};
use super::order::{ALGORITHM, OrderError, SCHEMA, Statement};
use super::start::{Circumstances, StartError, StartRequest, begin, owns};
use super::view::{RolloutDetail, RolloutSummary};
use crate::store::Store;
use fieldpost_shared::bundle::manifest::Manifest;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{DeviceId, Digest, FleetId, ReleaseRef, RolloutId};
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::trust::SecretKey;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most decisions in a row without the world changing; more is a defect of the machine, and is stopped here.
const MAX_STEPS: usize = 10_000;

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
    /// No such rollout.
    #[error("there is no rollout `{0}`")]
    Unknown(RolloutId),
    /// The release of a rollout is gone.
    #[error("the controller no longer has release {0}")]
    ReleaseGone(ReleaseRef),
    /// The machine does not come to rest.
    #[error("rollout `{0}` does not come to rest: a defect of this program")]
    Restless(RolloutId),
}

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
    /// Where seeds come from: [`random_seed`], but in tests.
    pub entropy: fn() -> Result<[u8; 32], getrandom::Error>,
}

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
    news: Vec<(RolloutId, u64)>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("rollouts", &self.rollouts.keys()).finish_non_exhaustive()
    }
}

type Devices = BTreeMap<DeviceId, DeviceView>;
type Windows = BTreeMap<(Group, DeviceId, Digest, Timestamp), Option<WindowStats>>;

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
        Ok(Self { parts, gates: hard_limits(), rollouts, releases: BTreeMap::new(), since, news: Vec::new() })
    }

    /// Whether there is anything to look after.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.rollouts.values().any(|entry| needs_care(&entry.state))
    }

    /// Events stored since the last call: rollout and number.
    pub fn take_news(&mut self) -> Vec<(RolloutId, u64)> {
        std::mem::take(&mut self.news)
    }

    fn devices(&self) -> Result<Devices, CoreError> {
        Ok(self.parts.fleet.devices()?.into_iter().map(|view| (view.id.clone(), view)).collect())
    }

    /// Begins a rollout; devices change with the next look.
    ///
    /// # Errors
    /// When it is refused, or cannot be stored.
    pub fn start(&mut self, request: &StartRequest, by: &str) -> Result<RolloutSummary, CoreError> {
        let (model, version) = (request.model.clone(), request.version.clone());
        let found = self.parts.fleet.release(&model, &version)?;
        let release = found.ok_or(StartError::UnknownRelease { model, version })?;
        let devices = self.devices()?;
        let selector = request.strategy.selector.as_deref().unwrap_or("*");
        let matching = self.parts.fleet.select(selector, &devices).map_err(StartError::Fleet)?;
        let seed = Digest::from_bytes((self.parts.entropy)().map_err(CoreError::Random)?);
        // The id follows from the seed, and says nothing of it.
        let id = format!("r-{}", Digest::of(&[b"rollout id\0", seed.as_bytes().as_slice()].concat()).short());
        let id: RolloutId = id.parse().expect("`r-` and twelve hexadecimal characters are a name");
        let others: Vec<&State> = self.rollouts.values().map(|entry| &entry.state).collect();
        let seen = Circumstances { release: &release, devices: &devices, matching: &matching, others: &others };
        let created = begin(request, id.clone(), seed, by, &seen)?;
        let record = Record { sequence: 1, at: self.parts.clock.now(), event: created };
        let state = fold([&record]).map_err(|source| CoreError::Fold { rollout: id.clone(), source })?;
        journal::append(self.parts.store.as_ref(), &id, &[record])?;
        tracing::info!(rollout = %id, release = %state.spec.release, devices = state.order.len(), by, "rollout created");
        self.news.push((id.clone(), 1));
        self.rollouts.insert(id.clone(), Rollout::new(state));
        self.summary(&id)
    }

    /// Does what a person asks of a rollout.
    ///
    /// # Errors
    /// When it makes no sense now, or cannot be stored.
    pub fn command(&mut self, id: &RolloutId, asked: &Command, by: &str) -> Result<RolloutSummary, CoreError> {
        let events = command::command(&self.entry(id)?.state, asked, by)?;
        let mut devices = self.devices()?;
        self.record(id, events, &mut devices)?;
        self.summary(id)
    }

    fn entry(&self, id: &RolloutId) -> Result<&Rollout, CoreError> {
        self.rollouts.get(id).ok_or_else(|| CoreError::Unknown(id.clone()))
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

    /// One rollout with everything.
    ///
    /// # Errors
    /// When there is no such rollout.
    pub fn detail(&self, id: &RolloutId) -> Result<RolloutDetail, CoreError> {
        let entry = self.entry(id)?;
        Ok(RolloutDetail::of(&entry.state, &entry.assessment))
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
        Ok(journal::after(self.parts.store.as_ref(), id, after, limit)?)
    }

    /// Why everything happened, and what it waits for.
    ///
    /// # Errors
    /// When there is no such rollout, or the store fails.
    pub fn explain(&self, id: &RolloutId) -> Result<Explanation, CoreError> {
        let records = journal::after(self.parts.store.as_ref(), id, 0, usize::MAX)?;
        let entry = self.entry(id)?;
        Ok(explain(&entry.state, &records, &entry.assessment))
    }

    /// Looks at every rollout that is not at rest. One that fails is logged and looked at again next time; the others
    /// go on.
    ///
    /// # Errors
    /// When the fleet cannot be seen at all.
    pub fn look(&mut self) -> Result<(), CoreError> {
        let ids: Vec<RolloutId> =
            self.rollouts.iter().filter(|(_, entry)| needs_care(&entry.state)).map(|(id, _)| id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut devices = self.devices()?;
        for id in ids {
            if let Err(error) = self.look_at(&id, &mut devices) {
                let error: &dyn std::error::Error = &error;
                tracing::error!(rollout = %id, error, "cannot go on with a rollout now");
            }
        }
        Ok(())
    }

    fn look_at(&mut self, id: &RolloutId, devices: &mut Devices) -> Result<(), CoreError> {
        self.catch_up(id, devices)?;
        let mut windows = Windows::new();
        for _ in 0..MAX_STEPS {
            let now = self.parts.clock.now();
            let state = &self.entry(id)?.state;
            let candidate = self.release(&state.spec.release.clone())?;
            let samples = self.sample(id, devices, &mut windows)?;
            let state = &self.entry(id)?.state;
            let mut matching = self.parts.fleet.select(&state.spec.selector, devices)?;
            let requirements = &candidate.manifest.requirements;
            let fits = |view: &DeviceView| unfit(requirements, &view.inventory).is_none();
            matching.retain(|device| devices.get(device).is_some_and(fits));
            let claimed = self.claimed(id);
            let listening_since = self.parts.fleet.listening_since().map(|since| since.max(self.since));
            let seen = Observation {
                devices,
                matching: &matching,
                claimed: &claimed,
                listening_since,
                candidate: &candidate,
                samples: &samples,
            };
            let decision = decide(state, &seen, &self.gates, now);
            let done = decision.events.is_empty();
            if let Some(entry) = self.rollouts.get_mut(id) {
                entry.assessment = decision.assessment;
                let untold = entry.untold.iter().map(|(device, why)| format!("{device} could not be told: {why}"));
                entry.assessment.waiting.extend(untold);
            }
            if done {
                return Ok(());
            }
            self.record(id, decision.events, devices)?;
        }
        Err(CoreError::Restless(id.clone()))
    }

    /// Devices that other active rollouts of the same model own.
    fn claimed(&self, id: &RolloutId) -> BTreeSet<DeviceId> {
        let model = self.rollouts.get(id).map(|entry| &entry.state.spec.release.model);
        let others = self.rollouts.iter().filter(|(other, entry)| {
            *other != id && entry.state.stage.active() && Some(&entry.state.spec.release.model) == model
        });
        others
            .flat_map(|(_, entry)| entry.state.members.keys().filter(|device| owns(&entry.state, device)).cloned())
            .collect()
    }

    fn release(&mut self, release: &ReleaseRef) -> Result<ReleaseInfo, CoreError> {
        if let Some(info) = self.releases.get(release) {
            return Ok(info.clone());
        }
        let found = self.parts.fleet.release(&release.model, &release.version)?;
        let info = found.filter(|info| info.release == *release);
        let info = info.ok_or_else(|| CoreError::ReleaseGone(release.clone()))?;
        self.releases.insert(release.clone(), info.clone());
        Ok(info)
    }

    /// Asks for the statistics that the next decision needs; within one look each is asked for once.
    fn sample(&mut self, id: &RolloutId, devices: &Devices, known: &mut Windows) -> Result<Samples, CoreError> {
        let asked = queries(&self.entry(id)?.state, devices);
        let mut samples = Samples::default();
        let mut manifests: BTreeMap<Digest, Option<Arc<Manifest>>> = BTreeMap::new();
        for query in asked {
            let digest = query.release.manifest;
            let key = (query.group, query.device.clone(), digest, query.since);
            let window = match known.get(&key) {
                Some(window) => window.clone(),
                None => {
                    let window = self.parts.fleet.windows(&query.device, &digest, query.since)?;
                    known.insert(key, window.clone());
                    window
                }
            };
            if let Entry::Vacant(manifest) = manifests.entry(digest) {
                // A control may run a release that was deleted since: it is compared without a baseline.
                manifest.insert(self.release(&query.release).ok().map(|info| info.manifest));
            }
            samples.windows.insert((query.group, query.device), (digest, window));
        }
        samples.manifests = manifests.into_iter().filter_map(|(digest, manifest)| Some((digest, manifest?))).collect();
        Ok(samples)
    }

    /// Stores events, steps the state, and does what follows, in this order.
    fn record(&mut self, id: &RolloutId, events: Vec<Event>, devices: &mut Devices) -> Result<(), CoreError> {
        let at = self.parts.clock.now();
        let mut state = self.entry(id)?.state.clone();
        let mut records = Vec::with_capacity(events.len());
        let mut effects = Vec::new();
        for event in events {
            let record = Record { sequence: state.sequence + 1, at, event };
            let before = state.stage.name();
            let (next, wanted) = step(state, &record.event, at);
            state = next;
            effects.extend(wanted);
            if before != state.stage.name() {
                let release = &state.spec.release;
                tracing::info!(rollout = %id, %release, from = before, stage = %state.stage, "rollout went on");
            }
            records.push(record);
        }
        journal::append(self.parts.store.as_ref(), id, &records)?;
        self.news.extend(records.last().map(|record| (id.clone(), record.sequence)));
        if let Some(entry) = self.rollouts.get_mut(id) {
            entry.state = state;
        }
        effects.into_iter().try_for_each(|effect| self.perform(id, effect, devices))
    }

    fn perform(&mut self, id: &RolloutId, effect: Effect, devices: &mut Devices) -> Result<(), CoreError> {
        match effect {
            Effect::SignOrder => {
                let signed = Box::new(self.sign(id)?);
                self.record(id, vec![Event::OrderSigned { signed }], devices)
            }
            Effect::Assign { device, to } => {
                let model = self.entry(id)?.state.spec.release.model.clone();
                if let Err(error) = self.parts.fleet.assign(&device, &model, to.as_ref()) {
                    // One device that cannot be told does not hold the others up: the next look tries again.
                    self.untold(id, device, &error);
                    return Ok(());
                }
                if let Some(rollout) = self.rollouts.get_mut(id) {
                    rollout.untold.remove(&device);
                }
                if let Some(view) = devices.get_mut(&device) {
                    // What was read before the assignment is out of date in these two points.
                    view.settled = false;
                    match to {
                        Some(to) => drop(view.desired.insert(model, to)),
                        None => drop(view.desired.remove(&model)),
                    }
                }
                Ok(())
            }
        }
    }

    fn untold(&mut self, id: &RolloutId, device: DeviceId, error: &FleetError) {
        let why = Chain(error).to_string();
        let Some(rollout) = self.rollouts.get_mut(id) else { return };
        if rollout.untold.get(&device) != Some(&why) {
            tracing::error!(rollout = %id, %device, error = %why, "cannot tell a device what to run");
            rollout.untold.insert(device, why);
        }
    }

    fn sign(&self, id: &RolloutId) -> Result<super::order::SignedOrder, CoreError> {
        let state = &self.entry(id)?.state;
        let statement = Statement {
            schema: SCHEMA.to_owned(),
            algorithm: ALGORITHM.to_owned(),
            fleet: self.parts.fleet_id.clone(),
            rollout: id.clone(),
            release: state.spec.release.clone(),
            drawn: state.created,
            seed: state.seed,
            order: state.order.clone(),
        };
        statement.sign(&self.parts.key).map_err(|source| CoreError::Order { rollout: id.clone(), source })
    }

    /// Does what the state stands for and the fleet does not show: after a restart, or when an effect failed.
    fn catch_up(&mut self, id: &RolloutId, devices: &mut Devices) -> Result<(), CoreError> {
        let state = &self.entry(id)?.state;
        let model = state.spec.release.model.clone();
        let undone = |effect: &Effect| match effect {
            Effect::SignOrder => true,
            Effect::Assign { device, to } => devices.get(device).is_some_and(|view| {
                let told = view.desired.get(&model);
                told != to.as_ref() && !taken(state, device, told)
            }),
        };
        let effects: Vec<Effect> = outstanding(state).into_iter().filter(undone).collect();
        effects.into_iter().try_for_each(|effect| self.perform(id, effect, devices))
    }
}

/// Whether another rollout has told a device something since this one told it to go back: that is left alone.
fn taken(state: &State, device: &DeviceId, told: Option<&AssignTo>) -> bool {
    let foreign = told.and_then(|told| told.rollout.as_ref()).is_some_and(|rollout| *rollout != state.id);
    let before = state.members.get(device).and_then(|member| member.previous.as_ref()) == told;
    foreign && !before && !state.stage.active()
}

/// Whether a rollout still changes, or has devices on their way back.
fn needs_care(state: &State) -> bool {
    let ended = matches!(state.stage, Stage::RolledBack { .. } | Stage::Aborted { .. });
    state.stage.active() || (ended && state.members.values().any(|member| member.progress == Progress::Reverting))
}
