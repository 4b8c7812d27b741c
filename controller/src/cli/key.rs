//! `fieldpost key`: makes the keys that people keep, and shows the public half of one.

use super::keys::{KeyFile, read_key_file};
use super::{Context, Exit, Failure, output};
use clap::{Args, Subcommand};
use fieldpost_shared::durable::write_secret;
use fieldpost_shared::trust::SecretKey;
use std::path::{Path, PathBuf};

/// Arguments of `key`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost key root --out safe/root.key
  fieldpost key publisher
  fieldpost key show publisher.key")]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key that signs root metadata; keep it offline
    #[command(after_help = "Example:\n  fieldpost key root --out safe/root.key")]
    Root(NewKey),
    /// Make a key that signs bundles; for CI or an engineer's machine
    #[command(after_help = "Example:\n  fieldpost key publisher --out publisher.key")]
    Publisher(NewKey),
    /// Make a key that a controller signs with, online
    #[command(after_help = "Example:\n  fieldpost key controller --out controller.key")]
    Controller(NewKey),
    /// Show the public half and the id of a key file
    #[command(after_help = "Example:\n  fieldpost key show publisher.key")]
    Show {
        /// A key file
        file: PathBuf,
    },
}

/// Where a new key goes.
#[derive(Debug, Args)]
pub struct NewKey {
    /// The file to write, readable by its owner alone [default: ROLE.key here]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Makes or shows a key.
///
/// # Errors
/// When a file is there already, cannot be written, or is no key.
pub fn run(args: KeyArgs, context: &Context) -> Result<Exit, Failure> {
    let key = match args.command {
        KeyCommand::Root(new) => make("root", new)?,
        KeyCommand::Publisher(new) => make("publisher", new)?,
        KeyCommand::Controller(new) => make("controller", new)?,
        KeyCommand::Show { file } => read_key_file(&file)?,
    };
    context.show(&key, |key| {
        let KeyFile { role, keyid, public, path } = key;
        output::fields(&[
            ("role", role.clone()),
            ("key id", keyid.to_string()),
            ("public", public.to_base64()),
            ("file", path.display().to_string()),
        ])
    })
}

fn make(role: &'static str, new: NewKey) -> Result<KeyFile, Failure> {
    let path = new.out.unwrap_or_else(|| PathBuf::from(format!("{role}.key")));
    let refuse = || Failure::new(format!("cannot make the key `{}`", path.display()));
    if path.exists() {
        let hint = "name another with --out; a key that is overwritten is lost";
        return Err(refuse().because_text("the file is there already").hint(hint));
    }
    let Some(name) = path.file_name() else { return Err(refuse().because_text("the path names no file")) };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.is_dir() {
        let folder = dir.display();
        let hint = format!("make it first, for you alone: mkdir -m 700 -p {folder}");
        return Err(refuse().because_text(format!("there is no folder `{folder}`")).hint(hint));
    }
    let key = SecretKey::generate().map_err(|error| refuse().because(&error))?;
    write_secret(dir, &name.to_string_lossy(), key.to_file(role).as_bytes())
        .map_err(|error| refuse().because(&error))?;
    Ok(KeyFile { role: role.to_owned(), keyid: key.public().id(), public: key.public(), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        let new = || NewKey { out: Some(path.clone()) };
        let made = make("root", new()).unwrap();
        assert_eq!(read_key_file(&path).unwrap(), made);
        let error = make("root", new()).unwrap_err().to_string();
        assert!(error.contains("the file is there already"), "{error}");
        assert_eq!(read_key_file(&path).unwrap(), made);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let safe = dir.path().join("safe");
        let error = make("root", NewKey { out: Some(safe.join("root.key")) }).unwrap_err().to_string();
        assert!(error.contains("there is no folder") && error.contains("mkdir"), "{error}");
        assert!(!safe.exists(), "where secrets are kept is for people to decide");
    }
}
