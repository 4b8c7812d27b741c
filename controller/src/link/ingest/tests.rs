use super::*;
use crate::fleet::accept::Session;
use crate::fleet::heard::HeardStates;
use crate::fleet::tests::World;
use crate::fleet::windows::{merged, tests::window as content};
use crate::link::outbox::{Item, Source as _};
use crate::store::{Store, Table};
use fieldpost_shared::id::{DeviceId, Digest, ReleaseRef};
use fieldpost_shared::stats::{Baseline, ClassCounts, OutputBaseline, Recorder};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::SecretKey;
use fieldpost_shared::wire::v1::{Ack, Alive, Body, Report, Sequence, Stats, Window};
use fieldpost_shared::wire::{Topic, open_controller, seal};

struct Fixture {
    world: World,
    ingest: Ingest,
    key: SecretKey,
}

fn fixture() -> Fixture {
    let world = World::new();
    assert_eq!(world.registry.release("1.0.0", b"model"), release());
    let key = world.enroll("a", 1);
    world.enroll("b", 2);
    let ingest = Ingest {
        fleet: world.fleet.clone(),
        outbox: world.outbox.clone(),
        clock: world.registry.clock.clone(),
        topics: Topics::default(),
        metrics: Arc::default(),
    };
    Fixture { world, ingest, key }
}

fn a() -> DeviceId {
    "a".parse().unwrap()
}

fn at(epoch: u64, number: u64) -> Sequence {
    Sequence { epoch, number }
}

fn report(sequence: Sequence) -> Report {
    Report {
        fleet: "f".parse().unwrap(),
        device: a(),
        sequence,
        at: Timestamp::EPOCH,
        desired_sequence: 0,
        root_version: 1,
        inventory: Default::default(),
        models: vec![],
        quarantine: vec![],
        outbox: Default::default(),
        refused: vec![],
        hold: None,
        fetched_bytes: 0,
    }
}

fn stats(epoch: u64, ranges: &[(u64, u64)]) -> Stats {
    let window = |&(first, last): &(u64, u64)| Window { first, last, release: release(), content: content(10) };
    Stats { fleet: "f".parse().unwrap(), device: a(), epoch, windows: ranges.iter().map(window).collect() }
}

fn release() -> ReleaseRef {
    ReleaseRef {
        model: "digits".parse().unwrap(),
        version: semver::Version::new(1, 0, 0),
        manifest: Digest::of(&crate::releases::tests::manifest("1.0.0", b"model")),
    }
}

fn alive(session: u64, alive: bool) -> Alive {
    let (fleet, session) = ("f".parse().unwrap(), at(1, session));
    Alive { fleet, device: a(), session, alive, since: Timestamp::EPOCH }
}

fn inbound(topic: &Topic, payload: Vec<u8>) -> Inbound {
    Inbound { topic: Topics::default().name(topic), payload: payload.into(), retained: false }
}

impl Fixture {
    /// Takes in one message; says whether it was refused, and why.
    fn take(&self, message: Inbound) -> Option<(&'static str, &'static str)> {
        let mut batch = Batch::default();
        let refused = batch.weigh(&self.ingest, &message).err();
        if let Some(refused) = &refused {
            self.ingest.metrics.refuse(refused.kind, refused.reason);
        }
        self.ingest.fleet.store().commit(batch.writes.clone()).unwrap();
        self.ingest.apply(batch);
        refused.map(|refused| (refused.kind, refused.reason))
    }

    fn say<B: Body>(&self, topic: &Topic, body: &B) -> Option<(&'static str, &'static str)> {
        self.take(inbound(topic, seal(body, &self.key).unwrap()))
    }

    fn stored(&self) -> u64 {
        let merged = merged(self.ingest.fleet.store().as_ref(), &a(), &release().manifest, Timestamp::EPOCH).unwrap();
        merged.map_or(0, |window| window.requests)
    }

    /// Everything that the store holds: a refused message must leave it as it was.
    fn everything(&self) -> Vec<crate::store::Rows> {
        Table::ALL.map(|table| self.world.registry.store.scan(table, b"").unwrap()).to_vec()
    }

    fn check_refused(&self, message: Inbound, kind: &'static str, reason: &'static str) {
        let (before, counted) = (self.everything(), self.ingest.metrics.refusals(kind, reason));
        assert_eq!(self.take(message), Some((kind, reason)));
        assert_eq!(self.everything(), before, "{kind} {reason}");
        assert_eq!(self.ingest.metrics.refusals(kind, reason), counted + 1);
    }
}

#[test]
fn a_report_is_believed_and_kept() {
    let f = fixture();
    assert_eq!(f.say(&Topic::Report(a()), &report(at(1, 1))), None);
    assert_eq!(f.ingest.fleet.heard().find(&a()).report.as_ref().unwrap().sequence, at(1, 1));
    let again = HeardStates::open(f.world.registry.store.as_ref()).unwrap();
    assert_eq!(again.find(&a()).report, f.ingest.fleet.heard().find(&a()).report);
}

#[test]
fn forged_misaddressed_and_malformed_messages_change_nothing() {
    let f = fixture();
    let stranger = SecretKey::from_seed(&[9; 32]);
    let said = |body: &Report, key: &SecretKey| seal(body, key).unwrap();
    let mine = said(&report(at(1, 1)), &f.key);
    let topic = Topic::Report(a());
    f.check_refused(inbound(&topic, said(&report(at(1, 1)), &stranger)), "report", "signature");
    f.check_refused(inbound(&Topic::Report("b".parse().unwrap()), mine.clone()), "report", "signature");
    f.check_refused(inbound(&Topic::Stats(a()), mine.clone()), "stats", "signature");
    f.check_refused(inbound(&Topic::Report("stranger".parse().unwrap()), mine.clone()), "report", "unknown-device");
    let other = Report { device: "b".parse().unwrap(), ..report(at(1, 1)) };
    f.check_refused(inbound(&topic, said(&other, &f.key)), "report", "device");
    let foreign = Report { fleet: "g".parse().unwrap(), ..report(at(1, 1)) };
    f.check_refused(inbound(&topic, said(&foreign, &f.key)), "report", "fleet");
    f.check_refused(inbound(&topic, mine[..mine.len() - 1].to_vec()), "report", "malformed");
    f.check_refused(inbound(&topic, vec![1; 200_000]), "report", "malformed");
    let doubly = {
        let mut envelope = fieldpost_shared::trust::Envelope::from_bytes(&mine).unwrap();
        envelope.signatures.push(envelope.signatures[0]);
        envelope.to_bytes()
    };
    f.check_refused(inbound(&topic, doubly), "report", "signature");
    f.check_refused(Inbound { topic: "fp/1/else".into(), ..inbound(&topic, mine) }, "unknown", "topic");
}

#[test]
fn a_revoked_device_is_not_believed() {
    let f = fixture();
    f.world.fleet.revoke("op", &a()).unwrap();
    let message = inbound(&Topic::Report(a()), seal(&report(at(1, 1)), &f.key).unwrap());
    f.check_refused(message, "report", "unknown-device");
}

#[test]
fn a_replayed_report_changes_nothing() {
    let f = fixture();
    let old = inbound(&Topic::Report(a()), seal(&report(at(1, 1)), &f.key).unwrap());
    assert_eq!(f.take(old.clone()), None);
    f.check_refused(old.clone(), "report", "replayed");
    assert_eq!(f.say(&Topic::Report(a()), &report(at(1, 2))), None);
    f.check_refused(old, "report", "replayed");
}

#[test]
fn what_the_broker_kept_is_no_offence_but_no_news_either() {
    let f = fixture();
    let message = inbound(&Topic::Report(a()), seal(&report(at(1, 1)), &f.key).unwrap());
    f.take(message.clone());
    let seen = f.ingest.fleet.heard().find(&a()).last_seen;
    f.world.registry.clock.advance(Duration::from_secs(60));
    assert_eq!(f.take(Inbound { retained: true, ..message }), None);
    assert_eq!(f.ingest.fleet.heard().find(&a()).last_seen, seen);
}

#[test]
fn statistics_are_acknowledged_by_what_is_on_disk() {
    let f = fixture();
    assert_eq!(f.say(&Topic::Stats(a()), &stats(5, &[(1, 1), (2, 4)])), None);
    assert_eq!(f.stored(), 20);
    let ack = Item::Ack(a());
    assert_eq!(f.world.outbox.take(f.world.fleet.as_ref()), Some(ack.clone()));
    let sealed = f.world.fleet.payload(&ack).unwrap().unwrap();
    let said: Ack = open_controller(&sealed, &f.world.registry.trust.root(), &a()).unwrap();
    assert_eq!(said.stored, at(5, 4));
    let again = HeardStates::open(f.world.registry.store.as_ref()).unwrap().find(&a());
    assert_eq!((again.stored, again.ack.as_deref()), (at(5, 4), Some(&sealed)));
}

#[test]
fn nothing_is_told_before_it_is_committed() {
    let f = fixture();
    let mut batch = Batch::default();
    let message = inbound(&Topic::Stats(a()), seal(&stats(5, &[(1, 1)]), &f.key).unwrap());
    assert!(batch.weigh(&f.ingest, &message).is_ok());
    assert!(!batch.writes.is_empty());
    assert!(f.world.outbox.is_empty() && f.ingest.fleet.heard().find(&a()).ack.is_none());
}

#[test]
fn replayed_statistics_are_counted_once_and_acknowledged_again() {
    let f = fixture();
    let message = inbound(&Topic::Stats(a()), seal(&stats(5, &[(1, 1)]), &f.key).unwrap());
    f.take(message.clone());
    f.world.outbox.clear();
    f.check_refused(message, "stats", "replayed");
    assert_eq!(f.stored(), 10);
    assert_eq!(f.world.outbox.take(f.world.fleet.as_ref()), Some(Item::Ack(a())));
}

#[test]
fn a_gap_is_not_acknowledged_until_it_is_filled() {
    let f = fixture();
    f.say(&Topic::Stats(a()), &stats(5, &[(1, 1)]));
    let later = inbound(&Topic::Stats(a()), seal(&stats(5, &[(3, 3)]), &f.key).unwrap());
    f.check_refused(later.clone(), "stats", "gap");
    assert_eq!(f.say(&Topic::Stats(a()), &stats(5, &[(2, 2)])), None);
    assert_eq!(f.take(later), None);
    assert_eq!(f.ingest.fleet.heard().find(&a()).stored, at(5, 3));
}

#[test]
fn windows_taken_for_lost_are_counted_and_shown_after_a_restart_too() {
    let f = fixture();
    f.say(&Topic::Stats(a()), &stats(5, &[(1, 1)]));
    let later = inbound(&Topic::Stats(a()), seal(&stats(5, &[(4, 4)]), &f.key).unwrap());
    f.check_refused(later.clone(), "stats", "gap");
    f.take(later.clone());
    assert_eq!(f.take(later), None, "the third offer is believed");
    let record = f.world.fleet.devices().find(&a()).unwrap();
    assert_eq!(f.world.fleet.device(&record).windows_lost, 2);
    assert_eq!(f.ingest.metrics.windows_lost.get(), 2);
    let reopened = HeardStates::open(f.ingest.fleet.store().as_ref()).unwrap();
    assert_eq!(reopened.find(&a()).lost, 2);
}

#[test]
fn messages_of_one_batch_see_each_other() {
    let f = fixture();
    let mut batch = Batch::default();
    for range in [(1, 1), (2, 2), (3, 3)] {
        let message = inbound(&Topic::Stats(a()), seal(&stats(5, &[range]), &f.key).unwrap());
        assert!(batch.weigh(&f.ingest, &message).is_ok());
    }
    f.ingest.fleet.store().commit(batch.writes.clone()).unwrap();
    f.ingest.apply(batch);
    assert_eq!((f.stored(), f.ingest.fleet.heard().find(&a()).stored), (30, at(5, 3)));
}

#[test]
fn a_window_that_nobody_can_read_does_not_hold_up_the_others() {
    let f = fixture();
    let mut said = stats(5, &[(1, 1), (2, 2), (3, 3)]);
    said.windows[0].content = b"noise".to_vec();
    said.windows[1].release.version = semver::Version::new(9, 9, 9);
    assert_eq!(f.say(&Topic::Stats(a()), &said), None);
    assert_eq!((f.stored(), f.ingest.fleet.heard().find(&a()).stored), (10, at(5, 3)));
    let metrics = &f.ingest.metrics;
    assert_eq!((metrics.refusals("window", "content"), metrics.refusals("window", "release")), (1, 1));
}

#[test]
fn births_and_deaths_make_presence() {
    let f = fixture();
    let is_alive = || f.ingest.fleet.heard().find(&a()).alive();
    let (birth, death) = (alive(1, true), alive(1, false));
    assert_eq!((f.say(&Topic::Alive(a()), &birth), is_alive()), (None, true));
    assert_eq!((f.say(&Topic::Alive(a()), &death), is_alive()), (None, false));
    let replayed = inbound(&Topic::Alive(a()), seal(&birth, &f.key).unwrap());
    f.check_refused(replayed, "alive", "replayed");
    assert_eq!((f.say(&Topic::Alive(a()), &alive(2, true)), is_alive()), (None, true));
    f.check_refused(inbound(&Topic::Alive(a()), seal(&death, &f.key).unwrap()), "alive", "replayed");
    assert!(is_alive());
}

#[test]
fn presence_of_before_a_start_must_be_heard_again() {
    let f = fixture();
    let birth = inbound(&Topic::Alive(a()), seal(&alive(1, true), &f.key).unwrap());
    f.take(birth.clone());
    f.world.registry.clock.advance(Duration::from_secs(60));
    let Fixture { world, key, .. } = f;
    let world = World::over(world.registry);
    let ingest = Ingest {
        fleet: world.fleet.clone(),
        outbox: world.outbox.clone(),
        clock: world.registry.clock.clone(),
        topics: Topics::default(),
        metrics: Arc::default(),
    };
    let f = Fixture { world, ingest, key };
    let before = f.ingest.fleet.heard().find(&a());
    assert_eq!((before.session, before.alive()), (Some(Session { number: at(1, 1), dead: false }), false));
    assert_eq!(f.take(Inbound { retained: true, ..birth }), None);
    let after = f.ingest.fleet.heard().find(&a());
    assert!(after.alive());
    assert_eq!(after.last_seen, before.last_seen, "an old birth is no sign of life");
}

#[test]
fn a_device_that_knows_newer_orders_than_the_store_is_told_nothing_and_said_to_be_once() {
    let f = fixture();
    let release = f.world.registry.release("1.0.0", b"model");
    f.world.assign("a", Some(&release)).unwrap();
    let signed = |f: &Fixture| f.ingest.fleet.desired().find(&a()).unwrap().desired.sequence;
    let known = signed(&f) + 7;
    for number in [1, 2] {
        assert_eq!(f.say(&Topic::Report(a()), &Report { desired_sequence: known, ..report(at(1, number)) }), None);
        assert_eq!(signed(&f), known - 7);
        assert!(f.ingest.fleet.payload(&Item::Desired(a())).is_err());
        assert_eq!(f.ingest.fleet.take_ahead(), if number == 1 { [a()].into() } else { [].into() });
    }
    assert!(f.world.assign("a", None).is_err());
    let log = f.world.registry.audit.after(0, 100).unwrap();
    assert_eq!(log.iter().filter(|entry| entry.action == "device.ahead").count(), 1);
    // A box that has lost its own state follows no newer orders any more.
    assert_eq!(f.say(&Topic::Report(a()), &report(at(2, 1))), None);
    assert!(f.ingest.fleet.payload(&Item::Desired(a())).unwrap().is_some());
}

#[test]
fn what_a_device_does_not_take_is_published_again_after_a_while() {
    let f = fixture();
    let release = f.world.registry.release("1.0.0", b"model");
    f.world.assign("a", Some(&release)).unwrap();
    f.world.told();
    let mut again = Vec::new();
    for number in 1..10 {
        assert_eq!(f.say(&Topic::Report(a()), &report(at(1, number))), None);
        again.push(f.world.told().contains(&(Item::Desired(a()), true)));
        f.world.registry.clock.advance(Duration::from_secs(11));
    }
    assert_eq!(again, [false, false, false, true, false, false, false, false, false]);
}

#[test]
fn a_report_that_is_older_than_the_last_one_still_says_that_the_box_is_there() {
    let f = fixture();
    let release = f.world.registry.release("1.0.0", b"model");
    f.world.assign("a", Some(&release)).unwrap();
    assert_eq!(f.say(&Topic::Report(a()), &report(at(1, 9))), None);
    let Fixture { world, key, .. } = f;
    let world = World::unheard(world.registry);
    let ingest = Ingest {
        fleet: world.fleet.clone(),
        outbox: world.outbox.clone(),
        clock: world.registry.clock.clone(),
        topics: Topics::default(),
        metrics: Arc::default(),
    };
    let f = Fixture { world, ingest, key };
    let old = inbound(&Topic::Report(a()), seal(&report(at(1, 3)), &f.key).unwrap());
    assert_eq!(f.take(Inbound { retained: true, ..old.clone() }), Some(("report", "replayed")));
    assert_eq!(f.world.told(), []);
    assert_eq!(f.take(old), Some(("report", "replayed")));
    assert_eq!(f.world.told(), [(Item::Desired(a()), true)]);
}

#[test]
fn a_device_that_knows_newer_orders_has_not_settled() {
    let f = fixture();
    let release = f.world.registry.release("1.0.0", b"model");
    f.world.assign("a", Some(&release)).unwrap();
    let signed = f.ingest.fleet.desired().find(&a()).unwrap().desired.sequence;
    for (accepted, settled) in [(signed - 1, false), (signed, true), (signed + 1, false)] {
        let said = Report { desired_sequence: accepted, ..report(at(1, 1)) };
        let heard = crate::fleet::heard::Heard { report: Some(Arc::new(said)), ..Default::default() };
        f.ingest.fleet.take_up([(a(), heard)]);
        let views = crate::rollout::fleet::Fleet::devices(f.ingest.fleet.as_ref()).unwrap();
        assert_eq!(views[&a()].settled, settled, "{accepted}");
    }
}

#[test]
fn windows_that_a_device_makes_up_are_acknowledged_and_not_kept() {
    let f = fixture();
    let made_up = ReleaseRef { manifest: Digest::of(b"made up"), ..release() };
    let baseline = Baseline {
        n: 9,
        output: OutputBaseline { classes: Some(ClassCounts::new(3)), ..Default::default() },
        inputs: vec![],
    };
    let other = Recorder::new("digits", "1.0.0", Arc::new(baseline), 5).close(10).encode();
    for (number, release, content, reason) in
        [(1, made_up, content(10), "unknown-release"), (2, release(), other, "baseline")]
    {
        let window = Window { first: number, last: number, release, content };
        let body = Stats { fleet: "f".parse().unwrap(), device: a(), epoch: 1, windows: vec![window] };
        assert_eq!(f.say(&Topic::Stats(a()), &body), None);
        assert_eq!(f.ingest.metrics.refusals("window", reason), 1);
        assert_eq!(f.ingest.fleet.heard().find(&a()).stored, at(1, number), "it would send them for ever");
    }
    assert!(f.world.registry.store.scan(Table::Windows, b"").unwrap().is_empty());
}

#[test]
fn a_box_that_takes_over_a_name_inherits_nothing() {
    let mut f = fixture();
    assert_eq!(f.say(&Topic::Report(a()), &report(at(9, 9))), None);
    assert_eq!(f.say(&Topic::Alive(a()), &alive(5, true)), None);
    assert_eq!(f.say(&Topic::Stats(a()), &stats(9, &[(1, 1)])), None);
    // One more message is under way while its key is revoked.
    let mut late = Batch::default();
    late.weigh(&f.ingest, &inbound(&Topic::Report(a()), seal(&report(at(9, 10)), &f.key).unwrap())).unwrap();
    f.ingest.fleet.revoke("op", &a()).unwrap();
    f.ingest.fleet.store().commit(late.writes.clone()).unwrap();
    f.ingest.apply(late);
    assert!(f.ingest.fleet.heard().find(&a()).report.is_none());
    f.key = f.world.enroll("a", 7);
    let rows = f.world.registry.store.scan(Table::Reports, b"").unwrap();
    assert!(rows.is_empty(), "{rows:?}");
    assert_eq!(f.say(&Topic::Report(a()), &report(at(1, 1))), None, "its clock may be earlier");
    assert_eq!(f.say(&Topic::Stats(a()), &stats(1, &[(1, 1)])), None);
    assert_eq!(f.ingest.fleet.heard().find(&a()).stored, at(1, 1));
}

fn birth(epoch: u64) -> Alive {
    Alive { session: at(epoch, 1), ..alive(1, true) }
}

impl Fixture {
    /// What the device's topic of acknowledgements should hold.
    fn told(&self) -> Option<Sequence> {
        let sealed = self.world.fleet.payload(&Item::Ack(a())).unwrap()?;
        let ack: Ack = open_controller(&sealed, &self.world.registry.trust.root(), &a()).unwrap();
        Some(ack.stored)
    }
}

#[test]
fn a_device_whose_state_was_put_back_is_told_the_epoch_that_was_heard() {
    let f = fixture();
    f.say(&Topic::Stats(a()), &stats(5, &[(1, 1)]));
    f.say(&Topic::Alive(a()), &birth(8));
    let old = |body: &Alive| inbound(&Topic::Alive(a()), seal(body, &f.key).unwrap());
    f.check_refused(Inbound { retained: true, ..old(&birth(6)) }, "alive", "replayed");
    assert_eq!(f.told(), Some(at(5, 1)), "what the broker kept is old news");
    f.check_refused(old(&birth(6)), "alive", "replayed");
    assert_eq!(f.told(), Some(at(8, 0)));
}

#[test]
fn what_was_raised_gives_way_to_what_is_acknowledged() {
    let f = fixture();
    let windows = inbound(&Topic::Stats(a()), seal(&stats(5, &[(1, 1)]), &f.key).unwrap());
    f.take(windows.clone());
    f.say(&Topic::Alive(a()), &birth(8));
    f.say(&Topic::Alive(a()), &birth(6));
    assert_eq!(f.told(), Some(at(8, 0)));
    f.check_refused(windows, "stats", "replayed");
    assert_eq!(f.told(), Some(at(5, 1)));
    f.say(&Topic::Report(a()), &report(at(8, 2)));
    f.say(&Topic::Report(a()), &report(at(7, 9)));
    assert_eq!(f.told(), Some(at(8, 0)));
    f.say(&Topic::Stats(a()), &stats(8, &[(1, 1)]));
    assert_eq!(f.told(), Some(at(8, 1)));
    let reopened = HeardStates::open(f.ingest.fleet.store().as_ref()).unwrap();
    assert_eq!(reopened.find(&a()).stored, at(8, 1));
}

#[test]
fn what_was_raised_is_told_once_however_often_old_messages_are_played_back() {
    let f = fixture();
    f.say(&Topic::Alive(a()), &birth(8));
    assert_eq!(f.told(), None);
    for _ in 0..3 {
        f.say(&Topic::Alive(a()), &birth(6));
        f.say(&Topic::Report(a()), &report(at(8, 1)));
        f.say(&Topic::Report(a()), &report(at(6, 1)));
    }
    assert_eq!(f.told(), Some(at(8, 0)));
    assert_eq!(f.world.outbox.take(f.world.fleet.as_ref()), Some(Item::Ack(a())));
    f.world.outbox.confirm(&Item::Ack(a()));
    f.say(&Topic::Alive(a()), &birth(6));
    assert!(f.world.outbox.is_empty());
    let reopened = HeardStates::open(f.ingest.fleet.store().as_ref()).unwrap().find(&a());
    assert_eq!((reopened.stored, reopened.ack.is_some()), (Sequence::default(), false), "it is no acknowledgement");
}

#[test]
fn two_boxes_under_one_name_are_counted_and_shown() {
    let f = fixture();
    let record = f.world.fleet.devices().find(&a()).unwrap();
    let rival = || f.world.fleet.device(&record).rival_seen;
    f.say(&Topic::Alive(a()), &birth(10));
    for old in 1..=3 {
        assert_eq!(rival(), None);
        assert!(f.say(&Topic::Alive(a()), &birth(old)).is_some());
    }
    assert_eq!(rival(), Some(f.world.registry.clock.now()));
    assert_eq!(f.ingest.metrics.old_births.get(), 3);
    // A late will is no birth.
    f.say(&Topic::Alive(a()), &Alive { alive: false, ..birth(4) });
    assert_eq!(f.ingest.metrics.old_births.get(), 3);
}

#[test]
fn a_device_that_restarts_often_is_pruned_too() {
    let f = fixture();
    let full = |epoch| {
        let mut batch = Batch::default();
        let message = inbound(&Topic::Stats(a()), seal(&stats(epoch, &[(1, 1)]), &f.key).unwrap());
        assert!(batch.weigh(&f.ingest, &message).is_ok());
        let full = batch.full.clone();
        f.ingest.fleet.store().commit(batch.writes.clone()).unwrap();
        f.ingest.apply(batch);
        full
    };
    for epoch in 1..4 {
        assert_eq!(full(epoch), [a()]);
    }
}

#[test]
fn a_cleared_topic_says_nothing() {
    let f = fixture();
    assert_eq!(f.take(inbound(&Topic::Report(a()), vec![])), None);
    assert!(f.ingest.fleet.heard().find(&a()).report.is_none());
}
