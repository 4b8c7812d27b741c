//! Doors for the fuzz targets in `tests/fuzz`: decoders of bytes from outside that are private otherwise. Not part of any
//! build but theirs.

use crate::runtime::{InputError, PredictInput, Prepared};
use crate::serve::fuzzing;
use bytes::Bytes;
use fieldpost_shared::bundle::Manifest;

/// The body of an inference request (OIP v2 §infer); with `json_bytes` its end is binary tensors. Whether it is taken.
#[must_use]
pub fn infer_request(body: &[u8], json_bytes: Option<usize>, manifest: &Manifest) -> bool {
    fuzzing::infer_request(body, json_bytes, manifest)
}

/// A ModelInferRequest in protobuf (OIP v2 §GRPC). Whether it is taken.
#[must_use]
pub fn infer_message(message: &[u8], manifest: &Manifest) -> bool {
    fuzzing::infer_message(message, manifest)
}

/// A packed body of at most `max_bytes` when unpacked; gzip, or zlib's frame (RFC 9110 §8.4.1).
#[must_use]
pub fn unpack(deflate: bool, packed: &[u8], max_bytes: usize) -> Option<Bytes> {
    fuzzing::unpack(deflate, packed, max_bytes)
}

/// The truth about a prediction, in JSON. Whether it is taken.
#[must_use]
pub fn feedback(body: &[u8], manifest: &Manifest) -> bool {
    fuzzing::feedback(body, manifest)
}

/// The messages of gRPC but inference requests' tensors. Whether it is one of them.
#[must_use]
pub fn small_message(message: &[u8]) -> bool {
    fuzzing::small_message(message)
}

/// The messages of a call whose bytes come in pieces of a size, each with whether it is packed; and whether all of it was
/// taken (gRPC over HTTP/2 §Requests).
#[must_use]
pub fn messages(bytes: &[u8], piece_bytes: usize, max_bytes: usize) -> (Vec<(bool, Bytes)>, bool) {
    fuzzing::messages(bytes, piece_bytes, max_bytes)
}

/// What is read of the head of a request; one header a line. Whether there is nothing wrong with it.
#[must_use]
pub fn head(lines: &[u8]) -> bool {
    fuzzing::head(lines)
}

/// Pre-processing as declared in a manifest; `None` where it declares what no release is loaded with.
#[must_use]
pub fn prepare(manifest: &Manifest, input: &PredictInput<'_>) -> Option<Result<Prepared, InputError>> {
    crate::runtime::prepare_for_fuzzing(manifest, input)
}
