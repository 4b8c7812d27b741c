//! The body of a call: it takes room as it grows, and does not wait for ever.

use super::super::request::Room;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::Status;

/// The memory that what has come of a call has; shared by its body and whoever takes its messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Share(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    room: Option<OwnedSemaphorePermit>,
}

impl Share {
    fn grow(&self, by: usize, room: &Room) -> Result<(), Status> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.bytes = taken.bytes.saturating_add(by);
        let bytes = taken.bytes;
        room.grow(&mut taken.room, bytes).map_err(Status::from)
    }

    /// The room of what has come since this was last asked: a message's, and of the next one what is here already.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.bytes = 0;
        taken.room.take()
    }
}

/// A body that is counted.
#[derive(Debug)]
pub(crate) struct Counted {
    body: Incoming,
    room: Arc<Room>,
    share: Share,
    /// When the whole of it must be there, where it must.
    late: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    pub(crate) fn new(body: Incoming, room: Arc<Room>, timeout: Option<Duration>) -> (Self, Share) {
        let share = Share::default();
        let late = timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        (Self { body, room, share: share.clone(), late }, share)
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(self.share.grow(bytes, &self.room).map(|()| frame).map_err(Into::into)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.late.as_mut().map(|late| late.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => {
                    let late = Status::deadline_exceeded("the message did not come in time");
                    Poll::Ready(Some(Err(late.into())))
                }
                _ => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
