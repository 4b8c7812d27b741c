//! What every request has: an id, a deadline, a body of bounded size that comes in bounded time.

use super::error::ApiError;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The caller's id for a request, echoed; without it one is made.
pub(crate) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Milliseconds that the caller will wait for the answer, counted from when its request was read.
pub const DEADLINE_HEADER: HeaderName = HeaderName::from_static("x-request-deadline-ms");

/// For the rest of a small body that is refused.
const DRAIN: Duration = Duration::from_secs(1);

/// Longest request id that is echoed.
const MAX_ID_BYTES: usize = 128;

/// Makes request ids: unique among all runs of all agents, cheap.
#[derive(Debug)]
pub(crate) struct RequestIds {
    /// Random per process.
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        // Without randomness the ids are still unique within this run.
        let prefix = getrandom::u64().unwrap_or_default();
        Self { prefix, next: AtomicU64::new(1) }
    }

    /// The caller's id, when it sent a fit one, or a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> RequestId {
        let sent = headers.get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
        match sent.filter(|text| !text.is_empty() && text.len() <= MAX_ID_BYTES) {
            Some(text) => RequestId(text.to_owned()),
            None => RequestId(format!("{:016x}-{:x}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))),
        }
    }
}

/// The id of one request; visible ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a header of the answer.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long the caller waits: what it says, at most what the box allows.
///
/// # Errors
/// When the header is not a positive whole number.
pub(crate) fn patience(headers: &HeaderMap, longest: Duration) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(DEADLINE_HEADER) else { return Ok(longest) };
    let ms = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()).filter(|ms| *ms > 0);
    let wrong = || ApiError::bad_request(format!("`{DEADLINE_HEADER}` must be a whole number of milliseconds above 0"));
    Ok(Duration::from_millis(ms.ok_or_else(wrong)?).min(longest))
}

/// How large the body is said to be; the connection sees to it that it is so.
pub(crate) fn stated_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The memory for large bodies. Small ones are bounded by the number of connections. Cheap to clone; all clones have the
/// same memory.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    memory: Arc<Semaphore>,
    /// A body of at most this size takes none of it.
    small_bytes: usize,
}

impl Room {
    /// A small body, where a connection has one at a time.
    const SMALL_BYTES: usize = 64 << 10;
    /// A small message, where a connection has many at a time: about what a call of HTTP/2 takes without any.
    const SMALL_CALL_BYTES: usize = 4 << 10;

    pub(crate) fn new(bytes: usize) -> Self {
        let kib = bytes.div_ceil(1_024).min(Semaphore::MAX_PERMITS);
        Self { memory: Arc::new(Semaphore::new(kib)), small_bytes: Self::SMALL_BYTES }
    }

    /// The same memory, for the messages of gRPC's calls.
    pub(crate) fn of_calls(&self) -> Self {
        Self { small_bytes: Self::SMALL_CALL_BYTES, ..self.clone() }
    }

    /// Room for a body of the size that is stated. One that states none takes room as it comes.
    ///
    /// # Errors
    /// 503 when there is none.
    pub(crate) fn take(
        &self,
        stated: Option<usize>,
        max_bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let mut taken = None;
        self.grow(&mut taken, stated.unwrap_or_default().min(max_bytes))?;
        Ok(taken)
    }

    /// Room for a body that has grown to so many bytes, some of which it has already.
    ///
    /// # Errors
    /// 503 when there is none.
    pub(crate) fn grow(&self, taken: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), ApiError> {
        let had = taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits).saturating_mul(1_024);
        if bytes <= had.max(self.small_bytes) {
            return Ok(());
        }
        let kib = u32::try_from((bytes - had).div_ceil(1_024)).unwrap_or(u32::MAX);
        let none = |_none| ApiError::unavailable("too many large requests at once");
        let more = Arc::clone(&self.memory).try_acquire_many_owned(kib).map_err(none)?;
        match taken {
            Some(taken) => taken.merge(more),
            None => *taken = Some(more),
        }
        Ok(())
    }
}

/// A whole body with the memory that it holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// Takes in a small body that nobody will read: a connection that is closed on bytes not yet read may lose its answer.
/// Who sends a large one has not sent it yet.
pub(crate) async fn drain(headers: &HeaderMap, body: Body) {
    if stated_bytes(headers).is_some_and(|stated| stated <= Room::SMALL_BYTES) {
        let mut chunks = body.into_data_stream();
        let rest = async { while let Ok(Some(_chunk)) = chunks.try_next().await {} };
        // Who is slow with it is not waited for.
        drop(tokio::time::timeout(DRAIN, rest).await);
    }
}

/// Reads the whole body, which has the room that is `taken` and takes more where it grows beyond that.
///
/// # Errors
/// 413 when it is larger than `max_bytes`, 408 when it is not there after `timeout`, 503 when there is no room for it, 400
/// when it breaks off.
pub(crate) async fn body(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
    timeout: Duration,
    room: &Room,
    mut taken: Option<OwnedSemaphorePermit>,
) -> Result<Held, ApiError> {
    let too_large =
        || ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {max_bytes} bytes"));
    let stated = stated_bytes(headers);
    if stated.is_some_and(|stated| stated > max_bytes) {
        return Err(too_large());
    }
    let mut chunks = body.into_data_stream();
    let read = async {
        let broken = |_source: axum::Error| ApiError::bad_request("the request broke off before its body was whole");
        let first = chunks.try_next().await.map_err(broken)?.unwrap_or_default();
        // Most bodies come in one piece, which then needs no copy.
        let Some(second) = chunks.try_next().await.map_err(broken)? else { return Ok(first) };
        let mut whole = Vec::with_capacity(stated.unwrap_or_default());
        let mut next = Some(second);
        whole.extend_from_slice(&first);
        while let Some(chunk) = next {
            if whole.len().saturating_add(chunk.len()) > max_bytes {
                return Err(too_large());
            }
            room.grow(&mut taken, whole.len().saturating_add(chunk.len()))?;
            whole.extend_from_slice(&chunk);
            next = chunks.try_next().await.map_err(broken)?;
        }
        Ok(Bytes::from(whole))
    };
    let late = |_elapsed| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    let bytes = tokio::time::timeout(timeout, read).await.map_err(late)??;
    if bytes.len() > max_bytes { Err(too_large()) } else { Ok(Held { bytes, room: taken }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_callers_id_is_kept_when_it_is_fit() {
        let ids = RequestIds::new();
        assert_eq!(ids.of(&headers(REQUEST_ID_HEADER, "abc 1")).as_str(), "abc 1");
        let long = "x".repeat(MAX_ID_BYTES + 1);
        assert_ne!(ids.of(&headers(REQUEST_ID_HEADER, &long)).as_str(), long);
        assert_ne!(ids.of(&headers(REQUEST_ID_HEADER, "")).as_str(), "");
    }

    #[test]
    fn made_ids_differ_also_between_processes() {
        let (one, other) = (RequestIds::new(), RequestIds::new());
        let none = HeaderMap::new();
        let ids = [one.of(&none), one.of(&none), other.of(&none)];
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
    }

    #[test]
    fn a_deadline_is_a_positive_number_and_cannot_exceed_the_boxs() {
        let longest = Duration::from_secs(1);
        assert_eq!(patience(&HeaderMap::new(), longest), Ok(longest));
        assert_eq!(patience(&headers(DEADLINE_HEADER, "20"), longest), Ok(Duration::from_millis(20)));
        assert_eq!(patience(&headers(DEADLINE_HEADER, "99999999"), longest), Ok(longest));
        for text in ["0", "-1", "soon", "1.5", ""] {
            assert_eq!(patience(&headers(DEADLINE_HEADER, text), longest).unwrap_err().status, 400, "{text}");
        }
    }

    #[test]
    fn large_bodies_share_their_room_and_small_ones_need_none() {
        const MIB: usize = 1 << 20;
        let room = Room::new(3 * MIB);
        let first = room.take(Some(2 * MIB), 2 * MIB).unwrap();
        assert_eq!(room.take(Some(2 * MIB), 2 * MIB).unwrap_err().status, 503);
        assert!(room.take(Some(64 << 10), 2 * MIB).unwrap().is_none());
        assert!(room.take(None, 2 * MIB).unwrap().is_none(), "nothing is known of it yet");
        drop(first);
        assert!(room.take(Some(2 * MIB), 2 * MIB).unwrap().is_some());
    }

    async fn read_in(room: &Room, chunks: Vec<&[u8]>, max_bytes: usize) -> Result<Held, ApiError> {
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            chunks.into_iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let stream = Body::from_stream(futures_util::stream::iter(chunks));
        body(&HeaderMap::new(), stream, max_bytes, Duration::from_secs(10), room, None).await
    }

    async fn read(chunks: &[&str], max_bytes: usize) -> Result<Bytes, ApiError> {
        let chunks = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
        read_in(&Room::new(0), chunks, max_bytes).await.map(|held| held.bytes)
    }

    #[tokio::test]
    async fn bodies_of_no_stated_size_take_room_as_they_come() {
        let (room, piece) = (Room::new(300 << 10), [0; 50 << 10]);
        let small = read_in(&room, vec![&piece], 1 << 20).await.unwrap();
        assert!(small.room.is_none());
        let large = read_in(&room, vec![&piece; 4], 1 << 20).await.unwrap();
        let permits = large.room.as_ref().map(OwnedSemaphorePermit::num_permits);
        assert_eq!((large.bytes.len(), permits), (200 << 10, Some(200)));
        assert_eq!(read_in(&room, vec![&piece; 4], 1 << 20).await.unwrap_err().status, 503);
        drop(large);
        assert!(read_in(&room, vec![&piece; 4], 1 << 20).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_is_read_whole_up_to_its_limit() {
        assert_eq!(read(&[], 4).await.unwrap(), "");
        assert_eq!(read(&["abcd"], 4).await.unwrap(), "abcd");
        assert_eq!(read(&["ab", "", "cd"], 4).await.unwrap(), "abcd");
        assert_eq!(read(&["abcde"], 4).await.unwrap_err().status, 413);
        assert_eq!(read(&["ab", "cd", "e"], 4).await.unwrap_err().status, 413);
    }

    #[tokio::test]
    async fn a_stated_size_above_the_limit_is_refused_unread() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let refused =
            body(&headers(header::CONTENT_LENGTH, "5"), never, 4, Duration::from_secs(10), &Room::new(0), None).await;
        assert_eq!(refused.unwrap_err().status, 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_times_out() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let late = body(&HeaderMap::new(), never, 4, Duration::from_secs(10), &Room::new(0), None).await;
        assert_eq!(late.unwrap_err().status, 408);
    }
}
