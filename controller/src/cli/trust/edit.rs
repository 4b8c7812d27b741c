//! Changes of root metadata: pure. Every change makes the next version; nothing is edited in place.

use fieldpost_shared::id::Digest;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::{PublicKey, Role, RoleKeys, RootMetadata};
use std::time::Duration;

/// Shortest prefix of a key id that may stand for it.
const MIN_PREFIX: usize = 8;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Edit {
    /// Another key may sign for a role.
    Add { role: Role, key: PublicKey },
    /// A key may no longer sign for a role; named by its id or the beginning of it.
    Remove { role: Role, keyid: String },
    /// So many keys of a role must sign.
    Threshold { role: Role, threshold: usize },
    /// A release must not run any more.
    Revoke { manifest: Digest },
}

/// A change that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EditError {
    /// The key is in the role already.
    #[error("the key {0} is in the {1} role already")]
    Known(Digest, Role),
    /// No key of the role has this id.
    #[error("the {1} role has no key `{0}`")]
    Unknown(String, Role),
    /// Several keys begin like this, or the beginning is too short to tell.
    #[error("`{0}` does not tell which key of the {1} role is meant: give at least {MIN_PREFIX} characters of its id")]
    Ambiguous(String, Role),
    /// The threshold cannot be reached, or is none.
    #[error("the {role} role would have {keys} keys of which {threshold} must sign")]
    Threshold { role: Role, keys: usize, threshold: usize },
    /// The manifest is revoked already.
    #[error("the manifest {0} is revoked already")]
    Revoked(Digest),
    /// The last version there can be.
    #[error("there is no version after {0}")]
    LastVersion(u64),
}

/// The next version: `current` with the edits, made now, and valid for `lifetime`.
pub(super) fn next(
    current: &RootMetadata,
    edits: &[Edit],
    now: Timestamp,
    lifetime: Duration,
) -> Result<RootMetadata, EditError> {
    let mut root = current.clone();
    root.version = current.version.checked_add(1).ok_or(EditError::LastVersion(current.version))?;
    root.created = now;
    root.expires = now.plus(lifetime);
    for edit in edits {
        apply(&mut root, edit)?;
    }
    for role in [Role::Root, Role::Publisher, Role::Controller] {
        let RoleKeys { keys, threshold } = root.role(role);
        if !(1..=keys.len()).contains(threshold) {
            return Err(EditError::Threshold { role, keys: keys.len(), threshold: *threshold });
        }
    }
    Ok(root)
}

fn role_mut(root: &mut RootMetadata, role: Role) -> &mut RoleKeys {
    match role {
        Role::Root => &mut root.root,
        Role::Publisher => &mut root.publisher,
        Role::Controller => &mut root.controller,
    }
}

fn apply(root: &mut RootMetadata, edit: &Edit) -> Result<(), EditError> {
    match edit {
        Edit::Add { role, key } => {
            let keys = &mut role_mut(root, *role).keys;
            if keys.contains(key) {
                return Err(EditError::Known(key.id(), *role));
            }
            keys.push(*key);
        }
        Edit::Remove { role, keyid } => {
            let keys = &mut role_mut(root, *role).keys;
            let index = named(keys, keyid, *role)?;
            keys.remove(index);
        }
        Edit::Threshold { role, threshold } => role_mut(root, *role).threshold = *threshold,
        Edit::Revoke { manifest } => {
            if root.revoked.contains(manifest) {
                return Err(EditError::Revoked(*manifest));
            }
            root.revoked.push(*manifest);
        }
    }
    Ok(())
}

fn named(keys: &[PublicKey], keyid: &str, role: Role) -> Result<usize, EditError> {
    let mut matching = keys.iter().enumerate().filter(|(_, key)| key.id().to_string().starts_with(keyid));
    match (matching.next(), matching.next()) {
        (None, _) => Err(EditError::Unknown(keyid.chars().take(80).collect(), role)),
        (Some((index, _)), None) if keyid.len() >= MIN_PREFIX => Ok(index),
        _ => Err(EditError::Ambiguous(keyid.chars().take(80).collect(), role)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::trust::SecretKey;
    use fieldpost_shared::trust::root::SCHEMA;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&[seed; 32]).public()
    }

    fn root() -> RootMetadata {
        let one = |seed| RoleKeys { keys: vec![key(seed)], threshold: 1 };
        RootMetadata {
            schema: SCHEMA.into(),
            fleet: "f".parse().unwrap(),
            version: 4,
            created: Timestamp::EPOCH,
            expires: Timestamp::EPOCH,
            root: one(1),
            publisher: one(2),
            controller: one(3),
            revoked: vec![],
        }
    }

    fn check(edits: &[Edit]) -> Result<RootMetadata, EditError> {
        next(&root(), edits, NOW, DAY)
    }

    #[test]
    fn every_change_makes_the_next_version_with_a_fresh_expiry() {
        let renewed = check(&[]).unwrap();
        assert_eq!((renewed.version, renewed.created, renewed.expires), (5, NOW, NOW.plus(DAY)));
        let last = RootMetadata { version: u64::MAX, ..root() };
        assert_eq!(next(&last, &[], NOW, DAY), Err(EditError::LastVersion(u64::MAX)));
    }

    #[test]
    fn a_key_is_rotated_by_adding_and_removing() {
        let old = key(2).id().to_string();
        let rotated = check(&[
            Edit::Add { role: Role::Publisher, key: key(9) },
            Edit::Remove { role: Role::Publisher, keyid: old[..12].to_owned() },
        ]);
        assert_eq!(rotated.unwrap().publisher.keys, [key(9)]);
    }

    #[test]
    fn a_role_cannot_lose_its_last_key_or_ask_for_more_than_it_has() {
        let keyid = key(3).id().to_string();
        let emptied = check(&[Edit::Remove { role: Role::Controller, keyid }]);
        assert_eq!(emptied, Err(EditError::Threshold { role: Role::Controller, keys: 0, threshold: 1 }));
        for threshold in [0, 2] {
            let refused = check(&[Edit::Threshold { role: Role::Root, threshold }]);
            assert!(matches!(refused, Err(EditError::Threshold { .. })), "{threshold}");
        }
    }

    #[test]
    fn keys_are_named_without_doubt() {
        let remove = |keyid: &str| check(&[Edit::Remove { role: Role::Root, keyid: keyid.to_owned() }]).unwrap_err();
        assert!(matches!(remove("zz"), EditError::Unknown(..)));
        assert!(matches!(remove(&key(1).id().to_string()[..7]), EditError::Ambiguous(..)));
        assert!(matches!(remove(""), EditError::Ambiguous(..)));
        let again = check(&[Edit::Add { role: Role::Root, key: key(1) }]);
        assert_eq!(again, Err(EditError::Known(key(1).id(), Role::Root)));
    }

    #[test]
    fn a_release_is_revoked_once() {
        let revoke = Edit::Revoke { manifest: Digest::of(b"bad") };
        let once = check(std::slice::from_ref(&revoke)).unwrap();
        assert_eq!(once.revoked, [Digest::of(b"bad")]);
        assert_eq!(next(&once, &[revoke], NOW, DAY), Err(EditError::Revoked(Digest::of(b"bad"))));
    }
}
