//! One request through the model, on the very path that it takes on a device.

use super::error::PackError;
use super::request::{Request, Sample};
use fieldpost_agent::runtime::{Answer, LoadedModel, PredictInput};
use fieldpost_shared::bundle::{GoldenSample, Tensor};

/// What a sample became.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) sample: Sample,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
    pub(super) answers: Vec<Answer>,
}

/// Prepares, infers and answers; NaN, and scores that are no probabilities, are refused.
pub(super) fn run(model: &LoadedModel, sample: Sample) -> Result<Run, PackError> {
    let refused = |error| PackError::Input { sample: sample.name.clone(), source: Box::new(error) };
    let prepared = match &sample.request {
        Request::Image(bytes) => model.prepare(&PredictInput::Image(bytes)).map_err(refused)?,
        Request::Bytes(bytes) => model.prepare(&PredictInput::Bytes(bytes)).map_err(refused)?,
        Request::Json(value) => model.prepare(&PredictInput::Json(value)).map_err(refused)?,
        Request::Tensors(tensors) => tensors.clone().into(),
    };
    let failed = |error| PackError::Infer { sample: sample.name.clone(), source: Box::new(error) };
    let outputs = model.infer(&prepared.tensors).map_err(failed)?;
    let answers = model.answer(&outputs, prepared.frame.as_ref()).map_err(failed)?;
    if let Some(score) = answers.iter().find_map(improbable) {
        return Err(PackError::Scores { sample: sample.name, score });
    }
    Ok(Run { sample, inputs: prepared.tensors, outputs, answers })
}

/// A score that rounding cannot explain.
fn improbable(answer: &Answer) -> Option<f32> {
    let scores: Vec<f32> = match answer {
        Answer::Classification { probabilities, .. } | Answer::MultiLabel { probabilities, .. } => {
            probabilities.clone()
        }
        Answer::Detection { objects } => objects.iter().map(|found| found.score).collect(),
        Answer::Regression { .. } | Answer::Raw => return None,
    };
    scores.iter().copied().find(|score| !(-1e-3..=1.0 + 1e-3).contains(score))
}

impl Run {
    /// As a golden sample.
    pub(super) fn into_golden(self) -> GoldenSample {
        let request = self.sample.request.body();
        GoldenSample { name: self.sample.name, request, inputs: self.inputs, outputs: self.outputs }
    }
}
