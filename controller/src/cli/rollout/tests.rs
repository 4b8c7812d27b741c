use super::start::request;
use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;
use std::time::Duration;

fn parse(line: &str) -> StartArgs {
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    match cli.command {
        Command::Rollout(RolloutArgs { command: RolloutCommand::Start(args) }) => *args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_win_over_the_strategy_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("careful.toml");
    let text = "release = \"digits@1.0.0\"\nsoak = \"1h\"\nretries = 5\nwaves = [1, \"100%\"]\n";
    fieldpost_shared::durable::write_atomic(dir.path(), "careful.toml", text.as_bytes()).unwrap();
    let args = parse(&format!("fieldpost rollout start digits@1.1.0 --soak 30s --strategy {}", path.display()));
    let request = request(&args).unwrap();
    assert_eq!((request.model.as_str(), request.version.to_string().as_str()), ("digits", "1.1.0"));
    assert_eq!((request.strategy.soak, request.strategy.retries), (Some(Duration::from_secs(30)), Some(5)));
}

#[test]
fn naming_one_limit_keeps_the_file_s_others() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[limits]\ncrashes = 0\nfactor = 5.0\nmax_psi = 9.0\n";
    let path = dir.path().join("s.toml");
    fieldpost_shared::durable::write_atomic(dir.path(), "s.toml", text.as_bytes()).unwrap();
    let args = parse(&format!("fieldpost rollout start a@1.0.0 --max-psi 0.5 --strategy {}", path.display()));
    let limits = request(&args).unwrap().strategy.limits.unwrap();
    assert_eq!((limits.max_psi, limits.crashes, limits.factor), (Some(0.5), Some(0), 5.0));
}

#[test]
fn every_flag_reaches_the_strategy() {
    let args = parse(
        "fieldpost rollout start m@1.0.0 --selector a=b --waves 1,2 --holdout 5% --holdout-then keep --soak 1s \
         --max-dwell 2s --warm-up 3s --probation 4s --device-timeout 5s --wave-timeout 6s --silence-after 7s \
         --max-concurrent 8 --per site:1 --approve-before 1,2 --max-failed 9 --max-offline 10% --min-requests 11 \
         --min-traffic 12% --evidence requests --retries 13 --retry-after 14s --on-failure pause \
         --shadow 18s --shadow-portion 19% --shadow-waves 1 --shadow-pairs 20 --max-error-rate 0.15 --max-p95-ms 16 --max-psi 0.17 --note n \
         --not-before 2026-11-30T01:00:00+01:00 \
         --until 2026-12-30T00:00:00Z --maintenance 22:00-04:00 --timezone europe/paris --priority -3 --many-at-a-time \
         --requires detector>=2.1 --max-unfit 18%",
    );
    let file = serde_json::to_value(request(&args).unwrap().strategy).unwrap();
    let expected = serde_json::json!({
        "selector": "a=b", "note": "n", "max_dwell": "2s", "probation": "4s", "waves": ["1", "2"], "holdout": "5%",
        "holdout_then": "keep", "soak": "1s", "shadow": "18s", "shadow_portion": "19%", "shadow_waves": 1, "shadow_pairs": 20, "warm_up": "3s", "device_timeout": "5s", "wave_timeout": "6s",
        "silence_after": "7s", "max_concurrent": 8, "per": ["site:1"], "approve_before": [1, 2], "max_failed": "9",
        "max_offline": "10%", "min_requests": 11, "min_traffic": "12%", "evidence": "requests", "retries": 13,
        "retry_after": "14s", "on_failure": "pause", "not_before": "2026-11-30T00:00:00.000Z",
        "until": "2026-12-30T00:00:00.000Z", "maintenance": ["22:00-04:00"], "timezone": "Europe/Paris", "priority": -3,
        "one_at_a_time": false, "requires": ["detector>=2.1"], "max_unfit": "18%",
        "limits": {"error_rate": 0.15, "p95_latency_ms": 16.0, "max_psi": 0.17, "factor": 3.0, "alpha": 0.001},
    });
    assert_eq!(file, expected);
}

#[test]
fn a_release_is_a_name_and_a_version() {
    for text in ["digits", "digits@", "@1.0.0", "digits@1", "Digits@1.0.0", "a@b@1.0.0"] {
        let failure = flags::release(text).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage, "{text}");
    }
}

#[test]
fn a_start_without_a_release_says_how_to_name_one() {
    let failure = request(&parse("fieldpost rollout start --soak 30s")).unwrap_err();
    assert!(failure.to_string().contains("MODEL@VERSION"));
}

#[test]
fn a_strategy_that_cannot_be_read_is_named() {
    let failure = request(&parse("fieldpost rollout start a@1.0.0 --strategy /nowhere/x.toml")).unwrap_err();
    assert!(failure.to_string().contains("/nowhere/x.toml"));
    assert_eq!(failure.exit(), Exit::Usage);
}

#[test]
fn an_abort_says_what_becomes_of_the_devices() {
    let parses = |line: &str| Cli::try_parse_from(line.split_whitespace()).is_ok();
    assert!(parses("fieldpost rollout abort r-1 --keep"));
    assert!(parses("fieldpost rollout abort r-1 --revert"));
    assert!(!parses("fieldpost rollout abort r-1"));
    assert!(!parses("fieldpost rollout abort r-1 --keep --revert"));
}

#[test]
fn states_stand_for_documented_exit_codes() {
    let code = |state| follow::exit_of(state).code();
    assert_eq!([code("completed"), code("rolled-back"), code("aborted-reverted")], [0, 3, 3]);
    assert_eq!([code("paused"), code("aborted-kept"), code("soaking")], [4, 4, 4]);
}

mod text {
    use super::super::show;
    use crate::rollout::tests::{Behaviour, Rig};
    use fieldpost_shared::id::RolloutId;

    fn harmful() -> (Rig, RolloutId) {
        let mut rig = Rig::new(4);
        rig.release("1.2.0", Behaviour::OneClass);
        let id = rig.start("1.2.0", "1,4");
        rig.until(&id, "rolled-back");
        (rig, id)
    }

    #[test]
    fn a_harmful_release_reads_so_in_explain() {
        let (rig, id) = harmful();
        insta::assert_snapshot!(super::super::explain::explanation(&rig.core.explain(&id).unwrap(), false, None));
    }

    #[test]
    fn an_explanation_keeps_to_the_width_of_a_terminal() {
        let (rig, id) = harmful();
        let told = super::super::explain::explanation(&rig.core.explain(&id).unwrap(), false, Some(80));
        assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
        insta::assert_snapshot!(told);
    }

    #[test]
    fn the_newest_first_is_the_same_story_backwards() {
        use crate::rollout::core::EventsFrom;
        let (rig, id) = harmful();
        let mut newest = rig.core.explain_page(&id, EventsFrom::Newest, 5).unwrap();
        newest.events.reverse();
        let told = super::super::explain::explanation(&newest, true, Some(80));
        insta::assert_snapshot!(told);
    }

    #[test]
    fn every_kind_of_event_has_a_sentence() {
        use crate::rollout::events::Record;
        use crate::rollout::events::tests::every_event;
        use fieldpost_shared::time::Timestamp;
        for event in every_event() {
            let told = crate::rollout::explain::tell(&Record { sequence: 1, at: Timestamp::EPOCH, event });
            let line = super::super::explain::told(&told);
            assert!(told.sentence.len() > 8 && told.sentence.ends_with('.'), "{told:?}");
            assert!(line.starts_with("00:00:00  ") && line.contains(&told.sentence), "{line}");
        }
    }

    #[test]
    fn text_of_a_device_cannot_steer_the_terminal() {
        use crate::rollout::events::{Event, Failure, Record, Setback};
        use fieldpost_shared::time::Timestamp;
        let failure = Failure { setback: Setback::TimedOut, detail: "\u{1b}[2Jgone".into(), attempt: 1 };
        let event = Event::Failed { device: "box-1".parse().unwrap(), failure, retry_at: None };
        let record = Record { sequence: 1, at: Timestamp::EPOCH, event };
        let told = super::super::explain::told(&crate::rollout::explain::tell(&record));
        assert!(told.contains("[2Jgone") && !told.contains('\u{1b}'), "{told:?}");
    }

    #[test]
    fn a_running_rollout_reads_so_in_show_and_list() {
        let mut rig = Rig::new(4);
        rig.fleet.edit("box-1", |device| device.traffic = 0);
        let id = rig.start("1.1.0", "2,4");
        rig.run(8);
        let now = fieldpost_shared::time::Clock::now(rig.clock.as_ref());
        let text = [show::detail(&rig.core.detail(&id, usize::MAX).unwrap(), now), show::list(&rig.core.list(), now)]
            .join("\n\n---\n");
        insta::assert_snapshot!(text);
    }
}
