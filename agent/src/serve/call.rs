//! One request on its inference thread: what comes before the model and after it. Whatever happens is counted once, and
//! answered.

use super::coding::Coding;
use super::error::ApiError;
use super::oip::infer::Written;
use super::pool::Desk;
use super::registry::Live;
use super::request::RequestId;
use super::shadow::{Question, Watched};
use super::truth::Prediction;
use super::{grpc, metrics::Pending, oip, predict};
use crate::monitor::collector::{Measured, Timing};
use crate::runtime::{Answer, Frame, InferError, InputError, PredictInput, Prepared};
use axum::http::StatusCode;
use bytes::Bytes;
use fieldpost_shared::bundle::{Dim, Manifest, Tensor};
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::stats::ErrorKind;
use fieldpost_shared::time::Clock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// In which form a request asks, and is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A picture, answered for people.
    Image,
    /// Text or other bytes, answered for people.
    Bytes,
    /// JSON features, answered for people.
    Features,
    /// Tensors (OIP v2 §infer), and how many bytes of the body are JSON, where not all of it is.
    Tensors { json_bytes: Option<usize> },
    /// A ModelInferRequest of gRPC.
    Message,
}

/// A request on its way through the queue.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) live: Arc<Live>,
    pub(crate) form: Form,
    pub(crate) body: Bytes,
    pub(crate) id: RequestId,
    /// When it was queued, by the monotonic clock.
    pub(crate) queued: Duration,
    /// How long after that its caller waits.
    pub(crate) patience: Duration,
    pub(crate) reply: oneshot::Sender<Reply>,
    pub(crate) pending: Pending,
    /// How its caller would have a large answer packed.
    pub(crate) coding: Option<Coding>,
    /// The memory that its body has, given back with it.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// A body, or why there is none.
pub(crate) type Reply = Result<Written, ApiError>;

/// Why a call got no answer, and whose fault that is.
struct Failed {
    kind: ErrorKind,
    error: ApiError,
}

impl Failed {
    fn by_caller(error: ApiError) -> Self {
        Self { kind: ErrorKind::Malformed, error }
    }

    fn by_model(kind: ErrorKind, error: &InferError) -> Self {
        Self { kind, error: ApiError::of(StatusCode::INTERNAL_SERVER_ERROR, error) }
    }
}

impl From<ApiError> for Failed {
    /// What a parser of requests refuses is its sender's fault.
    fn from(error: ApiError) -> Self {
        Self::by_caller(error)
    }
}

impl From<InputError> for Failed {
    fn from(error: InputError) -> Self {
        Self::by_caller(ApiError::of(StatusCode::BAD_REQUEST, &error))
    }
}

impl From<InferError> for Failed {
    fn from(error: InferError) -> Self {
        match error {
            InferError::Input(input) => input.into(),
            InferError::NanOutput { .. } => Self::by_model(ErrorKind::NanOutput, &error),
            _ => Self::by_model(ErrorKind::Inference, &error),
        }
    }
}

/// What a request for tensors says of itself.
#[derive(Debug)]
struct AskedFor {
    /// Its own id.
    id: Option<String>,
    /// How long its caller gives it.
    timeout: Option<Duration>,
    /// The outputs that it names.
    wanted: Vec<oip::tensors::Wanted>,
}

impl AskedFor {
    fn of(request: oip::tensors::InferRequest) -> (Prepared, Option<Self>) {
        let oip::tensors::InferRequest { id, timeout, inputs, wanted } = request;
        (inputs.into(), Some(Self { id, timeout, wanted }))
    }
}

/// A request whose inputs are tensors now.
#[derive(Debug)]
pub(super) struct Ready {
    call: Call,
    pub(super) inputs: Vec<Tensor>,
    /// Where the model's pixels lie in the picture that was sent.
    frame: Option<Frame>,
    /// Of a request for tensors.
    asked: Option<AskedFor>,
    queue: Duration,
    input: Duration,
}

/// What the model made of a request.
struct Done {
    body: Written,
    timing: Timing,
    measured: Measured,
    answers: Vec<Answer>,
}

impl Call {
    /// Makes tensors of it; what cannot be prepared is answered, and `None`. Blocking.
    pub(super) fn begin(mut self, clock: &dyn Clock) -> Option<Ready> {
        let begun = clock.monotonic();
        let queue = begun.saturating_sub(self.queued);
        let outcome = self.waited_for(begun).and_then(|()| guarded(|| self.prepare())).and_then(|prepared| {
            // Only the body says so, which was read just now.
            if let Some(timeout) = prepared.1.as_ref().and_then(|asked| asked.timeout) {
                self.patience = self.patience.min(timeout);
                self.waited_for(clock.monotonic())?;
            }
            Ok(prepared)
        });
        match outcome {
            Ok((Prepared { tensors: inputs, frame }, asked)) => {
                let input = clock.monotonic().saturating_sub(begun);
                Some(Ready { call: self, inputs, frame, asked, queue, input })
            }
            Err(failed) => {
                let reply = Err(self.count_failed(failed));
                self.answer(reply);
                None
            }
        }
    }

    fn prepare(&self) -> Result<(Prepared, Option<AskedFor>), Failed> {
        let model = self.live.model.as_ref();
        Ok(match self.form {
            Form::Image => (model.prepare(&PredictInput::Image(&self.body))?, None),
            Form::Bytes => (model.prepare(&PredictInput::Bytes(&self.body))?, None),
            Form::Features => (model.prepare(&PredictInput::Json(&predict::json(&self.body)?))?, None),
            Form::Tensors { json_bytes } => {
                let request = oip::infer::parse(&self.body, json_bytes, model.manifest())?;
                AskedFor::of(request)
            }
            Form::Message => AskedFor::of(grpc::infer::parse(&self.body, model.manifest())?),
        })
    }

    /// An error when nobody waits for the answer.
    fn waited_for(&self, now: Duration) -> Result<(), Failed> {
        self.given_up(now).map_or(Ok(()), |kind| Err(Failed { kind, error: ApiError::deadline() }))
    }

    /// Why nobody waits for the answer, if nobody does.
    pub(super) fn given_up(&self, now: Duration) -> Option<ErrorKind> {
        if now.saturating_sub(self.queued) >= self.patience {
            Some(ErrorKind::Deadline)
        } else {
            self.reply.is_closed().then_some(ErrorKind::Closed)
        }
    }

    /// It leaves the queue without having been looked at.
    pub(super) fn end_given_up(self, now: Duration) {
        let kind = self.given_up(now).unwrap_or(ErrorKind::Closed);
        self.count(kind);
        self.answer(Err(ApiError::deadline()));
    }

    fn count_failed(&self, failed: Failed) -> ApiError {
        let count = self.count(failed.kind);
        // A model that fails every request is told of at the 1st, 2nd, 4th, 8th and so on.
        if failed.kind.is_by_model() && count.is_power_of_two() {
            let (id, release) = (self.id.as_str(), self.live.release());
            let error = &failed.error.message;
            tracing::warn!(%release, request = id, error, model_errors = count, "the model failed a request");
        }
        failed.error
    }

    fn count(&self, kind: ErrorKind) -> u64 {
        self.live.counts.failed(self.live.since(self.queued));
        self.live.failed(kind)
    }

    /// There was no room for it in the queue.
    pub(super) fn refuse(self) {
        self.count(ErrorKind::QueueFull);
        self.answer(Err(ApiError::unavailable("the queue is full")));
    }

    /// Everything is counted before the caller hears, so that whoever has the answer finds it in the counts.
    fn answer(self, reply: Reply) {
        let Self { live, pending, body, room, reply: caller, .. } = self;
        drop((live, pending, body, room));
        // A caller that is gone does not hear it.
        drop(caller.send(reply));
    }
}

impl Ready {
    pub(super) fn live(&self) -> &Arc<Live> {
        &self.call.live
    }

    /// It was given up as hanging, and counted then; its caller has long gone.
    pub(super) fn came_back_too_late(self) {
        self.call.answer(Err(ApiError::deadline()));
    }

    /// Counts and answers it with the model's `outputs`, which took `infer` and were made for `together` requests in one go.
    pub(super) fn end(
        self,
        desk: &Desk<Call>,
        outputs: Result<Vec<Tensor>, InferError>,
        infer: Duration,
        together: usize,
    ) {
        let (call, started) = (&self.call, desk.clock().monotonic());
        let done = outputs.map_err(|error| blame_input(error, &self.inputs)).and_then(|outputs| {
            guarded(|| {
                let answers = call.live.model.answer(&outputs, self.frame.as_ref())?;
                let body = self.body(&answers, &outputs)?;
                let measured = call.live.meter.measure(&self.inputs);
                let rows = rows(call.live.model.manifest(), &self.inputs);
                let output = desk.clock().monotonic().saturating_sub(started);
                let timing = Timing { queue: self.queue, input: self.input, infer, output, rows, together };
                Ok((Done { body, timing, measured, answers }, outputs))
            })
        });
        match done {
            Ok((done, outputs)) => {
                let unheard = call.given_up(desk.clock().monotonic());
                call.live.collector().answered(done.timing, &done.measured, &done.answers, unheard);
                call.live.metrics.inferred(done.timing.rows);
                match unheard {
                    None => {
                        call.live.metrics.answered(done.timing);
                        call.live.counts.answered(done.timing, call.live.now());
                    }
                    Some(kind) => {
                        call.live.metrics.failed(kind);
                        call.live.counts.failed(call.live.since(call.queued));
                    }
                }
                self.remember(&done.answers);
                let watched = self.watched(done.answers, outputs, done.timing);
                // A caller that only its `timeout` takes away still listens.
                self.call.answer(if unheard.is_none() { Ok(done.body) } else { Err(ApiError::deadline()) });
                // Only after the answer: nobody waits for a shadow.
                if let Some(watched) = watched {
                    watched.leave(desk);
                }
            }
            Err(failed) => {
                let error = call.count_failed(failed);
                self.call.answer(Err(error));
            }
        }
    }

    /// The id by which the caller knows it.
    fn id(&self) -> &str {
        let own = self.asked.as_ref().and_then(|asked| asked.id.as_deref());
        own.unwrap_or_else(|| self.call.id.as_str())
    }

    /// Keeps a prediction that the truth may be told of.
    fn remember(&self, answers: &[Answer]) {
        let Some(prediction) = Prediction::of(&self.call.live.ledger, answers) else { return };
        let bytes = prediction.bytes();
        let mut recent = self.call.live.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.remember(self.id(), prediction, bytes);
    }

    /// What another release is to see of this request, if one is.
    fn watched(&self, answers: Vec<Answer>, outputs: Vec<Tensor>, timing: Timing) -> Option<Watched> {
        let call = &self.call;
        let other = call.live.with_rival(|rival| rival?.watches(call.id.as_str()).cloned())?;
        let question = match call.form {
            Form::Image => Question::Image(call.body.clone()),
            Form::Features => Question::Features(call.body.clone()),
            Form::Bytes => Question::Bytes(call.body.clone()),
            Form::Tensors { .. } | Form::Message => Question::Tensors(self.inputs.clone()),
        };
        Some(Watched { live: Arc::clone(&call.live), other, question, answers, outputs, latency: timing.per_row() })
    }

    fn body(&self, answers: &[Answer], outputs: &[Tensor]) -> Result<Written, ApiError> {
        let model = self.call.live.model.as_ref();
        let (manifest, release, id) = (model.manifest(), model.release(), self.id());
        match &self.asked {
            Some(AskedFor { wanted, .. }) => match self.call.form {
                Form::Message => Ok(grpc::infer::write(release, manifest, id, wanted, outputs)),
                _ => oip::infer::write(release, manifest, id, wanted, outputs),
            },
            None => predict::write(release, manifest, id, answers, outputs).map(Written::json),
        }
        .map(|written| written.packed(self.call.coding))
    }
}

/// The models catch their own panics; should anything else break, it is this request's failure alone.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_panic| {
        let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the inference broke off");
        Err(Failed { kind: ErrorKind::Inference, error })
    })
}

/// Rows of a batch: the first axis, where it is symbolic; else one.
pub(super) fn rows(manifest: &Manifest, inputs: &[Tensor]) -> usize {
    let first = manifest.inputs.first().and_then(|spec| spec.shape.first());
    match (first, inputs.first().and_then(|tensor| tensor.shape.first())) {
        (Some(Dim::Symbol(_)), Some(rows)) => *rows,
        _ => 1,
    }
}

/// NaN that comes out of a model because NaN went in is the caller's.
fn blame_input(error: InferError, inputs: &[Tensor]) -> Failed {
    let holds_nan = |tensor: &Tensor| tensor.dtype.is_float() && tensor.to_f64().iter().any(|value| value.is_nan());
    if matches!(error, InferError::NanOutput { .. }) && inputs.iter().any(holds_nan) {
        Failed::by_caller(ApiError::bad_request(format!("{}, because an input does", Chain(&error))))
    } else {
        error.into()
    }
}
