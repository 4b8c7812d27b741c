//! From a bundle on disk to a model that passed its self-test, by a box's own steps.

use super::Believed;
use super::scratch::Scratch;
use crate::app::inventory;
use crate::fetch::Disk;
use crate::fetch::assemble::assemble;
use crate::fetch::fit::{Needs, Room, check, missing_cpu_features};
use crate::runtime::{LoadedModel, SelfTestReport, golden_set, self_test};
use anyhow::{Context as _, anyhow, bail};
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::bundle::archive::Bundle;
use fieldpost_shared::bundle::chunk::{MAX_CHUNK_BYTES, unframe};
use fieldpost_shared::time::Clock;
use fieldpost_shared::trust::envelope::{Kind, verifies};
use fieldpost_shared::trust::{PublicKey, Signature, SignedRoot, verifier};
use serde::Serialize;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

/// A model that may answer, with what was found on the way.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) model: Arc<LoadedModel>,
    pub(super) signatures: Signatures,
    pub(super) report: SelfTestReport,
    /// Where its files lie.
    pub(super) scratch: Scratch,
}

/// What is known about who published the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum Signatures {
    /// Nobody said whose to believe.
    NotChecked {
        /// How many the bundle holds.
        present: usize,
    },
    /// The publishers of a fleet.
    GenuineByRoot {
        /// Which fleet's.
        fleet: String,
        /// By which version of its root metadata.
        version: u64,
    },
    /// The keys that were named.
    GenuineByKeys {
        /// How many; all of them signed.
        keys: usize,
    },
}

/// Reads, believes, checks the fit, assembles, loads and self-tests. Blocking, up to some seconds.
pub(super) fn open(path: &Path, believed: &Believed, clock: &dyn Clock) -> anyhow::Result<Opened> {
    let bundle = read(path).with_context(|| format!("cannot use the bundle `{}`", path.display()))?;
    let signatures = believe(&bundle.manifest_bytes, &bundle.signatures, believed, clock)
        .with_context(|| format!("`{}` is not believed", path.display()))?;
    let scratch = Scratch::new().context("cannot make a scratch directory")?;
    let (disk, manifest, release) = unpack(bundle, &scratch)?;
    let files = disk.files_dir(&release.manifest);
    let model = LoadedModel::load(&files, manifest, release).context("the model cannot run here")?;
    let golden = golden_set(&files, model.manifest())?.unwrap_or_default();
    let report = self_test(&model, &golden, clock).map_err(|failed| {
        let kind = serde_json::to_value(failed.kind).ok();
        let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("self-test").to_owned();
        anyhow!("{failed}").context(format!("{} does not pass its self-test here ({kind})", model.release()))
    })?;
    Ok(Opened { model: Arc::new(model), signatures, report, scratch })
}

fn read(path: &Path) -> anyhow::Result<Bundle> {
    if path.is_dir() {
        if !path.join("manifest.json").exists() && path.join("bundle.toml").exists() {
            bail!("it is the folder that a bundle is made of\nnext: fieldpost bundle pack {}", path.display());
        }
        return Ok(Bundle::read_dir(path)?);
    }
    let file = File::open(path).context("cannot open it")?;
    Ok(Bundle::read(BufReader::new(file))?)
}

fn believe(
    manifest: &[u8],
    signatures: &[Signature],
    believed: &Believed,
    clock: &dyn Clock,
) -> anyhow::Result<Signatures> {
    match believed {
        Believed::Anybody => Ok(Signatures::NotChecked { present: signatures.len() }),
        Believed::Root(path) => {
            let named = || format!("cannot use the root `{}`", path.display());
            let bytes = std::fs::read(path).with_context(named)?;
            let root = SignedRoot::parse(&bytes).with_context(named)?;
            root.verify_self().with_context(named)?;
            let root = root.metadata;
            root.check_fresh(clock.now())?;
            verifier::verify_manifest(&root, manifest, signatures)?;
            Ok(Signatures::GenuineByRoot { fleet: root.fleet.to_string(), version: root.version })
        }
        Believed::Keys(keys) => {
            let signed_by = |key: &&PublicKey| {
                let own = signatures.iter().filter(|signature| signature.keyid == key.id());
                own.into_iter().any(|signature| verifies(Kind::Manifest, manifest, signature, key))
            };
            match keys.iter().find(|key| !signed_by(key)) {
                None => Ok(Signatures::GenuineByKeys { keys: keys.len() }),
                Some(key) => bail!("key {} did not sign it ({} signatures)", key.id().short(), signatures.len()),
            }
        }
    }
}

type Unpacked = (Disk, Arc<Manifest>, fieldpost_shared::id::ReleaseRef);

/// Chunk by chunk, as if each had come over the line.
fn unpack(bundle: Bundle, scratch: &Scratch) -> anyhow::Result<Unpacked> {
    let disk = Disk::open(scratch.path())?;
    let Bundle { manifest, manifest_bytes, blobs, .. } = bundle;
    let lacking = missing_cpu_features(&manifest, &inventory::cpu_features());
    if !lacking.is_empty() {
        bail!("the bundle needs CPU features {}, which this machine lacks", lacking.join(" "));
    }
    let fetch_bytes = manifest.chunks().iter().map(|chunk| chunk.size).sum();
    let needs = Needs { fetch_bytes, write_bytes: manifest.total_bytes() };
    let room = Room { free_disk_bytes: disk.free_bytes(), budget_bytes: None };
    check(&manifest, &inventory::read(&disk, String::new()), room, needs)
        .context("the bundle does not fit this machine")?;
    for (name, frame) in blobs {
        let content = unframe(&frame, name, MAX_CHUNK_BYTES).with_context(|| format!("blob {name} is refused"))?;
        disk.keep_chunk(&name, &content)?;
    }
    assemble(&disk, &manifest, &manifest_bytes)?;
    let release = manifest.release(&manifest_bytes);
    Ok((disk, Arc::new(manifest), release))
}
