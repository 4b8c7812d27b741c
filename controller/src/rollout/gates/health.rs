//! Health: devices that failed the self-test, crashed, took the release back, or fell silent.

use super::{Evidence, Gate, GateReport, HealthFailure, Verdict};
use crate::rollout::explain::devices;
use fieldpost_shared::stats::{Health, HealthTest};
use std::collections::BTreeMap;

/// Wald's sequential test over devices, p0 = 1 % against p1 = 30 %: two failures among the first five decide.
#[derive(Debug)]
pub struct HealthRule;

/// Every way in which devices failed, as `2 crashed, 1 fell silent`.
fn by_way(evidence: &Evidence<'_>) -> String {
    let mut ways: BTreeMap<HealthFailure, usize> = BTreeMap::new();
    for failure in evidence.outcomes.iter().filter_map(|outcome| outcome.failure) {
        *ways.entry(failure).or_default() += 1;
    }
    ways.iter().map(|(way, count)| format!("{count} {way}")).collect::<Vec<_>>().join(", ")
}

impl Gate for HealthRule {
    fn name(&self) -> &'static str {
        "health"
    }

    fn judge(&self, evidence: &Evidence<'_>) -> GateReport {
        let mut test = HealthTest::default();
        let last = evidence.outcomes.iter().map(|outcome| test.insert(outcome.failure.is_some())).last();
        let failed = evidence.outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
        let n = evidence.outcomes.len();
        let (ratio, border) = test.likelihood();
        let numbers = [
            ("devices", n as f64),
            ("failed", failed as f64),
            ("p0", 0.01),
            ("p1", 0.30),
            ("likelihood_ratio", ratio),
            ("decides_at", border),
        ];
        let to_go = match test.failures_to_go() {
            1 => "one more failure would decide".to_owned(),
            more => format!("{more} more failures in a row would decide"),
        };
        let (verdict, sentence) = match last {
            None => (Verdict::Waiting, "no device has shown yet whether it gets on with the release".to_owned()),
            Some(Health::Unhealthy) => (
                Verdict::Breach,
                format!(
                    "{failed} of {} failed ({}): more like 30 % than like 1 % (likelihood ratio {ratio:.0}, {border:.0} decides)",
                    devices(n),
                    by_way(evidence)
                ),
            ),
            Some(_) if failed > 0 => (
                Verdict::Pass,
                format!(
                    "{failed} of {} failed ({}): too few to tell 30 % from 1 %; {to_go}",
                    devices(n),
                    by_way(evidence)
                ),
            ),
            Some(_) => (Verdict::Pass, format!("none of {} failed", devices(n))),
        };
        GateReport::new(self.name(), verdict, sentence, &numbers)
    }
}

/// Every device of the wave failed: however small the wave, nobody is left who could show that it works.
#[derive(Debug)]
pub struct WholeWave;

impl Gate for WholeWave {
    fn name(&self) -> &'static str {
        "whole-wave"
    }

    fn judge(&self, evidence: &Evidence<'_>) -> GateReport {
        let of_wave = || evidence.outcomes.iter().filter(|outcome| outcome.of_wave);
        let failed = of_wave().filter(|outcome| outcome.failure.is_some()).count();
        let (wave, size) = (evidence.wave, evidence.wave_size);
        let numbers = [("wave", wave as f64), ("devices", size as f64), ("failed", failed as f64)];
        let (verdict, sentence) = if size > 0 && failed >= size {
            (Verdict::Breach, format!("every device of wave {wave} failed: {failed} of {size} ({})", by_way(evidence)))
        } else if of_wave().next().is_none() {
            (Verdict::Waiting, format!("no device of wave {wave} has shown anything yet"))
        } else {
            (Verdict::Pass, format!("{failed} of {} of wave {wave} failed", devices(size)))
        };
        GateReport::new(self.name(), verdict, sentence, &numbers)
    }
}

/// More devices failed in one way than the operator allows.
#[derive(Debug)]
pub struct CountLimit(pub HealthFailure);

impl Gate for CountLimit {
    fn name(&self) -> &'static str {
        match self.0 {
            HealthFailure::SelfTest => "self-tests",
            HealthFailure::Shadow => "shadows",
            HealthFailure::Crash => "crashes",
            HealthFailure::LocalRollback => "local-rollbacks",
            HealthFailure::Silent => "silence",
        }
    }

    fn judge(&self, evidence: &Evidence<'_>) -> GateReport {
        let limit = match self.0 {
            HealthFailure::SelfTest => evidence.limits.failed_self_tests,
            // The health rule and the rule of the whole wave judge these.
            HealthFailure::Shadow => None,
            HealthFailure::Crash => evidence.limits.crashes,
            HealthFailure::LocalRollback => evidence.limits.local_rollbacks,
            HealthFailure::Silent => evidence.limits.silent,
        };
        let count = evidence.outcomes.iter().filter(|outcome| outcome.failure == Some(self.0)).count();
        let n = evidence.outcomes.len();
        let mut numbers = vec![("devices", n as f64), ("failed", count as f64)];
        let Some(limit) = limit else {
            let sentence = format!("{count} of {} {}; the health rule judges them", devices(n), self.0);
            return GateReport::new(self.name(), Verdict::Unbounded, sentence, &numbers);
        };
        numbers.push(("bound", limit as f64));
        let verdict = if count > limit { Verdict::Breach } else { Verdict::Pass };
        let sentence = format!("{count} of {} {} (limit {limit})", devices(n), self.0);
        GateReport::new(self.name(), verdict, sentence, &numbers)
    }
}
