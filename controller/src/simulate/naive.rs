//! Gates that others use, on the same fleets: what they would have done, at the same looks, with the same waves.
//!
//! None of them is any good here, and that is why they stand here: they take a release back for what devices, bursts and
//! outages do, or they count requests of one device as if they were independent (statistics.md section 1).

use super::effect::Effect;
use super::fleet::SimFleet;
use super::plan::Plan;
use super::random::{self, stream};
use crate::rollout::fleet::{Fleet, FleetError};
use crate::rollout::order::{Seat, draw, last_of_each_last};
use crate::rollout::plan::PlanError;
use crate::rollout::strategy::Strategy;
use fieldpost_shared::id::{DeviceId, Digest};
use fieldpost_shared::time::{Clock, Timestamp};

/// Windows of a wave after which it is looked at.
const LOOKS: [u32; 5] = [1, 2, 4, 8, 16];
/// A fixed limit is so many times the fleet's mean error rate.
const LIMIT: f64 = 1.5;
/// Quantile of 95 % of the standard normal distribution.
const Z: f64 = 1.644_853_626_951_472_2;

/// A gate that others use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naive {
    /// The error rate of the devices with the release is above a fixed limit, 1.5 times what the fleet has, at three looks.
    Fixed,
    /// A test of two proportions over all requests at each look, 5 %.
    Pooled,
    /// The error rate is more than 1.5 times that of the devices without the release, at three looks in a row.
    Ratio,
    /// Welch's test on the devices' own rates at each look, 5 %.
    Welch,
}

impl Naive {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fixed, Self::Pooled, Self::Ratio, Self::Welch];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed limit, 3 failures",
            Self::Pooled => "pooled z at each look",
            Self::Ratio => "ratio > 1.5, 3 in a row",
            Self::Welch => "Welch on device means",
        }
    }
}

/// Why the gates cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum NaiveError {
    /// The waves do not fit the fleet.
    #[error("cannot use the waves for this fleet")]
    Waves(#[source] PlanError),
    /// The fleet cannot be seen.
    #[error("cannot see the simulated fleet")]
    Fleet(#[source] FleetError),
}

/// Requests and errors of one device.
type Served = (f64, f64);

/// For each gate of [`Naive::ALL`], how many requests the release had served when it took it back, if it did.
///
/// # Errors
/// When the waves do not fit the fleet.
pub fn walk(plan: &Plan, strategy: &Strategy, effect: Effect, seed: u64) -> Result<[Option<u64>; 4], NaiveError> {
    let devices = plan.fleet.devices;
    let waves = strategy.waves.resolve(devices, strategy.holdout.ceil(devices)).map_err(NaiveError::Waves)?;
    let count = u32::try_from(waves.len()).unwrap_or(u32::MAX);
    let lasts = plan.fleet.window.saturating_mul(18).saturating_mul(count);
    let fleet = SimFleet::new(plan, &[effect], seed, lasts);
    let views = fleet.devices().map_err(NaiveError::Fleet)?;
    let drawn = Digest::from_bytes(random::bytes(&mut stream(seed, b"order   ", 0)));
    let seat = |id: &DeviceId, stratum| Seat { device: id.clone(), stratum };
    let order =
        last_of_each_last(draw(&drawn, views.values().map(|view| seat(&view.id, view.stratum(&strategy.stratify)))));
    let mut counts = [0_u32; 4];
    let mut found = [None; 4];
    let mut reached = 0;
    for wave in waves {
        let (treated, controls) = order.split_at_checked(wave.reaches).unwrap_or((&order, &[]));
        treated.iter().skip(reached).for_each(|seat| fleet.force(&seat.device, 1));
        reached = wave.reaches;
        let since = fleet.clock().now();
        for windows in LOOKS {
            let at = since.plus(plan.fleet.window.saturating_mul(windows));
            fleet.clock().advance(at.since(fleet.clock().now()));
            let (with, without) = (arm(&fleet, treated, 1, since), arm(&fleet, controls, 0, since));
            let fires = look(&with, &without, plan.fleet.error_rate, &mut counts);
            for (found, _) in found.iter_mut().zip(fires).filter(|(found, fires)| found.is_none() && *fires) {
                *found = Some(fleet.served(1).0);
            }
        }
    }
    Ok(found)
}

fn arm(fleet: &SimFleet, seats: &[Seat], release: usize, since: Timestamp) -> Vec<Served> {
    let of = |seat: &Seat| fleet.tally(&seat.device, release, since);
    let served = seats.iter().filter_map(of).filter(|tally| tally.requests > 0);
    served.map(|tally| (f64::from(tally.requests), f64::from(tally.errors))).collect()
}

fn look(with: &[Served], without: &[Served], usual: f64, counts: &mut [u32; 4]) -> [bool; 4] {
    let [fixed, _, ratio, _] = counts;
    let ((n, errors), (n0, errors0)) = (sum(with), sum(without));
    let (rate, rate0) = (share(errors, n), share(errors0, n0));
    *fixed += u32::from(n > 0.0 && rate > LIMIT * usual);
    *ratio = if n0 > 0.0 && rate > 1.5 * rate0 { *ratio + 1 } else { 0 };
    let both = share(errors + errors0, n + n0);
    let z = share(rate - rate0, (both * (1.0 - both) * (share(1.0, n) + share(1.0, n0))).sqrt());
    [*fixed >= 3, z > Z, *ratio >= 3, welch(with, without)]
}

fn sum(arm: &[Served]) -> Served {
    arm.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn share(part: f64, of: f64) -> f64 {
    if of > 0.0 { part / of } else { 0.0 }
}

/// Welch's t test, one-sided at 5 %, on the devices' own rates.
fn welch(with: &[Served], without: &[Served]) -> bool {
    let shape = |arm: &[Served]| {
        let n = arm.len() as f64;
        let mean = arm.iter().map(|(n, errors)| errors / n).sum::<f64>() / n;
        let variance = arm.iter().map(|(n, errors)| (errors / n - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n, n)
    };
    if with.len() < 2 || without.len() < 2 {
        return false;
    }
    let ((mean, error, n), (mean0, error0, n0)) = (shape(with), shape(without));
    let both = error + error0;
    let freedom = both.powi(2) / (error.powi(2) / (n - 1.0) + error0.powi(2) / (n0 - 1.0));
    both > 0.0 && (mean - mean0) / both.sqrt() > student(freedom)
}

/// Quantile of 95 % of Student's t: the expansion of Abramowitz and Stegun 26.7.5, within 0.003 from 5 degrees of freedom.
fn student(freedom: f64) -> f64 {
    let (z3, z5, z7) = (Z.powi(3), Z.powi(5), Z.powi(7));
    let third = (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * Z) / (384.0 * freedom.powi(3));
    Z + (z3 + Z) / (4.0 * freedom) + (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * freedom.powi(2)) + third
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(with: &[Served], without: &[Served], expected: [bool; 4]) {
        let mut counts = [0; 4];
        let fires = (0..3).map(|_| look(with, without, 0.03, &mut counts)).last().unwrap();
        assert_eq!(fires, expected);
    }

    #[test]
    fn none_fires_on_devices_that_are_alike() {
        let alike: Vec<Served> = (0..20).map(|i| (100.0, f64::from(2 + i % 3))).collect();
        check(&alike, &alike, [false; 4]);
    }

    #[test]
    fn all_fire_on_three_times_the_errors() {
        let usual: Vec<Served> = (0..20).map(|i| (100.0, f64::from(2 + i % 3))).collect();
        let harmful: Vec<Served> = usual.iter().map(|(n, errors)| (*n, errors * 3.0)).collect();
        check(&harmful, &usual, [true; 4]);
    }

    #[test]
    fn one_bad_device_fools_all_that_count_requests() {
        let usual: Vec<Served> = vec![(100.0, 3.0); 20];
        let mut one_bad = usual.clone();
        one_bad[0].1 = 60.0;
        check(&one_bad, &usual, [true, true, true, false]);
    }

    #[test]
    fn nobody_fires_without_data() {
        check(&[], &[], [false; 4]);
    }

    #[test]
    fn quantiles_of_students_t_are_those_of_the_tables() {
        for (freedom, quantile) in [(5.0, 2.015), (10.0, 1.8125), (30.0, 1.6973), (1e6, 1.6449)] {
            assert!((student(freedom) - quantile).abs() < 0.003, "{freedom}: {}", student(freedom));
        }
    }
}
