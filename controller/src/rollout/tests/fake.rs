//! A fleet of simulated devices, a clock that tests own, and a controller that can be killed between any two steps.

use crate::fleet::selector::Selector;
use crate::rollout::core::{Core, CoreParts};
use crate::rollout::events::{Event, Record};
use crate::rollout::fleet::{AssignTo, DeviceView, Fleet, FleetError, ReleaseInfo};
use crate::rollout::machine::{Command, State};
use crate::rollout::start::StartRequest;
use crate::rollout::strategy::StrategyFile;
use crate::store::MemoryStore;
use fieldpost_shared::bundle::manifest::{Budgets, Manifest, SCHEMA};
use fieldpost_shared::id::{DeviceId, Digest, ModelName, ReleaseRef, RolloutId};
use fieldpost_shared::stats::{Baseline, ClassCounts, ErrorKind, OutputBaseline, WindowStats};
use fieldpost_shared::time::{Clock, ManualClock, Timestamp};
use fieldpost_shared::trust::SecretKey;
use fieldpost_shared::wire::v1::{FailureKind, Inventory, ModelReport, Phase, Quarantined};
use fieldpost_shared::wire::v2::Mode;
use semver::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// Classes of the simulated classifier.
pub(crate) const CLASSES: usize = 10;

/// What a release does on a device that gets it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Behaviour {
    /// It works.
    Good,
    /// It answers every request with one class.
    OneClass,
    /// The model fails this share of requests.
    Errors(f64),
    /// Every inference takes so many milliseconds.
    Slow(u64),
    /// It works, and never answers as another release does.
    Disagrees,
    /// It never becomes live.
    Fails(FailureKind),
    /// It becomes live, and is taken back two seconds later.
    FailsLive(FailureKind),
    /// The device says nothing and does nothing.
    Hangs,
    /// The device is not heard of any more once it is live.
    Silences,
}

#[derive(Debug, Clone)]
pub(crate) struct FakeDevice {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) inventory: Inventory,
    pub(crate) online: bool,
    /// Nothing that it says arrives; what it counted comes when this is over.
    pub(crate) mute: bool,
    /// Nothing that it is told arrives.
    pub(crate) deaf: bool,
    /// Tells its failed requests from another device's.
    salt: u64,
    /// Requests a second.
    pub(crate) traffic: u64,
    /// Sees one class only, whatever the release.
    pub(crate) skewed: bool,
    /// Its windows are counted over a baseline that is not the release's.
    pub(crate) odd_windows: bool,
    /// What happens to its requests beside the model: the share that any release fails.
    pub(crate) upstream_errors: f64,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) live: Option<ReleaseRef>,
    pub(crate) previous: Option<ReleaseRef>,
    candidate: Option<(AssignTo, u32)>,
    /// Seconds since it became live.
    live_for: u32,
    live_attempt: u32,
    pub(crate) quarantine: Vec<Quarantined>,
    pub(crate) desired: Option<AssignTo>,
    pub(crate) desired_sequence: u64,
    accepted: u64,
    /// What its newest report said: the view is of that, not of what is so.
    reported: (Vec<ModelReport>, Vec<Quarantined>, u64),
    windows: Vec<(Timestamp, Digest, WindowStats)>,
    /// Windows that have not arrived.
    held: Vec<(Digest, WindowStats)>,
    /// Models beside the one that most tests are about.
    pub(crate) others: BTreeMap<ModelName, Other>,
    pub(crate) assigned: Vec<Option<AssignTo>>,
}

/// Another model on a device: whatever it is told becomes live after some seconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Other {
    pub(crate) live: Option<ReleaseRef>,
    pub(crate) desired: Option<AssignTo>,
    pub(crate) takes: u32,
    seconds: u32,
}

impl Other {
    fn live_second(&mut self) {
        let wanted = self.desired.as_ref().map(|to| &to.release);
        if wanted == self.live.as_ref() {
            self.seconds = 0;
        } else if self.seconds >= self.takes {
            (self.live, self.seconds) = (wanted.cloned(), 0);
        } else {
            self.seconds += 1;
        }
    }

    fn report(&self, model: &ModelName) -> ModelReport {
        let changing = self.desired.as_ref().filter(|_| self.seconds > 0);
        let candidate = changing.map(|to| (to.release.clone(), Phase::Verifying));
        ModelReport { model: model.clone(), live: self.live.clone(), previous: None, candidate, swaps: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    /// Releases of other models.
    pub(crate) other_releases: BTreeMap<(ModelName, Version), ReleaseInfo>,
    pub(crate) devices: BTreeMap<DeviceId, FakeDevice>,
    pub(crate) releases: BTreeMap<Version, (ReleaseInfo, Behaviour)>,
    /// Since when the controller hears its devices.
    pub(crate) listening: Option<Timestamp>,
    /// Assignments after which the controller is dead; none is never.
    pub(crate) assignments_left: Option<u64>,
    /// A device that nothing can be said to.
    pub(crate) untellable: Option<DeviceId>,
    pub(crate) seconds: u64,
    /// Devices that knew newer orders than the controller.
    pub(crate) ahead: BTreeSet<DeviceId>,
}

/// The fleet.
#[derive(Debug)]
pub(crate) struct FakeFleet {
    world: Mutex<World>,
    clock: Arc<ManualClock>,
    changes: broadcast::Sender<DeviceId>,
}

pub(crate) fn model() -> ModelName {
    "digits".parse().unwrap()
}

pub(crate) fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn baseline() -> Baseline {
    let mut classes = ClassCounts::new(CLASSES);
    (0..2_000).for_each(|i| classes.insert(i % CLASSES));
    Baseline {
        n: 2_000,
        inputs: vec![],
        output: OutputBaseline { classes: Some(classes), ..OutputBaseline::default() },
    }
}

fn release(version: &Version) -> ReleaseInfo {
    let manifest = Manifest {
        schema: SCHEMA.into(),
        name: model(),
        version: version.clone(),
        created: Timestamp::EPOCH,
        note: String::new(),
        files: vec![],
        inputs: vec![],
        outputs: vec![],
        preprocess: Default::default(),
        postprocess: Default::default(),
        labels: vec![],
        baseline: Some(baseline()),
        tolerance: Default::default(),
        requirements: Default::default(),
        budgets: Budgets { p95_latency_ms: Some(50.0), error_rate: Some(0.02), ..Budgets::default() },
        lineage: Default::default(),
        measured: Default::default(),
        unknown: BTreeMap::new(),
    };
    let release =
        ReleaseRef { model: model(), version: version.clone(), manifest: Digest::of(version.to_string().as_bytes()) };
    ReleaseInfo { release, manifest: Arc::new(manifest), revoked: false }
}

impl FakeFleet {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        let world = World {
            other_releases: BTreeMap::new(),
            devices: BTreeMap::new(),
            releases: BTreeMap::new(),
            listening: Some(Timestamp::EPOCH),
            assignments_left: None,
            untellable: None,
            seconds: 0,
            ahead: BTreeSet::new(),
        };
        Self { world: Mutex::new(world), clock, changes: broadcast::channel(1_024).0 }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_release(&self, version: &str, behaviour: Behaviour) -> ReleaseRef {
        let version: Version = version.parse().unwrap();
        let info = release(&version);
        let found = info.release.clone();
        self.world().releases.insert(version, (info, behaviour));
        found
    }

    /// A release of another model.
    pub(crate) fn add_other(&self, model: &str, version: &str) -> ReleaseRef {
        let (model, version): (ModelName, Version) = (model.parse().unwrap(), version.parse().unwrap());
        let mut info = release(&version);
        let digest = Digest::of(format!("{model} {version}").as_bytes());
        info.release = ReleaseRef { model: model.clone(), version: version.clone(), manifest: digest };
        let found = info.release.clone();
        self.world().other_releases.insert((model, version), info);
        found
    }

    /// A device that runs a release of another model.
    pub(crate) fn has_other(&self, device: &str, live: &ReleaseRef, takes: u32) {
        let desired = AssignTo { release: live.clone(), rollout: None, attempt: 1, probation_s: 0, beside: None };
        let other = Other { live: Some(live.clone()), desired: Some(desired), takes, seconds: 0 };
        self.edit(device, |found| drop(found.others.insert(live.model.clone(), other)));
    }

    pub(crate) fn edit_manifest(&self, version: &str, edit: impl FnOnce(&mut Manifest)) {
        let version: Version = version.parse().unwrap();
        let mut world = self.world();
        let (info, _) = world.releases.get_mut(&version).unwrap();
        edit(Arc::make_mut(&mut info.manifest));
    }

    /// A device that runs this release already.
    pub(crate) fn add_device(&self, name: &str, live: Option<&ReleaseRef>) {
        let assigned = live.map(|release| AssignTo {
            release: release.clone(),
            rollout: None,
            attempt: 1,
            probation_s: 0,
            beside: None,
        });
        let salt = name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(257).wrapping_add(u64::from(byte)));
        let fake = FakeDevice {
            salt,
            labels: BTreeMap::new(),
            inventory: Inventory { arch: "x86_64".into(), ram_mib: 1_000, ..Inventory::default() },
            online: true,
            mute: false,
            deaf: false,
            traffic: 20,
            skewed: false,
            odd_windows: false,
            upstream_errors: 0.0,
            last_seen: None,
            live: live.cloned(),
            previous: None,
            candidate: None,
            live_for: 0,
            live_attempt: 1,
            quarantine: vec![],
            desired: assigned,
            desired_sequence: 1,
            accepted: 1,
            reported: (vec![], vec![], 0),
            windows: vec![],
            held: vec![],
            others: BTreeMap::new(),
            assigned: vec![],
        };
        self.world().devices.insert(device(name), fake);
    }

    /// The link to the broker breaks, or is there again: then the controller has only just begun to listen.
    pub(crate) fn listen(&self, there: bool) {
        let now = self.clock.now();
        let mut world = self.world();
        world.listening = if there { world.listening.or(Some(now)) } else { None };
    }

    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut FakeDevice)) {
        edit(self.world().devices.get_mut(&device(name)).unwrap());
    }

    /// One second of every device's life.
    pub(crate) fn tick(&self) {
        let now = self.clock.now();
        let mut world = self.world();
        world.seconds += 1;
        let World { devices, releases, seconds, ahead, .. } = &mut *world;
        for (id, device) in devices.iter_mut() {
            device.live_second(now, *seconds, releases);
            if device.accepted > device.desired_sequence {
                // The controller hears it, and signs above it.
                device.desired_sequence = device.accepted + 1;
                ahead.insert(id.clone());
            }
            drop(self.changes.send(id.clone()));
        }
    }
}

impl FakeDevice {
    /// The windows that have arrived are no longer there.
    pub(crate) fn forget(&mut self) {
        self.windows.clear();
    }

    fn live_second(&mut self, now: Timestamp, second: u64, releases: &BTreeMap<Version, (ReleaseInfo, Behaviour)>) {
        self.serve(now, second, releases);
        if !self.online {
            return;
        }
        let behaviour = |release: &ReleaseRef| releases[&release.version].1;
        if !self.deaf {
            self.accept();
        }
        if let Some((to, seconds)) = self.candidate.take() {
            match behaviour(&to.release) {
                _ if seconds == 0 => self.candidate = Some((to, 1)),
                Behaviour::Hangs => self.candidate = Some((to, seconds)),
                Behaviour::Fails(kind) => self.quarantine(now, &to.release, to.attempt, kind),
                _ if to.beside.is_some() => self.candidate = Some((to, seconds)),
                _ => {
                    self.live_attempt = to.attempt;
                    self.previous = self.live.replace(to.release);
                    self.live_for = 0;
                }
            }
        }
        self.live_for += 1;
        if let Some(live) = self.live.clone() {
            match behaviour(&live) {
                Behaviour::FailsLive(kind) if self.live_for > 2 => {
                    self.live = self.previous.take();
                    self.quarantine(now, &live, self.live_attempt, kind);
                }
                Behaviour::Silences if self.live_for > 2 => return,
                _ => {}
            }
        }
        if self.mute {
            return;
        }
        self.windows.extend(self.held.drain(..).map(|(digest, window)| (now, digest, window)));
        self.last_seen = Some(now);
        let candidate = self.candidate.as_ref().map(|(to, seconds)| match (&to.beside, seconds) {
            (Some(Mode::Split { .. }), 1..) => (to.release.clone(), Phase::Splitting),
            (Some(_), 1..) => (to.release.clone(), Phase::Shadowing),
            _ => (to.release.clone(), Phase::Fetching { done: 1, total: 2 }),
        });
        let report = ModelReport {
            model: model(),
            live: self.live.clone(),
            previous: self.previous.clone(),
            candidate,
            swaps: 0,
        };
        let others = self.others.iter_mut().map(|(model, other)| {
            other.live_second();
            other.report(model)
        });
        let reports = [report].into_iter().chain(others).collect();
        self.reported = (reports, self.quarantine.clone(), self.accepted);
    }

    /// Reads the desired state, as an agent does.
    fn accept(&mut self) {
        if self.desired_sequence < self.accepted {
            return;
        }
        self.accepted = self.desired_sequence;
        match &self.desired {
            None => (self.live, self.candidate) = (None, None),
            Some(to) if self.live.as_ref() == Some(&to.release) => self.candidate = None,
            Some(to) if self.previous.as_ref() == Some(&to.release) => {
                // It is on the disk: no download and no self-test.
                self.previous = self.live.replace(to.release.clone());
                (self.candidate, self.live_for) = (None, 0);
            }
            Some(to) => {
                let failed = self.quarantine.iter().any(|q| q.release == to.release && q.attempt >= to.attempt);
                let same = self.candidate.as_ref().is_some_and(|(candidate, _)| candidate == to);
                if !failed && !same {
                    self.candidate = Some((to.clone(), 0));
                }
            }
        }
    }

    fn quarantine(&mut self, at: Timestamp, release: &ReleaseRef, attempt: u32, kind: FailureKind) {
        self.quarantine.retain(|entry| entry.release != *release);
        let detail = format!("simulated {kind:?}");
        let entry = Quarantined { release: release.clone(), attempt, rollout: None, kind, detail, at };
        self.quarantine.push(entry);
    }

    fn serve(&mut self, now: Timestamp, second: u64, releases: &BTreeMap<Version, (ReleaseInfo, Behaviour)>) {
        let Some(live) = self.live.clone() else { return };
        if self.traffic == 0 || !self.online {
            return;
        }
        let split = match &self.candidate {
            Some((AssignTo { release, beside: Some(Mode::Split { portion, .. }), .. }, 1..)) => {
                Some((release.clone(), self.traffic * u64::from(*portion) / 10_000))
            }
            _ => None,
        };
        let own = self.traffic - split.as_ref().map_or(0, |(_, requests)| *requests);
        self.answer(now, second, releases, &live, 0..own);
        if let Some((release, _)) = split {
            self.answer(now, second, releases, &release, own..self.traffic);
        }
    }

    fn answer(
        &mut self,
        now: Timestamp,
        second: u64,
        releases: &BTreeMap<Version, (ReleaseInfo, Behaviour)>,
        live: &ReleaseRef,
        requests: std::ops::Range<u64>,
    ) {
        let (info, behaviour) = &releases[&live.version];
        let known = info.manifest.baseline.clone().filter(|_| !self.odd_windows);
        let baseline = known.unwrap_or_default();
        let mut window = WindowStats::open("digits", live.version.to_string(), &baseline, now.as_millis());
        for request in requests {
            window.requests += 1;
            let failed = |share: f64| ((second * self.traffic + request) as f64 * share).fract() + share >= 1.0;
            // Scattered, so that they hit every class alike, and each device in its own way.
            let mixed = (self.salt + second * self.traffic + request).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let scattered = (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
            if (scattered as f64) < self.upstream_errors * f64::from(1 << 24) {
                window.errors.insert(ErrorKind::Inference);
                continue;
            }
            if matches!(behaviour, Behaviour::Errors(share) if failed(*share)) {
                window.errors.insert(ErrorKind::Inference);
                continue;
            }
            let ms = if let Behaviour::Slow(ms) = behaviour { *ms } else { 5 };
            window.latency.insert(Duration::from_millis(ms));
            let natural = usize::try_from(second * self.traffic + request).unwrap() % CLASSES;
            let class = if self.skewed || *behaviour == Behaviour::OneClass { 3 } else { natural };
            if let Some(classes) = &mut window.classes {
                classes.insert(class);
            }
        }
        if let Some((AssignTo { release, beside: Some(Mode::Shadow { .. }), .. }, 1..)) = &self.candidate {
            let same = releases[&release.version].1 != Behaviour::Disagrees;
            let pair = window.pairs.with(&release.version.to_string()).unwrap();
            for _ in 0..self.traffic {
                pair.row(same, 0.0);
                pair.answered(Duration::from_millis(5), Duration::from_millis(5));
            }
        }
        if self.mute {
            self.held.push((live.manifest, window));
            return;
        }
        self.windows.push((now, live.manifest, window));
        // More than the longest wait of these tests; a whole night would be slow to merge every second.
        let surplus = self.windows.len().saturating_sub(250);
        self.windows.drain(..surplus);
    }

    fn view(&self, id: &DeviceId) -> DeviceView {
        let (models, quarantine, accepted) = self.reported.clone();
        DeviceView {
            id: id.clone(),
            labels: self.labels.clone(),
            inventory: self.inventory.clone(),
            models,
            quarantine,
            last_seen: self.last_seen,
            alive: self.online,
            hold: None,
            settled: accepted == self.desired_sequence,
            desired: {
                let others =
                    self.others.iter().filter_map(|(model, other)| Some((model.clone(), other.desired.clone()?)));
                self.desired.clone().map(|to| (model(), to)).into_iter().chain(others).collect()
            },
        }
    }
}

impl Fleet for FakeFleet {
    fn devices(&self) -> Result<Vec<DeviceView>, FleetError> {
        Ok(self.world().devices.iter().map(|(id, device)| device.view(id)).collect())
    }

    fn select(
        &self,
        selector: &str,
        devices: &BTreeMap<DeviceId, DeviceView>,
    ) -> Result<BTreeSet<DeviceId>, FleetError> {
        let parsed: Result<Selector, _> = selector.parse();
        let parsed = parsed.map_err(|error| FleetError::new("read the selector", error))?;
        let matches = |view: &&DeviceView| parsed.matches(view.subject());
        Ok(devices.values().filter(matches).map(|view| view.id.clone()).collect())
    }

    fn assign(&self, device: &DeviceId, which: &ModelName, to: Option<&AssignTo>) -> Result<(), FleetError> {
        let mut world = self.world();
        if let Some(left) = &mut world.assignments_left {
            *left = left.checked_sub(1).ok_or_else(|| FleetError::new("assign", "the controller is dead"))?;
        }
        if world.untellable.as_ref() == Some(device) {
            return Err(FleetError::new("assign", "nothing can be said to it"));
        }
        let found = world.devices.get_mut(device).ok_or_else(|| FleetError::new("assign", "no such device"))?;
        if *which != model() {
            let other = found.others.entry(which.clone()).or_default();
            if other.desired.as_ref() != to {
                other.desired = to.cloned();
                found.desired_sequence += 1;
            }
            return Ok(());
        }
        if found.desired.as_ref() != to {
            found.desired = to.cloned();
            found.desired_sequence += 1;
            found.assigned.push(to.cloned());
        }
        Ok(())
    }

    fn windows(
        &self,
        device: &DeviceId,
        release: &Digest,
        since: Timestamp,
    ) -> Result<Option<WindowStats>, FleetError> {
        let world = self.world();
        let Some(found) = world.devices.get(device) else { return Ok(None) };
        let mut merged: Option<WindowStats> = None;
        for (_, _, window) in found.windows.iter().filter(|(at, digest, _)| *at >= since && digest == release) {
            match &mut merged {
                None => merged = Some(window.clone()),
                // As in the store: what does not fit the first is left out.
                Some(all) => drop(all.merge(window)),
            }
        }
        Ok(merged)
    }

    fn windows_between(
        &self,
        device: &DeviceId,
        release: &Digest,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Option<WindowStats>, FleetError> {
        let world = self.world();
        let Some(found) = world.devices.get(device) else { return Ok(None) };
        let mut merged: Option<WindowStats> = None;
        let within = |at: &Timestamp| (since..until).contains(at);
        for (_, _, window) in found.windows.iter().filter(|(at, digest, _)| within(at) && digest == release) {
            match &mut merged {
                None => merged = Some(window.clone()),
                Some(all) => drop(all.merge(window)),
            }
        }
        Ok(merged)
    }

    fn release(&self, which: &ModelName, version: &Version) -> Result<Option<ReleaseInfo>, FleetError> {
        if *which != model() {
            return Ok(self.world().other_releases.get(&(which.clone(), version.clone())).cloned());
        }
        Ok(self.world().releases.get(version).map(|(info, _)| info.clone()))
    }

    fn listening_since(&self) -> Option<Timestamp> {
        self.world().listening
    }

    fn take_ahead(&self) -> BTreeSet<DeviceId> {
        std::mem::take(&mut self.world().ahead)
    }

    fn changes(&self) -> broadcast::Receiver<DeviceId> {
        self.changes.subscribe()
    }
}

/// A controller with its fleet.
pub(crate) struct Rig {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) fleet: Arc<FakeFleet>,
    pub(crate) store: Arc<dyn crate::store::Store>,
    pub(crate) core: Core,
}

/// The strategy of most tests: waves of 1, 4, 12, a soak of 10 s, silence after 10 s.
pub(crate) fn quick(waves: &str) -> StrategyFile {
    toml::from_str(&format!(
        r#"waves = "{waves}"
           soak = "10s"
           max_dwell = "60s"
           probation = "0s"
           evidence = "gates"
           device_timeout = "20s"
           wave_timeout = "120s"
           silence_after = "10s""#
    ))
    .unwrap()
}

thread_local! {
    static SEEDS: std::cell::Cell<u8> = const { std::cell::Cell::new(7) };
}

/// The same seeds in every rig: the first is of sevens, the second of eights.
#[allow(clippy::unnecessary_wraps, reason = "the real source of seeds can fail")]
fn fixed_seed() -> Result<[u8; 32], getrandom::Error> {
    Ok([SEEDS.replace(SEEDS.get().wrapping_add(1)); 32])
}

impl Rig {
    /// `count` devices `box-0`, `box-1`, ... that run 1.0.0, and a good 1.1.0.
    pub(crate) fn new(count: usize) -> Self {
        Self::with_store(count, Arc::new(MemoryStore::default()))
    }

    pub(crate) fn with_store(count: usize, store: Arc<dyn crate::store::Store>) -> Self {
        SEEDS.set(7);
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let fleet = Arc::new(FakeFleet::new(Arc::clone(&clock)));
        let old = fleet.add_release("1.0.0", Behaviour::Good);
        fleet.add_release("1.1.0", Behaviour::Good);
        (0..count).for_each(|i| fleet.add_device(&format!("box-{i}"), Some(&old)));
        let core = Core::load(Self::parts(&clock, &fleet, &store)).unwrap();
        let mut rig = Self { clock, fleet, store, core };
        rig.run(5);
        rig
    }

    pub(crate) fn parts(
        clock: &Arc<ManualClock>,
        fleet: &Arc<FakeFleet>,
        store: &Arc<dyn crate::store::Store>,
    ) -> CoreParts {
        CoreParts {
            fleet: Arc::clone(fleet) as Arc<dyn Fleet>,
            store: Arc::clone(store),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            key: SecretKey::from_seed(&[1; 32]),
            fleet_id: "test".parse().unwrap(),
            entropy: Arc::new(fixed_seed),
        }
    }

    /// Forgets everything but the store, as a killed controller does.
    pub(crate) fn restart(&mut self) {
        self.core = Core::load(Self::parts(&self.clock, &self.fleet, &self.store)).unwrap();
    }

    pub(crate) fn release(&self, version: &str, behaviour: Behaviour) {
        self.fleet.add_release(version, behaviour);
    }

    pub(crate) fn start_with(&mut self, version: &str, strategy: StrategyFile) -> RolloutId {
        self.try_start(version, strategy).unwrap()
    }

    pub(crate) fn try_start(
        &mut self,
        version: &str,
        strategy: StrategyFile,
    ) -> Result<RolloutId, crate::rollout::core::CoreError> {
        let request = StartRequest { model: model(), version: version.parse().unwrap(), strategy, retry_of: None };
        self.core.start(&request, "ann").map(|summary| summary.id)
    }

    /// What was taken back or stopped, anew.
    pub(crate) fn retry(
        &mut self,
        first: &RolloutId,
        version: &str,
        strategy: StrategyFile,
    ) -> Result<RolloutId, crate::rollout::core::CoreError> {
        let retry_of = Some(first.clone());
        let request = StartRequest { model: model(), version: version.parse().unwrap(), strategy, retry_of };
        self.core.start(&request, "ann").map(|summary| summary.id)
    }

    /// The same for another model, whose devices answer no requests.
    pub(crate) fn try_start_other(
        &mut self,
        release: &ReleaseRef,
        strategy: StrategyFile,
    ) -> Result<RolloutId, crate::rollout::core::CoreError> {
        let evidence = Some(crate::rollout::strategy::Demand::Requests);
        let strategy = StrategyFile { min_requests: Some(0), evidence, ..strategy };
        let request =
            StartRequest { model: release.model.clone(), version: release.version.clone(), strategy, retry_of: None };
        self.core.start(&request, "ann").map(|summary| summary.id)
    }

    pub(crate) fn waiting(&self, id: &RolloutId) -> String {
        self.core.explain(id).unwrap().waiting.join(" · ")
    }

    pub(crate) fn start(&mut self, version: &str, waves: &str) -> RolloutId {
        self.start_with(version, quick(waves))
    }

    /// One second: devices live, the engine looks.
    pub(crate) fn second(&mut self) {
        self.clock.advance(Duration::from_secs(1));
        self.fleet.tick();
        let stuck = self.core.look().unwrap();
        assert!(stuck.is_empty(), "{stuck:?}");
    }

    pub(crate) fn run(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.second());
    }

    pub(crate) fn stage(&self, id: &RolloutId) -> &'static str {
        self.state(id).stage.name()
    }

    pub(crate) fn state(&self, id: &RolloutId) -> &State {
        self.core.state(id).unwrap()
    }

    pub(crate) fn reason(&self, id: &RolloutId) -> String {
        self.core.summary(id).unwrap().reason.unwrap_or_default()
    }

    /// Runs until the rollout is in this state; fails after ten minutes of simulated time.
    pub(crate) fn until(&mut self, id: &RolloutId, stage: &str) {
        for _ in 0..600 {
            if self.stage(id) == stage {
                return;
            }
            self.second();
        }
        panic!("still {} and not {stage}: {:#?}", self.stage(id), self.core.explain(id).unwrap().waiting);
    }

    pub(crate) fn command(&mut self, id: &RolloutId, command: &Command) {
        self.core.command(id, command, "bob").unwrap();
    }

    pub(crate) fn events(&self, id: &RolloutId) -> Vec<Record> {
        self.core.events(id, 0, usize::MAX).unwrap()
    }

    pub(crate) fn count(&self, id: &RolloutId, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events(id).iter().filter(|record| wanted(&record.event)).count()
    }

    /// Devices that run a version, by their own word.
    pub(crate) fn running(&self, version: &str) -> Vec<String> {
        let version: Version = version.parse().unwrap();
        let runs = |device: &FakeDevice| device.live.as_ref().is_some_and(|live| live.version == version);
        let world = self.fleet.world();
        world.devices.iter().filter(|(_, device)| runs(device)).map(|(id, _)| id.to_string()).collect()
    }

    /// The device at a place in the rollout's order.
    pub(crate) fn nth(&self, id: &RolloutId, place: usize) -> String {
        self.state(id).order[place].device.to_string()
    }
}
