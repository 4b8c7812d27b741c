//! Models that do what a test wants, and a server with them.

use super::Model;
use crate::monitor::testing;
use crate::runtime::{Answer, Frame, InferError, InputError, PredictInput, Prepared, Ranked};
use fieldpost_shared::bundle::manifest::Preprocess;
use fieldpost_shared::bundle::{Manifest, Tensor};
use fieldpost_shared::id::ReleaseRef;
use serde_json::json;
use std::fmt;
use std::sync::Arc;

type Infer = Box<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, InferError> + Send + Sync>;

/// A model of digits that says "7", or what a test wants, after whatever its `infer` does.
pub(crate) struct FakeModel {
    manifest: Arc<Manifest>,
    release: ReleaseRef,
    infer: Infer,
    answers: Vec<Answer>,
}

impl fmt::Debug for FakeModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FakeModel({})", self.release)
    }
}

impl FakeModel {
    pub(crate) fn new(version: &str) -> Arc<Self> {
        Self::with(version, |_inputs| Ok(vec![Tensor::from_f32(vec![1, 10], &[0.0; 10]).unwrap()]))
    }

    pub(crate) fn with(
        version: &str,
        infer: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, InferError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let label = Some("7".to_owned());
        let top = vec![Ranked { class: 7, label: label.clone(), score: 0.75 }];
        Arc::new(Self {
            manifest: Arc::new(testing::manifest()),
            release: testing::release(version),
            infer: Box::new(infer),
            answers: vec![Answer::Classification { class: 7, label, score: 0.75, top, probabilities: vec![0.1; 10] }],
        })
    }

    /// As another model.
    pub(crate) fn named(mut self: Arc<Self>, name: &str) -> Arc<Self> {
        Arc::get_mut(&mut self).unwrap().release.model = name.parse().unwrap();
        self
    }

    /// One that takes so many bytes of any body.
    pub(crate) fn taking_bytes(mut self: Arc<Self>, head: u32) -> Arc<Self> {
        let takes = json!({ "tensor": "image", "head": head, "pad": 0 });
        let manifest = Arc::make_mut(&mut Arc::get_mut(&mut self).unwrap().manifest);
        manifest.preprocess = Preprocess::Bytes(serde_json::from_value(takes).unwrap());
        self
    }

    /// One that answers so, row by row.
    pub(crate) fn answering(mut self: Arc<Self>, answers: Vec<Answer>) -> Arc<Self> {
        Arc::get_mut(&mut self).unwrap().answers = answers;
        self
    }
}

impl Model for FakeModel {
    fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    fn release(&self) -> &ReleaseRef {
        &self.release
    }

    fn prepare(&self, input: &PredictInput<'_>) -> Result<Prepared, InputError> {
        match input {
            PredictInput::Image(b"damaged") => Err(InputError::ImageFormat),
            PredictInput::Bytes(body) => {
                let Preprocess::Bytes(takes) = &self.manifest.preprocess else { panic!("it takes no bytes") };
                let head: Vec<f32> = body.iter().take(takes.head as usize).map(|byte| f32::from(*byte)).collect();
                Ok(vec![Tensor::from_f32(vec![1, head.len()], &head).unwrap()].into())
            }
            _ => Ok(vec![Tensor::from_f32(vec![1, 1, 8, 8], &[0.5; 64]).unwrap()].into()),
        }
    }

    fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        (self.infer)(inputs)
    }

    fn answer(&self, _outputs: &[Tensor], _frame: Option<&Frame>) -> Result<Vec<Answer>, InferError> {
        Ok(self.answers.clone())
    }
}
