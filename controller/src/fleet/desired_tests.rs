use super::*;
use crate::releases::tests::{NOW, Registry};
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::trust::{SecretKey, SignedRoot};
use fieldpost_shared::wire::open_controller;
use fieldpost_shared::wire::v2::Mode;

/// A first sequence is the time.
const FIRST: u64 = NOW.as_millis();
const NEXT: Number = Number::Above(0);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn states(registry: &Registry) -> DesiredStates {
    let Registry { store, clock, trust, .. } = registry;
    DesiredStates::open(store.clone(), clock.clone(), trust.clone(), 30 * DAY).unwrap()
}

fn to(version: &str) -> AssignTo {
    let release = ReleaseRef {
        model: "digits".parse().unwrap(),
        version: version.parse().unwrap(),
        manifest: Digest::of(version.as_bytes()),
    };
    AssignTo { release, rollout: None, attempt: 1, probation_s: 60, beside: None }
}

fn assign(states: &DesiredStates, device: &str, version: Option<&str>) -> Change {
    let to = version.map(to);
    let to = to.as_ref().map(|to| (to, [].as_slice()));
    states.assign(&id(device), &"digits".parse().unwrap(), to, NEXT).unwrap()
}

fn id(device: &str) -> DeviceId {
    device.parse().unwrap()
}

fn sequence(states: &DesiredStates, device: &str) -> u64 {
    states.find(&id(device)).unwrap().desired.sequence
}

#[test]
fn what_was_assigned_is_signed_for_that_device() {
    let registry = Registry::new();
    let states = states(&registry);
    assign(&states, "a", Some("1.0.0"));
    let sealed = &states.find(&id("a")).unwrap().sealed;
    let desired: v1::Desired = open_controller(sealed, &registry.trust.root(), &id("a")).unwrap();
    assert_eq!((desired.sequence, desired.issued, desired.expires), (FIRST, NOW, NOW.plus(30 * DAY)));
    assert_eq!(desired.assignments[0].release, to("1.0.0").release);
    assert!(open_controller::<v1::Desired>(sealed, &registry.trust.root(), &id("b")).is_err());
}

#[test]
fn version_2_is_signed_only_while_something_stands_beside_and_is_read_after_a_restart() {
    let registry = Registry::new();
    let states = states(&registry);
    let root = registry.trust.root();
    let model: ModelName = "digits".parse().unwrap();
    let mode = Mode::Shadow { portion: 500 };
    let beside = AssignTo { beside: Some(mode.clone()), ..to("1.0.0") };
    assert!(states.assign(&id("a"), &model, Some((&beside, &[])), NEXT).unwrap().signed);
    assert!(!states.assign(&id("a"), &model, Some((&beside, &[])), NEXT).unwrap().signed);
    states.renew(&id("a"), 0).unwrap();
    let sealed = states.find(&id("a")).unwrap().sealed.clone();
    assert!(open_controller::<v1::Desired>(&sealed, &root, &id("a")).is_err());
    let desired: Desired = open_controller(&sealed, &root, &id("a")).unwrap();
    assert_eq!(desired.mode(&model), Some(&mode));
    let again = self::states(&registry);
    assert_eq!(again.find(&id("a")).unwrap().desired, desired);
    assert!(assign(&again, "a", Some("1.0.0")).signed, "the same release, in its place");
    let sealed = again.find(&id("a")).unwrap().sealed.clone();
    assert!(open_controller::<v1::Desired>(&sealed, &root, &id("a")).is_ok());
}

#[test]
fn the_same_again_changes_nothing() {
    let registry = Registry::new();
    let states = states(&registry);
    assert!(assign(&states, "a", Some("1.0.0")).signed);
    assert_eq!(assign(&states, "a", Some("1.0.0")), Change::default());
    assert_eq!(sequence(&states, "a"), FIRST);
}

#[test]
fn releases_begin_and_cease_to_be_wanted() {
    let registry = Registry::new();
    let states = states(&registry);
    let manifest = |version: &str| to(version).release.manifest;
    assert_eq!(assign(&states, "a", Some("1.0.0")).began, [manifest("1.0.0")]);
    assert_eq!(assign(&states, "b", Some("1.0.0")).began, []);
    assert_eq!(assign(&states, "a", Some("1.1.0")).ceased, []);
    let last = assign(&states, "b", Some("1.1.0"));
    assert_eq!((last.began, last.ceased), (vec![], vec![manifest("1.0.0")]));
    assign(&states, "a", None);
    assert_eq!(states.wanted(), [(manifest("1.1.0"), 1)].into());
    assert_eq!(states.forget(&id("b")).ceased, [manifest("1.1.0")]);
}

#[test]
fn a_new_attempt_of_a_release_neither_begins_nor_ceases() {
    let registry = Registry::new();
    let states = states(&registry);
    assign(&states, "a", Some("1.0.0"));
    let again = AssignTo { attempt: 2, ..to("1.0.0") };
    let change = states.assign(&id("a"), &"digits".parse().unwrap(), Some((&again, &[])), NEXT).unwrap();
    assert_eq!((change.signed, change.began, change.ceased), (true, vec![], vec![]));
}

#[test]
fn the_sequence_goes_on_after_reopening_and_the_time_never_goes_back() {
    let registry = Registry::new();
    let first = states(&registry);
    assign(&first, "a", Some("1.0.0"));
    registry.clock.jump_to(Timestamp::EPOCH);
    let again = states(&registry);
    assign(&again, "a", Some("1.1.0"));
    let desired = &again.find(&id("a")).unwrap().desired;
    assert_eq!((desired.sequence, desired.issued), (FIRST + 1, NOW));
    assert_eq!(again.wanted(), [(to("1.1.0").release.manifest, 1)].into());
}

#[test]
fn a_sequence_that_the_device_knows_is_passed() {
    let registry = Registry::new();
    let states = states(&registry);
    assign(&states, "a", Some("1.0.0"));
    states.renew(&id("a"), FIRST + 41).unwrap();
    assert_eq!(sequence(&states, "a"), FIRST + 42);
}

#[test]
fn a_store_that_went_back_in_time_gives_no_number_again() {
    let registry = Registry::new();
    let lost = states(&registry);
    assign(&lost, "a", Some("1.0.0"));
    registry.clock.advance(Duration::from_secs(60));
    assign(&lost, "a", Some("1.1.0"));
    let given = sequence(&lost, "a");
    // The backup knows of the first assignment at most.
    registry.store.commit(vec![DesiredStates::deletion(&id("a"))]).unwrap();
    let restored = states(&registry);
    registry.clock.advance(Duration::from_millis(1));
    assign(&restored, "a", Some("1.0.0"));
    assert!(sequence(&restored, "a") > given);
}

#[test]
fn what_is_decided_before_a_device_is_heard_keeps_the_number_that_was_told() {
    let registry = Registry::new();
    let states = states(&registry);
    assign(&states, "a", Some("1.0.0"));
    registry.clock.jump_to(Timestamp::EPOCH);
    for version in ["1.1.0", "1.2.0"] {
        let to = to(version);
        let model = to.release.model.clone();
        assert!(states.assign(&id("a"), &model, Some((&to, &[])), Number::Kept).unwrap().signed);
    }
    let again = self::states(&registry);
    let kept = again.find(&id("a")).unwrap();
    assert_eq!((kept.desired.sequence, kept.told()), (FIRST, false), "whatever the clock says");
    again.renew(&id("a"), 0).unwrap();
    let told = again.find(&id("a")).unwrap();
    assert_eq!((told.desired.sequence, told.told()), (FIRST + 1, true));
    assert_eq!(told.desired.assignments, kept.desired.assignments);
}

#[test]
fn a_desired_state_is_due_at_half_its_time() {
    let registry = Registry::new();
    let states = states(&registry);
    assign(&states, "a", Some("1.0.0"));
    registry.clock.advance(15 * DAY - Duration::from_millis(1));
    assert_eq!(states.due(), []);
    registry.clock.advance(Duration::from_millis(1));
    assert_eq!(states.due(), [id("a")]);
    states.renew(&id("a"), 0).unwrap();
    assert_eq!(states.due(), []);
}

#[test]
fn a_new_root_makes_it_due() {
    let registry = Registry::new();
    let states = states(&registry);
    assign(&states, "a", Some("1.0.0"));
    let root_key = std::fs::read_to_string(registry.trust.dir().join(crate::trust_dir::ROOT_KEY)).unwrap();
    let mut next = registry.trust.root().as_ref().clone();
    next.version = 2;
    let next = SignedRoot::sign(next, &[&SecretKey::from_file(&root_key).unwrap()]).unwrap();
    write_atomic(registry.trust.dir(), "2.root.json", &next.to_bytes()).unwrap();
    assert!(registry.trust.reload().unwrap());
    assert_eq!(states.due(), [id("a")]);
}

#[test]
fn more_models_than_a_device_takes_are_refused() {
    let registry = Registry::new();
    let states = states(&registry);
    let assign = |n: usize| {
        let model: ModelName = format!("m{n}").parse().unwrap();
        let to = AssignTo { release: ReleaseRef { model: model.clone(), ..to("1.0.0").release }, ..to("1.0.0") };
        states.assign(&id("a"), &model, Some((&to, &[])), NEXT)
    };
    (0..MAX_ASSIGNMENTS).for_each(|n| drop(assign(n).unwrap()));
    assert!(matches!(assign(MAX_ASSIGNMENTS), Err(DesiredError::TooMany(_))));
    assert_eq!(sequence(&states, "a"), FIRST + MAX_ASSIGNMENTS as u64 - 1);
}

#[test]
fn nothing_is_signed_by_a_clock_at_which_nobody_would_believe_it() {
    let registry = Registry::new();
    let states = states(&registry);
    assign(&states, "a", Some("1.0.0"));
    let expires = registry.trust.root().expires;
    registry.clock.jump_to(expires.plus(Duration::from_millis(1)));
    let (model, to) = ("digits".parse().unwrap(), to("1.1.0"));
    let refused = states.assign(&id("a"), &model, Some((&to, &[])), NEXT).unwrap_err();
    assert!(matches!(refused, DesiredError::RootExpired { expires: at, .. } if at == expires), "{refused}");
    assert_eq!(states.find(&id("a")).unwrap().desired.issued, NOW);
    registry.clock.jump_to(NOW);
    assign(&states, "a", Some("1.1.0"));
}
