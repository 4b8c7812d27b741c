//! Answers are bytes already when they come here.

use bytes::BufMut as _;
use tonic::Status;
use tonic::codec::{EncodeBuf, Encoder};

/// Bytes as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}
