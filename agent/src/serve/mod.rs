//! Answers predictions on the box: HTTP, the registry of live models, the queue before the inference threads.
//!
//! ```text
//! connection (reactor) --body read whole--> Registry: which release? --> queue (bounded) --> inference thread
//!                                            holds the Arc from here        full: 503          prepare, infer, answer, count
//! ```
//!
//! Threads are shared fairly among models (`fair`); what waits together runs together where that pays (`batch`); a release may
//! stand beside the live one (`rival`, `shadow`, `compare`, `route`); the truth may be told of a recent prediction (`recent`, `truth`, `feedback`), also of a release that is gone (`ledger`).
//!
//! A request belongs to the release that was live when it was queued, and finishes on it: a swap fails nobody.
//! What a caller did wrong is 4xx and counted apart from what the model did wrong (500).
//!
//! | status | when |
//! |---|---|
//! | 400 | malformed JSON, image or header; wrong tensor; several models live and none named |
//! | 404 | no such path, model or version; feedback for a prediction that is not kept |
//! | 408 | the body did not come in time |
//! | 409 | feedback for a prediction that has its label |
//! | 413, 415 | body too large; neither JSON, image, nor what the bundle takes |
//! | 500 | the model failed on a sound request |
//! | 503 | queue full, or the model is not ready; with `Retry-After` |
//! | 504 | the caller's deadline passed |

mod access;
mod batch;
mod browser;
mod call;
mod coding;
mod compare;
mod connection;
mod doors;
mod error;
mod fair;
mod feedback;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod grpc;
mod ledger;
mod metrics;
mod model;
mod oip;
mod page;
mod path;
mod pool;
mod predict;
mod recent;
mod registry;
mod request;
mod rival;
mod route;
mod router;
mod run;
mod running;
mod seats;
mod server;
mod shadow;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod truth;
mod unix;

pub use metrics::Metrics;
pub use model::Model;
pub use registry::Registry;
pub use request::DEADLINE_HEADER;
pub use rival::{Portion, RivalError, Sticky};
pub use server::{GrpcAddress, ServeError, ServeSettings, Server, StatusHandle};
pub use unix::SocketError;

use crate::runtime::Answer;
use fieldpost_shared::bundle::{Manifest, Tensor};
use fieldpost_shared::id::ReleaseRef;

/// Why a body is no inference request for a model, or its outputs no answer in JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RequestError(String);

/// The model's inputs, in the manifest's order, from the JSON body of an inference request: packing a bundle reads its
/// samples with it, so that what is a request there is one here.
///
/// # Errors
/// When it is no such request, or its tensors are not the model's.
pub fn request_tensors(body: &[u8], manifest: &Manifest) -> Result<Vec<Tensor>, RequestError> {
    oip::infer::parse(body, None, manifest).map(|request| request.inputs).map_err(|error| RequestError(error.message))
}

/// The body with which `POST /predict` answers.
///
/// # Errors
/// When an output's bytes are no text, which JSON cannot carry.
pub(crate) fn prediction_json(
    release: &ReleaseRef,
    manifest: &Manifest,
    id: &str,
    answers: &[Answer],
    outputs: &[Tensor],
) -> Result<Vec<u8>, RequestError> {
    predict::write(release, manifest, id, answers, outputs).map_err(|error| RequestError(error.message))
}
