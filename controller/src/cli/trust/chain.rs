//! Signed roots as files: reading, writing, and the chain of versions that a controller keeps in `DATA/trust`.

use crate::cli::keys::read_secret_key;
use crate::cli::{Context, Failure};
use crate::trust_dir::{CONTROLLER_KEY, ROOT_KEY, root_name};
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::trust::{RootError, RootMetadata, SecretKey, SignedRoot};
use std::path::Path;

/// Reads a signed root without believing it.
///
/// # Errors
/// When it cannot be read or is malformed.
pub fn read_root(path: &Path) -> Result<SignedRoot, Failure> {
    let refuse = || Failure::new(format!("cannot read the root `{}`", path.display()));
    let bytes = std::fs::read(path).map_err(|error| refuse().because(&error))?;
    SignedRoot::parse(&bytes).map_err(|error| refuse().because(&error))
}

/// Writes a signed root, whole or not at all.
pub(super) fn write_root(root: &SignedRoot, path: &Path) -> Result<(), Failure> {
    let refuse = || Failure::new(format!("cannot write the root `{}`", path.display()));
    let Some(name) = path.file_name() else { return Err(refuse().because_text("the path names no file")) };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    write_atomic(dir, &name.to_string_lossy(), &root.to_bytes()).map_err(|error| refuse().because(&error))
}

/// Whether a root has all signatures that it needs: its own threshold's, and that of the version before.
pub(super) fn complete(root: &SignedRoot, current: Option<&RootMetadata>) -> Result<(), RootError> {
    match current {
        Some(current) => root.verify_after(current),
        None => root.verify_self(),
    }
}

/// The newest root of the controller on this machine; every version is checked against the one before.
///
/// # Errors
/// When there is none, or a version is not believed.
pub fn newest_root(context: &Context) -> Result<SignedRoot, Failure> {
    let dir = context.trust_dir();
    let first = dir.join(root_name(1));
    if !first.exists() {
        return Err(Failure::usage(format!("there is no root of trust in `{}`", dir.display()))
            .hint("name a file, or another --data-dir; `fieldpost init` makes a new fleet's trust"));
    }
    let mut root = read_root(&first)?;
    let refuse = |path: &Path, error: RootError| {
        Failure::new(format!("the root `{}` is not believed", path.display())).because(&error)
    };
    complete(&root, None).map_err(|error| refuse(&first, error))?;
    while let Some(version) = root.metadata.version.checked_add(1) {
        let path = dir.join(root_name(version));
        if !path.exists() {
            break;
        }
        let next = read_root(&path)?;
        complete(&next, Some(&root.metadata)).map_err(|error| refuse(&path, error))?;
        root = next;
    }
    Ok(root)
}

/// The root key that the first start made, unless it is in a safe by now.
pub(super) fn local_root_key(context: &Context) -> Result<Vec<SecretKey>, Failure> {
    let path = context.trust_dir().join(ROOT_KEY);
    if path.exists() {
        return read_secret_key(&path).map(|key| vec![key]);
    }
    Err(Failure::usage("there is no key to sign with")
        .because_text(format!("`{}` is not there", path.display()))
        .hint("name the root keys with --sign"))
}

/// Gives the controller on this machine its next root. It must be complete, and must not take the controller's voice:
/// a controller that starts with such a root could not sign.
pub(super) fn install(root: &SignedRoot, context: &Context) -> Result<(), Failure> {
    let dir = context.trust_dir();
    let current = newest_root(context)?;
    let refuse = || Failure::new(format!("cannot install root version {}", root.metadata.version));
    complete(root, Some(&current.metadata)).map_err(|error| {
        refuse().because(&error).hint("write it elsewhere with --out and let others add theirs with `trust sign`")
    })?;
    let key_path = dir.join(CONTROLLER_KEY);
    if key_path.exists() {
        let key = read_secret_key(&key_path)?.public();
        let controller = &root.metadata.controller;
        if controller.threshold != 1 || !controller.keys.contains(&key) {
            return Err(refuse()
                .because_text(format!("it does not let `{}` sign alone for the controller", key_path.display()))
                .hint("replace the key file first, or keep the old key in the role until it is replaced"));
        }
    }
    write_root(root, &dir.join(root_name(root.metadata.version)))
}
