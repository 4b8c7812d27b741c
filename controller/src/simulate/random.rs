//! Random numbers of simulations: one seed, and a stream of its own for everything that draws.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Beta, Binomial, Distribution, Exp1, Gamma, LogNormal, Poisson, StandardNormal};

/// Where random numbers come from.
pub(super) type Stream = Xoshiro256PlusPlus;

/// The stream of one thing: `label` says what, `number` which one.
pub(super) fn stream(seed: u64, label: &[u8; 8], number: u64) -> Stream {
    Stream::seed_from_u64(mix(mix(seed ^ u64::from_le_bytes(*label)).wrapping_add(number)))
}

/// SplitMix64's finaliser: neighbouring numbers become unrelated ones.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 32 bytes, such as the seed of a rollout.
pub(super) fn bytes(stream: &mut Stream) -> [u8; 32] {
    stream.random()
}

/// In [0, 1).
pub(super) fn uniform(stream: &mut Stream) -> f64 {
    stream.random()
}

/// Whether something of this probability happens.
pub(super) fn happens(stream: &mut Stream, probability: f64) -> bool {
    probability > 0.0 && uniform(stream) < probability
}

/// Below `bound`; 0 when that is 0.
pub(super) fn below(stream: &mut Stream, bound: u64) -> u64 {
    if bound == 0 { 0 } else { stream.random_range(0..bound) }
}

/// A float as a whole number: saturates, NaN is 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float that is cast saturates")]
pub(super) fn whole(value: f64) -> u64 {
    value as u64
}

/// Exponential with this mean, at least 1.
pub(super) fn exponential(stream: &mut Stream, mean: f64) -> u64 {
    let unit: f64 = Exp1.sample(stream);
    whole(unit * mean).max(1)
}

/// Standard normal.
pub(super) fn normal(stream: &mut Stream) -> f64 {
    StandardNormal.sample(stream)
}

/// Log-normal with this median.
pub(super) fn around(stream: &mut Stream, median: f64, sigma: f64) -> f64 {
    LogNormal::new(median.max(f64::MIN_POSITIVE).ln(), sigma).map_or(median, |law| law.sample(stream))
}

/// Gamma with this mean and coefficient of variation.
pub(super) fn gamma(stream: &mut Stream, mean: f64, spread: f64) -> f64 {
    let variance = spread * spread;
    // Without spread, or without a mean, there is no such law, and the value is the mean.
    Gamma::new(1.0 / variance, mean * variance).map_or(mean, |law| law.sample(stream))
}

/// Beta with this mean and coefficient of variation.
pub(super) fn beta(stream: &mut Stream, mean: f64, spread: f64) -> f64 {
    let size = (1.0 - mean) / (mean * spread * spread) - 1.0;
    Beta::new(mean * size, (1.0 - mean) * size).map_or(mean, |law| law.sample(stream))
}

/// How many of `n` trials of this probability succeed.
pub(super) fn binomial(stream: &mut Stream, n: u32, p: f64) -> u32 {
    if n == 0 || p <= 0.0 {
        return 0;
    }
    if n <= FEW {
        return (0..n).map(|_| u32::from(uniform(stream) < p)).sum();
    }
    let drawn = Binomial::new(u64::from(n), p.min(1.0)).map_or(0, |law| law.sample(stream));
    u32::try_from(drawn).unwrap_or(n)
}

/// So many trials are drawn one by one: that is faster than to set a law up.
const FEW: u32 = 48;

/// How many events come where so many are expected.
pub(super) fn poisson(stream: &mut Stream, mean: f64) -> u32 {
    let drawn: f64 = Poisson::new(mean).map_or(0.0, |law| law.sample(stream));
    u32::try_from(whole(drawn)).unwrap_or(u32::MAX)
}

/// Spreads `n` over cells whose cumulative probabilities are given.
pub(super) fn scatter<const CELLS: usize>(stream: &mut Stream, n: u32, cumulative: &[f64; CELLS]) -> [u32; CELLS] {
    let mut counts = [0; CELLS];
    if n <= FEW {
        for _ in 0..n {
            let place = uniform(stream);
            let cell = cumulative.iter().position(|edge| place < *edge).unwrap_or(CELLS - 1);
            if let Some(count) = counts.get_mut(cell) {
                *count += 1;
            }
        }
        return counts;
    }
    let (mut left, mut below) = (n, 0.0);
    for (count, edge) in counts.iter_mut().zip(cumulative) {
        let rest = 1.0 - below;
        let p = if rest > 0.0 { (edge - below) / rest } else { 1.0 };
        *count = binomial(stream, left, p);
        left -= *count;
        below = *edge;
    }
    // What rounding leaves over belongs to the last cell.
    if let Some(last) = counts.last_mut() {
        *last += left;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and coefficient of variation of many draws.
    fn shape(draw: impl Fn(&mut Stream) -> f64) -> (f64, f64) {
        let mut stream = stream(7, b"test    ", 0);
        let all: Vec<f64> = (0..20_000).map(|_| draw(&mut stream)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
        (mean, variance.sqrt() / mean)
    }

    fn check(draw: impl Fn(&mut Stream) -> f64, mean: f64, spread: f64) {
        let found = shape(draw);
        assert!((found.0 / mean - 1.0).abs() < 0.03 && (found.1 - spread).abs() < 0.03, "{found:?}");
    }

    #[test]
    fn laws_have_the_mean_and_spread_that_are_asked_for() {
        check(|s| beta(s, 0.03, 1.0), 0.03, 1.0);
        check(|s| gamma(s, 20.0, 0.5), 20.0, 0.5);
        check(|s| gamma(s, 20.0, 0.0), 20.0, 0.0);
        check(|s| f64::from(poisson(s, 25.0)), 25.0, 0.2);
        check(|s| f64::from(binomial(s, 30, 0.2)), 6.0, (0.8_f64 / 6.0).sqrt());
        check(|s| f64::from(binomial(s, 300, 0.2)), 60.0, (0.8_f64 / 60.0).sqrt());
    }

    #[test]
    fn few_and_many_are_scattered_alike_and_nothing_is_lost() {
        let cumulative = [0.1, 0.1, 0.6, 1.0];
        for n in [40, 4_000] {
            let mut stream = stream(3, b"test    ", 1);
            let mut sums = [0_u32; 4];
            for _ in 0..(400_000 / n) {
                let counts = scatter(&mut stream, n, &cumulative);
                assert_eq!(counts.iter().sum::<u32>(), n);
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            let shares = sums.map(|sum| f64::from(sum) / 400_000.0);
            assert!(
                shares[1] == 0.0 && (shares[0] - 0.1).abs() < 0.005 && (shares[2] - 0.5).abs() < 0.005,
                "{shares:?}"
            );
        }
    }

    #[test]
    fn streams_of_different_things_differ_and_those_of_the_same_do_not() {
        let first = |seed, label, number| stream(seed, label, number).random::<u64>();
        assert_eq!(first(1, b"device  ", 2), first(1, b"device  ", 2));
        let all =
            [first(1, b"device  ", 2), first(1, b"device  ", 3), first(2, b"device  ", 2), first(1, b"site    ", 2)];
        assert!(all.iter().enumerate().all(|(i, a)| all.iter().skip(i + 1).all(|b| a != b)), "{all:?}");
    }
}
