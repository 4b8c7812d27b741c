//! `bundle push`: asks which chunks the controller lacks, sends these, then the manifest. Interrupted, it goes on where
//! it stopped: what has arrived is not asked for again.

use super::source;
use crate::api::types::{MissingRequest, MissingResponse, Release, ReleaseRequest};
use crate::cli::output;
use crate::cli::progress::bytes_bar;
use crate::cli::{Context, Exit, Failure};
use crate::client::{Client, ClientError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use fieldpost_shared::backoff::Backoff;
use fieldpost_shared::bundle::archive::Bundle;
use fieldpost_shared::id::Digest;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// Chunks on their way at once.
const PARALLEL: usize = 8;
/// Chunks asked about in one request.
const ASKED_AT_ONCE: usize = 2_000;
/// Tries of one chunk while the controller does not answer.
const TRIES: u32 = 6;

#[derive(Serialize)]
struct Pushed {
    #[serde(flatten)]
    release: Release,
    sent_chunks: usize,
    sent_bytes: u64,
    total_chunks: usize,
}

pub(super) async fn push(file: &Path, context: &Context) -> Result<Exit, Failure> {
    let bundle = source::read(file)?;
    if bundle.signatures.is_empty() {
        return Err(Failure::new(format!("cannot push `{}`", file.display()))
            .because_text("nobody has signed it")
            .hint("`fieldpost bundle sign FILE --key publisher.key`"));
    }
    let client = context.client()?;
    let release = bundle.manifest.release(&bundle.manifest_bytes);
    let missing = missing(&client, &bundle, &release.to_string()).await?;
    let sent_bytes = missing.iter().map(|(_, frame)| u64::try_from(frame.len()).unwrap_or(0)).sum();
    let bar = bytes_bar(context.watched(), "sending", sent_bytes);
    let sent_chunks = missing.len();
    let sending = stream::iter(missing).map(|(digest, frame)| {
        let (client, bar) = (client.clone(), bar.clone());
        async move {
            let size = u64::try_from(frame.len()).unwrap_or(0);
            send(&client, digest, frame).await?;
            bar.inc(size);
            Ok::<_, ClientError>(())
        }
    });
    let sent = sending.buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await;
    bar.finish_and_clear();
    sent.map_err(|error| {
        let exit = error.exit();
        let failure = Failure::from(error);
        if exit == Exit::Undecided { failure.hint("push again: it goes on where it stopped") } else { failure }
    })?;
    let request =
        ReleaseRequest { manifest: BASE64.encode(&bundle.manifest_bytes), signatures: bundle.signatures.clone() };
    let answer: Release = client.post(&format!("push {release}"), &["v1", "releases"], &request).await?;
    let total_chunks = bundle.blobs.len();
    context.show(&Pushed { release: answer, sent_chunks, sent_bytes, total_chunks }, |pushed| {
        let sent = output::bytes(pushed.sent_bytes);
        format!(
            "pushed {} ({}): sent {} of {} chunks, {sent}\nnext: fieldpost rollout start {0}",
            release,
            release.manifest.short(),
            pushed.sent_chunks,
            pushed.total_chunks
        )
    })
}

/// The chunks that the controller lacks, in the bundle's order.
async fn missing(client: &Client, bundle: &Bundle, name: &str) -> Result<Vec<(Digest, Bytes)>, Failure> {
    let mut frames: HashMap<Digest, &Vec<u8>> = bundle.blobs.iter().map(|(digest, frame)| (*digest, frame)).collect();
    let digests: Vec<Digest> = bundle.blobs.iter().map(|(digest, _)| *digest).collect();
    let mut missing = Vec::new();
    for asked in digests.chunks(ASKED_AT_ONCE) {
        let request = MissingRequest { digests: asked.to_vec() };
        let operation = format!("ask which chunks of {name} are missing");
        let answer: MissingResponse = client.post(&operation, &["v1", "blobs", "missing"], &request).await?;
        // Only what is ours is sent, and once, whatever the answer says.
        missing.extend(
            answer
                .missing
                .into_iter()
                .filter_map(|digest| frames.remove(&digest).map(|frame| (digest, Bytes::copy_from_slice(frame)))),
        );
    }
    Ok(missing)
}

async fn send(client: &Client, digest: Digest, frame: Bytes) -> Result<(), ClientError> {
    let backoff = Backoff { base: Duration::from_millis(250), max: Duration::from_secs(10) };
    let (operation, name) = (format!("send chunk {}", digest.short()), digest.to_string());
    // The chunk's own name spreads the tries of different chunks.
    let jitter = digest.as_bytes().iter().fold(0_u64, |sum, byte| sum.rotate_left(8) ^ u64::from(*byte));
    let mut attempt = 0_u32;
    loop {
        match client.put_bytes(&operation, &["v1", "blobs", &name], frame.clone()).await {
            Err(error) if error.transient() && attempt.saturating_add(1) < TRIES => {
                tokio::time::sleep(backoff.wait(attempt, jitter)).await;
                attempt = attempt.saturating_add(1);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
