//! One HTTP/2 connection of gRPC, on which nobody can dawdle.

use super::super::connection::Patient;
use super::super::router::App;
use super::super::seats::Seat;
use super::service;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What begins a connection (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between looks for the rest of it.
const LOOK: Duration = Duration::from_millis(20);
/// What a caller may send before somebody reads it.
const WINDOW_BYTES: u32 = 256 << 10;
/// Calls of one connection at a time.
const MAX_CALLS: u32 = 128;
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// The tasks of one connection's calls.
#[derive(Debug, Clone, Default)]
struct Calls(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        self.0.spawn(call);
    }
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the connection did not begin as HTTP/2 does")]
    Preface(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
}

/// Serves a connection to its end; after `shutdown` to the end of the running calls.
pub(crate) async fn serve(
    stream: TcpStream,
    app: Arc<App>,
    timeout: Duration,
    shutdown: CancellationToken,
    seat: Seat,
) -> Result<(), Ended> {
    preface(&stream, timeout).await.map_err(Ended::Preface)?;
    let answer = service_fn(move |request: Request<Incoming>| {
        let (app, seat) = (Arc::clone(&app), seat.clone());
        async move { Ok::<_, Infallible>(service::answer(app, seat, request).await) }
    });
    let calls = Calls::default();
    let mut connection = pin!(
        http2::Builder::new(calls.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(timeout)
            .keep_alive_timeout(timeout)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_concurrent_streams(MAX_CALLS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(Patient::new(stream, timeout)), answer)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    calls.0.close();
    calls.0.wait().await;
    ended.map_err(Ended::Broken)
}

/// Waits for the first bytes without taking them: who connects and is silent, or speaks something else, is let go.
async fn preface(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    let look = async {
        let mut seen = [0; PREFACE.len()];
        loop {
            let count = stream.peek(&mut seen).await?;
            let begun = seen.get(..count).unwrap_or_default();
            if count == 0 || !PREFACE.starts_with(begun) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if count == PREFACE.len() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(timeout, look).await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}
