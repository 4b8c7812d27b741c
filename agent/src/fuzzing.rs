//! Doors for the fuzz targets in `tests/fuzz`: decoders of bytes from outside that are private otherwise. Not part of any
//! build but theirs.

use crate::runtime::{InputError, PredictInput, Prepared};
use fieldpost_shared::bundle::Manifest;

/// The body of an inference request (OIP v2 §infer); with `json_bytes` its end is binary tensors. Whether it is taken.
#[must_use]
pub fn infer_request(body: &[u8], json_bytes: Option<usize>, manifest: &Manifest) -> bool {
    crate::serve::oip_infer_for_fuzzing(body, json_bytes, manifest)
}

/// A ModelInferRequest in protobuf (OIP v2 §GRPC). Whether it is taken.
#[must_use]
pub fn infer_message(message: &[u8], manifest: &Manifest) -> bool {
    crate::serve::grpc_infer_for_fuzzing(message, manifest)
}

/// Pre-processing as declared in a manifest; `None` where it declares what no release is loaded with.
#[must_use]
pub fn prepare(manifest: &Manifest, input: &PredictInput<'_>) -> Option<Result<Prepared, InputError>> {
    crate::runtime::prepare_for_fuzzing(manifest, input)
}
