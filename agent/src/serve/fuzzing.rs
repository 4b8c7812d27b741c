//! Doors for the fuzz targets (`crate::fuzzing` says what each is): what is read of a request before it is queued, and bodies.

use super::coding::{self, Coding};
use super::grpc::messages::Cutter;
use super::oip::messages::{InferTarget, OfModel, RepositoryChange, RepositoryIndexRequest};
use super::request::{self, Held, Room};
use super::truth::Said;
use super::{browser, feedback, grpc, oip};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use bytes::Bytes;
use fieldpost_shared::bundle::Manifest;
use prost::Message;
use std::time::Duration;

pub(crate) fn infer_request(body: &[u8], json_bytes: Option<usize>, manifest: &Manifest) -> bool {
    oip::infer::parse(body, json_bytes, manifest).is_ok()
}

pub(crate) fn infer_message(message: &[u8], manifest: &Manifest) -> bool {
    grpc::infer::parse(message, manifest).is_ok()
}

pub(crate) fn unpack(deflate: bool, packed: &[u8], max_bytes: usize) -> Option<Bytes> {
    let coding = if deflate { Coding::Deflate } else { Coding::Gzip };
    let body = Held { bytes: Bytes::copy_from_slice(packed), room: None };
    coding::unpack_now(coding, body, max_bytes, &Room::new(max_bytes)).ok().map(|held| held.bytes)
}

pub(crate) fn feedback(body: &[u8], manifest: &Manifest) -> bool {
    let said = [Said::Class(0), Said::Labels(vec![0].into())];
    feedback::read(body).is_ok_and(|told| said.iter().any(|said| told.label.read(said, &manifest.labels).is_ok()))
}

pub(crate) fn small_message(message: &[u8]) -> bool {
    fn reads<M: Message + Default>(message: &[u8]) -> bool {
        M::decode(message).is_ok()
    }
    let all = [reads::<OfModel>, reads::<InferTarget>, reads::<RepositoryChange>, reads::<RepositoryIndexRequest>];
    all.into_iter().filter(|reads| reads(message)).count() > 0
}

pub(crate) fn messages(bytes: &[u8], piece_bytes: usize, max_bytes: usize) -> (Vec<(bool, Bytes)>, bool) {
    let (mut cutter, mut cut) = (Cutter::new(max_bytes), Vec::new());
    for piece in bytes.chunks(piece_bytes.max(1)) {
        let mut chunk = Bytes::copy_from_slice(piece);
        while !chunk.is_empty() {
            match cutter.take(&mut chunk) {
                Ok(message) => cut.extend(message.map(|message| (message.packed, message.content))),
                Err(_refused) => return (cut, false),
            }
        }
    }
    (cut, true)
}

pub(crate) fn head(lines: &[u8]) -> bool {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(at);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
    }
    let longest = Duration::from_secs(30);
    let read = [
        request::patience(&headers, longest).is_ok_and(|patience| patience <= longest),
        grpc::service::patience(&headers, longest).is_ok_and(|patience| patience <= longest),
        request::stated_bytes(&headers).is_some(),
        Coding::of_body(&headers).is_ok(),
        Coding::accepted(&headers).is_some(),
        oip::infer::json_bytes(&headers).is_ok(),
    ];
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    browser::check(&request, &[]).is_ok() && read.into_iter().all(|read| read)
}
