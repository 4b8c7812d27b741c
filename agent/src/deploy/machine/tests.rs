use super::*;
use crate::deploy::effects::Failure;
use crate::deploy::event::Wish;
use crate::deploy::slot::Trouble;
use crate::deploy::testing::{assignment, release};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v2::{Mode, SplitBy};
use std::fmt::Write as _;

const NOW: Timestamp = Timestamp::from_millis(1_000);
const LATER: Timestamp = Timestamp::from_millis(2_000);

fn installed(n: u64) -> Option<Installed> {
    Some(assignment("m", n, 1).into())
}

/// Release 1 is previous, 2 is live, 3 is the candidate; in probation, 3 is live and 2 previous.
fn slot(state: State) -> Slot {
    let (live, previous) = match &state {
        State::Probation { .. } | State::Reverting { .. } => (installed(3), installed(2)),
        State::Restoring { then, .. } if matches!(**then, State::Probation { .. }) => (installed(3), installed(2)),
        _ => (installed(2), installed(1)),
    };
    Slot { live, previous, state, swaps: 1, transitions: 0, stopped: false }
}

fn shadow() -> Mode {
    Mode::Shadow { portion: 1_000 }
}

fn split() -> Mode {
    Mode::Split { portion: 5_000, by: SplitBy::Request }
}

fn trouble() -> Trouble {
    Trouble { kind: FailureKind::Fetch, detail: "no network".into() }
}

fn states() -> Vec<(&'static str, Slot)> {
    let candidate = || assignment("m", 3, 1);
    let probation = |deaths| State::Probation { probation_s: 10, elapsed_ms: 0, deaths };
    let beside = |deaths| State::Beside { candidate: candidate(), tries: 0, deaths, mode: shadow() };
    let restoring = |deaths, then| State::Restoring { deaths, tries: 0, then: Box::new(then) };
    vec![
        ("empty", Slot { stopped: false, ..Slot::default() }),
        ("idle", slot(State::Idle)),
        ("fetching", slot(State::Fetching { candidate: candidate(), tries: 0, trouble: None })),
        ("blocked", slot(State::Blocked { candidate: candidate(), tries: 1, trouble: trouble() })),
        ("verifying", slot(State::Verifying { candidate: candidate(), tries: 0 })),
        ("self-testing", slot(State::SelfTesting { candidate: candidate(), tries: 0, deaths: 0 })),
        ("self-testing+1", slot(State::SelfTesting { candidate: candidate(), tries: 0, deaths: 1 })),
        ("swapping", slot(State::Swapping { candidate: candidate(), tries: 0, deaths: 0 })),
        ("swapping+1", slot(State::Swapping { candidate: candidate(), tries: 0, deaths: 1 })),
        ("shadowing", slot(beside(0))),
        ("shadowing+1", slot(beside(1))),
        ("probation", slot(probation(0))),
        ("probation+1", slot(probation(1))),
        ("probation first", Slot { previous: None, ..slot(probation(1)) }),
        ("reverting", slot(State::Reverting { must_leave: false, tries: 0, deaths: 0 })),
        ("reverting last", slot(State::Reverting { must_leave: false, tries: 2, deaths: 2 })),
        ("reverting must", slot(State::Reverting { must_leave: true, tries: 2, deaths: 2 })),
        ("removing", slot(State::Removing)),
        ("watched", slot(State::Watched { deaths: 1 })),
        ("watched+3", slot(State::Watched { deaths: 3 })),
        ("watched only", Slot { previous: None, ..slot(State::Watched { deaths: 3 }) }),
        ("restoring idle", slot(restoring(0, State::Idle))),
        ("restoring idle+2", slot(restoring(2, State::Idle))),
        ("restoring only", Slot { previous: None, ..slot(restoring(2, State::Idle)) }),
        ("restoring fetch", slot(restoring(0, State::Fetching { candidate: candidate(), tries: 0, trouble: None }))),
        ("restoring shadow", slot(restoring(0, beside(0)))),
        ("restoring prob", slot(restoring(0, probation(0)))),
    ]
}

/// An event, and what is true when it comes: by default release 3 is wanted, fresh, and nothing is held.
struct Case {
    name: &'static str,
    event: Event,
    wanted: Option<u64>,
    beside: Option<Mode>,
    attempt: u32,
    held: bool,
    expired: bool,
    known: bool,
    stopped: bool,
    revoked: Option<u64>,
}

fn case(name: &'static str, event: Event) -> Case {
    Case {
        name,
        event,
        wanted: Some(3),
        beside: None,
        attempt: 1,
        held: false,
        expired: false,
        known: true,
        stopped: false,
        revoked: None,
    }
}

fn cases() -> Vec<Case> {
    use Event::*;
    let changed = |name| case(name, Changed);
    let harm = Harm { kind: FailureKind::Errors, detail: "9 of 9".into() };
    vec![
        case("agent died", Started),
        Case { stopped: true, ..case("agent stopped", Started) },
        Case { revoked: Some(2), ..case("died, 2 revoked", Started) },
        case("stop", Stopped { elapsed_ms: 4_000 }),
        changed("3 wanted"),
        Case { attempt: 2, ..changed("3 wanted again") },
        Case { wanted: Some(4), ..changed("4 wanted") },
        Case { wanted: Some(2), ..changed("2 wanted") },
        Case { wanted: Some(1), ..changed("1 wanted") },
        Case { wanted: None, ..changed("none wanted") },
        Case { held: true, ..changed("held") },
        Case { held: true, wanted: None, ..changed("held, none wanted") },
        Case { expired: true, ..changed("expired") },
        Case { known: false, ..changed("nothing desired yet") },
        Case { revoked: Some(1), ..changed("1 revoked") },
        Case { revoked: Some(2), ..changed("2 revoked") },
        Case { revoked: Some(3), ..changed("3 revoked") },
        case("fetched", Fetched),
        case("verified", Verified),
        case("tested", Tested),
        Case { expired: true, ..case("tested, expired", Tested) },
        Case { beside: Some(shadow()), ..case("tested, shadow", Tested) },
        Case { beside: Some(shadow()), ..changed("3 in shadow") },
        Case { beside: Some(split()), ..changed("3 in a split") },
        Case { beside: Some(shadow()), ..case("shadow, looked", Checked { elapsed_ms: 1, harm: None }) },
        Case { beside: Some(shadow()), ..case("shadow, died", Started) },
        case("beside", Beside),
        case("swapped", Swapped),
        Case { wanted: Some(2), ..case("swapped, 2 wanted", Swapped) },
        case("removed", Removed),
        Case { wanted: None, ..case("removed, none wanted", Removed) },
        case("failed", Failed(Failure::of_release(FailureKind::Load, "broken"))),
        case("failed, retry", Failed(Failure::blocked(FailureKind::Disk, "full"))),
        case("retry due", RetryDue),
        Case { expired: true, ..case("retry due, expired", RetryDue) },
        case("looked: early", Checked { elapsed_ms: 9_999, harm: None }),
        case("looked: time is up", Checked { elapsed_ms: 10_000, harm: None }),
        case("looked: late", Checked { elapsed_ms: WATCH_MS, harm: None }),
        case("looked: harm", Checked { elapsed_ms: 10_000, harm: Some(harm) }),
        case("local rollback", LocalRollback),
    ]
}

fn run(slot: Slot, case: &Case) -> Step {
    let wanted = case.wanted.map(|n| assignment("m", n, case.attempt));
    let wish = Wish {
        expires: if case.expired { Timestamp::EPOCH } else { LATER },
        assignment: wanted.as_ref(),
        beside: case.beside.as_ref(),
    };
    let revoked: Vec<_> = case.revoked.iter().map(|n| release("m", *n).manifest).collect();
    let context =
        Context { now: NOW, held: case.held, wish: case.known.then_some(wish), quarantine: &[], revoked: &revoked };
    let slot = Slot { stopped: case.stopped, ..slot };
    step(slot, case.event.clone(), &context)
}

fn number(installed: Option<&Installed>) -> String {
    installed.map_or("-".into(), |i| i.release.version.major.to_string())
}

fn show_state(state: &State) -> String {
    let plus = |deaths: u32| if deaths > 0 { format!("+{deaths}") } else { String::new() };
    let of = |candidate: &Assignment| {
        let again = if candidate.attempt > 1 { "'" } else { "" };
        format!(" {}{again}", candidate.release.version.major)
    };
    let details = match state {
        State::Idle | State::Removing => String::new(),
        State::Watched { deaths } => plus(*deaths),
        State::Fetching { candidate, tries, .. } | State::Blocked { candidate, tries, .. } => {
            format!("{}{}", of(candidate), if *tries > 0 { format!(" try {tries}") } else { String::new() })
        }
        State::Verifying { candidate, .. } => of(candidate),
        State::SelfTesting { candidate, deaths, .. }
        | State::Swapping { candidate, deaths, .. }
        | State::Beside { candidate, deaths, .. } => {
            format!("{}{}", plus(*deaths), of(candidate))
        }
        State::Probation { deaths, elapsed_ms, .. } => {
            format!("{}{}", plus(*deaths), if *elapsed_ms > 0 { " so far" } else { "" })
        }
        State::Reverting { deaths, tries, must_leave } => format!(
            "{}{}{}",
            plus(*deaths),
            if *tries > 0 { format!(" try {tries}") } else { String::new() },
            if *must_leave { " must" } else { "" }
        ),
        State::Restoring { deaths, tries, then } => {
            let tries = if *tries > 0 { format!(" try {tries}") } else { String::new() };
            format!("{}{tries} ({})", plus(*deaths), show_state(then))
        }
    };
    format!("{}{details}", state.name())
}

/// `state live/previous [!failed kind] [> job]`; `.` when nothing changes and nothing is asked for.
fn show(before: &Slot, step: &Step) -> String {
    if step.slot == *before && step.effects.is_empty() && step.failed.is_empty() {
        return ".".into();
    }
    let mut text = show_state(&step.slot.state);
    let (live, previous) = (number(step.slot.live.as_ref()), number(step.slot.previous.as_ref()));
    write!(text, " {live}/{previous}").unwrap();
    for failed in &step.failed {
        write!(text, " !{} {:?}", failed.release.version.major, failed.kind).unwrap();
    }
    for effect in &step.effects {
        match effect {
            Effect::Collect => text.push_str(" > collect"),
            Effect::Halt => text.push_str(" > halt"),
            Effect::Alone => text.push_str(" > alone"),
            Effect::Begin(Job::Beside(a, mode)) => {
                let what = if matches!(mode, Mode::Shadow { .. }) { "shadow" } else { "split" };
                write!(text, " > {what} {}", a.release.version.major).unwrap();
            }
            Effect::Begin(Job::Fetch(a)) => write!(text, " > fetch {}", a.release.version.major).unwrap(),
            Effect::Begin(Job::Verify(a)) => write!(text, " > verify {}", a.release.version.major).unwrap(),
            Effect::Begin(Job::SelfTest(a)) => write!(text, " > test {}", a.release.version.major).unwrap(),
            Effect::Begin(Job::Swap { release, .. }) => write!(text, " > swap {}", release.version.major).unwrap(),
            Effect::Begin(Job::Remove) => text.push_str(" > remove"),
            Effect::Begin(Job::Wait { .. }) => text.push_str(" > wait"),
            Effect::Begin(Job::Watch) => text.push_str(" > watch"),
        }
    }
    text
}

fn table() -> String {
    let mut text = String::new();
    for (name, slot) in states() {
        writeln!(text, "## {name}: {}/{}", number(slot.live.as_ref()), number(slot.previous.as_ref())).unwrap();
        for case in cases() {
            let before = Slot { stopped: case.stopped, ..slot.clone() };
            writeln!(text, "{:<20} {}", case.name, show(&before, &run(slot.clone(), &case))).unwrap();
        }
        text.push('\n');
    }
    text
}

/// Every state x every event. The table was read line by line when it was agreed; its head tells how to read it.
#[test]
fn the_whole_table_is_as_it_was_agreed() {
    let (_head, agreed) = include_str!("table.txt").split_once("\n\n").unwrap();
    let found = table();
    let mut title = "";
    for (found, agreed) in found.lines().zip(agreed.lines()) {
        title = if found.starts_with('#') { found } else { title };
        assert_eq!(found, agreed, "{title}");
    }
    assert_eq!(found.lines().count(), agreed.lines().count(), "{found}");
}

/// What a start after a death makes of a slot.
fn died(slot: Slot) -> Step {
    run(slot, &Case { wanted: Some(2), ..case("died", Event::Started) })
}

#[test]
fn a_crash_loop_after_probation_ends_on_previous() {
    let mut now = slot(State::Idle);
    for death in 1..MAX_WATCHED_DEATHS {
        let step = died(now);
        assert!(step.failed.is_empty(), "death {death}");
        let watched = State::Watched { deaths: death };
        assert_eq!(step.slot.state, State::Restoring { deaths: 0, tries: 0, then: Box::new(watched.clone()) });
        now = Slot { state: watched, ..step.slot };
    }
    let step = died(now);
    assert_eq!((step.failed[0].kind, step.failed[0].release.clone()), (FailureKind::Crash, release("m", 2)));
    assert!(matches!(step.slot.state, State::Reverting { must_leave: true, .. }));
}

#[test]
fn deaths_without_anything_to_go_back_to_are_not_counted() {
    let step = died(Slot { previous: None, ..slot(State::Watched { deaths: 3 }) });
    assert_eq!((step.failed, step.slot.live), (vec![], installed(2)));
}

#[test]
fn the_failure_of_the_only_release_says_that_nothing_is_left() {
    let harm = Harm { kind: FailureKind::Errors, detail: "9 of 9".into() };
    let only = Slot { previous: None, ..slot(State::Probation { probation_s: 10, elapsed_ms: 0, deaths: 0 }) };
    let step = run(only, &case("harm", Event::Checked { elapsed_ms: 1, harm: Some(harm) }));
    let detail = &step.failed[0].detail;
    assert!(detail.starts_with("9 of 9; there was no earlier release"), "{detail}");
    assert_eq!(step.slot.state, State::Removing);
}
