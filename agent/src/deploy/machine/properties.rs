//! Random lives of a box: wishes, outcomes, deaths, failing writes. Whatever happens, the invariants of the room hold.

use super::*;
use crate::deploy::effects::Failure;
use crate::deploy::event::Wish;
use crate::deploy::testing::{assignment, release};
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v2::Mode;
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

/// How the next write to the journal ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Write {
    Works,
    Fails,
    /// The error comes after the data has reached the disk.
    FailsThough,
    DiesBefore,
    DiesAfter,
}

#[derive(Debug, Clone)]
enum Act {
    Want(Option<u64>, u32, bool),
    Hold(bool),
    Expire(bool),
    Revoke(u64),
    /// The running job ends well.
    Succeed,
    Fail(bool),
    /// The agent dies in the middle of the job, before or after its effect.
    Die(bool),
    Stop,
    Harm,
    TimeIsUp,
    LocalRollback,
    /// The files of a release go bad on the disk.
    Rot(u64),
}

#[derive(Debug, Clone, Default)]
struct Durable {
    slot: Slot,
    quarantine: Vec<Quarantined>,
}

/// A box with one slot.
struct Device {
    journal: Durable,
    memory: Durable,
    waiting: VecDeque<Event>,
    job: Option<Job>,
    answering: Option<Digest>,
    /// What stands beside it.
    beside: Option<Digest>,
    /// Releases that are whole on the disk.
    disk: BTreeSet<Digest>,
    wanted: Option<Assignment>,
    /// The wanted release should stand beside the live one.
    mode: Option<Mode>,
    known: bool,
    held: bool,
    expired: bool,
    revoked: Vec<Digest>,
    write: Write,
    /// A write failed: what the journal holds is unknown.
    unsure: bool,
}

impl Device {
    fn new() -> Self {
        Self {
            journal: Durable::default(),
            memory: Durable::default(),
            waiting: VecDeque::new(),
            job: None,
            answering: None,
            beside: None,
            disk: BTreeSet::new(),
            wanted: None,
            mode: None,
            known: false,
            held: false,
            expired: false,
            revoked: Vec::new(),
            write: Write::Works,
            unsure: false,
        }
    }

    fn decide(&self, event: Event) -> Step {
        let expires = Timestamp::from_millis(if self.expired { 0 } else { 2_000 });
        let context = Context {
            now: Timestamp::from_millis(1_000),
            held: self.held,
            wish: self.known.then_some(Wish { expires, assignment: self.wanted.as_ref(), beside: self.mode.as_ref() }),
            quarantine: &self.memory.quarantine,
            revoked: &self.revoked,
        };
        step(self.memory.slot.clone(), event, &context)
    }

    /// As the driver does: waiting events first, one after the other.
    fn deliver(&mut self, event: Event) {
        self.waiting.push_back(event);
        while let Some(event) = self.waiting.front().cloned() {
            if std::mem::take(&mut self.unsure) {
                self.journal.slot = self.memory.slot.clone();
            }
            let next = self.decide(event.clone());
            let write = std::mem::replace(&mut self.write, Write::Works);
            if next.slot != self.memory.slot || !next.failed.is_empty() {
                if matches!(write, Write::Works | Write::FailsThough | Write::DiesAfter) {
                    self.journal.slot = next.slot.clone();
                    merge(&mut self.journal.quarantine, &next.failed);
                }
                match write {
                    Write::Works => {}
                    Write::Fails | Write::FailsThough => return self.unsure = true,
                    Write::DiesBefore | Write::DiesAfter => return self.die(),
                }
            }
            self.waiting.pop_front();
            self.check(&event, &next);
            let collects = next.effects.contains(&Effect::Collect);
            self.memory.slot = next.slot;
            merge(&mut self.memory.quarantine, &next.failed);
            for effect in next.effects {
                match effect {
                    Effect::Begin(job) => self.job = Some(job),
                    Effect::Halt => self.job = None,
                    Effect::Alone => self.beside = None,
                    Effect::Collect => {}
                }
            }
            if collects {
                let keep = self.kept();
                self.disk.retain(|release| keep.contains(release));
            }
        }
        self.check_job();
    }

    fn kept(&self) -> Vec<Digest> {
        let slot = &self.memory.slot;
        let installed = [&slot.live, &slot.previous].into_iter().flatten().map(|i| i.release.manifest);
        let candidate = slot.state.candidate().or(self.wanted.as_ref()).map(|c| c.release.manifest);
        installed.chain(candidate).collect()
    }

    // ---- Invariants of every step ----

    fn check(&self, event: &Event, next: &Step) {
        let before = &self.memory.slot;
        assert!(next.slot.transitions <= MAX_TRANSITIONS);
        assert!(next.slot.previous.is_none() || next.slot.live.is_some(), "previous without live: {:?}", next.slot);
        if let State::Restoring { then, .. } = &next.slot.state {
            assert!(!matches!(**then, State::Restoring { .. } | State::Reverting { .. } | State::Removing));
        }
        if let (Some(live), None) = (&before.live, &next.slot.live) {
            let unwanted = self.known && self.wanted.is_none();
            let failed = self.memory.quarantine.iter().chain(&next.failed).any(|q| q.release == live.release);
            let broken = matches!(before.state, State::Restoring { .. }) && matches!(event, Event::Failed(_));
            let removing = matches!(before.state, State::Removing);
            assert!(removing || broken, "live lost by {event:?} in {before:?}");
            assert!(unwanted || failed || broken || removing, "live lost without a reason: {event:?} {before:?}");
        }
        let enters_removing = !matches!(before.state, State::Removing) && matches!(next.slot.state, State::Removing);
        if let (true, Some(live)) = (enters_removing, &before.live) {
            let unwanted = self.known && self.wanted.is_none() && !self.held;
            let failed = self.memory.quarantine.iter().chain(&next.failed).any(|q| q.release == live.release);
            let broken = matches!(before.state, State::Restoring { .. }) && matches!(event, Event::Failed(_));
            let nowhere = next.slot.previous.is_none();
            assert!(unwanted || ((failed || broken) && nowhere), "removed without a reason: {event:?} {before:?}");
        }
        if let Event::Failed(failure) = event {
            let blamed = !next.failed.is_empty();
            let again = matches!(
                next.slot.state,
                State::Blocked { .. } | State::Reverting { .. } | State::Restoring { .. } | State::Fetching { .. }
            );
            let came_to_nothing = next.slot == *before;
            let had_job = matches!(before.state, State::Reverting { .. } | State::Restoring { .. });
            let dropped = self.held || self.expired || self.wanted.as_ref() != before.state.candidate();
            assert!(
                blamed || again || came_to_nothing || had_job || dropped,
                "{failure:?} was swallowed in {before:?}"
            );
        }
    }

    /// No release is brought in again at an attempt that has failed, and what was revoked is not begun.
    fn check_job(&self) {
        if self.beside.is_some() {
            let candidate = self.memory.slot.state.candidate().map(|c| c.release.manifest);
            let stays = matches!(self.memory.slot.state, State::Beside { .. } | State::Swapping { .. });
            assert!(stays && self.beside == candidate, "something stands beside: {:?}", self.memory.slot.state);
        }
        let Some(candidate) = self.memory.slot.state.candidate() else { return };
        if matches!(self.memory.slot.state, State::Restoring { .. } | State::Swapping { .. }) {
            return;
        }
        let bars = |q: &&Quarantined| q.release == candidate.release && q.attempt >= candidate.attempt;
        assert!(!self.memory.quarantine.iter().any(|q| bars(&q)), "tried again: {candidate:?}");
        assert!(!self.revoked.contains(&candidate.release.manifest), "revoked: {candidate:?}");
    }

    // ---- What happens ----

    fn die(&mut self) {
        let before = self.journal.slot.clone();
        self.job = None;
        (self.answering, self.beside) = (None, None);
        self.waiting.clear();
        self.unsure = false;
        self.memory = self.journal.clone();
        self.deliver(Event::Started);
        if let (State::Probation { deaths, .. }, Some(previous), false) =
            (before.state, before.previous, before.stopped)
        {
            let usable = !self.revoked.contains(&previous.release.manifest);
            if deaths + 1 >= MAX_DEATHS && usable && self.waiting.is_empty() {
                let first = Some(Job::Swap { release: previous.release, tries: 0 });
                assert_eq!(self.job, first, "the second death in probation starts with previous");
            }
        }
    }

    fn perform(&mut self, job: &Job) -> Event {
        let spoilt = || Event::Failed(Failure::blocked(FailureKind::Disk, "spoilt"));
        match job {
            Job::Fetch(a) => {
                self.disk.insert(a.release.manifest);
                Event::Fetched
            }
            Job::Verify(a) if !self.disk.contains(&a.release.manifest) => spoilt(),
            Job::Verify(_) => Event::Verified,
            Job::SelfTest(_) => Event::Tested,
            Job::Swap { release, .. } if !self.disk.contains(&release.manifest) => spoilt(),
            Job::Beside(a, _) if !self.disk.contains(&a.release.manifest) => spoilt(),
            Job::Beside(a, _) => {
                let live = self.memory.slot.live.as_ref().map(|live| live.release.manifest);
                assert!(self.answering.is_some() && self.answering == live, "it stands beside what is live");
                self.beside = Some(a.release.manifest);
                Event::Beside
            }
            Job::Swap { release, .. } => {
                self.answering = Some(release.manifest);
                self.beside = None;
                Event::Swapped
            }
            Job::Remove => {
                (self.answering, self.beside) = (None, None);
                Event::Removed
            }
            Job::Wait { .. } => Event::RetryDue,
            Job::Watch => Event::Checked { elapsed_ms: 10, harm: None },
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Want(n, attempt, beside) => {
                self.mode = beside.then_some(Mode::Shadow { portion: 1_000 });
                (self.known, self.wanted) = (true, n.map(|n| assignment("m", n, *attempt)));
                self.deliver(Event::Changed);
            }
            Act::Hold(held) => {
                self.held = *held;
                self.deliver(Event::Changed);
            }
            Act::Expire(expired) => {
                self.expired = *expired;
                self.deliver(Event::Changed);
            }
            Act::Revoke(n) => {
                self.revoked.push(release("m", *n).manifest);
                self.deliver(Event::Changed);
            }
            Act::Succeed => {
                if let Some(job) = self.job.take() {
                    let event = self.perform(&job);
                    self.deliver(event);
                }
            }
            Act::Fail(retry) => match self.job.take() {
                Some(job @ (Job::Wait { .. } | Job::Watch | Job::Remove)) => self.job = Some(job),
                Some(_) => self.deliver(Event::Failed(Failure {
                    kind: FailureKind::Load,
                    detail: "broken".into(),
                    retry: *retry,
                })),
                None => {}
            },
            Act::Die(after) => {
                if let (Some(job), true) = (self.job.take(), *after) {
                    self.perform(&job);
                }
                self.die();
            }
            Act::Stop => {
                self.deliver(Event::Stopped { elapsed_ms: 5 });
                self.die();
            }
            Act::Harm | Act::TimeIsUp if self.job == Some(Job::Watch) => {
                self.job = None;
                let harm = matches!(act, Act::Harm);
                let harm = harm.then(|| Harm { kind: FailureKind::Errors, detail: "errors".into() });
                self.deliver(Event::Checked { elapsed_ms: WATCH_MS, harm });
            }
            Act::Harm | Act::TimeIsUp => {}
            Act::LocalRollback => self.deliver(Event::LocalRollback),
            Act::Rot(n) => {
                self.disk.remove(&release("m", *n).manifest);
            }
        }
    }

    /// Nothing more goes wrong: the box must come to rest, and be right.
    fn come_to_rest(&mut self) {
        self.write = Write::Works;
        (self.held, self.expired, self.mode) = (false, false, None);
        self.deliver(Event::Changed);
        for _ in 0..400 {
            match self.job.clone() {
                None => break,
                Some(Job::Watch) => self.act(&Act::TimeIsUp),
                Some(_) => self.act(&Act::Succeed),
            }
        }
        let slot = &self.memory.slot;
        assert_eq!((&self.job, &slot.state), (&None, &State::Idle), "it comes to rest");
        assert_eq!(self.beside, None, "nothing stands beside it");
        assert_eq!(*slot, self.journal.slot, "the journal knows what runs");
        assert_eq!(self.answering, slot.live.as_ref().map(|l| l.release.manifest), "what is live answers");
        assert!(self.answering.is_none_or(|answering| !self.revoked.contains(&answering)), "nothing revoked answers");
        for installed in [&slot.live, &slot.previous].into_iter().flatten() {
            assert!(self.known || self.disk.contains(&installed.release.manifest));
        }
        match &self.wanted {
            _ if !self.known => {}
            None => assert!(slot.is_empty() && self.answering.is_none(), "a removed model's slot is empty: {slot:?}"),
            Some(wanted) => {
                let live = self.answering == Some(wanted.release.manifest);
                let bars = |q: &Quarantined| q.release == wanted.release && q.attempt >= wanted.attempt;
                assert!(live || self.memory.quarantine.iter().any(bars), "wanted, not live and not to blame: {slot:?}");
            }
        }
    }
}

fn merge(quarantine: &mut Vec<Quarantined>, failed: &[Quarantined]) {
    for new in failed {
        quarantine.retain(|old| old.release != new.release);
        quarantine.push(new.clone());
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (prop::option::weighted(0.85, 1_u64..5), 1_u32..4, prop::bool::weighted(0.3)).prop_map(|(n, attempt, beside)| Act::Want(n, attempt, beside)),
        14 => Just(Act::Succeed),
        3 => any::<bool>().prop_map(Act::Fail),
        3 => any::<bool>().prop_map(Act::Die),
        1 => Just(Act::Stop),
        1 => Just(Act::Harm),
        4 => Just(Act::TimeIsUp),
        1 => Just(Act::LocalRollback),
        1 => any::<bool>().prop_map(Act::Hold),
        1 => any::<bool>().prop_map(Act::Expire),
        1 => (1_u64..5).prop_map(Act::Rot),
        1 => prop::option::weighted(0.2, 1_u64..5).prop_map(|n| n.map_or(Act::Succeed, Act::Revoke)),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        12 => Just(Write::Works),
        1 => Just(Write::Fails),
        1 => Just(Write::FailsThough),
        1 => Just(Write::DiesBefore),
        1 => Just(Write::DiesAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_happens_the_box_comes_to_rest_and_is_right(acts in prop::collection::vec((act(), write()), 1..60)) {
        let mut device = Device::new();
        for (act, write) in acts {
            device.write = write;
            device.act(&act);
        }
        device.come_to_rest();
        let rested = (device.memory.slot.live.clone(), device.answering);
        // Two more deaths of a box at rest change nothing.
        for _ in 0..2 {
            device.die();
            // Files that went bad are found out at a start, and come anew.
            device.come_to_rest();
            if device.disk.iter().any(|d| Some(*d) == rested.1) {
                prop_assert_eq!(&device.memory.slot.live, &rested.0);
            }
        }
    }
}

/// Jobs that keep failing so that they are tried again cannot keep a box busy for ever without the network's being the reason.
#[test]
fn a_release_that_never_verifies_is_given_up() {
    let mut device = Device::new();
    device.act(&Act::Want(Some(1), 1, false));
    for _ in 0..1_000 {
        let act = if matches!(device.job, Some(Job::Verify(_))) { Act::Fail(true) } else { Act::Succeed };
        device.act(&act);
    }
    assert_eq!(device.memory.slot.state, State::Idle);
    assert_eq!(device.memory.quarantine[0].kind, FailureKind::Fetch);
    assert!(device.memory.slot.transitions <= MAX_TRANSITIONS);
}

#[test]
fn an_agent_that_dies_again_and_again_while_it_fetches_gives_up_in_the_end() {
    let mut device = Device::new();
    device.act(&Act::Want(Some(1), 1, false));
    for _ in 0..=MAX_TRANSITIONS {
        device.act(&Act::Die(false));
    }
    assert_eq!((&device.memory.slot.state, device.memory.quarantine.len()), (&State::Idle, 1));
}

#[test]
fn waiting_for_a_network_has_no_end() {
    let mut device = Device::new();
    device.act(&Act::Want(Some(1), 1, false));
    for _ in 0..1_000 {
        device.act(&Act::Fail(true));
        device.act(&Act::Succeed);
    }
    assert!(matches!(device.memory.slot.state, State::Fetching { tries: 1_000, .. }));
    device.come_to_rest();
    assert_eq!(device.answering, Some(release("m", 1).manifest));
}

#[test]
fn an_attempt_that_rose_while_the_release_ran_is_the_one_that_failed() {
    let mut device = Device::new();
    for n in [1, 2] {
        device.act(&Act::Want(Some(n), 1, false));
        device.come_to_rest();
    }
    device.act(&Act::Want(Some(2), 7, false));
    device.act(&Act::LocalRollback);
    device.come_to_rest();
    assert_eq!(device.memory.quarantine[0].attempt, 7);
    assert_eq!(device.answering, Some(release("m", 1).manifest));
    device.act(&Act::Want(Some(2), 8, false));
    device.come_to_rest();
    assert_eq!(device.answering, Some(release("m", 2).manifest));
}

#[test]
fn going_back_by_order_needs_no_download() {
    let mut device = Device::new();
    for n in [1, 2] {
        device.act(&Act::Want(Some(n), 1, false));
        device.come_to_rest();
    }
    device.act(&Act::Want(Some(1), 1, false));
    assert_eq!(device.job, Some(Job::Swap { release: release("m", 1), tries: 0 }));
    device.come_to_rest();
    assert_eq!(device.answering, Some(release("m", 1).manifest));
    assert!(device.memory.quarantine.is_empty());
}

#[test]
fn what_answers_from_memory_goes_when_neither_release_can_be_loaded_any_more() {
    let mut device = Device::new();
    for n in [1, 2] {
        device.act(&Act::Want(Some(n), 1, false));
        device.come_to_rest();
    }
    device.act(&Act::Rot(1));
    device.act(&Act::Rot(2));
    device.act(&Act::LocalRollback);
    device.come_to_rest();
    assert_eq!((device.answering, &device.memory.slot.live), (None, &None));
    assert_eq!(device.memory.quarantine[0].kind, FailureKind::LocalRollback);
    device.act(&Act::Want(Some(2), 2, false));
    device.come_to_rest();
    assert_eq!(device.answering, Some(release("m", 2).manifest));
}

#[test]
fn what_stood_beside_goes_when_it_cannot_be_swapped_in() {
    let mut device = Device::new();
    device.act(&Act::Want(Some(1), 1, false));
    device.come_to_rest();
    device.act(&Act::Want(Some(3), 1, true));
    while device.beside.is_none() {
        device.act(&Act::Succeed);
    }
    device.act(&Act::Rot(3));
    device.act(&Act::Want(Some(3), 1, false));
    device.act(&Act::Succeed);
    assert!(matches!(device.memory.slot.state, State::Blocked { .. }));
    assert_eq!(device.beside, None);
    device.come_to_rest();
    assert_eq!(device.answering, Some(release("m", 3).manifest));
}
