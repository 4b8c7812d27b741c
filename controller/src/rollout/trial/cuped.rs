//! CUPED (Deng, Xu, Kohavi, Walker 2013): a device's score less what its own past explains.

/// Scores after the adjustment.
#[derive(Debug, Clone, PartialEq)]
pub struct Adjusted {
    /// Slope of the scores on the past.
    pub theta: f64,
    /// The scores, by device.
    pub scores: Vec<f64>,
}

/// `y - theta (x - mean x)`, where theta is fitted over all devices of both arms, so that nothing in it depends on who
/// is treated. A device without a past gets the mean, and keeps its score. Without two pasts that differ, theta is 0.
#[must_use]
pub fn adjust(y: &[f64], x: &[Option<f64>]) -> Adjusted {
    let known: Vec<(f64, f64)> = y.iter().zip(x).filter_map(|(y, x)| x.map(|x| (*y, x))).collect();
    let n = known.len().max(1) as f64;
    let mean_y = known.iter().map(|(y, _)| y).sum::<f64>() / n;
    let mean_x = known.iter().map(|(_, x)| x).sum::<f64>() / n;
    let covariance: f64 = known.iter().map(|(y, x)| (y - mean_y) * (x - mean_x)).sum();
    let variance: f64 = known.iter().map(|(_, x)| (x - mean_x).powi(2)).sum();
    let theta = if variance > 1e-18 { (covariance / variance).clamp(-100.0, 100.0) } else { 0.0 };
    let scores = y.iter().zip(x).map(|(y, x)| y - theta * x.map_or(0.0, |x| x - mean_x)).collect();
    Adjusted { theta, scores }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_past_that_explains_everything_leaves_nothing() {
        let x: Vec<Option<f64>> = (0..5).map(|i| Some(f64::from(i) / 10.0)).collect();
        let y: Vec<f64> = (0..5).map(|i| 0.1 + 2.0 * f64::from(i) / 10.0).collect();
        let Adjusted { theta, scores } = adjust(&y, &x);
        assert!((theta - 2.0).abs() < 1e-9);
        assert!(scores.iter().all(|score| (score - 0.5).abs() < 1e-9), "{scores:?}");
    }

    #[test]
    fn a_device_without_a_past_keeps_its_score() {
        assert_eq!(adjust(&[0.1, 0.2, 0.9], &[Some(0.1), Some(0.2), None]).scores[2], 0.9);
    }

    #[test]
    fn no_past_at_all_adjusts_nothing() {
        assert_eq!(adjust(&[0.1, 0.9], &[None, Some(0.3)]), Adjusted { theta: 0.0, scores: vec![0.1, 0.9] });
    }
}
