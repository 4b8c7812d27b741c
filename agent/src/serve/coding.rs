//! gzip and deflate of bodies (RFC 9110 §8.4.1), both ways. What comes in is bounded by its size when unpacked, so that a
//! bomb costs no more than a body of the largest size; packing and unpacking never run on the reactor.

use super::error::ApiError;
use super::request::{Held, Room};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{self, Read, Write};

/// A text below this size is sent as it is: it fits a packet anyway.
const SMALL_BYTES: usize = 1_400;
/// So much of an answer is packed to see what the rest would gain; elements in raw form that are no more are sent as they are.
/// Most callers ask unbidden (Python's requests, httpx and aiohttp do), and real numbers in raw form hardly shrink.
const TRIAL_BYTES: usize = 32 << 10;
/// Unpacked at a time.
const STEP_BYTES: usize = 64 << 10;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950: what HTTP calls deflate has zlib's frame.
    Deflate,
}

impl Coding {
    /// How the body of a request is packed; `None` is not at all.
    ///
    /// # Errors
    /// 415 for what is neither.
    pub(crate) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(None) };
        let name = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Ok(None),
            name => Self::named(name).map(Some).ok_or_else(|| {
                let name: String = name.chars().take(40).collect();
                let message = format!("content encoding `{name}`: send gzip, deflate, or none");
                ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
            }),
        }
    }

    /// By its name (RFC 9110 §8.4.1), which gRPC uses too.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    /// How the caller would have its answer packed (RFC 9110 §12.5.3): the coding of the highest weight, gzip when that
    /// is open. A caller that only has nothing against it (`*`) is not asking.
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for value in headers.get_all(header::ACCEPT_ENCODING) {
            for item in value.to_str().unwrap_or_default().split(',') {
                let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
                let Some(coding) = Self::named(&name.trim().to_ascii_lowercase()) else { continue };
                let weight = parameters.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok());
                let weight = if parameters.trim().is_empty() { 1.0 } else { weight.unwrap_or(0.0) };
                let better = best.is_none_or(|(other, chosen)| {
                    weight > other || (weight >= other && chosen == Self::Deflate && coding == Self::Gzip)
                });
                if weight > 0.0 && better {
                    best = Some((weight, coding));
                }
            }
        }
        best.map(|(_, coding)| coding)
    }

    pub(crate) const fn header(self) -> HeaderValue {
        match self {
            Self::Gzip => HeaderValue::from_static("gzip"),
            Self::Deflate => HeaderValue::from_static("deflate"),
        }
    }

    /// Packs an answer, a text or (in part) elements in raw form; `None` when it would not shrink by a fifth. Blocking.
    pub(crate) fn pack(self, bytes: &[u8], is_text: bool) -> Option<Vec<u8>> {
        if bytes.len() < if is_text { SMALL_BYTES } else { TRIAL_BYTES } {
            return None;
        }
        if let Some((trial, [_, ..])) = bytes.split_at_checked(TRIAL_BYTES) {
            self.squeezed(trial)?;
        }
        self.squeezed(bytes)
    }

    fn squeezed(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let into = Vec::with_capacity(bytes.len() / 4);
        // Writing into memory does not fail.
        let packed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(into, Compression::fast());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(into, Compression::fast());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
        };
        packed.ok().filter(|packed| packed.len() < bytes.len() / 5 * 4)
    }

    fn reader(self, packed: &[u8]) -> Box<dyn Read + '_> {
        match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Deflate => Box::new(ZlibDecoder::new(packed)),
        }
    }
}

/// Unpacks a body of at most `max_bytes`, with room for what comes out.
///
/// # Errors
/// 413 when it is larger, 503 when there is no room for it, 400 when it is damaged.
pub(crate) async fn unpack(coding: Coding, body: Held, max_bytes: usize, room: Room) -> Result<Held, ApiError> {
    let work = move || unpack_now(coding, body, max_bytes, &room);
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_panic| Err(damaged("the decoder broke")))
}

fn damaged(reason: &str) -> ApiError {
    ApiError::bad_request(format!("the body cannot be unpacked: {reason}"))
}

pub(super) fn unpack_now(coding: Coding, body: Held, max_bytes: usize, room: &Room) -> Result<Held, ApiError> {
    let Held { bytes: packed, room: mut taken } = body;
    let mut bytes = Vec::new();
    let mut reader = coding.reader(&packed);
    loop {
        let left = max_bytes.saturating_add(1).saturating_sub(bytes.len()).min(STEP_BYTES);
        let step = u64::try_from(left).unwrap_or(u64::MAX);
        let read = reader.by_ref().take(step).read_to_end(&mut bytes).map_err(|error| damaged(&said(&error)))?;
        if bytes.len() > max_bytes {
            let message = format!("the body is larger than {max_bytes} bytes when unpacked");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        if read == 0 {
            break;
        }
        // The packed body's room goes on being held until here; what came out takes its own.
        room.grow(&mut taken, packed.len().saturating_add(bytes.len()))?;
    }
    drop(reader);
    Ok(Held { bytes: bytes.into(), room: taken })
}

fn said(error: &io::Error) -> String {
    error.to_string().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[track_caller]
    fn accepts(value: &str, expected: Option<Coding>) {
        assert_eq!(Coding::accepted(&headers(header::ACCEPT_ENCODING, value)), expected, "{value}");
    }

    #[test]
    fn the_answer_is_packed_as_the_caller_weighs() {
        accepts("gzip", Some(Coding::Gzip));
        accepts("deflate, gzip", Some(Coding::Gzip));
        accepts("deflate;q=0.9, gzip;q=0.5, br", Some(Coding::Deflate));
        accepts("gzip;q=0", None);
        accepts("identity", None);
        accepts("*", None);
        accepts("gzip;q=high", None);
        assert_eq!(Coding::accepted(&HeaderMap::new()), None);
    }

    #[test]
    fn other_codings_of_a_body_are_415() {
        let of = |value| Coding::of_body(&headers(header::CONTENT_ENCODING, value));
        assert_eq!(of("GZIP"), Ok(Some(Coding::Gzip)));
        assert_eq!(of("identity"), Ok(None));
        assert_eq!(of("br").unwrap_err().status, 415);
        assert_eq!(of("gzip, gzip").unwrap_err().status, 415, "one on another");
    }

    fn unpacked(coding: Coding, packed: Vec<u8>, max_bytes: usize, room: &Room) -> Result<Held, ApiError> {
        unpack_now(coding, Held { bytes: packed.into(), room: None }, max_bytes, room)
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for text in [b"seven ".repeat(300), b"eleven ".repeat(30_000)] {
            for coding in [Coding::Gzip, Coding::Deflate] {
                let packed = coding.pack(&text, true).unwrap();
                assert_eq!(unpacked(coding, packed, MIB, &Room::new(MIB)).unwrap().bytes, text);
            }
        }
        assert_eq!(Coding::Gzip.pack(&b"seven ".repeat(200), true), None, "it fits a packet");
        assert_eq!(Coding::Gzip.pack(&[0; 32_767], false), None);
        assert!(Coding::Gzip.pack(&[0; 32_768], false).is_some());
    }

    #[test]
    fn what_hardly_shrinks_is_sent_as_it_is() {
        // xorshift64 (Marsaglia 2003): what the mantissas of real numbers look like.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut real = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f32::from_bits(0x3f80_0000 | (state >> 41) as u32)
        };
        let values: Vec<f32> = std::iter::repeat_with(|| real() - real()).take(200_000).collect();
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert!(Coding::Gzip.pack(&raw, false).is_none());
        let text = serde_json::to_vec(&values).unwrap();
        assert!(Coding::Gzip.pack(&text, true).is_some_and(|packed| packed.len() < text.len() * 3 / 5));
        // The beginning speaks for the rest, and is not believed.
        let torn = [vec![0; TRIAL_BYTES], raw].concat();
        assert!(Coding::Gzip.pack(&torn, false).is_none());
    }

    #[test]
    fn a_bomb_ends_at_the_largest_body() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let bomb = coding.pack(&vec![0; 32 * MIB], false).unwrap();
            assert!(bomb.len() < MIB);
            let error = unpacked(coding, bomb, MIB, &Room::new(64 * MIB)).unwrap_err();
            assert_eq!((error.status.as_u16(), error.message.contains("when unpacked")), (413, true));
        }
    }

    #[test]
    fn what_comes_out_takes_room() {
        let packed = Coding::Gzip.pack(&vec![0; 2 * MIB], false).unwrap();
        assert_eq!(unpacked(Coding::Gzip, packed.clone(), 4 * MIB, &Room::new(MIB)).unwrap_err().status, 503);
        let room = Room::new(3 * MIB);
        let held = unpacked(Coding::Gzip, packed.clone(), 4 * MIB, &room).unwrap();
        assert_eq!(unpacked(Coding::Gzip, packed.clone(), 4 * MIB, &room).unwrap_err().status, 503);
        drop(held);
        assert!(unpacked(Coding::Gzip, packed, 4 * MIB, &room).is_ok());
    }

    #[test]
    fn a_torn_body_is_400() {
        let mut packed = Coding::Gzip.pack(&[0; 9_999], true).unwrap();
        packed.truncate(packed.len() - 4);
        assert_eq!(unpacked(Coding::Gzip, packed, MIB, &Room::new(MIB)).unwrap_err().status, 400);
        assert_eq!(unpacked(Coding::Deflate, b"plain".to_vec(), MIB, &Room::new(MIB)).unwrap_err().status, 400);
    }
}
