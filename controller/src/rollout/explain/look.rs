//! A look of the experiment in words, with the numbers that decided.

use crate::rollout::trial::{Look, LookVerdict, Metric, MetricLook, look::Ground, past::PastLook};
use fieldpost_shared::time::Timestamp;

/// A score in words: events are shares, distances are numbers.
pub(in crate::rollout) fn shown(metric: Metric, score: f64) -> String {
    if metric == Metric::Drift { format!("{score:.4}") } else { format!("{:.3} %", score * 100.0) }
}

/// The look in a sentence.
#[must_use]
pub fn sentence(wave: usize, look: &Look) -> String {
    let what = match look.verdict {
        LookVerdict::Harm => {
            let worse: Vec<&str> = look.metrics.iter().filter(|m| m.harm.decides).map(|m| m.metric.name()).collect();
            format!("the devices with the release are worse in {}", worse.join(", "))
        }
        LookVerdict::Proven => "the release is proven to be no worse than the margin allows".to_owned(),
        LookVerdict::Inconclusive => "nothing is decided".to_owned(),
    };
    let devices = look.metrics.first().map_or((0, 0), |m| (m.treated.devices, m.controls.devices));
    format!(
        "Look {} of {} of wave {} ({} of {} in all), {} devices with the release against {} without: {what}.",
        look.look,
        look.of,
        wave + 1,
        look.number,
        look.of_all,
        devices.0,
        devices.1
    )
}

/// One metric of a look in a sentence.
#[must_use]
pub fn metric(look: &Look, found: &MetricLook) -> String {
    let value = |score| shown(found.metric, score);
    let silent = |count: usize| if count > 0 { format!(", {count} silent") } else { String::new() };
    let harm = &found.harm;
    let arms = format!(
        "{} is {} on {} devices with the release ({} requests{}) and {} on {} without ({} requests{})",
        found.metric.what(),
        value(found.treated.mean),
        found.treated.scored,
        found.treated.requests,
        silent(found.treated.silent),
        value(found.controls.mean),
        found.controls.scored,
        found.controls.requests,
        silent(found.controls.silent)
    );
    let rank = format!(
        "adjusted for the devices' past the difference is {}, rank {} among {} orders, and ranks up to {} decide at look {} of {} (alpha to be spent by then {:.4})",
        value(harm.observed),
        harm.rank,
        harm.alive,
        harm.budget,
        look.number,
        look.of_all,
        harm.level
    );
    let border = harm.critical.map_or_else(
        || "no difference would have been enough yet".to_owned(),
        |critical| format!("a difference above {} rolls it back", value(critical)),
    );
    let bounded = |bound| format!("its upper {} bound {}", confidence(found.bound_level), value(bound));
    let proof = match found.proven {
        _ if harm.decides => "it does harm".to_owned(),
        Some(Ground::Ranks) => format!("proven by rank {} of {}", found.advance.rank, found.advance.alive),
        Some(Ground::Acceptable { bound, level }) => {
            format!("proven, since {} is within the acceptable {}", bounded(bound), value(level))
        }
        Some(Ground::Earlier) => "proven at an earlier look".to_owned(),
        None => {
            let bound = found.bound.map(|bound| format!(", {}", bounded(bound))).unwrap_or_default();
            let border = found.advance.critical.map_or_else(String::new, |critical| {
                format!(" (a difference below {}, the harm being divided by the margin)", value(critical))
            });
            format!("not proven: rank {} and {} would do{border}{bound}", found.advance.rank, found.advance.budget)
        }
    };
    let sequence =
        found.difference.map(|d| format!("; {} sequence {} to {}", confidence(d.level), value(d.low), value(d.high)));
    format!("{arms}; {rank}; {border}; {proof}{}", sequence.unwrap_or_default())
}

/// A confidence in percent.
fn confidence(level: f64) -> String {
    let percent = format!("{:.2}", 100.0 * (1.0 - level));
    format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// A slice of a wave that is held against its devices' own past, in a sentence.
#[must_use]
pub fn watched(wave: usize, slices: u16, metrics: &[PastLook]) -> String {
    let worse: Vec<&str> = metrics.iter().filter(|found| found.harm).map(|found| found.metric.name()).collect();
    let what = match metrics.iter().map(|found| found.devices).max() {
        None => "none has a past that is long enough".to_owned(),
        Some(devices) if worse.is_empty() => format!("{devices} are not worse than they were"),
        Some(devices) => format!("{devices} are worse than they were in {}", worse.join(", ")),
    };
    format!("Wave {} has nobody to be compared with; of its devices, after {slices} slices, {what}.", wave + 1)
}

/// What the devices' own past says of one metric.
#[must_use]
pub fn past(slices: u16, found: &PastLook) -> String {
    let value = |score| shown(found.metric, score);
    format!(
        "{} is {} on {} devices with the release and was {} before it; {} of {} groups of them were above all of their past in \
         the last of {slices} slices; the evidence is {:.3e}, and {:.3e} rolls it back",
        found.metric.what(),
        value(found.since),
        found.devices,
        value(found.before),
        found.above,
        found.groups,
        found.evidence,
        found.bound
    )
}

/// What a wave waits for, when the experiment has not proven anything yet.
#[must_use]
pub fn waiting(last: Option<&Look>, made: u32, of: u32, next: Option<Timestamp>) -> String {
    let left: Vec<String> = last
        .map(|look| look.metrics.iter().filter(|m| m.proven.is_none()).map(|m| m.metric.to_string()).collect())
        .unwrap_or_default();
    let short = last.and_then(|look| look.metrics.first()).map_or(0, |m| m.treated.devices - m.treated.scored);
    let reports =
        if short > 0 { format!(", {short} devices with the release have not reported") } else { String::new() };
    let so_far = match last {
        None => "no look has been made".to_owned(),
        Some(_) if left.is_empty() => "nothing is proven".to_owned(),
        Some(_) => format!("not proven yet: {}", left.join(", ")),
    };
    match next {
        Some(at) => format!("{so_far}{reports}; look {} of {of} is due at {at}", made + 1),
        None => format!("{so_far}{reports} after {made} of {of} looks"),
    }
}
