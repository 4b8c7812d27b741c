//! A caller of gRPC that may also do what no client would: HTTP/2 (RFC 9113) with bodies that are sent by hand.

use super::{LONG, Running};
use axum::http::{HeaderMap, Request};
use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// One connection.
pub(super) struct Caller {
    calls: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

/// A call whose head was sent.
pub(super) struct Begun {
    response: ResponseFuture,
    pub(super) body: SendStream<Bytes>,
}

/// What became of a call: its messages, one after the other with their heads.
pub(super) type Ended = Result<Vec<u8>, Status>;

/// A message with its head (gRPC over HTTP/2 §Requests).
pub(super) fn message(packed: bool, content: &[u8]) -> Bytes {
    let mut message = vec![u8::from(packed)];
    message.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    message.extend(content);
    message.into()
}

/// A sound ModelInferRequest for the model of digits, followed by so many bytes that belong to no field that is known.
pub(super) fn infer(padding: usize) -> Vec<u8> {
    use prost::encoding::{bytes, int64, string};
    let (mut input, mut request) = (Vec::new(), Vec::new());
    string::encode(1, &"image".to_owned(), &mut input);
    string::encode(2, &"FP32".to_owned(), &mut input);
    int64::encode_packed(3, &[1, 1, 8, 8], &mut input);
    string::encode(1, &"digits".to_owned(), &mut request);
    bytes::encode(5, &input, &mut request);
    bytes::encode(7, &vec![0_u8; 256], &mut request);
    bytes::encode(1_000, &vec![0_u8; padding], &mut request);
    request
}

impl Caller {
    pub(super) async fn connect(server: &Running) -> Result<Self, h2::Error> {
        let stream = TcpStream::connect(server.grpc).await.unwrap();
        let (calls, connection) = h2::client::handshake(stream).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Ok(Self { calls, _connection: driver })
    }

    /// Sends the head of a call.
    pub(super) async fn begin(&mut self, method: &str, headers: &[(&str, &str)]) -> Result<Begun, h2::Error> {
        let uri = format!("http://box/inference.GRPCInferenceService/{method}");
        let mut request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut calls = self.calls.clone().ready().await?;
        let (response, body) = calls.send_request(request.body(()).unwrap(), false)?;
        Ok(Begun { response, body })
    }

    /// A call of one message.
    pub(super) async fn call(&mut self, method: &str, content: &[u8]) -> Ended {
        let mut begun = self.begin(method, &[]).await.map_err(broken)?;
        begun.body.send_data(message(false, content), true).map_err(broken)?;
        begun.ended().await
    }
}

impl Begun {
    /// Waits for the end of the answer.
    pub(super) async fn ended(self) -> Ended {
        let (ended, _body) = self.parts();
        ended.await
    }

    /// The end of the answer, and the call's body apart from it.
    pub(super) fn parts(self) -> (impl Future<Output = Ended> + Send + 'static, SendStream<Bytes>) {
        let answer = async {
            let (head, body) = self.response.await.map_err(broken)?.into_parts();
            read(&head.headers, body).await
        };
        let ended = async { tokio::time::timeout(LONG, answer).await.expect("a call ends") };
        (ended, self.body)
    }
}

async fn read(head: &HeaderMap, mut body: RecvStream) -> Ended {
    let mut content = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(broken)?;
        body.flow_control().release_capacity(chunk.len()).map_err(broken)?;
        content.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.map_err(broken)?;
    let status = Status::from_header_map(trailers.as_ref().unwrap_or(head)).expect("an answer has a status");
    if status.code() == Code::Ok { Ok(content.into()) } else { Err(status) }
}

#[allow(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn broken(error: h2::Error) -> Status {
    Status::aborted(error.to_string())
}
