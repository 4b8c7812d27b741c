//! The Open Inference Protocol v2 over HTTP, its JSON form: infer, health, metadata.
//!
//! The binary-tensor extension is not here; a request with its header is refused and told so.

pub(crate) mod infer;
pub(crate) mod json;
pub(crate) mod metadata;
