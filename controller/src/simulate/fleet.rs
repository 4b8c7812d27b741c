//! The simulated fleet, behind the trait that the rollout engine knows the real one by.
//!
//! Nothing here waits: the clock is moved by whoever runs the simulation, and devices catch up when they are looked at.
//! Their traffic is drawn when somebody asks for it, window by window, and kept as running sums: a question costs two
//! look-ups, however long the rollout takes.

use super::device::{Around, Device, Manners, Step};
use super::effect::Effect;
use super::plan::{FleetPlan, Plan, Trouble};
use super::random::{self, Stream, stream};
use super::spans::{DAY_MS, Spans};
use super::traffic::{CLASSES, Climate, Nature, Tally, window_of};
use crate::rollout::fleet::{AssignTo, DeviceView, Devices, Fleet, FleetError, ReleaseInfo};
use fieldpost_shared::bundle::manifest::{Budgets, Manifest, SCHEMA};
use fieldpost_shared::id::{DeviceId, Digest, ModelName, ReleaseRef};
use fieldpost_shared::stats::{Baseline, ClassCounts, OutputBaseline, WindowStats};
use fieldpost_shared::time::{Clock, ManualClock, Timestamp};
use fieldpost_shared::wire::v1::Inventory;
use semver::Version;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// When every simulation begins: any moment does.
pub const BEGIN: u64 = 1_700_000_000_000;
/// Longest that a clock is wrong by: a year, ms.
const WRONG: u64 = 31_536_000_000;

/// The model's name.
pub(crate) fn model() -> ModelName {
    "digits".parse().expect("a name of six letters")
}

/// The baseline of the simulated classifier: all classes alike.
pub(crate) fn baseline() -> Baseline {
    let mut classes = ClassCounts::new(CLASSES);
    (0..CLASSES).for_each(|class| classes.insert_times(class, 200));
    Baseline {
        n: 2_000,
        inputs: vec![],
        output: OutputBaseline { classes: Some(classes), ..OutputBaseline::default() },
    }
}

fn release(patch: u64) -> ReleaseInfo {
    let version = Version::new(1, 0, patch);
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
        budgets: Budgets::default(),
        lineage: Default::default(),
        measured: Default::default(),
        unknown: BTreeMap::new(),
    };
    let digest = Digest::of(version.to_string().as_bytes());
    ReleaseInfo {
        release: ReleaseRef { model: model(), version, manifest: digest },
        manifest: Arc::new(manifest),
        revoked: false,
    }
}

#[derive(Debug)]
struct World {
    devices: Vec<Device>,
    climate: Climate,
    manners: Manners,
    effects: Vec<Effect>,
    /// What devices do later: when, who, what. A number tells those of one moment apart.
    due: BinaryHeap<Reverse<(u64, u64, usize, Step)>>,
    numbered: u64,
    listening: Option<Timestamp>,
}

/// The fleet. Release 0 is what runs at the beginning.
#[derive(Debug)]
pub struct SimFleet {
    clock: Arc<ManualClock>,
    world: Mutex<World>,
    releases: Vec<ReleaseInfo>,
    refs: Vec<ReleaseRef>,
    empty: Vec<WindowStats>,
    places: BTreeMap<DeviceId, usize>,
    changes: broadcast::Sender<DeviceId>,
}

impl SimFleet {
    /// A fleet of a plan, on a clock that shows [`BEGIN`] and the plan's history. The releases 1, 2, ... have the given
    /// effects. `lasts` is how long anything may happen by itself.
    #[must_use]
    pub fn new(plan: &Plan, effects: &[Effect], seed: u64, lasts: Duration) -> Self {
        let releases: Vec<ReleaseInfo> = (0..=effects.len() as u64).map(release).collect();
        let refs: Vec<ReleaseRef> = releases.iter().map(|info| info.release.clone()).collect();
        let effects: Vec<Effect> = std::iter::once(Effect::default()).chain(effects.iter().copied()).collect();
        let open = |release: &ReleaseRef| {
            WindowStats::open(release.model.as_str(), release.version.to_string(), &baseline(), BEGIN)
        };
        let empty = refs.iter().map(open).collect();
        let starts = BEGIN + ms(plan.fleet.history);
        let weather = Weather { plan, seed, span: (BEGIN, starts + ms(lasts)) };
        let devices = weather.devices(&refs, starts);
        let world = World {
            climate: weather.climate(),
            manners: Manners {
                install: ms(plan.link.install) as f64,
                failures: plan.link.failures,
                lost: plan.link.lost,
                report: ms(plan.fleet.report),
            },
            effects,
            due: BinaryHeap::new(),
            numbered: 0,
            listening: Some(Timestamp::from_millis(BEGIN)),
            devices,
        };
        let places = world.devices.iter().enumerate().map(|(place, device)| (device.name().clone(), place)).collect();
        Self {
            clock: Arc::new(ManualClock::new(Timestamp::from_millis(starts))),
            world: Mutex::new(world),
            releases,
            refs,
            empty,
            places,
            changes: broadcast::channel(1).0,
        }
    }

    /// The clock that everything here goes by.
    #[must_use]
    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    /// One of the releases.
    #[must_use]
    pub fn release_ref(&self, index: usize) -> Option<&ReleaseRef> {
        self.refs.get(index)
    }

    /// The controller loses the broker, or has it again.
    pub fn listen(&self, there: bool) {
        let now = self.clock.now();
        let mut world = self.lock();
        world.listening = if there { world.listening.or(Some(now)) } else { None };
    }

    /// When a device does, or says, the next thing.
    #[must_use]
    pub fn next_change(&self) -> Option<Timestamp> {
        self.lock().due.peek().map(|Reverse((at, ..))| Timestamp::from_millis(*at))
    }

    /// What a device served with a release and what arrived from `since` on.
    #[must_use]
    pub fn tally(&self, device: &DeviceId, release: usize, since: Timestamp) -> Option<Tally> {
        let place = *self.places.get(device)?;
        self.caught_up().draw(place, release, (since.as_millis(), u64::MAX), self.now())
    }

    /// Requests that all devices have served with a release, and how many devices did.
    #[must_use]
    pub fn served(&self, release: usize) -> (u64, usize) {
        let now = self.now();
        let mut world = self.caught_up();
        let World { devices, climate, effects, .. } = &mut *world;
        let mut sum = (0, 0);
        for device in devices {
            device.traffic.draw(&device.nature, climate, effects, now);
            let served = device.traffic.total(release);
            sum = (sum.0 + served, sum.1 + usize::from(served > 0));
        }
        sum
    }

    /// Makes a release live on a device at once, past all rules: for gates that are compared on the same fleets.
    pub fn force(&self, device: &DeviceId, release: usize) {
        let now = self.now();
        let mut world = self.caught_up();
        if let Some(found) = self.places.get(device).and_then(|place| world.devices.get_mut(*place)) {
            found.traffic.switch(now, Some(release));
        }
    }

    fn now(&self) -> u64 {
        self.clock.now().as_millis()
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world, after everything that was due until now.
    fn caught_up(&self) -> MutexGuard<'_, World> {
        let now = self.now();
        let mut world = self.lock();
        while world.due.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((at, _, place, step))) = world.due.pop() else { break };
            let World { devices, manners, effects, .. } = &mut *world;
            let around = Around { manners, releases: &self.refs, effects };
            let next = devices.get_mut(place).map(|device| device.act(&step, at, &around));
            next.into_iter().flatten().for_each(|(at, step)| world.later(at, place, step));
        }
        world
    }
}

impl World {
    fn later(&mut self, at: u64, place: usize, step: Step) {
        self.numbered += 1;
        self.due.push(Reverse((at, self.numbered, place, step)));
    }

    fn draw(&mut self, place: usize, release: usize, (since, until): (u64, u64), now: u64) -> Option<Tally> {
        let device = self.devices.get_mut(place)?;
        device.traffic.draw(&device.nature, &self.climate, &self.effects, now);
        device.traffic.between(release, since, until)
    }
}

impl SimFleet {
    /// What a device served with a release, in windows that arrived in a time.
    fn answered(&self, device: &DeviceId, release: &Digest, since: Timestamp, until: u64) -> Option<WindowStats> {
        let now = self.now();
        let place = self.places.get(device).copied()?;
        let index = self.refs.iter().position(|known| known.manifest == *release)?;
        let mut world = self.caught_up();
        let tally = world.draw(place, index, (since.as_millis(), until), now)?;
        let nature = world.devices.get(place).map(|device| &device.nature)?;
        let empty = self.empty.get(index)?;
        let effect = world.effects.get(index).copied().unwrap_or_default();
        let mut window = window_of(empty, nature, &effect, &tally, now);
        // Those that a restart cut short count as whole: nobody reads the covered time to the minute.
        let covered = world.climate.window.saturating_mul(u64::from(window.windows));
        window.opened_ms = window.closed_ms.saturating_sub(covered);
        Some(window)
    }
}

impl Fleet for SimFleet {
    fn devices(&self) -> Result<Devices, FleetError> {
        let now = self.now();
        let mut world = self.caught_up();
        let World { devices, manners, .. } = &mut *world;
        let here = devices.iter_mut().filter(|device| device.here.0 <= now && now < device.here.1);
        Ok(here.map(|device| (device.name().clone(), device.view(manners, now))).collect())
    }

    fn assign(&self, device: &DeviceId, _: &ModelName, to: Option<&AssignTo>) -> Result<(), FleetError> {
        let now = self.now();
        let unknown = || FleetError::new(format!("assign a release to `{device}`"), "no such device");
        let place = *self.places.get(device).ok_or_else(unknown)?;
        let mut world = self.caught_up();
        let next = world.devices.get_mut(place).ok_or_else(unknown)?.told(to, now);
        next.into_iter().for_each(|(at, step)| world.later(at, place, step));
        Ok(())
    }

    fn windows(
        &self,
        device: &DeviceId,
        release: &Digest,
        since: Timestamp,
    ) -> Result<Option<WindowStats>, FleetError> {
        Ok(self.answered(device, release, since, u64::MAX))
    }

    fn windows_between(
        &self,
        device: &DeviceId,
        release: &Digest,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Option<WindowStats>, FleetError> {
        Ok(self.answered(device, release, since, until.as_millis()))
    }

    fn put_windows_back(&self, _: Timestamp, _: Duration) -> Result<(), FleetError> {
        // Devices have wrong clocks here; the controller's own is never put back.
        Ok(())
    }

    fn release(&self, _: &ModelName, version: &Version) -> Result<Option<ReleaseInfo>, FleetError> {
        Ok(self.releases.iter().find(|info| info.release.version == *version).cloned())
    }

    fn listening_since(&self) -> Option<Timestamp> {
        self.lock().listening
    }

    fn take_ahead(&self) -> BTreeSet<DeviceId> {
        BTreeSet::new()
    }

    fn changes(&self) -> broadcast::Receiver<DeviceId> {
        self.changes.subscribe()
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Draws a fleet and what happens to it.
struct Weather<'a> {
    plan: &'a Plan,
    seed: u64,
    span: (u64, u64),
}

impl Weather<'_> {
    fn climate(&self) -> Climate {
        let Trouble { fleet_outages, site_outages, outage_length, .. } = self.plan.trouble;
        let length = ms(outage_length) as f64;
        let mut outages = vec![(fleet_outages, 0)];
        outages.extend((1..=self.plan.fleet.sites as u64).map(|site| (site_outages, site)));
        let spans = |(per_day, number): (f64, u64)| {
            Spans::of(Spans::random(&mut stream(self.seed, b"outages ", number), self.span, per_day, length))
        };
        let link = &self.plan.link;
        Climate {
            outages: outages.into_iter().map(spans).collect(),
            outage_errors: self.plan.trouble.outage_errors,
            burst_factor: self.plan.trouble.burst_factor,
            labelled: self.plan.fleet.labelled,
            late: (link.late, ms(link.late_by) as f64),
            ..Climate::new(ms(self.plan.fleet.window))
        }
    }

    fn devices(&self, refs: &[ReleaseRef], starts: u64) -> Vec<Device> {
        let FleetPlan { devices, sites, .. } = self.plan.fleet;
        let Trouble { site_cuts, site_cut_length, leave, join, .. } = self.plan.trouble;
        let cuts: Vec<Vec<(u64, u64)>> = (0..sites as u64)
            .map(|site| {
                let mut stream = stream(self.seed, b"cuts    ", site);
                Spans::random(&mut stream, self.span, site_cuts, ms(site_cut_length) as f64)
            })
            .collect();
        let mut churn = stream(self.seed, b"churn   ", 0);
        let mut joins = Vec::new();
        let per_day = join * devices as f64;
        if per_day > 0.0 {
            let mut at = starts;
            loop {
                at += random::exponential(&mut churn, DAY_MS / per_day);
                if at >= self.span.1 {
                    break;
                }
                joins.push(at);
            }
        }
        let begins = std::iter::repeat_n(BEGIN, devices).chain(joins);
        let Some(live) = refs.first() else { return Vec::new() };
        let of = |(place, from): (usize, u64)| {
            let mut nature = stream(self.seed, b"nature  ", place as u64);
            let site = place % sites.max(1);
            let until = if leave > 0.0 { random::exponential(&mut churn, DAY_MS / leave) } else { u64::MAX };
            let until = from.max(starts).saturating_add(until);
            let cut = cuts.get(site).map_or(&[][..], Vec::as_slice);
            let view = self.view(place, site);
            let streams = (stream(self.seed, b"traffic ", place as u64), stream(self.seed, b"acts    ", place as u64));
            let nature = self.nature(&mut nature, site, cut);
            Device::new((view, nature), streams, (from, until), from, (live, 0, refs.len()))
        };
        begins.enumerate().map(of).collect()
    }

    fn view(&self, place: usize, site: usize) -> DeviceView {
        let class = place / self.plan.fleet.sites.max(1) % self.plan.fleet.hardware.max(1);
        DeviceView {
            id: format!("box-{place:05}").parse().expect("letters, a hyphen and digits are a name"),
            labels: [("site".to_owned(), format!("site-{site}"))].into(),
            inventory: Inventory {
                arch: "aarch64".to_owned(),
                cpu_model: format!("class {class}"),
                ram_mib: 4_096,
                ..Inventory::default()
            },
            models: Vec::new(),
            quarantine: Vec::new(),
            last_seen: None,
            alive: true,
            hold: None,
            settled: true,
            ahead: false,
            desired: BTreeMap::new(),
        }
    }

    fn nature(&self, stream: &mut Stream, site: usize, cuts: &[(u64, u64)]) -> Nature {
        let Plan { fleet, trouble, .. } = self.plan;
        let mut classes = [0.0; CLASSES];
        classes.iter_mut().for_each(|weight| *weight = (fleet.classes_spread * random::normal(stream)).exp());
        let sum: f64 = classes.iter().sum();
        let mut below = 0.0;
        classes.iter_mut().for_each(|weight| {
            below += *weight / sum;
            *weight = below;
        });
        let mut away = cuts.to_vec();
        if trouble.away > 0.0 {
            let length = ms(trouble.away_length) as f64;
            // Between two absences lies as much more time as makes the share.
            let per_day = if trouble.away < 1.0 { trouble.away / (1.0 - trouble.away) * DAY_MS / length } else { 1e3 };
            away.extend(Spans::random(stream, self.span, per_day, length));
        }
        away.extend(Spans::random(stream, self.span, trouble.restarts, 20_000.0));
        let wrong = random::happens(stream, trouble.wrong_clocks);
        let clock_error = if wrong { random::below(stream, 2 * WRONG).cast_signed() - WRONG.cast_signed() } else { 0 };
        Nature {
            requests: random::gamma(stream, fleet.requests_per_hour, fleet.requests_spread),
            error_rate: random::beta(stream, fleet.error_rate, fleet.error_spread),
            latency_us: random::around(stream, fleet.latency_ms * 1_000.0, fleet.latency_spread),
            wrong: 1.0 - fleet.accuracy,
            classes,
            bursts: Spans::of(Spans::random(stream, self.span, trouble.bursts, ms(trouble.burst_length) as f64)),
            away: Spans::of(away),
            site: site + 1,
            phase: random::below(stream, ms(fleet.window)),
            clock_error,
        }
    }
}
