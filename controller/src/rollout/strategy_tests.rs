use super::*;

fn file(text: &str) -> StrategyFile {
    toml::from_str(text).unwrap()
}

fn refused(text: &str) -> String {
    Strategy::resolve(&file(text)).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_default_strategy() {
    let strategy = Strategy::resolve(&file("")).unwrap();
    assert_eq!(strategy, Strategy::default());
    assert_eq!((strategy.waves.to_string().as_str(), strategy.soak), ("10%,50%,100%", Duration::from_secs(600)));
}

#[test]
fn a_file_says_everything_that_flags_say() {
    let strategy = Strategy::resolve(&file(
        r#"
        release = "digits@1.1.0"
        selector = "site=lyon"
        waves = [1, "50%", "all"]
        soak = "30s"
        max_concurrent = 2
        per = ["site:1"]
        approve_before = [2]
        on_failure = "pause"
        [limits]
        max_psi = 0.4
        crashes = 0
        "#,
    ))
    .unwrap();
    assert_eq!(strategy.per, [PerLabel { label: "site".into(), max: 1 }]);
    assert_eq!((strategy.limits.max_psi, strategy.limits.crashes, strategy.limits.factor), (Some(0.4), Some(0), 3.0));
    assert_eq!(strategy.probation, Duration::from_secs(30), "probation is no longer than the soak");
}

#[test]
fn an_hourly_window_can_arrive_before_a_short_soak_gives_up() {
    assert!(Strategy::resolve(&file("soak = \"10s\"")).unwrap().max_dwell > Duration::from_secs(3_600));
}

#[test]
fn an_unknown_field_is_refused_by_its_name() {
    let error = toml::from_str::<StrategyFile>("schedule = \"22:00\"").unwrap_err().to_string();
    assert!(error.contains("schedule"), "{error}");
}

#[test]
fn values_out_of_range_are_refused_by_the_field_s_name() {
    for (text, field) in [
        ("soak = \"91d\"", "soak"),
        ("silence_after = \"0\"", "silence_after"),
        ("waves = \"1,4\"\napprove_before = [3]", "approve_before"),
        ("approve_before = [0]", "approve_before"),
        ("waves = \"1,4\"\nshadow_waves = 3", "shadow_waves"),
        ("approve_before = [\"4:admin\"]", "approve_before"),
        ("not_before = \"2026-01-02T00:00:00Z\"\nuntil = \"2026-01-01T00:00:00Z\"", "until"),
        ("[limits]\nalpha = 0.9", "limits.alpha"),
        ("[limits]\nfactor = 0.5", "limits.factor"),
        ("[limits]\nmax_psi = -1.0", "limits.max_psi"),
        ("[limits]\nerror_rate = nan", "limits.error_rate"),
        ("[trial]\nmargin = 1.0", "trial.margin"),
        ("[trial]\nalpha = 0.0", "trial.alpha"),
        ("[trial]\npermutations = 100", "trial.permutations"),
        ("[trial.shares]\nerrors = 0.9", "trial.shares"),
    ] {
        assert!(refused(text).contains(field), "{text}");
    }
}

#[test]
fn the_experiment_is_the_default_and_its_table_is_read() {
    let strategy = Strategy::resolve(&file(
        "small_fleet = \"limits\"\n[trial]\nlook_every = \"5m\"\nmargin = 2.0\nacceptable.errors = 0.02",
    ))
    .unwrap();
    assert_eq!((strategy.evidence, strategy.small_fleet), (Demand::Trial, SmallFleet::Limits));
    assert_eq!((strategy.trial.look_every, strategy.trial.margin), (Some(Duration::from_secs(300)), 2.0));
    assert_eq!((strategy.trial.acceptable.errors, strategy.trial.alpha), (Some(0.02), 0.05));
    assert!(toml::from_str::<StrategyFile>("[trial]\nalhpa = 0.1").unwrap_err().to_string().contains("alhpa"));
}

#[test]
fn a_flag_wins_over_the_file() {
    let merged = file("soak = \"1h\"\nretries = 5").overridden_by(file("soak = \"30s\""));
    assert_eq!((merged.soak, merged.retries), (Some(Duration::from_secs(30)), Some(5)));
}

#[test]
fn a_strategy_survives_the_event_log_and_older_ones_are_read() {
    let strategy = Strategy::resolve(&file("waves = \"1,4,12\"\nper = [\"site:1\"]")).unwrap();
    let json = serde_json::to_string(&strategy).unwrap();
    assert_eq!(serde_json::from_str::<Strategy>(&json).unwrap(), strategy);
    assert_eq!(serde_json::from_str::<Strategy>("{}").unwrap(), Strategy::default());
}

#[test]
fn attempts_are_ever_further_apart() {
    let strategy = Strategy::default();
    let delays = [1, 2, 3, 200].map(|tries| strategy.retry_delay(tries).as_secs());
    assert_eq!(delays, [10, 20, 40, 90 * 86_400]);
}

#[test]
fn a_label_budget_is_a_label_and_a_count() {
    assert_eq!("site:1".parse(), Ok(PerLabel { label: "site".into(), max: 1 }));
    for text in ["site", "site:", "site:0", ":1", "site:x"] {
        assert!(text.parse::<PerLabel>().is_err(), "{text}");
    }
}

#[test]
fn a_strategy_says_the_same_as_the_file_that_is_made_of_it() {
    let strategy = Strategy::resolve(&file(
        "waves = [\"site=a\", \"rest\"]\nmaintenance = [\"22:00-04:00\"]\ntimezone = \"Europe/Paris\"\nsoak = \"3s\"\n\
         until = \"2026-01-01T00:00:00Z\"\nrequires = [\"a>=1\"]\n[limits]\ncrashes = 3",
    ))
    .unwrap();
    let again = StrategyFile::from(&strategy);
    assert_eq!(Strategy::resolve(&again).unwrap(), strategy);
    let json = serde_json::to_string(&strategy).unwrap();
    assert_eq!(serde_json::from_str::<Strategy>(&json).unwrap(), strategy);
}

#[test]
fn what_cannot_be_read_is_refused_with_what_may_be_meant() {
    for (text, hint) in [
        ("timezone = \"Paris\"", "Europe/Paris"),
        ("maintenance = [\"nightly\"]", "Mon-Fri 01:00-05:00"),
        ("requires = [\"detector\"]", "detector>=2.1"),
        ("approve_before = [\"2:boss\"]", "2:admin"),
    ] {
        let error = toml::from_str::<StrategyFile>(text).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
}

/// The reference for people: its example can be used, and no field is missing from it.
#[test]
fn the_reference_knows_every_field() {
    let page = include_str!("../../../docs/strategy.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (example, tables) = rest.split_once("```\n").unwrap();
    let example: StrategyFile = toml::from_str(example).unwrap();
    Strategy::resolve(&example).unwrap();
    let whole = StrategyFile {
        release: Some("a@1.0.0".into()),
        selector: Some("*".into()),
        note: Some("x".into()),
        max_dwell: Some(Duration::from_secs(1)),
        not_before: Some(Some(Timestamp::EPOCH)),
        until: Some(Some(Timestamp::EPOCH)),
        ..StrategyFile::from(&Strategy::default())
    };
    let fields = serde_json::to_value(whole).unwrap();
    for field in fields.as_object().unwrap().keys() {
        assert!(tables.contains(&format!("| `{field}` |")), "no line about `{field}`");
    }
    for table in ["trial", "limits", "ab"] {
        for field in fields[table].as_object().unwrap().keys() {
            assert!(tables.contains(&format!("`{field}`")), "nothing about `{table}.{field}`");
        }
    }
}
