//! The messages of a call (gRPC over HTTP/2 §Requests). Each has room as it grows, packed and unpacked, and does not take for
//! ever once it has begun.

use super::super::coding::{self, Coding};
use super::super::request::{Held, Room};
use super::super::server::ServeSettings;
use axum::http::HeaderMap;
use bytes::Bytes;
use hyper::body::Body;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tonic::Status;
use tonic::metadata::MetadataValue;

/// Before each message: whether it is packed, and how long it is.
const HEAD_BYTES: usize = 5;

/// What came as one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) packed: bool,
    pub(crate) content: Bytes,
}

/// Cuts what comes into messages. Pure.
#[derive(Debug)]
pub(crate) struct Cutter {
    max_bytes: usize,
    /// As far as it has come.
    head: Vec<u8>,
    content: Vec<u8>,
}

impl Cutter {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, head: Vec::with_capacity(HEAD_BYTES), content: Vec::new() }
    }

    /// Takes from `chunk` what belongs to the message at hand, which comes back when it is whole. Nothing is allocated for
    /// what a head merely states.
    ///
    /// # Errors
    /// When the message is larger than it may be, or its head is none.
    pub(crate) fn take(&mut self, chunk: &mut Bytes) -> Result<Option<Cut>, Status> {
        let missing = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend_from_slice(&chunk.split_to(missing.min(chunk.len())));
        let Ok([flag, length @ ..]) = <[u8; HEAD_BYTES]>::try_from(self.head.as_slice()) else { return Ok(None) };
        let (length, max) = (usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX), self.max_bytes);
        if flag > 1 {
            return Err(Status::internal(format!("a message begins with 0 or 1, and not with {flag}")));
        }
        if length > max {
            return Err(Status::out_of_range(format!("the message is of {length} bytes, more than {max}")));
        }
        let missing = length.saturating_sub(self.content.len());
        let part = chunk.split_to(missing.min(chunk.len()));
        let whole = part.len() == missing;
        // Most messages come in one piece, which then needs no copy.
        if whole && self.content.is_empty() {
            self.head.clear();
            return Ok(Some(Cut { packed: flag == 1, content: part }));
        }
        self.content.extend_from_slice(&part);
        Ok(whole.then(|| {
            self.head.clear();
            Cut { packed: flag == 1, content: std::mem::take(&mut self.content).into() }
        }))
    }

    /// Bytes that it holds of a message that is not whole.
    fn held_bytes(&self) -> usize {
        self.content.len()
    }

    fn is_within(&self) -> bool {
        !self.head.is_empty()
    }
}

/// How the messages of a call are packed, where they are.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Status> {
    let Some(value) = headers.get("grpc-encoding") else { return Ok(None) };
    let name = value.to_str().unwrap_or_default();
    if name == "identity" {
        return Ok(None);
    }
    Coding::named(name).map(Some).ok_or_else(|| {
        let name: String = name.chars().take(40).collect();
        let mut status = Status::unimplemented(format!("messages packed as `{name}`: send gzip, deflate, or identity"));
        let known = MetadataValue::from_static("identity,deflate,gzip");
        status.metadata_mut().insert("grpc-accept-encoding", known);
        status
    })
}

/// What comes of a call.
#[derive(Debug)]
pub(crate) struct Messages<B> {
    body: B,
    /// What has come and is not cut yet.
    chunk: Bytes,
    cutter: Cutter,
    coding: Option<Coding>,
    room: Room,
    taken: Option<OwnedSemaphorePermit>,
    max_bytes: usize,
    timeout: Duration,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    /// # Errors
    /// UNIMPLEMENTED when the messages are packed in a way that is not read.
    pub(crate) fn of(headers: &HeaderMap, body: B, settings: &ServeSettings, room: &Room) -> Result<Self, Status> {
        let max_bytes = settings.max_body_bytes;
        Ok(Self {
            body,
            chunk: Bytes::new(),
            cutter: Cutter::new(max_bytes),
            coding: coding(headers)?,
            room: room.of_calls(),
            taken: None,
            max_bytes,
            timeout: settings.read_timeout,
        })
    }

    /// The message of a call that takes just one. All of the call has to come in time.
    ///
    /// # Errors
    /// DEADLINE_EXCEEDED when it does not, UNAVAILABLE when there is no room for it, else what is wrong with it.
    pub(crate) async fn only(mut self) -> Result<Held, Status> {
        let within = self.timeout;
        let read = async {
            let message = self.whole().await?.ok_or_else(|| Status::invalid_argument("the call has no message"))?;
            if self.some().await? {
                return Err(Status::invalid_argument("this call takes one message"));
            }
            Ok(message)
        };
        timeout(within, read).await.unwrap_or_else(|_elapsed| Err(late()))
    }

    /// The next message; `None` at the end. Between messages a caller may be silent for as long as it likes.
    ///
    /// # Errors
    /// As for [`Messages::only`]. Then there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Held>, Status> {
        if !self.some().await? {
            return Ok(None);
        }
        timeout(self.timeout, self.whole()).await.unwrap_or_else(|_elapsed| Err(late()))
    }

    async fn whole(&mut self) -> Result<Option<Held>, Status> {
        while self.some().await? {
            if let Some(Cut { packed, content }) = self.cutter.take(&mut self.chunk)? {
                self.room.grow(&mut self.taken, content.len())?;
                let held = Held { bytes: content, room: self.taken.take() };
                return self.unpacked(packed, held).await.map(Some);
            }
            self.room.grow(&mut self.taken, self.cutter.held_bytes())?;
        }
        if self.cutter.is_within() {
            return Err(Status::invalid_argument("the call ended within a message"));
        }
        Ok(None)
    }

    async fn unpacked(&self, packed: bool, message: Held) -> Result<Held, Status> {
        match self.coding.filter(|_| packed) {
            Some(coding) => Ok(coding::unpack(coding, message, self.max_bytes, self.room.clone()).await?),
            None if packed => Err(Status::internal("a message is packed, and `grpc-encoding` does not say how")),
            None => Ok(message),
        }
    }

    /// Waits until something is here to be cut; `false` at the end. Cancel-safe: what came is kept.
    async fn some(&mut self) -> Result<bool, Status> {
        while self.chunk.is_empty() {
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                // What is no data is trailers, which say nothing here.
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(_gone)) => return Err(Status::cancelled("the call broke off")),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn late() -> Status {
    Status::deadline_exceeded("the message did not come in time")
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
