//! The Open Inference Protocol v2: over HTTP in JSON, binary and raw form; what gRPC shares with it is here too.

mod classification;
pub(crate) mod config;
pub(crate) mod infer;
pub(crate) mod json;
pub(crate) mod messages;
pub(crate) mod metadata;
pub(crate) mod own;
pub(crate) mod repository;
pub(crate) mod routes;
pub(crate) mod statistics;
pub(crate) mod tensors;
mod words;
