//! How far counts of a window are from those of the baseline (statistics.md section 5).
//!
//! Bins that are empty on both sides are no bins: an overflow that nobody ever saw adds neither to PSI nor to its degrees of freedom.
//! `B` is what remains. PSI and Jensen-Shannon are of the smoothed shares `(c + 1/2) / (n + B/2)`, so that a bin that is empty on one
//! side costs much and not infinitely much; the G-test, chi-squared, KS and Wasserstein need no smoothing and have none.

use super::edges::Edges;
use super::error::{StatsError, same_size};
use super::histogram::Histogram;
use super::special::{chi_squared_tail, deviance};

/// Expected counts below this are merged with their neighbours before a test.
const LEAST_EXPECTED: f64 = 5.0;
/// The larger side counts as at most so many times the smaller where its size would merge half of what the smaller one tells apart.
const MOST_TIMES: f64 = 4.0;

/// A statistic with its degrees of freedom and how likely chance is to give as much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The statistic, asymptotically chi-squared.
    pub statistic: f64,
    /// Groups less one; 0 when too little was left to test.
    pub degrees_of_freedom: usize,
    /// Probability of at least this much without drift; 1 when too little was left to test.
    pub p_value: f64,
}

/// Counts of a window and of its baseline, bin by bin.
#[derive(Debug, Clone)]
pub struct Pair {
    bins: Vec<(f64, f64)>,
    window: f64,
    baseline: f64,
}

impl Pair {
    /// Pairs the counts of a window with those of its baseline.
    ///
    /// # Errors
    /// [`StatsError::Shape`] when the numbers of bins differ, [`StatsError::NoCounts`] when one side is empty.
    pub fn new(window: &[u64], baseline: &[u64]) -> Result<Self, StatsError> {
        same_size("bins", window.len(), baseline.len())?;
        let bins: Vec<(f64, f64)> = window
            .iter()
            .zip(baseline)
            .filter(|(c, m)| **c > 0 || **m > 0)
            .map(|(c, m)| (*c as f64, *m as f64))
            .collect();
        let (n, m) = (bins.iter().map(|b| b.0).sum::<f64>(), bins.iter().map(|b| b.1).sum::<f64>());
        if n <= 0.0 || m <= 0.0 {
            return Err(StatsError::NoCounts);
        }
        Ok(Self { bins, window: n, baseline: m })
    }

    /// Number of bins that are not empty on both sides.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.bins.len()
    }

    /// Smoothed shares of window and baseline.
    fn shares(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let half = self.bins.len() as f64 / 2.0;
        self.bins.iter().map(move |(c, m)| ((c + 0.5) / (self.window + half), (m + 0.5) / (self.baseline + half)))
    }

    /// Population stability index, `sum (p - q) ln(p / q)`, natural logarithm.
    #[must_use]
    pub fn psi(&self) -> f64 {
        self.shares().map(|(p, q)| (p - q) * (p / q).ln()).sum()
    }

    /// What PSI is by chance alone, on average: `(B - 1)(1/n + 1/m)`.
    #[must_use]
    pub fn psi_expected(&self) -> f64 {
        (self.bins.len() as f64 - 1.0) * (1.0 / self.window + 1.0 / self.baseline)
    }

    /// PSI less what chance alone gives, not below 0. This is what bounds are stated in.
    #[must_use]
    pub fn psi_adjusted(&self) -> f64 {
        (self.psi() - self.psi_expected()).max(0.0)
    }

    /// Jensen-Shannon distance in base 2: the root of the divergence, from 0 (equal) to 1 (nothing in common).
    #[must_use]
    pub fn jensen_shannon(&self) -> f64 {
        let nats: f64 = self
            .shares()
            .map(|(p, q)| {
                let middle = (p + q) / 2.0;
                deviance(p, middle) + deviance(q, middle)
            })
            .sum();
        (nats / 2.0 / std::f64::consts::LN_2).max(0.0).sqrt()
    }

    /// G-test of homogeneity of window and baseline (Sokal and Rohlf; scipy's `chi2_contingency(lambda_="log-likelihood")`).
    #[must_use]
    pub fn g_test(&self) -> Test {
        self.test(|observed, expected| 2.0 * deviance(observed, expected))
    }

    /// Pearson's chi-squared test of homogeneity of window and baseline.
    #[must_use]
    pub fn chi_squared(&self) -> Test {
        self.test(|observed, expected| (observed - expected).powi(2) / expected)
    }

    fn test(&self, cell: impl Fn(f64, f64) -> f64) -> Test {
        let leveled = self.leveled();
        let (mut pair, mut groups) = (self, self.groups());
        // A million answers of one class beside three hundred rows of ten: of each of the other nine, pooled, next to nothing is
        // expected in three hundred. With fewer answers of the same shares the rows tell them apart.
        if let Some(leveled) = &leveled {
            let apart = leveled.groups();
            if apart.len() >= 2 * groups.len() {
                (pair, groups) = (leveled, apart);
            }
        }
        let total = pair.window + pair.baseline;
        let statistic = groups
            .iter()
            .map(|(c, m)| {
                let both = c + m;
                cell(*c, both * pair.window / total) + cell(*m, both * pair.baseline / total)
            })
            .sum();
        let degrees_of_freedom = groups.len() - 1;
        Test { statistic, degrees_of_freedom, p_value: chi_squared_tail(statistic, degrees_of_freedom) }
    }

    /// The same shares with the larger side as [`MOST_TIMES`] the smaller, where it is more. A test of it says less than one of
    /// all counts, never more.
    fn leveled(&self) -> Option<Self> {
        let most = self.window.min(self.baseline) * MOST_TIMES;
        let (window, baseline) = (self.window.min(most), self.baseline.min(most));
        if window >= self.window && baseline >= self.baseline {
            return None;
        }
        let (of_window, of_baseline) = (window / self.window, baseline / self.baseline);
        let bins = self.bins.iter().map(|(c, m)| (c * of_window, m * of_baseline)).collect();
        Some(Self { bins, window, baseline })
    }

    /// Neighbouring bins, merged from the left until each expects [`LEAST_EXPECTED`] on both sides; a rest joins the last group.
    fn groups(&self) -> Vec<(f64, f64)> {
        let smaller = self.window.min(self.baseline) / (self.window + self.baseline);
        let mut groups: Vec<(f64, f64)> = Vec::with_capacity(self.bins.len());
        let mut open = (0.0, 0.0);
        for (c, m) in &self.bins {
            open = (open.0 + c, open.1 + m);
            if (open.0 + open.1) * smaller >= LEAST_EXPECTED {
                groups.push(open);
                open = (0.0, 0.0);
            }
        }
        match groups.last_mut() {
            Some(last) => *last = (last.0 + open.0, last.1 + open.1),
            None => groups.push(open),
        }
        groups
    }

    /// Largest difference of the two cumulative shares, for bins in the order of the line (Kolmogorov-Smirnov, binned: too small by at
    /// most the largest share of one bin).
    #[must_use]
    pub fn kolmogorov_smirnov(&self) -> f64 {
        let (mut c, mut m) = (0.0, 0.0);
        let mut largest = 0.0f64;
        for bin in &self.bins {
            (c, m) = (c + bin.0, m + bin.1);
            largest = largest.max((c / self.window - m / self.baseline).abs());
        }
        largest
    }
}

/// Wasserstein-1 distance of two histograms over the same `edges`, each cell's mass at its mean, in units of the values; `None` when
/// one of them holds no values. Divide by the baseline's standard deviation to compare features.
///
/// # Errors
/// [`StatsError::Shape`] when a histogram does not fit the edges.
pub fn wasserstein(window: &Histogram, baseline: &Histogram, edges: &Edges) -> Result<Option<f64>, StatsError> {
    window.fits(edges)?;
    baseline.fits(edges)?;
    Ok(wasserstein_of(&window.means(edges).collect::<Vec<_>>(), &baseline.means(edges).collect::<Vec<_>>()))
}

/// The area between two cumulative shares, each given as (place, mass) in ascending order.
fn wasserstein_of(window: &[(f64, u64)], baseline: &[(f64, u64)]) -> Option<f64> {
    let total = |points: &[(f64, u64)]| points.iter().map(|(_, n)| *n as f64).sum::<f64>();
    let (n, m) = (total(window), total(baseline));
    if n <= 0.0 || m <= 0.0 {
        return None;
    }
    let mut steps: Vec<(f64, f64, f64)> = window.iter().map(|(at, mass)| (*at, *mass as f64, 0.0)).collect();
    steps.extend(baseline.iter().map(|(at, mass)| (*at, 0.0, *mass as f64)));
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut c, mut k, mut area, mut previous) = (0.0, 0.0, 0.0, None);
    for (at, mass, other) in steps {
        if let Some(previous) = previous {
            area += (c / n - k / m).abs() * (at - previous);
        }
        (c, k, previous) = (c + mass, k + other, Some(at));
    }
    Some(area)
}

#[cfg(test)]
#[path = "distance_tests.rs"]
mod tests;
