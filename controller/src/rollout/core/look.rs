//! One look: what the fleet shows, what the machine makes of it, and what follows.

use super::{Core, CoreError, LATE_LOOK, needs_care};
use crate::rollout::events::{Event, Record};
use crate::rollout::fit::unfit;
use crate::rollout::fleet::{AssignTo, DeviceView, Devices, FleetError, ReleaseInfo, select};
use crate::rollout::journal;
use crate::rollout::machine::late::concerns;
use crate::rollout::machine::sample::Group;
use crate::rollout::machine::turn::busy_elsewhere;
use crate::rollout::machine::{
    Effect, Observation, Progress, Samples, Stage, State, before_judging, judged, outstanding, queries, step,
    taken_over,
};
use crate::rollout::order::{ALGORITHM, GROUPED, SCHEMA, SignedOrder, Statement, Stretch};
use fieldpost_shared::bundle::manifest::Manifest;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{DeviceId, Digest, ReleaseRef, RolloutId};
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::time::Timestamp;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most decisions in a row without the world changing; more is a defect of the machine, and is stopped here.
const MAX_STEPS: usize = 10_000;

/// Why nothing is told to a device that knows newer orders than the controller.
const HELD: &str = "it follows orders that this controller does not know; `fieldpost device accept` decides";

/// Statistics that were asked for within one look.
type Windows = BTreeMap<(Group, DeviceId, Digest, Timestamp), Option<Arc<WindowStats>>>;

impl Core {
    /// Looks at every rollout that is not at rest, and says which could not go on now: they are looked at again next
    /// time, and the others go on.
    ///
    /// # Errors
    /// When the fleet cannot be seen at all.
    pub fn look(&mut self) -> Result<Vec<(RolloutId, CoreError)>, CoreError> {
        let wants = |state: &State| needs_care(state) || self.is_open(state);
        let mut ids: Vec<RolloutId> =
            self.rollouts.iter().filter(|(_, entry)| wants(&entry.state)).map(|(id, _)| id.clone()).collect();
        let mut stuck = Vec::new();
        if ids.is_empty() {
            return Ok(stuck);
        }
        let mut devices = self.parts.fleet.devices()?;
        let ahead = self.parts.fleet.take_ahead();
        stuck.extend(self.mind_the_clock(&mut devices));
        if self.parts.clock.monotonic() >= self.late_look {
            self.late_look = self.parts.clock.monotonic().saturating_add(LATE_LOOK);
        }
        ids.retain(|id| {
            let state = self.rollouts.get(id).map(|entry| &entry.state);
            state.is_some_and(|state| state.stage != Stage::Completed || concerns(state, &devices))
        });
        // Where two want the same device, the one with the higher priority sees it first.
        let priority = |id: &RolloutId| self.rollouts.get(id).map_or(0, |entry| entry.state.spec.strategy.priority);
        ids.sort_by_key(|id| std::cmp::Reverse(priority(id)));
        for id in ids {
            if let Err(error) = self.look_at(&id, &mut devices, &ahead) {
                stuck.push((id, error));
            }
        }
        Ok(stuck)
    }

    fn look_at(&mut self, id: &RolloutId, devices: &mut Devices, ahead: &BTreeSet<DeviceId>) -> Result<(), CoreError> {
        self.catch_up(id, devices)?;
        let mut windows = Windows::new();
        let state = &self.entry(id)?.state;
        let mut matching = select(&state.spec.selector, devices)?;
        let release = state.spec.release.clone();
        let requirements = self.release(&release)?.manifest.requirements.clone();
        let fits = |view: &Arc<DeviceView>| unfit(&requirements, &view.inventory).is_none();
        matching.retain(|device| devices.get(device).is_some_and(fits));
        for _ in 0..MAX_STEPS {
            let now = self.parts.clock.now();
            let state = &self.entry(id)?.state;
            if state.stage == Stage::Completed {
                // It may have been revoked since.
                self.releases.remove(&release);
            }
            let candidate = self.release(&release)?;
            let claimed = if self.entry(id)?.state.stage == Stage::Completed {
                self.claimed_by_newer(id, devices)?
            } else {
                self.claimed(id)
            };
            let others = self.rollouts.iter().filter(|(other, _)| *other != id).map(|(_, entry)| &entry.state);
            let mut busy = busy_elsewhere(&self.entry(id)?.state, others, devices, now);
            let why = || "another rollout has it since".to_owned();
            busy.extend(self.taken_since(id, devices)?.into_iter().map(|device| (device, why())));
            let held = devices.iter().filter(|(_, view)| view.ahead);
            busy.extend(held.map(|(device, _)| (device.clone(), HELD.to_owned())));
            let later: BTreeSet<RolloutId> = self.later(id)?.map(|other| other.id.clone()).collect();
            let listening_since = self.parts.fleet.listening_since().map(|since| since.max(self.since));
            let seen = Observation {
                devices,
                matching: &matching,
                claimed: &claimed,
                busy: &busy,
                ahead,
                later: &later,
                listening_since,
                candidate: &candidate,
                samples: &Samples::default(),
            };
            // Statistics are read only where something is judged: of a large fleet they are much.
            let decision = match before_judging(&self.entry(id)?.state, &seen, now) {
                Some(decision) => decision,
                None => {
                    let samples = self.sample(id, devices, listening_since, now, &mut windows)?;
                    let seen = Observation { samples: &samples, ..seen };
                    judged(&self.entry(id)?.state, &seen, &self.gates, now)
                }
            };
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
    fn sample(
        &mut self,
        id: &RolloutId,
        devices: &Devices,
        listening_since: Option<Timestamp>,
        now: Timestamp,
        known: &mut Windows,
    ) -> Result<Samples, CoreError> {
        let asked = queries(&self.entry(id)?.state, devices, listening_since, now);
        let mut samples = Samples::default();
        let mut manifests: BTreeMap<Digest, Option<Arc<Manifest>>> = BTreeMap::new();
        for query in asked {
            let digest = query.release.manifest;
            let key = (query.group, query.device.clone(), digest, query.since);
            let window = match known.get(&key) {
                Some(window) => window.clone(),
                None => {
                    let fleet = &self.parts.fleet;
                    let window = match query.until {
                        None => fleet.windows(&query.device, &digest, query.since)?,
                        Some(until) => fleet.windows_between(&query.device, &digest, query.since, until)?,
                    };
                    let window = window.map(Arc::new);
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
    pub(super) fn record(
        &mut self,
        id: &RolloutId,
        events: Vec<Event>,
        devices: &mut Devices,
    ) -> Result<(), CoreError> {
        let at = self.parts.clock.now();
        let after = self.entry(id)?.state.sequence;
        let records: Vec<Record> =
            (after + 1..).zip(events).map(|(sequence, event)| Record { sequence, at, event }).collect();
        journal::append(self.parts.store.as_ref(), id, &records)?;
        self.news.extend(records.last().map(|record| (id.clone(), record.sequence)));
        // A large fleet's state is not copied for each event: it is taken out, and put back.
        let mut rollout = self.rollouts.remove(id).expect("`entry` found it above");
        let mut effects = Vec::new();
        for record in &records {
            let before = rollout.state.stage.name();
            let (next, wanted) = step(rollout.state, &record.event, at);
            rollout.state = next;
            effects.extend(wanted);
            let (release, stage) = (&rollout.state.spec.release, &rollout.state.stage);
            if before != stage.name() {
                tracing::info!(rollout = %id, %release, from = before, %stage, "rollout went on");
            }
        }
        self.rollouts.insert(id.clone(), rollout);
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
                    let view = Arc::make_mut(view);
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

    fn sign(&self, id: &RolloutId) -> Result<SignedOrder, CoreError> {
        let state = &self.entry(id)?.state;
        let waves = state.waves.get(..state.soaked_waves).unwrap_or(&state.waves);
        let stretches = Stretch::of(waves, state.order.len());
        let statement = Statement {
            schema: SCHEMA.to_owned(),
            algorithm: if stretches.is_empty() { ALGORITHM } else { GROUPED }.to_owned(),
            fleet: self.parts.fleet_id.clone(),
            rollout: id.clone(),
            release: state.spec.release.clone(),
            drawn: state.created,
            seed: state.seed,
            order: state.order.clone(),
            stretches,
        };
        statement.sign(&self.parts.key).map_err(|source| CoreError::Order { rollout: id.clone(), source })
    }

    /// Does what the state stands for and the fleet does not show: after a restart, or when an effect failed.
    fn catch_up(&mut self, id: &RolloutId, devices: &mut Devices) -> Result<(), CoreError> {
        let state = &self.entry(id)?.state;
        let model = state.spec.release.model.clone();
        let since = self.taken_since(id, devices)?;
        let undone = |effect: &Effect| match effect {
            Effect::SignOrder => true,
            Effect::Assign { device, to } => devices.get(device).is_some_and(|view| {
                let told = view.desired.get(&model);
                told != to.as_ref() && !taken(state, device, told) && !since.contains(device)
            }),
        };
        let effects: Vec<Effect> = outstanding(state).into_iter().filter(undone).collect();
        effects.into_iter().try_for_each(|effect| self.perform(id, effect, devices))
    }
}

/// Whether something else has told a device what to run since this rollout told it to go back: that is left alone.
fn taken(state: &State, device: &DeviceId, told: Option<&AssignTo>) -> bool {
    let Some(member) = state.members.get(device) else { return false };
    // What it was told before this rollout is what a controller finds that was stopped before it told it anything.
    let before = member.previous.as_ref() == told;
    member.progress == Progress::Reverting && !before && taken_over(state, member, told).is_some()
}
