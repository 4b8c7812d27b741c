//! Why a folder does not become a bundle.

use super::reference::ReferenceError;
use super::resolve::ResolveError;
use fieldpost_agent::runtime::{InferError, InputError, LoadError, SelfTestFailure};
use fieldpost_shared::bundle::ManifestError;
use fieldpost_shared::bundle::archive::ArchiveError;
use fieldpost_shared::bundle::chunk::{ChunkError, MAX_PAYLOAD_BYTES};
use fieldpost_shared::bundle::golden::GoldenError;
use fieldpost_shared::durable::DurableError;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::stats::StatsError;
use std::io;
use std::path::PathBuf;

/// Why a folder does not become a bundle.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file of the folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// `bundle.toml` is not as the template.
    #[error("`{}` line {line}: {message}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A statement of `bundle.toml` that cannot be right, whatever the model.
    #[error("{0}")]
    Statement(String),
    /// The model is not a file below the folder.
    #[error("`{}` must be a plain path below the folder", .0.display())]
    Outside(PathBuf),
    /// The runtime cannot run the model.
    #[error("the model in `{}` cannot run on a device", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The reason; names the node where one is to blame.
        #[source]
        source: Box<LoadError>,
    },
    /// A declaration does not fit the model.
    #[error("bundle.toml does not fit the model")]
    Resolve(#[source] ResolveError),
    /// Nothing says what the model should answer.
    #[error("there is nothing to check the model with: neither [golden] samples nor [reference] data")]
    NoSamples,
    /// Reference data or samples cannot be used.
    #[error("cannot use the data in `{}`", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        #[source]
        source: Box<ReferenceError>,
    },
    /// Pre-processing refuses a sample.
    #[error("`{sample}` is no request that the model takes")]
    Input {
        /// Its name.
        sample: String,
        /// The reason.
        #[source]
        source: Box<InputError>,
    },
    /// The model fails on a sample.
    #[error("the model has no good answer to `{sample}`")]
    Infer {
        /// Its name.
        sample: String,
        /// The reason.
        #[source]
        source: Box<InferError>,
    },
    /// Scores that are no probabilities.
    #[error("the scores for `{sample}` are no probabilities: {score} is outside of 0..=1")]
    Scores {
        /// Its name.
        sample: String,
        /// One such score.
        score: f32,
    },
    /// The model does not say the same twice.
    #[error("the model does not repeat its own golden answers")]
    SelfTest(#[source] SelfTestFailure),
    /// The baseline cannot be made.
    #[error("cannot make the baseline")]
    Baseline(#[source] StatsError),
    /// The golden samples cannot be written.
    #[error("cannot write the golden samples")]
    Golden(#[source] GoldenError),
    /// A chunk cannot be written.
    #[error("cannot cut the files into chunks")]
    Chunk(#[source] ChunkError),
    /// The manifest contradicts itself.
    #[error("the manifest cannot be made")]
    Manifest(#[source] ManifestError),
    /// The manifest, which lists every chunk, does not fit one message.
    #[error(
        "the files have {total_mib} MiB in {chunks} chunks: the packed manifest that lists them has {packed_bytes} \
         bytes, and at most {MAX_PAYLOAD_BYTES} fit one message"
    )]
    Message {
        /// Bytes of the manifest, packed.
        packed_bytes: usize,
        /// Chunks that it lists.
        chunks: usize,
        /// What the files have, MiB.
        total_mib: u64,
    },
    /// The bundle cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The tar cannot be written.
    #[error("cannot write `{}`", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: Box<ArchiveError>,
    },
    /// The finished file cannot be put in place.
    #[error("cannot finish the bundle")]
    Publish(#[source] DurableError),
}

impl PackError {
    /// Why, for people: the chain of causes, without the advice that [`Self::hint`] gives.
    #[must_use]
    pub fn cause(&self) -> String {
        let Self::Model { path, source } = self else { return Chain(self).to_string() };
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        match source.as_ref() {
            LoadError::Operator { node, operator, .. } => {
                format!("{file}: no device can run operator `{operator}` of node `{node}`")
            }
            LoadError::Node { node, operator, source, .. } => {
                let reason = Chain(source.as_ref());
                format!("{file}: no device can run operator `{operator}` of node `{node}` as it is used here: {reason}")
            }
            other => Chain(other).to_string(),
        }
    }

    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "paths in bundle.toml are relative to its folder; `fieldpost bundle new DIR` writes a template"
            }
            Self::Source { .. } => "`fieldpost bundle new DIR` writes a template with every key explained",
            Self::Outside(_) => "copy the model into the folder; `..` and absolute paths cannot travel",
            Self::Model { source, .. } => match source.as_ref() {
                LoadError::Operator { hint, .. } | LoadError::Node { hint, .. } => hint,
                _ => return None,
            },
            Self::Resolve(error) => error.hint(),
            Self::NoSamples => "add `[reference] data = ...` or `[golden] samples = ...`",
            Self::Infer { source, .. } if matches!(**source, InferError::NanOutput { .. }) => {
                "a device would refuse it: look for log, sqrt or a division of unnormalised values before this output"
            }
            Self::Input { .. } => "check [preprocess] and that the data are raw, as a client would send them",
            Self::Scores { .. } => "set `activation = \"softmax\"` or \"sigmoid\" in [postprocess]",
            Self::Message { chunks, .. } if *chunks > 1_000 => {
                "models up to about 180 MB travel: quantise it or halve its floats, prune it, or split it in two bundles"
            }
            Self::Message { .. } => "use fewer labels, fewer features in [reference], or fewer files",
            Self::SelfTest(_) => "is something random left in the graph, such as dropout? export it for inference",
            _ => return None,
        })
    }
}
