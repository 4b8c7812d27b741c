use super::*;
use crate::stats::baseline::{NumericBaseline, OutputBaseline};
use crate::stats::change::Row;
use crate::stats::recorder::Recorder;
use crate::stats::resources::Reading;
use crate::stats::tally::ErrorKind;
use crate::stats::testing::Random;
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};

const GOLDEN: &[u8] = include_bytes!("testdata/window-v1.bin");
const GOLDEN_2: &[u8] = include_bytes!("testdata/window-v2.bin");
const GOLDEN_3: &[u8] = include_bytes!("testdata/window-v3.bin");

/// A classifier of `features` normal features and ten classes, with a regression beside it.
fn baseline(features: usize) -> Baseline {
    let mut random = Random::new(11);
    let mut numeric = |i: usize| {
        let values: Vec<f64> = (0..2000).map(|_| random.normal() * (i + 1) as f64).collect();
        NumericBaseline::from_values(format!("feature {i}"), &values, 0, 32).unwrap()
    };
    let output = OutputBaseline {
        classes: Some(ClassCounts::new(10)),
        confidence: Some(Confidence::default()),
        regression: Some(numeric(0)),
    };
    Baseline { n: 2000, inputs: (0..features).map(numeric).collect(), output }
}

fn small() -> &'static Arc<Baseline> {
    static SMALL: OnceLock<Arc<Baseline>> = OnceLock::new();
    SMALL.get_or_init(|| Arc::new(baseline(2)))
}

/// A closed window of `n` requests.
fn window(baseline: &Arc<Baseline>, seed: u64, n: usize) -> WindowStats {
    let mut random = Random::new(seed);
    let mut r = Recorder::new("digits", "1.2.0", Arc::clone(baseline), 1_700_000_000_000 + seed * 60_000);
    for i in 0..n {
        r.request();
        (0..baseline.inputs.len()).for_each(|f| r.input(f, random.normal() * (f + 1) as f64));
        r.class(i % 10, Some(0.5 + random.uniform() / 2.0));
        r.regression(random.normal());
        let lognormal =
            |random: &mut Random, ms: f64| Duration::from_secs_f64(ms / 1000.0 * (0.3 * random.normal()).exp());
        r.answered(lognormal(&mut random, 4.0), lognormal(&mut random, 0.05));
        r.scored(random.uniform() < 0.01);
        r.shadowed(random.uniform() < 0.02);
        r.labelled(random.uniform() < 0.9);
        if i % 50 == 0 {
            r.failed(ErrorKind::ALL[i / 50 % 8]);
            r.resources(&Reading {
                cpu_percent: Some(12.0 + i as f32 / 100.0),
                rss_bytes: Some(48 << 20),
                temperature_celsius: Some(51.25),
                disk_free_bytes: Some(9 << 30),
            });
        }
    }
    r.close(1_700_000_060_000 + seed * 60_000)
}

fn sum(a: &WindowStats, b: &WindowStats) -> WindowStats {
    let mut sum = a.clone();
    sum.merge(b).unwrap();
    sum
}

#[test]
fn a_window_of_thirty_features_fits_four_kibibytes() {
    let bytes = window(&Arc::new(baseline(30)), 1, 500).encode();
    assert!(bytes.len() <= 4096, "{}", bytes.len());
}

/// To freeze a *new* version: write it beside the old one, never over it.
#[test]
fn window_v1_is_encoded_as_it_was_frozen() {
    let bytes = window(small(), 1, 120).encode();
    assert!(bytes == GOLDEN, "{} bytes against {} frozen ones", bytes.len(), GOLDEN.len());
}

#[test]
fn a_frozen_window_v1_is_read() {
    let w = WindowStats::decode(GOLDEN).unwrap();
    w.fits(small()).unwrap();
    assert_eq!((w.requests, w.errors.by_model(), w.latency.n(), w.inputs.len()), (120, 3, 120, 2));
    assert_eq!((w.anomalies.n, w.labelled_correct.n, w.covered()), (120, 120, Duration::from_secs(60)));
    assert_eq!(w.resources.temperature_millicelsius.unwrap().max(), 51_250);
}

/// A window in which everything of form 2 was counted.
fn compared() -> WindowStats {
    let mut r = Recorder::resume(window(small(), 1, 120), Arc::clone(small())).unwrap();
    for i in 0..120_u64 {
        let version = if i % 3 == 0 { "1.3.0" } else { "1.3.1" };
        let paired = r.paired(version).unwrap();
        paired.row(i % 10 != 0, i as f64 / 1_000.0);
        paired.answered(Duration::from_micros(900 + i), Duration::from_micros(1_100 + 2 * i));
        paired.other_errors += u64::from(i % 40 == 0);
        paired.passed_over += u64::from(i % 60 == 0);
        r.labelled_class((i % 10) as usize, (i % 9) as usize);
    }
    r.window().clone()
}

#[test]
fn window_v2_is_encoded_as_it_was_frozen() {
    let bytes = compared().encode();
    assert!(bytes == GOLDEN_2, "{} bytes against {} frozen ones", bytes.len(), GOLDEN_2.len());
}

#[test]
fn a_frozen_window_v2_is_read() {
    let w = WindowStats::decode(GOLDEN_2).unwrap();
    let found: Vec<_> = w.pairs.iter().map(|p| (p.version.as_str(), p.agreed.n, p.other_errors)).collect();
    assert_eq!(found, [("1.3.0", 40, 1), ("1.3.1", 80, 2)]);
    assert_eq!((w.confusion.of(3, 3), w.confusion.of(0, 1), w.labelled_correct.n), (2, 2, 240));
}

/// A window in which everything of form 3 was counted.
fn changed() -> WindowStats {
    let mut r = Recorder::resume(compared(), Arc::clone(small())).unwrap();
    for i in 0..120_u64 {
        let change = r.changed(if i % 3 == 0 { "1.3.0" } else { "1.3.1" }).unwrap();
        change.answered(Duration::from_micros(900 + i), Duration::from_micros(1_100 + 40 * i));
        let classes = Some(((i % 10) as usize, (i % 4) as usize));
        change.row(&Row { same: i % 10 != 0, delta: i as f64 / 100.0, classes });
    }
    r.window().clone()
}

#[test]
fn window_v3_is_encoded_as_it_was_frozen() {
    let bytes = changed().encode();
    assert!(bytes == GOLDEN_3, "{} bytes against {} frozen ones", bytes.len(), GOLDEN_3.len());
}

#[test]
fn a_frozen_window_v3_is_read() {
    let w = WindowStats::decode(GOLDEN_3).unwrap();
    let change = w.changes.of("1.3.0").unwrap();
    assert_eq!((change.classes.of(0, 0), change.classes.of(0, 2), change.deltas[19]), (2, 2, 8));
    assert_eq!(change.ratios.iter().sum::<u64>(), 40);
    assert_eq!(w.pairs, compared().pairs);
}

#[test]
fn without_pairs_and_confusion_an_older_controller_is_spoken_to() {
    assert_eq!((GOLDEN[0], window(small(), 2, 9).encode()[0], GOLDEN_2[0], GOLDEN_3[0]), (1, 1, 2, 3));
}

#[test]
fn windows_of_all_forms_merge() {
    let (old, new) = (sum(&WindowStats::decode(GOLDEN).unwrap(), &compared()), changed());
    let both = sum(&old, &new);
    assert_eq!((both.requests, both.pairs.iter().count()), (old.requests + new.requests, 2));
    assert_eq!(WindowStats::decode(&both.encode()).unwrap(), both);
}

#[test]
fn a_form_of_tomorrow_and_trailing_bytes_are_refused() {
    let mut bytes = GOLDEN.to_vec();
    bytes.push(0);
    assert_eq!(WindowStats::decode(&bytes), Err(StatsError::Malformed { what: "window" }));
    bytes[0] = 4;
    assert_eq!(WindowStats::decode(&bytes), Err(StatsError::Form { found: 4, known: 3 }));
    for golden in [GOLDEN_2, GOLDEN_3] {
        assert_eq!(WindowStats::decode(&[golden, &[0]].concat()), Err(StatsError::Malformed { what: "window" }));
    }
    assert!(WindowStats::decode(&[]).is_err());
}

#[test]
fn merging_covers_the_time_of_both_and_counts_windows() {
    let (a, b) = (window(small(), 1, 30), window(small(), 5, 20));
    let both = sum(&b, &a);
    assert_eq!((both.opened_ms, both.closed_ms), (a.opened_ms, b.closed_ms));
    assert_eq!((both.windows, both.requests, both.inputs.get(1).unwrap().values()), (2, 50, 50));
}

#[test]
fn windows_of_different_releases_do_not_merge() {
    let mut a = window(small(), 1, 5);
    let b = WindowStats { version: "1.3.0".into(), ..a.clone() };
    assert!(matches!(a.merge(&b), Err(StatsError::Origin { .. })));
}

#[test]
fn a_merge_that_fails_changes_nothing() {
    let mut a = window(small(), 1, 5);
    let mut b = a.clone();
    b.classes = Some(ClassCounts::new(3));
    let before = a.clone();
    assert!(matches!(a.merge(&b), Err(StatsError::Shape { what: "classes", left: 10, right: 3 })));
    assert_eq!(a, before);
}

#[test]
fn a_window_over_another_baseline_does_not_fit() {
    assert!(matches!(window(small(), 1, 5).fits(&baseline(3)), Err(StatsError::Origin { .. })));
}

#[test]
fn a_forged_digest_does_not_make_other_shapes_fit() {
    let other = baseline(1);
    let mut w = window(small(), 1, 5);
    w.baseline = other.digest();
    assert!(matches!(w.fits(&other), Err(StatsError::Shape { what: "input features", left: 2, right: 1 })));
}

fn refused(change: impl Fn(&mut WindowStats)) -> StatsError {
    let mut w = window(small(), 1, 5);
    w.validate(&Limits::default()).unwrap();
    change(&mut w);
    w.validate(&Limits { classes: 10, ..Limits::default() }).unwrap_err()
}

#[test]
fn windows_that_contradict_themselves_are_refused() {
    refused(|w| w.closed_ms = 0);
    refused(|w| w.windows = 0);
    refused(|w| w.model.clear());
    refused(|w| w.model = "m".repeat(129));
    refused(|w| w.version = "1".repeat(129));
    refused(|w| w.labelled_correct.hits = 6);
    refused(|w| w.anomalies.hits = 6);
    refused(|w| w.shadow_disagreements.hits = 6);
    refused(|w| w.classes = Some(ClassCounts::new(11)));
}

#[test]
fn a_crash_without_a_request_is_a_rate_of_one() {
    let mut w = WindowStats::open("m", "1.0.0", &Baseline::default(), 0);
    assert_eq!(w.model_error_rate(), None);
    w.errors.insert(ErrorKind::Crash);
    assert_eq!(w.model_error_rate(), Some(1.0));
}

#[test]
fn a_window_closes_when_full_or_old() {
    let hour = Duration::from_secs(3600);
    let facts = [
        (499, 32, 0, false),
        (500, 32, 0, true),
        (500, 100, 0, false),
        (600, 100, 0, true),
        (0, 32, 3_599_999, false),
        (0, 32, 3_600_000, true),
    ];
    for (n, bins, age, closes) in facts {
        assert_eq!(should_close(n, bins, 7, 7 + age, hour), closes, "{n} requests, {bins} bins, {age} ms");
    }
    assert!(!should_close(1, 32, 3_600_000, 7, hour), "a clock that went back a little ages nothing");
    assert!(
        should_close(1, 32, 5_000_000, 7, hour),
        "after a jump back a window would stay open until the clock is there again"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn merging_is_associative_and_commutative(seeds in prop::array::uniform3(0u64..99), sizes in prop::array::uniform3(0usize..60)) {
        let [a, b, c] = [0, 1, 2].map(|i| window(small(), seeds[i], sizes[i]));
        prop_assert_eq!(sum(&sum(&a, &b), &c), sum(&a, &sum(&b, &c)));
        prop_assert_eq!(sum(&a, &b).encode(), sum(&b, &a).encode());
    }

    #[test]
    fn every_form_survives_the_round_trip(seed in 0u64..99, n in 0usize..60) {
        let w = window(small(), seed, n);
        prop_assert_eq!(&WindowStats::decode(&w.encode()).unwrap(), &w);
        let back: WindowStats = serde_json::from_str(&serde_json::to_string(&w).unwrap()).unwrap();
        prop_assert_eq!(&back, &w);
    }

    #[test]
    fn truncated_or_altered_bytes_never_panic(at in 0usize..10_000, byte in any::<u8>(), keep in 0usize..10_000) {
        let mut bytes = [GOLDEN, GOLDEN_2, GOLDEN_3][at % 3].to_vec();
        let (at, length) = (at / 3 % bytes.len(), bytes.len());
        bytes[at] = byte;
        bytes.truncate(1 + keep % length);
        if let Ok(mut w) = WindowStats::decode(&bytes) {
            drop(w.fits(small()));
            drop(w.merge(&w.clone()));
        }
    }
}
