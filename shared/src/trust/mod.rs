//! Who may say what: keys, signed statements, the root of trust, and the verifier.
//!
//! Every statement is signed over DSSE's pre-authentication encoding with a payload type per [`Kind`], so that no
//! signature is valid for another kind or protocol version; the addressee is part of every payload.

pub mod envelope;
pub mod keys;
pub mod root;
pub mod verifier;

pub use envelope::{Envelope, EnvelopeError, Kind, pae};
pub use keys::{KeyError, KeyId, PublicKey, SecretKey, Signature};
pub use root::{Role, RoleKeys, RootError, RootMetadata, SignedRoot};
pub use verifier::{TrustError, verify_threshold};
