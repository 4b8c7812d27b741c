//! `bundle list|history`: the releases in the controller, and where they come from.

use super::source::{Loaded, fetch};
use crate::api::types::Release;
use crate::cli::output::{self, ago, bytes};
use crate::cli::{Context, Exit, Failure};
use fieldpost_shared::bundle::manifest::Lineage;
use fieldpost_shared::id::{Digest, ModelName};
use fieldpost_shared::time::Timestamp;
use serde::Serialize;

async fn releases(model: Option<&ModelName>, context: &Context) -> Result<Vec<Release>, Failure> {
    let query: Vec<_> = model.iter().map(|model| ("model", model.as_str())).collect();
    let mut releases: Vec<Release> = context.client()?.get("list releases", &["v1", "releases"], &query).await?;
    releases.sort_by(|a, b| (&a.release.model, &b.release.version).cmp(&(&b.release.model, &a.release.version)));
    Ok(releases)
}

pub(super) async fn list(model: Option<&ModelName>, context: &Context) -> Result<Exit, Failure> {
    let releases = releases(model, context).await?;
    context.show(&releases, |releases| list_text(releases, context.clock().now()))
}

fn list_text(releases: &[Release], now: Timestamp) -> String {
    if releases.is_empty() {
        return "no releases; `fieldpost bundle push FILE` brings one".to_owned();
    }
    let rows = releases.iter().map(|release| {
        vec![
            release.release.to_string(),
            if release.revoked { "revoked".to_owned() } else { release.release.manifest.short() },
            ago(Some(release.pushed), now),
            bytes(release.total_bytes),
            format!("{} of {}", release.live_on, release.desired_on),
            release.note.clone(),
        ]
    });
    output::table(&["release", "digest", "pushed", "size", "live on", "note"], rows)
}

/// One step of a model's history.
#[derive(Debug, Serialize)]
struct Step {
    #[serde(flatten)]
    release: Release,
    lineage: Lineage,
    signed_by: Vec<Digest>,
}

pub(super) async fn history(model: &ModelName, context: &Context) -> Result<Exit, Failure> {
    let mut steps = Vec::new();
    for release in releases(Some(model), context).await? {
        let Loaded { manifest, signatures, .. } = fetch(model, &release.release.version, context).await?;
        let signed_by = signatures.iter().map(|signature| signature.keyid).collect();
        steps.push(Step { release, lineage: manifest.lineage, signed_by });
    }
    if steps.is_empty() {
        return Err(
            Failure::new(format!("there is no release of `{model}`")).hint("`fieldpost bundle list` shows all models")
        );
    }
    context.show(&steps, |steps| history_text(steps))
}

fn history_text(steps: &[Step]) -> String {
    let rows = steps.iter().map(|step| {
        let Step { release, lineage, signed_by } = step;
        let metrics: Vec<String> = lineage.metrics.iter().map(|(name, value)| format!("{name} {value}")).collect();
        vec![
            release.release.version.to_string(),
            release.created.to_string(),
            lineage.parent.clone().unwrap_or_default(),
            lineage.algorithm.clone().unwrap_or_default(),
            metrics.join("\n"),
            lineage.data.clone().unwrap_or_default(),
            signed_by.iter().map(Digest::short).collect::<Vec<_>>().join("\n"),
            if release.revoked { "revoked".to_owned() } else { release.note.clone() },
        ]
    });
    output::table(&["version", "created", "from", "algorithm", "metrics", "data", "signed by", "note"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::id::ReleaseRef;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn release(version: &str, revoked: bool) -> Release {
        let manifest = Digest::of(version.as_bytes());
        Release {
            release: ReleaseRef { model: "digits".parse().unwrap(), version: version.parse().unwrap(), manifest },
            created: NOW.minus(Duration::from_secs(7_200)),
            pushed: NOW.minus(Duration::from_secs(3_600)),
            note: "small".into(),
            total_bytes: 62_435,
            signed_by: vec![Digest::of(b"key")],
            revoked,
            desired_on: 12,
            live_on: 11,
        }
    }

    #[test]
    fn releases_at_a_glance() {
        insta::assert_snapshot!(list_text(&[release("1.0.0", false), release("1.2.0", true)], NOW), @r"
        RELEASE       DIGEST        PUSHED   SIZE      LIVE ON   NOTE
        digits@1.0.0  92521fc3cbd9  1 h ago  61.0 KiB  11 of 12  small
        digits@1.2.0  revoked       1 h ago  61.0 KiB  11 of 12  small
        ");
    }

    #[test]
    fn where_a_release_comes_from() {
        let lineage = Lineage {
            parent: Some("digits@1.0.0".into()),
            algorithm: Some("cnn".into()),
            metrics: [("accuracy".to_owned(), 0.9825)].into(),
            ..Lineage::default()
        };
        let step = Step { release: release("1.1.0", false), lineage, signed_by: vec![Digest::of(b"key")] };
        insta::assert_snapshot!(history_text(&[step]), @r"
        VERSION  CREATED                   FROM          ALGORITHM  METRICS          DATA  SIGNED BY     NOTE
        1.1.0    2027-01-15T06:00:00.000Z  digits@1.0.0  cnn        accuracy 0.9825        2c70e12b7a06  small
        ");
    }
}
