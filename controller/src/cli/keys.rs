//! Keys as the command line names them: a key file, or the base64 of a public key.

use super::Failure;
use fieldpost_shared::trust::{KeyId, PublicKey, SecretKey};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What of a key file may be shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyFile {
    /// What it was made for.
    pub role: String,
    /// Its name.
    pub keyid: KeyId,
    /// Its public half.
    pub public: PublicKey,
    /// Where it is.
    pub path: PathBuf,
}

#[derive(Deserialize)]
struct PublicPart {
    #[serde(default)]
    role: String,
    public: PublicKey,
}

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read the key `{}`", path.display())).because(&error))
}

/// The public part of a key file; a file that holds nothing else (`key show --output json`) will do.
///
/// # Errors
/// When it cannot be read or is no key.
pub fn read_key_file(path: &Path) -> Result<KeyFile, Failure> {
    let part: PublicPart = serde_json::from_str(&read_text(path)?).map_err(|error| {
        // The text may hold a secret: only the place of the error is told.
        Failure::usage(format!("`{}` is no key file", path.display())).because_text(format!(
            "line {} column {} is not as expected",
            error.line(),
            error.column()
        ))
    })?;
    Ok(KeyFile { role: part.role, keyid: part.public.id(), public: part.public, path: path.to_owned() })
}

/// A secret key from its file.
///
/// # Errors
/// When it cannot be read or is no secret key.
pub fn read_secret_key(path: &Path) -> Result<SecretKey, Failure> {
    SecretKey::from_file(&read_text(path)?)
        .map_err(|error| Failure::usage(format!("cannot sign with `{}`", path.display())).because(&error))
}

/// A public key: a file's, or base64 itself.
///
/// # Errors
/// When it is neither.
pub fn public_key(text: &str) -> Result<PublicKey, Failure> {
    if Path::new(text).exists() {
        return read_key_file(Path::new(text)).map(|file| file.public);
    }
    PublicKey::from_base64(text).map_err(|error| {
        Failure::usage(format!("`{text}` is neither a key file nor a public key"))
            .because(&error)
            .hint("`fieldpost key show FILE` prints a public key")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::durable::write_atomic;

    #[test]
    fn a_public_key_is_a_file_or_base64() {
        let dir = tempfile::tempdir().unwrap();
        let key = SecretKey::from_seed(&[1; 32]);
        write_atomic(dir.path(), "a.key", key.to_file("root").as_bytes()).unwrap();
        assert_eq!(public_key(dir.path().join("a.key").to_str().unwrap()).unwrap(), key.public());
        assert_eq!(public_key(&key.public().to_base64()).unwrap(), key.public());
        assert!(public_key("nonsense").unwrap_err().to_string().contains("neither a key file"));
    }

    #[test]
    fn what_is_shown_of_a_key_file_holds_no_secret_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let key = SecretKey::from_seed(&[7; 32]);
        write_atomic(dir.path(), "a.key", key.to_file("root").as_bytes()).unwrap();
        let shown = serde_json::to_string(&read_key_file(&dir.path().join("a.key")).unwrap()).unwrap();
        assert!(!key.to_file("root").is_empty() && !shown.contains("secret"), "{shown}");
        write_atomic(dir.path(), "a.pub", shown.as_bytes()).unwrap();
        assert_eq!(read_key_file(&dir.path().join("a.pub")).unwrap().public, key.public());
    }

    #[test]
    fn a_broken_key_file_is_refused_without_its_text() {
        let dir = tempfile::tempdir().unwrap();
        write_atomic(dir.path(), "a.key", b"{\"secret\": \"hush\"").unwrap();
        for error in [
            read_key_file(&dir.path().join("a.key")).unwrap_err(),
            read_secret_key(&dir.path().join("a.key")).unwrap_err(),
        ] {
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
