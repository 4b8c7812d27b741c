use super::super::model::{Action, Ask, Link};
use super::*;
use crate::rollout::machine::Command;
use crate::rollout::tests::{Behaviour, Rig, quick};
use crate::rollout::view::Standing;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::time::Clock as _;
use fieldpost_shared::wire::v1::{FailureKind, Quarantined};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use std::time::Duration;

const NARROW: (u16, u16) = (80, 24);
const WIDE: (u16, u16) = (120, 40);

fn model(rig: &Rig, id: &RolloutId, size: (u16, u16)) -> Model {
    let detail = rig.core.detail(id, usize::MAX).unwrap();
    let mut model = Model::new(detail, rig.clock.now(), size, true);
    model.happened(rig.core.explain(id).unwrap().events);
    model
}

fn picture(model: &Model) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(model.size.0, model.size.1)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    terminal
}

fn text(model: &Model) -> String {
    picture(model).backend().to_string()
}

fn press(model: &mut Model, code: KeyCode) -> Option<Action> {
    model.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_in(model: &mut Model, keys: &str) -> Option<Action> {
    keys.chars().fold(None, |_, c| press(model, KeyCode::Char(c)))
}

/// Twelve devices: in the second wave one refuses the release, one falls silent with it, and one is away.
fn troubled() -> (Rig, RolloutId) {
    let mut rig = Rig::new(12);
    let mut strategy = quick("2,8,12");
    strategy.retries = Some(0);
    strategy.device_timeout = Some(Duration::from_secs(60));
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "soaking");
    let (fails, silent, away) = (rig.nth(&id, 3), rig.nth(&id, 4), rig.nth(&id, 5));
    rig.fleet.edit(&away, |device| device.online = false);
    let standing = |rig: &Rig, name: &str| Standing::of(&rig.state(&id).members[&name.parse().unwrap()]);
    while standing(&rig, &fails) != Standing::Changing {
        rig.second();
    }
    let release = rig.state(&id).spec.release.clone();
    let detail = "golden sample 3 differs by 0.25, more than 0.001".to_owned();
    let failure =
        Quarantined { release, attempt: 1, rollout: None, kind: FailureKind::SelfTest, detail, at: rig.clock.now() };
    rig.fleet.edit(&fails, |device| device.quarantine.push(failure));
    rig.second();
    rig.fleet.edit(&silent, |device| device.online = false);
    while standing(&rig, &silent) != Standing::Silent {
        rig.second();
    }
    assert_eq!((standing(&rig, &fails), standing(&rig, &away)), (Standing::Failed, Standing::Away));
    (rig, id)
}

/// A rollout in each stage that a person can meet.
fn stages() -> Vec<(&'static str, Rig, RolloutId)> {
    let in_stage = |stage: &'static str, approve: &str, bad: bool| {
        let mut rig = Rig::new(12);
        rig.release("1.2.0", Behaviour::OneClass);
        let mut strategy = quick("2,6,12");
        strategy.approve_before = (!approve.is_empty()).then(|| vec![approve.parse().unwrap()]);
        let id = rig.start_with(if bad { "1.2.0" } else { "1.1.0" }, strategy);
        rig.until(&id, stage);
        (stage, rig, id)
    };
    let mut all = vec![
        in_stage("draft", "", false),
        in_stage("deploying", "", false),
        in_stage("soaking", "", false),
        in_stage("awaiting-approval", "2", false),
        in_stage("rolling-back", "", true),
        in_stage("rolled-back", "", true),
        in_stage("completed", "", false),
    ];
    let (_, mut rig, id) = in_stage("soaking", "", false);
    rig.command(&id, &Command::Pause { reason: "lunch".into() });
    all.push(("paused", rig, id));
    let (rig, id) = troubled();
    all.push(("troubled", rig, id));
    all
}

#[test]
fn every_stage_has_its_picture() {
    for (stage, rig, id) in stages() {
        for (name, size) in [("narrow", NARROW), ("wide", WIDE)] {
            insta::assert_snapshot!(format!("{stage}_{name}"), text(&model(&rig, &id, size)));
        }
    }
}

#[test]
fn each_panel_of_a_narrow_terminal_is_a_key_away() {
    let (rig, id) = troubled();
    let mut model = model(&rig, &id, NARROW);
    for name in ["devices", "gates", "metrics", "events"] {
        insta::assert_snapshot!(format!("panel_{name}"), text(&model));
        press(&mut model, KeyCode::Tab);
    }
    assert_eq!(model.panel, Panel::Devices, "the last leads to the first");
    press(&mut model, KeyCode::BackTab);
    assert_eq!(model.panel, Panel::Events);
    type_in(&mut model, "?");
    insta::assert_snapshot!("help", text(&model));
}

#[test]
fn both_arms_of_each_metric_are_seen_look_by_look() {
    for (name, size) in [("narrow", NARROW), ("wide", WIDE)] {
        let (_, rig, id) = stages().remove(2);
        let mut model = model(&rig, &id, size);
        model.series = crate::rollout::plot::tests::picture().series;
        model.panel = Panel::Metrics;
        insta::assert_snapshot!(format!("metrics_{name}"), text(&model));
    }
}

#[test]
fn devices_are_found_by_state_and_by_text() {
    let (rig, id) = troubled();
    let mut model = model(&rig, &id, NARROW);
    let mut met = Vec::new();
    loop {
        type_in(&mut model, "f");
        let Some(filter) = model.filter else { break };
        assert!(!model.shown().is_empty(), "{filter}");
        assert!(model.shown().iter().all(|view| Standing::of(&view.member) == filter));
        met.push(filter);
    }
    assert!(met.contains(&Standing::Failed) && met.contains(&Standing::Waiting), "{met:?}");
    type_in(&mut model, "/box-11");
    assert!(text(&model).contains("search: box-11_"));
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.shown().len(), 1);
    press(&mut model, KeyCode::Esc);
    assert_eq!(model.shown().len(), 12);
    type_in(&mut model, "/no such box");
    assert!(text(&model).contains("no device is like that"));
    // What is typed is text, never a command.
    assert_eq!(type_in(&mut model, "qpb"), None);
}

#[test]
fn nothing_is_done_that_was_not_confirmed() {
    let (_, rig, id) = stages().remove(2);
    let mut model = model(&rig, &id, NARROW);
    for (keys, expected) in [
        ("p", None),
        ("pn", None),
        ("py", Some(Action::Do(Ask::Pause))),
        ("bx", None),
        ("by", Some(Action::Do(Ask::Rollback))),
        ("ry", None),
        ("ay", None),
        ("q", Some(Action::Leave)),
    ] {
        model.mode = Mode::Look;
        assert_eq!(type_in(&mut model, keys), expected, "{keys}");
    }
    type_in(&mut model, "p");
    assert!(text(&model).contains("y pauses, any other key does not"));
    press(&mut model, KeyCode::Enter);
    assert!(text(&model).contains("nothing was done"));
    type_in(&mut model, "a");
    assert!(text(&model).contains("it is soaking: there is nothing to approve"));
}

#[test]
fn a_paused_rollout_is_resumed_with_or_without_who_failed() {
    let (_, rig, id) = stages().into_iter().find(|(stage, ..)| *stage == "paused").unwrap();
    let mut model = model(&rig, &id, NARROW);
    assert_eq!(type_in(&mut model, "ry"), Some(Action::Do(Ask::Resume { accept: false })));
    assert_eq!(type_in(&mut model, "rs"), Some(Action::Do(Ask::Resume { accept: true })));
    assert_eq!(type_in(&mut model, "rr"), None);
}

#[test]
fn control_c_leaves_in_every_mode() {
    let (_, rig, id) = stages().remove(2);
    let mut model = model(&rig, &id, NARROW);
    for keys in ["", "/abc", "p", "?"] {
        model.mode = Mode::Look;
        type_in(&mut model, keys);
        let leave = model.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert_eq!(leave, Some(Action::Leave), "{keys}");
    }
}

#[test]
fn scrolling_ends_where_the_text_does() {
    let (rig, id) = troubled();
    for size in [NARROW, WIDE, (50, 12)] {
        let mut model = model(&rig, &id, size);
        for _ in Panel::ALL {
            press(&mut model, KeyCode::Tab);
            let first = text(&model);
            // The devices and gates begin at the top, the events at the end.
            let (on, back) = match model.panel {
                Panel::Events => (KeyCode::Home, KeyCode::End),
                _ => (KeyCode::End, KeyCode::Home),
            };
            for _ in 0..3 {
                press(&mut model, on);
            }
            let end = text(&model);
            let step = if model.panel == Panel::Events { KeyCode::Up } else { KeyCode::Down };
            press(&mut model, step);
            assert_eq!(text(&model), end, "{:?} goes on behind its end at {size:?}", model.panel);
            press(&mut model, back);
            assert_eq!(text(&model), first, "{:?} does not come back at {size:?}", model.panel);
        }
    }
}

#[test]
fn a_controller_that_is_away_is_said_so_and_forgotten_when_it_answers() {
    let (_, rig, id) = stages().remove(2);
    let mut model = model(&rig, &id, NARROW);
    model.away("no answer from http://127.0.0.1:7400".into());
    model.now = model.now.plus(Duration::from_secs(75));
    model.away("no answer from http://127.0.0.1:7400".into());
    assert!(text(&model).contains("! away for 1 min 15 s, trying again: no answer"), "{}", text(&model));
    let detail = rig.core.detail(&id, 0).unwrap();
    model.stands(detail);
    assert_eq!(model.link, Link::Up);
    assert!(!text(&model).contains("away for"));
}

#[test]
fn without_colours_there_is_none() {
    for (stage, rig, id) in stages() {
        let mut model = model(&rig, &id, WIDE);
        let colored = |model: &Model| {
            let terminal = picture(model);
            let cells = &terminal.backend().buffer().content;
            cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
        };
        assert!(colored(&model), "{stage}");
        model.color = false;
        assert!(!colored(&model), "{stage}");
    }
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let (rig, id) = troubled();
    for width in (1..140).step_by(7) {
        for height in (1..60).step_by(3) {
            let mut model = model(&rig, &id, (width, height));
            for _ in Panel::ALL {
                drop(text(&model));
                press(&mut model, KeyCode::Tab);
                press(&mut model, KeyCode::PageDown);
            }
            type_in(&mut model, "?");
            drop(text(&model));
        }
    }
    assert!(text(&model(&rig, &id, (40, 10))).contains("needs 50 x 12"));
}

#[test]
fn events_are_kept_in_order_once_and_within_bounds() {
    let (_, rig, id) = stages().remove(2);
    let mut model = model(&rig, &id, NARROW);
    let count = model.events.len();
    model.happened(rig.core.explain(&id).unwrap().events);
    assert_eq!(model.events.len(), count, "an event that is told twice is shown once");
    let template = model.events[0].clone();
    let more = (0..10_000).map(|i| crate::rollout::explain::Told { sequence: 1_000 + i, ..template.clone() });
    model.happened(more.collect());
    assert_eq!(model.events.len(), super::super::model::KEPT_EVENTS);
    assert_eq!(model.events.back().unwrap().sequence, 10_999);
}
