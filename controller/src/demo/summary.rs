//! The end of the story: a table, and what had to be observed.

use super::acts::ENOUGH_TO_COMPARE;
use super::traffic::Tally;
use crate::cli::output::{self, Format};
use serde::Serialize;
use serde_json::Value;

/// Everything that was observed.
#[derive(Debug, Serialize)]
pub(super) struct Story {
    /// Length of the demo.
    pub seconds: f64,
    /// One per device.
    pub devices: Vec<DeviceRow>,
    /// One per rollout, in order.
    pub rollouts: Vec<RolloutLine>,
    /// The device that was killed.
    pub victim: Option<Victim>,
    /// Why the last rollout went back, in the controller's words.
    pub explain: Value,
    /// The same for people.
    #[serde(skip)]
    pub told: String,
    /// What had to be observed, and whether it was.
    pub checks: Vec<Check>,
}

/// The device that was killed in the middle of its update.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Victim {
    pub device: String,
    pub killed_at_s: f64,
    /// From its start to its first answer.
    pub serving_after_s: f64,
}

/// One rollout.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RolloutLine {
    pub id: String,
    pub version: String,
    pub state: String,
    pub active: bool,
    pub wave: Option<usize>,
    /// Devices that each wave reaches.
    pub waves: Vec<u64>,
    /// Devices that run the release now.
    pub live: u64,
    /// Devices that went back.
    pub reverted: u64,
    pub reason: Option<String>,
    pub seconds: f64,
}

impl RolloutLine {
    pub(super) fn read(detail: &Value, version: &str, started: f64, now: f64) -> Self {
        let text = |key: &str| detail.get(key).and_then(Value::as_str).map(str::to_owned);
        let count = |key: &str| detail.pointer(&format!("/counts/{key}")).and_then(Value::as_u64).unwrap_or(0);
        Self {
            id: text("id").unwrap_or_default(),
            version: version.to_owned(),
            state: text("state").unwrap_or_default(),
            active: detail.get("active").and_then(Value::as_bool).unwrap_or(true),
            wave: detail.get("wave").and_then(Value::as_u64).and_then(|wave| usize::try_from(wave).ok()),
            waves: detail
                .get("waves")
                .and_then(Value::as_array)
                .map(|waves| waves.iter().filter_map(Value::as_u64).collect())
                .unwrap_or_default(),
            live: count("live"),
            reverted: count("reverted"),
            reason: text("reason"),
            seconds: now - started,
        }
    }

    /// In a line, without times: equal lines are equal states.
    pub(super) fn text(&self) -> String {
        let wave = self.wave.map(|wave| format!(", wave {wave} of {}", self.waves.len())).unwrap_or_default();
        let back = if self.reverted > 0 { format!(", {} went back", self.reverted) } else { String::new() };
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{} {}{wave}, {} live{back}{reason}", self.version, self.state, self.live)
    }
}

/// One device.
#[derive(Debug, Serialize)]
pub(super) struct DeviceRow {
    pub device: String,
    /// What it runs at the end.
    pub version: Option<String>,
    #[serde(flatten)]
    pub tally: Tally,
    pub p50_us: Option<u64>,
    pub p95_us: Option<u64>,
    /// Chunk and manifest bytes that it received.
    pub fetched_bytes: u64,
    /// Releases that it will not try again, or that were taken back.
    pub swaps: u64,
}

impl DeviceRow {
    pub(super) fn read(name: &str, tally: &Tally, devices: &[Value]) -> Self {
        let device = devices.iter().find(|device| device.get("id").and_then(Value::as_str) == Some(name));
        let at = |path: &str| device.and_then(|device| device.pointer(path));
        Self {
            device: name.to_owned(),
            version: at("/models/0/live/version").and_then(Value::as_str).map(str::to_owned),
            p50_us: tally.quantile_us(50),
            p95_us: tally.quantile_us(95),
            fetched_bytes: at("/fetched_bytes").and_then(Value::as_u64).unwrap_or(0),
            swaps: at("/models/0/swaps").and_then(Value::as_u64).unwrap_or(0),
            tally: tally.clone(),
        }
    }
}

/// Something that had to be observed.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub what: String,
    pub observed: bool,
    pub detail: String,
}

impl Check {
    fn new(what: &str, observed: bool, detail: String) -> Self {
        Self { what: what.to_owned(), observed, detail }
    }

    pub(super) fn all(rollouts: &[RolloutLine], rows: &[DeviceRow], victim: Option<&Victim>) -> Vec<Self> {
        let devices = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let line = |version: &str| rollouts.iter().find(|line| line.version == version);
        let answered = |row: &DeviceRow, version: &str| row.tally.answered.get(version).copied().unwrap_or(0);
        let text = |line: Option<&RolloutLine>| line.map_or_else(|| "no such rollout".to_owned(), RolloutLine::text);
        let completed = |version: &str| line(version).is_some_and(|l| l.state == "completed" && l.live == devices);
        let exposed = rows.iter().filter(|row| answered(row, "1.2.0") > 0).count();
        let harmful = line("1.2.0");
        let first_wave = harmful.and_then(|line| line.waves.first().copied()).unwrap_or(0);
        let back = rows.iter().filter(|row| row.version.as_deref() == Some("1.1.0")).count();
        let failed: u64 = rows.iter().map(|row| row.tally.failed).sum();
        let failure = rows.iter().find_map(|row| row.tally.last_failure.clone()).unwrap_or_default();
        let recovered = victim.and_then(|victim| rows.iter().find(|row| row.device == victim.device));
        let mut checks = vec![
            Self::new("1.0.0 reached every device", completed("1.0.0"), text(line("1.0.0"))),
            Self::new("1.1.0 went through its waves to every device", completed("1.1.0"), text(line("1.1.0"))),
            Self::new(
                "1.2.0 was stopped in its first wave and rolled back",
                harmful.is_some_and(|line| line.state == "rolled-back")
                    && exposed > 0
                    && u64::try_from(exposed).unwrap_or(u64::MAX) <= first_wave,
                format!("{} of {devices} devices served it; {}", exposed, text(harmful)),
            ),
            Self::new("every device runs 1.1.0 at the end", back == rows.len(), format!("{back} of {devices}")),
            Self::new(
                "a device killed in the middle came back and went on",
                recovered.is_some_and(|row| answered(row, "1.1.0") > 0),
                victim.map_or_else(
                    || "no device was killed".to_owned(),
                    |victim| format!("{} served {:.2} s after its start", victim.device, victim.serving_after_s),
                ),
            ),
            Self::new(
                "no request failed on a device that was up",
                failed == 0 && rows.iter().all(|row| row.tally.requests() > 0),
                format!("{failed} failed {failure}"),
            ),
        ];
        if rows.len() >= ENOUGH_TO_COMPARE {
            let reason = harmful.and_then(|line| line.reason.clone()).unwrap_or_default();
            let what =
                "it was the comparison with the other half of the devices that found 1.2.0 out, not a fixed limit";
            checks.push(Self::new(what, reason.contains("rank"), reason));
        }
        checks
    }
}

/// Prints the story.
pub(super) fn print(story: &Story, format: Format) -> anyhow::Result<()> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(story)?,
        Format::Table => table(story),
    };
    output::print(&text).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    Ok(())
}

fn table(story: &Story) -> String {
    let ms =
        |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| format!("{}.{:01} ms", us / 1000, us % 1000 / 100));
    let rows = story.devices.iter().map(|row| {
        let right: u64 = row.tally.right.values().sum();
        let share = (right * 1000).checked_div(row.tally.requests()).unwrap_or(0);
        vec![
            row.device.clone(),
            row.version.clone().unwrap_or_else(|| "-".to_owned()),
            row.tally.requests().to_string(),
            ms(row.p50_us),
            ms(row.p95_us),
            format!("{}.{} %", share / 10, share % 10),
            row.tally.answered.get("1.2.0").copied().unwrap_or(0).to_string(),
            format!("{} KiB", row.fetched_bytes / 1024),
        ]
    });
    let header = ["device", "version", "requests", "p50", "p95", "right", "harmful answers", "fetched"];
    let mut text = output::table(&header, rows);
    text.push_str("\n\n");
    text.push_str(story.told.trim_end());
    text.push_str("\n\n");
    for check in &story.checks {
        let mark = if check.observed { "observed" } else { "NOT SEEN" };
        text.push_str(&format!("{mark}  {} ({})\n", check.what, check.detail));
    }
    text.push_str(&format!("\n{:.1} s in all", story.seconds));
    text
}
