//! Roots for tests of what keeps them.

use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::root::{RoleKeys, SCHEMA};
use fieldpost_shared::trust::{RootMetadata, SecretKey, SignedRoot};

/// A version of a fleet's root, signed by the root key made of `root_seed`.
pub(crate) fn root(fleet: &str, version: u64, root_seed: u8, controller_seed: u8) -> SignedRoot {
    let key = |seed| SecretKey::from_seed(&[seed; 32]);
    let role = |seed| RoleKeys { keys: vec![key(seed).public()], threshold: 1 };
    let metadata = RootMetadata {
        schema: SCHEMA.to_owned(),
        fleet: fleet.parse().unwrap(),
        version,
        created: Timestamp::EPOCH,
        expires: Timestamp::from_millis(u64::MAX),
        root: role(root_seed),
        publisher: role(2),
        controller: role(controller_seed),
        revoked: vec![],
    };
    SignedRoot::sign(metadata, &[&key(root_seed)]).unwrap()
}
