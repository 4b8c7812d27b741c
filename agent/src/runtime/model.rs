//! A release that is loaded and answers.

use super::answer::{Answer, Answering};
use super::contract::{check_graph, check_inputs, check_outputs, holds_nan};
use super::engine::{Ends, Engine, Order, open_engine};
use super::error::{InferError, InputError, LoadError, Side};
use super::memory::resident_bytes;
use super::prepare::{Frame, PredictInput, Prepared, Preparing};
use fieldpost_shared::bundle::manifest::FileRole;
use fieldpost_shared::bundle::{GoldenSet, Manifest, Tensor};
use fieldpost_shared::id::ReleaseRef;
use std::path::Path;
use std::sync::Arc;

/// A model in memory with everything around it that the manifest declares. Shared as an `Arc` between threads.
#[derive(Debug)]
pub struct LoadedModel {
    manifest: Arc<Manifest>,
    release: ReleaseRef,
    engine: Box<dyn Engine>,
    preparing: Preparing,
    answering: Answering,
    /// By output: whether a golden sample has NaN there.
    nan_allowed: Vec<bool>,
    /// Resident memory just before loading.
    resident_before: Option<u64>,
}

impl LoadedModel {
    /// Loads the model. Blocking, milliseconds to seconds: call it off the reactor. `dir` holds the files of the
    /// manifest by their paths; golden samples may be missing (they are made from a loaded model when a bundle is packed).
    ///
    /// # Errors
    /// When the graph cannot run here, or is not what the manifest says.
    pub fn load(dir: &Path, manifest: Arc<Manifest>, release: ReleaseRef) -> Result<Self, LoadError> {
        let resident_before = resident_bytes();
        let file = manifest.file(FileRole::Model).ok_or(LoadError::NoModelFile)?;
        let external = manifest.files.iter().filter(|file| file.role == FileRole::External);
        let external: Vec<&str> = external.map(|file| file.path.as_str()).collect();
        let order = Order { inputs: &manifest.inputs, outputs: &manifest.outputs };
        let engine = open_engine(dir, &file.path, Some(&external), Ends::Manifest(order))?;
        check_graph(Side::Input, &manifest.inputs, engine.inputs())?;
        check_graph(Side::Output, &manifest.outputs, engine.outputs())?;
        let preparing = Preparing::new(&manifest)?;
        let answering = Answering::new(&manifest)?;
        let nan_allowed = nan_in_golden(dir, &manifest)?;
        Ok(Self { manifest, release, engine, preparing, answering, nan_allowed, resident_before })
    }

    /// What was declared about this release.
    #[must_use]
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Which release this is.
    #[must_use]
    pub fn release(&self) -> &ReleaseRef {
        &self.release
    }

    /// Checks count, type, rank, fixed sizes and bytes of tensors without running anything.
    ///
    /// # Errors
    /// With the input's name, what was expected and what was found.
    pub fn check(&self, inputs: &[Tensor]) -> Result<(), InputError> {
        check_inputs(&self.manifest.inputs, inputs)
    }

    /// Runs the model once; inputs and outputs are in the manifest's order. Blocking. Each tensor is copied once on its
    /// way in and once on its way out. The first call with new sizes optimises for them, which takes as long as loading.
    ///
    /// # Errors
    /// [`InferError::Input`] when the inputs are not what the contract says: the caller's fault. All others are the
    /// model's. A panic underneath is an error of this call only.
    pub fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        let outputs = self.infer_unchecked(inputs)?;
        check_outputs(&self.manifest.outputs, &self.nan_allowed, &outputs)?;
        Ok(outputs)
    }

    /// As [`Self::infer`], but what comes out is not checked against contract and golden samples.
    pub(super) fn infer_unchecked(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        self.check(inputs)?;
        self.engine.run(inputs)
    }

    /// Turns an image, JSON features or bytes into the model's inputs, as the bundle declares. Blocking.
    ///
    /// # Errors
    /// When the request is not what the bundle declares, malformed or too large.
    pub fn prepare(&self, input: &PredictInput<'_>) -> Result<Prepared, InputError> {
        self.preparing.prepare(input)
    }

    /// Turns outputs into answers for people, one per row; a bundle without post-processing has the one answer
    /// [`Answer::Raw`]. `frame` is what [`Self::prepare`] told of the picture, if it was one: boxes are led back to it.
    ///
    /// # Errors
    /// When an output is not what the contract says.
    pub fn answer(&self, outputs: &[Tensor], frame: Option<&Frame>) -> Result<Vec<Answer>, InferError> {
        self.answering.answer(&self.manifest, outputs, frame)
    }

    /// For how many different input sizes an optimised plan is kept; each holds its own copy of the weights.
    #[must_use]
    pub fn plan_room(&self) -> usize {
        self.engine.plan_room()
    }

    /// Lets go of plans for batches of more than `most` rows; one is made again when it is asked for.
    pub fn keep_batches(&self, most: usize) {
        self.engine.keep_batches(most);
    }

    /// Growth of this process's resident memory since just before this model was loaded, bytes; `None` where the
    /// system does not say. Whatever else the process did meanwhile counts too; memory that it had let go before, and
    /// the allocator kept, does not.
    #[must_use]
    pub fn resident_growth_bytes(&self) -> Option<u64> {
        Some(resident_bytes()?.saturating_sub(self.resident_before?))
    }
}

/// The golden samples in a release's files; none where it declares none, or they were not made yet. Blocking.
///
/// # Errors
/// When the file cannot be read or decoded.
pub fn golden_set(dir: &Path, manifest: &Manifest) -> Result<Option<GoldenSet>, LoadError> {
    let Some(file) = manifest.file(FileRole::Golden) else { return Ok(None) };
    let path = dir.join(&file.path);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LoadError::Read { path, source }),
    };
    GoldenSet::decode(&bytes).map(Some).map_err(|source| LoadError::Golden { path, source: source.into() })
}

/// By output, whether the golden samples beside the model expect NaN there.
fn nan_in_golden(dir: &Path, manifest: &Manifest) -> Result<Vec<bool>, LoadError> {
    let mut allowed = vec![false; manifest.outputs.len()];
    let golden = golden_set(dir, manifest)?.unwrap_or_default();
    for sample in &golden.samples {
        for (allowed, output) in allowed.iter_mut().zip(&sample.outputs) {
            *allowed = *allowed || holds_nan(output);
        }
    }
    Ok(allowed)
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
