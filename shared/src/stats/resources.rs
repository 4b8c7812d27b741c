//! What the box had to give while a window was open.

use serde::{Deserialize, Serialize};

use super::error::StatsError;

/// Readings of one quantity in whole units: how many, their sum and extremes. Merges exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    n: u64,
    sum: i128,
    min: i64,
    max: i64,
}

impl Gauge {
    /// One reading.
    #[must_use]
    pub fn of(reading: i64) -> Self {
        Self { n: 1, sum: i128::from(reading), min: reading, max: reading }
    }

    /// Adds what `other` has read.
    pub fn merge(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Number of readings.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Mean reading.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.n.max(1) as f64
    }

    /// Smallest reading.
    #[must_use]
    pub fn min(&self) -> i64 {
        self.min
    }

    /// Largest reading.
    #[must_use]
    pub fn max(&self) -> i64 {
        self.max
    }

    fn is_consistent(&self) -> bool {
        let n = i128::from(self.n);
        self.n > 0 && i128::from(self.min) * n <= self.sum && self.sum <= i128::from(self.max) * n
    }
}

/// One reading of a box. What it cannot read is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Use of all processors together, percent (0 to 100).
    pub cpu_percent: Option<f32>,
    /// Resident memory of the agent, bytes.
    pub rss_bytes: Option<u64>,
    /// Hottest sensor, degrees Celsius.
    pub temperature_celsius: Option<f32>,
    /// Free space where the models lie, bytes.
    pub disk_free_bytes: Option<u64>,
}

/// The readings of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Hundredths of a percent of all processors.
    pub cpu_centipercent: Option<Gauge>,
    /// Resident memory of the agent, bytes.
    pub rss_bytes: Option<Gauge>,
    /// Thousandths of a degree Celsius.
    pub temperature_millicelsius: Option<Gauge>,
    /// Free space where the models lie, bytes.
    pub disk_free_bytes: Option<Gauge>,
}

impl Resources {
    /// Takes in one reading; NaN is no reading.
    pub fn insert(&mut self, reading: &Reading) {
        let bytes = |b: u64| Gauge::of(i64::try_from(b).unwrap_or(i64::MAX));
        self.merge(&Self {
            cpu_centipercent: reading.cpu_percent.and_then(|p| scaled(p, 100.0)),
            rss_bytes: reading.rss_bytes.map(bytes),
            temperature_millicelsius: reading.temperature_celsius.and_then(|t| scaled(t, 1000.0)),
            disk_free_bytes: reading.disk_free_bytes.map(bytes),
        });
    }

    /// Adds what `other` has read.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.gauges_mut().into_iter().zip(other.gauges()) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.merge(&theirs),
                (mine @ None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
    }

    pub(crate) fn validate(&self) -> Result<(), StatsError> {
        if self.gauges().into_iter().flatten().all(|g| g.is_consistent()) {
            Ok(())
        } else {
            Err(StatsError::Inconsistent { what: "resource readings" })
        }
    }

    fn gauges(&self) -> [Option<Gauge>; 4] {
        [self.cpu_centipercent, self.rss_bytes, self.temperature_millicelsius, self.disk_free_bytes]
    }

    fn gauges_mut(&mut self) -> [&mut Option<Gauge>; 4] {
        [&mut self.cpu_centipercent, &mut self.rss_bytes, &mut self.temperature_millicelsius, &mut self.disk_free_bytes]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the saturating cast is what is wanted")]
fn scaled(value: f32, parts: f64) -> Option<Gauge> {
    (!value.is_nan()).then(|| Gauge::of((f64::from(value) * parts).round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(temperature_celsius: f32) -> Resources {
        let mut r = Resources::default();
        r.insert(&Reading { temperature_celsius: Some(temperature_celsius), ..Reading::default() });
        r
    }

    #[test]
    fn temperatures_below_zero_merge() {
        let mut r = reading(-20.5);
        r.merge(&reading(10.0));
        let gauge = r.temperature_millicelsius.unwrap();
        assert_eq!((gauge.min(), gauge.max(), gauge.mean()), (-20_500, 10_000, -5_250.0));
    }

    #[test]
    fn a_broken_sensor_is_no_reading() {
        assert_eq!(reading(f32::NAN), Resources::default());
    }

    #[test]
    fn a_sum_beyond_its_extremes_is_refused() {
        let gauge = Gauge { n: 2, sum: 21, min: 0, max: 10 };
        assert!(Resources { rss_bytes: Some(gauge), ..Resources::default() }.validate().is_err());
    }
}
