//! Files of a bundle: read from the folder, cut into chunks, framed; and the finished bundle, written in one piece.

use super::error::PackError;
use fieldpost_shared::bundle::archive::Bundle;
use fieldpost_shared::bundle::chunk::{cut, frame};
use fieldpost_shared::bundle::manifest::{FileEntry, FileRole};
use fieldpost_shared::durable;
use fieldpost_shared::id::Digest;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Component, Path, PathBuf};

/// A relative path as a bundle may hold it: plain names, joined by `/`.
pub(super) fn plain_path(path: &Path) -> Result<String, PackError> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    };
    let parts: Option<Vec<String>> = path.components().filter(|c| *c != Component::CurDir).map(part).collect();
    match parts {
        Some(parts) if !parts.is_empty() => Ok(parts.join("/")),
        _ => Err(PackError::Outside(path.to_owned())),
    }
}

/// Reads a file of the folder.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PackError> {
    fs::read(path).map_err(|source| PackError::Read { path: path.to_owned(), source })
}

/// Framed chunks by name, each once, in order of first use.
#[derive(Debug, Default)]
pub(super) struct Blobs {
    known: HashSet<Digest>,
    pub(super) framed: Vec<(Digest, Vec<u8>)>,
}

impl Blobs {
    /// Cuts and frames a file.
    pub(super) fn add(&mut self, path: &str, role: FileRole, content: &[u8]) -> Result<FileEntry, PackError> {
        let mut chunks = Vec::new();
        for (chunk, range) in cut(content) {
            chunks.push(chunk);
            if self.known.insert(chunk.sha256) {
                let framed = frame(content.get(range).unwrap_or_default()).map_err(PackError::Chunk)?;
                self.framed.push((chunk.sha256, framed));
            }
        }
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        Ok(FileEntry { path: path.to_owned(), role, size, sha256: Digest::of(content), chunks })
    }
}

/// Writes a bundle to `path`: whole and durable, or not at all.
///
/// # Errors
/// When the directory cannot be written; a file that was there before is then untouched.
pub fn write(bundle: &Bundle, path: &Path) -> Result<(), PackError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| PackError::Write { path, source }
    };
    let name = path.file_name().ok_or_else(|| PackError::Outside(path.to_owned()))?.to_string_lossy().into_owned();
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    };
    let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let file = File::create(&temporary).map_err(failed(&temporary))?;
        let mut out = BufWriter::new(file);
        bundle
            .write(&mut out)
            .map_err(|error| PackError::Archive { path: path.to_owned(), source: Box::new(error) })?;
        out.flush().map_err(failed(&temporary))?;
        out.get_ref().sync_all().map_err(failed(&temporary))?;
        durable::publish(&temporary, &dir.join(&name)).map_err(PackError::Publish)
    })();
    if written.is_err() {
        // A leftover only wastes space, and it has a name that says so.
        drop(fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_below_the_folder_travel() {
        let plain = |path: &str| plain_path(Path::new(path)).ok();
        assert_eq!(plain("./export/m.onnx").as_deref(), Some("export/m.onnx"));
        for path in ["../m.onnx", "/m.onnx", "", ".", "a/../b"] {
            assert_eq!(plain(path), None, "{path}");
        }
    }

    #[test]
    fn equal_content_is_kept_once() {
        let mut blobs = Blobs::default();
        let one = blobs.add("a", FileRole::Model, b"content").unwrap();
        let two = blobs.add("b", FileRole::External, b"content").unwrap();
        assert_eq!((one.chunks, blobs.framed.len()), (two.chunks, 1));
    }
}
