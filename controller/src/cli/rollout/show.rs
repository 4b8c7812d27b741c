//! Rollouts as text.

use crate::cli::output;
use crate::rollout::duration;
use crate::rollout::explain::line as gate_line;
use crate::rollout::gates::Verdict;
use crate::rollout::preview::{StartPreview, WavePreview};
use crate::rollout::strategy::Holdout;
use crate::rollout::trial::Design;
use crate::rollout::view::{RolloutDetail, RolloutSummary};
use fieldpost_shared::time::Timestamp;

/// One rollout in a line.
pub(super) fn line(summary: &RolloutSummary) -> String {
    let wave = summary.wave.map(|wave| format!(", wave {wave} of {}", summary.waves.len())).unwrap_or_default();
    let RolloutSummary { id, release, state, counts, .. } = summary;
    format!("rollout {id}: {release} is {state}{wave}, {} of {} devices run it", counts.live, counts.devices)
}

/// What a start would do.
pub(super) fn preview(preview: &StartPreview) -> String {
    let mut fields = vec![
        ("release", format!("{} ({})", preview.release, preview.release.manifest.short())),
        ("selector", preview.selector.clone()),
        ("devices", preview.devices.to_string()),
    ];
    if preview.there_already > 0 {
        fields.push(("run it already", preview.there_already.to_string()));
    }
    if preview.held_out > 0 {
        let then = match preview.holdout_then {
            Holdout::Release => "until the last soak has passed",
            Holdout::Keep => "for good",
        };
        fields.push(("held out", format!("{} {then}", preview.held_out)));
    }
    fields.extend(preview.retry_of.as_ref().map(|first| ("another try of", first.to_string())));
    fields.extend(preview.unfit.iter().map(|(device, why)| ("left out", format!("{device}: {why}"))));
    let row = |wave: &WavePreview| {
        let approval = wave.approval.clone().unwrap_or_default();
        vec![wave.number.to_string(), wave.asked.clone(), wave.adds.to_string(), wave.reaches.to_string(), approval]
    };
    let mut parts = vec![output::fields(&fields)];
    parts.push(output::table(&["wave", "asked for", "adds", "reaches", "approval"], preview.waves.iter().map(row)));
    parts.extend(preview.design.as_ref().map(design));
    let strata: Vec<String> =
        preview.strata.iter().filter(|(name, _)| !name.is_empty()).map(|(name, n)| format!("{name}: {n}")).collect();
    if !strata.is_empty() {
        parts.push(format!("Drawn in strata:\n{}", indented(&strata)));
    }
    if !preview.notes.is_empty() {
        parts.push(indented(&preview.notes));
    }
    parts.push("Nothing was started. The random order is drawn, and signed, by the start.".to_owned());
    parts.join("\n\n")
}

/// What the comparison finds: a row for each wave and metric.
fn design(design: &Design) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let mut rows = Vec::new();
    for (index, wave) in design.waves.iter().enumerate().filter(|(_, wave)| wave.decides()) {
        for (metric, reach) in &wave.metrics {
            let found = reach.detects.as_ref().and_then(|detects| detects.power);
            let [half, twice, thrice] = found.map_or([(); 3].map(|()| "?".to_owned()), |power| power.map(percent));
            let needs = reach.detects.as_ref().and_then(|detects| detects.needs);
            rows.push(vec![
                (index + 1).to_string(),
                format!("{} / {}", wave.treated, wave.controls),
                metric.to_string(),
                if reach.possible { format!("{:.4}", reach.level) } else { "never".to_owned() },
                half,
                twice,
                thrice,
                needs.map_or_else(|| "?".to_owned(), |needs| format!("{needs:.0}")),
            ]);
        }
    }
    let header =
        ["wave", "with / without", "metric", "alpha by then", "finds x1.5", "x2", "x3", "requests for the margin"];
    let looks = format!(
        "Compared at {} looks of each wave, the first {} after its soak began, the last after {}; \
         a harmless release goes back with {}, the margin is {}.",
        design.looks,
        duration::text(design.warm_up.saturating_add(design.look_every)),
        duration::text(design.longest()),
        percent(design.alpha),
        design.margin
    );
    if rows.is_empty() {
        "No wave can be decided by comparing devices.".to_owned()
    } else {
        format!("{}\n\n{looks}", output::table(&header, rows.into_iter()))
    }
}

/// Every rollout in a row.
pub(super) fn list(all: &[RolloutSummary], now: Timestamp) -> String {
    let row = |summary: &RolloutSummary| {
        let wave = summary.wave.map_or_else(String::new, |wave| format!("{wave} of {}", summary.waves.len()));
        vec![
            summary.id.to_string(),
            summary.release.to_string(),
            summary.state.clone(),
            wave,
            format!("{} of {}", summary.counts.live, summary.counts.devices),
            summary.counts.failed.to_string(),
            output::ago(Some(summary.created), now),
            summary.by.clone(),
        ]
    };
    output::table(&["rollout", "release", "state", "wave", "live", "failed", "started", "by"], all.iter().map(row))
}

/// One rollout with its devices.
pub(super) fn detail(detail: &RolloutDetail, now: Timestamp) -> String {
    let summary = &detail.summary;
    let waves = summary.waves.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let wave = summary.wave.map(|wave| format!(" (wave {wave} of {})", summary.waves.len())).unwrap_or_default();
    let mut fields = vec![
        ("rollout", summary.id.to_string()),
        ("release", format!("{} ({})", summary.release, summary.release.manifest.short())),
        ("state", format!("{}{wave}", summary.state)),
    ];
    fields.extend(summary.reason.clone().map(|reason| ("reason", reason)));
    fields.extend([
        ("selector", summary.selector.clone()),
        ("waves", waves),
        ("started", format!("{} by {}", output::ago(Some(summary.created), now), summary.by)),
        ("order", format!("drawn from seed {}", detail.seed.short())),
    ]);
    fields.extend(summary.retry_of.as_ref().map(|first| ("another try of", first.to_string())));
    if !summary.note.is_empty() {
        fields.push(("note", summary.note.clone()));
    }
    fields.extend(detail.unfit.iter().map(|(device, why)| ("left out", format!("{device}: {why}"))));
    let mut parts = vec![output::fields(&fields)];
    if !detail.assessment.waiting.is_empty() {
        parts.push(format!("Waits for:\n{}", indented(&detail.assessment.waiting)));
    }
    if let Some(measured) = &detail.measured {
        parts.push(format!("Measured:\n{}", indented(&measured.sentences())));
    }
    let gates: Vec<String> =
        detail.assessment.gates.iter().filter(|g| g.verdict != Verdict::Unbounded).map(gate_line).collect();
    if !gates.is_empty() {
        parts.push(format!("Gates now:\n{}", indented(&gates)));
    }
    let row = |view: &crate::rollout::view::MemberView| {
        let silent = if view.member.silence.is_some() { ", silent" } else { "" };
        let previous =
            view.member.previous.as_ref().map_or_else(|| "-".to_owned(), |to| to.release.version.to_string());
        vec![
            view.device.to_string(),
            view.wave_number.map_or_else(|| "held out".to_owned(), |wave| wave.to_string()),
            format!("{}{silent}", view.member.progress.name()),
            previous,
            view.member.attempt.to_string(),
            output::ago(Some(view.member.since), now),
            view.member.failure.as_ref().map(|failure| failure.detail.clone()).unwrap_or_default(),
        ]
    };
    let header = ["device", "wave", "state", "returns to", "attempt", "since", "failure"];
    parts.push(output::table(&header, detail.devices.iter().map(row)));
    parts.join("\n\n")
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
