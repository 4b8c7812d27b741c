//! The calls of `inference.GRPCInferenceService`, by name.

use super::super::access::Told;
use super::super::call::Form;
use super::super::error::ApiError;
use super::super::metrics::TurnedAway;
use super::super::oip::messages::{
    FailedRequest, InferTarget, ModelConfigResponse, ModelStatisticsResponse, OfModel, RepositoryChange,
    RepositoryIndexRequest, RepositoryIndexResponse, STREAM_INFER_RESPONSE, StreamError, Yes,
};
use super::super::oip::{config, metadata, repository};
use super::super::registry::Live;
use super::super::request::{Held, RequestId};
use super::super::route::{Around, Own, route};
use super::super::router::{App, Whole, ask, find};
use super::super::seats::Seat;
use super::messages::Messages;
use super::own;
use super::plain::Plain;
use super::wire::put_bytes;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use futures_util::stream::{self, Stream, StreamExt as _};
use hyper::body::Incoming;
use prost::Message;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tonic::codec::{EncodeBody, SingleMessageCompressionOverride};
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::{Code, Status};

const SERVICE: &str = "/inference.GRPCInferenceService/";
/// The one call that is a stream.
const STREAM: &str = "ModelStreamInfer";
/// Requests of one stream that are under way at a time.
const STREAM_AT_ONCE: usize = 8;

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let code = match error.status {
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
            status if status.is_client_error() => Code::InvalidArgument,
            _ => Code::Internal,
        };
        Self::new(code, error.message)
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

/// Answers one call. Its connection keeps its place while a whole message is being answered, and not before.
pub(crate) async fn answer(app: Arc<App>, seat: Seat, request: Request<Incoming>) -> Response<tonic::body::Body> {
    let (parts, body) = request.into_parts();
    let Some(method) = parts.uri.path().strip_prefix(SERVICE) else {
        return Status::unimplemented("this service is not here; `inference.GRPCInferenceService` is").into_http();
    };
    let answers = match Messages::of(&parts.headers, body, &app.settings, &app.room) {
        Ok(messages) if method == STREAM => Ok(stream(app, seat, parts.headers, messages)),
        Ok(messages) => unary(&app, &seat, method, &parts.headers, messages).await,
        Err(status) => Err(status),
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(status) => return status.into_http(),
    };
    let encoded = EncodeBody::new_server(Plain, answers, None, SingleMessageCompressionOverride::default(), None);
    let mut response = Response::new(tonic::body::Body::new(encoded));
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

async fn unary(
    app: &App,
    seat: &Seat,
    method: &str,
    headers: &HeaderMap,
    messages: Messages<Incoming>,
) -> Result<Answers, Status> {
    let message = messages.only().await.map_err(|status| refused(app, status))?;
    let _running = seat.running();
    let answer = match method {
        "ModelInfer" => infer(app, method, headers, message).await?,
        _ => small(app, method, &message.bytes)?,
    };
    Ok(Box::pin(stream::once(ready(Ok(answer)))))
}

/// Answers what is known at once.
fn small(app: &App, method: &str, message: &[u8]) -> Result<Vec<u8>, Status> {
    Ok(match method {
        "ServerLive" => Yes { yes: true }.encode_to_vec(),
        "ServerReady" => Yes { yes: app.registry.is_ready() }.encode_to_vec(),
        "ModelReady" => model_ready(app, message)?,
        "ServerMetadata" => metadata::server().encode_to_vec(),
        "ModelMetadata" => {
            let live = named(app, message)?;
            let versions = app.registry.versions(live.release().model.as_str())?;
            metadata::model(live.model.as_ref(), versions).encode_to_vec()
        }
        "ModelConfig" => {
            let live = named(app, message)?;
            let config = Some(config::model(live.release(), live.model.manifest()));
            ModelConfigResponse { config }.encode_to_vec()
        }
        "ModelStatistics" => statistics(app, message)?,
        "RepositoryIndex" => {
            let request: RepositoryIndexRequest = read(message)?;
            RepositoryIndexResponse { models: repository::index(&app.registry, request.ready) }.encode_to_vec()
        }
        "RepositoryModelLoad" | "RepositoryModelUnload" => {
            let request: RepositoryChange = read(message)?;
            return Err(repository::refusal(&request.model_name).into());
        }
        _ => return Err(Status::unimplemented("this call is not served")),
    })
}

/// Answers in the order of the requests. What is wrong with one is told in its place, and ends nothing.
fn stream(app: Arc<App>, seat: Seat, headers: HeaderMap, messages: Messages<Incoming>) -> Answers {
    let headers = Arc::new(headers);
    let messages = stream::unfold(Some(messages), async |messages| {
        let mut messages = messages?;
        match messages.next().await {
            Ok(message) => message.map(|message| (Ok(message), Some(messages))),
            Err(status) => Some((Err(status), None)),
        }
    });
    let answers = messages.map(move |message| {
        let (app, running, headers) = (Arc::clone(&app), seat.running(), Arc::clone(&headers));
        async move {
            let _running = running;
            let message = message.map_err(|status| refused(&app, status))?;
            let bytes = message.bytes.clone();
            Ok(match infer(&app, STREAM, &headers, message).await {
                Ok(response) => {
                    let mut out = Vec::with_capacity(response.len().saturating_add(8));
                    put_bytes(&mut out, STREAM_INFER_RESPONSE, &response);
                    out
                }
                Err(status) => stream_error(&bytes, &status).encode_to_vec(),
            })
        }
    });
    Box::pin(answers.buffered(STREAM_AT_ONCE))
}

/// What is told of a request that failed: with its id, where it has one that can be read, for answers are taken apart by it.
fn stream_error(message: &[u8], status: &Status) -> StreamError {
    let id = read::<InferTarget>(message).map(|target| target.id).unwrap_or_default();
    StreamError { error_message: status.message().to_owned(), infer_response: Some(FailedRequest { id }) }
}

fn read<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::invalid_argument(format!("malformed message: {error}")))
}

/// The live release that a small message names.
fn named(app: &App, message: &[u8]) -> Result<Arc<Live>, Status> {
    let OfModel { name, version } = read(message)?;
    Ok(find(app, Some(&name), version_of(&version))?)
}

fn version_of(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

/// What is not here, or not yet, is not ready: no error, as clients expect of this call.
fn model_ready(app: &App, message: &[u8]) -> Result<Vec<u8>, Status> {
    let ready = match named(app, message) {
        Ok(_live) => true,
        Err(status) if matches!(status.code(), Code::Unavailable | Code::NotFound) => false,
        Err(status) => return Err(status),
    };
    Ok(Yes { yes: ready }.encode_to_vec())
}

fn statistics(app: &App, message: &[u8]) -> Result<Vec<u8>, Status> {
    let OfModel { name, version } = read(message)?;
    let model_stats = if name.is_empty() {
        repository::statistics(&app.registry)
    } else {
        repository::statistics_of(app, &name, version_of(&version))?
    };
    Ok(ModelStatisticsResponse { model_stats }.encode_to_vec())
}

/// Answers one inference, of a call of its own or of a stream.
async fn infer(app: &App, method: &str, headers: &HeaderMap, message: Held) -> Result<Vec<u8>, Status> {
    let target: InferTarget = read(&message.bytes).map_err(|status| refused(app, status))?;
    let id = app.ids.of(headers);
    // The request's own id is the one that its caller knows it by.
    let known_as = if target.id.is_empty() { id.as_str() } else { &target.id };
    let mut told = Told::of(app, known_as, Some(&target.model_name), version_of(&target.model_version));
    let answered = match whole(app, headers, target, message, id) {
        Ok((live, whole)) => {
            told.goes_to(&live);
            ask(app, live, whole).await.map(|written| written.bytes).map_err(Status::from)
        }
        Err(status) => Err(refused(app, status)),
    };
    let code = answered.as_ref().map_or_else(Status::code, |_answer| Code::Ok);
    told.end(app, method, format_args!("{code:?}"));
    answered
}

/// Counts what never comes to the queue.
fn refused(app: &App, status: Status) -> Status {
    app.registry.metrics().turned_away(TurnedAway::Grpc(status.code()));
    status
}

/// The request that a message is, and the release that is to answer it.
fn whole(
    app: &App,
    headers: &HeaderMap,
    target: InferTarget,
    message: Held,
    id: RequestId,
) -> Result<(Arc<Live>, Whole), Status> {
    let version = version_of(&target.model_version);
    let mut live = find(app, Some(&target.model_name), version)?;
    // Who names a version has chosen already.
    if let (None, Some(by)) = (version, live.split_by()) {
        let own = Own {
            id: Some(target.id).filter(|id| !id.is_empty()),
            parameter: by.parameter().and_then(|name| own::parameter(&message.bytes, name)),
        };
        live = route(live, &by, own, Around { id: &id, headers, uri: None });
    }
    let whole = Whole {
        form: Form::Message,
        body: message,
        id,
        patience: patience(headers, app.settings.deadline)?,
        coding: None,
    };
    Ok((live, whole))
}

/// How long the caller waits (gRPC over HTTP/2 §Requests, `grpc-timeout`), at most what the box allows.
pub(crate) fn patience(headers: &HeaderMap, longest: Duration) -> Result<Duration, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(longest) };
    let wrong = || Status::invalid_argument("`grpc-timeout` must be at most eight digits and one of H M S m u n");
    let text = value.to_str().map_err(|_not_text| wrong())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8).ok_or_else(wrong)?;
    let stated = match unit {
        "H" => Duration::from_secs(number.saturating_mul(3_600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(wrong()),
    };
    Ok(stated.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_request_of_a_stream_keeps_its_id() {
        let told = |message: &'static [u8]| stream_error(message, &Status::not_found("no model")).encode_to_vec();
        assert_eq!(told(b"\x0a\x01m\x1a\x02id"), b"\x0a\x08no model\x12\x04\x1a\x02id");
        assert_eq!(told(b"\xff"), b"\x0a\x08no model\x12\x00", "no request");
    }

    #[test]
    fn the_callers_timeout_is_read_in_each_unit() {
        let longest = Duration::from_secs(60);
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]);
            patience(&headers, longest)
        };
        assert_eq!(of("1500m").unwrap(), Duration::from_millis(1_500));
        assert_eq!(of("7u").unwrap(), Duration::from_micros(7));
        assert_eq!(of("2S").unwrap(), Duration::from_secs(2));
        assert_eq!(of("99999999H").unwrap(), longest);
        assert_eq!(patience(&HeaderMap::new(), longest).unwrap(), longest);
        for wrong in ["", "1", "m", "-1m", "999999999m", "1x"] {
            assert_eq!(of(wrong).unwrap_err().code(), Code::InvalidArgument, "{wrong}");
        }
    }
}
