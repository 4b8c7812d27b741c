//! The shadow gate: a release held against the live one on the same requests, before any user meets it. Pure.
//!
//! The bounds are the publisher's (`max_disagreement`, `max_latency_ratio`). Disagreement is tested on each device by an
//! exact binomial test that may be looked at at any time, and the median device decides: one odd box neither stops a
//! release nor lets it through.

use super::{GateReport, Verdict};
use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::stats::{Change, Paired, Rival as _, binomial};

/// Its name.
pub const NAME: &str = "shadow";
/// Fewer disagreements than this on a device prove nothing.
const MIN_COUNT: u64 = 3;
/// Changes of a class that are named.
const NAMED: usize = 3;

/// What one device has shown.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shown {
    pairs: u64,
    disagreed: u64,
    /// Median time of the candidate by that of the live release.
    ratio: Option<f64>,
}

/// What one device has sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// Its pairs.
    pub paired: &'a Paired,
    /// How the answers differ; none of an agent that does not say.
    pub change: Option<&'a Change>,
}

/// What is asked of the devices in shadow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// Pairs that a device must have shown.
    pub pairs: u64,
    /// Devices that must have shown so many.
    pub devices: usize,
    /// Largest p-value at which a device is beyond its bound.
    pub alpha: f64,
}

/// Judges the pairs of the devices in shadow; those that have sent none are None.
#[must_use]
pub fn judge(devices: &[Option<Sent<'_>>], asked: Asked, budgets: &Budgets) -> GateReport {
    let shown: Vec<Shown> = devices.iter().flatten().map(|sent| shown(sent.paired)).collect();
    let change = together(devices.iter().flatten().filter_map(|sent| sent.change));
    let full: Vec<&Shown> = shown.iter().filter(|device| device.pairs >= asked.pairs.max(1)).collect();
    let pairs: u64 = shown.iter().map(|device| device.pairs).sum();
    let disagreed: u64 = shown.iter().map(|device| device.disagreed).sum();
    let share = median(full.iter().map(|device| device.disagreed as f64 / device.pairs.max(1) as f64));
    let ratio = median(full.iter().filter_map(|device| device.ratio));
    // Breach needs no full number of pairs, only proof; a device that has shown none has a p-value of 1.
    let p_value = budgets.max_disagreement.and_then(|bound| {
        let silent = devices.len().saturating_sub(shown.len());
        median(shown.iter().map(|device| tail(device, bound)).chain(std::iter::repeat_n(1.0, silent)))
    });
    let enough = full.len() >= asked.devices.max(1);
    let differs = p_value.is_some_and(|p| p <= asked.alpha);
    let slow = enough && ratio.zip(budgets.max_latency_ratio).is_some_and(|(ratio, bound)| ratio > bound);
    let unsure = share.zip(budgets.max_disagreement).is_some_and(|(share, bound)| share > bound);
    let verdict = if differs || slow {
        Verdict::Breach
    } else if !enough || unsure {
        Verdict::Waiting
    } else if budgets.max_disagreement.is_none() && budgets.max_latency_ratio.is_none() {
        Verdict::Unbounded
    } else {
        Verdict::Pass
    };
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut sentence = format!(
        "{disagreed} of {pairs} answers in shadow differ; {} of {} devices have shown {} pairs, {} must",
        full.len(),
        devices.len(),
        asked.pairs,
        asked.devices.max(1)
    );
    if let Some(share) = share {
        sentence.push_str(&format!("; on the median device {}", percent(share)));
    }
    sentence.push_str(&match budgets.max_disagreement {
        Some(bound) => format!(", {} may", percent(bound)),
        None => "; the bundle states no max_disagreement".to_owned(),
    });
    if let (Some(ratio), Some(bound)) = (ratio, budgets.max_latency_ratio) {
        sentence.push_str(&format!("; it takes {ratio:.2} times as long, {bound:.2} may be"));
    }
    sentence.push_str(&differences(&change));
    let numbers = [
        ("score_difference_p90", change.delta(0.9).unwrap_or(f64::NAN)),
        ("latency_ratio_p90", change.ratio(0.9).unwrap_or(f64::NAN)),
        ("devices", devices.len() as f64),
        ("devices_with_pairs", full.len() as f64),
        ("pairs", pairs as f64),
        ("disagreed", disagreed as f64),
        ("median_disagreement", share.unwrap_or(f64::NAN)),
        ("max_disagreement", budgets.max_disagreement.unwrap_or(f64::NAN)),
        ("median_p_value", p_value.unwrap_or(f64::NAN)),
        ("alpha", asked.alpha),
        ("median_latency_ratio", ratio.unwrap_or(f64::NAN)),
        ("max_latency_ratio", budgets.max_latency_ratio.unwrap_or(f64::NAN)),
    ];
    GateReport::new(NAME, verdict, sentence, &numbers)
}

/// What all devices say of how the answers differ.
fn together<'a>(changes: impl Iterator<Item = &'a Change>) -> Change {
    changes.fold(Change::default(), |mut all, change| {
        all.merge(change);
        all
    })
}

/// How the answers differ, in words: shown, and not decided on.
fn differences(change: &Change) -> String {
    let mut cells = change.classes.cells().to_vec();
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.n));
    let often: Vec<String> = cells
        .iter()
        .take(NAMED)
        .map(|cell| format!("class {} became {} ({} times)", cell.actual, cell.predicted, cell.n))
        .collect();
    let mut text = if often.is_empty() { String::new() } else { format!("; most often {}", often.join(", ")) };
    if let Some(delta) = change.delta(0.9) {
        text.push_str(&format!("; 90 % of the scores are within {delta:.2}"));
    }
    if let Some(ratio) = change.ratio(0.9) {
        text.push_str(&format!("; 90 % of the requests take at most {ratio:.1} times as long"));
    }
    text
}

fn shown(paired: &Paired) -> Shown {
    let middle = |sketch: &fieldpost_shared::stats::LatencySketch| sketch.quantile(0.5).map(|time| time.as_secs_f64());
    let ratio = middle(&paired.other_latency).zip(middle(&paired.latency).filter(|live| *live > 0.0));
    // A request that the candidate failed is no answer like the live one's.
    Shown {
        pairs: paired.agreed.n.saturating_add(paired.other_errors),
        disagreed: paired.agreed.n.saturating_sub(paired.agreed.hits).saturating_add(paired.other_errors),
        ratio: ratio.map(|(other, live)| other / live),
    }
}

fn tail(device: &Shown, bound: f64) -> f64 {
    if device.disagreed < MIN_COUNT { 1.0 } else { binomial::ever_at_least(device.disagreed, device.pairs, bound) }
}

/// The middle value, of an even number the upper one.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::stats::Row;
    use std::time::Duration;

    fn paired(disagreed: u64, pairs: u64, ms: u64) -> Paired {
        let mut paired = Paired::with("2.0.0");
        (0..pairs).for_each(|n| {
            paired.row(n >= disagreed, 0.1);
            paired.answered(Duration::from_millis(10), Duration::from_millis(ms));
        });
        paired
    }

    /// The verdict on devices that disagreed so often in 200 pairs, with 10 % and twice the time allowed.
    fn check(disagreed: &[u64], ms: u64) -> Verdict {
        let budgets = Budgets { max_disagreement: Some(0.1), max_latency_ratio: Some(2.0), ..Budgets::default() };
        let shown: Vec<Paired> = disagreed.iter().map(|count| paired(*count, 200, ms)).collect();
        verdict(&shown, disagreed.len(), &budgets)
    }

    fn verdict(shown: &[Paired], devices: usize, budgets: &Budgets) -> Verdict {
        let mut all: Vec<Option<Sent<'_>>> = shown.iter().map(|paired| Some(Sent { paired, change: None })).collect();
        all.resize(devices, None);
        judge(&all, Asked { pairs: 100, devices, alpha: 0.001 }, budgets).verdict
    }

    #[test]
    fn a_release_within_its_bounds_passes() {
        assert_eq!(check(&[0, 4, 10], 15), Verdict::Pass);
    }

    #[test]
    fn the_median_device_decides() {
        assert_eq!(check(&[0, 0, 200], 10), Verdict::Pass);
        assert_eq!(check(&[0, 200, 200], 10), Verdict::Breach);
        assert_eq!(check(&[100], 10), Verdict::Breach);
    }

    #[test]
    fn what_is_over_the_bound_by_chance_waits() {
        assert_eq!(check(&[24], 10), Verdict::Waiting);
    }

    #[test]
    fn a_slow_release_breaks_its_ratio() {
        assert_eq!(check(&[0, 0], 25), Verdict::Breach);
    }

    #[test]
    fn too_few_pairs_and_silent_devices_never_pass() {
        let budgets = Budgets { max_disagreement: Some(0.1), ..Budgets::default() };
        assert_eq!(verdict(&[paired(0, 99, 10)], 1, &budgets), Verdict::Waiting);
        assert_eq!(verdict(&[paired(0, 200, 10)], 2, &budgets), Verdict::Waiting);
        assert_eq!(verdict(&[], 2, &budgets), Verdict::Waiting);
        assert_eq!(verdict(&[], 0, &budgets), Verdict::Waiting);
    }

    #[test]
    fn proof_of_harm_needs_no_full_number_of_pairs_and_two_differences_prove_nothing() {
        let budgets = Budgets { max_disagreement: Some(0.0), ..Budgets::default() };
        assert_eq!(verdict(&[paired(20, 20, 10)], 1, &budgets), Verdict::Breach);
        assert_eq!(verdict(&[paired(2, 20, 10)], 1, &budgets), Verdict::Waiting);
    }

    #[test]
    fn requests_that_the_release_failed_are_not_like_the_live_ones_answers() {
        let budgets = Budgets { max_disagreement: Some(0.1), ..Budgets::default() };
        let failing = Paired { other_errors: 200, ..Paired::with("2.0.0") };
        assert_eq!(verdict(&[failing], 1, &budgets), Verdict::Breach);
    }

    #[test]
    fn which_classes_changed_is_named_over_all_devices() {
        let change = |mine: usize, other: usize, times: usize| {
            let mut change = Change::with("2.0.0");
            let row = Row { same: false, delta: 0.22, classes: Some((mine, other)) };
            (0..times).for_each(|_| change.row(&row));
            change.answered(Duration::from_millis(10), Duration::from_millis(15));
            change
        };
        let (paired, changes) = (paired(9, 200, 15), [change(8, 3, 2), change(8, 3, 3), change(1, 7, 4)]);
        let sent: Vec<_> = changes.iter().map(|change| Some(Sent { paired: &paired, change: Some(change) })).collect();
        let report = judge(&sent, Asked { pairs: 100, devices: 3, alpha: 0.001 }, &Budgets::default());
        assert!(
            report.sentence.contains("most often class 8 became 3 (5 times), class 1 became 7 (4 times)"),
            "{report:?}"
        );
        assert!(report.sentence.contains("within 0.25") && report.sentence.contains("at most 1.7 times"), "{report:?}");
    }

    #[test]
    fn without_bounds_enough_pairs_are_asked_for_all_the_same() {
        assert_eq!(verdict(&[paired(200, 200, 10)], 1, &Budgets::default()), Verdict::Unbounded);
        assert_eq!(verdict(&[paired(0, 9, 10)], 1, &Budgets::default()), Verdict::Waiting);
    }
}
