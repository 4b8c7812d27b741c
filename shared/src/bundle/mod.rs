//! A bundle: one model release as a plain tar of a signed manifest and content-named blobs.
//!
//! ```text
//! NAME-VERSION.fieldpost      (tar)
//!   manifest.json             the bytes that are signed; their sha256 is the release's identity
//!   signatures.json           publisher signatures over the manifest (DSSE v1 §PAE)
//!   blobs/<sha256>            one chunk each, in the framing of [`chunk`]
//! ```

pub mod archive;
pub mod chunk;
pub mod contract;
pub mod declare;
pub mod golden;
pub mod manifest;
pub mod tensor;

pub use contract::{Dim, Dtype, TensorSpec};
pub use golden::{GoldenSample, GoldenSet};
pub use manifest::{FileEntry, Manifest, ManifestError};
pub use tensor::Tensor;
