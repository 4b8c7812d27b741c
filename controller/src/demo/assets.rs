//! The three releases and the stream of digits that the demo shows, compiled in, so that the demo needs no checkout.
//! UCI handwritten digits, CC BY 4.0; `tests/models/README.md` tells how they were made.

use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};

/// One bundle folder.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Its version.
    pub version: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

macro_rules! source {
    ($version:literal, $folder:literal) => {
        source!($version, $folder, [
            "bundle.toml", "labels.txt", "model.onnx", "reference.npy",
            "samples/digit-0.png", "samples/digit-1.png", "samples/digit-2.png", "samples/digit-3.png",
            "samples/digit-4.png", "samples/digit-5.png", "samples/digit-6.png", "samples/digit-7.png"
        ])
    };
    ($version:literal, $folder:literal, [$($file:literal),*]) => {
        Source {
            version: $version,
            files: &[$(($file, include_bytes!(concat!("../../../tests/models/", $folder, "/", $file)))),*],
        }
    };
}

/// Good.
pub const GOOD: Source = source!("1.0.0", "digits-1.0");
/// Better.
pub const BETTER: Source = source!("1.1.0", "digits-1.1");
/// Harmful, in a way that no self-test sees.
pub const HARMFUL: Source = source!("1.2.0", "digits-1.2");

impl Source {
    /// Writes the folder under `dir`; gives its path.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn unpack(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let root = dir.join(format!("digits-{}", self.version));
        for (name, bytes) in self.files {
            let path = root.join(name);
            let parent = path.parent().unwrap_or(&root);
            fs::create_dir_all(parent).with_context(|| format!("cannot create `{}`", parent.display()))?;
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or(name);
            fieldpost_shared::durable::write_atomic(parent, file, bytes).context("cannot unpack the demo's models")?;
        }
        Ok(root)
    }
}

const IMAGES: &[u8] = include_bytes!("../../../tests/models/stream/digits.npy");
const LABELS: &[u8] = include_bytes!("../../../tests/models/stream/digits_labels.npy");
const PIXELS: usize = 64;

/// One image of the stream: a PNG and the digit that it shows.
#[derive(Debug, Clone)]
pub struct Digit {
    /// 8x8, grey.
    pub png: Vec<u8>,
    /// 0 to 9.
    pub label: u8,
}

/// The stream: held-out digits, as PNG.
///
/// # Errors
/// When the encoder fails.
pub fn stream() -> anyhow::Result<Vec<Digit>> {
    // The arrays are 1-byte integers in C order: the data is what follows the header, and there is nothing else.
    let body = |bytes: &'static [u8], len: usize| bytes.split_at_checked(bytes.len().saturating_sub(len));
    let count = LABELS.len().saturating_sub(header_len(LABELS));
    let (_, labels) = body(LABELS, count).context("the stream's labels are cut off")?;
    let (_, images) = body(IMAGES, count * PIXELS).context("the stream's images are cut off")?;
    images
        .chunks_exact(PIXELS)
        .zip(labels)
        .map(|(pixels, label)| Ok(Digit { png: png(pixels)?, label: *label }))
        .collect()
}

/// NumPy format 1.0: 8 bytes of magic and version, 2 of header length, the header.
fn header_len(npy: &[u8]) -> usize {
    match npy {
        [_, _, _, _, _, _, _, _, low, high, ..] => 10 + usize::from(u16::from_le_bytes([*low, *high])),
        _ => 0,
    }
}

fn png(pixels: &[u8]) -> anyhow::Result<Vec<u8>> {
    use image::ImageEncoder as _;
    let mut out = Vec::new();
    image::codecs::png::PngEncoder::new(&mut out)
        .write_image(pixels, 8, 8, image::ExtendedColorType::L8)
        .context("cannot encode a PNG")?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_holds_every_digit() {
        let digits = stream().unwrap();
        assert_eq!(digits.len(), 800);
        assert!((0..10).all(|digit| digits.iter().filter(|d| d.label == digit).count() > 50));
    }
}
