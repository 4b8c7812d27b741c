//! TLS in front of the embedded broker.
//!
//! mqtt5 0.49 shakes hands with one client at a time in its accept loop, without a deadline: a single connection that
//! stays silent keeps every device out. So TLS ends here, each connection in its own task with a deadline, and goes on
//! to mqtt5 over loopback.

use super::BrokerError;
use crate::config::TlsFiles;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most handshakes at once; the rest waits in the kernel's queue.
const HANDSHAKES: usize = 256;
/// Wait after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening side of TLS.
pub struct TlsFront {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for TlsFront {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsFront").field("address", &self.address).finish_non_exhaustive()
    }
}

impl TlsFront {
    /// Takes the port.
    ///
    /// # Errors
    /// When the port is taken, or the certificate cannot be used.
    pub async fn bind(listen: SocketAddr, files: &TlsFiles) -> Result<Self, BrokerError> {
        let config = crate::tls::server(files, &[b"mqtt"]).map_err(BrokerError::Tls)?;
        let failed = |source| BrokerError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, acceptor: TlsAcceptor::from(config) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes connections on to `inner` until it is told to stop.
    pub async fn run(self, inner: SocketAddr, stop: CancellationToken) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let mut connections = JoinSet::new();
        loop {
            // Every arm is cancel-safe: accepting loses no connection, and finished tasks are only counted.
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = Arc::clone(&handshakes).acquire_owned() => permit,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_ended) = connections.join_next(), if !connections.is_empty() => (),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let acceptor = self.acceptor.clone();
                        connections.spawn(async move {
                            let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
                            drop(permit);
                            match shaken {
                                Ok(Ok(stream)) => pass_on(stream, inner).await,
                                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                                Err(_elapsed) => tracing::debug!(%peer, "a TLS handshake took too long"),
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
        connections.shutdown().await;
    }
}

async fn pass_on(mut outer: tokio_rustls::server::TlsStream<TcpStream>, inner: SocketAddr) {
    let no_delay = outer.get_ref().0.set_nodelay(true);
    let copied = async {
        no_delay?;
        let mut inner = TcpStream::connect(inner).await?;
        inner.set_nodelay(true)?;
        copy_bidirectional(&mut outer, &mut inner).await
    };
    if let Err(error) = copied.await {
        tracing::debug!(%error, "a connection to the broker broke");
    }
}
