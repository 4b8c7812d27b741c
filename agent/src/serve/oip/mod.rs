//! The Open Inference Protocol v2 over HTTP: infer in JSON, binary and raw form, health, metadata.

pub(crate) mod infer;
pub(crate) mod json;
pub(crate) mod metadata;
pub(crate) mod tensors;
mod words;
