//! `fieldpost trust`: the root of trust of a fleet, version by version. A change never edits a version: it makes the next
//! one, signed by the threshold of the one before and its own (TUF 1.0.33 §6.1).

mod chain;
mod edit;
mod show;

pub use chain::{newest_root, read_root};

use super::bundle::source;
use super::keys::{public_key, read_secret_key};
use super::{Context, Exit, Failure};
use crate::rollout::duration;
use crate::trust_dir::root_name;
use chain::{complete, write_root};
use clap::{Args, Subcommand};
use edit::Edit;
use fieldpost_shared::bundle::archive::Bundle;
use fieldpost_shared::id::{Digest, FleetId};
use fieldpost_shared::trust::root::SCHEMA;
use fieldpost_shared::trust::{Role, RoleKeys, RootMetadata, SecretKey, SignedRoot};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `trust`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost trust show
  fieldpost trust rotate publisher --old 3fb1c9d2 --new publisher-2.key --sign safe/root.key
  fieldpost trust revoke digits-1.2.0.fieldpost --sign safe/root.key")]
pub struct TrustArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TrustCommand,
}

/// What can be done with a fleet's root of trust.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Show roles, keys, thresholds, expiry and revoked releases
    #[command(after_help = "Examples:\n  fieldpost trust show\n  fieldpost trust show 2.root.json --output json")]
    Show {
        /// A signed root [default: the newest of the controller on this machine]
        file: Option<PathBuf>,
    },
    /// Make version 1 for a new fleet, of keys that exist
    #[command(after_help = "Example:
  fieldpost trust init --fleet plant-7 --root a.key --root b.key --root-threshold 2 --publisher ci.key \
--controller controller.key --sign a.key --sign b.key --out 1.root.json")]
    Init(InitArgs),
    /// Let another key sign for a role
    #[command(after_help = "Example:\n  fieldpost trust add publisher ci-2.key --threshold 2 --sign safe/root.key")]
    Add {
        /// Which role
        role: RoleName,
        /// A key file, or a public key in base64
        key: String,
        /// How many keys of the role must sign from now on
        #[arg(long, value_name = "N")]
        threshold: Option<usize>,
        /// How the next version is made.
        #[command(flatten)]
        next: NextArgs,
    },
    /// Let a key no longer sign for a role
    #[command(after_help = "Example:\n  fieldpost trust remove publisher 3fb1c9d2 --sign safe/root.key")]
    Remove {
        /// Which role
        role: RoleName,
        /// The key's id, or its first characters
        keyid: String,
        /// How many keys of the role must sign from now on
        #[arg(long, value_name = "N")]
        threshold: Option<usize>,
        /// How the next version is made.
        #[command(flatten)]
        next: NextArgs,
    },
    /// Replace a key of a role by another
    #[command(after_help = "Example:
  fieldpost trust rotate publisher --old 3fb1c9d2 --new publisher-2.key --sign safe/root.key")]
    Rotate {
        /// Which role
        role: RoleName,
        /// The old key's id, or its first characters
        #[arg(long, value_name = "KEYID")]
        old: String,
        /// The new key: a key file, or a public key in base64
        #[arg(long, value_name = "KEY")]
        new: String,
        /// How the next version is made.
        #[command(flatten)]
        next: NextArgs,
    },
    /// Forbid releases: no device starts them any more
    #[command(after_help = "Examples:
  fieldpost trust revoke digits@1.2.0
  fieldpost trust revoke digits-1.2.0.fieldpost --sign safe/root.key")]
    Revoke {
        /// Releases of the controller (NAME@VERSION), bundle files, or digests of manifests
        #[arg(required = true, value_name = "RELEASE")]
        releases: Vec<String>,
        /// How the next version is made.
        #[command(flatten)]
        next: NextArgs,
    },
    /// Change nothing but the expiry
    #[command(after_help = "Example:\n  fieldpost trust renew --expires-in 365d --sign safe/root.key")]
    Renew {
        /// How the next version is made.
        #[command(flatten)]
        next: NextArgs,
    },
    /// Add a signature to a root that others must sign too
    #[command(after_help = "Example:\n  fieldpost trust sign 2.root.json --sign b.key")]
    Sign {
        /// The signed root, changed in place
        file: PathBuf,
        /// Root keys to sign with
        #[arg(long, required = true, value_name = "KEY")]
        sign: Vec<PathBuf>,
    },
    /// Check that a root is believed, by itself or after the version before it
    #[command(after_help = "Example:\n  fieldpost trust verify 2.root.json --after 1.root.json")]
    Verify {
        /// A signed root
        file: PathBuf,
        /// The version before it [default for later versions: the newest of the controller on this machine]
        #[arg(long, value_name = "FILE")]
        after: Option<PathBuf>,
    },
    /// Give the next version to the controller on this machine
    #[command(after_help = "Example:\n  fieldpost trust install 2.root.json")]
    Install {
        /// A signed root
        file: PathBuf,
    },
}

/// A role, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RoleName {
    /// Signs root metadata.
    Root,
    /// Signs bundles.
    Publisher,
    /// Signs what devices should run.
    Controller,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Root => Self::Root,
            RoleName::Publisher => Self::Publisher,
            RoleName::Controller => Self::Controller,
        }
    }
}

/// A new fleet's trust.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The fleet
    #[arg(long, default_value = "default")]
    pub fleet: FleetId,
    /// Root keys: key files, or public keys in base64
    #[arg(long, required = true, value_name = "KEY")]
    pub root: Vec<String>,
    /// Publisher keys
    #[arg(long, required = true, value_name = "KEY")]
    pub publisher: Vec<String>,
    /// The controller's key
    #[arg(long, required = true, value_name = "KEY")]
    pub controller: String,
    /// How many root keys must sign
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub root_threshold: usize,
    /// How many publishers must sign a bundle
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub publisher_threshold: usize,
    /// How long it allows changes
    #[arg(long, default_value = "730d", value_name = "TIME", value_parser = duration::parse)]
    pub expires_in: Duration,
    /// Root keys to sign with
    #[arg(long, required = true, value_name = "KEY")]
    pub sign: Vec<PathBuf>,
    /// The file to write
    #[arg(long, default_value = "1.root.json", value_name = "FILE")]
    pub out: PathBuf,
}

/// How the next version is made.
#[derive(Debug, Args)]
pub struct NextArgs {
    /// The version to start from [default: the newest of the controller on this machine]
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Root keys to sign with [default: the root key of the controller on this machine, if it is still there]
    #[arg(long, value_name = "KEY")]
    pub sign: Vec<PathBuf>,
    /// How long the new version allows changes
    #[arg(long, default_value = "730d", value_name = "TIME", value_parser = duration::parse)]
    pub expires_in: Duration,
    /// The file to write [default: given to the controller on this machine]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Shows or changes a fleet's root of trust.
///
/// # Errors
/// When files cannot be read or written, or a change is refused.
pub async fn run(args: TrustArgs, context: &Context) -> Result<Exit, Failure> {
    let threshold_edit =
        |role: RoleName, n: Option<usize>| n.map(|threshold| Edit::Threshold { role: role.into(), threshold });
    match args.command {
        TrustCommand::Show { file } => {
            let root = match file {
                Some(file) => read_root(&file)?,
                None => newest_root(context)?,
            };
            show::show(context, &root)
        }
        TrustCommand::Init(init) => init_root(init, context),
        TrustCommand::Add { role, key, threshold, next } => {
            let add = Edit::Add { role: role.into(), key: public_key(&key)? };
            let edits: Vec<_> = std::iter::once(add).chain(threshold_edit(role, threshold)).collect();
            change(&edits, next, context)
        }
        TrustCommand::Remove { role, keyid, threshold, next } => {
            let remove = Edit::Remove { role: role.into(), keyid };
            let edits: Vec<_> = std::iter::once(remove).chain(threshold_edit(role, threshold)).collect();
            change(&edits, next, context)
        }
        TrustCommand::Rotate { role, old, new, next } => {
            let add = Edit::Add { role: role.into(), key: public_key(&new)? };
            change(&[add, Edit::Remove { role: role.into(), keyid: old }], next, context)
        }
        TrustCommand::Revoke { releases, next } => {
            let mut edits = Vec::new();
            for text in &releases {
                edits.push(Edit::Revoke { manifest: manifest_of(text, context).await? });
            }
            change(&edits, next, context)
        }
        TrustCommand::Renew { next } => change(&[], next, context),
        TrustCommand::Sign { file, sign } => {
            let mut root = read_root(&file)?;
            for key in secret_keys(&sign)? {
                root.add_signature(&key);
            }
            write_root(&root, &file)?;
            show::show(context, &root)
        }
        TrustCommand::Verify { file, after } => verify(&read_root(&file)?, after, context),
        TrustCommand::Install { file } => {
            let root = read_root(&file)?;
            chain::install(&root, context)?;
            show::show(context, &root)
        }
    }
}

fn secret_keys(paths: &[PathBuf]) -> Result<Vec<SecretKey>, Failure> {
    paths.iter().map(|path| read_secret_key(path)).collect()
}

/// Shortest and longest that a root version allows changes.
const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(3_600)..=Duration::from_secs(3_650 * 24 * 3_600);

fn check_lifetime(expires_in: Duration) -> Result<(), Failure> {
    if LIFETIMES.contains(&expires_in) {
        return Ok(());
    }
    Err(Failure::usage("--expires-in must be 1h to 3650d: an expired root stops all changes"))
}

fn init_root(args: InitArgs, context: &Context) -> Result<Exit, Failure> {
    check_lifetime(args.expires_in)?;
    let refuse = || Failure::new(format!("cannot make the root `{}`", args.out.display()));
    if args.out.exists() {
        return Err(refuse().because_text("the file is there already").hint("name another with --out"));
    }
    let keys = |texts: &[String], threshold| -> Result<RoleKeys, Failure> {
        Ok(RoleKeys { keys: texts.iter().map(|text| public_key(text)).collect::<Result<_, _>>()?, threshold })
    };
    let now = context.clock().now();
    let metadata = RootMetadata {
        schema: SCHEMA.to_owned(),
        fleet: args.fleet.clone(),
        version: 1,
        created: now,
        expires: now.plus(args.expires_in),
        root: keys(&args.root, args.root_threshold)?,
        publisher: keys(&args.publisher, args.publisher_threshold)?,
        controller: keys(std::slice::from_ref(&args.controller), 1)?,
        revoked: vec![],
    };
    let root = signed(metadata, &secret_keys(&args.sign)?)?;
    write_root(&root, &args.out)?;
    say_what_is_missing(context, &root, None);
    show::show(context, &root)
}

fn signed(metadata: RootMetadata, keys: &[SecretKey]) -> Result<SignedRoot, Failure> {
    let version = metadata.version;
    SignedRoot::sign(metadata, &keys.iter().collect::<Vec<_>>())
        .map_err(|error| Failure::new(format!("cannot sign root version {version}")).because(&error))
}

fn change(edits: &[Edit], args: NextArgs, context: &Context) -> Result<Exit, Failure> {
    let current = match &args.from {
        Some(file) => read_root(file)?,
        None => newest_root(context)?,
    };
    check_lifetime(args.expires_in)?;
    let next = edit::next(&current.metadata, edits, context.clock().now(), args.expires_in).map_err(|error| {
        let version = current.metadata.version;
        Failure::new(format!("cannot change root version {version}")).because(&error)
    })?;
    let keys = if args.sign.is_empty() { chain::local_root_key(context)? } else { secret_keys(&args.sign)? };
    let root = signed(next, &keys)?;
    match &args.out {
        Some(out) => {
            write_root(&root, out)?;
            say_what_is_missing(context, &root, Some(&current.metadata));
        }
        None if args.from.is_none() => chain::install(&root, context)?,
        None => write_root(&root, &PathBuf::from(root_name(root.metadata.version)))?,
    }
    show::show(context, &root)
}

fn say_what_is_missing(context: &Context, root: &SignedRoot, current: Option<&RootMetadata>) {
    if let Err(error) = complete(root, current) {
        let chain = fieldpost_shared::error_chain::Chain(&error).to_string();
        context.note(&format!("not believed yet: {chain}; others add theirs with `fieldpost trust sign`"));
    }
}

fn verify(root: &SignedRoot, after: Option<PathBuf>, context: &Context) -> Result<Exit, Failure> {
    let current = match after {
        Some(file) => Some(read_root(&file)?),
        None if root.metadata.version > 1 => Some(newest_root(context)?),
        None => None,
    };
    let version = root.metadata.version;
    let refuse = || Failure::new(format!("root version {version} is not believed"));
    complete(root, current.as_ref().map(|root| &root.metadata)).map_err(|error| refuse().because(&error))?;
    let hint = "`fieldpost trust renew` makes the next version";
    root.metadata.check_fresh(context.clock().now()).map_err(|error| refuse().because(&error).hint(hint))?;
    show::show(context, root)
}

/// A release to revoke: a digest, a bundle file, or a release that the controller knows.
async fn manifest_of(text: &str, context: &Context) -> Result<Digest, Failure> {
    if let Ok(digest) = text.parse() {
        return Ok(digest);
    }
    let refuse = || Failure::usage(format!("`{text}` is neither NAME@VERSION, nor a bundle, nor a manifest's digest"));
    let hint = "`fieldpost bundle list` shows what the controller has, `fieldpost bundle history MODEL` digests";
    match (std::fs::File::open(text), source::named(text)) {
        (Ok(file), _) => {
            let bundle = Bundle::read(std::io::BufReader::new(file));
            let bundle = bundle.map_err(|error| refuse().because(&error).hint(hint))?;
            Ok(Digest::of(&bundle.manifest_bytes))
        }
        (Err(_), Some((model, version))) => Ok(source::fetch(&model, &version, context).await?.digest),
        (Err(error), None) => Err(refuse().because(&error).hint(hint)),
    }
}

#[cfg(test)]
mod tests;
