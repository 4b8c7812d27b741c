//! One simulated device: what it is told, what it does about it and when, and what it says.

use super::effect::Effect;
use super::random::{self, Stream};
use super::traffic::{Nature, Traffic};
use crate::rollout::fleet::{AssignTo, DeviceView};
use fieldpost_shared::id::{ModelName, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{FailureKind, ModelReport, Phase, Quarantined};
use std::sync::Arc;

/// How long a swap to a release that is on the disk takes at most, ms.
const SWAP: u64 = 5_000;
/// How long a death or a silence comes after the swap on average, ms.
const HARM: f64 = 600_000.0;

/// Something that a device does later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// It reads its desired state.
    Receive,
    /// The candidate is there and tested, unless another was asked for since.
    Install(u64),
    /// The previous release is live again.
    Return(u64),
    /// The live release kills the agent for the second time.
    Crash(u64),
    /// The box is not heard of again.
    Die(u64),
    /// A report arrives.
    Tell,
}

/// What a report says.
#[derive(Debug, Clone)]
struct Said {
    at: u64,
    model: ModelReport,
    quarantine: Vec<Quarantined>,
    accepted: u64,
}

/// How a device behaves on its way from one release to another.
#[derive(Debug)]
pub(super) struct Manners {
    /// Median time to fetch and test, ms.
    pub(super) install: f64,
    /// Share of attempts that fail for the device's own reasons.
    pub(super) failures: f64,
    /// Share of reports that are lost.
    pub(super) lost: f64,
    /// Time between reports, ms.
    pub(super) report: u64,
}

/// A device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) nature: Nature,
    pub(super) traffic: Traffic,
    stream: Stream,
    /// What releases do to it is drawn from this.
    fate: u64,
    /// In the fleet from then on, and until then.
    pub(super) here: (u64, u64),
    /// What the controller sees of it; `last_seen` and `alive` are filled in when it looks.
    view: Arc<DeviceView>,
    model: ModelName,
    live: Option<usize>,
    previous: Option<usize>,
    candidate: Option<AssignTo>,
    attempt: u32,
    quarantine: Vec<Quarantined>,
    /// Counts desired states: what was begun for an older one is not done.
    desired: u64,
    accepted: u64,
    /// Counts swaps: harm that an older one would have done is not done.
    swaps: u64,
    died: Option<u64>,
    /// Reports that have not arrived, in the order in which they were made.
    under_way: Vec<Said>,
}

/// What a device needs to know of the world while it acts.
pub(super) struct Around<'a> {
    pub(super) manners: &'a Manners,
    pub(super) releases: &'a [ReleaseRef],
    pub(super) effects: &'a [Effect],
}

impl Around<'_> {
    fn index(&self, release: &ReleaseRef) -> Option<usize> {
        self.releases.iter().position(|known| known == release)
    }
}

impl Device {
    /// A device that has run a release since `began`, and said so.
    pub(super) fn new(
        (mut view, nature): (DeviceView, Nature),
        (traffic, mut acts): (Stream, Stream),
        here: (u64, u64),
        began: u64,
        release: (&ReleaseRef, usize, usize),
    ) -> Self {
        let (live, index, releases) = release;
        let mut traffic = Traffic::new(traffic, releases);
        traffic.switch(began, Some(index));
        let report = ModelReport {
            model: live.model.clone(),
            live: Some(live.clone()),
            previous: None,
            candidate: None,
            swaps: 0,
        };
        let to = AssignTo { release: live.clone(), rollout: None, attempt: 1, probation_s: 0, beside: None };
        view.desired = [(live.model.clone(), to)].into();
        (view.models, view.settled) = (vec![report], true);
        Self {
            nature,
            traffic,
            fate: random::below(&mut acts, u64::MAX),
            stream: acts,
            here,
            view: Arc::new(view),
            model: live.model.clone(),
            live: Some(index),
            previous: None,
            candidate: None,
            attempt: 1,
            quarantine: Vec::new(),
            desired: 1,
            accepted: 1,
            swaps: 0,
            died: None,
            under_way: Vec::new(),
        }
    }

    /// What the controller sees.
    pub(super) fn view(&mut self, manners: &Manners, now: u64) -> Arc<DeviceView> {
        let last_seen = self.last_seen(manners, now).map(Timestamp::from_millis);
        let alive = self.died.is_none_or(|died| died > now) && self.nature.away.at(now).is_none();
        if (self.view.last_seen, self.view.alive) != (last_seen, alive) {
            let view = Arc::make_mut(&mut self.view);
            (view.last_seen, view.alive) = (last_seen, alive);
        }
        Arc::clone(&self.view)
    }

    /// When it last sent anything that arrived: its reports come at fixed times, and one when it comes back.
    fn last_seen(&self, manners: &Manners, now: u64) -> Option<u64> {
        let until = self.died.map_or(now, |died| died.min(now));
        let until = self.nature.away.at(until).map_or(until, |(from, _)| from);
        let on_time = until.checked_sub((until + self.nature.phase) % manners.report);
        on_time.max(self.nature.away.last_end(until)).filter(|at| *at >= self.here.0)
    }

    /// Its name.
    pub(super) fn name(&self) -> &fieldpost_shared::id::DeviceId {
        &self.view.id
    }

    /// The controller says what it should run; gives what follows, when.
    pub(super) fn told(&mut self, to: Option<&AssignTo>, now: u64) -> Option<(u64, Step)> {
        if self.view.desired.get(&self.model) == to {
            return None;
        }
        let view = Arc::make_mut(&mut self.view);
        match to {
            Some(to) => drop(view.desired.insert(self.model.clone(), to.clone())),
            None => drop(view.desired.remove(&self.model)),
        }
        view.settled = false;
        self.desired += 1;
        let arrives = now + 200 + random::below(&mut self.stream, 2_000);
        Some((self.nature.away.after(arrives), Step::Receive))
    }

    /// Does what is due, and says what follows from it, and when.
    pub(super) fn act(&mut self, step: &Step, now: u64, around: &Around<'_>) -> Vec<(u64, Step)> {
        if self.died.is_some_and(|died| died <= now) && *step != Step::Tell {
            return Vec::new();
        }
        match step {
            Step::Tell => {
                self.arrive(now);
                Vec::new()
            }
            Step::Receive => self.receive(now, around),
            Step::Install(asked) if *asked == self.accepted => self.install(now, around),
            Step::Return(asked) if *asked == self.accepted => {
                let to = self.previous;
                self.swap(to, now);
                self.say(now, around)
            }
            Step::Crash(swaps) if *swaps == self.swaps => {
                let back = self.previous;
                if let Some(live) = self.live.and_then(|live| around.releases.get(live)) {
                    self.refuse(&live.clone(), FailureKind::Crash, now);
                }
                self.swap(back, now);
                self.previous = None;
                self.say(now, around)
            }
            Step::Die(swaps) if *swaps == self.swaps => {
                self.died = Some(now);
                self.traffic.switch(now, None);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Reads the newest desired state, as an agent does.
    fn receive(&mut self, now: u64, around: &Around<'_>) -> Vec<(u64, Step)> {
        if self.accepted == self.desired {
            return Vec::new();
        }
        self.accepted = self.desired;
        self.candidate = None;
        let to = self.view.desired.get(&self.model).cloned();
        let mut next = Vec::new();
        match to {
            None => self.swap(None, now),
            Some(to) => {
                let wanted = around.index(&to.release);
                let failed = self.quarantine.iter().any(|q| q.release == to.release && q.attempt >= to.attempt);
                if wanted == self.live {
                    self.attempt = to.attempt;
                } else if wanted.is_some() && wanted == self.previous {
                    let swap = 1_000 + random::below(&mut self.stream, SWAP);
                    next.push((now + swap, Step::Return(self.accepted)));
                } else if !failed {
                    let takes = random::whole(random::around(&mut self.stream, around.manners.install, 0.5));
                    // A download goes on where it was when the network comes back.
                    next.push((self.nature.away.after(now + takes), Step::Install(self.accepted)));
                    self.candidate = Some(to);
                }
            }
        }
        next.extend(self.say(now, around));
        next
    }

    fn install(&mut self, now: u64, around: &Around<'_>) -> Vec<(u64, Step)> {
        let Some(to) = self.candidate.take() else { return Vec::new() };
        let Some(index) = around.index(&to.release) else { return Vec::new() };
        let effect = around.effects.get(index).copied().unwrap_or_default();
        self.attempt = to.attempt;
        let mut next = Vec::new();
        // The same devices fail the self-test at each attempt.
        let mut fate = random::stream(self.fate, b"fate    ", index as u64);
        if random::happens(&mut fate, effect.unloadable) {
            self.refuse(&to.release, FailureKind::SelfTest, now);
        } else if random::happens(&mut self.stream, around.manners.failures) {
            self.refuse(&to.release, FailureKind::Fetch, now);
        } else {
            self.swap(Some(index), now);
            if random::happens(&mut fate, effect.crash) {
                next.push((now + random::exponential(&mut self.stream, HARM), Step::Crash(self.swaps)));
            }
            if random::happens(&mut fate, effect.silent) {
                next.push((now + random::exponential(&mut self.stream, HARM), Step::Die(self.swaps)));
            }
        }
        next.extend(self.say(now, around));
        next
    }

    fn swap(&mut self, to: Option<usize>, now: u64) {
        self.swaps += 1;
        self.previous = std::mem::replace(&mut self.live, to);
        self.traffic.switch(now, to);
    }

    fn refuse(&mut self, release: &ReleaseRef, kind: FailureKind, now: u64) {
        self.quarantine.retain(|entry| entry.release != *release);
        let at = Timestamp::from_millis(now.saturating_add_signed(self.nature.clock_error));
        let (release, attempt, detail) = (release.clone(), self.attempt, format!("simulated: {kind:?}"));
        self.quarantine.push(Quarantined { release, attempt, rollout: None, kind, detail, at });
    }

    /// Sends a report; a lost one is made good by the next.
    fn say(&mut self, now: u64, around: &Around<'_>) -> Vec<(u64, Step)> {
        let mut arrives = now + 100 + random::below(&mut self.stream, 1_000);
        while random::happens(&mut self.stream, around.manners.lost.min(0.99)) {
            arrives += around.manners.report;
        }
        let at = self.nature.away.after(arrives);
        let release = |index: Option<usize>| index.and_then(|index| around.releases.get(index)).cloned();
        let candidate = self.candidate.as_ref().map(|to| (to.release.clone(), Phase::Fetching { done: 0, total: 1 }));
        let model = ModelReport {
            model: self.model.clone(),
            live: release(self.live),
            previous: release(self.previous),
            candidate,
            swaps: self.swaps,
        };
        self.under_way.push(Said { at, model, quarantine: self.quarantine.clone(), accepted: self.accepted });
        vec![(at, Step::Tell)]
    }

    /// Takes in the newest report that has arrived; an older one that comes after it changes nothing.
    fn arrive(&mut self, now: u64) {
        let Some(newest) = self.under_way.iter().rposition(|said| said.at <= now) else { return };
        if let Some(said) = self.under_way.drain(..=newest).next_back() {
            let view = Arc::make_mut(&mut self.view);
            (view.models, view.quarantine) = (vec![said.model], said.quarantine);
            view.settled = said.accepted == self.desired;
        }
    }
}
