//! Axes: where values lie on the page, and where the ticks are.

use std::time::Duration;

/// A stretch of values on a stretch of the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    values: (f64, f64),
    page: (f64, f64),
}

impl Scale {
    pub(super) fn new(values: (f64, f64), page: (f64, f64)) -> Self {
        // One value alone would have no length.
        let values = if values.1 > values.0 { values } else { (values.0 - 0.5, values.0 + 0.5) };
        Self { values, page }
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value - self.values.0) / (self.values.1 - self.values.0);
        self.page.0 + share.clamp(0.0, 1.0) * (self.page.1 - self.page.0)
    }
}

/// Round numbers from below the least value to above the greatest, and the step between them.
pub(super) fn ticks(low: f64, high: f64, about: f64) -> (Vec<f64>, f64) {
    let span = (high - low).max(f64::EPSILON * 1e3);
    let raw = span / about;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= raw).unwrap_or(raw);
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    let mut ticks = Vec::new();
    let mut number = first;
    // The step is about a fifth of the span, so there are few.
    while number <= last && ticks.len() < 50 {
        ticks.push(number * step);
        number += 1.0;
    }
    (ticks, step)
}

const STEPS_S: [u64; 21] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    2_592_000,
];

/// Times from the beginning to the end of a stretch, at most eight of them, as people count them.
pub(super) fn times(span: Duration) -> Vec<(Duration, String)> {
    let seconds = span.as_secs().max(1);
    let step = STEPS_S.into_iter().find(|step| seconds / step < 8).unwrap_or(seconds / 7 + 1);
    let text = |s: u64| match step {
        1..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..86_400 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    };
    (0..=seconds / step).map(|n| (Duration::from_secs(n * step), text(n * step))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        for (low, high) in [(0.0, 1.0), (0.013, 0.017), (-3.2, 47.0), (5.0, 5.0), (0.0, 1e-9)] {
            let (ticks, step) = ticks(low, high, 4.0);
            assert!(ticks.first().unwrap() <= &low && ticks.last().unwrap() >= &high, "{low} {high}: {ticks:?}");
            assert!((1..=8).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            assert!(ticks.len() > 1 || low == high, "{low} {high}: {ticks:?}");
            let mantissa = step / 10_f64.powf(step.log10().floor());
            assert!([1.0, 2.0, 5.0, 10.0].iter().any(|round| (mantissa - round).abs() < 1e-6), "{step}");
        }
    }

    #[test]
    fn times_are_told_as_people_count_them() {
        let told = |s| times(Duration::from_secs(s)).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(told(12), ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s", "12 s"]);
        assert_eq!(told(4_000), ["0 min", "10 min", "20 min", "30 min", "40 min", "50 min", "60 min"]);
        assert_eq!(told(200_000).last().unwrap(), "48 h");
        for s in [0, 1, 59, 3_599, 86_399, 10_000_000, 1_000_000_000] {
            assert!((1..=9).contains(&times(Duration::from_secs(s)).len()), "{s}");
        }
    }

    #[test]
    fn a_scale_never_leaves_its_page() {
        let scale = Scale::new((0.0, 2.0), (100.0, 0.0));
        assert_eq!([scale.at(0.0), scale.at(1.0), scale.at(2.0), scale.at(9.0)], [100.0, 50.0, 0.0, 0.0]);
        assert_eq!(Scale::new((3.0, 3.0), (0.0, 10.0)).at(3.0), 5.0);
    }
}
