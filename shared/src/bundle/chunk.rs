//! Chunks: files cut by content (FastCDC), each named by the sha256 of its bytes, framed raw or zstd-compressed.
//!
//! A framed chunk is one codec byte (0 raw, 1 zstd) and the data. The name covers the *unpacked* bytes, so the same
//! content has one name whatever its framing, and a decoder never trusts the frame: it stops at [`MAX_CHUNK_BYTES`].

use crate::id::Digest;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Target size of a chunk. 64 KiB: one QoS 1 publish on any broker (AWS IoT Core takes 128 KiB at most).
pub const AVERAGE_CHUNK_BYTES: usize = 64 * 1024;
/// No chunk is larger.
pub const MAX_CHUNK_BYTES: usize = 112 * 1024;
/// No message is larger, framing included.
pub const MAX_PAYLOAD_BYTES: usize = 120 * 1024;
/// No manifest is larger once unpacked.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// A piece of a file, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkRef {
    /// sha256 of the unpacked bytes.
    pub sha256: Digest,
    /// Unpacked bytes.
    pub size: u64,
}

/// A frame that does not hold what its name says.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// No codec byte.
    #[error("the chunk is empty")]
    Empty,
    /// A codec of a newer version.
    #[error("unknown chunk codec {0}")]
    Codec(u8),
    /// More bytes than allowed, packed or unpacked.
    #[error("the chunk is larger than {limit} bytes")]
    TooLarge {
        /// The limit that was passed.
        limit: usize,
    },
    /// zstd could not unpack it.
    #[error("cannot unpack the chunk")]
    Unpack(#[source] std::io::Error),
    /// The content is not what the name says.
    #[error("the chunk's content is {found}, expected {expected}")]
    Digest {
        /// The name.
        expected: Digest,
        /// What the content hashes to.
        found: Digest,
    },
    /// Nothing could pack it.
    #[error("cannot pack the chunk")]
    Pack(#[source] std::io::Error),
}

/// Unpacks a frame, reading at most `limit` bytes out of it, and checks the content against its name.
///
/// # Errors
/// When the frame is malformed, larger than `limit`, or holds other content.
pub fn unframe(frame: &[u8], expected: Digest, limit: usize) -> Result<Vec<u8>, ChunkError> {
    let (codec, data) = frame.split_first().ok_or(ChunkError::Empty)?;
    let content = match *codec {
        RAW if data.len() > limit => return Err(ChunkError::TooLarge { limit }),
        RAW => data.to_vec(),
        ZSTD => unzstd(data, limit)?,
        other => return Err(ChunkError::Codec(other)),
    };
    let found = Digest::of(&content);
    if found == expected { Ok(content) } else { Err(ChunkError::Digest { expected, found }) }
}

fn unzstd(data: &[u8], limit: usize) -> Result<Vec<u8>, ChunkError> {
    let failed = |error: ruzstd::decoding::errors::FrameDecoderError| {
        ChunkError::Unpack(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    };
    let decoder = ruzstd::decoding::StreamingDecoder::new(data).map_err(failed)?;
    let mut content = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(bound).read_to_end(&mut content).map_err(ChunkError::Unpack)?;
    if content.len() > limit { Err(ChunkError::TooLarge { limit }) } else { Ok(content) }
}

/// Frames content, compressed where that saves at least one byte in sixteen.
///
/// # Errors
/// When the encoder fails.
#[cfg(feature = "pack")]
pub fn frame(content: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let packed = zstd::bulk::compress(content, 9).map_err(ChunkError::Pack)?;
    let (codec, data) =
        if packed.len() + content.len() / 16 < content.len() { (ZSTD, packed.as_slice()) } else { (RAW, content) };
    let mut frame = Vec::with_capacity(data.len() + 1);
    frame.push(codec);
    frame.extend_from_slice(data);
    Ok(frame)
}

/// Cuts a file by content; equal stretches of two files get equal chunks. The cuts cover the bytes in order.
#[cfg(feature = "pack")]
#[must_use]
pub fn cut(bytes: &[u8]) -> Vec<(ChunkRef, std::ops::Range<usize>)> {
    let chunker = fastcdc::v2020::FastCDC::new(bytes, AVERAGE_CHUNK_BYTES / 4, AVERAGE_CHUNK_BYTES, MAX_CHUNK_BYTES);
    chunker
        .filter_map(|cut| {
            let range = cut.offset..cut.offset.saturating_add(cut.length);
            let content = bytes.get(range.clone())?;
            let size = u64::try_from(content.len()).ok()?;
            Some((ChunkRef { sha256: Digest::of(content), size }, range))
        })
        .collect()
}

#[cfg(all(test, feature = "pack"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect()
    }

    #[test]
    fn a_change_in_the_middle_keeps_most_chunks() {
        let old = noise(4 << 20, 7);
        let mut new = old.clone();
        new.splice(2_000_000..2_000_010, noise(300, 9));
        let names =
            |bytes: &[u8]| cut(bytes).into_iter().map(|(c, _)| c.sha256).collect::<std::collections::HashSet<_>>();
        let (before, after) = (names(&old), names(&new));
        assert!(after.difference(&before).count() <= 4, "{} of {}", after.difference(&before).count(), after.len());
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = frame(&vec![0; MAX_CHUNK_BYTES * 20]).unwrap();
        let name = Digest::of(&vec![0; MAX_CHUNK_BYTES * 20]);
        assert!(matches!(unframe(&bomb, name, MAX_CHUNK_BYTES), Err(ChunkError::TooLarge { .. })));
    }

    #[test]
    fn foreign_content_is_refused() {
        let frame = frame(b"content").unwrap();
        assert!(matches!(unframe(&frame, Digest::of(b"other"), 100), Err(ChunkError::Digest { .. })));
        assert!(matches!(unframe(&[], Digest::of(b""), 100), Err(ChunkError::Empty)));
        assert!(matches!(unframe(&[7, 1], Digest::of(b"\x01"), 100), Err(ChunkError::Codec(7))));
        assert!(matches!(unframe(&[1, 2, 3], Digest::of(b""), 100), Err(ChunkError::Unpack(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn cuts_cover_the_file_and_fit_a_message(len in 0_usize..600_000, seed in any::<u64>(), flat in any::<bool>()) {
            let bytes = if flat { vec![3; len] } else { noise(len, seed) };
            let mut whole = Vec::new();
            for (chunk, range) in cut(&bytes) {
                prop_assert!(range.len() <= MAX_CHUNK_BYTES);
                let framed = frame(&bytes[range]).unwrap();
                prop_assert!(framed.len() <= MAX_PAYLOAD_BYTES);
                whole.extend(unframe(&framed, chunk.sha256, MAX_CHUNK_BYTES).unwrap());
            }
            prop_assert_eq!(whole, bytes);
        }

        #[test]
        fn unframing_noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(unframe(&bytes, Digest::of(b"x"), 1000).is_err());
        }
    }
}
