//! Which reports are worth a message, and how one is made to fit. Pure.

use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{Inventory, OutboxReport, Phase, Report, Sequence};
use std::cmp::Reverse;
use std::time::Duration;

/// Changes are gathered this long before they are reported.
const GATHER: Duration = Duration::from_millis(200);
/// How often a download's progress alone is reported: each report is a write to the flash and a message on the line.
const PROGRESS: Duration = Duration::from_secs(30);

/// When a report that has just changed is due: at once, or, when only a download came further, a while after the last one.
pub(super) fn due(sent: Option<&(Report, Duration)>, changed: &Report, now: Duration) -> Duration {
    match sent {
        Some((sent, at)) if only_progress(sent, changed) => at.saturating_add(PROGRESS).max(now),
        _ => now.saturating_add(GATHER),
    }
}

fn only_progress(sent: &Report, changed: &Report) -> bool {
    let fetches = changed.models.iter().any(|model| matches!(model.candidate, Some((_, Phase::Fetching { .. }))));
    fetches && lasting(sent) == lasting(changed)
}

/// A report without what changes all the time while a download runs.
fn lasting(report: &Report) -> Report {
    let mut report = report.clone();
    (report.sequence, report.at, report.fetched_bytes) = (Sequence::default(), Timestamp::EPOCH, 0);
    (report.inventory, report.outbox) = (Inventory::default(), OutboxReport::default());
    for model in &mut report.models {
        if let Some((_, Phase::Fetching { done, total })) = &mut model.candidate {
            (*done, *total) = (0, 0);
        }
    }
    report
}

/// Seals a report in at most `max_bytes`: where it would be larger, the oldest releases in quarantine are left out. None
/// when it is too large without them.
pub(super) fn fitted(mut report: Report, max_bytes: usize, seal: impl Fn(&Report) -> Vec<u8>) -> Option<Vec<u8>> {
    let mut payload = seal(&report);
    report.quarantine.sort_by_key(|entry| Reverse(entry.at));
    while payload.len() > max_bytes {
        let entries = report.quarantine.len();
        let share = entries.saturating_mul(max_bytes).checked_div(payload.len()).unwrap_or(0);
        let fewer = entries.checked_sub(1)?;
        report.quarantine.truncate(share.min(fewer));
        payload = seal(&report);
    }
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{key, report};
    use super::*;
    use crate::deploy::testing::release;
    use fieldpost_shared::bundle::chunk::MAX_PAYLOAD_BYTES;
    use fieldpost_shared::trust::Envelope;
    use fieldpost_shared::wire::seal;
    use fieldpost_shared::wire::v1::{FailureKind, ModelReport, Quarantined};

    const SENT_AT: Duration = Duration::from_secs(100);
    const NOW: Duration = Duration::from_secs(101);

    fn fetching(done: u64) -> Report {
        let candidate = Some((release("m", 2), Phase::Fetching { done, total: 100 }));
        let model = ModelReport { model: "m".parse().unwrap(), live: None, previous: None, candidate, swaps: 0 };
        Report { models: vec![model], fetched_bytes: done, ..report() }
    }

    fn waits(sent: &Report, changed: &Report) -> Duration {
        due(Some(&(sent.clone(), SENT_AT)), changed, NOW).saturating_sub(NOW)
    }

    #[test]
    fn progress_alone_waits_for_half_a_minute_after_the_last_report() {
        assert_eq!(waits(&fetching(1), &fetching(2)), Duration::from_secs(29));
    }

    #[test]
    fn everything_else_is_reported_at_once() {
        assert_eq!(waits(&report(), &fetching(1)), GATHER);
        assert_eq!(waits(&fetching(1), &report()), GATHER);
        assert_eq!(waits(&report(), &report()), GATHER, "somebody may wait to hear that all is well");
        assert_eq!(waits(&fetching(1), &Report { hold: Some("now not".into()), ..fetching(2) }), GATHER);
        assert_eq!(due(None, &fetching(2), NOW), NOW + GATHER);
    }

    #[test]
    fn a_report_that_is_too_large_leaves_out_the_oldest_of_its_quarantine() {
        let entry = |at: u64| Quarantined {
            release: release("m", at),
            attempt: 1,
            rollout: None,
            kind: FailureKind::Errors,
            detail: "x".repeat(500),
            at: Timestamp::from_millis(at),
        };
        let full = Report { quarantine: (1..=256).map(entry).collect(), ..report() };
        let sealed = |report: &Report| seal(report, &key(9)).unwrap();
        assert!(sealed(&full).len() > MAX_PAYLOAD_BYTES);
        let payload = fitted(full, MAX_PAYLOAD_BYTES, sealed).unwrap();
        assert!(payload.len() <= MAX_PAYLOAD_BYTES && payload.len() > MAX_PAYLOAD_BYTES / 2, "{}", payload.len());
        let report: Report = postcard::from_bytes(&Envelope::from_bytes(&payload).unwrap().body).unwrap();
        let kept: Vec<u64> = report.quarantine.iter().map(|entry| entry.at.as_millis()).collect();
        assert_eq!(kept[0], 256);
        assert!(kept.is_sorted_by(|newer, older| *newer == older + 1), "{kept:?}");
    }

    #[test]
    fn what_does_not_fit_without_a_quarantine_is_not_sent() {
        assert_eq!(fitted(report(), 10, |_| vec![0; 11]), None);
    }
}
