//! Where a download asks and the link answers: blobs that are wanted now, by name.

use bytes::Bytes;
use fieldpost_shared::id::Digest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// What the link must do for the downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Subscribe to this blob.
    Start(Digest),
    /// Unsubscribe from it.
    Stop(Digest),
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Digest, Vec<oneshot::Sender<Bytes>>>,
    link: Option<mpsc::UnboundedSender<Want>>,
}

/// A table of outstanding requests. The link takes part while it is connected; requests outlive connections.
///
/// The channel to the link is unbounded in type only: each outstanding request adds one entry, and a download holds a
/// small window of them.
#[derive(Debug, Clone, Default)]
pub struct BlobExchange(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told whenever a link is connected.
    connects: watch::Sender<()>,
}

/// A link that is connected, as far as those who wait for its end are concerned.
#[derive(Debug)]
pub struct Line(mpsc::UnboundedSender<Want>);

impl Line {
    /// Waits until it is lost. Cancel-safe.
    pub async fn lost(&self) {
        self.0.closed().await;
    }
}

/// An outstanding request; dropping it ends the subscription.
#[derive(Debug)]
pub struct Request {
    digest: Digest,
    exchange: BlobExchange,
    answer: oneshot::Receiver<Bytes>,
}

impl Request {
    /// Waits for the blob. Cancel-safe.
    pub async fn answer(&mut self) -> Option<Bytes> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.answer.close();
        self.exchange.forget(self.digest);
    }
}

impl BlobExchange {
    /// Asks for a blob.
    #[must_use]
    pub fn request(&self, digest: Digest) -> Request {
        let (sender, answer) = oneshot::channel();
        let mut state = self.lock();
        state.waiting.entry(digest).or_default().push(sender);
        // Start is sent again for a blob that somebody already waits for: a new subscription brings the retained
        // message again, which is what a second asker needs.
        tell(&mut state, Want::Start(digest));
        drop(state);
        Request { digest, exchange: self.clone(), answer }
    }

    /// Hands over a blob that came; false when nobody waits for it.
    pub fn deliver(&self, digest: Digest, payload: &Bytes) -> bool {
        let mut state = self.lock();
        let Some(waiting) = state.waiting.remove(&digest) else { return false };
        tell(&mut state, Want::Stop(digest));
        drop(state);
        for sender in waiting {
            // A request that was dropped meanwhile has no use for the bytes.
            drop(sender.send(payload.clone()));
        }
        true
    }

    /// Connects a link: returns what is outstanding, and what changes from now on.
    #[must_use]
    pub fn connect(&self) -> (Vec<Digest>, mpsc::UnboundedReceiver<Want>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.lock();
        state.link = Some(sender);
        let outstanding = state.waiting.keys().copied().collect();
        drop(state);
        self.0.connects.send_replace(());
        (outstanding, receiver)
    }

    /// Waits until a link is connected. Cancel-safe.
    pub async fn line(&self) -> Line {
        let mut connects = self.0.connects.subscribe();
        loop {
            connects.mark_unchanged();
            if let Some(link) = self.lock().link.clone().filter(|link| !link.is_closed()) {
                return Line(link);
            }
            if connects.changed().await.is_err() {
                // The sender lives as long as this exchange.
                std::future::pending::<()>().await;
            }
        }
    }

    fn forget(&self, digest: Digest) {
        let mut state = self.lock();
        let Some(waiting) = state.waiting.get_mut(&digest) else { return };
        waiting.retain(|sender| !sender.is_closed());
        if waiting.is_empty() {
            state.waiting.remove(&digest);
            tell(&mut state, Want::Stop(digest));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the table consistent, so a poisoned lock is as good as any.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(state: &mut State, want: Want) {
    if state.link.as_ref().is_some_and(|link| link.send(want).is_err()) {
        state.link = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[tokio::test]
    async fn a_request_made_offline_is_seen_by_the_next_link() {
        let exchange = BlobExchange::default();
        let mut request = exchange.request(digest(1));
        let (outstanding, mut wants) = exchange.connect();
        assert_eq!(outstanding, [digest(1)]);
        assert!(exchange.deliver(digest(1), &Bytes::from_static(b"x")));
        assert_eq!(request.answer().await.as_deref(), Some(b"x".as_slice()));
        assert_eq!(wants.recv().await, Some(Want::Stop(digest(1))));
    }

    #[tokio::test]
    async fn a_dropped_request_ends_its_subscription_once() {
        let exchange = BlobExchange::default();
        let (_, mut wants) = exchange.connect();
        let (one, two) = (exchange.request(digest(1)), exchange.request(digest(1)));
        drop(one);
        drop(two);
        let mut seen = vec![];
        while let Ok(want) = wants.try_recv() {
            seen.push(want);
        }
        assert_eq!(seen, [Want::Start(digest(1)), Want::Start(digest(1)), Want::Stop(digest(1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_waited_for_and_its_loss_is_noticed() {
        let exchange = BlobExchange::default();
        let soon = |future| tokio::time::timeout(std::time::Duration::from_secs(1), future);
        assert!(soon(exchange.line()).await.is_err());
        let (_, wants) = exchange.connect();
        let line = soon(exchange.line()).await.unwrap();
        drop(wants);
        line.lost().await;
        assert!(soon(exchange.line()).await.is_err());
    }

    #[test]
    fn a_blob_that_nobody_asked_for_is_not_kept() {
        assert!(!BlobExchange::default().deliver(digest(1), &Bytes::from_static(b"x")));
    }
}
