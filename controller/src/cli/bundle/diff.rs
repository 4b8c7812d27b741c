//! `bundle diff`: what changed between two releases, and what a device that has the one must fetch for the other.

use super::source::Loaded;
use crate::cli::output::{self, bytes};
use crate::cli::{Context, Exit, Failure};
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::id::Digest;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// Parts that differ in every release and tell a person nothing.
const PASSED_OVER: [&str; 5] = ["files", "baseline", "measured", "created", "schema"];

#[derive(Debug, PartialEq, Serialize)]
struct Diff {
    changes: Vec<Change>,
    /// Unpacked bytes of the chunks that only the new release has.
    fetch_bytes: u64,
    /// Unpacked bytes of all chunks of the new release.
    total_bytes: u64,
    /// Whether both are the same release.
    same: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Change {
    what: String,
    old: Option<String>,
    new: Option<String>,
}

pub(super) fn diff(old: &Loaded, new: &Loaded, context: &Context) -> Result<Exit, Failure> {
    let mut diff = compare(&old.manifest, &new.manifest)?;
    diff.same = old.digest == new.digest;
    context.show(&diff, text)
}

fn compare(old: &Manifest, new: &Manifest) -> Result<Diff, Failure> {
    let (before, after) = (flat(old)?, flat(new)?);
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changes = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let changes = changes
        .map(|key| Change { what: key.clone(), old: before.get(key).cloned(), new: after.get(key).cloned() })
        .collect();
    let known: HashSet<Digest> = old.chunks().iter().map(|chunk| chunk.sha256).collect();
    let sum = |fresh: bool| {
        let chunks = new.chunks();
        let counted = chunks.iter().filter(|chunk| !(fresh && known.contains(&chunk.sha256)));
        counted.fold(0_u64, |sum, chunk| sum.saturating_add(chunk.size))
    };
    Ok(Diff { changes, fetch_bytes: sum(true), total_bytes: sum(false), same: false })
}

/// Every leaf of a manifest by its path, such as `preprocess.width`.
fn flat(manifest: &Manifest) -> Result<BTreeMap<String, String>, Failure> {
    let value =
        serde_json::to_value(manifest).map_err(|error| Failure::new("cannot compare the manifests").because(&error))?;
    let mut leaves = BTreeMap::new();
    if let Value::Object(map) = value {
        for (key, value) in map.into_iter().filter(|(key, _)| !PASSED_OVER.contains(&key.as_str())) {
            collect(key, value, &mut leaves);
        }
    }
    // Of a model file only its digest can be compared.
    for file in &manifest.files {
        leaves.insert(format!("file {}", file.path), format!("{} {}", file.sha256.short(), bytes(file.size)));
    }
    Ok(leaves)
}

fn collect(path: String, value: Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => map.into_iter().for_each(|(key, value)| collect(format!("{path}.{key}"), value, leaves)),
        Value::Null => {}
        Value::String(text) => {
            leaves.insert(path, text);
        }
        other => {
            leaves.insert(path, other.to_string());
        }
    }
}

fn text(diff: &Diff) -> String {
    if diff.same {
        return "the same release".to_owned();
    }
    let cell = |value: &Option<String>| {
        let text = value.as_deref().unwrap_or("-");
        let short: String = text.chars().take(60).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    };
    let rows = diff.changes.iter().map(|change| vec![change.what.clone(), cell(&change.old), cell(&change.new)]);
    let (fetch, total) = (bytes(diff.fetch_bytes), bytes(diff.total_bytes));
    format!(
        "{}\n\na device that has the old one fetches {fetch} of {total}, before compression",
        output::table(&["what", "old", "new"], rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::testing::manifest;
    use fieldpost_shared::bundle::chunk::ChunkRef;

    #[test]
    fn changes_and_the_bytes_to_fetch() {
        let old = manifest();
        let mut new = manifest();
        new.version = "1.1.0".parse().unwrap();
        new.note = "better".into();
        new.budgets.max_psi = Some(0.25);
        let fresh = ChunkRef { sha256: Digest::of(b"fresh"), size: 2_000 };
        new.files[0].chunks.push(fresh);
        new.files[0].size += fresh.size;
        new.files[0].sha256 = Digest::of(b"new");
        insta::assert_snapshot!(text(&compare(&old, &new).unwrap()), @r"
        WHAT             OLD               NEW
        budgets.max_psi  -                 0.25
        file model.onnx  ed7002b439e9 7 B  11507a0e2f5e 2.0 KiB
        note                               better
        version          1.0.0             1.1.0

        a device that has the old one fetches 2.0 KiB of 2.0 KiB, before compression
        ");
    }

    #[test]
    fn a_release_does_not_differ_from_itself() {
        let diff = compare(&manifest(), &manifest()).unwrap();
        assert_eq!((diff.changes, diff.fetch_bytes), (vec![], 0));
    }
}
