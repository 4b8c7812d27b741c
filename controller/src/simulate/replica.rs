//! One simulated rollout: the engine's own core, looked at whenever something can have changed.

use super::fleet::{SimFleet, model};
use super::plan::{Plan, WhenPaused};
use super::random::{self, Stream, stream};
use super::{Effect, spans::Spans};
use crate::rollout::core::{Core, CoreError, CoreParts, Entropy};
use crate::rollout::fleet::Fleet;
use crate::rollout::machine::{AbortMode, Command, Phase, Stage, State};
use crate::rollout::plan::MAX_WAVES;
use crate::rollout::start::StartRequest;
use crate::rollout::strategy::{Demand, Strategy};
use crate::rollout::trial::design::rhythm;
use crate::rollout::trial::schedule::multiple;
use crate::rollout::upcoming::upcoming;
use crate::store::{MemoryStore, Store};
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::time::{Clock, ManualClock, Timestamp};
use fieldpost_shared::trust::SecretKey;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two looks while devices change.
const WHILE_CHANGING: Duration = Duration::from_secs(120);
/// After a moment at which something falls due, so that what is due exactly then is over.
const AFTER: Duration = Duration::from_millis(1);
/// How long a person takes to resume, and how often one does.
const RESUMES: (Duration, u32) = (Duration::from_secs(3_600), 10);
/// A rollout that is not over after so many looks is given up.
const MAX_LOOKS: u32 = 100_000;

/// How a simulated rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Every wave passed.
    Completed,
    /// It was taken back.
    RolledBack,
    /// It waits for a person.
    Paused,
    /// None of these within the time that a strategy allows: it never comes to an end.
    Unfinished,
}

/// What came of a simulated rollout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Number of the wave in which it ended, from 1.
    pub wave: usize,
    /// Waves that passed before a person first had to resume it.
    pub passed_alone: usize,
    /// How long it took.
    pub took: Duration,
    /// Requests that the new release had served when the end was decided.
    pub requests: u64,
    /// Devices that had served any with it.
    pub devices: usize,
    /// Why, where the engine gave a reason.
    pub reason: Option<String>,
}

/// A rollout that cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The engine refused, or failed.
    #[error("the rollout engine cannot go on with the simulated fleet")]
    Core(#[from] CoreError),
    /// One rollout could not go on.
    #[error("the simulated rollout is stuck")]
    Stuck(#[source] CoreError),
}

/// Seeds of orders: those of one simulation are the same each time, and each rollout has another.
#[derive(Debug)]
struct Seeds(Mutex<Stream>);

impl Seeds {
    fn next(&self) -> [u8; 32] {
        random::bytes(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A controller and its simulated fleet.
#[derive(Debug)]
pub struct Replica {
    fleet: Arc<SimFleet>,
    store: Arc<dyn Store>,
    core: Core,
    seeds: Arc<Seeds>,
    strategy: Strategy,
    plan: Plan,
    restarts: Vec<Timestamp>,
}

/// How long a rollout may take at most.
#[must_use]
pub fn longest(plan: &Plan, strategy: &Strategy) -> Duration {
    let devices = plan.fleet.devices;
    // Waves that do not fit the fleet are refused when the rollout starts; those for groups are known only then.
    let resolved = strategy.waves.resolve(devices, strategy.holdout.ceil(devices)).map(|waves| waves.len());
    let waves = resolved.ok().or_else(|| strategy.waves.last_number()).unwrap_or(MAX_WAVES);
    let waves = u32::try_from(waves + 1).unwrap_or(u32::MAX);
    let (every, warm_up) = rhythm(&strategy.trial, strategy.soak, Some(plan.fleet.window));
    let looks = match strategy.evidence {
        Demand::Trial => warm_up.saturating_add(every.saturating_mul(multiple(strategy.trial.looks))),
        Demand::Gates | Demand::Requests => Duration::ZERO,
    };
    let dwell = strategy.max_dwell.max(strategy.soak).max(looks);
    let wave = strategy.wave_timeout.saturating_add(dwell);
    wave.saturating_mul(waves).saturating_add(RESUMES.0.saturating_mul(RESUMES.1)).saturating_mul(2)
}

impl Replica {
    /// A controller that has looked after a fleet for a while.
    ///
    /// # Errors
    /// When the engine does not begin.
    pub fn new(plan: &Plan, strategy: &Strategy, effect: Effect, seed: u64) -> Result<Self, ReplicaError> {
        let lasts = longest(plan, strategy);
        let fleet = Arc::new(SimFleet::new(plan, &[effect], seed, lasts));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let begins = fleet.clock().now();
        let span = (begins.as_millis(), begins.plus(lasts).as_millis());
        let restarts = Spans::random(&mut stream(seed, b"restarts", 0), span, plan.trouble.controller_restarts, 1.0);
        let mut restarts: Vec<Timestamp> = restarts.into_iter().map(|(at, _)| Timestamp::from_millis(at)).collect();
        restarts.reverse();
        let seeds = Arc::new(Seeds(Mutex::new(stream(seed, b"order   ", 0))));
        let core = Core::load(parts(&fleet, &store, &seeds))?;
        Ok(Self { fleet, store, core, seeds, strategy: strategy.clone(), plan: plan.clone(), restarts })
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &Arc<SimFleet> {
        &self.fleet
    }

    /// The engine.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    fn clock(&self) -> &Arc<ManualClock> {
        self.fleet.clock()
    }

    /// Starts a rollout of the release with the effect.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn start(&mut self) -> Result<RolloutId, ReplicaError> {
        let version = semver::Version::new(1, 0, 1);
        let request = StartRequest { model: model(), version, strategy: self.plan.strategy.clone(), retry_of: None };
        Ok(self.core.start(&request, "simulation")?.id)
    }

    /// Runs a whole rollout.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn run(&mut self) -> Result<Outcome, ReplicaError> {
        let began = self.clock().now();
        let over = began.plus(longest(&self.plan, &self.strategy));
        let id = self.start()?;
        let (mut resumes, mut wave, mut passed_alone) = (0, 0, 0);
        for _ in 0..MAX_LOOKS {
            self.look()?;
            let state = self.core.state(&id)?;
            wave = state.stage.wave().unwrap_or(wave);
            if resumes == 0 {
                passed_alone = if state.stage == Stage::Completed { wave + 1 } else { wave };
            }
            let now = self.clock().now();
            let (end, reason) = match &state.stage {
                Stage::Completed => (End::Completed, None),
                Stage::RollingBack { reason, .. } | Stage::RolledBack { reason } => {
                    (End::RolledBack, Some(reason.clone()))
                }
                Stage::Paused { .. } if self.plan.when_paused == WhenPaused::Resume && resumes < RESUMES.1 => {
                    resumes += 1;
                    self.clock().advance(RESUMES.0);
                    self.core.command(&id, &Command::Resume { accept: true }, "a simulated person")?;
                    continue;
                }
                Stage::Paused { reason, .. } => (End::Paused, Some(reason.clone())),
                Stage::AwaitingApproval { .. } => {
                    self.core.command(&id, &Command::Approve, "a simulated person")?;
                    continue;
                }
                Stage::Aborted { mode: AbortMode::Keep | AbortMode::Revert, reason } => {
                    (End::Unfinished, Some(reason.clone()))
                }
                Stage::Draft | Stage::Running { .. } if now >= over => (End::Unfinished, None),
                Stage::Draft | Stage::Running { .. } => {
                    let next = self.next(state, now);
                    self.clock().advance(next.since(now));
                    continue;
                }
            };
            let (requests, devices) = self.fleet.served(1);
            return Ok(Outcome {
                end,
                wave: wave + 1,
                passed_alone,
                took: now.since(began),
                requests,
                devices,
                reason,
            });
        }
        let (requests, devices) = self.fleet.served(1);
        let took = self.clock().now().since(began);
        Ok(Outcome { end: End::Unfinished, wave: wave + 1, passed_alone, took, requests, devices, reason: None })
    }

    /// One look of the engine, after a restart of the controller if one is due.
    ///
    /// # Errors
    /// When it cannot go on.
    pub fn look(&mut self) -> Result<(), ReplicaError> {
        while self.restarts.last().is_some_and(|at| *at <= self.clock().now()) {
            self.restarts.pop();
            self.core = Core::load(parts(&self.fleet, &self.store, &self.seeds))?;
        }
        match self.core.look()?.pop() {
            Some((_, error)) => Err(ReplicaError::Stuck(error)),
            None => Ok(()),
        }
    }

    /// The next moment at which a look may come to something: while devices change, soon after the next of them says
    /// something; in a soak, when a window length has passed since it began, and when it is over.
    fn next(&self, state: &State, now: Timestamp) -> Timestamp {
        let Stage::Running { phase: Phase::Soaking { since }, .. } = &state.stage else {
            let change = self.fleet.next_change().unwrap_or_else(|| now.plus(WHILE_CHANGING.saturating_mul(10)));
            return change.max(now.plus(WHILE_CHANGING)).min(now.plus(WHILE_CHANGING.saturating_mul(10)));
        };
        let window = self.plan.fleet.window;
        let passed = now.since(*since).as_millis() / window.as_millis().max(1);
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let arrives = since.plus(window.saturating_mul(passed.saturating_add(1)));
        let deadlines = upcoming(state).into_iter().filter_map(|next| next.at);
        let due = deadlines.chain([arrives]).map(|at| at.plus(AFTER)).filter(|at| *at > now);
        due.min().unwrap_or_else(|| now.plus(window))
    }
}

fn parts(fleet: &Arc<SimFleet>, store: &Arc<dyn Store>, seeds: &Arc<Seeds>) -> CoreParts {
    let seeds = Arc::clone(seeds);
    let entropy: Entropy = Arc::new(move || Ok(seeds.next()));
    CoreParts {
        fleet: Arc::clone(fleet) as Arc<dyn Fleet>,
        store: Arc::clone(store),
        clock: Arc::clone(fleet.clock()) as Arc<dyn Clock>,
        key: SecretKey::from_seed(&[1; 32]),
        fleet_id: "simulated".parse().expect("letters are a name"),
        entropy,
    }
}
