//! Asking for what is missing, a small window at a time.

use super::disk::{Disk, DiskError};
use super::exchange::{BlobExchange, Request};
use bytes::Bytes;
use fieldpost_shared::bundle::chunk::{ChunkError, ChunkRef, MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES, unframe};
use fieldpost_shared::id::Digest;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How downloads are paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchSettings {
    /// Blobs that are asked for at once. Eight of 64 KiB keep a link of 40 Mbit/s and 100 ms busy.
    pub window: usize,
    /// How long one blob may take, on a line that is up, before it is asked for again.
    pub patience: Duration,
    /// How often one blob is asked for before the download gives up for now.
    pub tries: u32,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self { window: 8, patience: Duration::from_secs(15), tries: 6 }
    }
}

/// A download that did not finish; what came stays on disk.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody sent the blob.
    #[error("blob {} did not come in {tries} tries", blob.short())]
    Absent {
        /// Its name.
        blob: Digest,
        /// How often it was asked for.
        tries: u32,
    },
    /// What came under its name was something else, again and again.
    #[error("blob {} is not what its name says", blob.short())]
    Wrong {
        /// Its name.
        blob: Digest,
        /// What is wrong with it.
        #[source]
        source: ChunkError,
    },
    /// The disk failed.
    #[error("cannot keep what was fetched")]
    Disk(#[source] DiskError),
    /// The worker that checks blobs is gone: the agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

/// Fetches blobs over the link. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Downloader {
    exchange: BlobExchange,
    disk: Disk,
    settings: FetchSettings,
    received: Arc<AtomicU64>,
}

impl Downloader {
    /// A downloader; `received_before` is the store's count of bytes.
    #[must_use]
    pub fn new(exchange: BlobExchange, disk: Disk, settings: FetchSettings, received_before: u64) -> Self {
        Self { exchange, disk, settings, received: Arc::new(AtomicU64::new(received_before)) }
    }

    /// Bytes of blobs that came over the network and were wanted, framing included.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// A manifest by its digest.
    ///
    /// # Errors
    /// When it does not come, or something else comes.
    pub async fn manifest(&self, digest: Digest) -> Result<Vec<u8>, FetchError> {
        self.blob(digest, MAX_MANIFEST_BYTES, Ok).await
    }

    /// Fetches chunks and keeps them on disk; calls `came` with the size of each.
    ///
    /// # Errors
    /// When one does not come or cannot be kept. Those that came stay: the next call asks for the rest only.
    pub async fn chunks(&self, missing: &[ChunkRef], came: impl Fn(u64)) -> Result<(), FetchError> {
        let mut rest = missing.iter();
        let mut running: FuturesUnordered<_> =
            rest.by_ref().take(self.settings.window.max(1)).map(|chunk| self.chunk(*chunk)).collect();
        while let Some(done) = running.next().await {
            came(done?);
            if let Some(chunk) = rest.next() {
                running.push(self.chunk(*chunk));
            }
        }
        Ok(())
    }

    async fn chunk(&self, chunk: ChunkRef) -> Result<u64, FetchError> {
        let disk = self.disk.clone();
        self.blob(chunk.sha256, MAX_CHUNK_BYTES, move |content| {
            disk.keep_chunk(&chunk.sha256, &content).map_err(FetchError::Disk)?;
            Ok(chunk.size)
        })
        .await
    }

    /// The answer, when it comes within `patience` on one connection. Time without a line does not count, since nobody
    /// could answer: the request stands, and the next connection asks for it again.
    async fn patiently(&self, request: &mut Request, patience: Duration) -> Option<Bytes> {
        loop {
            let line = self.exchange.line().await;
            // Cancel-safe: a channel, a timer, and the closing of a channel.
            tokio::select! {
                answer = request.answer() => return answer,
                () = tokio::time::sleep(patience) => return None,
                () = line.lost() => {}
            }
        }
    }

    /// Asks until the right content came, checks it off the reactor, and hands it to `keep` there.
    async fn blob<T: Send + 'static>(
        &self,
        digest: Digest,
        limit: usize,
        keep: impl FnOnce(Vec<u8>) -> Result<T, FetchError> + Send + 'static,
    ) -> Result<T, FetchError> {
        let mut wrong = None;
        for attempt in 0..self.settings.tries.max(1) {
            let mut request = self.exchange.request(digest);
            let patience = self.settings.patience.saturating_mul(attempt.saturating_add(1));
            let Some(payload) = self.patiently(&mut request, patience).await else { continue };
            self.received.fetch_add(u64::try_from(payload.len()).unwrap_or(0), Ordering::Relaxed);
            match check(payload, digest, limit).await? {
                Ok(content) => {
                    return tokio::task::spawn_blocking(move || keep(content))
                        .await
                        .map_err(|_cancelled| FetchError::Stopping)?;
                }
                Err(error) => wrong = Some(error),
            }
            // Somebody answers wrongly: asking again at once would only heat the broker.
            tokio::time::sleep(self.settings.patience / 10).await;
        }
        Err(match wrong {
            Some(source) => FetchError::Wrong { blob: digest, source },
            None => FetchError::Absent { blob: digest, tries: self.settings.tries },
        })
    }
}

async fn check(payload: Bytes, digest: Digest, limit: usize) -> Result<Result<Vec<u8>, ChunkError>, FetchError> {
    tokio::task::spawn_blocking(move || unframe(&payload, digest, limit))
        .await
        .map_err(|_cancelled| FetchError::Stopping)
}

#[cfg(test)]
mod tests {
    use super::super::exchange::Want;
    use super::*;

    fn framed(content: &[u8]) -> (ChunkRef, Bytes) {
        let frame = [&[0], content].concat();
        (ChunkRef { sha256: Digest::of(content), size: content.len() as u64 }, frame.into())
    }

    fn downloader(dir: &std::path::Path, exchange: &BlobExchange, window: usize) -> Downloader {
        let settings = FetchSettings { window, patience: Duration::from_secs(1), tries: 3 };
        Downloader::new(exchange.clone(), Disk::open(dir).unwrap(), settings, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_window_of_chunks_is_asked_for_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let exchange = BlobExchange::default();
        let downloader = downloader(dir.path(), &exchange, 3);
        let chunks: Vec<_> = (0..10_u8).map(|n| framed(&[n; 50])).collect();
        let (_, mut wants) = exchange.connect();
        let most = std::cell::Cell::new(0);
        let broker = async {
            let mut open = std::collections::HashSet::new();
            while let Some(want) = wants.recv().await {
                match want {
                    Want::Start(digest) => open.insert(digest),
                    Want::Stop(digest) => open.remove(&digest),
                };
                most.set(most.get().max(open.len()));
                // Whoever asks for more has time to do so before an answer comes.
                tokio::time::sleep(Duration::from_millis(10)).await;
                while let Ok(Want::Start(digest)) = wants.try_recv() {
                    open.insert(digest);
                    most.set(most.get().max(open.len()));
                }
                if let Some(digest) = open.iter().next().copied() {
                    let frame = chunks.iter().find(|(chunk, _)| chunk.sha256 == digest).map(|(_, frame)| frame);
                    exchange.deliver(digest, frame.unwrap());
                    open.remove(&digest);
                }
            }
        };
        let refs: Vec<_> = chunks.iter().map(|(chunk, _)| *chunk).collect();
        tokio::select! {
            () = broker => panic!("the exchange is gone"),
            done = downloader.chunks(&refs, |_| ()) => done.unwrap(),
        }
        assert_eq!(most.get(), 3);
        assert!(downloader.disk.missing(&refs).unwrap().is_empty());
        assert_eq!(downloader.received_bytes(), 510);
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_a_line_is_no_try() {
        let dir = tempfile::tempdir().unwrap();
        let exchange = BlobExchange::default();
        let downloader = downloader(dir.path(), &exchange, 1);
        let (chunk, frame) = framed(b"x");
        let wanted = [chunk];
        let story = async {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            // A line that is lost before its time is up is none either.
            for _ in 0..10 {
                let (_, wants) = exchange.connect();
                tokio::time::sleep(Duration::from_millis(900)).await;
                drop(wants);
                tokio::time::sleep(Duration::from_secs(3_600)).await;
            }
            let (outstanding, wants) = exchange.connect();
            assert_eq!(outstanding, [chunk.sha256]);
            exchange.deliver(chunk.sha256, &frame);
            wants
        };
        let (done, _wants) = tokio::join!(downloader.chunks(&wanted, |_| ()), story);
        done.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_blob_that_never_comes_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let exchange = BlobExchange::default();
        let (_, _wants) = exchange.connect();
        let downloader = downloader(dir.path(), &exchange, 1);
        let (chunk, _) = framed(b"x");
        let error = downloader.chunks(&[chunk], |_| ()).await.unwrap_err();
        assert!(matches!(error, FetchError::Absent { tries: 3, .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_blob_is_refused_and_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let exchange = BlobExchange::default();
        let downloader = downloader(dir.path(), &exchange, 1);
        let (chunk, good) = framed(b"good");
        let (_, bad) = framed(b"evil");
        let (_, mut wants) = exchange.connect();
        let broker = async {
            let mut answers = [bad, good].into_iter();
            while let Some(want) = wants.recv().await {
                if let Want::Start(digest) = want {
                    exchange.deliver(digest, &answers.next().unwrap());
                }
            }
        };
        let wanted = [chunk];
        tokio::select! {
            () = broker => {},
            done = downloader.chunks(&wanted, |_| ()) => done.unwrap(),
        }
        assert_eq!(std::fs::read(downloader.disk.chunk_path(&chunk.sha256)).unwrap(), b"good");
    }
}
