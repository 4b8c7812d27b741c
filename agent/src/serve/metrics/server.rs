//! Series of the server itself: who was turned away before the queue, so that no release counts it, and what the bounds are.

use super::Exact;
use crate::runtime::memory::resident_bytes;
use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tonic::Code;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    protocol: &'static str,
    code: String,
}

/// How a request was refused, in the words of its protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TurnedAway {
    Http(StatusCode),
    Grpc(Code),
}

#[derive(Debug, Default)]
pub(super) struct OfServer {
    refused: Family<Refusal, Exact>,
    queue_limit: Gauge,
    resident: Gauge,
}

impl OfServer {
    pub(super) fn register(&self, registry: &mut Registry) {
        let refused = "Inference requests refused before they were queued, by the status that they got";
        registry.register("fieldpost_requests_refused", refused, self.refused.clone());
        registry.register("fieldpost_queue_limit", "Requests that may wait at a time", self.queue_limit.clone());
        registry.register("process_resident_memory_bytes", "Resident memory of the agent", self.resident.clone());
    }

    pub(super) fn turned_away(&self, how: TurnedAway) {
        let (protocol, code) = match how {
            TurnedAway::Http(status) => ("http", status.as_str().to_owned()),
            TurnedAway::Grpc(code) => ("grpc", format!("{code:?}")),
        };
        self.refused.get_or_create_owned(&Refusal { protocol, code }).add(1);
    }

    pub(super) fn may_wait(&self, requests: usize) {
        self.queue_limit.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// Looks at what changes by itself.
    pub(super) fn look(&self) {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}
