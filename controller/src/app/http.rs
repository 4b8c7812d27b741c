//! The API's listener: plain or TLS, with limits that axum's own does not have: connections at once, a deadline for the
//! handshake, and an end to silence.

use crate::metrics::{HttpLabel, Metrics};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Connections at once; the rest waits in the kernel's queue.
const CONNECTIONS: usize = 1_024;
/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may go without progress: the beginning of a request, a good piece of it, or of an answer.
const SILENCE: Duration = Duration::from_secs(90);
/// Bytes of a request that are a good piece: whoever drips a request byte by byte holds a place no longer than whoever
/// says nothing.
const PIECE: usize = 64 << 10;
/// Wait after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is told to stop; requests that run then are finished.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> io::Result<()> {
    let router = router.layer(from_fn(move |request: Request, next: Next| count(Arc::clone(&metrics), request, next)));
    let address = listener.local_addr()?;
    let (ready, incoming) = mpsc::channel(1);
    let accepting = accept(listener, tls.map(TlsAcceptor::from), ready, stop.clone());
    let serving = axum::serve(Incoming { incoming, address }, router).with_graceful_shutdown(async move {
        stop.cancelled().await;
    });
    let (served, ()) = tokio::join!(serving, accepting);
    served
}

async fn count(metrics: Arc<Metrics>, request: Request, next: Next) -> axum::response::Response {
    let method = match request.method().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    };
    let response = next.run(request).await;
    let status = match response.status().as_u16() {
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    metrics.http.get_or_create(&HttpLabel { method, status }).inc();
    response
}

/// Accepts and shakes hands, each connection in its own task, and hands over those that are ready.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    ready: mpsc::Sender<(Connection, SocketAddr)>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut handshakes = JoinSet::new();
    loop {
        // Every arm is cancel-safe: accepting loses no connection, and finished tasks are only counted.
        let place = tokio::select! {
            () = stop.cancelled() => break,
            Ok(place) = Arc::clone(&places).acquire_owned() => place,
        };
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = handshakes.join_next(), if !handshakes.is_empty() => (),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (tls, ready) = (tls.clone(), ready.clone());
                    handshakes.spawn(async move {
                        if let Some(stream) = shake(stream, tls, peer).await {
                            drop(ready.send((Connection::new(stream, place, SILENCE), peer)).await);
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    handshakes.shutdown().await;
}

async fn shake(stream: TcpStream, tls: Option<TlsAcceptor>, peer: SocketAddr) -> Option<Stream> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let Some(tls) = tls else { return Some(Stream::Plain(stream)) };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a TLS handshake failed");
            None
        }
        Err(_elapsed) => {
            tracing::debug!(%peer, "a TLS handshake took too long");
            None
        }
    }
}

/// Connections that are ready, as axum wants them.
struct Incoming {
    incoming: mpsc::Receiver<(Connection, SocketAddr)>,
    address: SocketAddr,
}

impl Listener for Incoming {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.incoming.recv().await {
            Some(ready) => ready,
            // The accepting side has stopped, and axum is about to.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that keeps its place, and ends when it is silent for too long.
struct Connection {
    stream: Stream,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
    /// Bytes read since the last progress; none before a request begins.
    read: usize,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: Stream, place: OwnedSemaphorePermit, patience: Duration) -> Self {
        Self { stream, patience, silence: Box::pin(tokio::time::sleep(patience)), read: 0, _place: place }
    }

    /// Notes bytes of a request.
    fn received(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if self.read == 0 || self.read.saturating_add(bytes) >= PIECE {
            // One stands for "a request is under way".
            self.read = 1;
            self.progressed();
        } else {
            self.read = self.read.saturating_add(bytes);
        }
    }

    fn progressed(&mut self) {
        #[allow(
            clippy::disallowed_methods,
            reason = "a timer of tokio is reset on tokio's own clock, which tests drive"
        )]
        self.silence.as_mut().reset(Instant::now() + self.patience);
    }

    /// A pending operation fails when there was no progress for too long.
    fn or_silent<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending if self.silence.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.received(buf.filled().len().saturating_sub(before));
        self.or_silent(cx, polled)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        if polled.is_ready() {
            self.read = 0;
            self.progressed();
        }
        self.or_silent(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn pair(patience: Duration) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        (Connection::new(Stream::Plain(listener.accept().await.unwrap().0), place, patience), client)
    }

    /// Reads whatever comes until the connection ends; says how many bytes, and whether it was cut.
    async fn read(mut connection: Connection) -> (usize, bool) {
        let mut bytes = 0;
        let mut buffer = vec![0; 16 << 10];
        loop {
            match connection.read(&mut buffer).await {
                Ok(0) => return (bytes, false),
                Ok(n) => bytes += n,
                Err(_) => return (bytes, true),
            }
        }
    }

    #[tokio::test]
    async fn a_request_that_drips_in_loses_its_place() {
        let (connection, mut client) = pair(Duration::from_millis(500)).await;
        let drip = async {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let dripped = async {
            tokio::select! {
                read = read(connection) => read,
                () = drip => panic!("the client never gives up"),
            }
        };
        let (bytes, cut) = tokio::time::timeout(Duration::from_secs(60), dripped).await.unwrap();
        assert!(bytes > 0 && cut, "{bytes} bytes");
    }

    #[tokio::test]
    async fn a_slow_upload_in_good_pieces_goes_through() {
        let (connection, mut client) = pair(Duration::from_secs(2)).await;
        let upload = async move {
            for _ in 0..8 {
                client.write_all(&vec![0_u8; PIECE]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
        };
        let (read, ()) = tokio::join!(read(connection), upload);
        assert_eq!(read, (8 * PIECE, false));
    }
}
