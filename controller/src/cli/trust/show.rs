//! What a person reads of a root.

use crate::cli::output;
use crate::cli::{Context, Exit, Failure};
use fieldpost_shared::trust::{Role, RootMetadata, SignedRoot};
use serde::Serialize;

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    metadata: &'a RootMetadata,
    signed_by: Vec<String>,
}

pub(super) fn show(context: &Context, root: &SignedRoot) -> Result<Exit, Failure> {
    let signed_by = root.signatures.iter().map(|signature| signature.keyid.to_string()).collect();
    let now = context.clock().now();
    context.show(&Shown { metadata: &root.metadata, signed_by }, |_| {
        let expired = if now > root.metadata.expires { " (expired: no changes are allowed)" } else { "" };
        text(root, expired)
    })
}

fn text(root: &SignedRoot, expired: &str) -> String {
    let metadata = &root.metadata;
    let mut text = output::fields(&[
        ("fleet", metadata.fleet.to_string()),
        ("version", metadata.version.to_string()),
        ("created", metadata.created.to_string()),
        ("expires", format!("{}{expired}", metadata.expires)),
        ("revoked", metadata.revoked.len().to_string()),
    ]);
    let rows = [Role::Root, Role::Publisher, Role::Controller].into_iter().flat_map(|role| {
        let keys = metadata.role(role);
        let of = format!("{} of {}", keys.threshold, keys.keys.len());
        keys.keys.iter().enumerate().map(move |(index, key)| {
            let first = index == 0;
            let signed = root.signatures.iter().any(|signature| signature.keyid == key.id());
            vec![
                if first { role.to_string() } else { String::new() },
                if first { of.clone() } else { String::new() },
                key.id().short(),
                key.to_base64(),
                if signed { "yes".to_owned() } else { String::new() },
            ]
        })
    });
    let keys = output::table(&["role", "threshold", "key id", "public key", "signed this"], rows);
    text.push_str("\n\n");
    text.push_str(&keys);
    for manifest in &metadata.revoked {
        text.push_str(&format!("\nrevoked  {manifest}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::id::Digest;
    use fieldpost_shared::time::Timestamp;
    use fieldpost_shared::trust::root::SCHEMA;
    use fieldpost_shared::trust::{RoleKeys, SecretKey};

    #[test]
    fn roles_thresholds_and_who_signed_are_shown() {
        let key = |seed| SecretKey::from_seed(&[seed; 32]);
        let metadata = RootMetadata {
            schema: SCHEMA.into(),
            fleet: "plant-7".parse().unwrap(),
            version: 3,
            created: Timestamp::from_millis(1_800_000_000_000),
            expires: Timestamp::from_millis(1_900_000_000_000),
            root: RoleKeys { keys: vec![key(1).public(), key(2).public()], threshold: 2 },
            publisher: RoleKeys { keys: vec![key(3).public()], threshold: 1 },
            controller: RoleKeys { keys: vec![key(4).public()], threshold: 1 },
            revoked: vec![Digest::of(b"bad")],
        };
        let root = SignedRoot::sign(metadata, &[&key(2)]).unwrap();
        insta::assert_snapshot!(text(&root, ""), @r"
        fleet    plant-7
        version  3
        created  2027-01-15T08:00:00.000Z
        expires  2030-03-17T17:46:40.000Z
        revoked  1

        ROLE        THRESHOLD  KEY ID        PUBLIC KEY                                    SIGNED THIS
        root        2 of 2     34750f98bd59  iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=
                               6a3803d5f059  gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q=  yes
        publisher   1 of 1     b62e867fa2f3  7UkoxijRwsbq6QM4kFmVYSlZJzpcY/k2NsFGFKyHN9E=
        controller  1 of 1     c5b940ed3f65  ypOsFwUYcHHWe4PH/w7+gQjo7EUwV113JoeTM9vavnw=
        revoked  2f05d4b689d270cafb02285f35f44866f7dc8a2d368a3f9d1124373eeab31fb1
        ");
    }
}
