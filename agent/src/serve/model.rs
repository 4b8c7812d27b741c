//! What the registry needs of a model.

use crate::runtime::{Answer, Frame, InferError, InputError, LoadedModel, PredictInput, Prepared};
use fieldpost_shared::bundle::{Manifest, Tensor};
use fieldpost_shared::id::ReleaseRef;
use std::fmt;
use std::sync::Arc;

/// A model that can be served. Boxes serve [`LoadedModel`]; tests of the queue serve slower and worse ones.
/// Everything but the accessors blocks.
pub trait Model: Send + Sync + fmt::Debug {
    /// What the release says of itself.
    fn manifest(&self) -> &Arc<Manifest>;
    /// Which release it is.
    fn release(&self) -> &ReleaseRef;
    /// Pre-processing.
    ///
    /// # Errors
    /// What the caller did wrong.
    fn prepare(&self, input: &PredictInput<'_>) -> Result<Prepared, InputError>;
    /// Inference; inputs and outputs in the manifest's order.
    ///
    /// # Errors
    /// What the model, or the caller, did wrong.
    fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError>;
    /// Post-processing, one answer per row; boxes are led back to the picture of `frame`, where there is one.
    ///
    /// # Errors
    /// What the model did wrong.
    fn answer(&self, outputs: &[Tensor], frame: Option<&Frame>) -> Result<Vec<Answer>, InferError>;
    /// Growth of this process's resident memory since before the model was loaded, bytes; `None` where nobody knows.
    fn resident_growth_bytes(&self) -> Option<u64> {
        None
    }
    /// For how many different input sizes it is ready without preparing anew.
    fn plan_room(&self) -> usize {
        1
    }
    /// Batches of more than `most` rows are not asked for any more.
    fn keep_batches(&self, _most: usize) {}
}

impl Model for LoadedModel {
    fn manifest(&self) -> &Arc<Manifest> {
        Self::manifest(self)
    }

    fn release(&self) -> &ReleaseRef {
        Self::release(self)
    }

    fn prepare(&self, input: &PredictInput<'_>) -> Result<Prepared, InputError> {
        Self::prepare(self, input)
    }

    fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        Self::infer(self, inputs)
    }

    fn answer(&self, outputs: &[Tensor], frame: Option<&Frame>) -> Result<Vec<Answer>, InferError> {
        Self::answer(self, outputs, frame)
    }

    fn resident_growth_bytes(&self) -> Option<u64> {
        Self::resident_growth_bytes(self)
    }

    fn plan_room(&self) -> usize {
        Self::plan_room(self)
    }

    fn keep_batches(&self, most: usize) {
        Self::keep_batches(self, most);
    }
}
