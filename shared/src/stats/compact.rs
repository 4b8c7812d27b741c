//! The compact byte form that all count sketches share on the wire.
//!
//! Numbers are LEB128 varints (u64, at most ten bytes). A run of empty bins is a zero followed by its length less one, so that a
//! sparse sketch costs what it holds and a dense one costs a byte or two a bin. A decoder states how many bins it accepts before it
//! allocates them: a run length is the only place where few bytes could ask for much memory.

use super::error::{StatsError, at_most};

/// Appends one varint.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends `bins`, run-length coded; `value` writes what follows a non-zero count.
pub(crate) fn put_runs<T>(
    out: &mut Vec<u8>,
    bins: &[T],
    count: impl Fn(&T) -> u64,
    mut rest: impl FnMut(&mut Vec<u8>, &T),
) {
    put(out, bins.len() as u64);
    let mut empty = 0u64;
    for bin in bins {
        let n = count(bin);
        if n == 0 {
            empty += 1;
            continue;
        }
        flush_run(out, &mut empty);
        put(out, n);
        rest(out, bin);
    }
    flush_run(out, &mut empty);
}

fn flush_run(out: &mut Vec<u8>, empty: &mut u64) {
    if *empty > 0 {
        put(out, 0);
        put(out, *empty - 1);
        *empty = 0;
    }
}

/// Reads the compact form front to back.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which should be `what`.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    fn malformed(&self) -> StatsError {
        StatsError::Malformed { what: self.what }
    }

    /// One varint; a value above 64 bits is malformed.
    pub(crate) fn take(&mut self) -> Result<u64, StatsError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or_else(|| self.malformed())?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    /// Run-length coded bins, at most `limit`; `rest` reads what follows a non-zero count.
    pub(crate) fn take_runs<T: Default + Clone>(
        &mut self,
        limit: usize,
        mut bin: impl FnMut(u64, &mut Self) -> Result<T, StatsError>,
    ) -> Result<Vec<T>, StatsError> {
        let len = usize::try_from(self.take()?).unwrap_or(usize::MAX);
        at_most(self.what, len, limit)?;
        let mut bins = Vec::with_capacity(len);
        while bins.len() < len {
            match self.take()? {
                0 => {
                    let run = usize::try_from(self.take()?).unwrap_or(usize::MAX).saturating_add(1);
                    if run > len - bins.len() {
                        return Err(self.malformed());
                    }
                    bins.resize(bins.len() + run, T::default());
                }
                n => bins.push(bin(n, self)?),
            }
        }
        Ok(bins)
    }

    /// Refuses bytes that are left over.
    pub(crate) fn end(self) -> Result<(), StatsError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// Serde for a sketch: `$repr` (a plain struct) where people read, `encode`/`decode` as one byte string where machines do.
macro_rules! compact_serde {
    ($type:ty, $repr:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serde::Serialize::serialize(&<$repr>::from(self), serializer)
                } else {
                    serializer.serialize_bytes(&self.encode())
                }
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let repr = <$repr as serde::Deserialize>::deserialize(deserializer)?;
                    Self::try_from(repr).map_err(serde::de::Error::custom)
                } else {
                    struct Bytes;
                    impl serde::de::Visitor<'_> for Bytes {
                        type Value = $type;
                        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                            f.write_str(concat!("a compact ", stringify!($type)))
                        }
                        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                            <$type>::decode(bytes).map_err(E::custom)
                        }
                    }
                    deserializer.deserialize_bytes(Bytes)
                }
            }
        }
    };
}
pub(crate) use compact_serde;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(bytes: &[u8], limit: usize) -> Result<Vec<u64>, StatsError> {
        let mut reader = Reader::new("counts", bytes);
        let bins = reader.take_runs(limit, |n, _| Ok(n))?;
        reader.end()?;
        Ok(bins)
    }

    fn encoded(bins: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        put_runs(&mut out, bins, |n| *n, |_, _| ());
        out
    }

    #[test]
    fn a_hundred_empty_bins_cost_three_bytes() {
        assert_eq!(encoded(&[0; 100]), [100, 0, 99]);
    }

    #[test]
    fn a_run_beyond_the_end_is_refused() {
        assert!(counts(&[2, 0, 2], 9).is_err());
    }

    #[test]
    fn more_bins_than_allowed_are_refused_before_they_are_allocated() {
        let mut bytes = Vec::new();
        put(&mut bytes, u64::MAX);
        assert!(matches!(counts(&bytes, 9), Err(StatsError::TooMany { limit: 9, .. })));
    }

    #[test]
    fn a_varint_of_more_than_64_bits_is_refused() {
        let mut bytes = vec![1];
        bytes.extend([0xff; 9]);
        bytes.push(2);
        assert!(counts(&bytes, 9).is_err());
    }

    proptest! {
        #[test]
        fn counts_survive_the_round_trip(bins in prop::collection::vec(prop_oneof![Just(0u64), any::<u64>()], 0..80)) {
            prop_assert_eq!(counts(&encoded(&bins), 80).unwrap(), bins);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(counts(&bytes, 64));
        }
    }
}
