use super::*;
use crate::rollout::order::draw;
use crate::rollout::plan::{Share, Waves};

pub(crate) fn every_event() -> Vec<Event> {
    let release = ReleaseRef {
        model: "digits".parse().unwrap(),
        version: semver::Version::new(1, 1, 0),
        manifest: Digest::of(b"m"),
    };
    let device: DeviceId = "box-1".parse().unwrap();
    let seed = Digest::of(b"seed");
    let seat = Seat { device: device.clone(), stratum: "x86_64".into() };
    let waves: Waves = "1".parse().unwrap();
    let previous = AssignTo { release: release.clone(), rollout: None, attempt: 1, probation_s: 0, beside: None };
    let report =
        GateReport::new("health", crate::rollout::gates::Verdict::Pass, "none of 1 failed".into(), &[("n", 1.0)]);
    let failure = Failure { setback: Setback::Reported(FailureKind::SelfTest), detail: "golden 3".into(), attempt: 1 };
    let spec = Spec {
        release,
        selector: "*".into(),
        strategy: Strategy { waves: waves.clone(), ..Strategy::default() },
        note: String::new(),
    };
    let order = draw(&seed, [seat.clone()]);
    let statement = crate::rollout::order::Statement {
        schema: crate::rollout::order::SCHEMA.into(),
        algorithm: crate::rollout::order::ALGORITHM.into(),
        fleet: "f".parse().unwrap(),
        rollout: "r-1".parse().unwrap(),
        release: spec.release.clone(),
        drawn: Timestamp::from_millis(1),
        seed,
        order: order.clone(),
        stretches: vec![],
    };
    let signed = Box::new(statement.sign(&fieldpost_shared::trust::SecretKey::from_seed(&[1; 32])).unwrap());
    let text = || "why".to_owned();
    vec![
        Event::Created {
            rollout: "r-1".parse().unwrap(),
            spec: Box::new(spec),
            seed,
            order,
            waves: vec![ResolvedWave { asked: 1, size: Share::Count(1), reaches: 1, selector: None }],
            unfit: vec![],
            design: None,
            by: "ann".into(),
            retry_of: Some("r-0".parse().unwrap()),
        },
        Event::OrderSigned { signed },
        Event::ApprovalAsked { wave: 0, of: None, because: None },
        Event::Approved { wave: 0, by: text() },
        Event::WaveStarted { wave: 0 },
        Event::Joined { seat: Seat { device: "late".parse().unwrap(), stratum: String::new() }, wave: Some(0) },
        Event::Assigned { device: device.clone(), attempt: 1, previous: Some(previous), reachable: true },
        Event::Adopted { device: device.clone() },
        Event::Live { device: device.clone() },
        Event::Failed { device: device.clone(), failure: failure.clone(), retry_at: None },
        Event::Failed { device: device.clone(), failure, retry_at: Some(Timestamp::from_millis(9)) },
        Event::Left { device: device.clone(), live: None },
        Event::Silent { device: device.clone(), last_seen: None, accepted: true },
        Event::Heard { device: device.clone() },
        Event::Gone { device: device.clone() },
        Event::SoakStarted { wave: 0 },
        Event::Holding { wave: 0, reasons: vec![text()], kinds: vec![text()] },
        Event::WavePassed { wave: 0, evidence: vec![report.clone()] },
        Event::Paused { reason: text(), evidence: vec![], by: None },
        Event::Paused { reason: text(), evidence: vec![report.clone()], by: None },
        Event::Resumed { by: text(), accepted: vec![device.clone()], unproven: false },
        Event::RollbackStarted { reason: text(), evidence: vec![report], by: None, ending: Ending::RolledBack },
        Event::RollbackStarted { reason: text(), evidence: vec![], by: Some(text()), ending: Ending::Aborted },
        Event::AbortedKeeping { by: text(), reason: text() },
        Event::RevertAsked { device: device.clone(), under: None },
        Event::Reverted { device: device.clone() },
        Event::Superseded { device: device.clone(), by: None },
        Event::RolledBack { pending: vec![device.clone()], left_alone: 0 },
        Event::Completed { pending: vec![device.clone()] },
        Event::ApprovalAsked { wave: 1, of: Some(text()), because: Some(text()) },
        Event::Looked { wave: 0, look: Box::new(a_look()) },
        Event::Measured { found: Box::new(a_measurement()) },
        Event::Watched { wave: 2, slice: 3, metrics: vec![a_watch()] },
        Event::ClockJumped { to: Timestamp::from_millis(1) },
        Event::Resumed { by: text(), accepted: vec![], unproven: true },
        Event::Shadowed { device: device.clone(), attempt: 1, previous: None, reachable: true },
        Event::ShadowPassed { wave: 0, evidence: vec![], in_turn: true },
        Event::SwapAsked { device: device.clone(), reachable: true },
        Event::InShadow { device },
    ]
}

/// A look of 12 devices in which the first six are worse.
pub(crate) fn a_look() -> Look {
    use crate::rollout::trial::design::{Facts, Pace};
    use crate::rollout::trial::{Design, Layout, Metric, Reading, Score, Settings, Standing, look};
    let layout = Layout::new(["x"; 12], &[6]);
    let second = std::time::Duration::from_secs(1);
    let absent = [Metric::Latency, Metric::Accuracy].map(|metric| (metric, "not here".to_owned()));
    let facts = Facts { comparable: true, lacking: absent.into_iter().collect(), ..Facts::default() };
    let pace = Pace { soak: second, max_dwell: None, history: second, all_by_choice: false };
    let design = Design::new(&Settings::default(), pace, &layout, 1, &facts);
    let errors = |place: u64| Score::Count { events: if place < 6 { 50 + place } else { place }, trials: 100 };
    let drift = |place: u64| Score::Value { value: place as f64 / 64.0, trials: 100 };
    let readings = [
        (Metric::Errors, (0..12).map(|place| Reading { now: errors(place), before: Some(0.0) }).collect()),
        (Metric::Drift, (0..12).map(|place| Reading { now: drift(place), before: None }).collect()),
    ];
    let at = look::At { wave: 0, look: 2 };
    look(&design, &layout, &Digest::of(b"seed"), &Standing::default(), at, &readings.into()).unwrap()
}

/// Three slices of a device that fails more than it did.
fn a_watch() -> PastLook {
    let (before, since, evidence, bound) = (0.0078125, 0.01953125, 7.5, 512.0);
    let metric = crate::rollout::trial::Metric::Errors;
    PastLook { metric, devices: 1, told: 0, groups: 1, above: 1, before, since, evidence, bound, harm: false }
}

/// Six devices against six, in which the first are worse.
fn a_measurement() -> Measured {
    use crate::rollout::trial::contrast::between;
    use crate::rollout::trial::{Metric, Reading, Score};
    let arm = |more: u64| -> Vec<Reading> {
        let reading = |place| Reading { now: Score::Count { events: place + more, trials: 100 }, before: Some(0.0) };
        (0..6).map(reading).collect()
    };
    let since = Timestamp::from_millis(1_700_000_000_000);
    Measured {
        since,
        until: since.plus(std::time::Duration::from_secs(86_400)),
        split: false,
        metrics: between(Metric::Errors, &arm(50), &arm(0)).into_iter().collect(),
        without_data: vec![Metric::Accuracy],
    }
}

/// Frozen: a controller of tomorrow reads the rollouts of today.
#[test]
fn the_disk_form_of_every_event_is_frozen() {
    let mut written = String::new();
    for (index, event) in every_event().into_iter().enumerate() {
        let record = Record { sequence: index as u64 + 1, at: Timestamp::from_millis(1_700_000_000_000), event };
        let bytes = record.encode().unwrap();
        assert_eq!(bytes.first(), Some(&1));
        assert_eq!(Record::decode(&bytes).unwrap(), record);
        written.push_str(std::str::from_utf8(&bytes[1..]).unwrap());
        written.push('\n');
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rollout/testdata/events-v1.jsonl");
    assert_eq!(written, std::fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
}

/// Rollouts that were stored before there was an experiment go on by their gates.
#[test]
fn events_of_older_controllers_are_read() {
    let older = include_str!("testdata/events-v1-before-looks.jsonl");
    for line in older.lines() {
        let record = Record::decode(&[&[1], line.as_bytes()].concat()).unwrap();
        if let Event::Created { design, spec, .. } = record.event {
            assert_eq!((design, spec.strategy.evidence), (None, crate::rollout::strategy::Demand::Gates));
        }
    }
    assert!(older.lines().count() > 20);
}

/// Looks that were stored before bounds and sequences had a level of their own were all held against 5 %.
#[test]
fn looks_before_levels_are_read() {
    let older = include_str!("testdata/events-v1-before-levels.jsonl");
    let records = older.lines().map(|line| Record::decode(&[&[1], line.as_bytes()].concat()).unwrap());
    let looks =
        records.filter_map(|record| if let Event::Looked { look, .. } = record.event { Some(look) } else { None });
    let levels: Vec<f64> = looks.flat_map(|look| look.metrics).map(|found| found.bound_level).collect();
    assert!(!levels.is_empty() && levels.iter().all(|level| *level == 0.05), "{levels:?}");
}

/// What was stored before a strategy could ask for a shadow.
#[test]
fn an_older_rollout_is_read_and_has_no_shadow() {
    let old = include_str!("testdata/created-before-shadows.json").trim_end();
    let record = Record::decode(&[&[1], old.as_bytes()].concat()).unwrap();
    let Event::Created { spec, .. } = &record.event else { panic!("{record:?}") };
    assert!(spec.strategy.shadow.is_zero());
}

#[test]
fn a_newer_form_is_refused_and_not_guessed_at() {
    assert!(matches!(Record::decode(&[2, b'{', b'}']), Err(EventError::Form { found: Some(2) })));
    assert!(matches!(Record::decode(&[]), Err(EventError::Form { found: None })));
}

#[test]
fn an_unknown_event_is_refused() {
    let json = br#"{"sequence":1,"at":"2026-01-01T00:00:00Z","event":{"kind":"exploded"}}"#;
    assert!(matches!(Record::decode(&[&[1], &json[..]].concat()), Err(EventError::Json(_))));
}
