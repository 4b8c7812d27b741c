//! Thresholds: how many keys of a role must have signed.

use super::envelope::{Kind, verifies};
use super::keys::{PublicKey, Signature};
use super::root::{Role, RootMetadata};
use crate::id::Digest;
use crate::time::Timestamp;

/// Why a statement is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Too few valid signatures by different keys of the role.
    #[error("{valid} of {needed} needed {role} signatures are valid")]
    Threshold {
        /// Whose signatures were needed.
        role: Role,
        /// Different keys of the role whose signature is valid.
        valid: usize,
        /// How many are needed.
        needed: usize,
    },
    /// One key signed twice.
    #[error("key {0} signed twice")]
    DoublySigned(Digest),
    /// The root metadata itself has expired.
    #[error("the root metadata expired at {0}")]
    RootExpired(Timestamp),
    /// A release that the root metadata has revoked.
    #[error("manifest {0} is revoked")]
    Revoked(Digest),
}

/// Whether enough different keys of a role signed a body as this kind.
///
/// Signatures by unknown keys are passed over, as DSSE asks; a key that appears twice is refused, since it can only
/// be an error or an attempt to reach a threshold.
///
/// # Errors
/// When a key signed twice, or fewer valid signatures than the role's threshold are there.
pub fn verify_threshold(
    root: &RootMetadata,
    role: Role,
    kind: Kind,
    body: &[u8],
    signatures: &[Signature],
) -> Result<(), TrustError> {
    let role_keys = root.role(role);
    let mut seen = std::collections::HashSet::new();
    let mut valid = 0_usize;
    for signature in signatures {
        if !seen.insert(signature.keyid) {
            return Err(TrustError::DoublySigned(signature.keyid));
        }
        let key = role_keys.keys.iter().find(|key| key.id() == signature.keyid);
        if key.is_some_and(|key: &PublicKey| verifies(kind, body, signature, key)) {
            valid = valid.saturating_add(1);
        }
    }
    if valid >= role_keys.threshold {
        Ok(())
    } else {
        Err(TrustError::Threshold { role, valid, needed: role_keys.threshold })
    }
}

/// Whether a manifest is genuine: signed by enough publishers and not revoked.
///
/// # Errors
/// As [`verify_threshold`], and when the manifest is revoked.
pub fn verify_manifest(root: &RootMetadata, manifest: &[u8], signatures: &[Signature]) -> Result<Digest, TrustError> {
    let digest = Digest::of(manifest);
    if root.revoked.contains(&digest) {
        return Err(TrustError::Revoked(digest));
    }
    verify_threshold(root, Role::Publisher, Kind::Manifest, manifest, signatures)?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::super::root::tests::{key, root};
    use super::super::{envelope::sign, root::RoleKeys};
    use super::*;

    fn check(threshold: usize, signers: &[u8]) -> Result<(), TrustError> {
        let mut root = root(1);
        root.publisher = RoleKeys { keys: vec![key(11).public(), key(12).public()], threshold };
        let signatures: Vec<_> = signers.iter().map(|seed| sign(Kind::Manifest, b"m", &key(*seed))).collect();
        verify_threshold(&root, Role::Publisher, Kind::Manifest, b"m", &signatures)
    }

    #[test]
    fn enough_different_keys_are_believed() {
        assert_eq!(check(1, &[11]), Ok(()));
        assert_eq!(check(2, &[12, 11]), Ok(()));
        assert_eq!(check(1, &[99, 12]), Ok(()));
    }

    #[test]
    fn one_key_twice_is_refused() {
        assert!(matches!(check(2, &[11, 11]), Err(TrustError::DoublySigned(_))));
        assert!(matches!(check(1, &[11, 11]), Err(TrustError::DoublySigned(_))));
    }

    #[test]
    fn foreign_and_missing_signatures_do_not_count() {
        assert!(matches!(check(1, &[]), Err(TrustError::Threshold { valid: 0, .. })));
        assert!(matches!(check(1, &[1]), Err(TrustError::Threshold { valid: 0, .. })));
        assert!(matches!(check(2, &[11, 99]), Err(TrustError::Threshold { valid: 1, needed: 2, .. })));
    }

    #[test]
    fn a_revoked_manifest_is_refused_though_signed() {
        let mut root = root(1);
        let signature = sign(Kind::Manifest, b"m", &key(2));
        assert!(verify_manifest(&root, b"m", &[signature]).is_ok());
        root.revoked.push(Digest::of(b"m"));
        assert!(matches!(verify_manifest(&root, b"m", &[signature]), Err(TrustError::Revoked(_))));
    }
}
