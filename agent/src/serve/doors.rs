//! Where callers come in: listeners, and how many may be inside.

use super::connection::{self, Patient};
use super::grpc;
use super::router::App;
use super::seats::{Seat, Seats};
use super::unix::Socket;
use axum::Router;
use fieldpost_shared::error_chain::Chain;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Something that accepts connections.
pub(super) trait Listener: Send + 'static {
    /// What comes in.
    type Stream: Send + 'static;

    /// The next connection. Cancel-safe: one that was not taken stays in the system's queue.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _peer) = Self::accept(self).await?;
        // Small answers must not wait for the caller's next acknowledgement. A socket that is gone already says so later.
        stream.set_nodelay(true).ok();
        Ok(stream)
    }
}

impl Listener for Socket {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _peer)| stream)
    }
}

/// Who talks with those that come in.
pub(super) trait Host<S>: Clone + Send + 'static {
    /// Serves a connection to its end; after `shutdown` to the end of what runs on it.
    fn talk(
        self,
        stream: S,
        timeout: Duration,
        shutdown: CancellationToken,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send;
}

/// HTTP/1.
#[derive(Debug, Clone)]
pub(super) struct Http(pub(super) Router);

impl<S> Host<S> for Http
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    async fn talk(self, stream: S, timeout: Duration, shutdown: CancellationToken, seat: Seat) {
        let stream = Patient::new(stream, timeout);
        if let Err(error) = connection::serve(stream, self.0, timeout, shutdown, seat).await {
            tracing::debug!(error = %Chain(&error), "a connection ended early");
        }
    }
}

/// gRPC over HTTP/2.
#[derive(Debug, Clone)]
pub(super) struct Grpc(pub(super) Arc<App>);

impl Host<TcpStream> for Grpc {
    async fn talk(self, stream: TcpStream, timeout: Duration, shutdown: CancellationToken, seat: Seat) {
        if let Err(error) = grpc::serve(stream, self.0, timeout, shutdown, seat).await {
            tracing::debug!(error = %Chain(&error), "a gRPC connection ended early");
        }
    }
}

/// What holds at each door.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Open connections; for one more, the one that was quiet longest is closed.
    pub(super) connections: usize,
    /// See [`super::ServeSettings::read_timeout`].
    pub(super) timeout: Duration,
    /// For what still runs after the end.
    pub(super) drain: Duration,
}

/// Takes connections until `shutdown`; then waits, at most the drain time, until what runs is answered.
pub(super) async fn open<L: Listener>(
    listener: L,
    host: impl Host<L::Stream>,
    rules: Rules,
    shutdown: CancellationToken,
) {
    let (places, seats) = (Arc::new(Semaphore::new(rules.connections)), Seats::default());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            // Cancel-safe: a connection that was not taken stays in the system's queue.
            stream = next(&listener) => {
                let Some(place) = place(&places, &seats, &shutdown).await else { break };
                let seat = seats.take();
                let talk = host.clone().talk(stream, rules.timeout, shutdown.clone(), seat.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = talk => {}
                        () = seat.asked_to_leave() => {}
                    }
                    drop(place);
                });
            }
            // Cancel-safe: a finished task that was not taken is taken next time.
            Some(_ended) = connections.join_next() => {}
        }
    }
    drop(listener);
    let answered = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(rules.drain, answered).await.is_err() {
        let connections = connections.len();
        tracing::warn!(connections, "requests were cut off: they ran longer than the drain time");
    }
    connections.shutdown().await;
}

/// The next connection.
async fn next<L: Listener>(listener: &L) -> L::Stream {
    loop {
        match listener.accept().await {
            Ok(stream) => return stream,
            // Out of file descriptors, or a caller that is gone again: neither ends the server, and the first takes a while.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// How long to wait for a place before somebody else is asked to leave.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A place among those that may be open: a free one, or that of the caller who was quiet longest. While all wait for
/// answers, so does the one who came last. `None` after `shutdown`.
async fn place(
    places: &Arc<Semaphore>,
    seats: &Seats,
    shutdown: &CancellationToken,
) -> Option<tokio::sync::OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Some(place);
    }
    loop {
        seats.make_room();
        tokio::select! {
            () = shutdown.cancelled() => return None,
            // Cancel-safe: who did not get a place stands in line again.
            place = tokio::time::timeout(ASK_AGAIN, Arc::clone(places).acquire_owned()) => {
                if let Ok(place) = place {
                    return place.ok();
                }
            }
        }
    }
}
