//! OIP v2 over gRPC: `inference.GRPCInferenceService`, as KServe's and Triton's clients speak it.
//!
//! A message stays the bytes that came until it is on an inference thread, where it is read without copying ([`wire`]):
//! Protocol Buffers pack numbers so tightly that decoding them first would cost many times their size in memory.
//! Everything behind the message, from the queue to the rules about tensors, is what HTTP has too.

mod connection;
pub(crate) mod infer;
pub(crate) mod messages;
mod own;
mod parameter;
mod plain;
pub(crate) mod service;
mod wire;

pub(crate) use connection::serve;
#[cfg(test)]
pub(crate) use wire::put_bytes;
