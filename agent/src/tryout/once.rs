//! One run over files: each becomes a request as its bundle declares it, and is answered as `POST /predict` would.

use super::open::Opened;
use super::show::{self, Row};
use crate::cli::{CommandError, Output, output};
use crate::runtime::{Answer, LoadedModel, PredictInput, Prepared};
use crate::serve::{prediction_json, request_tensors};
use anyhow::{Context as _, anyhow};
use fieldpost_shared::bundle::Tensor;
use fieldpost_shared::bundle::manifest::Preprocess;
use fieldpost_shared::time::Clock;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Largest input, as the server's default for a body.
const MAX_INPUT_BYTES: u64 = 16 << 20;

/// Answers every input it can, prints all, and fails when one was not answered. Blocking.
pub(super) fn run(
    opened: &Opened,
    inputs: &[PathBuf],
    form: Output,
    clock: &dyn Clock,
    stop: &AtomicBool,
) -> Result<(), CommandError> {
    let mut rows = Vec::with_capacity(inputs.len());
    for path in inputs.iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let outcome = answer(&opened.model, path, clock).map_err(|error| format!("{error:#}"));
        rows.push(Row { input: path.display().to_string(), outcome });
    }
    let failed = rows.iter().filter(|row| row.outcome.is_err()).count();
    output::print(form, &show::json(opened, &rows), &show::table(opened, &rows))?;
    match failed {
        0 => Ok(()),
        _ => Err(anyhow!("{failed} of {} inputs were not answered", rows.len()).into()),
    }
}

/// What one input was answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) answers: Vec<Answer>,
    pub(super) outputs: Vec<Tensor>,
    /// As the server writes it.
    pub(super) json: serde_json::Value,
    /// Pre-processing, inference and post-processing.
    pub(super) took: Duration,
}

fn answer(model: &LoadedModel, path: &Path, clock: &dyn Clock) -> anyhow::Result<Answered> {
    let body = read(path)?;
    let begin = clock.monotonic();
    let prepared = prepared(model, &body)?;
    let outputs = model.infer(&prepared.tensors)?;
    let answers = model.answer(&outputs, prepared.frame.as_ref())?;
    let took = clock.monotonic().saturating_sub(begin);
    let written = prediction_json(model.release(), model.manifest(), &path.to_string_lossy(), &answers, &outputs)?;
    let mut json: serde_json::Value = serde_json::from_slice(&written).context("cannot write the answer")?;
    if let Some(fields) = json.as_object_mut() {
        // These stand once at the top.
        for said in ["model", "version", "request_id"] {
            fields.remove(said);
        }
    }
    Ok(Answered { answers, outputs, json, took })
}

/// The model's inputs from a request's body.
fn prepared(model: &LoadedModel, body: &[u8]) -> anyhow::Result<Prepared> {
    let json = || serde_json::from_slice(body).context("the bundle takes JSON features, and this is no JSON");
    Ok(match &model.manifest().preprocess {
        Preprocess::Tensor => request_tensors(body, model.manifest())
            .context("the bundle declares no [preprocess]: an input is an inference request in JSON (OIP v2)")?
            .into(),
        Preprocess::Bytes(_) => model.prepare(&PredictInput::Bytes(body))?,
        Preprocess::Image(_) => model.prepare(&PredictInput::Image(body))?,
        Preprocess::Tabular(_) => model.prepare(&PredictInput::Json(&json()?))?,
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let limit = MAX_INPUT_BYTES.saturating_add(1);
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut body).context("cannot read standard input")?;
    } else {
        let file = std::fs::File::open(path).context("cannot open it")?;
        file.take(limit).read_to_end(&mut body).context("cannot read it")?;
    }
    if u64::try_from(body.len()).is_ok_and(|bytes| bytes <= MAX_INPUT_BYTES) {
        Ok(body)
    } else {
        Err(anyhow!("it has more than {} MiB, the limit of a request", MAX_INPUT_BYTES >> 20))
    }
}
