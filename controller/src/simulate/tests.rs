//! What must hold of simulations, on the real engine.

use super::*;
use crate::rollout::strategy::Strategy;
use fieldpost_shared::time::Clock;
use replica::{End, Outcome, Replica};

/// A small fleet that says much in little time, and hard limits that one can read.
fn plan(strategy: &str) -> Plan {
    let text = format!(
        r#"[fleet]
           devices = 20
           requests_per_hour = 600.0
           error_rate = 0.02
           window = "10m"
           history = "2h"
           [trouble]
           fleet_outages = 0.0
           bursts = 0.0
           [strategy]
           waves = "2,10,100%"
           soak = "1h"
           max_dwell = "4h"
           evidence = "gates"
           {strategy}"#
    );
    Plan::read(&text).unwrap()
}

fn run_one(plan: &Plan, effect: &str, seed: u64) -> Outcome {
    let strategy = Strategy::resolve(&plan.strategy).unwrap();
    Replica::new(plan, &strategy, effect.parse().unwrap(), seed).unwrap().run().unwrap()
}

#[track_caller]
fn check(plan: &Plan, effect: &str, end: End) {
    for seed in 0..3 {
        let outcome = run_one(plan, effect, seed);
        assert_eq!(outcome.end, end, "{effect}, seed {seed}: {outcome:?}");
    }
}

#[test]
fn a_harmless_release_completes() {
    check(&plan(""), "harmless", End::Completed);
}

#[test]
fn releases_that_do_harm_are_taken_back() {
    for effect in ["errors x10", "crash 100%", "unloadable 100%", "silent 100%", "drift 90%"] {
        check(&plan(""), effect, End::RolledBack);
    }
    check(&plan("limits.p95_latency_ms = 60.0"), "slower x10", End::RolledBack);
}

#[test]
fn nothing_advances_where_there_is_no_traffic() {
    let mut silent = plan("");
    silent.fleet.requests_per_hour = 0.0;
    check(&silent, "harmless", End::Paused);
}

#[test]
fn devices_that_are_away_come_later_and_stop_nothing() {
    let mut away = plan("max_offline = \"100%\"\nmin_traffic = \"50%\"\nsilence_after = \"6h\"\nmax_failed = \"100%\"");
    (away.trouble.away, away.link.lost, away.link.late) = (0.2, 0.2, 0.2);
    check(&away, "harmless", End::Completed);
}

#[test]
fn a_controller_that_restarts_every_hour_ends_as_well() {
    let mut restless = plan("");
    restless.trouble.controller_restarts = 24.0;
    check(&restless, "harmless", End::Completed);
    check(&restless, "errors x10", End::RolledBack);
}

#[test]
fn devices_that_leave_and_join_stop_nothing() {
    let mut churn = plan("");
    (churn.trouble.leave, churn.trouble.join) = (0.2, 0.5);
    check(&churn, "harmless", End::Completed);
}

#[test]
fn the_same_seed_gives_the_same_report_on_any_number_of_threads() {
    let mut plan = plan("");
    plan.releases = plan::Releases(vec![Effect::default(), Effect::errors(5.0)]);
    let report = |seed, threads| {
        let campaign = Campaign { rollouts: 6, seed, threads, compare: true };
        serde_json::to_string(&run(&plan, &campaign, &|| ()).unwrap()).unwrap()
    };
    assert_eq!(report(1, 1), report(1, 3));
    assert_ne!(report(1, 1), report(2, 1));
}

#[test]
fn a_report_counts_every_rollout_once() {
    let plan = plan("");
    let counted = std::sync::atomic::AtomicUsize::new(0);
    let campaign = Campaign { rollouts: 4, seed: 9, threads: 2, compare: false };
    let count = || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let report = run(&plan, &campaign, &count).unwrap();
    assert_eq!(counted.into_inner(), 4 * plan.releases.0.len());
    for release in report.releases {
        let ends = [release.rolled_back, release.completed, release.paused, release.unfinished];
        assert_eq!(ends.iter().map(|share| share.count).sum::<usize>(), 4);
    }
}

#[test]
fn the_example_is_the_default_but_for_its_strategy() {
    let example = Plan::read(EXAMPLE).unwrap();
    assert_ne!(example.strategy, Plan::default().strategy);
    assert_eq!(Plan { strategy: Default::default(), ..example }, Plan::default());
}

#[test]
fn a_wrong_number_is_refused_by_its_name() {
    let refused = |text: &str| {
        let error = Plan::read(text).unwrap_err();
        fieldpost_shared::error_chain::Chain(&error).to_string()
    };
    assert_eq!(refused("[fleet]\ndevices = 0"), "`fleet.devices` must be from 1 to 100000, got 0");
    assert_eq!(refused("[trouble]\naway = 1.5"), "`trouble.away` must be a share from 0 to 1, got 1.5");
    assert!(
        refused("[fleet]\nerror_rate = 0.5\nerror_spread = 1.0").starts_with("`fleet.error_spread` must be smaller")
    );
    assert!(refused("[fleet]\nwindow = \"0s\"").starts_with("`fleet.window` must be from 1s"));
    assert!(refused("[fleet]\ndevises = 5").contains("unknown field `devises`"));
    assert!(refused("releases = [\"errors 2\"]").contains("`errors 2` is no effect of a release"));
    assert!(refused("[strategy]\nretries = 100").starts_with("cannot use the strategy of the plan: `retries`"));
}

#[test]
fn time_does_not_pass_by_itself() {
    let plan = plan("");
    let replica = Replica::new(&plan, &Strategy::default(), Effect::default(), 1).unwrap();
    let begins = replica.fleet().clock().now();
    assert_eq!(begins.as_millis(), fleet::BEGIN + 2 * 3_600_000);
}
