//! One simulated device: what it does with what it is told, what it answers, and what it says of itself.

use super::model;
use crate::rollout::fleet::{AssignTo, DeviceView, ReleaseInfo};
use fieldpost_shared::id::{DeviceId, Digest, ModelName, ReleaseRef};
use fieldpost_shared::stats::{ErrorKind, WindowStats};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{FailureKind, Inventory, ModelReport, Phase, Quarantined};
use fieldpost_shared::wire::v2::Mode;
use semver::Version;
use std::collections::BTreeMap;
use std::time::Duration;

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
    pub(super) accepted: u64,
    /// Whether it is told nothing, since it knows newer orders than the controller.
    pub(crate) ahead: bool,
    /// What its newest report said: the view is of that, not of what is so.
    reported: (Vec<ModelReport>, Vec<Quarantined>, u64),
    pub(crate) windows: Vec<(Timestamp, Digest, WindowStats)>,
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
    pub(super) seconds: u32,
}

impl Other {
    pub(super) fn live_second(&mut self) {
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

impl FakeDevice {
    pub(super) fn new(name: &str, live: Option<&ReleaseRef>, desired: Option<AssignTo>) -> Self {
        let salt = name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(257).wrapping_add(u64::from(byte)));
        Self {
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
            desired,
            desired_sequence: 1,
            accepted: 1,
            ahead: false,
            reported: (vec![], vec![], 0),
            windows: vec![],
            held: vec![],
            others: BTreeMap::new(),
            assigned: vec![],
        }
    }

    pub(super) fn live_second(
        &mut self,
        now: Timestamp,
        second: u64,
        releases: &BTreeMap<Version, (ReleaseInfo, Behaviour)>,
    ) {
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

    pub(super) fn serve(
        &mut self,
        now: Timestamp,
        second: u64,
        releases: &BTreeMap<Version, (ReleaseInfo, Behaviour)>,
    ) {
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

    pub(super) fn view(&self, id: &DeviceId) -> DeviceView {
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
            ahead: self.ahead,
            desired: {
                let others =
                    self.others.iter().filter_map(|(model, other)| Some((model.clone(), other.desired.clone()?)));
                self.desired.clone().map(|to| (model(), to)).into_iter().chain(others).collect()
            },
        }
    }
}
