//! `bundle pack`: the command around [`crate::pack`].

use super::inspect::summary;
use super::source::Loaded;
use crate::cli::keys::read_secret_key;
use crate::cli::progress::Bars;
use crate::cli::{Context, Exit, Failure};
use crate::pack::{self, Options, PackError};
use crate::trust_dir::PUBLISHER_KEY;
use clap::Args;
use fieldpost_shared::bundle::archive::Bundle;
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::SecretKey;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Arguments of `bundle pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// The folder with a bundle.toml
    pub dir: PathBuf,
    /// Publisher key to sign with; may be repeated [default: the one that the controller on this machine made]
    #[arg(long, env = "FIELDPOST_PUBLISHER_KEY", hide_env_values = true, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// The file to write, or the folder to write it into [default: NAME-VERSION.fieldpost here]
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// State this time instead of now, and leave the measured cost out: the same folder then gives the same bytes.
    /// SOURCE_DATE_EPOCH does the same
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub created: Option<Timestamp>,
    #[arg(long, env = "SOURCE_DATE_EPOCH", hide = true, hide_env_values = true, value_parser = epoch)]
    #[doc(hidden)]
    pub source_date_epoch: Option<Timestamp>,
}

/// RFC 3339.
fn time(text: &str) -> Result<Timestamp, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| error.to_string())
}

/// Seconds since 1970 (reproducible-builds.org §SOURCE_DATE_EPOCH).
fn epoch(text: &str) -> Result<Timestamp, String> {
    let seconds: u64 = text.parse().map_err(|_not_a_number| "not a number of seconds since 1970".to_owned())?;
    Ok(Timestamp::from_millis(seconds.saturating_mul(1_000)))
}

#[derive(Serialize)]
struct Packed {
    file: PathBuf,
    #[serde(flatten)]
    release: ReleaseRef,
    bytes: u64,
    signed_by: Vec<Digest>,
}

pub(super) async fn run(args: PackArgs, context: &Context) -> Result<Exit, Failure> {
    let keys = keys(&args.key, context)?;
    let created = args.created.or(args.source_date_epoch);
    let (dir, clock, watched) = (args.dir.clone(), context.clock().clone(), context.watched());
    // Loading and running a model takes a processor for itself.
    let packed = tokio::task::spawn_blocking(move || {
        let mut bars = Bars::new(watched);
        let options = Options { keys: &keys, created, clock: clock.as_ref() };
        let packed = pack::pack(&dir, &options, &mut bars);
        bars.clear();
        packed
    });
    let refuse = |error: &PackError| {
        let failure = Failure::new(format!("cannot pack `{}`", args.dir.display())).because_text(error.cause());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    let bundle = packed
        .await
        .map_err(|error| Failure::new(format!("cannot pack `{}`", args.dir.display())).because(&error))?
        .map_err(|error| refuse(&error))?;
    let file = target(args.out.as_deref(), &bundle);
    pack::write(&bundle, &file).map_err(|error| refuse(&error))?;
    report(file, bundle, context)
}

fn report(file: PathBuf, bundle: Bundle, context: &Context) -> Result<Exit, Failure> {
    let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
    let release = bundle.manifest.release(&bundle.manifest_bytes);
    let loaded = Loaded { digest: release.manifest, manifest: bundle.manifest, signatures: bundle.signatures };
    let signed_by = loaded.signatures.iter().map(|signature| signature.keyid).collect();
    let packed = Packed { file, release, bytes, signed_by };
    context.note(&format!("packed {} into {}", packed.release, packed.file.display()));
    context.show(&packed, |_| summary(&loaded))
}

/// `--out` as a file, as a folder, or not at all.
fn target(out: Option<&Path>, bundle: &Bundle) -> PathBuf {
    let name = format!("{}-{}.fieldpost", bundle.manifest.name, bundle.manifest.version);
    match out {
        None => PathBuf::from(name),
        Some(out) if out.is_dir() => out.join(name),
        Some(out) => out.to_owned(),
    }
}

fn keys(named: &[PathBuf], context: &Context) -> Result<Vec<SecretKey>, Failure> {
    if !named.is_empty() {
        return named.iter().map(|path| read_secret_key(path)).collect();
    }
    let local = context.trust_dir().join(PUBLISHER_KEY);
    if local.exists() {
        return read_secret_key(&local).map(|key| vec![key]);
    }
    Err(Failure::usage("there is no publisher key to sign the bundle with")
        .because_text(format!("`{}` is not there", local.display()))
        .hint(
            "name one with --key; `fieldpost key publisher` makes one, and `fieldpost init` a fleet that believes it",
        ))
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
