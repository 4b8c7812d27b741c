//! Chance that anybody can draw again: SplitMix64 (Steele, Lea, Flood 2014), begun from a digest of the rollout's seed and
//! of what the numbers are for.

use fieldpost_shared::id::Digest;

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Stream(u64);

impl Stream {
    /// The stream of a purpose and an index: begun from the first eight bytes, big-endian, of
    /// sha256("fieldpost trial 1\0" + seed + purpose + "\0" + index as eight bytes, big-endian).
    #[must_use]
    pub fn new(seed: &Digest, purpose: &str, index: u64) -> Self {
        let mut text = b"fieldpost trial 1\0".to_vec();
        text.extend_from_slice(seed.as_bytes());
        text.extend_from_slice(purpose.as_bytes());
        text.push(0);
        text.extend_from_slice(&index.to_be_bytes());
        let digest = Digest::of(&text);
        let (head, _) = digest.as_bytes().split_at(8);
        Self(head.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0 when there is none. Some are likelier than others by less than `n / 2^64`.
    #[expect(clippy::cast_possible_truncation, reason = "the high half of a product of two 64-bit numbers has 64 bits")]
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number from the standard normal distribution (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// How many of `n` events are kept when each is with probability `p`: one by one up to 4,096 events, beyond that by
    /// the normal approximation.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=n")]
    pub fn thin(&mut self, n: u64, p: f64) -> u64 {
        if n <= 4_096 {
            return (0..n).fold(0, |kept, _| kept + u64::from(self.unit() < p));
        }
        let n_f = n as f64;
        (n_f * p + (n_f * p * (1.0 - p)).sqrt() * self.normal()).round().clamp(0.0, n_f) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An auditor draws the same numbers in ten years.
    #[test]
    fn the_stream_of_a_seed_is_frozen() {
        let mut stream = Stream::new(&Digest::from_bytes([7; 32]), "paths", 3);
        let first: Vec<u64> = (0..3).map(|_| stream.bits()).collect();
        let golden = include_str!("../testdata/trial-stream-v1.txt");
        assert_eq!(first.iter().map(|n| format!("{n:016x}")).collect::<Vec<_>>().join("\n"), golden.trim_end());
    }

    #[test]
    fn thinning_keeps_its_share() {
        let mut stream = Stream::new(&Digest::from_bytes([1; 32]), "test", 0);
        for n in [100_u64, 4_096, 1_000_000] {
            let kept: u64 = (0..200).map(|_| stream.thin(n, 1.0 / 1.5)).sum();
            let share = kept as f64 / (200 * n) as f64;
            assert!((share - 2.0 / 3.0).abs() < 4.0 * (2.0 / 9.0 / (200 * n) as f64).sqrt(), "{n}: {share}");
        }
        assert_eq!((stream.thin(0, 0.5), stream.thin(9, 1.0)), (0, 9));
    }
}
