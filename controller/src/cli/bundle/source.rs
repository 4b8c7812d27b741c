//! A bundle on the command line: a file, or `NAME@VERSION` in the controller.

use crate::api::types::ReleaseDetail;
use crate::cli::{Context, Failure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::bundle::archive::Bundle;
use fieldpost_shared::id::{Digest, ModelName};
use fieldpost_shared::trust::Signature;
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;

/// What is signed of a bundle, and by whom.
#[derive(Debug)]
pub(in crate::cli) struct Loaded {
    pub(in crate::cli) manifest: Manifest,
    pub(in crate::cli) digest: Digest,
    pub(in crate::cli) signatures: Vec<Signature>,
}

/// Reads a bundle file and checks every byte of it against its manifest.
pub(super) fn read(path: &Path) -> Result<Bundle, Failure> {
    let refuse = || Failure::new(format!("cannot use the bundle `{}`", path.display()));
    let file = File::open(path).map_err(|error| {
        let failure = refuse().because(&error);
        match error.kind() {
            ErrorKind::NotFound => failure.hint("`fieldpost bundle pack DIR` writes one, and says its name"),
            _ => failure,
        }
    })?;
    Bundle::read(BufReader::new(file)).map_err(|error| refuse().because(&error))
}

/// Loads a manifest from a file or from the controller.
pub(super) async fn load(text: &str, context: &Context) -> Result<Loaded, Failure> {
    if !Path::new(text).exists()
        && let Some((model, version)) = named(text)
    {
        return fetch(&model, &version, context).await;
    }
    let Bundle { manifest, manifest_bytes, signatures, .. } = read(Path::new(text))
        .map_err(|failure| failure.hint("name a bundle file, or NAME@VERSION for a release in the controller"))?;
    Ok(Loaded { manifest, digest: Digest::of(&manifest_bytes), signatures })
}

/// `NAME@VERSION` in its parts.
pub(in crate::cli) fn named(text: &str) -> Option<(ModelName, semver::Version)> {
    let (model, version) = text.split_once('@')?;
    Some((model.parse().ok()?, version.parse().ok()?))
}

/// Loads a release from the controller, and checks that it is what its digest says.
pub(in crate::cli) async fn fetch(
    model: &ModelName,
    version: &semver::Version,
    context: &Context,
) -> Result<Loaded, Failure> {
    let operation = format!("read the release {model}@{version}");
    let path = ["v1", "releases", model.as_str(), &version.to_string()];
    let detail: ReleaseDetail = context.client()?.get(&operation, &path, &[]).await?;
    let refuse = || Failure::new(format!("cannot {operation}"));
    let bytes = BASE64.decode(&detail.manifest_bytes).map_err(|error| refuse().because(&error))?;
    let digest = Digest::of(&bytes);
    if digest != detail.summary.release.manifest {
        return Err(refuse().because_text("the manifest is not what its digest says"));
    }
    let manifest = Manifest::parse(&bytes).map_err(|error| refuse().because(&error))?;
    if (&manifest.name, &manifest.version) != (model, version) {
        let found = format!("the controller sent {}@{}", manifest.name, manifest.version);
        return Err(refuse().because_text(found));
    }
    Ok(Loaded { manifest, digest, signatures: detail.signatures })
}
