//! Golden samples: inputs with the outputs they gave when the bundle was packed.

use super::tensor::{Tensor, TensorError};
use serde::{Deserialize, Serialize};

/// The encoding of the golden file: this byte, then postcard.
const VERSION: u8 = 1;

/// Most samples a golden file may hold.
pub const MAX_SAMPLES: usize = 1_000;

/// One input with its expected answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenSample {
    /// Where it came from, for people: a file name or a row number.
    pub name: String,
    /// The request as it came, before pre-processing (an image file or JSON), when the bundle declares pre-processing.
    pub request: Option<Vec<u8>>,
    /// The model's inputs, in the manifest's order.
    pub inputs: Vec<Tensor>,
    /// The model's outputs, in the manifest's order, before post-processing.
    pub outputs: Vec<Tensor>,
}

/// All golden samples of a bundle.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GoldenSet {
    /// The samples.
    pub samples: Vec<GoldenSample>,
}

/// A golden file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// An empty file, or one of a newer encoding.
    #[error("golden samples have encoding {found:?}, this program reads {VERSION}")]
    Version {
        /// The first byte, if there was one.
        found: Option<u8>,
    },
    /// Postcard could not read it.
    #[error("cannot decode golden samples")]
    Decode(#[source] postcard::Error),
    /// Postcard could not write it.
    #[error("cannot encode golden samples")]
    Encode(#[source] postcard::Error),
    /// More samples than allowed.
    #[error("{0} golden samples, at most {MAX_SAMPLES} are allowed")]
    TooMany(usize),
    /// A tensor whose bytes do not fill its shape.
    #[error("golden sample `{sample}` is damaged")]
    Tensor {
        /// The sample's name.
        sample: String,
        /// What is wrong.
        #[source]
        source: TensorError,
    },
}

impl GoldenSet {
    /// The file's bytes.
    ///
    /// # Errors
    /// When there are more than [`MAX_SAMPLES`].
    pub fn encode(&self) -> Result<Vec<u8>, GoldenError> {
        if self.samples.len() > MAX_SAMPLES {
            return Err(GoldenError::TooMany(self.samples.len()));
        }
        postcard::to_extend(self, vec![VERSION]).map_err(GoldenError::Encode)
    }

    /// Reads a golden file.
    ///
    /// # Errors
    /// When it is of another version, malformed, too long, or holds a tensor that does not fill its shape.
    pub fn decode(bytes: &[u8]) -> Result<Self, GoldenError> {
        let Some((&VERSION, rest)) = bytes.split_first() else {
            return Err(GoldenError::Version { found: bytes.first().copied() });
        };
        let set: Self = postcard::from_bytes(rest).map_err(GoldenError::Decode)?;
        if set.samples.len() > MAX_SAMPLES {
            return Err(GoldenError::TooMany(set.samples.len()));
        }
        for sample in &set.samples {
            for tensor in sample.inputs.iter().chain(&sample.outputs) {
                tensor.check().map_err(|source| GoldenError::Tensor { sample: sample.name.clone(), source })?;
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_tensors_are_refused_with_the_sample_named() {
        let tensor = Tensor { dtype: super::super::Dtype::Fp32, shape: vec![2], data: vec![0; 7] };
        let sample = GoldenSample { name: "seven.png".into(), request: None, inputs: vec![tensor], outputs: vec![] };
        let bytes = GoldenSet { samples: vec![sample] }.encode().unwrap();
        assert!(GoldenSet::decode(&bytes).unwrap_err().to_string().contains("seven.png"));
    }

    #[test]
    fn another_version_and_nothing_at_all_are_refused() {
        assert!(matches!(GoldenSet::decode(&[9, 0]), Err(GoldenError::Version { found: Some(9) })));
        assert!(matches!(GoldenSet::decode(&[]), Err(GoldenError::Version { found: None })));
    }
}
