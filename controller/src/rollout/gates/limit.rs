//! The rule that the metric limits share: large, significant, and worse than everybody one could blame instead.

use super::{GateReport, Verdict};
use crate::rollout::strategy::Limits;

/// Devices that should have so many times the requests it takes, and have less than it takes, are idle.
const PATIENCE: u64 = 3;

/// One metric of one group of devices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// How many requests it is made of.
    pub n: u64,
    /// How many it takes to say anything.
    pub needed: u64,
    /// The metric; more is worse.
    pub value: f64,
    /// How likely chance is to give as much when the bound is kept.
    pub p_value: f64,
    /// A second figure of the same harm, for the comparison alone; more is worse.
    pub other: Option<f64>,
}

impl Measure {
    fn enough(&self) -> bool {
        self.n >= self.needed
    }

    /// Whether this is so many times worse than another, in either figure. Nothing is any times worse than 0.
    fn worse_than(&self, other: &Self, factor: f64) -> bool {
        let second = self.other.zip(other.other).is_some_and(|(mine, theirs)| mine > factor * theirs);
        self.value > factor * other.value || second
    }
}

/// A metric with its name and how it is written.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The gate's name.
    pub gate: &'static str,
    /// The metric in words.
    pub what: &'static str,
    /// How a value is written.
    pub show: fn(f64) -> String,
}

/// Devices with the release, those without it in the same time, and the first before they got it.
#[derive(Debug, Clone, Copy)]
pub struct Arms {
    /// With the release.
    pub treated: Option<Measure>,
    /// Without it.
    pub controls: Option<Measure>,
    /// Devices with it and devices without it, whether they served anything yet or not.
    pub devices: (usize, usize),
    /// The treated ones before.
    pub before: Option<Measure>,
}

impl Arms {
    /// Whether the devices without the release have too few requests only because it is early.
    fn others_will_tell(&self, treated: &Measure) -> bool {
        let (with, without) = self.devices;
        let [with, without] = [with.max(1), without].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        let expected = treated.n.saturating_mul(without) / with;
        let early = expected < treated.needed.saturating_mul(PATIENCE);
        without > 0 && early && self.controls.is_none_or(|controls| !controls.enough())
    }
}

/// Holds a metric against its bound.
///
/// A breach needs all: enough requests; a value above the bound; a p-value of at most `alpha`; and a value `factor`
/// times worse than each comparison that has enough requests. Devices without the release that have not answered enough
/// are waited for, but not for ever: only while, answering as often as those with it, they would have less than
/// three times what it takes. Without any comparison the bound alone decides.
#[must_use]
pub fn hold(metric: &Metric, bound: f64, arms: &Arms, limits: &Limits) -> GateReport {
    let Metric { gate, what, show } = *metric;
    let shown_bound = show(bound);
    let Some(treated) = arms.treated.filter(|m| m.n > 0) else {
        let sentence = format!("{what} is not judged yet: no window with requests has arrived (limit {shown_bound})");
        return GateReport::new(gate, Verdict::Waiting, sentence, &[("bound", bound), ("n", 0.0)]);
    };
    let mut numbers = vec![
        ("bound", bound),
        ("n", treated.n as f64),
        ("needed", treated.needed as f64),
        ("value", treated.value),
        ("p_value", treated.p_value),
        ("alpha", limits.alpha),
        ("factor", limits.factor),
    ];
    let compared = [("controls", arms.controls), ("before", arms.before)];
    for (name, measure) in compared {
        if let Some(measure) = measure {
            let [value, n] =
                if name == "controls" { ["controls_value", "controls_n"] } else { ["before_value", "before_n"] };
            numbers.extend([(value, measure.value), (n, measure.n as f64)]);
        }
    }
    let report = |verdict, sentence| GateReport::new(gate, verdict, sentence, &numbers);
    let value = show(treated.value);
    if !treated.enough() {
        return report(
            Verdict::Waiting,
            format!("{what} is not judged yet: {} of {} requests (limit {shown_bound})", treated.n, treated.needed),
        );
    }
    if treated.value.is_nan() {
        return report(Verdict::Waiting, format!("{what} is not a number over {} requests", treated.n));
    }
    if treated.value <= bound {
        return report(Verdict::Pass, format!("{what} is {value} over {} requests (limit {shown_bound})", treated.n));
    }
    if treated.p_value > limits.alpha {
        let sentence = format!(
            "{what} is {value} over {} requests, above the limit of {shown_bound}, but chance gives as much with p = {:.2e} (> {})",
            treated.n, treated.p_value, limits.alpha
        );
        return report(Verdict::Pass, sentence);
    }
    let usable = compared.map(|(name, measure)| (name, measure.filter(Measure::enough)));
    let excuse =
        usable.iter().find_map(|(name, m)| m.filter(|m| !treated.worse_than(m, limits.factor)).map(|m| (name, m)));
    if let Some((name, other)) = excuse {
        let sentence = format!(
            "{what} is {value} over {} requests, above the limit of {shown_bound}, but it is {} {}: not {} times worse, so it is not the release",
            treated.n,
            show(other.value),
            group(name),
            limits.factor
        );
        return report(Verdict::Pass, sentence);
    }
    if arms.others_will_tell(&treated) {
        let sentence = format!(
            "{what} is {value} over {} requests, above the limit of {shown_bound}, but the devices without the release have {} of {} requests to compare with",
            treated.n,
            arms.controls.map_or(0, |controls| controls.n),
            treated.needed
        );
        return report(Verdict::Waiting, sentence);
    }
    let against: Vec<String> =
        usable.iter().filter_map(|(name, m)| m.map(|m| format!("{} {}", show(m.value), group(name)))).collect();
    let against = if against.is_empty() { "no other devices to compare with".to_owned() } else { against.join(", ") };
    let sentence = format!(
        "{what} is {value} over {} requests, limit {shown_bound}, p = {:.1e} (<= {}), {against}",
        treated.n, treated.p_value, limits.alpha
    );
    report(Verdict::Breach, sentence)
}

fn group(name: &str) -> &'static str {
    if name == "controls" { "on devices without the release" } else { "on the same devices before" }
}

/// A share as a percentage.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
