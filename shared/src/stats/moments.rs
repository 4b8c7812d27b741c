//! Mean, variance and extremes in one pass.

/// Welford's recurrence (Technometrics 4, 1962), merged by Chan, Golub and LeVeque (1979).
///
/// Exactness: `n`, `min` and `max` merge exactly. Mean and variance are floating-point and *not* associative to the last bit: a merge
/// agrees with one pass over all values to about `n * 2^-53` relative to the spread, whatever the distance of the mean from zero. So
/// moments belong to baselines, which are computed once, and not to windows, which merge in any order.
/// NaN and infinities are left out and not counted.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Moments {
    n: u64,
    mean: f64,
    /// Sum of squared deviations from the mean.
    m2: f64,
    min: f64,
    max: f64,
}

impl Moments {
    /// Moments of `values`.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut moments = Self::default();
        for value in values {
            moments.insert(*value);
        }
        moments
    }

    /// Takes in one value; NaN and infinities are ignored.
    pub fn insert(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.n == 0 {
            (self.min, self.max) = (value, value);
        }
        self.n = self.n.saturating_add(1);
        let delta = value - self.mean;
        self.mean += delta / self.n as f64;
        self.m2 += delta * (value - self.mean);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Takes in what `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        if self.n == 0 {
            *self = *other;
            return;
        }
        let (n, m) = (self.n as f64, other.n as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * (m / (n + m));
        self.m2 += other.m2 + delta * delta * (n * m / (n + m));
        self.n = self.n.saturating_add(other.n);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Number of finite values.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Mean; `None` without a value.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then_some(self.mean)
    }

    /// Sample variance (divided by n - 1); `None` below two values.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        (self.n > 1).then(|| self.m2 / (self.n - 1) as f64)
    }

    /// Sample standard deviation; `None` below two values.
    #[must_use]
    pub fn std(&self) -> Option<f64> {
        self.variance().map(f64::sqrt)
    }

    /// Smallest value.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        (self.n > 0).then_some(self.min)
    }

    /// Largest value.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (self.n > 0).then_some(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn variance_far_from_zero_keeps_its_digits() {
        assert_eq!(Moments::of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]).variance(), Some(30.0));
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        assert_eq!(Moments::of(&[f64::NAN, 3.0, f64::INFINITY]), Moments::of(&[3.0]));
    }

    #[test]
    fn nothing_has_no_mean_and_one_value_no_variance() {
        assert_eq!((Moments::default().mean(), Moments::of(&[1.0]).variance()), (None, None));
    }

    proptest! {
        #[test]
        fn a_merge_agrees_with_one_pass(
            a in prop::collection::vec(-1e6..1e6, 0..50), b in prop::collection::vec(-1e6..1e6, 0..50),
        ) {
            let mut merged = Moments::of(&a);
            merged.merge(&Moments::of(&b));
            let whole = Moments::of(&[a, b].concat());
            prop_assert_eq!((merged.n(), merged.min(), merged.max()), (whole.n(), whole.min(), whole.max()));
            if let (Some(x), Some(y)) = (merged.std(), whole.std()) {
                prop_assert!((x - y).abs() <= 1e-12 * y.max(1.0));
                prop_assert!((merged.mean().unwrap() - whole.mean().unwrap()).abs() <= 1e-12 * 1e6);
            }
        }
    }
}
