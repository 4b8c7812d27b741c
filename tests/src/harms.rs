//! Releases of digits that do harm in one way each, none of which a self-test sees: `tests/models/README.md`.

use anyhow::Context as _;
use fieldpost::demo::assets::GOOD;
use std::fs;
use std::path::{Path, PathBuf};

const ERRORS: &[u8] = include_bytes!("../models/harms/errors/model.onnx");
const ERRORS_REFERENCE: &[u8] = include_bytes!("../models/harms/errors/reference.npy");
const SLOW: &[u8] = include_bytes!("../models/harms/slow/model.onnx");

/// One way of doing harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// None: 1.0 under another version.
    None,
    /// NaN for every fifth picture of the stream.
    Errors,
    /// The same answers, many times later.
    Slow,
    /// The same answers with the names of the classes one further: wrong, and distributed as before.
    WrongLabels,
}

impl Harm {
    /// Its version.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::None => "1.0.1",
            Self::Errors => "2.1.0",
            Self::Slow => "2.2.0",
            Self::WrongLabels => "2.3.0",
        }
    }

    /// Writes the bundle's folder below `dir`; gives its path. It states no budgets, so that no hard limit decides first.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn unpack(self, dir: &Path) -> anyhow::Result<PathBuf> {
        let folder = GOOD.unpack(&dir.join(self.version()))?;
        let path = folder.join("bundle.toml");
        let mut declared: toml::Table = fs::read_to_string(&path)?.parse().context("the bundle.toml of 1.0")?;
        declared.insert("version".to_owned(), self.version().into());
        declared.remove("budgets");
        match self {
            Self::None => {}
            Self::Errors => {
                fs::write(folder.join("model.onnx"), ERRORS)?;
                fs::write(folder.join("reference.npy"), ERRORS_REFERENCE)?;
                // Golden samples are the first rows of that reference.
                declared.remove("golden");
            }
            Self::Slow => fs::write(folder.join("model.onnx"), SLOW)?,
            Self::WrongLabels => {
                let labels: String = (1..=10).map(|digit| format!("{}\n", digit % 10)).collect();
                fs::write(folder.join("labels.txt"), labels)?;
            }
        }
        fs::write(&path, declared.to_string())?;
        Ok(folder)
    }
}
